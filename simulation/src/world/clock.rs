//! Time in a world: the true time, and each host's wall clock, which drifts and steps.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use carrack_authority::time::Timestamp;
use carrack_raft::ports::WallClock;

/// The true time at which every world begins: 2026-01-01 00:00:00 UTC, in milliseconds.
pub const BEGIN: Timestamp = Timestamp(1_767_225_600_000);

/// The world's time. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct WorldClock {
    elapsed_micros: Arc<AtomicU64>,
    /// What every clock of the world was moved by at once, in milliseconds: a world that slept.
    skipped_millis: Arc<AtomicU64>,
}

impl WorldClock {
    /// Notes the simulated time, as the driver steps.
    pub fn set(&self, elapsed: Duration) {
        self.elapsed_micros.store(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The simulated time since the beginning: of the host that asks, or at the last step.
    pub fn micros(&self) -> u64 {
        let of_host = turmoil::sim_elapsed().map(|elapsed| u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX));
        of_host.unwrap_or_else(|| self.elapsed_micros.load(Ordering::Relaxed))
    }

    /// Moves every clock on by this much at once, as if the whole datacenter had been off.
    pub fn skip(&self, by: Duration) {
        self.skipped_millis.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// By how much every clock was moved on at once so far.
    pub fn skipped(&self) -> Duration {
        Duration::from_millis(self.skipped_millis.load(Ordering::Relaxed))
    }

    /// The true time.
    pub fn now(&self) -> Timestamp {
        Timestamp(BEGIN.0 + self.skipped_millis.load(Ordering::Relaxed) + self.micros() / 1000)
    }
}

/// A host's wall clock.
#[derive(Clone, Debug)]
pub struct HostClock {
    world: WorldClock,
    /// Milliseconds that it is ahead; negative: behind.
    ahead: Arc<AtomicI64>,
    /// Parts in a million that it runs too fast; negative: too slow.
    drift: Arc<AtomicI64>,
    /// Since when it drifts so, in simulated microseconds.
    drifts_since: Arc<AtomicU64>,
}

impl HostClock {
    /// A clock that shows the true time.
    pub fn new(world: WorldClock) -> Self {
        Self { world, ahead: Arc::default(), drift: Arc::default(), drifts_since: Arc::default() }
    }

    /// Moves the clock by this many milliseconds.
    pub fn step(&self, milliseconds: i64) {
        self.ahead.fetch_add(milliseconds, Ordering::Relaxed);
    }

    /// Lets the clock run this many parts in a million too fast from now on.
    pub fn set_drift(&self, parts_per_million: i64) {
        self.ahead.fetch_add(self.drifted(), Ordering::Relaxed);
        self.drifts_since.store(self.world.micros(), Ordering::Relaxed);
        self.drift.store(parts_per_million, Ordering::Relaxed);
    }

    /// Shows the true time again, and keeps it.
    pub fn heal(&self) {
        self.drift.store(0, Ordering::Relaxed);
        self.ahead.store(0, Ordering::Relaxed);
    }

    /// By how much every clock of its world was moved on at once so far.
    pub fn skipped(&self) -> Duration {
        self.world.skipped()
    }

    /// How many milliseconds it is ahead of the true time.
    pub fn ahead(&self) -> i64 {
        self.ahead.load(Ordering::Relaxed) + self.drifted()
    }

    fn drifted(&self) -> i64 {
        let micros = self.world.micros().saturating_sub(self.drifts_since.load(Ordering::Relaxed));
        let millis = i64::try_from(micros / 1000).unwrap_or(i64::MAX);
        millis.saturating_mul(self.drift.load(Ordering::Relaxed)) / 1_000_000
    }
}

impl WallClock for HostClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.world.now().0.saturating_add_signed(self.ahead()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_stepped_and_drifts_shows_both_and_is_healed() {
        let world = WorldClock::default();
        let clock = HostClock::new(world.clone());
        clock.step(-5000);
        clock.set_drift(1000);
        world.set(Duration::from_secs(1000));
        assert_eq!(world.now().0 - BEGIN.0, 1_000_000);
        assert_eq!(clock.now().0, world.now().0 - 5000 + 1000);
        clock.set_drift(0);
        world.set(Duration::from_secs(2000));
        assert_eq!(clock.ahead(), -4000);
        clock.heal();
        assert_eq!(clock.now(), world.now());
        world.skip(Duration::from_secs(86_400));
        assert_eq!(clock.now().0, BEGIN.0 + 2_000_000 + 86_400_000);
    }
}
