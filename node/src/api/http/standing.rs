//! What this server's replica tells about itself, in the terms of the answers that show it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use carrack_authority::id::NodeId;
use carrack_raft::{Replica, Role};

/// A server that answered within this time is reachable: some heartbeats, and a pause of a busy machine.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// One moment of a replica.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    /// This server.
    pub(super) node: NodeId,
    /// What it does.
    pub(super) role: Role,
    /// The term that it knows.
    pub(super) term: u64,
    /// Who leads, if it was heard lately; a leader whom no majority hears leads nobody.
    pub(super) leader: Option<NodeId>,
    /// Who votes.
    pub(super) voters: BTreeSet<NodeId>,
    /// Who receives the log without a vote.
    pub(super) learners: BTreeSet<NodeId>,
    /// Where the log says that each server is.
    pub(super) addresses: BTreeMap<NodeId, String>,
    /// Whether the leader's clock is set; known on the leader.
    pub(super) is_clock_ready: bool,
    /// The last entry of the log here.
    pub(super) last_log: u64,
    /// The last entry that is known to be committed.
    pub(super) committed: u64,
    /// The last entry that was applied.
    pub(super) applied: u64,
    /// The last entry of the newest snapshot.
    pub(super) snapshot: u64,
    /// On the leader: how many entries each other server lacks.
    pub(super) lags: BTreeMap<NodeId, u64>,
    /// On the leader: how long ago each other server answered.
    pub(super) answered: BTreeMap<NodeId, Option<Duration>>,
}

impl Standing {
    /// The replica at this moment.
    pub(super) fn of(replica: &Replica) -> Self {
        let status = replica.status();
        let leadership = status.leadership;
        Self {
            node: leadership.node,
            role: leadership.role,
            term: leadership.term,
            leader: status.heard_leader,
            voters: leadership.membership.voters,
            learners: leadership.membership.learners,
            addresses: leadership.membership.addresses,
            is_clock_ready: leadership.clock.is_ready,
            last_log: status.last_log.unwrap_or_default(),
            committed: status.committed.unwrap_or_default(),
            applied: status.applied,
            snapshot: status.snapshot.unwrap_or_default(),
            answered: status.replication.iter().map(|(node, replication)| (*node, replication.answered)).collect(),
            lags: status.replication.into_iter().map(|(node, replication)| (node, replication.behind)).collect(),
        }
    }

    /// Whether this server leads.
    pub(super) fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }

    /// This server's role.
    pub(super) fn role(&self) -> &'static str {
        match self.role {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Learner => "learner",
            Role::Stopped => "stopped",
        }
    }

    /// The role of any server, as far as this one knows.
    pub(super) fn role_of(&self, node: NodeId) -> &'static str {
        if self.leader == Some(node) {
            "leader"
        } else if self.voters.contains(&node) {
            "follower"
        } else if self.learners.contains(&node) {
            "learner"
        } else {
            "unknown"
        }
    }

    /// The last entry that a server has, as far as this one knows.
    pub(super) fn last_index_of(&self, node: NodeId) -> Option<u64> {
        if node == self.node {
            return Some(self.last_log);
        }
        self.lags.get(&node).map(|lag| self.last_log.saturating_sub(*lag))
    }

    /// Whether a server answers, as far as this one knows: each knows it of itself, the leader of all.
    pub(super) fn is_reachable(&self, node: NodeId) -> Option<bool> {
        if node == self.node {
            return Some(true);
        }
        self.answered.get(&node).map(|answered| answered.is_some_and(|ago| ago <= ANSWERS_WITHIN))
    }

    /// How many entries a server lacks, as far as this one knows.
    pub(super) fn lag_of(&self, node: NodeId) -> Option<u64> {
        if self.is_leader() && node == self.node { Some(0) } else { self.lags.get(&node).copied() }
    }
}
