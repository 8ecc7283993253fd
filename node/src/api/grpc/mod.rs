//! The gRPC port (8503): first contact of joining servers, and leaf certificates. TLS 1.3 with the server's certificate.

mod agents;
mod certificates;
mod cluster;
mod federation;

use std::{sync::Arc, time::Duration};

use carrack_proto::agent::agents_server::AgentsServer;
use carrack_proto::server::{
    certificates_server::CertificatesServer, cluster_server::ClusterServer, federation_server::FederationServer,
};
use tonic::{service::Routes, transport::Server};

use self::{agents::Agents, certificates::Certificates, cluster::Cluster, federation::Federation};
use crate::server::context::Context;

/// The largest message: a CSR and its names fit many times.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// The most requests of one connection at once.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 256;
/// The most streams that a connection may reset before they are answered (CVE-2023-44487).
pub const PENDING_RESETS_MAX: usize = 32;
/// How often an idle connection is probed, and how long it has to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// The longest any request takes: a joiner waits for the leader's signature.
const REQUEST_WITHIN: Duration = Duration::from_secs(60);

/// A gRPC server with this port's limits.
pub fn limited_server() -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .timeout(REQUEST_WITHIN)
}

/// The services of this port.
pub fn routes(context: &Arc<Context>) -> Routes {
    let cluster = ClusterServer::new(Cluster::new(context.clone()));
    let agents = AgentsServer::new(Agents::new(context.clone()));
    let certificates = CertificatesServer::new(Certificates::new(context.clone()));
    let federation = FederationServer::new(Federation::new(context.clone()));
    Routes::new(cluster.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(certificates.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(agents.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(federation.max_decoding_message_size(MESSAGE_BYTES_MAX))
}
