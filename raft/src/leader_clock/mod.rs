//! The leader's clock, which stamps entries. It begins at the lower median of a majority's clocks, commits that as its first entry
//! and admits nothing before; then it counts monotonic time, slewed to the median, and never goes backwards. Nobody's own wall
//! clock, the leader's included, can move the log's time far.

mod median;
mod task;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use carrack_authority::time::Timestamp;
use tokio::{sync::watch, time::Instant};

pub(crate) use self::task::ClockTask;
use crate::type_config::LeaderId;

/// The farthest that stamps may be from a majority's clocks before the leader hands leadership over.
pub(crate) const AGREEMENT: Duration = Duration::from_secs(5);
/// How much faster or slower than monotonic time stamps go while they are slewed: one second in twenty.
const SLEW_DIVISOR: u32 = 20;

/// How well the leader's stamps and the servers' clocks agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockStatus {
    /// This server leads and its clock's first entry is committed: it admits commands.
    pub is_ready: bool,
    /// A majority of the voters' clocks was within 5 s of the stamps when they were last asked.
    pub has_majority: bool,
    /// How far the lower median was ahead of the stamps then, in milliseconds.
    pub median_ahead_ms: i64,
}

/// The clock of this server while it leads.
pub(crate) struct LeaderClock {
    ticking: Mutex<Option<Ticking>>,
    status: watch::Sender<ClockStatus>,
}

/// A running clock.
#[derive(Clone, Copy, Debug)]
struct Ticking {
    leader: LeaderId,
    /// The stamp at `since`.
    base: Timestamp,
    since: Instant,
    /// What is still to be gained (or lost), slowly.
    is_behind: bool,
    correction: Duration,
    last: Timestamp,
}

impl Ticking {
    fn begin(leader: LeaderId, base: Timestamp, since: Instant) -> Self {
        Self { leader, base, since, is_behind: false, correction: Duration::ZERO, last: base }
    }

    /// What the clock shows at `now`.
    fn reading(&self, now: Instant) -> Timestamp {
        let elapsed = now.saturating_duration_since(self.since);
        let slewed = self.correction.min(elapsed / SLEW_DIVISOR);
        let counted = self.base.plus(elapsed);
        let corrected = if self.is_behind { counted.plus(slewed) } else { counted.minus(slewed) };
        corrected.max(self.last)
    }

    /// Steers towards `median`.
    fn steer(&mut self, median: Timestamp, now: Instant) {
        let base = self.reading(now);
        let is_behind = median > base;
        let correction = if is_behind { median.since(base) } else { base.since(median) };
        *self = Self { base, since: now, is_behind, correction, ..*self };
    }
}

impl LeaderClock {
    pub(crate) fn new() -> Self {
        Self { ticking: Mutex::new(None), status: watch::Sender::new(ClockStatus::default()) }
    }

    /// A stamp for an entry that is proposed as this leader, if the clock is ready.
    pub(crate) fn stamp(&self) -> Option<(LeaderId, Timestamp)> {
        let mut ticking = self.lock();
        let ticking = ticking.as_mut()?;
        let stamp = ticking.reading(Instant::now());
        ticking.last = stamp;
        Some((ticking.leader, stamp))
    }

    /// Changes of the clock's status.
    pub(crate) fn status(&self) -> watch::Receiver<ClockStatus> {
        self.status.subscribe()
    }

    fn start(&self, ticking: Ticking) {
        *self.lock() = Some(ticking);
        self.status.send_replace(ClockStatus { is_ready: true, has_majority: true, median_ahead_ms: 0 });
    }

    fn stop(&self) {
        *self.lock() = None;
        self.status.send_replace(ClockStatus::default());
    }

    /// Steers towards the median, and tells how far it was ahead.
    fn steer(&self, median: Timestamp, has_majority: bool) {
        let mut ticking = self.lock();
        let Some(ticking) = ticking.as_mut() else { return };
        let now = Instant::now();
        let shown = ticking.reading(now);
        ticking.steer(median, now);
        let (ahead, behind) = (millis(median.since(shown)), millis(shown.since(median)));
        self.status.send_replace(ClockStatus { is_ready: true, has_majority, median_ahead_ms: ahead - behind });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Ticking>> {
        // Each change is one assignment: a panic leaves nothing half done.
        self.ticking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Timestamp = Timestamp(3_600_000);

    fn clock() -> (Instant, Ticking) {
        let start = Instant::now();
        (start, Ticking::begin(LeaderId { term: 1, node_id: 1 }, HOUR, start))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_counts_monotonic_time() {
        let (start, clock) = clock();
        assert_eq!(clock.reading(start + seconds(30)), HOUR.plus(seconds(30)));
    }

    #[test]
    fn it_runs_faster_until_it_has_caught_up() {
        let (start, mut clock) = clock();
        clock.steer(HOUR.plus(seconds(2)), start);
        assert_eq!(clock.reading(start + seconds(20)), HOUR.plus(seconds(21)));
        assert_eq!(clock.reading(start + seconds(40)), HOUR.plus(seconds(42)));
        assert_eq!(clock.reading(start + seconds(80)), HOUR.plus(seconds(82)));
    }

    #[test]
    fn it_runs_slower_and_never_backwards_when_it_is_ahead() {
        let (start, mut clock) = clock();
        clock.steer(Timestamp(0), start);
        let readings: Vec<Timestamp> = (0..100).map(|step| clock.reading(start + seconds(step))).collect();
        assert!(readings.is_sorted());
        assert_eq!(readings[20], HOUR.plus(seconds(19)));
    }

    #[test]
    fn a_stamp_is_never_below_one_that_was_given() {
        let (start, mut clock) = clock();
        clock.last = HOUR.plus(seconds(9));
        assert_eq!(clock.reading(start), HOUR.plus(seconds(9)));
    }
}
