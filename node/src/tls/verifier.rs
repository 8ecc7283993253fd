//! Verifies servers: by each other, where both sides show a certificate, and by clients. One function decides; what is
//! around it only speaks rustls.

use std::{fmt, sync::Arc};

use carrack_authority::{
    id::NodeId,
    time::Timestamp,
    x509::{CertificateFacts, ServerId, extension::Purpose},
};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::verify_tls13_signature,
    pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use webpki::{EndEntityCert, KeyUsage};

use super::{
    clock::{timestamp, unix},
    config::signature_algorithms,
    peer::{Acceptance, PeerRefusal, VerifiedServer},
    trust::{ServerTrust, Trust},
};

/// The most certificates that a peer may present: a leaf, a root, and a bridge for each in a rotation; the rest is cost.
const CHAIN_LENGTH_MAX: usize = 8;
/// How much of the foreign names in a certificate is worth repeating.
const NAMES_SHOWN_CHARS: usize = 200;

/// The end of a connection at which the peer stands (RFC 5280 section 4.2.1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerSide {
    /// It has accepted the connection.
    Server,
    /// It has opened the connection.
    Client,
}

impl PeerSide {
    fn usage(self) -> KeyUsage {
        match self {
            Self::Server => KeyUsage::server_auth(),
            Self::Client => KeyUsage::client_auth(),
        }
    }

    /// The purpose that the peer's own certificate must name. webpki asks the same of each CA certificate on the way or of
    /// none, and a bridge between two roots names no purpose.
    fn purpose(self) -> Purpose {
        match self {
            Self::Server => Purpose::ServerAuth,
            Self::Client => Purpose::ClientAuth,
        }
    }
}

/// How a chain verified.
enum ChainVerdict {
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

    /// Decides on the certificates that a peer has presented, its own first.
    pub(super) fn verify(
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

/// Verifies the path to an anchor, the dates and the use. A chain whose only fault is that it has expired is told apart:
/// it is verified a second time, as of its own last second.
fn verify_chain(
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
fn read_server(presented: &[CertificateDer<'_>], side: PeerSide) -> Result<(CertificateFacts, ServerId), PeerRefusal> {
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
) -> Result<ServerId, PeerRefusal> {
    let (_, id) = read_server(presented, PeerSide::Server)?;
    // Only the roots of the server's own cluster vouch for it: a client may know several clusters.
    let own = format!("spiffe://{}", carrack_authority::x509::server::cluster_trust_domain(&id.cluster));
    let anchors: Vec<TrustAnchor<'_>> =
        anchors.iter().filter(|(_, root)| root.uris == [own.clone()]).map(|(anchor, _)| anchor.clone()).collect();
    match verify_chain(presented, &anchors, now, PeerSide::Server)? {
        ChainVerdict::Valid => Ok(id),
        ChainVerdict::ExpiredAt(not_after) => Err(PeerRefusal::Expired { node: id.node, not_after }),
    }
}

/// A certificate and those after it, as one list.
pub(super) fn joined<'a>(first: &CertificateDer<'a>, others: &[CertificateDer<'a>]) -> Vec<CertificateDer<'a>> {
    std::iter::once(first).chain(others).cloned().collect()
}

impl ClientCertVerifier for MemberVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(&joined(end_entity, intermediates), timestamp(now), PeerSide::Client)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, signature_algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        signature_algorithms().supported_schemes()
    }
}

impl ServerCertVerifier for MemberVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(&joined(end_entity, intermediates), timestamp(now), PeerSide::Server)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, signature_algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        signature_algorithms().supported_schemes()
    }
}

/// TLS 1.2 is never negotiated here, so nothing asks for its signatures.
pub(super) fn no_tls12() -> Error {
    Error::InvalidCertificate(CertificateError::BadSignature)
}

#[cfg(test)]
mod tests;
