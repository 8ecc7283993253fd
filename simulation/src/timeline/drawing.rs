//! The lanes as SVG. Times are milliseconds in a group that is scaled to the page's width, so that a zoom is one number; text stands
//! outside of it and is moved.

use std::fmt::Write as _;

use super::{
    escape,
    lanes::{Form, Lane, Shape},
};

/// The height of a row, and the space between two.
const ROW: usize = 18;
const GAP: usize = 4;
/// The space between two lanes.
const LANE_GAP: usize = 10;
/// Above the first lane: the seconds.
const HEAD: usize = 22;
/// The width of the drawing before it is zoomed.
pub(super) const WIDTH: u64 = 1200;
/// The distance of two numbers of seconds before it is zoomed, at least.
const SECONDS_APART: u64 = 60;

/// The SVG, and what stands beside it.
#[derive(Debug, Default)]
pub(super) struct Drawing {
    /// The SVG.
    pub(super) svg: String,
    /// The names of the lanes, at their heights.
    pub(super) names: String,
}

impl Drawing {
    /// Draws the lanes of so many microseconds.
    pub(super) fn of(lanes: &[Lane], ends_at: u64) -> Self {
        let milliseconds = (ends_at / 1000).max(1);
        let (mut shapes, mut texts, mut names) = (String::new(), String::new(), String::new());
        let mut top = HEAD;
        for lane in lanes {
            let height = lane.rows * (ROW + GAP) - GAP;
            let (name, what) = (escape(&lane.name), escape(lane.what));
            line(&mut names, format_args!("<div style=\"top:{top}px\" title=\"{what}\">{name}</div>"));
            let foot = height + 4;
            let y = top - 2;
            line(
                &mut shapes,
                format_args!("<rect class=\"lane\" x=\"0\" y=\"{y}\" width=\"{milliseconds}\" height=\"{foot}\"/>"),
            );
            for shape in &lane.shapes {
                draw(&mut shapes, &mut texts, shape, top + shape.row * (ROW + GAP));
            }
            top += height + LANE_GAP;
        }
        let grid = grid(milliseconds, top);
        let scale = format!("{}.{:06}", WIDTH / milliseconds, WIDTH % milliseconds * 1_000_000 / milliseconds);
        let svg = format!(
            "<svg id=\"drawing\" width=\"{WIDTH}\" height=\"{top}\" data-ms=\"{milliseconds}\" role=\"img\" aria-label=\"timeline\">\n<g id=\"scaled\" transform=\"scale({scale},1)\">\n{}{shapes}</g>\n<g id=\"texts\">\n{}{texts}</g>\n</svg>",
            grid.0, grid.1
        );
        Self { svg, names }
    }
}

fn draw(shapes: &mut String, texts: &mut String, shape: &Shape, top: usize) {
    let Shape { form, class, event, .. } = shape;
    let label = escape(&shape.label);
    match form {
        Form::Span { from, to } => {
            let (x, width) = (from / 1000, (to / 1000).saturating_sub(from / 1000).max(1));
            rect(shapes, (class, *event), (x, width), (top, ROW));
            text(texts, (class, &label), (x, x + width), top);
        }
        Form::Strip { from, to } => {
            let (x, width) = (from / 1000, (to / 1000).saturating_sub(from / 1000).max(1));
            rect(shapes, (class, *event), (x, width), (top + ROW - 4, 4));
        }
        Form::Tick { at } => {
            let (x, foot) = (at / 1000, top + ROW);
            line(shapes, format_args!("<path class=\"tick {class}\" data-e=\"{event}\" d=\"M{x} {top}V{foot}\"/>"));
            text(texts, (class, &label), (x, u64::MAX), top);
        }
        Form::Bar { from, percent } => {
            let height = usize::try_from(*percent).unwrap_or(100).clamp(4, 100) * ROW / 100;
            let height = height.max(1);
            let (x, y) = (from / 1000, top + ROW - height);
            line(
                shapes,
                format_args!(
                    "<rect class=\"bar\" data-e=\"{event}\" data-n=\"{label}\" x=\"{x}\" y=\"{y}\" width=\"900\" height=\"{height}\"/>"
                ),
            );
        }
    }
}

fn rect(into: &mut String, (class, event): (&str, usize), (x, width): (u64, u64), (y, height): (usize, usize)) {
    line(
        into,
        format_args!(
            "<rect class=\"{class}\" data-e=\"{event}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"
        ),
    );
}

/// A label that is shown where it fits between two times.
fn text(into: &mut String, (class, label): (&str, &str), (from, to): (u64, u64), top: usize) {
    if !label.is_empty() {
        let y = top + ROW - 5;
        let to = if to == u64::MAX { String::new() } else { format!(" data-to=\"{to}\"") };
        line(into, format_args!("<text class=\"on-{class}\" data-at=\"{from}\"{to} y=\"{y}\">{label}</text>"));
    }
}

/// A line for every so many seconds.
fn grid(milliseconds: u64, height: usize) -> (String, String) {
    let apart = milliseconds * SECONDS_APART / WIDTH / 1000;
    let step = [1, 2, 5, 10, 20, 30, 60, 120, 300].into_iter().find(|step| *step >= apart).unwrap_or(600);
    let (mut lines, mut texts) = (String::new(), String::new());
    for second in (0..=milliseconds / 1000).step_by(usize::try_from(step).unwrap_or(600)) {
        let at = second * 1000;
        line(&mut lines, format_args!("<path class=\"grid\" d=\"M{at} 16V{height}\"/>"));
        line(&mut texts, format_args!("<text class=\"second\" data-at=\"{at}\" y=\"12\">{second} s</text>"));
    }
    (lines, texts)
}

fn line(into: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(into, "{text}").expect("a string takes all text");
}
