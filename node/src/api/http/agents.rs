//! The agents of this datacenter: their tokens, who they are, and their end.

use std::{collections::BTreeMap, time::Duration};

use axum::response::Response;
use carrack_authority::{Command, State, WatchKey, id::Digest, spiffe::Name};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    call::{Call, of_proposal},
    error::HttpError,
    fields::Fields,
};
use crate::server::{
    agent_token::{AGENT_TOKEN_TTL_DEFAULT, CreateAgentTokenError, create_agent_token},
    agents::ConnectedAgent,
};

/// The most agents in one answer: the bound of its bytes.
const AGENTS_SHOWN_MAX: usize = 10_000;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AgentTokenEntry<'a> {
    token: &'a str,
    node_name: String,
    expires_at: String,
    command: &'a str,
}

/// `PUT /v1/carrack/agent-token`
pub(super) async fn make_token(call: Call) -> Result<Response, HttpError> {
    let mut fields = Fields::of_body("the agent token", &call.body)?;
    let name = fields.some_text("NodeName")?;
    let ttl: Duration = fields.span("TTL")?.unwrap_or(AGENT_TOKEN_TTL_DEFAULT);
    fields.finish()?;
    let name =
        name.ok_or_else(|| HttpError::BadRequest("NodeName is missing: an agent token is for one host".into()))?;
    let name = Name::parse("node name", &name).map_err(|error| HttpError::BadRequest(error.to_string()))?;
    call.committed_view().await?;
    let made = create_agent_token(&call.edge.context, name, ttl).await;
    let (token, expires_at) = made.map_err(of_agent_token)?;
    let text = token.expose_text();
    let command = Zeroizing::new(format!("carrack agent --join {}", *text));
    let entry = AgentTokenEntry {
        token: &text,
        node_name: token.node.to_string(),
        expires_at: expires_at.to_string(),
        command: &command,
    };
    Ok(call.json(&entry)?.with_secret().into_response())
}

fn of_agent_token(error: CreateAgentTokenError) -> HttpError {
    match error {
        CreateAgentTokenError::BadTtl(_) => HttpError::BadRequest(error.to_string()),
        CreateAgentTokenError::NotBegun => HttpError::Unavailable(error.to_string()),
        CreateAgentTokenError::Propose(error) => of_proposal(error),
        CreateAgentTokenError::Rejected(rejection) => rejection.into(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AgentEntry {
    node_name: String,
    joined_at: String,
    /// Whether it holds a stream of the server that was asked; each agent holds one, of one server.
    connected_here: bool,
    /// The revision of the bundle that it has in use, where it is connected.
    bundle_revision: Option<u64>,
}

/// `GET /v1/carrack/agents`
pub(super) async fn list(call: Call) -> Result<Response, HttpError> {
    let (view, index) = call.watched(WatchKey::Agents).await?;
    let connected = call.edge.context.agents.by_key();
    let entries = entries(view.state(), &connected);
    Ok(call.json(&entries)?.with_index(index).with_freshness(view.freshness).into_response())
}

fn entries(state: &State, connected: &BTreeMap<Digest, ConnectedAgent>) -> Vec<AgentEntry> {
    let entry = |agent: &std::sync::Arc<carrack_authority::agent::Agent>| {
        let here = connected.get(&agent.public_key);
        AgentEntry {
            node_name: agent.node.to_string(),
            joined_at: agent.joined_at.to_string(),
            connected_here: here.is_some(),
            bundle_revision: here.map(|here| here.has_bundle.0),
        }
    };
    state.agents().take(AGENTS_SHOWN_MAX).map(entry).collect()
}

/// `DELETE /v1/carrack/agents/<node>`
pub(super) async fn remove(call: Call) -> Result<Response, HttpError> {
    let view = call.committed_view().await?;
    let node = call.name("node name")?;
    let agent = view.state().agent(&node);
    let agent = agent.ok_or_else(|| {
        HttpError::NotFound(format!("no agent is named `{node}`: `carrack agent list` shows those that are known"))
    })?;
    call.propose(Command::RemoveAgent { node: node.clone(), expected: agent.modified }).await?;
    call.yes()
}
