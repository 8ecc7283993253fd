//! The routes that Consul's agent answers for the workloads of its own machine. A server plays the agent until there is one.

use std::time::Duration;

use axum::response::Response;
use carrack_authority::{
    key::Der,
    spiffe::{Identity, Name},
    x509::pem,
};
use serde::Serialize;
use tokio::time::Instant;

use super::{
    answer::{Answer, content_hash},
    call::Call,
    dispatch::is_loopback,
    error::HttpError,
    parameters::Parameters,
};
use crate::{agent::leaf_source::KeptLeaf, server::desk::IssueError};

/// Consul's answer for a leaf: the only one of all routes that holds a private key.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Leaf<'a> {
    serial_number: String,
    #[serde(rename = "CertPEM")]
    cert_pem: String,
    #[serde(rename = "PrivateKeyPEM")]
    private_key_pem: &'a str,
    service: String,
    #[serde(rename = "ServiceURI")]
    service_uri: String,
    valid_after: String,
    valid_before: String,
    create_index: u64,
    modify_index: u64,
}

/// `GET /v1/agent/connect/ca/leaf/<service>`
pub(super) async fn leaf(call: Call) -> Result<Response, HttpError> {
    if !call.peer.is_some_and(is_loopback) {
        let text = "a leaf with its private key is given to clients on this machine alone; \
                    make the key where it is used and ask with `carrack leaf get` or PUT /v1/carrack/sign";
        return Err(HttpError::PermissionDenied(text.into()));
    }
    let service = call.name("service")?;
    let deadline = Instant::now() + call.wait();
    loop {
        let view = call.local_view()?;
        let token = view.token()?;
        let served = call.edge.leaves.leaf(token.accessor, &service).await.map_err(of_issue)?;
        let leaf = LeafAnswer::new(&service, &served.leaf);
        if leaf.is_news(&call.parameters) || Instant::now() >= deadline {
            // Issuing took its time: the token is looked at again before anything is handed out.
            let age = call.local_view()?.freshness.staleness();
            return leaf.respond(&call.parameters, served.is_hit.then_some(age));
        }
        let (accessor, index) = (token.accessor, served.leaf.index);
        tokio::select! {
            () = call.edge.leaves.wait_newer(accessor, &service, index, deadline) => {}
            changed = call.token_changed(&view, deadline) => changed?,
        }
    }
}

/// A leaf with its key, as Consul's agents answer it.
pub(super) struct LeafAnswer<'a> {
    service: &'a Name,
    leaf: &'a KeptLeaf,
    /// Of what is public in it.
    hash: String,
}

impl<'a> LeafAnswer<'a> {
    pub(super) fn new(service: &'a Name, leaf: &'a KeptLeaf) -> Self {
        let certificates = std::iter::once(&leaf.certificate).chain(&leaf.chain);
        Self { service, leaf, hash: content_hash(certificates.map(Der::as_bytes)) }
    }

    /// Whether the request waits for it no longer.
    pub(super) fn is_news(&self, parameters: &Parameters) -> bool {
        parameters.is_newer(self.leaf.index) && parameters.is_other(&self.hash)
    }

    /// The answer. `age`: for how long it may have changed unheard; `None`: it was made for this request.
    pub(super) fn respond(&self, parameters: &Parameters, age: Option<Duration>) -> Result<Response, HttpError> {
        let leaf = self.leaf;
        let certificates = std::iter::once(&leaf.certificate).chain(&leaf.chain);
        let key = leaf.key.to_pem();
        let body = Leaf {
            serial_number: leaf.serial.to_string(),
            cert_pem: pem::encode_certificates(certificates),
            private_key_pem: &key,
            service: self.service.to_string(),
            service_uri: uri(&leaf.identity),
            valid_after: leaf.not_before.to_string(),
            valid_before: leaf.not_after.to_string(),
            create_index: leaf.index,
            modify_index: leaf.index,
        };
        let answer = Answer::json(&body, parameters.is_pretty)?;
        Ok(answer.with_index(leaf.index).with_hash(&self.hash).with_cache(age).with_secret().into_response())
    }
}

fn uri(identity: &Identity) -> String {
    match identity {
        Identity::Spiffe(id) => id.to_string(),
        Identity::LinkerdDns(_) => String::new(),
    }
}

/// What the desk refused, as HTTP has it.
pub(super) fn of_issue(error: IssueError) -> HttpError {
    let text = error.to_string();
    match error {
        IssueError::CallerMistake(_) => HttpError::BadRequest(text),
        IssueError::PermissionDenied(_) => {
            let reason = text.strip_prefix("Permission denied: ").unwrap_or(&text);
            HttpError::PermissionDenied(reason.to_owned())
        }
        IssueError::RateLimited { retry_after, .. } => HttpError::RateLimited { retry_after },
        IssueError::Halted => HttpError::Halted,
        IssueError::HaltUnknown(_) => HttpError::HaltUnknown(text),
        IssueError::Unavailable(_) | IssueError::IssuerRefused(_) => HttpError::Unavailable(text),
        IssueError::OutcomeUnknown => HttpError::OutcomeUnknown(text),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct About {
    config: AboutConfig,
    member: AboutMember,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AboutConfig {
    datacenter: String,
    primary_datacenter: String,
    node_name: String,
    #[serde(rename = "NodeID")]
    node_id: String,
    server: bool,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AboutMember {
    name: String,
    addr: String,
}

/// `GET /v1/agent/self`: what clients read to learn the datacenter.
pub(super) async fn about(call: Call) -> Result<Response, HttpError> {
    let view = call.local_view()?;
    let own = &call.edge.context.identity;
    let address = view.state().member(own.node).map(|member| member.addresses.raft.clone()).unwrap_or_default();
    let config = AboutConfig {
        datacenter: own.datacenter.to_string(),
        primary_datacenter: view.state().primary().unwrap_or(&own.datacenter).to_string(),
        node_name: own.name.to_string(),
        node_id: own.node.to_string(),
        server: true,
        version: env!("CARGO_PKG_VERSION"),
    };
    let member = AboutMember { name: own.name.to_string(), addr: address };
    Ok(call.json(&About { config, member })?.into_response())
}
