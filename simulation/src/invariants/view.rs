//! How a running server stands, in the numbers that invariants compare.

use std::collections::BTreeSet;

use carrack_authority::State;
use carrack_raft::{MembershipId, Replica, Role};

/// One server at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// Which start of its process it is.
    pub start: u32,
    /// The server.
    pub node: u64,
    /// What it does.
    pub role: Role,
    /// The term that it knows.
    pub term: u64,
    /// The last entry of its log.
    pub last_log: Option<u64>,
    /// The last entry that it knows to be committed.
    pub committed: Option<u64>,
    /// The last entry in its state.
    pub applied: u64,
    /// The last entry in its newest snapshot.
    pub snapshot: Option<u64>,
    /// The last entry that was deleted from the front of its log.
    pub purged: Option<u64>,
    /// Which membership it knows; none in a made-up view.
    pub membership: Option<MembershipId>,
    /// Who votes; in a joint configuration all of both sets.
    pub voters: BTreeSet<u64>,
    /// The bytes of its log in memory.
    pub log_bytes_in_memory: usize,
    /// The readers that wait for a change.
    pub watchers: usize,
    /// Its state.
    pub state: State,
}

impl View {
    /// How a replica stands. Reads nothing that tells a time: the driver has none.
    pub fn of(replica: &Replica, start: u32) -> Self {
        let status = replica.status();
        let leadership = status.leadership;
        Self {
            start,
            node: leadership.node.0,
            role: leadership.role,
            term: leadership.term,
            last_log: status.last_log,
            committed: status.committed,
            applied: status.applied,
            snapshot: status.snapshot,
            purged: status.purged,
            membership: Some(leadership.membership.id),
            voters: leadership.membership.voters.iter().map(|voter| voter.0).collect(),
            log_bytes_in_memory: status.log_bytes_in_memory,
            watchers: status.watchers,
            state: replica.state().state.clone(),
        }
    }

    /// Whether the server believes that it leads.
    pub fn leads(&self) -> bool {
        self.role == Role::Leader
    }
}
