//! A handshake between two workloads of the mesh, as their proxies would make it: TLS 1.3, both sides show a leaf with its chain, and
//! each verifies the other against its own bundle.

use std::sync::Arc;

use carrack_authority::{
    id::KeyId,
    key::Der,
    spiffe::{SpiffeId, TrustDomain},
    time::Timestamp,
    x509::{
        CertificateFacts,
        chain::{ChainError, Usage, verify_chain},
        pem,
    },
};
use futures::TryFutureExt;
use rustls::pki_types::CertificateDer;
use tokio::io::duplex;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{
    client::any_name,
    clock::TlsClock,
    config::{mutual_client, mutual_server},
    identity::{IdentityError, ServerIdentity},
    peer::PeerRefusal,
    rule::{Admits, PeerSide},
};
use crate::keys::server_keys::ServerCredential;

/// What is on its way between the two ends at most: a flight with two chains.
const BUFFER_BYTES: usize = 64 * 1024;

/// A workload with what it needs to be one.
#[derive(Debug)]
pub struct Workload {
    /// Its leaf with its key, and what is served after the leaf.
    pub credential: ServerCredential,
    /// The roots that it trusts.
    pub roots: Vec<Der>,
    /// The trust domain that it expects its peers in.
    pub trust_domain: TrustDomain,
}

/// What one side has verified of the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Who it is.
    pub id: SpiffeId,
    /// The certificates that it has presented, its leaf first.
    pub presented: Vec<CertificateFacts>,
}

/// A handshake between workloads failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// A leaf or its key cannot be shown.
    #[error("a leaf cannot be shown")]
    Identity(#[from] IdentityError),
    /// A certificate that was presented cannot be used.
    #[error("a chain that was presented cannot be verified")]
    Chain(#[from] ChainError),
    /// The side that accepts the connection ended it.
    #[error("the side that was called ended the handshake")]
    Called(#[source] std::io::Error),
    /// The side that opens the connection ended it.
    #[error("the side that calls ended the handshake")]
    Calling(#[source] std::io::Error),
}

/// Lets two workloads connect, and answers whom the server and whom the client has seen.
pub async fn shake_hands(
    server: &Workload,
    client: &Workload,
    now: Timestamp,
) -> Result<(Verified, Verified), HandshakeError> {
    let clock = TlsClock::new(move || now);
    let acceptor = TlsAcceptor::from(mutual_server(server.identity()?, server.rule(), &clock));
    let connector = TlsConnector::from(mutual_client(client.identity()?, client.rule(), &clock));
    let (one, other) = duplex(BUFFER_BYTES);
    let (accepted, connected) = tokio::try_join!(
        acceptor.accept(one).map_err(HandshakeError::Called),
        connector.connect(any_name(), other).map_err(HandshakeError::Calling),
    )?;
    let seen_by_server = accepted.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
    let seen_by_client = connected.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
    Ok((
        server.rule().verified(&seen_by_server, now, Usage::Client)?,
        client.rule().verified(&seen_by_client, now, Usage::Server)?,
    ))
}

impl Workload {
    /// A workload from the PEM texts that it was given.
    pub fn new(
        credential: ServerCredential,
        roots_pem: &str,
        trust_domain: TrustDomain,
    ) -> Result<Self, pem::PemError> {
        Ok(Self { credential, roots: pem::decode_certificates(roots_pem)?, trust_domain })
    }

    fn identity(&self) -> Result<Arc<ServerIdentity>, IdentityError> {
        let identity = ServerIdentity::default();
        identity.show(&self.credential)?;
        Ok(Arc::new(identity))
    }

    fn rule(&self) -> Arc<MeshPeers> {
        Arc::new(MeshPeers { roots: self.roots.clone(), trust_domain: self.trust_domain.clone() })
    }
}

/// The rule of workloads: a leaf of the trust domain that leads to a root of the bundle.
#[derive(Debug)]
struct MeshPeers {
    roots: Vec<Der>,
    trust_domain: TrustDomain,
}

impl MeshPeers {
    fn verified(&self, presented: &[CertificateDer<'_>], now: Timestamp, usage: Usage) -> Result<Verified, ChainError> {
        let chain: Vec<&[u8]> = presented.iter().map(|certificate| &**certificate).collect();
        let roots: Vec<&[u8]> = self.roots.iter().map(Der::as_bytes).collect();
        let (leaf, intermediates) = chain.split_first().ok_or(ChainError::UriCount { count: 0 })?;
        let id = verify_chain(leaf, intermediates, &roots, now, usage)?;
        if id.trust_domain != self.trust_domain {
            return Err(ChainError::Unsuited { key: facts_key(leaf)?, reason: "it is of another trust domain" });
        }
        let presented = chain.iter().map(|der| CertificateFacts::read(der)).collect::<Result<_, _>>()?;
        Ok(Verified { id, presented })
    }
}

fn facts_key(leaf: &[u8]) -> Result<KeyId, ChainError> {
    Ok(CertificateFacts::read(leaf)?.public_key.id)
}

impl Admits for MeshPeers {
    fn admit(&self, presented: &[CertificateDer<'_>], now: Timestamp, side: PeerSide) -> Result<(), PeerRefusal> {
        let usage = match side {
            PeerSide::Server => Usage::Server,
            PeerSide::Client => Usage::Client,
        };
        let verified = self.verified(presented, now, usage);
        verified.map(drop).map_err(|error| PeerRefusal::Leaf { reason: error.to_string() })
    }
}
