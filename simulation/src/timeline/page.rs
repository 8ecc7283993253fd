//! The page around the drawing: what came of the seed, its scenario, and every event.

use std::fmt::Write as _;

use super::{drawing::Drawing, escape};
use crate::{scenario::Scenario, trace::Event, world::Report};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

pub(super) fn page(scenario: &Scenario, report: &Report, events: &[&Event], drawing: &Drawing) -> String {
    let seed = scenario.seed;
    let Drawing { svg, names, .. } = drawing;
    let (verdict, summary, scenario, list) = (verdict(report), summary(report), table(scenario), list(events));
    format!(
        r##"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>carrack simulation, seed {seed}</title>
<style>
{STYLE}</style>
</head>
<body>
<header>
<h1>Seed {seed}</h1>
{verdict}
{summary}
<details><summary>Scenario</summary>{scenario}</details>
</header>
<nav>
<button id="closer" type="button">closer</button><button id="wider" type="button">wider</button><button id="whole" type="button">whole</button>
<span class="legend"><i class="leader"></i>leader <i class="follower"></i>follower <i class="candidate"></i>candidate <i class="learner"></i>learner <i class="serving"></i>serving <i class="starting"></i>starting <i class="fault"></i>fault <i class="link"></i>cut link</span>
<span class="hint">Ctrl and wheel zoom, a click finds the event below.</span>
</nav>
<main>
<div id="names">
{names}</div>
<div id="scroll">
{svg}
</div>
</main>
<div id="hover" hidden></div>
<section>
<h2>Events</h2>
<label>Show only <input id="search" type="search" placeholder="dc1-a, leader, fault, ..."></label>
<ol id="events" start="0">
{list}</ol>
</section>
<script>
{SCRIPT}</script>
</body>
</html>
"##
    )
}

fn verdict(report: &Report) -> String {
    if report.violations.is_empty() {
        return "<p class=\"verdict held\">Everything held.</p>".into();
    }
    let items = report
        .violations
        .iter()
        .map(|violation| format!("<li><b>{}</b> {}</li>", escape(&violation.invariant), escape(&violation.text)));
    format!("<ul class=\"verdict failed\">{}</ul>", items.collect::<String>())
}

fn summary(report: &Report) -> String {
    let counts = &report.counts;
    let sum = |table: &std::collections::BTreeMap<String, u64>| table.values().sum::<u64>();
    let tiles = [
        ("simulated seconds", report.simulated_micros / 1_000_000),
        ("events", report.events),
        ("applied entries checked", counts.applied),
        ("faults", sum(&counts.faults)),
        ("operations done", sum(&counts.operations)),
        ("refused or unknown", sum(&counts.failures)),
        ("handshakes", counts.handshakes),
        ("situations", report.marks.len() as u64),
    ];
    let tiles = tiles.map(|(name, number)| format!("<div><b>{number}</b>{name}</div>"));
    format!("<div class=\"tiles\">{}</div>\n<p class=\"digest\">trace {}</p>", tiles.concat(), escape(&report.digest))
}

fn table(scenario: &Scenario) -> String {
    let value = serde_json::to_value(scenario).unwrap_or_default();
    let fields = value.as_object().into_iter().flatten().filter(|(name, _)| *name != "plan");
    let rows = fields
        .map(|(name, value)| format!("<tr><th>{}</th><td>{}</td></tr>", escape(name), escape(&value.to_string())));
    let faults = scenario.plan.iter().map(|planned| {
        let (at, lasts) = (planned.at.as_secs_f64(), planned.lasts.as_secs_f64());
        let fault = escape(&format!("{:?}", planned.fault));
        format!("<tr><th>{}</th><td>{at:.1} s</td><td>{lasts:.1} s</td><td>{fault}</td></tr>", planned.number)
    });
    format!(
        "<table>{}</table><table><tr><th>fault</th><th>after</th><th>lasts</th><th>what</th></tr>{}</table>",
        rows.collect::<String>(),
        faults.collect::<String>()
    )
}

fn list(events: &[&Event]) -> String {
    let mut list = String::new();
    for (number, event) in events.iter().enumerate() {
        let (kind, text) = (event.kind.name(), escape(&event.to_string()));
        writeln!(list, "<li id=\"e{number}\" class=\"{kind}\">{text}</li>").expect("a string takes all text");
    }
    list
}
