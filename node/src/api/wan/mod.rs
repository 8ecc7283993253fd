//! The WAN port (8302): what servers of other datacenters may ask for. Who they are, their certificate has shown; what they may ask for
//! is about their own datacenter alone, or carries a client's own token.

mod calls;
pub(crate) mod shares;
mod tables;

use std::{pin::Pin, sync::Arc, time::Duration};

use carrack_authority::{Command, federation::DatacenterFacts, x509::ServerId};
use carrack_federation::{
    IssuerSigner, Log,
    ports::IssuerAsked,
    primary::{self, PrimaryError},
};
use carrack_proto::{
    convert::wan::{
        BadMessage, cursor_from_wire, der_from_wire, der_to_wire, key_id_from_wire, name_from_wire,
        rotation::standing_from_wire, servers_from_wire, table_from_wire,
    },
    wan::{
        AnnounceRequest, AnnounceResponse, FollowRequest, FollowResponse, SignIssuerRequest, SignIssuerResponse,
        StandRequest, StandResponse, wan_server,
    },
};
use futures::Stream;
use tokio::sync::watch;
use tonic::{Request, Response, Status, service::interceptor::InterceptedService, transport::Server};

pub(crate) use self::calls::calls;
use self::shares::Shares;
use crate::{
    api::grpc::{PENDING_RESETS_MAX, STREAMS_PER_CONNECTION_MAX},
    server::wan::ReplicaLog,
    tls::wan_port::{PeerDatacenter, name_datacenter},
};

/// The largest message: some records of a table, or a client's request with its body.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The largest request of another datacenter: one of its clients' with the largest body, path and headers that the edge reads. Memory for
/// it is taken before anybody's share is asked.
pub(crate) const REQUEST_BYTES_MAX: usize = 256 * 1024;
/// How often an idle connection is probed, and how long it has to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Tells a service who sends each request.
type Named = fn(Request<()>) -> Result<Request<()>, Status>;

/// What the service needs.
pub(crate) struct WanParts {
    /// The replicated log.
    pub(crate) log: Arc<ReplicaLog>,
    /// Whoever keeps the roots' keys.
    pub(crate) signer: Arc<dyn IssuerSigner>,
    /// What each datacenter may do at once.
    pub(crate) shares: Arc<Shares>,
    /// Turns true when the server stops: what lasts ends then.
    pub(crate) stopped: watch::Receiver<bool>,
}

/// The service on one server.
pub(crate) struct WanService {
    parts: WanParts,
}

impl WanService {
    pub(crate) const fn new(parts: WanParts) -> Self {
        Self { parts }
    }

    /// What the other service of the port needs.
    pub(crate) const fn parts(&self) -> &WanParts {
        &self.parts
    }

    /// Commits what a datacenter says of itself.
    async fn record(&self, command: Command) -> Result<(), Status> {
        let outcome = self.parts.log.propose(command, crate::server::PROPOSE_WITHIN).await;
        let outcome = outcome.map_err(|error| Status::unavailable(error.to_string()))?;
        outcome.accepted().map(drop).map_err(|rejection| Status::failed_precondition(rejection.to_string()))
    }
}

/// A gRPC server with this port's limits. It has no limit on the time of a request: streams last, and blocking queries wait.
pub(crate) fn limited_server() -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
}

/// The service, told who sends each request.
pub(crate) fn service(service: WanService) -> InterceptedService<wan_server::WanServer<WanService>, Named> {
    let server = wan_server::WanServer::new(service);
    let server = server.max_decoding_message_size(REQUEST_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX);
    InterceptedService::new(server, name_datacenter)
}

/// Who sends the request.
fn peer<T>(request: &Request<T>) -> Result<ServerId, Status> {
    let peer = request.extensions().get::<PeerDatacenter>();
    peer.map(|peer| peer.server.clone()).ok_or_else(|| Status::unauthenticated("the sender is not known"))
}

#[tonic::async_trait]
impl wan_server::Wan for WanService {
    type FollowStream = Pin<Box<dyn Stream<Item = Result<FollowResponse, Status>> + Send>>;

    async fn sign_issuer(&self, request: Request<SignIssuerRequest>) -> Result<Response<SignIssuerResponse>, Status> {
        let peer = peer(&request)?;
        let message = request.into_inner();
        let asked = IssuerAsked {
            node: carrack_authority::id::NodeId(message.node_id),
            node_name: name_from_wire("node name", &message.node_name).map_err(malformed)?,
            root: key_id_from_wire("root", &message.root).map_err(malformed)?,
            csr: der_from_wire(&message.csr),
        };
        let share = self.parts.shares.of(&peer.datacenter);
        let _place = share.signature()?;
        let (log, signer) = (&*self.parts.log, &*self.parts.signer);
        let signed = primary::sign_issuer(log, signer, &peer.datacenter, asked).await;
        let certificate = signed.map_err(|error| {
            tracing::info!(datacenter = %peer.datacenter, server = %peer.node, %error, "no issuer was signed");
            status(error)
        })?;
        tracing::info!(datacenter = %peer.datacenter, server = %peer.node, "an issuer was signed");
        Ok(Response::new(SignIssuerResponse { certificate: der_to_wire(&certificate) }))
    }

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        let peer = peer(&request)?;
        let message = request.into_inner();
        let table = table_from_wire(message.table).map_err(malformed)?;
        let from = cursor_from_wire(message.from).map_err(malformed)?;
        let place = self.parts.shares.of(&peer.datacenter).stream()?;
        tracing::debug!(datacenter = %peer.datacenter, server = %peer.node, %table, revision = %from.revision, "a table is followed");
        let heard = primary::follow(self.parts.log.clone(), table, from);
        Ok(Response::new(tables::responses(heard, place, self.parts.stopped.clone())))
    }

    async fn announce(&self, request: Request<AnnounceRequest>) -> Result<Response<AnnounceResponse>, Status> {
        let peer = peer(&request)?;
        self.parts.shares.of(&peer.datacenter).announcement()?;
        let message = request.into_inner();
        let servers = message.servers.as_ref().map(servers_from_wire);
        if let Some(servers) = servers.as_ref().filter(|servers| !servers.present.contains(&peer.node)) {
            let (node, told) = (peer.node, servers.present.len());
            let reason = format!("server {node}, which tells this, is not among the {told} servers that it tells of");
            return Err(Status::failed_precondition(reason));
        }
        let facts = DatacenterFacts {
            name: peer.datacenter.clone(),
            cluster: peer.cluster,
            server_roots: message.server_roots.iter().map(|der| der_from_wire(der)).collect(),
            wan_addresses: message.wan_addresses,
        };
        self.record(Command::AnnounceDatacenter(Box::new(facts))).await?;
        if let Some(servers) = servers {
            let (datacenter, cluster) = (peer.datacenter, peer.cluster);
            self.record(Command::AnnounceServersOf { datacenter, cluster, servers }).await?;
        }
        Ok(Response::new(AnnounceResponse {}))
    }

    async fn stand(&self, request: Request<StandRequest>) -> Result<Response<StandResponse>, Status> {
        let peer = peer(&request)?;
        self.parts.shares.of(&peer.datacenter).standing()?;
        let standing = Box::new(standing_from_wire(request.into_inner()).map_err(malformed)?);
        let (datacenter, cluster) = (peer.datacenter, peer.cluster);
        self.record(Command::AnnounceStanding { datacenter, cluster, standing }).await?;
        Ok(Response::new(StandResponse {}))
    }
}

/// What is said when the server stops: the other side goes to the next server.
fn stopping() -> Status {
    Status::unavailable("this server stops")
}

async fn ended(mut stopped: watch::Receiver<bool>) {
    // An error means that the server itself is gone: that is an end too.
    drop(stopped.wait_for(|stopped| *stopped).await);
}

fn malformed(error: BadMessage) -> Status {
    Status::invalid_argument(error.to_string())
}

/// The one place where the primary's refusals become gRPC's.
fn status(error: PrimaryError) -> Status {
    match error {
        PrimaryError::Unavailable(reason) => Status::unavailable(reason),
        PrimaryError::Refused(reason) => Status::failed_precondition(reason),
    }
}
