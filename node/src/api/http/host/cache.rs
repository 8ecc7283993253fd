//! What an agent says of itself: who it is, what it knows, and how it hears its servers.

use axum::response::Response;
use serde::Serialize;

use super::HostCall;
use crate::api::http::{answer::Answer, error::HttpError};

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
pub(super) async fn about(call: HostCall) -> Result<Response, HttpError> {
    call.rights().await?;
    let own = &call.edge.identity;
    let primary = call.edge.followed.bundle().map(|bundle| bundle.told.primary.to_string());
    let config = AboutConfig {
        datacenter: own.datacenter.to_string(),
        primary_datacenter: primary.unwrap_or_default(),
        node_name: own.node.to_string(),
        server: false,
        version: env!("CARGO_PKG_VERSION"),
    };
    let member = AboutMember { name: own.node.to_string(), addr: "127.0.0.1".into() };
    Ok(Answer::json(&About { config, member }, call.parameters.is_pretty)?.into_response())
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Cache {
    node_name: String,
    datacenter: String,
    /// The server that is spoken to.
    server: Option<String>,
    /// How long ago a server was heard.
    silent_seconds: Option<u64>,
    /// Why none is spoken to, or was not at the last try.
    trouble: Option<String>,
    /// Why nothing is served now.
    not_serving: Option<String>,
    bundle_revision: Option<u64>,
    roots: usize,
    tokens: usize,
    leaves: Vec<CachedLeaf>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CachedLeaf {
    service: String,
    #[serde(rename = "AccessorID")]
    accessor: String,
    serial_number: String,
    valid_before: String,
    renews_at: String,
    failed_renewals: u32,
}

/// `GET /v1/carrack/agent/cache`: for whoever may read this agent.
pub(super) async fn read(call: HostCall) -> Result<Response, HttpError> {
    let edge = &call.edge;
    // What it knows is shown also while nothing is served: that is when it is looked for.
    let not_serving = edge.followed.not_fresh();
    if not_serving.is_none() {
        call.expect_agent_read().await?;
    }
    let (heard, bundle) = (edge.followed.heard(), edge.followed.bundle());
    let leaves = edge.leaves.list().into_iter().map(|kept| CachedLeaf {
        service: kept.service.to_string(),
        accessor: kept.token.to_string(),
        serial_number: kept.leaf.serial.to_string(),
        valid_before: kept.leaf.not_after.to_string(),
        renews_at: kept.renew_at.to_string(),
        failed_renewals: kept.failures,
    });
    let cache = Cache {
        node_name: edge.identity.node.to_string(),
        datacenter: edge.identity.datacenter.to_string(),
        server: heard.server,
        silent_seconds: heard.at.map(|at| at.elapsed().as_secs()),
        trouble: heard.trouble,
        leaves: if not_serving.is_none() { leaves.collect() } else { Vec::new() },
        not_serving,
        bundle_revision: bundle.as_ref().map(|bundle| bundle.revision.0),
        roots: bundle.map_or(0, |bundle| bundle.roots().len()),
        tokens: edge.followed.token_count(),
    };
    Ok(Answer::json(&cache, call.parameters.is_pretty)?.into_response())
}
