//! The types that openraft is used with, and their stored forms. None of them leaves this crate.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use carrack_authority::outcome::Outcome;
use carrack_proto::stored::v1;
use openraft::{BasicNode, OptionalSend, alias, impls, raft::responder::Responder};
use serde::{Deserialize, Serialize};

use crate::runtime::Runtime;

/// openraft's type parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Commands;
    type R = Answer;
    type NodeId = u64;
    type Node = BasicNode;
    type Term = u64;
    type LeaderId = impls::leader_id_adv::LeaderId<u64, u64>;
    type Vote = impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Self::D, Self::NodeId, Self::Node>;
    type Entry = openraft::Entry<Self::LeaderId, Self::Payload>;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = Completion<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = impls::BoxedErrorSource;
}

/// The id of an entry.
pub(crate) type LogId = alias::LogIdOf<TypeConfig>;
/// An entry of the log.
pub(crate) type Entry = alias::EntryOf<TypeConfig>;
/// A vote.
pub(crate) type Vote = alias::VoteOf<TypeConfig>;
/// A term with its leader.
pub(crate) type LeaderId = alias::LeaderIdOf<TypeConfig>;
/// A membership with the id of its entry.
pub(crate) type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
/// Voters and learners.
pub(crate) type Membership = openraft::Membership<u64, BasicNode>;
/// What openraft knows of a snapshot.
pub(crate) type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;

/// The commands of an entry: an envelope of kind `Commands`, encoded once and copied from there to disks and peers.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Commands(pub(crate) Bytes);

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Commands({} bytes)", self.0.len())
    }
}

impl fmt::Display for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of commands", self.0.len())
    }
}

/// What apply returned for an entry: one outcome for each of its commands, in their order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The outcomes.
    pub(crate) outcomes: Vec<Outcome>,
}

/// Runs a closure with the result of a write: no task waits for an entry.
pub(crate) struct Completion<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Completion<T> {
    /// The completion that calls `then`; it is dropped uncalled if openraft stops first.
    pub(crate) fn new(then: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(then))
    }
}

impl<T: OptionalSend + 'static> Responder<TypeConfig, T> for Completion<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

/// The stored form of a log id.
pub(crate) fn log_id_to_stored(id: &LogId) -> v1::LogId {
    v1::LogId { term: id.leader_id.term, leader: id.leader_id.node_id, index: id.index }
}

/// The log id of a stored form.
pub(crate) fn log_id_from_stored(id: v1::LogId) -> LogId {
    LogId { leader_id: LeaderId { term: id.term, node_id: id.leader }, index: id.index }
}

/// The stored form of a vote.
pub(crate) fn vote_to_stored(vote: &Vote) -> v1::Vote {
    v1::Vote { term: vote.leader_id.term, candidate: vote.leader_id.node_id, is_committed: vote.committed }
}

/// The vote of a stored form.
pub(crate) fn vote_from_stored(vote: v1::Vote) -> Vote {
    Vote { leader_id: LeaderId { term: vote.term, node_id: vote.candidate }, committed: vote.is_committed }
}

/// The stored form of an entry.
pub(crate) fn entry_to_stored(entry: &Entry) -> v1::LogEntry {
    let payload = match &entry.payload {
        openraft::EntryPayload::Blank => v1::Payload::Blank,
        openraft::EntryPayload::Normal(commands) => v1::Payload::Commands(commands.0.clone()),
        openraft::EntryPayload::Membership(membership) => v1::Payload::Membership(membership_to_stored(membership)),
    };
    v1::LogEntry { id: log_id_to_stored(&entry.log_id), payload }
}

/// The entry of a stored form, or what is wrong with its membership.
pub(crate) fn entry_from_stored(entry: v1::LogEntry) -> Result<Entry, String> {
    let payload = match entry.payload {
        v1::Payload::Blank => openraft::EntryPayload::Blank,
        v1::Payload::Commands(bytes) => openraft::EntryPayload::Normal(Commands(bytes)),
        v1::Payload::Membership(membership) => openraft::EntryPayload::Membership(membership_from_stored(membership)?),
    };
    Ok(Entry { log_id: log_id_from_stored(entry.id), payload })
}

/// The stored form of a membership.
pub(crate) fn membership_to_stored(membership: &Membership) -> v1::Membership {
    v1::Membership {
        voters: membership.get_joint_config().clone(),
        members: membership.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
    }
}

/// The membership of a stored form, or what is wrong with it.
pub(crate) fn membership_from_stored(membership: v1::Membership) -> Result<Membership, String> {
    let members: BTreeMap<u64, BasicNode> =
        membership.members.into_iter().map(|(id, address)| (id, BasicNode { addr: address })).collect();
    Membership::new(membership.voters, members).map_err(|error| error.to_string())
}

/// How many bytes of commands an entry has.
pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        openraft::EntryPayload::Normal(commands) => commands.0.len(),
        openraft::EntryPayload::Blank | openraft::EntryPayload::Membership(_) => 0,
    }
}
