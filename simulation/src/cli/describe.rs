//! A run in words.

use super::one::One;
use crate::world::Report;

/// A run in which everything held.
pub(super) fn success(report: &Report) -> String {
    format!(
        "seed {}: everything held in {:.1} simulated seconds; {} events, trace {}",
        report.seed,
        seconds(report),
        report.events,
        report.digest
    )
}

/// A run in which something does not hold: all that is needed to see it again.
pub(super) fn failure(one: &One, report: &Report) -> String {
    let mut lines = vec![format!(
        "seed {} FAILED after {:.1} simulated seconds (commit {})",
        report.seed,
        seconds(report),
        commit()
    )];
    lines.extend(report.violations.iter().map(|violation| format!("  {}: {}", violation.invariant, violation.text)));
    let scenario = serde_json::to_string(&one.scenario()).unwrap_or_else(|error| error.to_string());
    lines.push(format!("  configuration: {scenario}"));
    lines.push(format!("  the last {} events:", report.last_events.len()));
    lines.extend(report.last_events.iter().map(|event| format!("    {event}")));
    lines.push(format!(
        "  see it again:  cargo run --release -p carrack-simulation -- replay {} --trace",
        one.arguments().join(" ")
    ));
    lines.push(format!(
        "  fewer faults:  cargo run --release -p carrack-simulation -- shrink {}",
        one.arguments().join(" ")
    ));
    lines.join("\n")
}

fn seconds(report: &Report) -> f64 {
    std::time::Duration::from_micros(report.simulated_micros).as_secs_f64()
}

/// The commit of the working directory, as git tells it.
pub(super) fn commit() -> String {
    let output = std::process::Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output();
    let text = output
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|| "unknown".into())
}
