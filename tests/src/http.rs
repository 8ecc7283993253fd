//! Plain requests to a server's HTTP API, as `curl` makes them.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde_json::Value;
use tokio::runtime::Runtime;

/// No request of a test blocks for longer; less than the patience of a wait, which can then ask again.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, in lower case, one line each.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// Panics if it is something else.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}: {}", self.status, self.body))
    }
}

/// A client of the HTTP API of one server.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
    base: String,
    token: Option<String>,
    headers: Vec<(String, String)>,
}

impl Http {
    /// A client of the server at this address, without a token.
    ///
    /// # Panics
    /// Panics if no client can be made.
    pub fn new(address: SocketAddr) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = tls.expect("the provider has TLS 1.3").with_root_certificates(rustls::RootCertStore::empty());
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.with_no_client_auth())
            .no_proxy()
            .timeout(TIMEOUT)
            .build();
        let client = client.expect("an HTTP client can be made");
        Self { client, base: format!("http://{address}"), token: None, headers: Vec::new() }
    }

    /// The same client with a token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// Its token.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The same client with a header of its own.
    pub fn with_header(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.push((name.into(), value.into()));
        client
    }

    /// Sends a request from any thread that is not async.
    pub fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, String> {
        runtime().block_on(self.send_async(method, path, body))
    }

    /// Sends a request; an error says that no answer came.
    pub async fn send_async(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, String> {
        let method = method.parse().map_err(|error| format!("{error}"))?;
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("X-Consul-Token", token);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| format!("{error:?}"))?;
        let status = response.status().as_u16();
        let header = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let headers = response.headers().iter().map(header).collect();
        let body = response.text().await.map_err(|error| format!("{error:?}"))?;
        Ok(Answer { status, headers, body })
    }

    /// Reads a path; anything but 200 is an error with the answer in it.
    pub fn read(&self, path: &str) -> Result<Value, String> {
        let answer = self.send("GET", path, None)?;
        match answer.status {
            200 => serde_json::from_str(&answer.body).map_err(|error| format!("{path}: {error}")),
            status => Err(format!("{path}: {status} {}", answer.body)),
        }
    }
}

/// The runtime behind the requests of tests that are not async.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().expect("a runtime can be made"))
}
