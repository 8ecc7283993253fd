//! One seed as a page: leaders, faults, leaves and handshakes over time.

use crate::{scenario::Scenario, trace::Trace, world::Report};

/// The page.
pub fn render(_scenario: &Scenario, _report: &Report, trace: &Trace) -> String {
    trace.kept().map(|event| format!("{event}\n")).collect()
}
