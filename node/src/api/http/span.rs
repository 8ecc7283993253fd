//! Spans of time as Go writes them (`72h`, `8760h0m0s`, `1.5h`): the form of Consul's parameters and bodies.

use std::time::Duration;

/// The longest text that is read; Go's own longest output has 26 characters.
const SPAN_BYTES_MAX: usize = 64;
/// Go's units in nanoseconds; a unit that begins like another comes first.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a span that is not negative, or answers `None`.
pub fn parse(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() || text.len() > SPAN_BYTES_MAX {
        return None;
    }
    let (mut rest, mut nanoseconds) = (text, 0_u64);
    while !rest.is_empty() {
        let (part, after) = parse_part(rest)?;
        nanoseconds = nanoseconds.checked_add(part)?;
        rest = after;
    }
    i64::try_from(nanoseconds).ok().map(|_| Duration::from_nanos(nanoseconds))
}

fn parse_part(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|character: char| !character.is_ascii_digit() && character != '.')?;
    let (number, rest) = text.split_at(end);
    let (unit, nanoseconds) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(*nanoseconds)?;
    let mut unit_nanoseconds = *nanoseconds;
    for digit in fraction.bytes() {
        unit_nanoseconds /= 10;
        total = total.checked_add(u64::from(digit - b'0') * unit_nanoseconds)?;
    }
    Some((total, &rest[unit.len()..]))
}

/// Writes whole seconds as Go would, without parts that are zero: `72h`, `1h30m`, `90s` as `1m30s`.
pub fn format(span: Duration) -> String {
    let seconds = span.as_secs();
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let written = parts.iter().filter(|(number, _)| *number > 0).map(|(number, unit)| format!("{number}{unit}"));
    let written: String = written.collect();
    if written.is_empty() { "0s".into() } else { written }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_go_are_read() {
        for (text, milliseconds) in [
            ("72h", 259_200_000),
            ("8760h0m0s", 31_536_000_000),
            ("1.5h", 5_400_000),
            ("150ms", 150),
            ("1m500ms", 60_500),
            (".5s", 500),
            ("2000us", 2),
            ("2000\u{b5}s", 2),
            ("3000000ns", 3),
            ("0", 0),
            ("+5s", 5000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_span_is_refused() {
        for text in
            ["", "5", "h", "-1h", "1 h", "1h ", "1d", "1..5h", ".s", "9999999h9999999h", "99999999999999999999h"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&"1h".repeat(SPAN_BYTES_MAX)), None);
    }

    #[test]
    fn spans_are_written_as_consuls_defaults_are() {
        for (text, seconds) in [("72h", 259_200), ("8760h", 31_536_000), ("1h30m", 5400), ("1m30s", 90), ("0s", 0)] {
            assert_eq!(format(Duration::from_secs(seconds)), text);
        }
    }
}
