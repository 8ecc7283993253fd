//! What the log keeps of each leaf: who it is for, by what right, who signed it, until when.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    acl::AccessorId,
    id::{Digest, KeyId, NodeId, Serial},
    spiffe::{Identity, Name},
    time::Timestamp,
};

/// The longest time a proposal may stay in flight: a deadline further away is refused.
pub const DEADLINE_MAX: Duration = Duration::from_secs(60);
/// How far `not_before` lies before the moment of signing: verifiers' clocks may be behind by that.
pub const BACKDATING: Duration = Duration::from_secs(60);
/// The longest slot of a holder.
pub const SLOT_BYTES_MAX: usize = 64;
/// The most unexpired issuances of a datacenter: the bound of the state's memory.
pub const ISSUANCES_MAX: usize = 5_000_000;

/// What an auth method answered about whoever logged in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Review {
    /// The auth method.
    pub method: Name,
    /// SHA-256 of its answer.
    pub digest: Digest,
}

/// What entitled a leaf.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Grant {
    /// A token.
    Token(AccessorId),
    /// A review by an auth method.
    Review(Arc<Review>),
    /// An agent, for its own certificate.
    Agent(Name),
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(accessor) => write!(f, "token {accessor}"),
            Self::Review(review) => write!(f, "review {} {}", review.method, review.digest),
            Self::Agent(node) => write!(f, "agent {node}"),
        }
    }
}

/// Who keeps leaves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Keeper {
    /// An agent, by its node name.
    Agent(Name),
    /// Whoever logged in, or holds a token, and asked without an agent.
    Login(AccessorId),
    /// A server that plays the agent.
    Server(NodeId),
}

/// Where a leaf is kept: the receiving server sets it from the authenticated peer.
/// A newer leaf of the same holder and identity supersedes the former one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Holder {
    /// The keeper.
    pub keeper: Keeper,
    /// Which of the keeper's leaves of one identity it is.
    pub slot: Arc<str>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.keeper {
            Keeper::Agent(node) => write!(f, "agent {node}")?,
            Keeper::Login(accessor) => write!(f, "login {accessor}")?,
            Keeper::Server(node) => write!(f, "server {node}")?,
        }
        write!(f, " slot {}", self.slot)
    }
}

/// A signed leaf that asks to be recorded; nobody gets it before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuance {
    /// The leaf's serial: the idempotency key.
    pub serial: Serial,
    /// The one name in it.
    pub identity: Arc<Identity>,
    /// What entitles it.
    pub grant: Arc<Grant>,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub public_key: Digest,
    /// SHA-256 of the certificate.
    pub certificate: Digest,
    /// Its first second.
    pub not_before: Timestamp,
    /// Its last second.
    pub not_after: Timestamp,
    /// The issuer that signed it.
    pub issuer: KeyId,
    /// Who will keep it.
    pub holder: Arc<Holder>,
    /// After this the command is refused: the forwarder has given up.
    pub deadline: Timestamp,
}

/// A recorded leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuanceRecord {
    /// What was recorded.
    pub issuance: Issuance,
    /// Its place in the issuance log, from 1 upwards, without gaps.
    pub sequence: u64,
    /// The stamp of its entry.
    pub recorded_at: Timestamp,
    /// The index of its entry.
    pub index: u64,
    /// The head of the hash chain after it.
    pub hash: Digest,
    /// The sequence of the leaf that superseded it.
    pub superseded_by: Option<u64>,
}
