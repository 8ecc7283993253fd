//! Verifies servers: of this cluster by each other, and any by clients. What both share with the rule of other
//! datacenters is here too: the path to an anchor, and the one server that a certificate names.

use std::{fmt, sync::Arc};

use carrack_authority::{
    id::NodeId,
    time::Timestamp,
    x509::{CertificateFacts, ServerId, server::cluster_trust_domain},
};
use rustls::pki_types::{CertificateDer, TrustAnchor};
use tokio::sync::watch;
use uuid::Uuid;
use webpki::EndEntityCert;

use super::{
    clock::{timestamp, unix},
    config::signature_algorithms,
    peer::{Acceptance, PeerRefusal, VerifiedServer},
    rule::{LiveRule, PeerRule, PeerSide},
    trust::{ServerTrust, Trust},
};

/// The most certificates that a peer may present: a leaf, a root, and a bridge for each in a rotation; the rest is cost.
const CHAIN_LENGTH_MAX: usize = 8;
/// How much of the foreign names in a certificate is worth repeating.
const NAMES_SHOWN_CHARS: usize = 200;

/// How a chain verified.
pub(super) enum ChainVerdict {
    Valid,
    /// It was valid until then, and has no other fault.
    ExpiredAt(Timestamp),
}

/// The members of this cluster, to be verified by each other.
#[derive(Debug)]
pub(super) struct MemberVerifier {
    trust: Arc<ServerTrust>,
    expected: Option<NodeId>,
}

impl MemberVerifier {
    /// Takes any member if `expected` is `None`.
    pub(super) fn new(trust: Arc<ServerTrust>, expected: Option<NodeId>) -> Self {
        Self { trust, expected }
    }

    fn check_id(&self, trust: &Trust, id: &ServerId) -> Result<(), PeerRefusal> {
        let servers = &trust.servers;
        if id.cluster != servers.cluster {
            return Err(PeerRefusal::OtherCluster { found: id.cluster, expected: servers.cluster });
        }
        if id.datacenter != servers.datacenter {
            let (found, expected) = (id.datacenter.clone(), servers.datacenter.clone());
            return Err(PeerRefusal::OtherDatacenter { found, expected });
        }
        if servers.removed.contains(&id.node) {
            return Err(PeerRefusal::Removed { node: id.node });
        }
        match self.expected {
            Some(expected) if expected != id.node => Err(PeerRefusal::OtherServer { found: id.node, expected }),
            _ => Ok(()),
        }
    }
}

impl PeerRule for MemberVerifier {
    fn verify(
        &self,
        presented: &[CertificateDer<'_>],
        now: Timestamp,
        side: PeerSide,
    ) -> Result<VerifiedServer, PeerRefusal> {
        let trust = self.trust.current().ok_or(PeerRefusal::NoTrust)?;
        let verdict = verify_chain(presented, &trust.anchors, now, side)?;
        let (facts, id) = read_server(presented, side)?;
        self.check_id(&trust, &id)?;
        let not_after = facts.not_after;
        let acceptance = match verdict {
            ChainVerdict::Valid => Acceptance::Certificate { not_after },
            ChainVerdict::ExpiredAt(not_after) => {
                if !trust.servers.excuses_expiry(id.node, &facts.public_key_digest(), facts.not_before) {
                    return Err(PeerRefusal::Expired { node: id.node, not_after });
                }
                Acceptance::RecordedKey { not_after }
            }
        };
        Ok(VerifiedServer { id, acceptance })
    }
}

impl LiveRule for MemberVerifier {
    fn changes(&self) -> watch::Receiver<u64> {
        self.trust.subscribe()
    }
}

/// Verifies the path to an anchor, the dates and the use. A chain whose only fault is that it has expired is told apart:
/// it is verified a second time, as of its own last second.
pub(super) fn verify_chain(
    presented: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    now: Timestamp,
    side: PeerSide,
) -> Result<ChainVerdict, PeerRefusal> {
    if presented.len() > CHAIN_LENGTH_MAX {
        return Err(PeerRefusal::ChainTooLong { count: presented.len(), count_max: CHAIN_LENGTH_MAX });
    }
    let (first, others) = presented.split_first().ok_or_else(|| bad_chain("no certificate was presented"))?;
    let certificate = EndEntityCert::try_from(first).map_err(bad_chain)?;
    let verify_at = |time| {
        let algorithms = signature_algorithms().all;
        certificate.verify_for_usage(algorithms, anchors, others, time, side.usage(), None, None).map(drop)
    };
    match verify_at(unix(now)) {
        Ok(()) => Ok(ChainVerdict::Valid),
        Err(webpki::Error::CertExpired { not_after, .. }) => {
            verify_at(not_after).map_err(bad_chain)?;
            Ok(ChainVerdict::ExpiredAt(timestamp(not_after)))
        }
        Err(error) => Err(bad_chain(error)),
    }
}

fn bad_chain(reason: impl fmt::Debug) -> PeerRefusal {
    PeerRefusal::Chain { reason: format!("{reason:?}") }
}

/// The one server that the first certificate names, by exactly one URI.
pub(super) fn read_server(
    presented: &[CertificateDer<'_>],
    side: PeerSide,
) -> Result<(CertificateFacts, ServerId), PeerRefusal> {
    let first = presented.first().ok_or_else(|| bad_chain("no certificate was presented"))?;
    let facts = CertificateFacts::read(first).map_err(PeerRefusal::Unreadable)?;
    if !facts.purposes.contains(&side.purpose()) {
        return Err(bad_chain(format_args!("the certificate is not for {}", side.purpose())));
    }
    let id = match facts.uris.as_slice() {
        [uri] => uri.parse().ok(),
        _ => None,
    };
    match id {
        Some(id) => Ok((facts, id)),
        None => {
            let names: String = facts.uris.join(" ").escape_default().take(NAMES_SHOWN_CHARS).collect();
            Err(PeerRefusal::NotAServer { names })
        }
    }
}

/// Verifies a server for a client: it chains to one of these anchors and is a server of that anchor's cluster.
pub(super) fn verify_for_client(
    presented: &[CertificateDer<'_>],
    anchors: &[(TrustAnchor<'static>, CertificateFacts)],
    now: Timestamp,
) -> Result<VerifiedServer, PeerRefusal> {
    let (facts, id) = read_server(presented, PeerSide::Server)?;
    // Only the roots of the server's own cluster vouch for it: a client may know several clusters.
    let anchors: Vec<TrustAnchor<'_>> =
        anchors.iter().filter(|(_, root)| is_root_of(root, &id.cluster)).map(|(anchor, _)| anchor.clone()).collect();
    match verify_chain(presented, &anchors, now, PeerSide::Server)? {
        ChainVerdict::Valid => {
            Ok(VerifiedServer { id, acceptance: Acceptance::Certificate { not_after: facts.not_after } })
        }
        ChainVerdict::ExpiredAt(not_after) => Err(PeerRefusal::Expired { node: id.node, not_after }),
    }
}

/// Whether this is a root of that cluster's server CA: it names the cluster's trust domain and nothing else.
pub(super) fn is_root_of(root: &CertificateFacts, cluster: &Uuid) -> bool {
    root.uris == [format!("spiffe://{}", cluster_trust_domain(cluster))]
}

#[cfg(test)]
mod tests;
