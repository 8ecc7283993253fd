//! The types of schema 1. What they say is on disks: before the first change, freeze a copy of the changed type (and of the
//! domain types inside it) here, and convert from it. The domain's types (`carrack_authority`) are schema 1's until then.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use carrack_authority::id::StoreId;
use serde::{Deserialize, Serialize};

/// Who led when an entry was appended, and where it stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogId {
    /// The leader's term.
    pub term: u64,
    /// The leader.
    pub leader: u64,
    /// The place in the log.
    pub index: u64,
}

/// A server's vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// The term that was voted in.
    pub term: u64,
    /// The candidate.
    pub candidate: u64,
    /// Whether a quorum granted it, so that the candidate leads.
    pub is_committed: bool,
}

/// The members of the cluster: one set of voters, or two in a joint configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The sets of voters.
    pub voters: Vec<BTreeSet<u64>>,
    /// Every member, learners too, with its address.
    pub members: BTreeMap<u64, String>,
}

/// What an entry does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// Nothing: a new leader's first entry.
    Blank,
    /// An envelope of kind `Commands`.
    Commands(Bytes),
    /// Other members from here on.
    Membership(Membership),
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Its id.
    pub id: LogId,
    /// What it does.
    pub payload: Payload,
}

/// The high-water file: what a store must at least hold to be the one that voted and acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HighWater {
    /// The store that the file belongs to.
    pub store: StoreId,
    /// The last vote.
    pub vote: Option<Vote>,
    /// The last index that was durable when the file was written.
    pub last_index: Option<u64>,
}

/// Which store this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreIdentity {
    /// Drawn when the store was made.
    pub store: StoreId,
    /// The server that it belongs to.
    pub node: u64,
}

/// The first envelope of a snapshot file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotHead {
    /// The last entry that the snapshot includes.
    pub last: Option<LogId>,
    /// The entry that set the membership.
    pub membership_at: Option<LogId>,
    /// The members at that point.
    pub membership: Membership,
}

/// The last envelope of a snapshot file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotEnd {
    /// How many records the file has.
    pub records: u64,
    /// CRC-32C of all bytes before this envelope.
    pub checksum: u32,
}
