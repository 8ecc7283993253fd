//! How a running server stands, in the numbers that invariants compare.

use std::{collections::BTreeSet, sync::Arc};

use carrack_authority::State;
use carrack_raft::{MembershipId, Replica, Role};

use super::stores::{Stores, Voters};

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
    /// Whether those are of two sets.
    pub is_joint: bool,
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
            is_joint: leadership.membership.is_joint,
            log_bytes_in_memory: status.log_bytes_in_memory,
            watchers: status.watchers,
            state: replica.state().state.clone(),
        }
    }

    /// The memberships of which one is in force for what the server does now: the last two of its log as far as it is written, and
    /// the one that it follows already. Of a joint one the sets are known where another server has written it.
    pub fn memberships(&self, host: &str, stores: &Stores) -> Vec<Voters> {
        let own = stores.of(host).into_iter().flat_map(|store| store.memberships().take(2).cloned());
        let others = stores.all().filter_map(|(_, store)| store.memberships().next().cloned());
        let others = others.filter(|voters| voters.iter().flatten().copied().collect::<BTreeSet<_>>() == self.voters);
        let followed = (!self.is_joint).then(|| Arc::new(vec![self.voters.clone()]));
        own.chain(others).chain(followed).collect()
    }

    /// Whether the server believes that it leads.
    pub fn leads(&self) -> bool {
        self.role == Role::Leader
    }
}
