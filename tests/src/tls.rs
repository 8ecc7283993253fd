//! TLS as clients speak it that look at no name: a stranger, who believes whatever the server shows, and a workload, which has roots.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};

/// How HTTP/2 begins (RFC 9113 section 3.4), with empty settings.
const HTTP_2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The length of the head of an HTTP/2 frame: a server that serves begins with one.
const FRAME_HEAD_BYTES: usize = 9;
/// A server that says nothing for so long says nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// Certificate chain and key of a stranger.
pub struct Credential {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Credential {
    /// A credential from its PEM forms.
    ///
    /// # Panics
    /// Panics if they are none.
    pub fn from_pem(chain: &str, key: &str) -> Self {
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes());
        let chain = chain.collect::<Result<_, _>>().expect("the chain is PEM");
        Self { chain, key: PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("the key is PEM") }
    }
}

/// Speaks TLS and HTTP/2 with a port. An error says how the server broke off; TLS 1.3 tells a client of its certificate's
/// refusal only after the handshake, so that the first frame is waited for.
pub fn is_served_http_2(address: SocketAddr, credential: Option<&Credential>) -> Result<(), String> {
    let told = |error: std::io::Error| error.to_string();
    let config = config(credential).map_err(|error| error.to_string())?;
    let name = ServerName::IpAddress(address.ip().into());
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    let mut socket = TcpStream::connect(address).map_err(told)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(told)?;
    let mut stream = rustls::Stream::new(&mut connection, &mut socket);
    stream.write_all(HTTP_2).map_err(told)?;
    let mut head = [0; FRAME_HEAD_BYTES];
    stream.read_exact(&mut head).map_err(told)
}

fn config(credential: Option<&Credential>) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = verifier(provider.clone(), None);
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match credential {
        Some(credential) => builder.with_client_auth_cert(credential.chain.clone(), credential.key.clone_key())?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Verifies a server's chain by these roots, and no name: a SPIFFE id has none of DNS. Without roots whatever is shown is believed.
pub(crate) fn verifier(
    provider: Arc<CryptoProvider>,
    roots: Option<Arc<RootCertStore>>,
) -> Arc<dyn ServerCertVerifier> {
    Arc::new(ByRoots { provider, roots })
}

#[derive(Debug)]
struct ByRoots {
    provider: Arc<CryptoProvider>,
    /// None: a stranger wants in, not to be safe.
    roots: Option<Arc<RootCertStore>>,
}

impl ServerCertVerifier for ByRoots {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let leaf = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&leaf, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("the servers speak TLS 1.3".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
