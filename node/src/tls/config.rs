//! The one place where rustls is configured: TLS 1.3 only, no resumption, one crypto provider.

use std::sync::{Arc, LazyLock};

use rustls::{
    ClientConfig, ServerConfig,
    client::{ResolvesClientCert, Resumption, danger::ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs},
    server::{NoServerSessionStorage, ServerConfig as Config},
    version::TLS13,
};

use super::{
    clock::TlsClock,
    identity::ServerIdentity,
    key_holder::KeyHolder,
    rule::{Admits, Verifier},
};

/// The application protocols of a port, in the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// gRPC.
    Http2,
    /// HTTP of Consul's clients.
    Http2OrHttp1,
    /// HTTP of a client that speaks the older version only.
    Http1,
}

impl Alpn {
    fn protocols(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Self::Http2 => &[b"h2"],
            Self::Http2OrHttp1 => &[b"h2", b"http/1.1"],
            Self::Http1 => &[b"http/1.1"],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

/// The crypto provider: aws-lc, with the post-quantum hybrid preferred for the key exchange.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

/// The signatures that certificates and handshakes may have.
pub(super) fn signature_algorithms() -> &'static WebPkiSupportedAlgorithms {
    static ALGORITHMS: LazyLock<WebPkiSupportedAlgorithms> =
        LazyLock::new(|| provider().signature_verification_algorithms);
    &ALGORITHMS
}

/// For the ports between servers: both sides show a server certificate, and the rule decides on the client's.
pub(super) fn mutual_server<R: Admits + ?Sized + 'static>(
    identity: Arc<ServerIdentity>,
    rule: Arc<R>,
    clock: &TlsClock,
) -> Arc<Config> {
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(clock.clone()))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3")
        .with_client_cert_verifier(Verifier::new(rule))
        .with_cert_resolver(identity);
    harden(&mut config, Alpn::Http2);
    Arc::new(config)
}

/// For client-facing ports: the server shows its certificate, clients show none.
pub(super) fn public_server(identity: Arc<ServerIdentity>, clock: &TlsClock, alpn: Alpn) -> Arc<Config> {
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(clock.clone()))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(identity);
    harden(&mut config, alpn);
    Arc::new(config)
}

/// For the port of agents: the server shows its certificate; a client may show that it has the key of one.
pub(super) fn agents_server(identity: Arc<ServerIdentity>, clock: &TlsClock) -> Arc<Config> {
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(clock.clone()))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3")
        .with_client_cert_verifier(KeyHolder::new())
        .with_cert_resolver(identity);
    harden(&mut config, Alpn::Http2);
    Arc::new(config)
}

/// Resumption would restore a peer's stored chain without running the verifier.
fn harden(config: &mut Config, alpn: Alpn) {
    config.alpn_protocols = alpn.protocols();
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
}

/// For dialling the ports between servers: both sides show a server certificate, and the rule decides on the server's.
pub(super) fn mutual_client<R: Admits + ?Sized + 'static>(
    identity: Arc<ServerIdentity>,
    rule: Arc<R>,
    clock: &TlsClock,
) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(clock.clone()))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Verifier::new(rule))
        .with_client_cert_resolver(identity);
    config.alpn_protocols = Alpn::Http2.protocols();
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Arc::new(config)
}

/// For clients of servers. Most show no certificate; an agent shows its own.
pub(super) fn client(
    verifier: Arc<dyn ServerCertVerifier>,
    clock: &TlsClock,
    alpn: Alpn,
    shown: Option<Arc<dyn ResolvesClientCert>>,
) -> ClientConfig {
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(clock.clone()))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match shown {
        Some(shown) => builder.with_client_cert_resolver(shown),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.protocols();
    config.resumption = Resumption::disabled();
    config
}
