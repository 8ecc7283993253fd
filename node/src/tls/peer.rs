//! Who is at the other end of a connection, and why somebody was not let in.

use std::{net::SocketAddr, sync::Arc};

use carrack_authority::{
    id::{Digest, NodeId},
    spiffe::Name,
    time::Timestamp,
    x509::{CertificateError, ServerId},
};
use uuid::Uuid;

/// Who is at the other end: what handlers find in the extensions of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The address that it connects from.
    pub address: SocketAddr,
    /// The server that it has shown to be; `None` on ports where clients show no certificate.
    pub server: Option<Arc<ServerId>>,
    /// SHA-256 of the SubjectPublicKeyInfo of the key that it has shown to have, on the port where agents show one. Whose key that is,
    /// the state says; what its certificate says counts for nothing.
    pub agent_key: Option<Digest>,
}

/// A server whose certificate was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedServer {
    /// Who it is.
    pub id: ServerId,
    /// What it was accepted by.
    pub acceptance: Acceptance,
}

/// What a peer was accepted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// A certificate that is valid until then: the connection ends with it.
    Certificate {
        /// Its last second.
        not_after: Timestamp,
    },
    /// Its certificate has expired, and its key is the one recorded for this member, or it is newer than the recorded one. The
    /// connection does not end by itself.
    RecordedKey {
        /// When the certificate ended.
        not_after: Timestamp,
    },
}

/// Why a peer was not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefusal {
    /// This server does not know its server CA yet.
    #[error("this server has no server CA bundle yet")]
    NoTrust,
    /// The peer presents more certificates than any chain here has.
    #[error("the peer presents {count} certificates, at most {count_max} are read")]
    ChainTooLong {
        /// How many.
        count: usize,
        /// The limit.
        count_max: usize,
    },
    /// A workload's leaf does not lead to the bundle, or is not for this use.
    #[error("the leaf does not verify against the bundle: {reason}")]
    Leaf {
        /// What the verifier said.
        reason: String,
    },
    /// The certificate does not chain to the server CA, or is not for this use.
    #[error("the certificate does not verify against the server CA: {reason}")]
    Chain {
        /// What the verifier said.
        reason: String,
    },
    /// No presented certificate is the pinned root.
    #[error("none of the presented certificates is the pinned server CA root")]
    NotPinned,
    /// The certificate cannot be read.
    #[error("the certificate cannot be read")]
    Unreadable(#[source] CertificateError),
    /// The certificate does not name exactly one server.
    #[error("the certificate names [{names}], not exactly one server")]
    NotAServer {
        /// The URIs that it has, cut.
        names: String,
    },
    /// A server of another cluster.
    #[error("the peer is a server of cluster {found}, expected is {expected}")]
    OtherCluster {
        /// Its cluster.
        found: Uuid,
        /// The cluster here.
        expected: Uuid,
    },
    /// A server of another datacenter.
    #[error("the peer is a server of datacenter {found}, expected is {expected}")]
    OtherDatacenter {
        /// Its datacenter.
        found: Name,
        /// The datacenter here.
        expected: Name,
    },
    /// A server that was removed.
    #[error("server {node} was removed from the cluster: its id is never accepted again")]
    Removed {
        /// Its id.
        node: NodeId,
    },
    /// A server that another datacenter removed.
    #[error(
        "{server} was removed from its datacenter: its id is never accepted again; a server that shall come back joins there anew, see `carrack members list` there"
    )]
    RemovedElsewhere {
        /// Who it is.
        server: ServerId,
    },
    /// Not the server that was dialled.
    #[error("the peer is server {found}, dialled was server {expected}")]
    OtherServer {
        /// Who answered.
        found: NodeId,
        /// Who was dialled.
        expected: NodeId,
    },
    /// The certificate has expired, its key is not the recorded one, and it is no newer than that one's.
    #[error(
        "the certificate of server {node} expired at {not_after}; its key is not the one recorded for it, nor is it a newer certificate"
    )]
    Expired {
        /// Its id.
        node: NodeId,
        /// When it expired.
        not_after: Timestamp,
    },
    /// The certificate ended while the connection was open.
    #[error("the certificate of {server} ended at {not_after}, and with it this connection")]
    Ended {
        /// Who it was.
        server: ServerId,
        /// When it ended.
        not_after: Timestamp,
    },
    /// A server of a datacenter that is not trusted.
    #[error(
        "the peer says that it is a server of datacenter {datacenter} (cluster {cluster}), which is not known here: it never joined, or was removed; `carrack federation list` shows those that are known"
    )]
    UnknownDatacenter {
        /// Its datacenter.
        datacenter: Name,
        /// Its cluster.
        cluster: Uuid,
    },
    /// A server of another cluster under the name of a known datacenter.
    #[error(
        "the peer says that it is a server of datacenter {datacenter} in cluster {found}, but the datacenter known by that name is cluster {expected}: if it was made anew, remove the former one (`carrack federation list`) and let it join again; otherwise give it another name"
    )]
    OtherClusterOf {
        /// The name.
        datacenter: Name,
        /// Its cluster.
        found: Uuid,
        /// The cluster that is known here.
        expected: Uuid,
    },
    /// A server of this datacenter on the port for others.
    #[error(
        "server {node} is of this datacenter, {datacenter}: its servers reach each other at listen.raft, not at listen.wan"
    )]
    OwnDatacenter {
        /// Its id.
        node: NodeId,
        /// The datacenter here.
        datacenter: Name,
    },
    /// The certificate does not chain to the server CA of the datacenter that it names, or is not for this use.
    #[error(
        "the peer says that it is a server of datacenter {datacenter}, but its certificate does not verify against that datacenter's server CA: {reason}"
    )]
    ChainElsewhere {
        /// The datacenter that it names.
        datacenter: Name,
        /// What the verifier said.
        reason: String,
    },
    /// The certificate of another datacenter's server has expired.
    #[error(
        "the certificate of {server} expired at {not_after}: its own datacenter must renew it, see `carrack status` there"
    )]
    ExpiredElsewhere {
        /// Who it is.
        server: ServerId,
        /// When it expired.
        not_after: Timestamp,
    },
}

impl PeerRefusal {
    /// The stable code of the reason, for metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoTrust => "no_trust",
            Self::ChainTooLong { .. } => "chain_too_long",
            Self::Chain { .. } | Self::ChainElsewhere { .. } => "chain",
            Self::NotPinned => "not_pinned",
            Self::Unreadable(_) => "unreadable",
            Self::NotAServer { .. } => "not_a_server",
            Self::OtherCluster { .. } | Self::OtherClusterOf { .. } => "other_cluster",
            Self::OtherDatacenter { .. } => "other_datacenter",
            Self::Removed { .. } | Self::RemovedElsewhere { .. } => "removed",
            Self::OtherServer { .. } => "other_server",
            Self::Expired { .. } | Self::ExpiredElsewhere { .. } => "expired",
            Self::Ended { .. } => "ended",
            Self::UnknownDatacenter { .. } => "unknown_datacenter",
            Self::OwnDatacenter { .. } => "own_datacenter",
            Self::Leaf { .. } => "leaf",
        }
    }

    /// The refusal of a server whose certificate ended while it was connected.
    pub(super) fn expired(server: &VerifiedServer) -> Self {
        let (Acceptance::Certificate { not_after } | Acceptance::RecordedKey { not_after }) = server.acceptance;
        Self::Ended { server: server.id.clone(), not_after }
    }

    /// The same, where the chain was verified against the server CA of that datacenter.
    pub(super) fn of_datacenter(self, datacenter: &Name) -> Self {
        match self {
            Self::Chain { reason } => Self::ChainElsewhere { datacenter: datacenter.clone(), reason },
            other => other,
        }
    }

    /// The refusal inside the error of a handshake or of an ended connection, if that is what it was.
    pub fn inside(error: &std::io::Error) -> Option<&Self> {
        let inner = error.get_ref()?;
        if let Some(refusal) = inner.downcast_ref() {
            return Some(refusal);
        }
        match inner.downcast_ref::<rustls::Error>()? {
            rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => other.0.downcast_ref(),
            _ => None,
        }
    }
}

impl From<PeerRefusal> for rustls::Error {
    fn from(refusal: PeerRefusal) -> Self {
        Self::InvalidCertificate(rustls::CertificateError::Other(rustls::OtherError(Arc::new(refusal))))
    }
}
