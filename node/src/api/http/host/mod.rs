//! What an agent answers the workloads of its host, from memory: the routes of Consul's agent, in the shapes and with the checks of a
//! server's.

mod authorize;
mod cache;
mod health;
mod leaf;
mod roots;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    body::Bytes,
    extract::{ConnectInfo, Request},
    http::Method,
    response::{IntoResponse, Response},
    routing::any,
};
use carrack_proto::convert::agent::RightsTold;
use carrack_raft::ports::Entropy;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::{
    answer, body,
    dispatch::{is_loopback, refuse_web_pages, variable},
    error::HttpError,
    not_here,
    parameters::{Parameters, WAIT_DEFAULT},
};
use crate::{
    agent::{
        directory::AgentIdentity,
        followed::{Followed, UnknownError},
        leaf_cache::LeafCache,
    },
    telemetry::metrics::Metrics,
};

/// How long a token that is not known here may take to be judged by a server.
const RIGHTS_WITHIN: Duration = Duration::from_secs(5);
/// A blocking query's wait is lengthened by up to this part of it, so that queries that began together part.
const WAIT_JITTER_PART: u32 = 16;

/// What an agent answers from.
pub struct HostEdge {
    pub(crate) identity: AgentIdentity,
    pub(crate) followed: Arc<Followed>,
    pub(crate) leaves: Arc<LeafCache>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

/// A request that was admitted to its route.
struct HostCall {
    edge: Arc<HostEdge>,
    parameters: Parameters,
    variable: Option<String>,
    body: Bytes,
}

type Handler = fn(HostCall) -> BoxFuture<'static, Result<Response, HttpError>>;
/// The methods of a path, and what answers them.
type Route = (&'static [Method], &'static str, Handler);

/// Every route. Whatever needs a token asks [`HostCall::rights`] for it; the others are public, as on a server.
static ROUTES: &[Route] = &[
    // PUT is py-consul's method for it.
    (&[Method::POST, Method::PUT], "/v1/agent/connect/authorize", |call| Box::pin(authorize::answer(call))),
    (&[Method::GET], "/v1/agent/connect/ca/roots", |call| Box::pin(roots::read(call))),
    (&[Method::GET], "/v1/connect/ca/roots", |call| Box::pin(roots::read(call))),
    (&[Method::GET], "/v1/agent/connect/ca/leaf/{service}", |call| Box::pin(leaf::read(call))),
    (&[Method::GET], "/v1/agent/self", |call| Box::pin(cache::about(call))),
    (&[Method::GET], "/v1/agent/metrics", |call| Box::pin(health::agent_metrics(call))),
    (&[Method::GET], "/v1/carrack/agent/cache", |call| Box::pin(cache::read(call))),
    (&[Method::GET], "/metrics", |call| Box::pin(health::metrics(call))),
    (&[Method::GET], "/livez", |call| Box::pin(health::live(call))),
    (&[Method::GET], "/readyz", |call| Box::pin(health::ready(call))),
];

/// The routes of an agent's listener.
pub fn router(edge: &Arc<HostEdge>) -> axum::Router {
    let mut router = axum::Router::new();
    for route in ROUTES {
        let (edge, path) = (edge.clone(), route.1);
        let answer = move |request: Request| respond(edge.clone(), Some(route), request);
        router = router.route(path, any(answer));
    }
    let edge = edge.clone();
    router.fallback(move |request: Request| respond(edge.clone(), None, request))
}

async fn respond(edge: Arc<HostEdge>, route: Option<&'static Route>, request: Request) -> Response {
    let (method, path) = (request.method().clone(), route.map_or("unknown", |(_, path, _)| path));
    let answered = match route {
        Some(route) => answer(edge, route, request).await,
        None => Err(not_here::explain(request.uri().path())),
    };
    let mut response = answered.unwrap_or_else(|error| {
        tracing::debug!(%method, path, "request refused: {error}");
        error.into_response()
    });
    answer::add_default_policy(&mut response);
    response
}

async fn answer(edge: Arc<HostEdge>, route: &Route, mut request: Request) -> Result<Response, HttpError> {
    let (methods, _, handler) = route;
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer);
    if !peer.is_some_and(is_loopback) {
        return Err(HttpError::PermissionDenied("an agent serves clients on its own machine alone".into()));
    }
    refuse_web_pages(request.method(), request.headers())?;
    if !methods.contains(request.method()) {
        let allowed: Vec<_> = methods.iter().map(Method::as_str).collect();
        let (method, allowed) = (request.method().to_string(), allowed.join(", "));
        return Err(HttpError::MethodNotAllowed { method, allowed });
    }
    let variable = variable(&mut request).await?;
    let (parts, body) = request.into_parts();
    let parameters = Parameters::read(&parts.uri, &parts.headers, edge.identity.datacenter.as_str())?;
    if let Some(datacenter) = &parameters.other_datacenter {
        return Err(HttpError::BadRequest(format!(
            "`dc` names the datacenter `{}`, but this is about the machine that is asked: ask a server or agent there",
            datacenter.escape_default()
        )));
    }
    let body = body::read(body, &parts.headers, body::BODY_BYTES_MAX).await?;
    handler(HostCall { edge, parameters, variable, body }).await
}

/// What is not known here, as HTTP has it.
fn of_unknown(error: UnknownError) -> HttpError {
    match error {
        UnknownError::Nobody => HttpError::AclNotFound,
        UnknownError::Refused(reason) => {
            HttpError::PermissionDenied(reason.trim_start_matches("Permission denied: ").to_owned())
        }
        UnknownError::Unavailable(_) | UnknownError::NoAnswer(_) => HttpError::Unavailable(error.to_string()),
    }
}

impl HostCall {
    /// Refuses to answer while what is known here may be of before the agent started or slept, or staler than the request takes.
    fn fresh(&self) -> Result<(), HttpError> {
        let followed = &self.edge.followed;
        if let Some(reason) = followed.not_fresh() {
            return Err(HttpError::Unavailable(reason));
        }
        self.parameters.take_staleness(followed.staleness(), || {
            let trouble = followed.heard().trouble.unwrap_or_else(|| "they are silent".into());
            format!("no server is heard: {trouble}")
        })
    }

    /// What the caller's token may do.
    async fn rights(&self) -> Result<Arc<RightsTold>, HttpError> {
        self.fresh()?;
        let secret = self
            .parameters
            .secret
            .as_ref()
            .ok_or_else(|| HttpError::PermissionDenied("anonymous token: this request needs a token".into()))?;
        let secret = secret.as_uuid().ok_or(HttpError::AclNotFound)?;
        let rights = self.edge.followed.rights(secret, Instant::now() + RIGHTS_WITHIN).await;
        rights.map_err(of_unknown)
    }

    /// Ends when what the caller's token may do is told anew.
    async fn rights_change(&self) {
        match self.parameters.secret.as_ref().and_then(|secret| secret.as_uuid()) {
            Some(secret) => self.edge.followed.rights_change(secret).await,
            None => std::future::pending().await,
        }
    }

    /// How long this request may wait, with its jitter.
    fn wait(&self) -> Duration {
        let wait = self.parameters.wait.filter(|wait| !wait.is_zero()).unwrap_or(WAIT_DEFAULT);
        let mut random = [0; 2];
        self.edge.entropy.fill(&mut random);
        wait + wait / WAIT_JITTER_PART / u32::from(u16::MAX) * u32::from(u16::from_be_bytes(random))
    }

    /// How stale an answer may be, as Consul's agents say it: for how long no server was heard.
    fn age(&self) -> Duration {
        self.edge.followed.staleness()
    }

    /// Refuses who may not read this agent.
    async fn expect_agent_read(&self) -> Result<(), HttpError> {
        let (rights, node) = (self.rights().await?, &self.edge.identity.node);
        if rights.authorizer.agent_read(node.as_str()) {
            return Ok(());
        }
        let accessor = rights.accessor;
        Err(HttpError::PermissionDenied(format!(
            "token with AccessorID '{accessor}' lacks permission 'agent:read' on \"{node}\""
        )))
    }
}
