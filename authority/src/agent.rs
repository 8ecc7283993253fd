//! Agents: what runs beside the workloads of one host. One comes with a one-time token, and is known by the key that it showed then.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    id::{Digest, NodeId, Revision},
    spiffe::Name,
    time::Timestamp,
};

/// The most agents of a datacenter: ten times what one server holds streams for.
pub const AGENTS_MAX: usize = 100_000;
/// The most agent tokens that are neither used nor expired: an operator provisions a rack of hosts at a time.
pub const AGENT_TOKENS_MAX: usize = 1_024;
/// How long an agent token may be good for: it is a secret that lies around.
pub const AGENT_TOKEN_TTL_MAX: Duration = Duration::from_secs(7 * 86_400);

/// The most names in one report of agents that lag: an operator looks at a few, and the report is an entry of the log.
pub const LAGGING_NAMED_MAX: usize = 16;

/// A one-time token with which an agent joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentToken {
    /// The digest of its secret.
    pub secret: Digest,
    /// The name that the agent will have.
    pub node: Name,
    /// Its last second.
    pub expires_at: Timestamp,
    /// The key of the agent that used it: a repeated join with the same key is answered as the first.
    pub consumed: Option<Digest>,
    /// The entry that recorded it.
    pub created: Revision,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// The name of its host, unique in the datacenter.
    pub node: Name,
    /// SHA-256 of the SubjectPublicKeyInfo of its key: by this it is known, whatever its certificate says.
    pub public_key: Digest,
    /// When it joined, for the last time.
    pub joined_at: Timestamp,
    /// The entry that recorded the first of this name.
    pub created: Revision,
    /// The entry that changed it last.
    pub modified: Revision,
}

/// The agents of one server that have not the newest bundle in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaggingAgents {
    /// How many they are.
    pub count: u64,
    /// The names of the first of them, in ascending order.
    pub named: Vec<Name>,
}

/// A server's word on what its agents have in use, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// The server.
    pub node: NodeId,
    /// The newest bundle of which it said that all of its agents have it.
    pub bundle: Revision,
    /// Those of its agents that had not the newest one when it said so.
    pub lagging: LaggingAgents,
    /// When it said so.
    pub told_at: Timestamp,
    /// The entry that recorded it.
    pub modified: Revision,
}
