"use strict";
const drawing = document.getElementById("drawing");
const scaled = document.getElementById("scaled");
const scroll = document.getElementById("scroll");
const hover = document.getElementById("hover");
const texts = [...document.querySelectorAll("#texts text")];
const whole = Number(drawing.dataset.ms);
const CLOSEST = 2; // pixels for each millisecond
let scale = 1;

function widest() {
  return Math.max(scroll.clientWidth, 300) / whole;
}

function zoom(to, at) {
  const x = at === undefined ? scroll.clientWidth / 2 : at;
  const time = (scroll.scrollLeft + x) / scale;
  scale = Math.min(Math.max(to, widest()), CLOSEST);
  drawing.setAttribute("width", Math.ceil(whole * scale));
  scaled.setAttribute("transform", `scale(${scale},1)`);
  for (const text of texts) {
    text.setAttribute("x", text.dataset.at * scale + 4);
    const room = text.dataset.to ? (text.dataset.to - text.dataset.at) * scale - 6 : Infinity;
    text.style.display = text.textContent.length * 6 > room ? "none" : "";
  }
  scroll.scrollLeft = time * scale - x;
}

function eventOf(target) {
  const number = target.dataset && target.dataset.e;
  return number === undefined ? null : document.getElementById("e" + number);
}

document.getElementById("closer").onclick = () => zoom(scale * 2);
document.getElementById("wider").onclick = () => zoom(scale / 2);
document.getElementById("whole").onclick = () => zoom(0);
scroll.addEventListener("wheel", (wheel) => {
  if (!wheel.ctrlKey) return;
  wheel.preventDefault();
  zoom(scale * Math.exp(-wheel.deltaY / 300), wheel.clientX - scroll.getBoundingClientRect().left);
}, { passive: false });

drawing.addEventListener("mousemove", (mouse) => {
  const event = eventOf(mouse.target);
  hover.hidden = !event;
  if (!event) return;
  const count = mouse.target.dataset.n;
  hover.textContent = (count ? `${count} in this second, the first:\n` : "") + event.textContent.trim();
  hover.style.left = Math.min(mouse.clientX + 14, innerWidth - hover.offsetWidth - 8) + "px";
  hover.style.top = Math.min(mouse.clientY + 14, innerHeight - hover.offsetHeight - 8) + "px";
});
drawing.addEventListener("mouseleave", () => { hover.hidden = true; });
drawing.addEventListener("click", (mouse) => {
  const event = eventOf(mouse.target);
  if (!event) return;
  document.querySelectorAll(".found").forEach((found) => found.classList.remove("found"));
  event.hidden = false;
  event.classList.add("found");
  event.scrollIntoView({ block: "center" });
});

const events = [...document.querySelectorAll("#events li")];
document.getElementById("search").addEventListener("input", (input) => {
  const wanted = input.target.value.toLowerCase();
  for (const event of events) event.hidden = !event.textContent.toLowerCase().includes(wanted);
});

addEventListener("resize", () => zoom(scale));
scale = widest();
zoom(0);
