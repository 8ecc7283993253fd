//! For monitoring an agent: whether it runs, whether it serves, and its metrics. But for Consul's form of these, without token.

use axum::{body::Body, http::StatusCode, response::Response};
use carrack_authority::time::Timestamp;

use super::{HostCall, HostEdge};
use crate::{
    api::http::{
        agent_metrics,
        answer::Answer,
        error::HttpError,
        health::{TEXT, metrics_answer},
    },
    telemetry::metrics::AgentReading,
};

/// `GET /livez`: the process answers.
pub(super) async fn live(_call: HostCall) -> Result<Response, HttpError> {
    Ok(Answer::of(TEXT, Body::from("ok\n")).into_response())
}

/// `GET /readyz`: 503 with the reason until this agent serves.
pub(super) async fn ready(call: HostCall) -> Result<Response, HttpError> {
    match call.edge.followed.not_fresh() {
        None => Ok(Answer::of(TEXT, Body::from("ok\n")).into_response()),
        Some(reason) => {
            let text = Body::from(reason + "\n");
            Ok(Answer::of(TEXT, text).with_status(StatusCode::SERVICE_UNAVAILABLE).into_response())
        }
    }
}

/// `GET /metrics`
pub(super) async fn metrics(call: HostCall) -> Result<Response, HttpError> {
    show(&call.edge);
    metrics_answer(&call.edge.metrics, call.edge.followed.now())
}

/// `GET /v1/agent/metrics`
pub(super) async fn agent_metrics(call: HostCall) -> Result<Response, HttpError> {
    call.expect_agent_read().await?;
    show(&call.edge);
    agent_metrics::answer(&call.edge.metrics, call.edge.followed.now(), &call.parameters)
}

/// Shows what is read only when somebody looks.
fn show(edge: &HostEdge) {
    let (heard, bundle) = (edge.followed.heard(), edge.followed.bundle());
    let servers = bundle.as_ref().map(|bundle| bundle.told.servers.as_slice()).unwrap_or_default();
    let server = heard.server.and_then(|server| servers.iter().position(|one| *one == server));
    let since = |at: tokio::time::Instant| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
    let heard_at = heard.at.map(|at| Timestamp(edge.followed.now().0.saturating_sub(since(at))));
    edge.metrics.show_agent(&AgentReading {
        server: server.map_or(0, |position| position + 1),
        heard_at,
        followed: edge.followed.topic_counts(),
    });
    edge.leaves.show();
}
