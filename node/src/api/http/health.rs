//! For monitoring: whether the process runs, whether it can issue, and its metrics. Without quorum, and but for Consul's form of the
//! metrics without token.

use axum::{body::Body, http::StatusCode, response::Response};
use carrack_authority::{State, root::Ca, time::Timestamp};

use super::{Edge, agent_metrics, answer::Answer, call::Call, error::HttpError, standing::Standing};
use crate::{
    server::{
        context::Context,
        desk::{halt_unknown, lacks_issuer},
    },
    telemetry::metrics::Metrics,
};

/// The format that `prometheus-client` writes.
pub(super) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// What people read.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";

/// What the listener for monitoring serves.
pub(super) const PATHS: [&str; 3] = ["/metrics", "/livez", "/readyz"];

/// `GET /livez`: the process answers.
pub(super) async fn live(_call: Call) -> Result<Response, HttpError> {
    Ok(Answer::of(TEXT, Body::from("ok\n")).into_response())
}

/// `GET /readyz`: 503 with the reasons until this server can issue.
pub(super) async fn ready(call: Call) -> Result<Response, HttpError> {
    let reasons = reasons(&call.edge.context, &call.edge.context.replica.state().state);
    if reasons.is_empty() {
        return Ok(Answer::of(TEXT, Body::from("ok\n")).into_response());
    }
    let text = Body::from(reasons.join("\n") + "\n");
    Ok(Answer::of(TEXT, text).with_status(StatusCode::SERVICE_UNAVAILABLE).into_response())
}

/// `GET /metrics`
pub(super) async fn metrics(call: Call) -> Result<Response, HttpError> {
    show(&call.edge);
    metrics_answer(&call.edge.context.metrics, call.now())
}

/// `GET /v1/agent/metrics`
pub(super) async fn agent_metrics(call: Call) -> Result<Response, HttpError> {
    show(&call.edge);
    agent_metrics::answer(&call.edge.context.metrics, call.now(), &call.parameters)
}

/// Shows what is read only when somebody looks.
fn show(edge: &Edge) {
    let agents = &edge.context.agents;
    edge.context.metrics.show_agents(agents.stream_count(), agents.topic_count());
    edge.leaves.show();
}

/// Metrics as their registry writes them.
pub(super) fn metrics_answer(metrics: &Metrics, now: Timestamp) -> Result<Response, HttpError> {
    Ok(Answer::of(OPEN_METRICS, Body::from(metrics_text(metrics, now)?)).into_response())
}

pub(super) fn metrics_text(metrics: &Metrics, now: Timestamp) -> Result<String, HttpError> {
    metrics.encode(now).map_err(|error| HttpError::Internal(format!("the metrics cannot be written: {error}")))
}

/// Why this server cannot issue now; none: it can.
pub(super) fn reasons(context: &Context, state: &State) -> Vec<String> {
    let standing = Standing::of(&context.replica);
    let mut reasons = Vec::new();
    if state.cluster().is_none() {
        reasons.push("the datacenter has not begun: this server has no state yet".into());
    }
    if standing.leader.is_none() {
        reasons.push("no leader is known: a majority of the servers must be reachable".into());
    }
    if state.cluster().is_some() && state.member(context.identity.node).is_none() {
        reasons.push("this server is not a member of the datacenter".into());
    }
    if state.is_halted() {
        reasons.push("issuing is halted; an operator resumes it with `carrack ca unhalt`".into());
    }
    let (now, most) = (context.replica.log_time(), context.halt_staleness_max);
    reasons.extend(halt_unknown(state, now, most).filter(|_| state.cluster().is_some() && !state.is_halted()));
    if state.roots(Ca::Mesh).active().is_none() {
        reasons.push("the CA has no active root yet".into());
    } else if context.desk.issuer().is_none() {
        reasons.push(format!("this server has {}", lacks_issuer(state)));
    }
    reasons
}
