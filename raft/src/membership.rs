//! Changes of the membership, on the leader. Each names the membership that its caller saw: if another one is in force by then,
//! nothing happens.

use std::collections::{BTreeMap, BTreeSet};

use carrack_authority::id::NodeId;
use openraft::{
    BasicNode, ChangeMembers, Precondition,
    errors::{ChangeMembershipError, ClientWriteError, RaftError},
};
use tokio::time::{Instant, timeout_at};

use crate::{
    replica::Raft,
    status::{MembershipId, MembershipView},
    type_config::TypeConfig,
};

/// Why the membership was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Another server leads.
    #[error("this server does not lead; server {leader:?} does")]
    NotLeader {
        /// Who leads, if that is known.
        leader: Option<NodeId>,
    },
    /// The membership is not the one that the caller saw.
    #[error("the membership has changed meanwhile")]
    Changed,
    /// Another change is under way, or half done.
    #[error("another change of the membership is under way; finish it first")]
    InProgress,
    /// The change makes no sense for this membership.
    #[error("the membership cannot be changed so: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// It may still happen.
    #[error("the change of the membership is not committed yet, and may still be")]
    OutcomeUnknown,
    /// This server stops.
    #[error("this server is stopping")]
    Stopped,
}

type Change = ChangeMembers<u64, BasicNode>;

pub(crate) fn add_learner(
    view: &MembershipView,
    node: NodeId,
    address: String,
) -> Result<Option<Change>, MembershipError> {
    if let Some(known) = view.addresses.get(&node) {
        let reason = format!("server {node} is a member already, at {known}");
        return if *known == address { Ok(None) } else { Err(MembershipError::Refused { reason }) };
    }
    uniform(view)?;
    Ok(Some(ChangeMembers::AddNodes(BTreeMap::from([(node.0, BasicNode { addr: address })]))))
}

pub(crate) fn promote(view: &MembershipView, node: NodeId) -> Result<Option<Change>, MembershipError> {
    uniform(view)?;
    if view.voters.contains(&node) {
        return Ok(None);
    }
    if !view.learners.contains(&node) {
        return Err(MembershipError::Refused { reason: format!("server {node} is not a member") });
    }
    Ok(Some(ChangeMembers::AddVoterIds(BTreeSet::from([node.0]))))
}

pub(crate) fn remove(view: &MembershipView, node: NodeId) -> Result<Option<Change>, MembershipError> {
    uniform(view)?;
    let node_set = BTreeSet::from([node.0]);
    if view.learners.contains(&node) {
        return Ok(Some(ChangeMembers::RemoveNodes(node_set)));
    }
    if !view.voters.contains(&node) {
        return Ok(None);
    }
    if view.voters.len() == 1 {
        return Err(MembershipError::Refused { reason: format!("server {node} is the only voter") });
    }
    Ok(Some(ChangeMembers::RemoveVoters(node_set)))
}

pub(crate) fn finish_joint(view: &MembershipView) -> Option<Change> {
    view.is_joint.then(|| ChangeMembers::AddVoterIds(BTreeSet::new()))
}

pub(crate) fn set_address(
    view: &MembershipView,
    node: NodeId,
    address: String,
) -> Result<Option<Change>, MembershipError> {
    uniform(view)?;
    match view.addresses.get(&node) {
        Some(known) if *known == address => Ok(None),
        Some(_) => Ok(Some(ChangeMembers::SetNodes(BTreeMap::from([(node.0, BasicNode { addr: address })])))),
        None => Err(MembershipError::Refused { reason: format!("server {node} is not a member") }),
    }
}

fn uniform(view: &MembershipView) -> Result<(), MembershipError> {
    if view.is_joint { Err(MembershipError::InProgress) } else { Ok(()) }
}

/// Commits a change if the membership is still `expected`.
pub(crate) async fn change(
    raft: &Raft,
    change: Change,
    expected: MembershipId,
    deadline: Instant,
) -> Result<(), MembershipError> {
    let precondition = Precondition::LastMembershipLogId { last_membership_log_id: expected.0 };
    // Who leaves the voters leaves the cluster: a server that was removed must not stay as a learner.
    let changed = raft.change_membership_if(change, false, [precondition]);
    let changed = timeout_at(deadline, changed).await.map_err(|_| MembershipError::OutcomeUnknown)?;
    changed.map(drop).map_err(explain)
}

fn explain(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> MembershipError {
    match error {
        RaftError::Fatal(_) => MembershipError::Stopped,
        RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => {
            MembershipError::NotLeader { leader: to.leader_id.map(NodeId) }
        }
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => MembershipError::OutcomeUnknown,
        RaftError::APIError(ClientWriteError::PreconditionFailed(_)) => MembershipError::Changed,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_))) => {
            MembershipError::InProgress
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
            MembershipError::Refused { reason: error.to_string() }
        }
    }
}
