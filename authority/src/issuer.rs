//! Issuers: each server's own CA certificate, and the requests for one. No private key is ever in either.

use serde::{Deserialize, Serialize};

use crate::{
    id::{KeyId, NodeId, Revision},
    key::{Der, KeyKind},
    time::Timestamp,
};

/// The most issuers that are recorded: each server has one or two live ones, and the retired ones stay until they expire.
pub const ISSUERS_MAX: usize = 1024;

/// The most unexpired issuers of one server: it renews its own twice in their life, and once for each rotation. A server that
/// asks again and again uses up its own share, never the others'.
pub const ISSUERS_PER_SERVER_MAX: usize = 64;

/// Whether an issuer may still sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum IssuerPhase {
    /// Its leaves are recorded.
    Live,
    /// Replaced by a newer one of its server, or its server was removed: it signs nothing more.
    Retired,
}

/// A server's CA certificate, path length 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    /// Its subject key identifier.
    pub id: KeyId,
    /// The server whose key it is.
    pub node: NodeId,
    /// The root that signed it.
    pub root: KeyId,
    /// The certificate.
    pub certificate: Der,
    /// The kind of its key.
    pub key_kind: KeyKind,
    /// Its first second.
    pub not_before: Timestamp,
    /// Its last second.
    pub not_after: Timestamp,
    /// Whether it may sign.
    pub phase: IssuerPhase,
    /// The entry that recorded it.
    pub created: Revision,
    /// The entry that changed it last.
    pub modified: Revision,
}

/// A server's request for an issuer under one root, until it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerRequest {
    /// The server that made the key.
    pub node: NodeId,
    /// The root that shall sign.
    pub root: KeyId,
    /// The PKCS#10 request.
    pub csr: Der,
    /// The subject key identifier of its key.
    pub key: KeyId,
    /// The kind of its key.
    pub key_kind: KeyKind,
    /// The entry that holds it.
    pub revision: Revision,
}

/// What the leader signed for a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedIssuer {
    /// The server that asked.
    pub node: NodeId,
    /// The request that is answered: another one since bounces the command.
    pub expected: Revision,
    /// The certificate.
    pub certificate: Der,
    /// Its first second.
    pub not_before: Timestamp,
    /// Its last second.
    pub not_after: Timestamp,
}
