//! How clients (the command line, agents, joiners) verify servers: by the server CA's bundle, or at first contact by the
//! pinned digest of its root. Either way the certificate must name a server of that root's cluster.

use std::{io, sync::Arc};

use carrack_authority::{
    id::Digest,
    key::Der,
    time::Timestamp,
    x509::{CertificateError, CertificateFacts, pem},
};
use carrack_raft::ports::BoxedStream;
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName, TrustAnchor},
};
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, client::TlsStream};

pub use super::config::Alpn;
use super::{
    CONNECT_TIMEOUT, HANDSHAKE_TIMEOUT,
    clock::TlsClock,
    config::client,
    identity::ServerIdentity,
    peer::{PeerRefusal, VerifiedServer},
    rule::{PeerRule, PeerSide, Verifier},
    trust::{BadRoot, anchor},
    verifier::verify_for_client,
};
use crate::network::Network;

/// What a client knows of the servers' CA.
#[derive(Clone, Debug)]
pub enum ServerRoots {
    /// The bundle.
    Bundle(Vec<Root>),
    /// At first contact: SHA-256 of the root's certificate, which the server presents.
    Pinned(Digest),
}

/// A root of a server CA, decoded.
#[derive(Clone)]
pub struct Root {
    anchor: TrustAnchor<'static>,
    facts: CertificateFacts,
}

impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Root({})", self.facts.public_key.id)
    }
}

/// A bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It is no PEM.
    #[error("the server CA bundle cannot be read")]
    Pem(#[from] pem::PemError),
    /// There is nothing in it.
    #[error("the server CA bundle is empty")]
    Empty,
    /// A certificate in it cannot be read.
    #[error("a certificate of the server CA bundle cannot be read")]
    Certificate(#[from] CertificateError),
    /// A certificate in it is no root.
    #[error("a certificate of the server CA bundle is no CA: {subject}")]
    NotACa {
        /// The key identifier of its key.
        subject: String,
    },
    /// A certificate in it cannot anchor a path.
    #[error("a certificate of the server CA bundle cannot be used")]
    Root(#[from] BadRoot),
}

impl Root {
    /// Decodes a root.
    pub fn new(der: &Der) -> Result<Self, BundleError> {
        let facts = CertificateFacts::read(der.as_bytes())?;
        if !facts.is_ca {
            return Err(BundleError::NotACa { subject: facts.public_key.id.to_string() });
        }
        Ok(Self { anchor: anchor(der)?, facts })
    }
}

impl ServerRoots {
    /// The roots in a PEM text, as `CARRACK_CACERT` names one.
    pub fn from_pem(text: &str) -> Result<Self, BundleError> {
        let roots = pem::decode_certificates(text)?.iter().map(Root::new).collect::<Result<Vec<_>, _>>()?;
        if roots.is_empty() { Err(BundleError::Empty) } else { Ok(Self::Bundle(roots)) }
    }

    /// The roots of a bundle that a server told.
    pub fn from_bundle(roots: &[Der]) -> Result<Self, BundleError> {
        let roots = roots.iter().map(Root::new).collect::<Result<Vec<_>, _>>()?;
        if roots.is_empty() { Err(BundleError::Empty) } else { Ok(Self::Bundle(roots)) }
    }

    /// The roots that may vouch for the presented certificates.
    fn anchors(
        &self,
        presented: &[CertificateDer<'_>],
    ) -> Result<Vec<(TrustAnchor<'static>, CertificateFacts)>, PeerRefusal> {
        let pinned = match self {
            Self::Bundle(roots) => {
                return Ok(roots.iter().map(|root| (root.anchor.clone(), root.facts.clone())).collect());
            }
            Self::Pinned(pin) => presented.iter().skip(1).map(|der| Der::from(&**der)).find(|der| der.digest() == *pin),
        };
        let root = pinned.and_then(|der| Root::new(&der).ok()).ok_or(PeerRefusal::NotPinned)?;
        Ok(vec![(root.anchor, root.facts)])
    }
}

/// The TLS configuration of a client, for an HTTP library that takes rustls's.
pub fn client_config(roots: ServerRoots, clock: &TlsClock, alpn: Alpn) -> ClientConfig {
    client(Verifier::new(Arc::new(KnownRoots(roots))), clock, alpn, None)
}

/// Opens connections to servers, as a client that shows no certificate or as an agent that shows its own.
#[derive(Clone)]
pub struct ClientDialer {
    network: Arc<dyn Network>,
    connector: TlsConnector,
}

impl ClientDialer {
    /// Dials servers over `network` that `roots` vouch for, as of `clock`'s time.
    pub fn new(network: Arc<dyn Network>, roots: ServerRoots, clock: &TlsClock, alpn: Alpn) -> Self {
        Self { network, connector: TlsConnector::from(Arc::new(client_config(roots, clock, alpn))) }
    }

    /// The same for an agent, which shows its certificate while it has one.
    pub fn showing(
        network: Arc<dyn Network>,
        roots: ServerRoots,
        clock: &TlsClock,
        shown: Arc<ServerIdentity>,
    ) -> Self {
        let config = client(Verifier::new(Arc::new(KnownRoots(roots))), clock, Alpn::Http2, Some(shown));
        Self { network, connector: TlsConnector::from(Arc::new(config)) }
    }

    /// Connects to `host:port`. The error of a refused server holds a [`PeerRefusal`].
    pub async fn dial(&self, address: &str) -> io::Result<TlsStream<BoxedStream>> {
        let stream = timeout(CONNECT_TIMEOUT, self.network.connect(address)).await.map_err(timed_out)??;
        let connecting = self.connector.connect(any_name(), stream);
        timeout(HANDSHAKE_TIMEOUT, connecting).await.map_err(timed_out)?
    }

    /// The certificates that the server of a connection has presented, its own first.
    pub fn presented(stream: &TlsStream<BoxedStream>) -> Vec<Der> {
        let presented = stream.get_ref().1.peer_certificates().unwrap_or_default();
        presented.iter().map(|certificate| Der::from(&**certificate)).collect()
    }
}

impl std::fmt::Debug for ClientDialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientDialer")
    }
}

/// Servers are known by their URI, not by the name that was dialled; rustls wants some name.
pub(super) fn any_name() -> ServerName<'static> {
    ServerName::try_from("server.carrack.invalid").expect("it is a DNS name")
}

pub(super) fn timed_out(_: tokio::time::error::Elapsed) -> io::Error {
    io::Error::from(io::ErrorKind::TimedOut)
}

/// The rule of clients.
#[derive(Debug)]
struct KnownRoots(ServerRoots);

impl PeerRule for KnownRoots {
    fn verify(
        &self,
        presented: &[CertificateDer<'_>],
        now: Timestamp,
        _side: PeerSide,
    ) -> Result<VerifiedServer, PeerRefusal> {
        verify_for_client(presented, &self.0.anchors(presented)?, now)
    }
}
