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
