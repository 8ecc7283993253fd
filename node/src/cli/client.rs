//! The HTTP client of the commands: JSON in, JSON out, bounded, over our own TLS, and errors that name the request.

use std::{path::Path, sync::Arc, time::Duration};

use reqwest::{Method, Response, StatusCode, header::HeaderMap, redirect::Policy};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{connection::Connection, error::CliError};
use crate::api::http::answer::CONTENT_HASH;

/// A server that does not accept a connection in this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Writes wait for a leader for some seconds, and a change of the CA configuration 30 s for the root that it means; nothing else that does
/// not block takes longer than this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How much longer than the server's own wait a blocking request may take: Consul adds a sixteenth.
const BLOCKING_SLACK: Duration = Duration::from_secs(60);
/// The longest answer: a page of 10,000 issuance records has about 8 MiB.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The longest error text that is shown.
const ERROR_TEXT_BYTES_MAX: usize = 2048;

/// Speaks to one server.
pub struct Client {
    http: reqwest::Client,
    connection: Connection,
}

impl Client {
    /// A client of the server that `connection` names; nothing is sent yet.
    pub fn new(connection: Connection) -> Result<Self, CliError> {
        let setup = |source: reqwest::Error| CliError::Setup { what: "the HTTP client", source: source.into() };
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(&connection)?)
            // A proxy would see the token, and a redirect would send it to somebody else.
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT);
        Ok(Self { http: builder.build().map_err(setup)?, connection })
    }

    /// A client of another address that acts with the same token and trusts the same CAs.
    pub fn at(&self, address: String) -> Result<Self, CliError> {
        Self::new(Connection { address, ..self.connection.clone() })
    }

    /// The server's address.
    pub fn address(&self) -> &str {
        &self.connection.address
    }

    /// Reads a route; `query` is escaped.
    pub async fn read(&self, path: &str, query: &[(&str, String)]) -> Result<Value, CliError> {
        let body = self.send(Method::GET, path, query, None, REQUEST_TIMEOUT).await?;
        self.understood(&format!("GET {path}"), &body)
    }

    /// Reads a route that may answer later, up to `wait`.
    pub async fn read_blocking(&self, path: &str, query: &[(&str, String)], wait: Duration) -> Result<Value, CliError> {
        let body = self.send(Method::GET, path, query, None, wait + BLOCKING_SLACK).await?;
        self.understood(&format!("GET {path}"), &body)
    }

    /// Reads a route that answers when its content has another hash than `hash`, or after `wait`: what it answers, and the hash of that, where
    /// it has one. The answer may hold a key, so what was received is wiped.
    pub async fn read_changed<T: DeserializeOwned>(
        &self,
        path: &str,
        hash: Option<&str>,
        wait: Duration,
    ) -> Result<(T, Option<String>), CliError> {
        let wanted = hash.map(|hash| ("hash", hash.to_owned()));
        let query: Vec<_> = wanted.into_iter().chain([("wait", format!("{}s", wait.as_secs()))]).collect();
        let (headers, body) = self.ask(Method::GET, path, &query, None, wait + BLOCKING_SLACK).await?;
        let body = Zeroizing::new(body);
        let read = serde_json::from_slice(&body);
        let read = read.map_err(|source| self.not_understood(&format!("GET {path}"), source))?;
        let hash = headers.get(CONTENT_HASH).and_then(|hash| hash.to_str().ok()).map(str::to_owned);
        Ok((read, hash))
    }

    /// Reads a route whose answer is text.
    pub async fn read_text(&self, path: &str, query: &[(&str, String)]) -> Result<String, CliError> {
        let body = self.send(Method::GET, path, query, None, REQUEST_TIMEOUT).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Writes to a route and gives what it answers; an empty answer is null.
    pub async fn write(&self, path: &str, body: &(impl Serialize + Sync)) -> Result<Value, CliError> {
        let request = format!("PUT {path}");
        let body = serde_json::to_vec(body).map_err(|source| self.not_understood(&request, source))?;
        let answer = self.send(Method::PUT, path, &[], Some(body), REQUEST_TIMEOUT).await?;
        if answer.is_empty() { Ok(Value::Null) } else { self.understood(&request, &answer) }
    }

    /// Deletes what a route names.
    pub async fn delete(&self, path: &str) -> Result<(), CliError> {
        self.send(Method::DELETE, path, &[], None, REQUEST_TIMEOUT).await.map(|_| ())
    }

    /// The typed form of an answer.
    pub fn typed<T: DeserializeOwned>(&self, request: &str, answer: &Value) -> Result<T, CliError> {
        T::deserialize(answer).map_err(|source| self.not_understood(request, source))
    }

    fn understood(&self, request: &str, body: &[u8]) -> Result<Value, CliError> {
        serde_json::from_slice(body).map_err(|source| self.not_understood(request, source))
    }

    fn not_understood(&self, request: &str, source: serde_json::Error) -> CliError {
        CliError::NotUnderstood { address: self.address().into(), request: request.into(), source }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<Vec<u8>>,
        timeout: Duration,
    ) -> Result<Vec<u8>, CliError> {
        self.ask(method, path, query, body, timeout).await.map(|(_, body)| body)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<Vec<u8>>,
        timeout: Duration,
    ) -> Result<(HeaderMap, Vec<u8>), CliError> {
        let request = format!("{method} {path}");
        let unreachable = |source: reqwest::Error| CliError::Unreachable {
            address: self.address().into(),
            request: request.clone(),
            source: source.without_url(),
        };
        let mut builder = self.http.request(method, format!("{}{path}", self.address())).query(query).timeout(timeout);
        if let Some(token) = &self.connection.token {
            builder = builder.header("X-Consul-Token", token);
        }
        if let Some(body) = body {
            builder = builder.header("Content-Type", "application/json").body(body);
        }
        let response = builder.send().await.map_err(unreachable)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = bounded(response).await.map_err(unreachable)?;
        let body = body.ok_or_else(|| CliError::TooLong {
            address: self.address().into(),
            request: request.clone(),
            bytes_max: ANSWER_BYTES_MAX,
        })?;
        if status.is_success() { Ok((headers, body)) } else { Err(self.refused(request, status, &body)) }
    }

    fn refused(&self, request: String, status: StatusCode, body: &[u8]) -> CliError {
        let text = String::from_utf8_lossy(&body[..body.len().min(ERROR_TEXT_BYTES_MAX)]);
        let text = match text.trim() {
            "" => status.canonical_reason().unwrap_or("no reason given").to_owned(),
            // Control characters of an answer do not reach the terminal.
            text => text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect(),
        };
        CliError::Refused { address: self.address().into(), request, status: status.as_u16(), text }
    }
}

/// The body; `None` if it is too long.
async fn bounded(mut response: Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// TLS that trusts only the CAs of the connection, with aws-lc-rs.
fn tls(connection: &Connection) -> Result<rustls::ClientConfig, CliError> {
    let is_https = connection.address.starts_with("https://");
    let roots = match &connection.cacert {
        Some(path) => trusted(path)?,
        None if is_https => {
            let what = format!("nothing says which CA to trust for {}", connection.address);
            return Err(CliError::usage(what, "give its PEM file with --cacert or CARRACK_CACERT"));
        }
        None => rustls::RootCertStore::empty(),
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|source| CliError::Setup { what: "TLS", source: source.into() })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn trusted(path: &Path) -> Result<rustls::RootCertStore, CliError> {
    let pem = std::fs::read(path);
    let pem = pem.map_err(|source| CliError::File { action: "read", path: path.into(), source })?;
    let unusable = |why: String| CliError::Certificate { what: format!("the CA file {}", path.display()), why };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() { Err(unusable("it holds no certificate".into())) } else { Ok(roots) }
}

#[cfg(test)]
mod tests;
