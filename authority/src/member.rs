//! The servers of one datacenter as the state records them: who they are, where they are, which keys are theirs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    id::{Digest, FeatureLevel, KeyId, NodeId, Revision, StoreId},
    key::Der,
    spiffe::Name,
    time::Timestamp,
};

/// The most servers that one datacenter records: five voters, and as many again while they are replaced.
pub const MEMBERS_MAX: usize = 11;
/// The most join tokens that are neither used nor expired: an operator makes one for each server.
pub const JOIN_TOKENS_MAX: usize = 32;
/// How long a join token may be good for.
pub const JOIN_TOKEN_TTL_MAX: Duration = Duration::from_secs(30 * 86_400);
/// The most removed servers that are remembered by name and store. Older ones are forgotten; their ids are never given again.
pub const REMOVED_MEMBERS_MAX: usize = 1_000;
/// The highest id that the first server may have: the counter of ids never comes to its end.
pub const FIRST_NODE_MAX: u64 = 1 << 32;
/// The longest address: a DNS name (253 bytes), a colon and a port.
pub const ADDRESS_BYTES_MAX: usize = 259;
/// The longest sealing recipient: an age X25519 recipient has 62 characters, a plugin's may have more.
pub const RECIPIENT_BYTES_MAX: usize = 256;

/// Where a server is reached, as `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Raft and cluster traffic.
    pub raft: String,
    /// gRPC for agents and joiners.
    pub grpc: String,
    /// WAN traffic with servers of other datacenters, where this server serves it.
    pub wan: Option<String>,
}

/// A request for a server certificate that the leader has not answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerCertificateRequest {
    /// The PKCS#10 request.
    pub csr: Der,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub public_key: Digest,
    /// When it entered the log.
    pub revision: Revision,
}

/// A server certificate, with the facts that decisions need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerCertificate {
    /// The certificate.
    pub certificate: Der,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub public_key: Digest,
    /// The root of the server CA that signed it.
    pub root: KeyId,
    /// Its first second.
    pub not_before: Timestamp,
    /// Its last second.
    pub not_after: Timestamp,
}

/// A server of this datacenter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id, never used again.
    pub node: NodeId,
    /// Its name, unique among the members.
    pub name: Name,
    /// The only store that may speak for this id.
    pub store: StoreId,
    /// Where it is reached.
    pub addresses: Addresses,
    /// The age recipient that root keys are sealed to.
    pub sealing_recipient: String,
    /// The highest feature level that it understands.
    pub supports: FeatureLevel,
    /// The certificate it may use on the Raft port.
    pub certificate: Option<ServerCertificate>,
    /// The key of the certificate before that, other than its own. A server that slept past that one is known by it until it has
    /// heard of the new one: without it, renewing would shut out exactly the servers that renewing is for.
    pub former_key: Option<Digest>,
    /// The certificate it waits for.
    pub request: Option<ServerCertificateRequest>,
    /// An operator asked for its removal.
    pub is_leaving: bool,
    /// When it was admitted.
    pub admitted_at: Timestamp,
    /// The entry that admitted it.
    pub created: Revision,
    /// The entry that changed it last.
    pub modified: Revision,
}

/// What stays of a removed server: its id and its store are refused for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedMember {
    /// The id.
    pub node: NodeId,
    /// Its name then.
    pub name: Name,
    /// Its store.
    pub store: StoreId,
    /// When it was removed.
    pub removed_at: Timestamp,
}

/// A one-time token with which one named server may join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// SHA-256 of a domain tag and the secret.
    pub secret: Digest,
    /// The name that the joiner must have.
    pub node_name: Name,
    /// Until when it may be used, and its answer be asked for again.
    pub expires_at: Timestamp,
    /// Who used it: the joiner's public key and the id it was given.
    pub consumed: Option<(Digest, NodeId)>,
    /// The entry that made it.
    pub created: Revision,
}

/// A server that asks to be admitted, as the receiving server verified it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmitServer {
    /// SHA-256 of a domain tag and the token's secret.
    pub secret: Digest,
    /// The joiner's name.
    pub name: Name,
    /// The joiner's store.
    pub store: StoreId,
    /// Where it will be reached.
    pub addresses: Addresses,
    /// Its sealing recipient.
    pub sealing_recipient: String,
    /// The highest feature level that it understands.
    pub supports: FeatureLevel,
    /// Its request for a server certificate.
    pub csr: Der,
    /// SHA-256 of the request's SubjectPublicKeyInfo.
    pub public_key: Digest,
}
