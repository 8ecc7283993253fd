//! The numbers of consensus. The defaults suit servers with two busy cores: a pause of a second is no reason for an election.

use std::time::Duration;

use openraft::{Config, ConfigError, SnapshotPolicy, StepDownPolicy};

use crate::{network::LinkTimings, proposer::InFlight};

/// Times and sizes that an operator or a test may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// How often a leader that has nothing to say says so.
    pub heartbeat: Duration,
    /// The shortest silence after which a follower asks for votes.
    pub election_min: Duration,
    /// The longest.
    pub election_max: Duration,
    /// Entries between two snapshots.
    pub entries_per_snapshot: u64,
    /// Bytes of commands in memory at which a snapshot is made early.
    pub snapshot_at_bytes: usize,
    /// Entries that stay in the log behind a snapshot, for followers that are a little behind.
    pub entries_kept: u64,
    /// The longest that sending a snapshot may take.
    pub snapshot_timeout: Duration,
    /// Entries of this leader that may be in flight.
    pub entries_in_flight: usize,
    /// Messages with forwarded commands that may be in flight.
    pub forwards_in_flight: usize,
    /// The longest that a message with forwarded commands waits for its answer.
    pub forward_timeout: Duration,
    /// How often the leader asks the others for their clocks.
    pub clock_asked_every: Duration,
    /// The shortest time that a leader whose stamps are not those of a majority leads before it hands over: longer than an election.
    pub clock_handed_over_after: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(250),
            election_min: Duration::from_millis(1000),
            election_max: Duration::from_millis(2000),
            entries_per_snapshot: 5000,
            snapshot_at_bytes: 64 << 20,
            entries_kept: 1000,
            snapshot_timeout: Duration::from_secs(600),
            // Whatever arrives during a commit shares the next one: with 64 clients, more in flight costs 6 % more CPU for each leaf.
            entries_in_flight: 1,
            forwards_in_flight: 2,
            forward_timeout: Duration::from_secs(5),
            clock_asked_every: Duration::from_secs(5),
            clock_handed_over_after: Duration::from_secs(15),
        }
    }
}

impl Tuning {
    pub(crate) fn config(&self) -> Result<Config, ConfigError> {
        let config = Config {
            cluster_name: "carrack".to_owned(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election_min),
            election_timeout_max: millis(self.election_max),
            install_snapshot_timeout: millis(self.snapshot_timeout),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.entries_per_snapshot),
            max_in_snapshot_log_to_keep: self.entries_kept,
            // A follower that lacks more than this gets a snapshot; less is in the log.
            replication_lag_threshold: self.entries_per_snapshot + self.entries_kept,
            // sled's batches are of 128, so purging a few of those at a time costs one sync each.
            purge_batch_size: 256.min(self.entries_kept.max(1)),
            max_payload_entries: 64,
            enable_pre_vote: Some(true),
            // A restarted leader asks for votes again: its state is younger than its term, and its clock is not started.
            enable_leader_restore: Some(false),
            removed_leader_step_down: StepDownPolicy::After(millis(self.heartbeat)),
            ..Config::default()
        };
        config.validate()
    }

    pub(crate) fn links(&self) -> LinkTimings {
        LinkTimings { connect: self.election_min, keep_alive: self.election_max, call: self.election_max }
    }

    pub(crate) fn in_flight(&self) -> InFlight {
        InFlight {
            entries: self.entries_in_flight.max(1),
            forwards: self.forwards_in_flight.max(1),
            forward_timeout: self.forward_timeout,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
