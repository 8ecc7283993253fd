//! The attacker at the ports on which servers speak to each other: with a workload's leaf, with a server certificate of his own CA,
//! with none. That any call is answered is the violation `leaf_is_no_server`.

use std::{io, sync::Arc};

use carrack::{network::Network, tls::clock::TlsClock};
use carrack_authority::{
    id::Serial,
    x509::{
        CertificateAuthority, ServerId, VerifiedServerCsr,
        server::{ServerProfile, ServerRootProfile, server, server_root},
    },
};
use carrack_proto::{
    raft::{ReadClockRequest, ReadIndexRequest, raft_client::RaftClient},
    wan::{CallRequest, calls_client::CallsClient},
};
use futures::{FutureExt, future::BoxFuture};
use hyper_util::rt::TokioIo;
use rand::{RngExt, seq::IteratorRandom};
use rustls::{ClientConfig, sign::SingleCertAndKey};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::{
    Status,
    transport::{Channel, Endpoint, Uri},
};

use super::{Attacker, TRY_WITHIN, blind::client};
use crate::{
    marks::Mark,
    workloads::{
        ANSWER_WITHIN,
        handshake::{LeafKey, certified},
    },
    world::network::SimulatedNetwork,
};

/// The ports on which servers speak to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerPort {
    Raft,
    Wan,
}

impl ServerPort {
    const fn number(self) -> u16 {
        match self {
            Self::Raft => 8300,
            Self::Wan => 8302,
        }
    }
}

/// The life of a made-up certificate.
const LIFE: std::time::Duration = std::time::Duration::from_secs(86_400);

impl Attacker {
    pub(super) async fn speak_as_server(&mut self) -> (&'static str, String) {
        let (what, shown) = match self.worker.random.random_range(0..3) {
            0 => ("a leaf on a port of servers", self.stolen_leaf()),
            1 => ("a server certificate of another CA on a port of servers", self.made_up()),
            _ => ("no certificate on a port of servers", None),
        };
        let is_federation = self.worker.shared.scenario.datacenters() > 1;
        let port =
            if is_federation && self.worker.random.random_ratio(1, 2) { ServerPort::Wan } else { ServerPort::Raft };
        let host = self.worker.any_server();
        let answered = timeout(TRY_WITHIN, self.call(port, &host, shown)).await;
        let came_of_it = match answered {
            Ok(Ok(call)) => {
                self.worker.shared.violate("leaf_is_no_server", format!("{host} answers {call} to {what}"));
                "answered".into()
            }
            Ok(Err(status)) => {
                let cause = first_cause(&status);
                // The connection was there and the server ended it: nothing else is a refusal.
                if cause.contains("received fatal alert") {
                    self.worker.shared.mark(match port {
                        ServerPort::Raft => Mark::RaftPortRefused,
                        ServerPort::Wan => Mark::WanPortRefused,
                    });
                }
                cause
            }
            Err(_) => "no answer".into(),
        };
        (what, came_of_it)
    }

    fn stolen_leaf(&mut self) -> Option<SingleCertAndKey> {
        let leaf = self.worker.shared.book().leaves.values().choose(&mut self.worker.random).cloned()?;
        Some(certified(std::iter::once(&leaf.certificate).chain(&leaf.chain), &leaf.key))
    }

    /// A certificate that names a real server, by a root that looks like the real one.
    fn made_up(&mut self) -> Option<SingleCertAndKey> {
        let now = self.worker.shared.clock.now();
        let any = self.worker.shared.servers.values().find_map(|server| server.context())?;
        let own = &any.identity;
        let (root_key, key) = (self.new_key(), self.new_key());
        let serial = || Serial::from_random([7; 20]);
        let profile = ServerRootProfile {
            cluster: &own.cluster,
            datacenter: &own.datacenter,
            serial: serial(),
            now,
            ttl: LIFE * 2,
        };
        let root = server_root(&*root_key, &profile).ok()?;
        let authority = CertificateAuthority::new(root.der.clone(), root_key).ok()?;
        let id = ServerId { cluster: own.cluster, datacenter: own.datacenter.clone(), node: own.node };
        let csr = VerifiedServerCsr::of_own_key(&*key);
        let profile =
            ServerProfile { csr: &csr, id: &id, dns_names: &[], ip_addresses: &[], serial: serial(), now, ttl: LIFE };
        let certificate = server(&authority, &profile).ok()?;
        Some(certified([&certificate.der, &root.der], &LeafKey(key)))
    }

    /// Makes calls that every server can answer; which one was.
    async fn call(
        &self,
        port: ServerPort,
        host: &str,
        shown: Option<SingleCertAndKey>,
    ) -> Result<&'static str, Status> {
        let clock = self.worker.shared.clock.clone();
        let config: Arc<ClientConfig> = client(shown, TlsClock::new(move || clock.now()));
        let address = format!("{host}:{}", port.number());
        let dial = move || {
            let (connector, address) = (TlsConnector::from(config.clone()), address.clone());
            async move {
                let stream = SimulatedNetwork.connect(&address).await?;
                let name = rustls::pki_types::ServerName::try_from("server.invalid").expect("it is a DNS name");
                connector.connect(name, stream).await
            }
            .boxed()
        };
        let channel = channel(dial).await?;
        if port == ServerPort::Wan {
            let path = "/v1/status/leader".to_owned();
            let mut request = tonic::Request::new(CallRequest {
                method: "GET".into(),
                path_and_query: path,
                ..CallRequest::default()
            });
            request.set_timeout(ANSWER_WITHIN);
            return CallsClient::new(channel).call(request).await.map(|_| "Call");
        }
        let mut client = RaftClient::new(channel);
        let mut request = tonic::Request::new(ReadClockRequest {});
        request.set_timeout(ANSWER_WITHIN);
        if client.read_clock(request).await.is_ok() {
            return Ok("ReadClock");
        }
        client.read_index(ReadIndexRequest {}).await.map(|_| "ReadIndex")
    }
}

/// The error that all others come from.
fn first_cause(error: &dyn std::error::Error) -> String {
    let mut first = error;
    while let Some(cause) = first.source() {
        first = cause;
    }
    first.to_string()
}

/// A gRPC channel over connections that `dial` opens.
pub(super) async fn channel<S, D>(dial: D) -> Result<Channel, Status>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    D: Fn() -> BoxFuture<'static, io::Result<S>> + Send + 'static,
{
    let connect = tower::service_fn(move |_: Uri| dial().map(|dialled| dialled.map(TokioIo::new)));
    let endpoint = Endpoint::from_static("https://server.carrack.invalid");
    endpoint.connect_with_connector(connect).await.map_err(|error| Status::unavailable(error.to_string()))
}
