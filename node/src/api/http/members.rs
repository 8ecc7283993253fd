//! The servers of the datacenter: listed, removed, and the tokens with which new ones join.

use std::time::Duration;

use axum::{http::StatusCode, response::Response};
use carrack_authority::{Command, State, WatchKey, id::NodeId, member::Member, spiffe::Name};
use serde::Serialize;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    call::{Call, View, of_proposal},
    error::HttpError,
    fields::Fields,
    standing::Standing,
};
use crate::server::join_token::{CreateJoinTokenError, JOIN_TOKEN_TTL_DEFAULT, create_join_token};

/// How long the answer waits for a removal, which the leader carries out step by step.
const REMOVAL_WITHIN: Duration = Duration::from_secs(15);

/// A server, as lists show it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MemberEntry {
    node_id: u64,
    node_name: String,
    raft_address: String,
    grpc_address: String,
    role: &'static str,
    voter: bool,
    leaving: bool,
    feature_level: u32,
    certificate_expiry: Option<String>,
    reachable: Option<bool>,
    replication_lag: Option<u64>,
}

/// The servers, by id.
pub(super) fn entries(state: &State, standing: &Standing) -> Vec<MemberEntry> {
    state.members().map(|member| entry(member, standing)).collect()
}

fn entry(member: &Member, standing: &Standing) -> MemberEntry {
    MemberEntry {
        node_id: member.node.0,
        node_name: member.name.to_string(),
        raft_address: member.addresses.raft.clone(),
        grpc_address: member.addresses.grpc.clone(),
        role: standing.role_of(member.node),
        voter: standing.voters.contains(&member.node),
        leaving: member.is_leaving,
        feature_level: member.supports.0,
        certificate_expiry: member.certificate.as_ref().map(|certificate| certificate.not_after.to_string()),
        reachable: standing.is_reachable(member.node),
        replication_lag: standing.lag_of(member.node),
    }
}

/// `GET /v1/carrack/members`
pub(super) async fn list(call: Call) -> Result<Response, HttpError> {
    let (view, index) = call.watched(WatchKey::Members).await?;
    let entries = entries(view.state(), &Standing::of(&call.edge.context.replica));
    Ok(call.json(&entries)?.with_index(index).with_freshness(view.freshness).into_response())
}

/// `DELETE /v1/carrack/members/<name or id>`
pub(super) async fn remove(call: Call) -> Result<Response, HttpError> {
    let view = call.committed_view().await?;
    let node = meant(&view, call.variable())?;
    call.propose(Command::RequestRemoval { node }).await?;
    let answer = call.json(&true)?;
    if is_gone_in_time(&call, node).await? {
        return Ok(answer.into_response());
    }
    Ok(answer.with_status(StatusCode::ACCEPTED).into_response())
}

/// The server of this name, or else of this id. One that was removed is found too: removing it again is done.
fn meant(view: &View, text: &str) -> Result<NodeId, HttpError> {
    let state = view.state();
    if let Some(member) = state.members().find(|member| member.name.as_str() == text) {
        return Ok(member.node);
    }
    let by_id = text.parse().ok().map(NodeId);
    let by_id = by_id.filter(|node| state.member(*node).is_some() || state.removed_member(*node).is_some());
    by_id.ok_or_else(|| HttpError::NotFound("no server has this name or id: see `carrack members list`".into()))
}

async fn is_gone_in_time(call: &Call, node: NodeId) -> Result<bool, HttpError> {
    let deadline = Instant::now() + REMOVAL_WITHIN;
    let replica = &call.edge.context.replica;
    loop {
        let applied = replica.state();
        if applied.state.member(node).is_none() {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        let seen = applied.state.modified(&WatchKey::Members);
        call.wait_for(WatchKey::Members, seen, deadline).await?;
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct JoinTokenEntry<'a> {
    token: &'a str,
    node_name: String,
    expires_at: String,
    command: &'a str,
}

/// `PUT /v1/carrack/join-token`
pub(super) async fn make_join_token(call: Call) -> Result<Response, HttpError> {
    let mut fields = Fields::of_body("the join token", &call.body)?;
    let name = fields.some_text("NodeName")?;
    let ttl = fields.span("TTL")?.unwrap_or(JOIN_TOKEN_TTL_DEFAULT);
    fields.finish()?;
    let name =
        name.ok_or_else(|| HttpError::BadRequest("NodeName is missing: a join token is for one server".into()))?;
    let name = Name::parse("node name", &name).map_err(|error| HttpError::BadRequest(error.to_string()))?;
    call.committed_view().await?;
    let made = create_join_token(&call.edge.context, name, ttl).await;
    let (token, expires_at) = made.map_err(of_join_token)?;
    let text = token.expose_text();
    let command = Zeroizing::new(format!("carrack server --join {}", *text));
    let entry = JoinTokenEntry {
        token: &text,
        node_name: token.node_name.to_string(),
        expires_at: expires_at.to_string(),
        command: &command,
    };
    Ok(call.json(&entry)?.with_secret().into_response())
}

fn of_join_token(error: CreateJoinTokenError) -> HttpError {
    match error {
        CreateJoinTokenError::BadTtl(_) => HttpError::BadRequest(error.to_string()),
        CreateJoinTokenError::NotBegun => HttpError::Unavailable(error.to_string()),
        CreateJoinTokenError::Propose(error) => of_proposal(error),
        CreateJoinTokenError::Rejected(rejection) => rejection.into(),
    }
}
