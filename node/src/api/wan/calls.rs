//! Clients' requests that servers of other datacenters pass on. The client's own token is in them, and is checked here.

use std::sync::Arc;

use axum::Router;
use carrack_proto::wan::{CallRequest, CallResponse, calls_server};
use tokio::{sync::watch, time::sleep};
use tonic::{Request, Response, Status, service::interceptor::InterceptedService};

use super::{MESSAGE_BYTES_MAX, Named, REQUEST_BYTES_MAX, WanParts, ended, malformed, peer, shares::Shares, stopping};
use crate::{
    api::http::{self, Edge, Listener, serve::DRAIN_WITHIN},
    server::datacenters::{request_from_wire, response_to_wire},
    tls::wan_port::name_datacenter,
};

/// The service on one server.
pub(crate) struct Calls {
    edge: Arc<Edge>,
    router: Router,
    shares: Arc<Shares>,
    stopped: watch::Receiver<bool>,
}

impl Calls {
    fn new(edge: Arc<Edge>, parts: &WanParts) -> Self {
        let router = http::router(&edge, Listener::Wan);
        Self { edge, router, shares: parts.shares.clone(), stopped: parts.stopped.clone() }
    }
}

/// The service, told who sends each request.
pub(crate) fn calls(edge: &Arc<Edge>, parts: &WanParts) -> InterceptedService<calls_server::CallsServer<Calls>, Named> {
    let server = calls_server::CallsServer::new(Calls::new(edge.clone(), parts));
    let server = server.max_decoding_message_size(REQUEST_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX);
    InterceptedService::new(server, name_datacenter)
}

#[tonic::async_trait]
impl calls_server::Calls for Calls {
    async fn call(&self, request: Request<CallRequest>) -> Result<Response<CallResponse>, Status> {
        let peer = peer(&request)?;
        let share = self.shares.of(&peer.datacenter);
        let _place = share.call()?;
        let forwarded = request_from_wire(request.into_inner()).map_err(malformed)?;
        tracing::debug!(datacenter = %peer.datacenter, server = %peer.node, request = ?forwarded, "a request is passed on");
        let answer = http::forward::answer_forwarded(&self.edge, &self.router, forwarded);
        // As on the HTTP ports: what is under way has a moment, and a query that waits for a change is cut off.
        let cut_off = async {
            ended(self.stopped.clone()).await;
            sleep(DRAIN_WITHIN).await;
        };
        tokio::select! {
            answered = answer => Ok(Response::new(response_to_wire(answered))),
            () = cut_off => Err(stopping()),
        }
    }
}
