//! From a request to its route: who may come in, the method, the token, the body, in this order; then the handler. The one
//! place where an error becomes an answer and is logged.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use axum::{
    RequestExt,
    extract::{ConnectInfo, RawPathParams, Request},
    http::{HeaderMap, Method, Uri, header},
    response::{IntoResponse, Response},
    routing::any,
};
use carrack_authority::{Rejection, spiffe::Name};
use tokio::time::{Duration, Instant, timeout_at};

use super::{
    Edge, Listener,
    access::Caller,
    answer, body,
    call::{Call, of_read},
    error::{HttpError, RETRY_AFTER},
    forward::Passage,
    health, not_here,
    parameters::{Consistency, Parameters},
    routes::{ROUTES, Route},
};

/// How long a token that this server does not know may be looked for at the leader.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(2);

/// The router of one listener.
pub(super) fn router(edge: &Arc<Edge>, listener: Listener) -> axum::Router {
    let mut paths: BTreeMap<&'static str, Vec<&'static Route>> = BTreeMap::new();
    for route in ROUTES.iter().filter(|route| is_served(listener, route)) {
        paths.entry(route.path).or_default().push(route);
    }
    let mut router = axum::Router::new();
    for (path, routes) in paths {
        let routes: Arc<[&'static Route]> = routes.into();
        let edge = edge.clone();
        let answer = move |request: Request| respond(edge.clone(), listener, Some(routes.clone()), request);
        router = router.route(path, any(answer));
    }
    let edge = edge.clone();
    router.fallback(move |request: Request| respond(edge.clone(), listener, None, request))
}

fn is_served(listener: Listener, route: &Route) -> bool {
    match listener {
        Listener::LoopbackHttp | Listener::Https => true,
        Listener::Monitoring => health::PATHS.contains(&route.path),
        Listener::Wan => route.is_forwardable,
    }
}

/// The answer to a request. What admits it lies on the heap until it is done, so that a blocking query, of which a server has thousands,
/// keeps nothing but what its handler needs.
fn respond(
    edge: Arc<Edge>,
    listener: Listener,
    routes: Option<Arc<[&'static Route]>>,
    request: Request,
) -> impl Future<Output = Response> + Send {
    let method = request.method().clone();
    let path = routes.as_ref().map_or("unknown", |routes| routes[0].path);
    let admitting = match routes {
        Some(routes) => Ok(Box::pin(admit(edge, listener, routes, request))),
        None => Err(not_here::explain(request.uri().path())),
    };
    async move {
        let answered = match admitting {
            Ok(admitting) => answer(admitting).await,
            Err(error) => Err(error),
        };
        let mut response = answered.unwrap_or_else(|error| {
            log(&method, path, &error);
            error.into_response()
        });
        answer::add_default_policy(&mut response);
        response
    }
}

/// Neither query nor variable parts of the path are logged: tokens stand in the one, and are pasted into the other.
fn log(method: &Method, path: &'static str, error: &HttpError) {
    let (status, code) = error.status_and_code();
    if status.is_server_error() {
        tracing::warn!(%method, path, status = status.as_u16(), code, "request failed: {error}");
    } else {
        tracing::debug!(%method, path, status = status.as_u16(), code, "request refused: {error}");
    }
}

/// A request that was let in.
enum Admitted {
    /// Another datacenter has answered it.
    Answered(Response),
    /// It is answered here.
    Here(Call),
    /// It is tried here, and passed on to the primary if it is written there.
    Written(Call, Box<(Passage, Parameters)>),
}

async fn admit(
    edge: Arc<Edge>,
    listener: Listener,
    routes: Arc<[&'static Route]>,
    mut request: Request,
) -> Result<Admitted, HttpError> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer);
    admit_peer(listener, peer)?;
    refuse_web_pages(request.method(), request.headers())?;
    let route = *routes.iter().find(|route| route.method == *request.method()).ok_or_else(|| {
        let allowed: Vec<&str> = routes.iter().map(|route| route.method.as_str()).collect();
        HttpError::MethodNotAllowed { method: request.method().to_string(), allowed: allowed.join(", ") }
    })?;
    let variable = variable(&mut request).await?;
    let (parts, body) = request.into_parts();
    let parameters = read_parameters(&edge, &parts.uri, &parts.headers)?;
    if let Some(datacenter) = &parameters.other_datacenter {
        refuse_hops(listener, datacenter)?;
        let body = body::read(body, &parts.headers, route.body_bytes_max).await?;
        let answered = Passage::new(parts, body).to(&edge, route, &parameters, datacenter).await;
        return answered.map(Admitted::Answered);
    }
    admit_caller(&edge, route, &parameters, variable.as_deref()).await?;
    let body = body::read(body, &parts.headers, route.body_bytes_max).await?;
    if listener == Listener::Wan || route.table.is_none() {
        return Ok(Admitted::Here(Call { edge, route, peer, parameters, variable, body }));
    }
    let passage = Box::new((Passage::new(parts, body.clone()), parameters.clone()));
    Ok(Admitted::Written(Call { edge, route, peer, parameters, variable, body }, passage))
}

async fn answer(admitting: impl Future<Output = Result<Admitted, HttpError>> + Unpin) -> Result<Response, HttpError> {
    match admitting.await? {
        Admitted::Answered(response) => Ok(response),
        Admitted::Here(call) => (call.route.handler)(call).await,
        Admitted::Written(call, passage) => Box::pin(answer_or_pass_on(call, *passage)).await,
    }
}

async fn answer_or_pass_on(call: Call, (passage, parameters): (Passage, Parameters)) -> Result<Response, HttpError> {
    let (edge, route) = (call.edge.clone(), call.route);
    let answered = (route.handler)(call).await;
    match written_in_primary(&edge, &answered) {
        Some(primary) if is_local(&edge, &parameters) => Err(local_token(&primary, answered)),
        Some(primary) => passage.to(&edge, route, &parameters, primary.as_str()).await,
        None => answered,
    }
}

/// The primary, if it is there that this is written: what holds in every datacenter, and what is not here but may be there already.
fn written_in_primary(edge: &Edge, answered: &Result<Response, HttpError>) -> Option<Name> {
    match answered {
        Err(HttpError::Rejected(Rejection::InSecondary { primary, .. })) => Some(primary.clone()),
        Err(HttpError::NotFound(_)) => edge.context.replica.state().state.primary().cloned(),
        _ => None,
    }
}

/// Whether the caller's token is this datacenter's own: its secret is nobody else's business.
fn is_local(edge: &Edge, parameters: &Parameters) -> bool {
    let applied = edge.context.replica.state();
    let caller = Caller::identify(parameters.secret.as_ref(), &applied.state, edge.moment().now);
    caller.is_ok_and(|caller| caller.token().is_ok_and(|token| token.is_local))
}

/// What the holder of a local token is told when the primary would have to answer.
fn local_token(primary: &Name, answered: Result<Response, HttpError>) -> HttpError {
    match answered {
        Err(HttpError::Rejected(Rejection::InSecondary { what, .. })) => HttpError::PermissionDenied(format!(
            "Permission denied: {what} is written in the primary datacenter `{primary}`, where a local token is unknown; use a token \
             that holds in every datacenter"
        )),
        Err(error) => error,
        Ok(_) => HttpError::PermissionDenied("Permission denied".into()),
    }
}

/// What another datacenter has passed on is answered here or not at all: nothing goes round.
fn refuse_hops(listener: Listener, datacenter: &str) -> Result<(), HttpError> {
    if listener != Listener::Wan {
        return Ok(());
    }
    let datacenter = datacenter.escape_default();
    Err(HttpError::BadRequest(format!(
        "the request was passed on for the datacenter `{datacenter}`, which this one is not"
    )))
}

/// The listener without TLS is for this machine alone, whatever address it was bound to.
fn admit_peer(listener: Listener, peer: Option<SocketAddr>) -> Result<(), HttpError> {
    if listener != Listener::LoopbackHttp || peer.is_some_and(is_loopback) {
        return Ok(());
    }
    Err(HttpError::PermissionDenied("this listener has no TLS and serves clients on its own machine alone".into()))
}

/// Whether the peer is on this machine.
pub(super) fn is_loopback(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

/// A page in a browser on this machine must not write here, under whatever name it reaches the listener (DNS rebinding).
pub(super) fn refuse_web_pages(method: &Method, headers: &HeaderMap) -> Result<(), HttpError> {
    if *method == Method::GET || !headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    Err(HttpError::PermissionDenied("requests from web pages (those with an `Origin`) may not write".into()))
}

pub(super) async fn variable(request: &mut Request) -> Result<Option<String>, HttpError> {
    let variables = request.extract_parts::<RawPathParams>().await;
    let variables = variables.map_err(|_| HttpError::BadRequest("the path cannot be decoded".into()))?;
    Ok(variables.iter().last().map(|(_, value)| value.to_owned()))
}

fn read_parameters(edge: &Edge, uri: &Uri, headers: &HeaderMap) -> Result<Parameters, HttpError> {
    Parameters::read(uri, headers, edge.context.identity.datacenter.as_str())
}

/// Refuses who lacks the route's right before his body is read. A token or right that this server has not applied yet is
/// looked for in the committed state: whoever was given a token may use it on every server at once.
async fn admit_caller(
    edge: &Edge,
    route: &Route,
    parameters: &Parameters,
    variable: Option<&str>,
) -> Result<(), HttpError> {
    let replica = &edge.context.replica;
    let check = |applied: &carrack_raft::AppliedState| {
        route.right.check(parameters, variable, &applied.state, edge.moment()).map(drop)
    };
    let Err(refusal) = check(&replica.state()) else { return Ok(()) };
    let may_be_new = parameters.secret.as_ref().is_some_and(|secret| secret.as_uuid().is_some());
    if !may_be_new || parameters.consistency == Consistency::Stale {
        return Err(refusal);
    }
    let _place = edge.look_ups.try_acquire().map_err(|_| HttpError::RateLimited { retry_after: RETRY_AFTER })?;
    let deadline = Instant::now() + LOOK_UP_WITHIN;
    match timeout_at(deadline, replica.read_linearizable(deadline)).await {
        Ok(Ok(applied)) => check(&applied),
        // Without a leader nobody can tell whether it exists: a refusal for good would make its holder throw it away.
        Ok(Err(error)) => Err(of_read(error)),
        Err(_) => Err(HttpError::NoLeader),
    }
}
