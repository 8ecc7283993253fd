//! Accepts connections for all ports: bounded before anything is read, one task for each handshake, and who the peer is
//! handed on with the connection.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use carrack_raft::ports::BoxedStream;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{debug, info, warn};

use super::{
    HANDSHAKE_TIMEOUT,
    client::{Alpn, timed_out},
    clock::TlsClock,
    config::{agents_server, mutual_server, public_server},
    connection::{Connection, Transport},
    counted::{Admitted, Connections},
    guarded::{Guarded, PeerConnection},
    identity::ServerIdentity,
    key_holder::shown_key,
    peer::{Acceptance, PeerIdentity, PeerRefusal, VerifiedServer},
    rule::{LiveRule, PeerSide},
    tap::Taps,
    trust::ServerTrust,
    verifier::MemberVerifier,
    wan_trust::WanTrust,
    wan_verifier::WanVerifier,
};
use crate::{
    network::Listen,
    telemetry::{labels::Port, metrics::Metrics},
};

/// How long to wait after the system refused to accept, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The most handshakes at a time: each takes about a millisecond of one core, and silent ones end after their timeout.
const HANDSHAKES_MAX: usize = 128;

/// The bounds of one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections of one client address.
    pub connections_per_address: usize,
    /// Open connections of all clients.
    pub connections: usize,
    /// Handshakes at a time. When they are all taken, new connections wait in the listener's backlog.
    pub handshakes: usize,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
}

impl Limits {
    /// Raft: each member keeps a few connections, and there are at most eleven.
    pub const RAFT: Self = Self { connections: 256, ..Self::RPC };
    /// WAN: of 64 other datacenters, three to five servers each, with two or three connections each: for what they
    /// follow and for the rest. One address may be the router of a whole datacenter, which has at most eleven servers.
    pub const WAN: Self = Self { connections: 1024, ..Self::RPC };
    /// gRPC: Consul's 100 for each client. In all, an agent on each of 8,192 hosts; a TLS connection takes about 40 KiB.
    pub const RPC: Self = Self {
        connections_per_address: 100,
        connections: 8192,
        handshakes: HANDSHAKES_MAX,
        handshake_timeout: HANDSHAKE_TIMEOUT,
    };
    /// HTTP: Consul's 200 for each client, because each blocking query takes one.
    pub const HTTP: Self = Self { connections_per_address: 200, ..Self::RPC };
    /// On loopback every client has the same address, which therefore says nothing: one that holds many must not shut out the others.
    pub const LOOPBACK: Self = Self { connections_per_address: Self::RPC.connections, ..Self::RPC };
}

/// What a port asks of its peers.
enum Security {
    /// Nothing: loopback and metrics only.
    Plain,
    /// The server shows its certificate.
    Public(TlsAcceptor),
    /// The same, and an agent shows that it has its key.
    Agents(TlsAcceptor),
    /// Both show server certificates, and the rule decides on the peer's.
    Mutual { tls: TlsAcceptor, rule: Arc<dyn LiveRule>, clock: TlsClock, taps: Option<Taps> },
}

/// Accepts the connections of one port.
pub struct Acceptor {
    shared: Arc<Shared>,
    handshakes_max: usize,
}

struct Shared {
    handshake_timeout: Duration,
    port: Port,
    security: Security,
    connections: Arc<Connections>,
    metrics: Arc<Metrics>,
}

impl Acceptor {
    /// For the Raft port: servers of this cluster only, shown by their certificates.
    pub fn members(
        identity: Arc<ServerIdentity>,
        trust: Arc<ServerTrust>,
        clock: TlsClock,
        limits: Limits,
        metrics: Arc<Metrics>,
        taps: Option<Taps>,
    ) -> Self {
        Self::mutual(Port::Raft, identity, Arc::new(MemberVerifier::new(trust, None)), clock, limits, metrics, taps)
    }

    /// For the WAN port: servers of other datacenters that are trusted only, shown by their certificates.
    pub fn wan(
        identity: Arc<ServerIdentity>,
        trust: Arc<WanTrust>,
        clock: TlsClock,
        limits: Limits,
        metrics: Arc<Metrics>,
        taps: Option<Taps>,
    ) -> Self {
        Self::mutual(Port::Wan, identity, Arc::new(WanVerifier::new(trust, None)), clock, limits, metrics, taps)
    }

    fn mutual(
        port: Port,
        identity: Arc<ServerIdentity>,
        rule: Arc<dyn LiveRule>,
        clock: TlsClock,
        limits: Limits,
        metrics: Arc<Metrics>,
        taps: Option<Taps>,
    ) -> Self {
        let tls = TlsAcceptor::from(mutual_server(identity, rule.clone(), &clock));
        Self::new(port, Security::Mutual { tls, rule, clock, taps }, limits, metrics)
    }

    /// For a client-facing port: the server shows its certificate, clients show none.
    pub fn public(
        port: Port,
        identity: Arc<ServerIdentity>,
        clock: &TlsClock,
        alpn: Alpn,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Self {
        let config: Arc<ServerConfig> = public_server(identity, clock, alpn);
        Self::new(port, Security::Public(TlsAcceptor::from(config)), limits, metrics)
    }

    /// For the port of agents and joiners: the server shows its certificate, an agent shows its key, others show nothing.
    pub fn agents(identity: Arc<ServerIdentity>, clock: &TlsClock, limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self::new(Port::Grpc, Security::Agents(TlsAcceptor::from(agents_server(identity, clock))), limits, metrics)
    }

    /// For a port without TLS, which must be bound to loopback or carry nothing secret.
    pub fn plain(port: Port, limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self::new(port, Security::Plain, limits, metrics)
    }

    fn new(port: Port, security: Security, limits: Limits, metrics: Arc<Metrics>) -> Self {
        let gauge = metrics.connections(port);
        let connections = Connections::new(limits.connections_per_address, limits.connections, gauge);
        let handshake_timeout = limits.handshake_timeout;
        let shared = Arc::new(Shared { handshake_timeout, port, security, connections, metrics });
        Self { shared, handshakes_max: limits.handshakes }
    }

    /// Accepts until `accepted`'s receiver is gone. Failed handshakes are counted and never reach it.
    pub async fn run(self, mut listener: Box<dyn Listen>, accepted: mpsc::Sender<io::Result<Connection<BoxedStream>>>) {
        let mut handshakes = JoinSet::new();
        while !accepted.is_closed() {
            tokio::select! {
                biased;
                () = accepted.closed() => return,
                Some(_) = handshakes.join_next(), if !handshakes.is_empty() => {}
                next = listener.accept(), if handshakes.len() < self.handshakes_max => match next {
                    Ok((stream, address)) => {
                        if let Some(admitted) = self.admit(address) {
                            let (shared, accepted) = (self.shared.clone(), accepted.clone());
                            handshakes.spawn(async move { shared.welcome(stream, address, admitted, accepted).await });
                        }
                    }
                    Err(error) => {
                        warn!(port = %self.shared.port, %error, "the system accepts no connection; trying again");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    fn admit(&self, address: SocketAddr) -> Option<Admitted> {
        match self.shared.connections.admit(address.ip()) {
            Ok(admitted) => Some(admitted),
            Err(too_many) => {
                debug!(port = %self.shared.port, %address, reason = too_many.code(), "connection refused");
                self.shared.metrics.count_refused_connection(self.shared.port, too_many.code());
                None
            }
        }
    }
}

impl Shared {
    async fn welcome<S>(
        &self,
        stream: S,
        address: SocketAddr,
        admitted: Admitted,
        accepted: mpsc::Sender<io::Result<Connection<S>>>,
    ) where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        match self.connect(stream, address).await {
            Ok((stream, peer)) => {
                if accepted.send(Ok(Connection::new(stream, peer, admitted))).await.is_err() {
                    debug!(port = %self.port, %address, "the port closed during a handshake");
                }
            }
            Err(error) => self.refuse(address, &error),
        }
    }

    async fn connect<S>(&self, stream: S, address: SocketAddr) -> io::Result<(Guarded<Transport<S>>, PeerIdentity)>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        match &self.security {
            Security::Plain => Ok((
                Guarded::unguarded(Transport::Plain(stream)),
                PeerIdentity { address, server: None, agent_key: None },
            )),
            Security::Public(tls) => {
                let stream = self.handshake(tls, stream).await?;
                let peer = PeerIdentity { address, server: None, agent_key: None };
                Ok((Guarded::unguarded(Transport::Tls(Box::new(stream))), peer))
            }
            Security::Agents(tls) => {
                let stream = self.handshake(tls, stream).await?;
                let peer = PeerIdentity { address, server: None, agent_key: shown_key(stream.get_ref().1) };
                Ok((Guarded::unguarded(Transport::Tls(Box::new(stream))), peer))
            }
            Security::Mutual { tls, rule, clock, taps } => {
                let stream = self.handshake(tls, stream).await?;
                let peer = PeerConnection::of(stream.get_ref().1, rule.clone(), PeerSide::Client, clock)?;
                self.alarm_if_expired(&peer.server);
                let server = Some(Arc::new(peer.server.id.clone()));
                let tap = taps.as_ref().map(|taps| taps(self.port));
                let stream = Guarded::new(Transport::Tls(Box::new(stream)), peer.ended(), tap);
                Ok((stream, PeerIdentity { address, server, agent_key: None }))
            }
        }
    }

    async fn handshake<S>(&self, tls: &TlsAcceptor, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        timeout(self.handshake_timeout, tls.accept(stream)).await.map_err(timed_out)?
    }

    fn alarm_if_expired(&self, server: &VerifiedServer) {
        if let Acceptance::RecordedKey { not_after } = server.acceptance {
            warn!(server = %server.id, %not_after, "a peer's certificate has expired; it was accepted as the recorded one or a newer one");
            self.metrics.count_expired_peer();
        }
    }

    fn refuse(&self, address: SocketAddr, error: &io::Error) {
        let refusal = PeerRefusal::inside(error);
        let code = match refusal {
            Some(refusal) => refusal.code(),
            None if error.kind() == io::ErrorKind::TimedOut => "timeout",
            None => "tls",
        };
        self.metrics.count_refused_handshake(self.port, code);
        match refusal {
            Some(refusal) => info!(port = %self.port, %address, %refusal, "a peer was refused"),
            None => debug!(port = %self.port, %address, %error, "a handshake failed"),
        }
    }
}

#[cfg(test)]
mod tests;
