//! The way to other datacenters for clients' requests: a request goes there with its own token and comes back as it was answered.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    grpc_client::within,
    wan::{Reached, WanChannels},
};
use crate::api::wan::MESSAGE_BYTES_MAX;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use bytes::Bytes;
use carrack_authority::{State, federation::Datacenter, spiffe::Name};
use carrack_federation::WanError;
use carrack_proto::{
    convert::wan::BadMessage,
    wan::{CallRequest, CallResponse, Header, calls_client::CallsClient},
};
use carrack_raft::Replica;
use futures::future::{BoxFuture, FutureExt};
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status};

/// The least time in which it is worth asking another server.
const RETRY_WITHIN: Duration = Duration::from_secs(1);
/// The longest path with its query: what the HTTP edge reads.
const PATH_BYTES_MAX: usize = 16 * 1024;
/// The most headers of a request or an answer: the edge sends and takes a handful.
const HEADERS_MAX: usize = 32;

/// A client's request on its way to another datacenter.
#[derive(Clone, PartialEq, Eq)]
pub struct ForwardedRequest {
    /// The method.
    pub method: Method,
    /// The path and the query, without a token in it.
    pub path_and_query: String,
    /// The headers that matter; the token is among them.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
}

impl fmt::Debug for ForwardedRequest {
    /// Neither path nor headers are shown: a token is in the one, and is pasted into the other.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForwardedRequest({}, {} bytes)", self.method, self.body.len())
    }
}

/// The answer of another datacenter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers that matter.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
    /// The revision that the followed table of a write has there.
    pub index: u64,
}

/// A request was not answered by another datacenter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There is no such datacenter.
    #[error("No path to datacenter `{}`; known are {}", datacenter.escape_default(), known.join(", "))]
    Unknown {
        /// What was named.
        datacenter: String,
        /// Those that are known, this one too.
        known: Vec<String>,
    },
    /// It could not be reached, so nothing was done.
    #[error("{0}")]
    Unreachable(WanError),
    /// It has enough to do, and has not done it.
    #[error("{0}")]
    Busy(WanError),
    /// The connection broke when the request was on its way: it may have been done.
    #[error("{0}")]
    OutcomeUnknown(WanError),
}

/// The way to other datacenters.
pub trait OtherDatacenters: Send + Sync {
    /// Has a request answered there, or given up after that time.
    fn call<'a>(
        &'a self,
        datacenter: &'a str,
        request: ForwardedRequest,
        duration: Duration,
    ) -> BoxFuture<'a, Result<ForwardedResponse, CallError>>;
}

/// The way over the WAN, to the datacenters that the state records.
pub(crate) struct WanCalls {
    pub(crate) replica: Replica,
    pub(crate) channels: Arc<WanChannels>,
}

impl OtherDatacenters for WanCalls {
    fn call<'a>(
        &'a self,
        datacenter: &'a str,
        request: ForwardedRequest,
        duration: Duration,
    ) -> BoxFuture<'a, Result<ForwardedResponse, CallError>> {
        async move {
            let applied = self.replica.state();
            let found = Name::parse("datacenter", datacenter).ok();
            let found = found.and_then(|name| applied.state.datacenter(&name).cloned());
            let known = || known_datacenters(&applied.state);
            let found =
                found.ok_or_else(|| CallError::Unknown { datacenter: datacenter.to_owned(), known: known() })?;
            let (deadline, is_read) = (Instant::now() + duration, request.method == Method::GET);
            let answered = self.ask(&found, request.clone(), deadline).await;
            let is_time_left = deadline.saturating_duration_since(Instant::now()) >= RETRY_WITHIN;
            match answered {
                // The server that was spoken to is gone: a read may be asked of the next one.
                Err(first @ CallError::OutcomeUnknown(WanError::Unreachable { .. })) if is_read && is_time_left => {
                    match self.ask(&found, request, deadline).await {
                        Err(CallError::Unreachable(_)) => Err(first),
                        answered => answered,
                    }
                }
                answered => answered,
            }
        }
        .boxed()
    }
}

impl WanCalls {
    async fn ask(
        &self,
        datacenter: &Datacenter,
        request: ForwardedRequest,
        deadline: Instant,
    ) -> Result<ForwardedResponse, CallError> {
        let reached = timeout_at(deadline, self.channels.reach(datacenter)).await;
        let reached = reached.unwrap_or_else(|_| {
            let (datacenter, reason) = (datacenter.name.clone(), "no server of it answered in time".into());
            Err(WanError::Unreachable { datacenter, reason })
        });
        let reached = reached.map_err(CallError::Unreachable)?;
        let calls = CallsClient::new(reached.channel.clone());
        let mut calls = calls.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX);
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = within(left, to_wire(request), |request| async move { calls.call(request).await }).await;
        let answer = answer.map_err(|status| match self.failed(&reached, &status) {
            busy @ WanError::Busy { .. } => CallError::Busy(busy),
            // It was refused before anything was done for the client.
            refused @ WanError::Refused { .. } => CallError::Unreachable(refused),
            other => CallError::OutcomeUnknown(other),
        })?;
        let unreadable = |error: BadMessage| {
            let (datacenter, reason) = (datacenter.name.clone(), error.to_string());
            CallError::OutcomeUnknown(WanError::Unreadable { datacenter, reason })
        };
        response_from_wire(answer).map_err(unreadable)
    }

    /// A slow answer says nothing against its server: one that is gone is found by the probes of its connection.
    fn failed(&self, reached: &Reached, status: &Status) -> WanError {
        match status.code() {
            Code::DeadlineExceeded => {
                WanError::Unreachable { datacenter: reached.datacenter.clone(), reason: status.message().into() }
            }
            _ => self.channels.failed(reached, status),
        }
    }
}

fn known_datacenters(state: &State) -> Vec<String> {
    let own = state.cluster().map(|cluster| cluster.datacenter.to_string());
    own.into_iter().chain(state.datacenters().map(|other| other.name.to_string())).collect()
}

fn to_wire(request: ForwardedRequest) -> CallRequest {
    CallRequest {
        method: request.method.to_string(),
        path_and_query: request.path_and_query,
        headers: headers_to_wire(&request.headers),
        body: request.body,
    }
}

/// The request that another datacenter's server sent.
pub(crate) fn request_from_wire(message: CallRequest) -> Result<ForwardedRequest, BadMessage> {
    if message.path_and_query.len() > PATH_BYTES_MAX {
        return Err(bad(
            "path",
            format!("it has {} bytes, at most {PATH_BYTES_MAX} are read", message.path_and_query.len()),
        ));
    }
    Ok(ForwardedRequest {
        method: message.method.parse().map_err(|error| bad("method", error))?,
        path_and_query: message.path_and_query,
        headers: headers_from_wire(message.headers)?,
        body: message.body,
    })
}

/// An answer as it is sent.
pub(crate) fn response_to_wire(response: ForwardedResponse) -> CallResponse {
    CallResponse {
        status: response.status.as_u16().into(),
        headers: headers_to_wire(&response.headers),
        body: response.body,
        index: response.index,
    }
}

fn response_from_wire(message: CallResponse) -> Result<ForwardedResponse, BadMessage> {
    let status = u16::try_from(message.status).map_err(|error| bad("status", error))?;
    Ok(ForwardedResponse {
        status: StatusCode::from_u16(status).map_err(|error| bad("status", error))?,
        headers: headers_from_wire(message.headers)?,
        body: message.body,
        index: message.index,
    })
}

fn headers_to_wire(headers: &[(HeaderName, HeaderValue)]) -> Vec<Header> {
    let header = |(name, value): &(HeaderName, HeaderValue)| Header {
        name: name.to_string(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    };
    headers.iter().map(header).collect()
}

fn headers_from_wire(headers: Vec<Header>) -> Result<Vec<(HeaderName, HeaderValue)>, BadMessage> {
    if headers.len() > HEADERS_MAX {
        return Err(bad("headers", format!("there are {}, at most {HEADERS_MAX} are read", headers.len())));
    }
    let header = |header: Header| {
        let name = header.name.parse().map_err(|error| bad("header", error))?;
        let mut value = HeaderValue::from_bytes(&header.value).map_err(|error| bad("header", error))?;
        value.set_sensitive(true);
        Ok((name, value))
    };
    headers.into_iter().map(header).collect()
}

fn bad(what: &'static str, reason: impl ToString) -> BadMessage {
    BadMessage { what, reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> ForwardedRequest {
        let token = HeaderName::from_static("x-consul-token");
        ForwardedRequest {
            method: Method::PUT,
            path_and_query: "/v1/acl/token?dc=dc2".into(),
            headers: vec![(token, HeaderValue::from_static("a-secret"))],
            body: Bytes::from_static(b"{}"),
        }
    }

    #[test]
    fn requests_and_answers_come_as_they_were_sent_and_show_no_token() {
        assert_eq!(request_from_wire(to_wire(request())), Ok(request()));
        let response = ForwardedResponse {
            status: StatusCode::FORBIDDEN,
            headers: vec![(HeaderName::from_static("x-consul-index"), HeaderValue::from_static("7"))],
            body: Bytes::from_static(b"ACL not found"),
            index: 9,
        };
        assert_eq!(response_from_wire(response_to_wire(response.clone())), Ok(response));
        assert!(!format!("{:?}", request()).contains("secret"));
    }

    #[test]
    fn what_is_not_in_its_form_is_refused_by_name() {
        let what = |message: CallRequest| request_from_wire(message).map_err(|error| error.what);
        assert_eq!(what(CallRequest { method: "G T".into(), ..to_wire(request()) }), Err("method"));
        let many = vec![Header { name: "a".into(), value: Bytes::new() }; HEADERS_MAX + 1];
        assert_eq!(what(CallRequest { headers: many, ..to_wire(request()) }), Err("headers"));
        let split = vec![Header { name: "a".into(), value: Bytes::from_static(b"b\r\nc: d") }];
        assert_eq!(what(CallRequest { headers: split, ..to_wire(request()) }), Err("header"));
        let long = "/".repeat(PATH_BYTES_MAX + 1);
        assert_eq!(what(CallRequest { path_and_query: long, ..to_wire(request()) }), Err("path"));
        let status = |status| response_from_wire(CallResponse { status, ..CallResponse::default() });
        assert!(status(99).is_err() && status(70_000).is_err() && status(200).is_ok());
    }
}
