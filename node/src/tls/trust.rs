//! Whom this server takes for a server of its cluster: the server CA's bundle and the recorded members, swapped as one
//! when the replicated state changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use carrack_authority::{
    id::{Digest, NodeId},
    key::Der,
    spiffe::Name,
    time::Timestamp,
};
use rustls::pki_types::TrustAnchor;
use tokio::sync::watch;
use uuid::Uuid;

use super::identity::certificate;

/// The servers of this cluster, as the replicated state records them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedServers {
    /// This cluster.
    pub cluster: Uuid,
    /// This datacenter.
    pub datacenter: Name,
    /// The server CA's bundle, each root in DER.
    pub roots: Vec<Der>,
    /// The digests of the SubjectPublicKeyInfos recorded for each member: of its certificate, and of its next one.
    pub keys: BTreeMap<NodeId, BTreeSet<Digest>>,
    /// The first second of each member's certificate: one that begins later was signed after what this server knows.
    pub certified_from: BTreeMap<NodeId, Timestamp>,
    /// The members that were removed.
    pub removed: BTreeSet<NodeId>,
}

impl TrustedServers {
    /// Whether a server may be let in by a certificate that has expired: its key is recorded, or the server CA signed the
    /// certificate after what this server knows. A server that missed renewals of the others, and then slept with them past the
    /// end of every certificate, has no other way to know them.
    pub(super) fn excuses_expiry(&self, node: NodeId, key: &Digest, not_before: Timestamp) -> bool {
        if self.keys.get(&node).is_some_and(|keys| keys.contains(key)) {
            return true;
        }
        match self.certified_from.get(&node) {
            Some(recorded) => not_before > *recorded,
            // Ids are given in ascending order: a higher one was given later.
            None => {
                let known = self.certified_from.keys().next_back().max(self.removed.last());
                known.is_some_and(|last| node > *last) && !self.keys.contains_key(&node)
            }
        }
    }
}

/// A root of the bundle cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("root {digest} of the server CA cannot be used as an anchor: {reason}")]
pub struct BadRoot {
    /// SHA-256 of the certificate.
    pub digest: Digest,
    /// What is wrong.
    pub reason: String,
}

/// The handle that verifiers read and the owner of the replicated state writes.
pub struct ServerTrust {
    current: ArcSwapOption<Trust>,
    changes: watch::Sender<u64>,
}

/// What verifiers use: the servers with their roots decoded.
pub(super) struct Trust {
    pub(super) servers: TrustedServers,
    pub(super) anchors: Vec<TrustAnchor<'static>>,
}

impl Default for ServerTrust {
    fn default() -> Self {
        Self { current: ArcSwapOption::empty(), changes: watch::Sender::new(0) }
    }
}

impl ServerTrust {
    /// Replaces what is trusted. Connections that it does not cover any more end. A bundle with a bad root changes nothing.
    pub fn replace(&self, servers: TrustedServers) -> Result<(), BadRoot> {
        if self.current.load().as_ref().is_some_and(|trust| trust.servers == servers) {
            return Ok(());
        }
        let anchors = servers.roots.iter().map(anchor).collect::<Result<_, _>>()?;
        self.current.store(Some(Arc::new(Trust { servers, anchors })));
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    /// What is trusted now.
    pub(super) fn current(&self) -> Option<Arc<Trust>> {
        self.current.load_full()
    }

    /// Tells of each replacement.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl fmt::Debug for ServerTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.current() {
            Some(trust) => write!(f, "ServerTrust({:?})", trust.servers),
            None => f.write_str("ServerTrust(empty)"),
        }
    }
}

/// A root as webpki takes it.
pub(super) fn anchor(root: &Der) -> Result<TrustAnchor<'static>, BadRoot> {
    let root_certificate = certificate(root);
    match webpki::anchor_from_trusted_cert(&root_certificate) {
        Ok(anchor) => Ok(anchor.to_owned()),
        Err(error) => Err(BadRoot { digest: root.digest(), reason: format!("{error:?}") }),
    }
}
