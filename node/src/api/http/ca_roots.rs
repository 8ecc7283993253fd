//! The bundle: what verifiers trust, in Consul's form. Public, as every verifier needs it.

use std::time::Duration;

use axum::{body::Body, response::Response};
use carrack_authority::{
    State, WatchKey,
    root::{Ca, Root, RootPhase},
    x509::{CertificateFacts, pem},
};
use serde::Serialize;
use tokio::time::Instant;

use super::{
    answer::{Answer, content_hash},
    call::Call,
    error::HttpError,
    parameters::Parameters,
};

/// Consul's answer for the roots.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Roots {
    #[serde(rename = "ActiveRootID")]
    active_root_id: String,
    trust_domain: String,
    roots: Vec<RootEntry>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootEntry {
    #[serde(rename = "ID")]
    id: String,
    name: String,
    /// Consul's field has 64 bits: the low ones of the serial.
    serial_number: u64,
    #[serde(rename = "SigningKeyID")]
    signing_key_id: String,
    external_trust_domain: String,
    not_before: String,
    not_after: String,
    root_cert: String,
    /// Cross-signed certificates alone: issuers travel in leaf chains.
    intermediate_certs: Option<Vec<String>>,
    active: bool,
    private_key_type: &'static str,
    private_key_bits: u32,
    create_index: u64,
    modify_index: u64,
}

const PEM_CHAIN: &str = "application/pem-certificate-chain";
const KEY: WatchKey = WatchKey::Roots(Ca::Mesh);

/// `GET /v1/connect/ca/roots`
pub(super) async fn read(call: Call) -> Result<Response, HttpError> {
    if !call.parameters.flag("pem")? {
        return call.read(KEY, |view| roots(view.state())).await;
    }
    let (view, index) = call.watched(KEY).await?;
    let answer = Answer::of(PEM_CHAIN, Body::from(bundle_pem(view.state())?));
    Ok(answer.with_index(index).with_freshness(view.freshness).into_response())
}

/// `GET /v1/agent/connect/ca/roots`: from what this server has applied, which follows the log without being asked.
pub(super) async fn read_as_agent(call: Call) -> Result<Response, HttpError> {
    let deadline = Instant::now() + call.wait();
    loop {
        let view = call.local_view()?;
        let (state, index) = (view.state(), view.state().modified(&KEY));
        let (trust_domain, cluster) = names(state);
        let roots = state.roots(Ca::Mesh).bundle();
        let bundle = AgentBundle {
            trust_domain,
            cluster,
            roots: roots.iter().map(|root| &**root).collect(),
            index: index.0,
            age: view.freshness.staleness(),
        };
        if let Some(answer) = bundle.answer(&call.parameters, Instant::now() >= deadline)? {
            return Ok(answer);
        }
        call.wait_for(KEY, index, deadline).await?;
    }
}

/// What an agent answers about the bundle, and a server that plays one.
pub(super) struct AgentBundle<'a> {
    pub(super) trust_domain: String,
    pub(super) cluster: String,
    pub(super) roots: Vec<&'a Root>,
    pub(super) index: u64,
    /// For how long it may have changed unheard.
    pub(super) age: Duration,
}

impl AgentBundle<'_> {
    /// The answer; `None` while the request waits for another one.
    pub(super) fn answer(self, parameters: &Parameters, is_late: bool) -> Result<Option<Response>, HttpError> {
        if !is_late && !parameters.is_newer(self.index) {
            return Ok(None);
        }
        if self.roots.is_empty() {
            return Err(no_root());
        }
        let roots = roots_of(self.trust_domain, &self.cluster, self.roots.iter().copied())?;
        let json = serde_json::to_vec(&roots).map_err(|error| HttpError::Internal(error.to_string()))?;
        let hash = content_hash([json.as_slice()]);
        if !is_late && !parameters.is_other(&hash) {
            return Ok(None);
        }
        let answer = match parameters.flag("pem")? {
            true => {
                Answer::of(PEM_CHAIN, pem::encode_certificates(self.roots.iter().map(|root| &root.made.certificate)))
            }
            false => Answer::json(&roots, parameters.is_pretty)?,
        };
        Ok(Some(answer.with_index(self.index).with_hash(&hash).with_cache(Some(self.age)).into_response()))
    }
}

/// The roots as PEM. None is an error: an empty file that looks like a bundle would trust nobody, silently.
pub(super) fn bundle_pem(state: &State) -> Result<String, HttpError> {
    let roots = state.roots(Ca::Mesh).bundle();
    if roots.is_empty() {
        return Err(no_root());
    }
    Ok(pem::encode_certificates(roots.iter().map(|root| &root.made.certificate)))
}

fn no_root() -> HttpError {
    HttpError::Unavailable("CA is uninitialized and unable to sign certificates yet: there is no root".into())
}

fn roots(state: &State) -> Result<Roots, HttpError> {
    let (trust_domain, cluster) = names(state);
    let bundle = state.roots(Ca::Mesh).bundle();
    roots_of(trust_domain, &cluster, bundle.iter().map(|root| &**root))
}

/// The trust domain and the cluster's id.
fn names(state: &State) -> (String, String) {
    let cluster = state.cluster();
    let trust_domain = cluster.map(|cluster| cluster.trust_domain.to_string());
    (trust_domain.unwrap_or_default(), cluster.map(|cluster| cluster.id.to_string()).unwrap_or_default())
}

/// The answer for these roots of a trust domain and a cluster.
fn roots_of<'a>(
    trust_domain: String,
    cluster: &str,
    roots: impl Iterator<Item = &'a Root> + Clone,
) -> Result<Roots, HttpError> {
    let active = roots.clone().find(|root| root.phase == RootPhase::Active);
    Ok(Roots {
        active_root_id: active.map(|root| root.made.id.to_string()).unwrap_or_default(),
        trust_domain,
        roots: roots.map(|root| entry(cluster, root)).collect::<Result<_, _>>()?,
    })
}

fn entry(cluster: &str, root: &Root) -> Result<RootEntry, HttpError> {
    let made = &root.made;
    let facts = CertificateFacts::read(made.certificate.as_bytes());
    let facts = facts.map_err(|error| HttpError::Internal(format!("root {} cannot be read: {error}", made.id)))?;
    let bridge = root.bridge.as_ref().map(|bridge| vec![pem::encode(pem::CERTIFICATE, &bridge.certificate)]);
    Ok(RootEntry {
        id: made.id.to_string(),
        name: "carrack CA root".into(),
        serial_number: facts.serial.low_64_bits(),
        signing_key_id: made.id.to_string(),
        external_trust_domain: cluster.to_owned(),
        not_before: made.not_before.to_string(),
        not_after: made.not_after.to_string(),
        root_cert: pem::encode(pem::CERTIFICATE, &made.certificate),
        intermediate_certs: bridge,
        active: root.phase == RootPhase::Active,
        private_key_type: made.key_kind.consul_type(),
        private_key_bits: made.key_kind.consul_bits(),
        create_index: root.created.0,
        modify_index: root.modified.0,
    })
}
