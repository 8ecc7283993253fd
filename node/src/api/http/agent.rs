//! The routes that Consul's agent answers for the workloads of its own machine. A server plays the agent until there is one.

use axum::response::Response;
use carrack_authority::{spiffe::Identity, x509::pem};
use serde::Serialize;
use tokio::time::Instant;

use super::{answer::Answer, call::Call, dispatch::is_loopback, error::HttpError};
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
        let index = served.leaf.index;
        if call.parameters.index == 0 || index > call.parameters.index || Instant::now() >= deadline {
            // Issuing took its time: the token is looked at again before anything is handed out.
            call.local_view()?;
            return leaf_answer(&call, service.as_str(), &served.leaf, served.age);
        }
        let accessor = token.accessor;
        tokio::select! {
            () = call.edge.leaves.wait_newer(accessor, &service, call.parameters.index, deadline) => {}
            changed = call.token_changed(&view, deadline) => changed?,
        }
    }
}

fn leaf_answer(
    call: &Call,
    service: &str,
    leaf: &KeptLeaf,
    age: Option<std::time::Duration>,
) -> Result<Response, HttpError> {
    with_leaf(service, leaf, age, call.parameters.is_pretty)
}

/// A leaf with its key, as Consul's agents answer it.
pub(super) fn with_leaf(
    service: &str,
    leaf: &KeptLeaf,
    age: Option<std::time::Duration>,
    is_pretty: bool,
) -> Result<Response, HttpError> {
    let certificates = std::iter::once(&leaf.certificate).chain(&leaf.chain);
    let key = leaf.key.to_pem();
    let body = Leaf {
        serial_number: leaf.serial.to_string(),
        cert_pem: pem::encode_certificates(certificates),
        private_key_pem: &key,
        service: service.to_owned(),
        service_uri: uri(&leaf.identity),
        valid_after: leaf.not_before.to_string(),
        valid_before: leaf.not_after.to_string(),
        create_index: leaf.index,
        modify_index: leaf.index,
    };
    let answer = Answer::json(&body, is_pretty)?;
    Ok(answer.with_index(leaf.index).with_cache(age).with_secret().into_response())
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
        IssueError::Unavailable(_) => HttpError::Unavailable(text),
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
        primary_datacenter: own.datacenter.to_string(),
        node_name: own.name.to_string(),
        node_id: own.node.to_string(),
        server: true,
        version: env!("CARGO_PKG_VERSION"),
    };
    let member = AboutMember { name: own.name.to_string(), addr: address };
    Ok(call.json(&About { config, member })?.into_response())
}
