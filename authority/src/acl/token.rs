//! Tokens. A token's secret is known only as a digest: whoever holds the state cannot use it.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    acl::PolicyId,
    id::{Digest, Revision},
    spiffe::Name,
    time::Timestamp,
};

/// The most tokens of a datacenter.
pub const TOKENS_MAX: usize = 1_000_000;
/// The most policies, roles, service identities and node identities of one token, each; and the most datacenters of a link.
pub const TOKEN_LINKS_MAX: usize = 128;

/// The public id of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AccessorId(pub Uuid);

impl AccessorId {
    /// The anonymous token, which requests without a token have (Consul's id).
    pub const ANONYMOUS: Self = Self(Uuid::from_u128(2));

    /// Whether the id is in the range that Consul reserves.
    pub const fn is_reserved(self) -> bool {
        self.0.as_u128() < 256
    }
}

impl fmt::Display for AccessorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The digest by which a token secret is stored and looked up: SHA-256 of a domain tag and the secret's 16 bytes.
pub fn secret_digest(secret: &Uuid) -> Digest {
    tagged_digest(b"carrack token secret v1\0", secret.as_bytes())
}

/// The digest by which a join token's secret is stored and looked up.
pub fn join_secret_digest(secret: &[u8]) -> Digest {
    tagged_digest(b"carrack join token secret v1\0", secret)
}

/// The digest by which a federation token's secret is stored and looked up.
pub fn federation_secret_digest(secret: &[u8]) -> Digest {
    tagged_digest(b"carrack federation token secret v1\0", secret)
}

/// The digest by which an agent token's secret is stored and looked up.
pub fn agent_secret_digest(secret: &[u8]) -> Digest {
    tagged_digest(b"carrack agent token secret v1\0", secret)
}

fn tagged_digest(tag: &[u8], secret: &[u8]) -> Digest {
    Digest(Sha256::new().chain_update(tag).chain_update(secret).finalize().into())
}

/// A service that a token may be, in some or all datacenters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceIdentity {
    /// The service.
    pub service: Name,
    /// The datacenters where it holds; empty: all.
    pub datacenters: Vec<Name>,
}

/// A node that a token may be, in one datacenter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// The node.
    pub node: Name,
    /// The datacenter where it holds.
    pub datacenter: Name,
}

/// The id of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoleId(pub Uuid);

impl fmt::Display for RoleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its public id.
    pub accessor: AccessorId,
    /// The digest of its secret.
    pub secret: Digest,
    /// What it is for.
    pub description: String,
    /// Its policies.
    pub policies: Vec<PolicyId>,
    /// The services it may be.
    pub service_identities: Vec<ServiceIdentity>,
    /// The nodes it may be.
    pub node_identities: Vec<NodeIdentity>,
    /// Its roles. No role exists at feature level 1: a token that names one is refused.
    pub roles: Vec<RoleId>,
    /// The auth method whose login made it. None exists at feature level 1: a token that names one is refused.
    pub auth_method: Option<Name>,
    /// Whether it holds in this datacenter alone.
    pub is_local: bool,
    /// When it ends, if it does.
    pub expires_at: Option<Timestamp>,
    /// When it was made: set by apply.
    pub created_at: Timestamp,
    /// The entry that made it.
    pub created: Revision,
    /// The entry that changed it last.
    pub modified: Revision,
}
