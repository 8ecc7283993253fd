//! A client of the HTTP API: of servers over TLS, from a host of its own, or of the agent of its own host. Every request has a
//! deadline, and every connection can be replaced.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use carrack::{
    network::Network,
    tls::{
        client::{Alpn, ClientDialer, ServerRoots},
        clock::TlsClock,
    },
};
use carrack_raft::ports::BoxedStream;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    invariants::seen::{Seen, Told},
    world::{agent::HTTP_PORT, network::SimulatedNetwork, shared::Shared},
};

/// The port of the HTTP API with TLS.
pub const HTTPS_PORT: u16 = 8501;
/// The most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// How a client comes to whom it asks.
enum Way {
    /// To a server, over TLS.
    Tls(ClientDialer),
    /// To the agent of its own host.
    Loopback,
}

/// A client.
pub struct Client {
    way: Way,
    token: Option<String>,
    shared: Arc<Shared>,
    connections: BTreeMap<String, SendRequest<Full<Bytes>>>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `X-Consul-Index`.
    pub index: Option<u64>,
    /// Whether it came from an agent's memory.
    pub is_cached: bool,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// Whether the request was done.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body as text, cut.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(200).collect()
    }

    /// Whether the server says that the write may or may not have happened.
    pub fn is_unknown(&self) -> bool {
        self.status >= 500 && self.text().contains("unknown")
    }
}

/// No answer came: whether the request was done is unknown, unless it was never sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// It never left.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It may have arrived.
    #[error("no answer: {0}")]
    NoAnswer(String),
}

/// A request.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The method.
    pub method: &'a str,
    /// The path with its query.
    pub path: &'a str,
    /// The body.
    pub body: Option<Value>,
    /// How long it may take.
    pub within: Duration,
}

impl Client {
    /// A client that trusts the datacenter's server CA.
    pub fn new(shared: &Arc<Shared>, server_ca: &str, token: Option<String>) -> Self {
        let clock = shared.clock.clone();
        let clock = TlsClock::new(move || clock.now());
        let roots = ServerRoots::from_pem(server_ca).expect("the servers write roots that can be read");
        let dialer = ClientDialer::new(Arc::new(SimulatedNetwork), roots, &clock, Alpn::Http1);
        Self { way: Way::Tls(dialer), token, shared: shared.clone(), connections: BTreeMap::new() }
    }

    /// A client of the agent of the host that it runs on.
    pub fn of_agent(shared: &Arc<Shared>, token: Option<String>) -> Self {
        Self { way: Way::Loopback, token, shared: shared.clone(), connections: BTreeMap::new() }
    }

    /// The client with another token.
    pub fn set_token(&mut self, token: Option<String>) {
        self.token = token;
    }

    /// Asks `host`. The connection is kept for the next request.
    pub async fn call(&mut self, host: &str, call: Call<'_>) -> Result<Answer, Lost> {
        let body = call.body.as_ref().map(Value::to_string).unwrap_or_default();
        self.call_with(host, call, Bytes::from(body)).await
    }

    /// Asks `host` with a body that need not be JSON, in the place of the call's own.
    pub async fn call_with(&mut self, host: &str, call: Call<'_>, body: Bytes) -> Result<Answer, Lost> {
        let answered = timeout(call.within, self.exchange(host, &call, body)).await;
        let answered = answered.unwrap_or_else(|_| Err(Lost::NoAnswer("the deadline has passed".into())));
        if answered.is_err() {
            self.connections.remove(host);
        }
        answered
    }

    async fn exchange(&mut self, host: &str, call: &Call<'_>, body: Bytes) -> Result<Answer, Lost> {
        let mut request = Request::builder().method(call.method).uri(call.path).header("host", host);
        if let Some(token) = &self.token {
            request = request.header("X-Consul-Token", token);
        }
        let request = request.body(Full::new(body)).map_err(|error| Lost::NotSent(error.to_string()))?;
        let connection = self.connection(host).await?;
        let response = connection.send_request(request).await.map_err(|error| Lost::NoAnswer(error.to_string()))?;
        let status = response.status().as_u16();
        let index = response.headers().get("X-Consul-Index").and_then(|index| index.to_str().ok()?.parse().ok());
        let is_cached = response.headers().get("X-Cache").is_some_and(|cache| cache == "HIT");
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| Lost::NoAnswer(error.to_string()))?.to_bytes();
        let what = format!("the answer of {host} to {} {}", call.method, call.path);
        let seen = if matches!(self.way, Way::Loopback) { without_key(&body) } else { body.clone() };
        self.shared.saw(Seen::Told(Told::Answered { what, body: seen }));
        Ok(Answer { status, index, is_cached, body })
    }

    async fn stream(&self, host: &str) -> std::io::Result<BoxedStream> {
        match &self.way {
            Way::Tls(dialer) => Ok(Box::new(dialer.dial(&format!("{host}:{HTTPS_PORT}")).await?)),
            Way::Loopback => SimulatedNetwork.connect(&format!("127.0.0.1:{HTTP_PORT}")).await,
        }
    }

    async fn connection(&mut self, host: &str) -> Result<&mut SendRequest<Full<Bytes>>, Lost> {
        let is_open = match self.connections.get_mut(host) {
            Some(connection) => connection.ready().await.is_ok(),
            None => false,
        };
        if !is_open {
            let not_sent = |error: &dyn std::fmt::Display| Lost::NotSent(error.to_string());
            let stream = self.stream(host).await.map_err(|error| not_sent(&error))?;
            let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
            let (connection, driver) = handshake.map_err(|error| not_sent(&error))?;
            tokio::spawn(async move { drop(driver.await) });
            self.connections.insert(host.to_owned(), connection);
        }
        self.connections.get_mut(host).ok_or_else(|| Lost::NotSent("the connection is gone".into()))
    }
}

/// An agent's answer without the leaf's own key, which alone may be in it.
fn without_key(body: &Bytes) -> Bytes {
    let Ok(Value::Object(mut answer)) = serde_json::from_slice(body) else { return body.clone() };
    match answer.remove("PrivateKeyPEM") {
        Some(_) => Value::Object(answer).to_string().into(),
        None => body.clone(),
    }
}
