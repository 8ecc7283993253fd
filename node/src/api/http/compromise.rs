//! What an operator does about a server that is in other hands.

use axum::response::Response;
use carrack_authority::{
    Command, State,
    id::{KeyId, NodeId},
    root::Ca,
    rotation::{ACK_TIMEOUT, RotationCause, RotationRequest, WantedRoot},
    spiffe::Name,
};
use serde::Serialize;

use super::{call::Call, error::HttpError, fields::Fields, rotation::active};

/// What was done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Revoked {
    /// The issuers of the server, which sign nothing more, and whose leaves are refused.
    issuers: Vec<String>,
    /// Whether the server is still one of its datacenter's: no rotation is begun before it was removed there.
    is_member: bool,
    /// The rotation to a root that the server has never had; none where the active root is such a one already.
    rotation: Option<u64>,
}

/// `PUT /v1/carrack/ca/server-revocation`: in the primary for every datacenter. Its issuers are revoked at once; once it is removed, a
/// rotation without a bridge leads away from the root, whose key a server of the primary had. The same may be said again.
pub(super) async fn revoke_server(call: Call) -> Result<Response, HttpError> {
    let mut fields = Fields::of_body("the server", &call.body)?;
    let datacenter = fields.some_text("Datacenter")?;
    let node = fields.index("NodeID")?;
    let reason = fields.text("Reason")?.unwrap_or_default();
    fields.finish()?;
    let node = NodeId(node.ok_or_else(|| {
        HttpError::BadRequest("NodeID is missing: `carrack members list` in the server's datacenter shows it".into())
    })?);
    let view = call.committed_view().await?;
    let state = view.state();
    state.only_in_primary("the revocation of a server's issuers")?;
    let server = Server::find(state, datacenter.as_deref(), node)?;
    let is_left = |id: &KeyId| state.revoked_issuers().find(id).is_none();
    let issuers: Vec<KeyId> = server.issuers(state).into_iter().map(|(id, _)| id).filter(is_left).collect();
    tracing::warn!(?datacenter, %node, issuers = issuers.len(), accessor = ?view.caller.accessor(), "an operator revokes a server");
    for issuer in &issuers {
        let (issuer, reason, is_forced) = (*issuer, reason.clone(), true);
        call.propose(Command::RevokeIssuer { issuer, reason, is_forced }).await?;
    }
    let is_member = server.is_member(state);
    let rotation = match server.has_issuer_under_active(state) && !is_member {
        true => Some(begin_rotation(&call, state).await?),
        false => None,
    };
    let issuers = issuers.iter().map(KeyId::to_string).collect();
    Ok(call.json(&Revoked { issuers, is_member, rotation })?.into_response())
}

/// The rotation away from the root that the server may have had; one that was begun for that already is it.
async fn begin_rotation(call: &Call, state: &State) -> Result<u64, HttpError> {
    if let Some(rotation) = state.rotation().filter(|rotation| rotation.cause == RotationCause::Compromise) {
        return Ok(rotation.id.0);
    }
    let active = active(state)?;
    let (provider, key_kind) = (active.made.provider.clone(), state.ca_config().config.key_kind);
    let request = RotationRequest {
        cause: RotationCause::Compromise,
        expected_active: active.made.id,
        wanted: WantedRoot::Made { provider, key_kind },
        is_bridged: false,
        pauses_before_activation: false,
        ack_timeout: ACK_TIMEOUT,
    };
    Ok(call.propose(Command::StartRotation(Box::new(request))).await?.index)
}

/// A server of this datacenter, or of another one.
enum Server {
    Own(NodeId),
    Other(Name, NodeId),
}

impl Server {
    fn find(state: &State, datacenter: Option<&str>, node: NodeId) -> Result<Self, HttpError> {
        let own = state.cluster().map(|cluster| cluster.datacenter.clone());
        let unknown = || {
            HttpError::NotFound(format!(
                "no server {node} is known there: `carrack members list` in its datacenter shows the ids"
            ))
        };
        let Some(datacenter) = datacenter.filter(|name| own.as_ref().is_none_or(|own| own.as_str() != *name)) else {
            let is_known = state.member(node).is_some() || state.removed_member(node).is_some();
            return if is_known { Ok(Self::Own(node)) } else { Err(unknown()) };
        };
        let other = state.datacenters().find(|other| other.name.as_str() == datacenter);
        let name = other.map(|other| other.name.clone()).ok_or_else(|| {
            HttpError::NotFound(format!(
                "no datacenter `{}` is known: see `carrack federation list`",
                datacenter.escape_default()
            ))
        })?;
        let is_known = state.has_told_of(&name, node) || state.servers_of(&name).is_some_and(|it| it.is_removed(node));
        if is_known { Ok(Self::Other(name, node)) } else { Err(unknown()) }
    }

    fn is_member(&self, state: &State) -> bool {
        match self {
            Self::Own(node) => state.member(*node).is_some(),
            Self::Other(datacenter, node) => state.has_told_of(datacenter, *node),
        }
    }

    /// Each with the root above it, those that sign nothing more too.
    fn issuers(&self, state: &State) -> Vec<(KeyId, KeyId)> {
        match self {
            Self::Own(node) => state.issuers().filter(|it| it.node == *node).map(|it| (it.id, it.root)).collect(),
            Self::Other(datacenter, node) => {
                let theirs = state.remote_issuers().filter(|it| it.datacenter == *datacenter && it.node == *node);
                theirs.map(|it| (it.id, it.root)).collect()
            }
        }
    }

    fn has_issuer_under_active(&self, state: &State) -> bool {
        let active = state.roots(Ca::Mesh).active().map(|root| root.made.id);
        self.issuers(state).iter().any(|(_, root)| Some(*root) == active)
    }
}
