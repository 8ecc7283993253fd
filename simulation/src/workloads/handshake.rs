//! One TLS 1.3 handshake between two workloads, in memory: each shows what it was served, and verifies the other with the bundle
//! that it has and with the rules of X509-SVID section 5. Real TLS, so that a leaf that no peer accepts cannot hide.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use carrack::tls::clock::TlsClock;
use carrack_authority::{
    key::{Der, KeyKind, Signer},
    spiffe::{SpiffeId, TrustDomain},
    time::Timestamp,
    x509::chain::{ChainError, Usage, verify_chain},
};
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    ServerConfig, ServerConnection, SignatureAlgorithm, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

/// The most flights that a handshake takes: TLS 1.3 needs three, a retry of the key share two more.
const FLIGHTS_MAX: usize = 8;

/// The key of a leaf. It signs, and prints nothing of itself.
#[derive(Clone)]
pub(crate) struct LeafKey(pub(crate) Arc<dyn Signer>);

impl fmt::Debug for LeafKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeafKey({})", self.0.public_key().id)
    }
}

/// What one end of a connection has.
pub(crate) struct End<'a> {
    /// Its key.
    pub(crate) key: &'a LeafKey,
    /// Its leaf, and what it is served with.
    pub(crate) chain: Vec<&'a Der>,
    /// The roots by which it verifies the other.
    pub(crate) bundle: Arc<[Der]>,
}

/// Which end gave up, and why.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// The opening end.
    #[error("the client gave up: {0}")]
    Client(#[source] Error),
    /// The accepting end.
    #[error("the server gave up: {0}")]
    Server(#[source] Error),
    /// Neither has anything left to say.
    #[error("it did not end within {FLIGHTS_MAX} flights")]
    Stuck,
}

/// Lets `client` open a connection to `server` at this time.
pub(crate) fn shake(
    client: &End<'_>,
    server: &End<'_>,
    trust_domain: &TrustDomain,
    now: Timestamp,
) -> Result<(), Failed> {
    let mut opening = Connection::Client(open(client, trust_domain, now).map_err(Failed::Client)?);
    let mut accepting = Connection::Server(accept(server, trust_domain, now).map_err(Failed::Server)?);
    for _ in 0..FLIGHTS_MAX {
        deliver(&mut opening, &mut accepting).map_err(Failed::Server)?;
        deliver(&mut accepting, &mut opening).map_err(Failed::Client)?;
        if ![&opening, &accepting].iter().any(|end| end.is_handshaking() || end.wants_write()) {
            return Ok(());
        }
    }
    Err(Failed::Stuck)
}

/// Hands over what one end has to say; the error is the other's.
fn deliver(from: &mut Connection, to: &mut Connection) -> Result<(), Error> {
    let mut said = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut said).expect("a vector takes every byte");
    }
    let mut heard = said.as_slice();
    while !heard.is_empty() {
        to.read_tls(&mut heard).expect("a handshake fits the buffer, and a slice has no error");
        to.process_new_packets()?;
    }
    Ok(())
}

fn open(end: &End<'_>, trust_domain: &TrustDomain, now: Timestamp) -> Result<ClientConnection, Error> {
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(TlsClock::new(move || now)))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Verifier::new(end, trust_domain))
        .with_client_cert_resolver(shown(end));
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    let name = ServerName::try_from("workload.invalid").expect("it is a DNS name");
    ClientConnection::new(Arc::new(config), name)
}

fn accept(end: &End<'_>, trust_domain: &TrustDomain, now: Timestamp) -> Result<ServerConnection, Error> {
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(TlsClock::new(move || now)))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Verifier::new(end, trust_domain))
        .with_cert_resolver(shown(end));
    config.send_tls13_tickets = 0;
    ServerConnection::new(Arc::new(config))
}

fn shown(end: &End<'_>) -> Arc<SingleCertAndKey> {
    Arc::new(certified(end.chain.iter().copied(), end.key))
}

/// A chain with its key, as rustls shows it.
pub(super) fn certified<'a>(chain: impl IntoIterator<Item = &'a Der>, key: &LeafKey) -> SingleCertAndKey {
    let chain = chain.into_iter().map(|der| CertificateDer::from(der.as_bytes().to_vec())).collect();
    SingleCertAndKey::from(CertifiedKey::new(chain, Arc::new(key.clone())))
}

/// One key exchange is enough: what is tried here are certificates.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let kx_groups = vec![aws_lc_rs::kx_group::X25519];
        Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
    });
    PROVIDER.clone()
}

impl rustls::sign::SigningKey for LeafKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
        // RSA keys of leaves sign with PKCS#1 v1.5, which TLS 1.3 does not allow in a handshake.
        let scheme = match self.0.public_key().kind {
            KeyKind::EcP256 => SignatureScheme::ECDSA_NISTP256_SHA256,
            KeyKind::EcP384 => SignatureScheme::ECDSA_NISTP384_SHA384,
            KeyKind::Ed25519 => SignatureScheme::ED25519,
            KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => return None,
        };
        offered.contains(&scheme).then(|| Box::new(Signing { key: self.clone(), scheme }) as Box<_>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.0.public_key().kind {
            KeyKind::EcP256 | KeyKind::EcP384 => SignatureAlgorithm::ECDSA,
            KeyKind::Ed25519 => SignatureAlgorithm::ED25519,
            KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => SignatureAlgorithm::RSA,
        }
    }
}

#[derive(Debug)]
struct Signing {
    key: LeafKey,
    scheme: SignatureScheme,
}

impl rustls::sign::Signer for Signing {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.key.0.sign(message).map_err(|error| Error::General(error.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

/// Verifies the other end as a workload does.
#[derive(Debug)]
struct Verifier {
    bundle: Arc<[Der]>,
    trust_domain: TrustDomain,
}

/// A peer's certificate is refused.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("{id} is not under the trust domain {trust_domain}")]
    OtherTrustDomain { id: SpiffeId, trust_domain: TrustDomain },
}

impl Verifier {
    fn new(end: &End<'_>, trust_domain: &TrustDomain) -> Arc<Self> {
        Arc::new(Self { bundle: end.bundle.clone(), trust_domain: trust_domain.clone() })
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
        usage: Usage,
    ) -> Result<(), Error> {
        let others: Vec<&[u8]> = others.iter().map(|der| der.as_ref()).collect();
        let anchors: Vec<&[u8]> = self.bundle.iter().map(Der::as_bytes).collect();
        let now = Timestamp::from_seconds(now.as_secs());
        let id = verify_chain(leaf, &others, &anchors, now, usage).map_err(|error| other(error.into()))?;
        match id.trust_domain == self.trust_domain {
            true => Ok(()),
            false => Err(other(Refused::OtherTrustDomain { id, trust_domain: self.trust_domain.clone() })),
        }
    }

    fn verify_signature(
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }
}

fn other(refused: Refused) -> Error {
    Error::InvalidCertificate(rustls::CertificateError::Other(OtherError(Arc::new(refused))))
}

fn no_tls12() -> Error {
    Error::General("TLS 1.2 is not negotiated".into())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, now, Usage::Server).map(|()| ServerCertVerified::assertion())
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
        Self::verify_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, now, Usage::Client).map(|()| ClientCertVerified::assertion())
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
        Self::verify_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
