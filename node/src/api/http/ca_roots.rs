//! The bundle: what verifiers trust, in Consul's form. Public, as every verifier needs it.

use axum::{body::Body, response::Response};
use carrack_authority::{
    State, WatchKey,
    root::{Ca, Root, RootPhase},
    x509::{CertificateFacts, pem},
};
use serde::Serialize;

use super::{answer::Answer, call::Call, error::HttpError};

/// Consul's answer for the roots.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Roots {
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

const KEY: WatchKey = WatchKey::Roots(Ca::Mesh);

/// `GET /v1/connect/ca/roots`
pub(super) async fn read(call: Call) -> Result<Response, HttpError> {
    if !call.parameters.flag("pem")? {
        return call.read(KEY, |view| roots(view.state())).await;
    }
    let (view, index) = call.watched(KEY).await?;
    let answer = Answer::of("application/pem-certificate-chain", Body::from(bundle_pem(view.state())?));
    Ok(answer.with_index(index).with_freshness(view.freshness).into_response())
}

/// `GET /v1/agent/connect/ca/roots`: from what this server has applied, which follows the log without being asked.
pub(super) async fn read_as_agent(call: Call) -> Result<Response, HttpError> {
    let (view, index) = call.watched_locally(KEY).await?;
    let age = view.freshness.last_contact;
    Ok(call.json(&roots(view.state())?)?.with_index(index).with_cache(Some(age)).into_response())
}

/// The roots as PEM. None is an error: an empty file that looks like a bundle would trust nobody, silently.
pub(super) fn bundle_pem(state: &State) -> Result<String, HttpError> {
    let roots = state.roots(Ca::Mesh).bundle();
    if roots.is_empty() {
        let text = "CA is uninitialized and unable to sign certificates yet: there is no root";
        return Err(HttpError::Unavailable(text.into()));
    }
    Ok(pem::encode_certificates(roots.iter().map(|root| &root.made.certificate)))
}

fn roots(state: &State) -> Result<Roots, HttpError> {
    let cluster = state.cluster();
    let trust_domain = cluster.map(|cluster| cluster.trust_domain.to_string()).unwrap_or_default();
    let cluster = cluster.map(|cluster| cluster.id.to_string()).unwrap_or_default();
    let bundle = state.roots(Ca::Mesh).bundle();
    roots_of(trust_domain, &cluster, bundle.iter().map(|root| &**root))
}

/// The answer for these roots of a trust domain and a cluster.
pub(super) fn roots_of<'a>(
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
