//! What a replica tells about itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use carrack_authority::id::NodeId;
use openraft::{Instant as _, ServerState};

use crate::{
    leader_clock::ClockStatus,
    type_config::{LogId, StoredMembership, TypeConfig},
};

/// What a server does in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes entries but has no vote.
    Learner,
    /// It follows a leader, or waits for one.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It leads.
    Leader,
    /// It has stopped.
    Stopped,
}

/// Who leads, and who belongs to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// This server.
    pub node: NodeId,
    /// What it does.
    pub role: Role,
    /// The term that it knows.
    pub term: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// The members.
    pub membership: MembershipView,
    /// The leader's clock, on the leader.
    pub clock: ClockStatus,
}

impl Leadership {
    /// Whether this server leads and admits commands.
    pub fn is_ready_leader(&self) -> bool {
        self.role == Role::Leader && self.clock.is_ready
    }

    /// The other server that leads, with its address.
    pub(crate) fn leader_and_address(&self) -> Option<(u64, String)> {
        let leader = self.leader.filter(|leader| *leader != self.node)?;
        Some((leader.0, self.membership.addresses.get(&leader)?.clone()))
    }
}

/// The point in the log at which a membership was set: changes name it, so that they never follow one that nobody saw. A later one is
/// greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MembershipId(pub(crate) Option<LogId>);

impl MembershipId {
    /// The index of the entry that set it; `None` before the first.
    pub fn index(&self) -> Option<u64> {
        self.0.map(|id| id.index)
    }
}

/// The members of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipView {
    /// Which membership.
    pub id: MembershipId,
    /// Who votes; in a joint configuration all of both sets.
    pub voters: BTreeSet<NodeId>,
    /// Who does not.
    pub learners: BTreeSet<NodeId>,
    /// Where each is reached, as far as the log says.
    pub addresses: BTreeMap<NodeId, String>,
    /// A change of voters has begun and must be finished.
    pub is_joint: bool,
}

impl MembershipView {
    pub(crate) fn new(stored: &StoredMembership) -> Self {
        let membership = stored.membership();
        Self {
            id: MembershipId(*stored.log_id()),
            voters: membership.voter_ids().map(NodeId).collect(),
            learners: membership.learner_ids().map(NodeId).collect(),
            addresses: membership.nodes().map(|(id, node)| (NodeId(*id), node.addr.clone())).collect(),
            is_joint: membership.get_joint_config().len() > 1,
        }
    }
}

/// How far a follower is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replication {
    /// The last entry that it has.
    pub matched: Option<u64>,
    /// How many entries it lacks.
    pub behind: u64,
    /// How long ago the last message was sent that it answered.
    pub answered: Option<Duration>,
}

/// Everything that a replica tells about itself, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who leads.
    pub leadership: Leadership,
    /// The last entry of the log.
    pub last_log: Option<u64>,
    /// The last entry that is known to be committed.
    pub committed: Option<u64>,
    /// The last entry in the published state.
    pub applied: u64,
    /// The last entry in the newest snapshot.
    pub snapshot: Option<u64>,
    /// The last entry that was deleted from the front of the log.
    pub purged: Option<u64>,
    /// On the leader: the others.
    pub replication: BTreeMap<NodeId, Replication>,
    /// The leader, unless it has fallen silent; on the leader itself, unless a majority has.
    pub heard_leader: Option<NodeId>,
    /// The bytes of the log on disk, when last measured.
    pub log_bytes_on_disk: u64,
    /// The bytes of commands in memory.
    pub log_bytes_in_memory: usize,
    /// The readers that wait for a change.
    pub watchers: usize,
    /// Why it stopped, if it did not stop by request.
    pub failure: Option<String>,
}

pub(crate) type Metrics = openraft::RaftMetrics<TypeConfig>;

pub(crate) fn leadership_of(metrics: &Metrics, clock: ClockStatus) -> Leadership {
    let role = match metrics.state {
        ServerState::Learner => Role::Learner,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Leader => Role::Leader,
        ServerState::Shutdown => Role::Stopped,
    };
    Leadership {
        node: NodeId(metrics.id),
        role: if metrics.running_state.is_err() { Role::Stopped } else { role },
        term: metrics.current_term,
        leader: metrics.current_leader.map(NodeId),
        membership: MembershipView::new(&metrics.membership_config),
        clock,
    }
}

pub(crate) fn replication_of(metrics: &Metrics) -> BTreeMap<NodeId, Replication> {
    let last = metrics.last_log_index.map_or(0, |index| index + 1);
    let followers = metrics.replication.iter().flatten().filter(|(node, _)| **node != metrics.id);
    let replication = followers.map(|(node, matched)| {
        let matched = matched.as_ref().map(|matched| matched.index);
        let behind = last.saturating_sub(matched.map_or(0, |index| index + 1));
        let answered =
            metrics.heartbeat.as_ref().and_then(|answers| answers.get(node)?.as_ref().map(|at| at.elapsed()));
        (NodeId(*node), Replication { matched, behind, answered })
    });
    replication.collect()
}
