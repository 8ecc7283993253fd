//! Spans of time in the form that Consul's configuration has: `72h`, `1h30m`, `150ms`.

use std::time::Duration;

/// Text that is no span of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no span of time such as 72h, 1h30m or 150ms")]
pub struct BadDuration(pub String);

/// The units, longest spelling first where one begins like another.
const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// Reads whole numbers with units `h`, `m`, `s` and `ms`, one after the other, added up.
pub fn parse(text: &str) -> Result<Duration, BadDuration> {
    let bad = || BadDuration(text.into());
    let (mut rest, mut total) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit()).ok_or_else(bad)?;
        let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
        let unit = UNITS.iter().find(|(unit, _)| rest[digits..].starts_with(unit));
        let (unit, milliseconds) = unit.ok_or_else(bad)?;
        total = number.checked_mul(*milliseconds).and_then(|part| total.checked_add(part)).ok_or_else(bad)?;
        rest = &rest[digits + unit.len()..];
    }
    if text.is_empty() { Err(bad()) } else { Ok(Duration::from_millis(total)) }
}

/// Writes a span in the form that `parse` reads, parts of a millisecond dropped.
pub fn format(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, milliseconds) in UNITS.iter().rev() {
        let number = rest / milliseconds;
        rest %= milliseconds;
        if number > 0 {
            text.push_str(&format!("{number}{unit}"));
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written_as_consul_does() {
        for (text, milliseconds) in [("72h", 259_200_000), ("1h30m", 5_400_000), ("150ms", 150), ("1m500ms", 60_500)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)));
            assert_eq!(format(Duration::from_millis(milliseconds)), text);
        }
        assert_eq!((parse("0s"), format(Duration::ZERO)), (Ok(Duration::ZERO), "0s".into()));
    }

    #[test]
    fn what_is_no_span_is_refused() {
        for text in ["", "5", "h", "1.5h", "-1h", "1 h", "1h ", "1d", "99999999999999999999h", "18446744073709551615h"]
        {
            assert_eq!(parse(text), Err(BadDuration(text.into())), "{text}");
        }
    }
}
