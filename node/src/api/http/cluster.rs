//! Who leads and who votes, in Consul's forms.

use axum::response::Response;
use carrack_authority::{State, id::NodeId};
use serde::Serialize;

use super::{call::Call, error::HttpError, standing::Standing};

/// Consul's Raft protocol version: the one of every Consul that clients know.
const RAFT_PROTOCOL: &str = "3";

/// `GET /v1/status/leader`: the address, or an empty text.
pub(super) async fn leader(call: Call) -> Result<Response, HttpError> {
    let view = call.local_view()?;
    let standing = Standing::of(&call.edge.context.replica);
    let address = standing.leader.map(|leader| address(&standing, view.state(), leader)).unwrap_or_default();
    Ok(call.json(&address)?.into_response())
}

/// `GET /v1/status/peers`: the addresses of the voters.
pub(super) async fn peers(call: Call) -> Result<Response, HttpError> {
    let view = call.local_view()?;
    let standing = Standing::of(&call.edge.context.replica);
    let addresses: Vec<_> = standing.voters.iter().map(|node| address(&standing, view.state(), *node)).collect();
    Ok(call.json(&addresses)?.into_response())
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RaftConfiguration {
    servers: Vec<RaftServer>,
    index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RaftServer {
    #[serde(rename = "ID")]
    id: String,
    node: String,
    address: String,
    leader: bool,
    protocol_version: &'static str,
    voter: bool,
    last_index: Option<u64>,
}

/// `GET /v1/operator/raft/configuration`
pub(super) async fn raft_configuration(call: Call) -> Result<Response, HttpError> {
    let view = call.view().await?;
    let standing = Standing::of(&call.edge.context.replica);
    let servers = standing.voters.iter().chain(&standing.learners).map(|node| RaftServer {
        id: node.to_string(),
        node: name(view.state(), *node),
        address: address(&standing, view.state(), *node),
        leader: standing.leader == Some(*node),
        protocol_version: RAFT_PROTOCOL,
        voter: standing.voters.contains(node),
        last_index: standing.last_index_of(*node),
    });
    let configuration = RaftConfiguration { servers: servers.collect(), index: view.applied.index };
    Ok(call.json(&configuration)?.with_freshness(view.freshness).into_response())
}

/// The name of a server; one that is not recorded has its id as name.
pub(super) fn name(state: &State, node: NodeId) -> String {
    state.member(node).map_or_else(|| node.to_string(), |member| member.name.to_string())
}

/// The name of the server that leads, if it is another one.
pub(super) fn leader_elsewhere(call: &Call, state: &State) -> Option<String> {
    let leader = call.edge.context.replica.subscribe().borrow().leader;
    leader.filter(|leader| *leader != call.edge.context.identity.node).map(|leader| name(state, leader))
}

fn address(standing: &Standing, state: &State, node: NodeId) -> String {
    let recorded = state.member(node).map(|member| member.addresses.raft.clone());
    recorded.or_else(|| standing.addresses.get(&node).cloned()).unwrap_or_default()
}
