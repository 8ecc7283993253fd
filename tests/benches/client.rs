//! A closed-loop client: one TLS connection, one request at a time, each with a CSR that was made before.

use std::time::Duration;

use bytes::Bytes;
use carrack::tls::{
    client::{Alpn, ClientDialer, ServerRoots},
    clock::TlsClock,
};
use carrack_authority::time::Timestamp;
use carrack_proto::server::{SignRequest, certificates_client::CertificatesClient};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tonic::{
    Request,
    transport::{Channel, Endpoint, Uri},
};

/// What one client saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The latency of each issued leaf.
    pub(crate) latencies: Vec<Duration>,
    /// The refusals, each with its text.
    pub(crate) refusals: Vec<String>,
}

/// Connects to a server's gRPC port.
pub(crate) async fn connect(address: &str, roots: ServerRoots) -> anyhow::Result<CertificatesClient<Channel>> {
    #[expect(clippy::disallowed_methods, reason = "a client outside of the system has the machine's clock")]
    let clock = TlsClock::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp::EPOCH.plus(since.unwrap_or_default())
    });
    let (dialer, address) = (ClientDialer::new(roots, &clock, Alpn::Http2), address.to_owned());
    let connector = tower::service_fn(move |_: Uri| {
        let (dialer, address) = (dialer.clone(), address.clone());
        async move { dialer.dial(&address).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("https://server.carrack.invalid").connect_with_connector(connector).await?;
    Ok(CertificatesClient::new(channel))
}

/// Asks for leaves until `end`.
pub(crate) async fn run(
    mut client: CertificatesClient<Channel>,
    token: String,
    csrs: Vec<Bytes>,
    end: Instant,
) -> Seen {
    let mut seen = Seen::default();
    for csr in csrs.iter().cycle() {
        let began = Instant::now();
        if began >= end {
            break;
        }
        let mut request = Request::new(SignRequest { csr: csr.clone(), slot: String::new() });
        match token.parse() {
            Ok(value) => drop(request.metadata_mut().insert("x-consul-token", value)),
            Err(error) => seen.refusals.push(format!("the token is no metadata value: {error}")),
        }
        match client.sign(request).await {
            Ok(_) => seen.latencies.push(began.elapsed()),
            Err(status) => seen.refusals.push(status.to_string()),
        }
    }
    seen
}
