//! Points in time as the replicated state knows them: milliseconds since the Unix epoch, from a leader's stamp, never from a clock.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The Unix epoch, before any stamp.
    pub const EPOCH: Self = Self(0);

    /// The point `seconds` after the epoch.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Whole seconds since the epoch, rounded down: the resolution of X.509 dates.
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// This point without its milliseconds.
    pub const fn floor_to_second(self) -> Self {
        Self(self.0 - self.0 % 1000)
    }

    /// The time from `earlier` to this point; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This point moved later, saturating.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// This point moved earlier, saturating at the epoch.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// The calendar date and time in UTC, or `None` past the year 9999.
    pub fn to_date_time(self) -> Option<time::OffsetDateTime> {
        let nanoseconds = i128::from(self.0).checked_mul(1_000_000)?;
        time::OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()
    }

    /// The point of a calendar date; dates before the epoch become the epoch.
    pub fn from_date_time(date: time::OffsetDateTime) -> Self {
        Self(u64::try_from(date.unix_timestamp_nanos() / 1_000_000).unwrap_or(0))
    }
}

/// RFC 3339 in UTC, as Consul prints its times.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use time::format_description::well_known::Rfc3339;
        match self.to_date_time().and_then(|date| date.format(&Rfc3339).ok()) {
            Some(text) => f.write_str(&text),
            None => write!(f, "{} ms after 1970", self.0),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_a_point_saturates_at_both_ends() {
        assert_eq!(Timestamp(u64::MAX).plus(Duration::MAX), Timestamp(u64::MAX));
        assert_eq!(Timestamp(5).minus(Duration::MAX), Timestamp::EPOCH);
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
        assert_eq!(Timestamp::from_seconds(u64::MAX), Timestamp(u64::MAX));
        assert_eq!(Timestamp(9).plus(Duration::from_millis(1)).since(Timestamp(9)), Duration::from_millis(1));
    }

    #[test]
    fn dates_are_printed_in_utc_and_read_back() {
        let point = Timestamp(1_767_225_600_250);
        assert_eq!(point.to_string(), "2026-01-01T00:00:00.25Z");
        assert_eq!(point.floor_to_second().to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(point.to_date_time().map(Timestamp::from_date_time), Some(point));
        assert_eq!((point.seconds(), Timestamp::EPOCH.to_string().as_str()), (1_767_225_600, "1970-01-01T00:00:00Z"));
    }

    #[test]
    fn what_lies_outside_of_the_calendar_is_printed_all_the_same() {
        assert_eq!(Timestamp(u64::MAX).to_date_time(), None);
        assert_eq!(Timestamp(u64::MAX).to_string(), "18446744073709551615 ms after 1970");
        let before = time::OffsetDateTime::UNIX_EPOCH - Duration::from_millis(1);
        assert_eq!(Timestamp::from_date_time(before), Timestamp::EPOCH);
        let last = Timestamp(253_402_300_799_999);
        assert_eq!(last.to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(Timestamp(last.0 + 1).to_date_time(), None);
    }
}
