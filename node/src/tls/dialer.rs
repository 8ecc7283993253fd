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
    config::member_client,
    guarded::{Guarded, MemberConnection},
    identity::ServerIdentity,
    peer::{Acceptance, PeerRefusal},
    trust::ServerTrust,
    verifier::{MemberVerifier, PeerSide},
};
use crate::{
    network::Network,
    telemetry::{labels::Port, metrics::Metrics},
};

/// Dials the other servers of this cluster.
#[derive(Clone)]
pub struct ServerDialer {
    shared: Arc<Shared>,
}

struct Shared {
    network: Arc<dyn Network>,
    identity: Arc<ServerIdentity>,
    trust: Arc<ServerTrust>,
    clock: TlsClock,
    metrics: Arc<Metrics>,
}

impl ServerDialer {
    /// Dials over `network`, showing `identity`, and believing `trust`.
    pub fn new(
        network: Arc<dyn Network>,
        identity: Arc<ServerIdentity>,
        trust: Arc<ServerTrust>,
        clock: TlsClock,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { shared: Arc::new(Shared { network, identity, trust, clock, metrics }) }
    }

    /// Connects to server `node` at `host:port`. The error of a refused peer holds a [`PeerRefusal`].
    pub async fn connect(&self, node: NodeId, address: &str) -> io::Result<Guarded<TlsStream<BoxedStream>>> {
        let connected = self.shared.connect(node, address).await;
        if let Some(refusal) = connected.as_ref().err().and_then(PeerRefusal::inside) {
            self.shared.metrics.count_refused_handshake(Port::Raft, refusal.code());
        }
        connected
    }
}

impl Shared {
    async fn connect(&self, node: NodeId, address: &str) -> io::Result<Guarded<TlsStream<BoxedStream>>> {
        let connecting = self.network.connect(address);
        let stream = timeout(CONNECT_TIMEOUT, connecting).await.map_err(timed_out)??;
        let config = member_client(self.identity.clone(), self.verifier(node), &self.clock);
        let handshake = TlsConnector::from(config).connect(any_name(), stream);
        let stream = timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(timed_out)??;
        let member = self.member(&stream, node)?;
        if let Acceptance::RecordedKey { not_after } = member.server.acceptance {
            warn!(server = %member.server.id, %not_after, "a peer's certificate has expired; it was accepted as the recorded one or a newer one");
            self.metrics.count_expired_peer();
        }
        Ok(Guarded::new(stream, member.ended()))
    }

    fn verifier(&self, node: NodeId) -> MemberVerifier {
        MemberVerifier::new(self.trust.clone(), Some(node))
    }

    fn member(&self, stream: &TlsStream<BoxedStream>, node: NodeId) -> io::Result<MemberConnection> {
        let presented = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
        let (verifier, side) = (self.verifier(node), PeerSide::Server);
        let verified = verifier.verify(&presented, self.clock.now(), side);
        let server = verified.map_err(|refusal| io::Error::new(io::ErrorKind::InvalidData, refusal))?;
        let (trust, clock) = (self.trust.clone(), self.clock.clone());
        Ok(MemberConnection { server, presented, verifier, trust, side, clock })
    }
}
