//! The WAN port (8302): what servers of other datacenters may ask for. Who they are, their certificate has shown; what they may ask for
//! is about their own datacenter alone, or carries a client's own token.

mod calls;
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
        BadMessage, cursor_from_wire, der_from_wire, der_to_wire, key_id_from_wire, name_from_wire, table_from_wire,
    },
    wan::{
        AnnounceRequest, AnnounceResponse, FollowRequest, FollowResponse, SignIssuerRequest, SignIssuerResponse,
        wan_server,
    },
};
use futures::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status, service::interceptor::InterceptedService, transport::Server};

pub(crate) use self::calls::calls;
use crate::{
    api::grpc::{PENDING_RESETS_MAX, STREAMS_PER_CONNECTION_MAX},
    server::wan::ReplicaLog,
    tls::wan_port::{PeerDatacenter, name_datacenter},
};

/// The largest message: some records of a table, or a client's request with its body.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How often an idle connection is probed, and how long it has to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The most streams of all followers: each of 64 datacenters has four, and twice that while leadership moves there.
const STREAMS_MAX: usize = 512;
/// The most signatures at once: each takes about a millisecond of the root's key.
const SIGNATURES_MAX: usize = 16;

/// What the service needs.
pub(crate) struct WanParts {
    /// The replicated log.
    pub(crate) log: Arc<ReplicaLog>,
    /// Whoever keeps the roots' keys.
    pub(crate) signer: Arc<dyn IssuerSigner>,
}

/// The service on one server.
pub(crate) struct WanService {
    parts: WanParts,
    streams: Arc<Semaphore>,
    signatures: Semaphore,
}

impl WanService {
    pub(crate) fn new(parts: WanParts) -> Self {
        Self { parts, streams: Arc::new(Semaphore::new(STREAMS_MAX)), signatures: Semaphore::new(SIGNATURES_MAX) }
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
pub(crate) fn service(
    service: WanService,
) -> InterceptedService<wan_server::WanServer<WanService>, fn(Request<()>) -> Result<Request<()>, Status>> {
    let server = wan_server::WanServer::new(service);
    let server = server.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX);
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
        let place = self.signatures.try_acquire();
        let _place =
            place.map_err(|_| Status::resource_exhausted("too many issuers are being signed, try again later"))?;
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
        let place = self.streams.clone().try_acquire_owned();
        let place: OwnedSemaphorePermit =
            place.map_err(|_| Status::resource_exhausted("this server has too many followers: ask another one"))?;
        tracing::debug!(datacenter = %peer.datacenter, server = %peer.node, %table, revision = %from.revision, "a table is followed");
        let heard = primary::follow(self.parts.log.clone(), table, from);
        Ok(Response::new(tables::responses(heard, place)))
    }

    async fn announce(&self, request: Request<AnnounceRequest>) -> Result<Response<AnnounceResponse>, Status> {
        let peer = peer(&request)?;
        let message = request.into_inner();
        let facts = DatacenterFacts {
            name: peer.datacenter,
            cluster: peer.cluster,
            server_roots: message.server_roots.iter().map(|der| der_from_wire(der)).collect(),
            wan_addresses: message.wan_addresses,
        };
        let command = Command::AnnounceDatacenter(Box::new(facts));
        let outcome = self.parts.log.propose(command, crate::server::PROPOSE_WITHIN).await;
        let outcome = outcome.map_err(|error| Status::unavailable(error.to_string()))?;
        outcome.accepted().map_err(|rejection| Status::failed_precondition(rejection.to_string()))?;
        Ok(Response::new(AnnounceResponse {}))
    }
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
