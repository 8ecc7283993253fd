//! From the recorded servers to the Raft membership: learners are added, promoted when they have caught up and can unseal every
//! key, and those that leave are taken out, one change at a time.

use std::collections::{BTreeMap, BTreeSet};

use super::seal::can_unseal_everything;
use crate::{
    State,
    id::{FeatureLevel, NodeId, Revision},
};

/// How far behind the leader's log a learner may be when it becomes a voter: it would otherwise slow the first commits.
pub const PROMOTION_LAG_MAX: u64 = 256;

/// The Raft membership, as the leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftMembership {
    /// The leader that decides.
    pub leader: NodeId,
    /// Whether two configurations are in force.
    pub is_joint: bool,
    /// The servers that vote.
    pub voters: BTreeSet<NodeId>,
    /// The servers that only receive.
    pub learners: BTreeSet<NodeId>,
    /// Where Raft reaches each server.
    pub addresses: BTreeMap<NodeId, String>,
    /// How many entries each follower lacks, as far as it is known.
    pub lag: BTreeMap<NodeId, u64>,
}

/// Voters that answer, and how many must for anything to be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// How many answer.
    pub answer: usize,
    /// How many must.
    pub needed: usize,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberAction {
    /// A joint configuration was left behind by a leader that fell: finish it.
    FinishJoint,
    /// Let a server receive the log.
    AddLearner {
        /// The server.
        node: NodeId,
        /// Where it is reached.
        address: String,
    },
    /// Let a server vote.
    Promote {
        /// The server.
        node: NodeId,
    },
    /// A server says that it is elsewhere now.
    SetAddress {
        /// The server.
        node: NodeId,
        /// Where it is reached.
        address: String,
    },
    /// The leader itself leaves: somebody else leads first.
    TransferLeadership {
        /// Who.
        to: NodeId,
    },
    /// Take a server out of the membership.
    RemoveFromRaft {
        /// The server.
        node: NodeId,
    },
    /// A server is to leave, and those that would stay are no quorum now: nothing is done.
    Hold {
        /// The server.
        node: NodeId,
        /// Who would stay.
        quorum: Quorum,
    },
    /// Forget a server that is in no membership any more.
    RemoveServer {
        /// The server.
        node: NodeId,
        /// Its record, as it was observed.
        expected: Revision,
    },
    /// Every server understands more than is in use.
    RaiseFeatureLevel {
        /// The level before.
        expected: FeatureLevel,
        /// The level after.
        level: FeatureLevel,
    },
}

/// The next step, or `None` when nothing is to be done.
pub fn plan(state: &State, raft: &RaftMembership) -> Option<MemberAction> {
    if raft.is_joint {
        return Some(MemberAction::FinishJoint);
    }
    leave(state, raft).or_else(|| join(state, raft)).or_else(|| raise(state)).or_else(|| hold(state, raft))
}

/// Of those that would vote without a server: how many answer now, and how many must.
fn quorum_without(raft: &RaftMembership, node: NodeId) -> Quorum {
    let stay = raft.voters.iter().filter(|voter| **voter != node);
    let answer = stay.clone().filter(|voter| **voter == raft.leader || raft.lag.contains_key(voter)).count();
    Quorum { answer, needed: stay.count() / 2 + 1 }
}

/// The first server that cannot leave now.
fn hold(state: &State, raft: &RaftMembership) -> Option<MemberAction> {
    let mut leaving = state.members().filter(|member| member.is_leaving && raft.voters.contains(&member.node));
    leaving.next().map(|member| MemberAction::Hold { node: member.node, quorum: quorum_without(raft, member.node) })
}

fn leave(state: &State, raft: &RaftMembership) -> Option<MemberAction> {
    let is_in_raft = |node: NodeId| raft.voters.contains(&node) || raft.learners.contains(&node);
    for member in state.members().filter(|member| member.is_leaving) {
        let node = member.node;
        if !is_in_raft(node) {
            return Some(MemberAction::RemoveServer { node, expected: member.modified });
        }
        let quorum = quorum_without(raft, node);
        if raft.voters.contains(&node) && quorum.answer < quorum.needed {
            // The change would never be committed, and nothing after it either.
            continue;
        }
        if node != raft.leader {
            return Some(MemberAction::RemoveFromRaft { node });
        }
        let stays = |node: &&NodeId| state.member(**node).is_some_and(|member| !member.is_leaving);
        let nearest =
            raft.voters.iter().filter(stays).min_by_key(|node| raft.lag.get(node).copied().unwrap_or(u64::MAX));
        if let Some(to) = nearest {
            return Some(MemberAction::TransferLeadership { to: *to });
        }
    }
    None
}

fn join(state: &State, raft: &RaftMembership) -> Option<MemberAction> {
    for member in state.members().filter(|member| !member.is_leaving && member.certificate.is_some()) {
        let (node, address) = (member.node, member.addresses.raft.clone());
        let is_voter = raft.voters.contains(&node);
        if !is_voter && !raft.learners.contains(&node) {
            return Some(MemberAction::AddLearner { node, address });
        }
        if raft.addresses.get(&node) != Some(&address) {
            return Some(MemberAction::SetAddress { node, address });
        }
        let has_caught_up = raft.lag.get(&node).is_some_and(|lag| *lag <= PROMOTION_LAG_MAX);
        if !is_voter && has_caught_up && can_unseal_everything(state, node) {
            return Some(MemberAction::Promote { node });
        }
    }
    None
}

fn raise(state: &State) -> Option<MemberAction> {
    let expected = state.cluster()?.feature_level;
    let common = state.members().map(|member| member.supports).min()?;
    let level = common.min(FeatureLevel::SUPPORTED);
    (level > expected).then_some(MemberAction::RaiseFeatureLevel { expected, level })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quorum_without_a_server_counts_the_leader_and_who_answers() {
        let nodes = |ids: &[u64]| ids.iter().map(|id| NodeId(*id)).collect::<BTreeSet<_>>();
        let quorum = |voters: &[u64], answering: &[u64], leaves: u64| {
            let lag = answering.iter().map(|id| (NodeId(*id), 0)).collect();
            let raft = RaftMembership { leader: NodeId(1), voters: nodes(voters), lag, ..RaftMembership::default() };
            let Quorum { answer, needed } = quorum_without(&raft, NodeId(leaves));
            (answer, needed)
        };
        assert_eq!(quorum(&[1, 2, 3, 4, 5], &[3, 4], 3), (2, 3), "a sound server, while two are away");
        assert_eq!(quorum(&[1, 2, 3, 4, 5], &[3, 4], 2), (3, 3), "one of those that are away");
        assert_eq!(quorum(&[1, 2, 3], &[2], 3), (2, 2));
        assert_eq!(quorum(&[1, 2], &[2], 1), (1, 1), "the leader itself");
        assert_eq!(quorum(&[1, 2], &[], 2), (1, 1));
    }
}
