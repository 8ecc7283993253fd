//! Connects to other servers of this cluster, and makes sure that exactly the dialled one answers.

use std::{io, sync::Arc};

use carrack_authority::id::NodeId;
use carrack_raft::ports::BoxedStream;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tracing::warn;

use super::{
    CONNECT_TIMEOUT, HANDSHAKE_TIMEOUT,
    client::{any_name, timed_out},
    clock::TlsClock,
    config::mutual_client,
    guarded::{Guarded, PeerConnection},
    identity::ServerIdentity,
    peer::{Acceptance, PeerRefusal},
    rule::{LiveRule, PeerSide},
    tap::Taps,
    trust::ServerTrust,
    verifier::MemberVerifier,
};
use crate::{
    network::Network,
    telemetry::{labels::Port, metrics::Metrics},
};

/// Dials the other servers of this cluster.
#[derive(Clone)]
pub struct ServerDialer {
    dialing: Arc<MutualDialing>,
    trust: Arc<ServerTrust>,
}

impl ServerDialer {
    /// Dials over `network`, showing `identity`, and believing `trust`.
    pub fn new(
        network: Arc<dyn Network>,
        identity: Arc<ServerIdentity>,
        trust: Arc<ServerTrust>,
        clock: TlsClock,
        metrics: Arc<Metrics>,
        taps: Option<Taps>,
    ) -> Self {
        Self { dialing: Arc::new(MutualDialing { port: Port::Raft, network, identity, clock, metrics, taps }), trust }
    }

    /// Connects to server `node` at `host:port`. The error of a refused peer holds a [`PeerRefusal`].
    pub async fn connect(&self, node: NodeId, address: &str) -> io::Result<Guarded<TlsStream<BoxedStream>>> {
        self.dialing.connect(Arc::new(MemberVerifier::new(self.trust.clone(), Some(node))), address).await
    }
}

/// What it takes to dial a port on which both sides show a server certificate.
pub(super) struct MutualDialing {
    /// The port that is dialled.
    pub(super) port: Port,
    pub(super) network: Arc<dyn Network>,
    pub(super) identity: Arc<ServerIdentity>,
    pub(super) clock: TlsClock,
    pub(super) metrics: Arc<Metrics>,
    /// Who looks on.
    pub(super) taps: Option<Taps>,
}

impl MutualDialing {
    /// Connects to whom the rule lets in at `host:port`, and counts a refusal.
    pub(super) async fn connect(
        &self,
        rule: Arc<dyn LiveRule>,
        address: &str,
    ) -> io::Result<Guarded<TlsStream<BoxedStream>>> {
        let connected = self.verified(rule, address).await;
        if let Some(refusal) = connected.as_ref().err().and_then(PeerRefusal::inside) {
            self.metrics.count_refused_handshake(self.port, refusal.code());
        }
        connected
    }

    async fn verified(&self, rule: Arc<dyn LiveRule>, address: &str) -> io::Result<Guarded<TlsStream<BoxedStream>>> {
        let connecting = self.network.connect(address);
        let stream = timeout(CONNECT_TIMEOUT, connecting).await.map_err(timed_out)??;
        let config = mutual_client(self.identity.clone(), rule.clone(), &self.clock);
        let handshake = TlsConnector::from(config).connect(any_name(), stream);
        let stream = timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(timed_out)??;
        let peer = PeerConnection::of(stream.get_ref().1, rule, PeerSide::Server, &self.clock)?;
        if let Acceptance::RecordedKey { not_after } = peer.server.acceptance {
            warn!(server = %peer.server.id, %not_after, "a peer's certificate has expired; it was accepted as the recorded one or a newer one");
            self.metrics.count_expired_peer();
        }
        Ok(Guarded::new(stream, peer.ended(), self.taps.as_ref().map(|taps| taps(self.port))))
    }
}
