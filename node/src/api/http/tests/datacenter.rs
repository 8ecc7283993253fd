//! A datacenter of one server in this process, and requests to its routers without a network.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::ConnectInfo,
    http::{HeaderMap, Request, StatusCode},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt;

use super::super::{Edge, Listener, router};
use crate::{
    config::{self, Layers, Purpose},
    server::{Server, ServerPorts, Start},
};

/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer that a test reads.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// A datacenter of one server, bootstrapped, with its routers.
pub(super) struct Datacenter {
    pub(super) server: Server,
    pub(super) edge: Arc<Edge>,
    pub(super) management: String,
    _directory: TempDir,
}

/// An answer, read whole.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

/// A request that is being put together.
#[derive(Clone)]
pub(super) struct Asking<'a> {
    datacenter: &'a Datacenter,
    method: &'static str,
    path: String,
    token: Option<String>,
    body: Vec<u8>,
    peer: Option<SocketAddr>,
    listener: Listener,
    headers: Vec<(&'static str, String)>,
}

impl Datacenter {
    /// Starts the server, waits until it issues, and makes the first management token.
    pub(super) async fn begin() -> Self {
        let mut datacenter = Self::begin_without_tokens().await;
        let made = datacenter.put("/v1/acl/bootstrap").ok().await;
        datacenter.management = made["SecretID"].as_str().unwrap().to_owned();
        datacenter
    }

    /// The same before anybody made a token.
    pub(super) async fn begin_without_tokens() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let flags = BTreeMap::from([
            ("data_dir", directory.path().join("a").display().to_string()),
            ("node_name", "a".to_owned()),
            ("trust_domain", "test.carrack".to_owned()),
            ("without_recovery", "true".to_owned()),
            ("listen.address", "127.0.0.1".to_owned()),
            ("listen.wan", "off".to_owned()),
            ("listen.http", "off".to_owned()),
            ("listen.https", "off".to_owned()),
        ]);
        let layers = Layers { file: None, environment: BTreeMap::new(), flags };
        let mut config = config::load(&layers, Purpose::Bootstrap).unwrap().config;
        // Whichever ports are free: no test asks them, and nobody joins.
        for address in [&mut config.listen.raft, &mut config.listen.grpc] {
            address.set_port(0);
        }
        // A runtime that ends takes a server's tasks one by one; that must not end the process of the other tests.
        let fatal = std::sync::Arc::new(|reason: &str| tracing::error!("the server cannot go on: {reason}"));
        let ports = ServerPorts { fatal, ..ServerPorts::of_machine().unwrap() };
        let server = Server::start(config, Start::Bootstrap, ports).await.unwrap();
        let edge = Edge::new(server.context().clone());
        let datacenter = Self { server, edge, management: String::new(), _directory: directory };
        datacenter.until(|datacenter| datacenter.server.context().desk.issuer().is_some()).await;
        datacenter
    }

    /// Waits until a condition holds.
    pub(super) async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "troubles: {:?}", self.server.context().troubles.list());
            sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) fn get(&self, path: &str) -> Asking<'_> {
        self.ask("GET", path)
    }

    pub(super) fn put(&self, path: &str) -> Asking<'_> {
        self.ask("PUT", path)
    }

    pub(super) fn delete(&self, path: &str) -> Asking<'_> {
        self.ask("DELETE", path)
    }

    pub(super) fn ask(&self, method: &'static str, path: &str) -> Asking<'_> {
        Asking {
            datacenter: self,
            method,
            path: path.to_owned(),
            token: None,
            body: Vec::new(),
            peer: Some("127.0.0.1:4000".parse().unwrap()),
            listener: Listener::LoopbackHttp,
            headers: Vec::new(),
        }
    }

    /// The secret of a new token for a service, and its accessor id.
    pub(super) async fn service_token(&self, service: &str) -> (String, String) {
        let body = json!({ "ServiceIdentities": [{ "ServiceName": service }] });
        let made = self.put("/v1/acl/token").managed().json(&body).ok().await;
        (made["SecretID"].as_str().unwrap().to_owned(), made["AccessorID"].as_str().unwrap().to_owned())
    }

    /// The secret of a new token with one policy of these rules.
    pub(super) async fn token_with_rules(&self, name: &str, rules: &str) -> String {
        let policy = json!({ "Name": name, "Rules": rules });
        self.put("/v1/acl/policy").managed().json(&policy).ok().await;
        let made = self.put("/v1/acl/token").managed().json(&json!({ "Policies": [{ "Name": name }] })).ok().await;
        made["SecretID"].as_str().unwrap().to_owned()
    }
}

impl Asking<'_> {
    pub(super) fn managed(self) -> Self {
        let secret = self.datacenter.management.clone();
        self.token(&secret)
    }

    pub(super) fn token(mut self, secret: &str) -> Self {
        self.token = Some(secret.to_owned());
        self
    }

    pub(super) fn json(self, body: &Value) -> Self {
        let body = body.to_string();
        self.body(body)
    }

    pub(super) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(super) fn from(mut self, peer: Option<&str>, listener: Listener) -> Self {
        self.peer = peer.map(|peer| peer.parse().unwrap());
        self.listener = listener;
        self
    }

    /// Asks and reads the whole answer.
    pub(super) async fn send(self) -> Answered {
        let mut request = Request::builder().method(self.method).uri(&self.path);
        if let Some(token) = &self.token {
            request = request.header("X-Consul-Token", token);
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let mut request = request.body(Body::from(self.body)).unwrap();
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        let router: Router = router(&self.datacenter.edge, self.listener);
        let response = timeout(PATIENCE, router.oneshot(request)).await.expect("it answers").unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, ANSWER_BYTES_MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answered { status: parts.status, headers: parts.headers, text }
    }

    /// Asks and expects success; the answer is JSON or empty.
    pub(super) async fn ok(self) -> Value {
        self.expect(200).await.json()
    }

    /// Asks and expects a status.
    pub(super) async fn expect(self, status: u16) -> Answered {
        let what = format!("{} {}", self.method, self.path);
        let answered = self.send().await;
        assert_eq!(answered.status.as_u16(), status, "{what}: {}", answered.text);
        answered
    }
}

impl Answered {
    pub(super) fn json(&self) -> Value {
        if self.text.is_empty() { Value::Null } else { serde_json::from_str(&self.text).unwrap() }
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    pub(super) fn index(&self) -> u64 {
        self.header("x-consul-index").parse().unwrap()
    }
}
