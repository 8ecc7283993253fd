//! The ports of a server: bound before anything else is done, served when everything is there, closed first when it stops.

use std::{io, net::SocketAddr, sync::Arc};

use carrack_raft::ports::BoxedStream;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;

use super::{Stop, Tasks, context::Context, transport::Transport};
use crate::{
    api::{
        grpc, http,
        wan::{self, WanService},
    },
    config,
    network::{Listen, Network},
    telemetry::labels::Port,
    tls::{
        acceptor::{Acceptor, Limits},
        client::Alpn,
        clock::TlsClock,
        connection::Connection,
        raft_port::name_peer,
    },
};

/// Accepted connections that wait to be served: a burst while the server is busy.
const ACCEPTED_MAX: usize = 64;

/// A port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {port}: set `listen.{port}` to another address, or stop what uses this one")]
pub struct ListenError {
    /// Which port.
    pub port: Port,
    /// The address.
    pub address: SocketAddr,
    /// What the operating system said.
    pub source: io::Error,
}

/// The opened ports.
pub(super) struct Bound {
    raft: Box<dyn Listen>,
    wan: Option<Box<dyn Listen>>,
    grpc: Box<dyn Listen>,
    http: Option<Box<dyn Listen>>,
    https: Option<Box<dyn Listen>>,
    metrics: Option<Box<dyn Listen>>,
}

type Accepted = ReceiverStream<io::Result<Connection<BoxedStream>>>;

impl Bound {
    /// Opens every port, or says which one cannot be.
    pub(super) async fn bind(network: &dyn Network, listen: &config::Listen) -> Result<Self, ListenError> {
        Ok(Self {
            raft: bind(network, Port::Raft, listen.raft).await?,
            grpc: bind(network, Port::Grpc, listen.grpc).await?,
            wan: bind_if(network, Port::Wan, listen.wan).await?,
            http: bind_if(network, Port::Http, listen.http).await?,
            https: bind_if(network, Port::Https, listen.https).await?,
            metrics: bind_if(network, Port::Metrics, listen.metrics).await?,
        })
    }

    /// Serves every port until it is told to stop.
    pub(super) fn serve(
        self,
        context: &Arc<Context>,
        transport: &Arc<Transport>,
        clock: &TlsClock,
        wan: WanService,
        stop: &Stop,
        tasks: &mut Tasks,
    ) {
        let stopped = stop.all_but_raft.subscribe();
        let Tasks { all_but_raft: tasks, raft_port } = tasks;
        let metrics = &context.metrics;
        let (identity, trust) = (&transport.identity, &transport.trust);
        let public =
            |port, alpn, limits| Acceptor::public(port, identity.clone(), clock, alpn, limits, metrics.clone());
        let (limits, taps) = (Limits::RAFT, transport.taps.clone());
        let members =
            Acceptor::members(identity.clone(), trust.clone(), clock.clone(), limits, metrics.clone(), taps.clone());
        let accepted = accept(members, self.raft, raft_port);
        raft_port.spawn(serve_raft(context.clone(), accepted, stop.raft_port.subscribe()));
        let agents = Acceptor::agents(identity.clone(), clock, Limits::RPC, metrics.clone());
        let accepted = accept(agents, self.grpc, tasks);
        tasks.spawn(serve_grpc(context.clone(), accepted, stopped.clone()));
        let edge = http::Edge::new(context.clone());
        if let Some(listener) = self.wan {
            let (trust, metrics) = (transport.wan_trust.clone(), metrics.clone());
            let others = Acceptor::wan(identity.clone(), trust, clock.clone(), Limits::WAN, metrics, taps);
            let accepted = accept(others, listener, tasks);
            tasks.spawn(serve_wan(wan, edge.clone(), accepted, stopped.clone()));
        }
        let plain = |port, limits| Acceptor::plain(port, limits, metrics.clone());
        for (listener, acceptor, kind) in [
            (self.https, public(Port::Https, Alpn::Http2OrHttp1, Limits::HTTP), http::Listener::Https),
            (self.http, plain(Port::Http, Limits::LOOPBACK), http::Listener::LoopbackHttp),
            (self.metrics, plain(Port::Metrics, Limits::HTTP), http::Listener::Monitoring),
        ] {
            if let Some(listener) = listener {
                let accepted = accept(acceptor, listener, tasks);
                tasks.spawn(http::serve::serve(http::router(&edge, kind), accepted, stopped.clone()));
            }
        }
        tasks.spawn(keep_leaves_fresh(edge, stopped));
    }
}

async fn bind(network: &dyn Network, port: Port, address: SocketAddr) -> Result<Box<dyn Listen>, ListenError> {
    network.listen(address).await.map_err(|source| ListenError { port, address, source })
}

async fn bind_if(
    network: &dyn Network,
    port: Port,
    address: Option<SocketAddr>,
) -> Result<Option<Box<dyn Listen>>, ListenError> {
    match address {
        Some(address) => bind(network, port, address).await.map(Some),
        None => Ok(None),
    }
}

/// Runs the acceptor; it ends when whoever serves the connections does.
fn accept(acceptor: Acceptor, listener: Box<dyn Listen>, tasks: &mut JoinSet<()>) -> Accepted {
    let (accepted, connections) = mpsc::channel(ACCEPTED_MAX);
    tasks.spawn(acceptor.run(listener, accepted));
    ReceiverStream::new(connections)
}

async fn serve_raft(context: Arc<Context>, accepted: Accepted, stopped: watch::Receiver<bool>) {
    let service = InterceptedService::new(context.replica.service(), name_peer);
    let serving = grpc::limited_server().add_service(service).serve_with_incoming_shutdown(accepted, ended(stopped));
    if let Err(error) = serving.await {
        tracing::error!(%error, "the Raft port is not served any more");
    }
}

async fn serve_grpc(context: Arc<Context>, accepted: Accepted, stopped: watch::Receiver<bool>) {
    let routes = grpc::routes(&context);
    let serving = grpc::limited_server().add_routes(routes).serve_with_incoming_shutdown(accepted, ended(stopped));
    if let Err(error) = serving.await {
        tracing::error!(%error, "the gRPC port is not served any more");
    }
}

async fn serve_wan(service: WanService, edge: Arc<http::Edge>, accepted: Accepted, stopped: watch::Receiver<bool>) {
    let calls = wan::calls(&edge, service.parts());
    let server = wan::limited_server().add_service(wan::service(service)).add_service(calls);
    if let Err(error) = server.serve_with_incoming_shutdown(accepted, ended(stopped)).await {
        tracing::error!(%error, "the WAN port is not served any more");
    }
}

async fn keep_leaves_fresh(edge: Arc<http::Edge>, stopped: watch::Receiver<bool>) {
    tokio::select! {
        () = edge.keep_leaves_fresh() => {}
        () = ended(stopped) => {}
    }
}

async fn ended(mut stopped: watch::Receiver<bool>) {
    // An error means that the server itself is gone: that is an end too.
    drop(stopped.wait_for(|stopped| *stopped).await);
}
