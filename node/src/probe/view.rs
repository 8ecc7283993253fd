//! What a prober has seen, in words for whoever looks now and then: how many handshakes a second, how many in all, what is new of failures.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::Seen;
use crate::cli::output::visible;

/// Over how long a rate is taken, at least.
const RATE_OVER: Duration = Duration::from_secs(1);
/// The most looks that a rate remembers: whoever looks more often than 32 times a second gets a rate over a shorter time.
const LOOKS_MAX: usize = 32;

/// Remembers what was told at earlier looks.
#[derive(Debug, Default)]
pub struct View {
    looks: VecDeque<(Instant, u64)>,
    /// What was there before, and is not counted.
    before: (u64, u64),
    failed_told: u64,
    failure_told: Option<String>,
    troubles_told: Vec<String>,
}

/// What is seen at one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// How many succeed a second; `None` at the first look.
    pub per_second: Option<u64>,
    /// How many have succeeded.
    pub shaken: u64,
    /// How many have failed.
    pub failed: u64,
    /// What is to be told that was not told before: a line each.
    pub news: Vec<String>,
}

impl View {
    /// A view that counts what comes after this.
    pub fn since(seen: &Seen) -> Self {
        let before = (seen.shaken, seen.failed);
        Self { before, failed_told: seen.failed, troubles_told: seen.troubles.clone(), ..Self::default() }
    }

    /// Looks at what is seen now.
    pub fn look(&mut self, seen: &Seen, now: Instant) -> Look {
        self.looks.push_back((now, seen.shaken));
        let is_old = |looks: &VecDeque<(Instant, u64)>| {
            looks.len() > LOOKS_MAX || looks.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= RATE_OVER)
        };
        while is_old(&self.looks) {
            self.looks.pop_front();
        }
        let rate = |&(at, shaken): &(Instant, u64)| {
            let (millis, more) = (now.duration_since(at).as_millis(), seen.shaken.saturating_sub(shaken));
            (u128::from(more) * 1000).checked_div(millis)
        };
        let per_second = self.looks.front().and_then(rate).map(|rate| u64::try_from(rate).unwrap_or(u64::MAX));
        let (shaken, failed) = (seen.shaken.saturating_sub(self.before.0), seen.failed.saturating_sub(self.before.1));
        Look { per_second, shaken, failed, news: self.news(seen) }
    }

    fn news(&mut self, seen: &Seen) -> Vec<String> {
        let mut news = Vec::new();
        if seen.failed > self.failed_told {
            self.failed_told = seen.failed;
            let last = seen.failures.back().cloned();
            if last != self.failure_told {
                news.extend(last.iter().map(|why| format!("a handshake failed: {}", visible(why))));
                self.failure_told = last;
            }
        }
        if seen.troubles != self.troubles_told {
            news.extend(seen.troubles.iter().map(|trouble| format!("no handshakes of {}", visible(trouble))));
            self.troubles_told.clone_from(&seen.troubles);
        }
        news
    }

    /// What is said at the end: how many, and why some have failed or were never made.
    pub fn summary(&self, seen: &Seen) -> Vec<String> {
        let (shaken, failed) = (seen.shaken.saturating_sub(self.before.0), seen.failed.saturating_sub(self.before.1));
        let mut lines = vec![format!("handshakes: {} in all, {} failed", grouped(shaken), grouped(failed))];
        if failed > 0 {
            let count = usize::try_from(failed).unwrap_or(usize::MAX).min(seen.failures.len());
            let failures: BTreeSet<&String> = seen.failures.iter().rev().take(count).collect();
            lines.extend(failures.into_iter().map(|why| format!("  failed: {}", visible(why))));
        }
        lines.extend(seen.troubles.iter().map(|trouble| format!("  no handshakes of {}", visible(trouble))));
        lines
    }
}

impl Look {
    /// Such as `handshakes: 187/s, 12,345 in all, 0 failed`.
    pub fn line(&self) -> String {
        let rate = self.per_second.map_or_else(String::new, |rate| format!("{}/s, ", grouped(rate)));
        format!("handshakes: {rate}{} in all, {} failed", grouped(self.shaken), grouped(self.failed))
    }

    /// The same for programs, with the last reasons.
    pub fn json(&self, seen: &Seen) -> Value {
        json!({
            "PerSecond": self.per_second, "Succeeded": self.shaken, "Failed": self.failed, "Failures": seen.failures,
            "Troubles": seen.troubles,
        })
    }
}

/// A number with a comma before each third digit.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for (position, digit) in digits[first..].chars().enumerate() {
        if position % 3 == 0 && !text.is_empty() {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(shaken: u64, failures: &[&str], troubles: &[&str]) -> Seen {
        Seen {
            shaken,
            failed: failures.len() as u64,
            failures: failures.iter().map(|&text| text.into()).collect(),
            troubles: troubles.iter().map(|&text| text.into()).collect(),
        }
    }

    #[test]
    fn digits_are_grouped_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (12_345, "12,345"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn the_rate_is_that_of_the_last_second() {
        let (mut view, start) = (View::default(), Instant::now());
        let mut at =
            |millis: u64, shaken: u64| view.look(&seen(shaken, &[], &[]), start + Duration::from_millis(millis)).line();
        assert_eq!(at(0, 12_000), "handshakes: 12,000 in all, 0 failed");
        assert_eq!(at(500, 12_100), "handshakes: 200/s, 12,100 in all, 0 failed");
        assert_eq!(at(1000, 12_150), "handshakes: 150/s, 12,150 in all, 0 failed");
        assert_eq!(at(2000, 12_160), "handshakes: 10/s, 12,160 in all, 0 failed");
        assert_eq!(at(3000, 12_160), "handshakes: 0/s, 12,160 in all, 0 failed");
    }

    #[test]
    fn each_reason_is_told_once_and_all_are_in_the_summary() {
        let (mut view, now) = (View::default(), Instant::now());
        let mut news = |seen: &Seen| view.look(seen, now).news;
        assert_eq!(news(&seen(1, &[], &[])), Vec::<String>::new());
        assert_eq!(news(&seen(1, &["a calls b: \u{1b}[31mred"], &[])), ["a handshake failed: a calls b: ?[31mred"]);
        let twice = ["a calls b: \u{1b}[31mred"; 2];
        assert_eq!(news(&seen(1, &twice, &[])), Vec::<String>::new());
        assert_eq!(news(&seen(1, &twice, &["b: refused"])), ["no handshakes of b: refused"]);
        assert_eq!(news(&seen(1, &twice, &["b: refused"])), Vec::<String>::new());
        assert_eq!(
            view.summary(&seen(1, &twice, &["b: refused"])),
            ["handshakes: 1 in all, 2 failed", "  failed: a calls b: ?[31mred", "  no handshakes of b: refused"]
        );
    }

    #[test]
    fn what_was_there_before_is_not_counted() {
        let before = seen(1000, &["x"], &[]);
        let mut view = View::since(&before);
        let look = view.look(&seen(1500, &["x"], &[]), Instant::now());
        assert_eq!((look.shaken, look.failed, look.news), (500, 0, Vec::new()));
        assert_eq!(view.summary(&seen(1500, &["x"], &[])), ["handshakes: 500 in all, 0 failed"]);
    }
}
