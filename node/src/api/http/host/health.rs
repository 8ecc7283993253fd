//! For monitoring an agent: whether it runs, whether it serves, and its metrics. Without token.

use axum::{body::Body, http::StatusCode, response::Response};

use super::HostCall;
use crate::api::http::{
    answer::Answer,
    error::HttpError,
    health::{OPEN_METRICS, TEXT},
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
    let text = call.edge.metrics.encode(call.edge.followed.now());
    let text = text.map_err(|error| HttpError::Internal(format!("the metrics cannot be written: {error}")))?;
    Ok(Answer::of(OPEN_METRICS, Body::from(text)).into_response())
}
