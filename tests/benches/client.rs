//! A closed-loop client: one TLS connection, one request at a time, each with a CSR that was made before.

use std::time::Duration;

use bytes::Bytes;
use carrack_proto::server::{SignRequest, certificates_client::CertificatesClient};
use tokio::time::Instant;
use tonic::{Request, transport::Channel};

/// What one client saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The latency of each issued leaf.
    pub(crate) latencies: Vec<Duration>,
    /// The refusals, each with its text.
    pub(crate) refusals: Vec<String>,
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
