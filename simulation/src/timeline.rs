//! One seed as a page that needs nothing beside itself: what every server was and did, faults from their begin to their end, leaves,
//! handshakes and refusals over time. Shapes are drawn here; the script in the page only zooms, shows and searches.

mod drawing;
mod lanes;
mod page;

use self::{drawing::Drawing, lanes::lanes};
use crate::{scenario::Scenario, trace::Trace, world::Report};

/// The page.
pub fn render(scenario: &Scenario, report: &Report, trace: &Trace) -> String {
    let events: Vec<_> = trace.kept().collect();
    let ends_at = events.last().map_or(1, |event| event.at).max(report.simulated_micros).max(1);
    let lanes = lanes(&events, ends_at);
    page::page(scenario, report, &events, &Drawing::of(&lanes, ends_at))
}

/// Text as it stands in HTML and in its attributes: the one place where anything is escaped.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Control characters are no HTML; what a server said must not break the page.
            character if character.is_control() && character != '\n' && character != '\t' => {
                escaped.push(char::REPLACEMENT_CHARACTER);
            }
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
