//! Policies: made, read, changed, deleted. The rules are parsed here, once; the log carries what they say.

use axum::response::Response;
use carrack_authority::{
    Command, Rejection, State, WatchKey,
    acl::{Policy, PolicyId, rules::parse_rules},
    id::Revision,
};

use super::{
    acl_draft::names,
    acl_shapes::{GLOBAL_MANAGEMENT, PolicyEntry, global_management},
    acl_tokens::{not_uuid, random_uuid},
    call::{Call, View},
    error::HttpError,
    fields::Fields,
    parameters::parse_uuid,
};

/// `GET /v1/acl/policies`
pub(super) async fn list(call: Call) -> Result<Response, HttpError> {
    let (view, index) = call.watched(WatchKey::Policies).await?;
    let policies = view.state().acl().policies().map(|policy| &**policy);
    let entries: Vec<_> = std::iter::once(global_management()).chain(policies).map(PolicyEntry::in_list).collect();
    Ok(call.json(&entries)?.with_index(index).with_freshness(view.freshness).with_filtered(false).into_response())
}

/// `GET /v1/acl/policy/<id>`
pub(super) async fn read(call: Call) -> Result<Response, HttpError> {
    let id = id(&call)?;
    call.read(WatchKey::Policies, |view| found(view.state(), id).map(PolicyEntry::of)).await
}

/// `GET /v1/acl/policy/name/<name>`
pub(super) async fn read_by_name(call: Call) -> Result<Response, HttpError> {
    let name = call.variable();
    let read = |view: &View| {
        if name == GLOBAL_MANAGEMENT {
            return Ok(PolicyEntry::of(global_management()));
        }
        let policy = view.state().acl().policy_of_name(name);
        policy
            .map(|policy| PolicyEntry::of(policy))
            .ok_or_else(|| HttpError::NotFound("ACL not found: no policy has this name".into()))
    };
    call.read(WatchKey::Policies, read).await
}

/// `PUT /v1/acl/policy`
pub(super) async fn create(call: Call) -> Result<Response, HttpError> {
    let draft = PolicyDraft::read(&call.body)?;
    if draft.id.is_some() {
        return Err(HttpError::BadRequest("Cannot specify the ID when creating a new policy".into()));
    }
    call.committed_view().await?;
    let id = PolicyId(random_uuid(&call));
    put(&call, Revision::default(), draft.into_policy(id, Revision::default())).await
}

/// `PUT /v1/acl/policy/<id>`
pub(super) async fn update(call: Call) -> Result<Response, HttpError> {
    let (id, draft) = (id(&call)?, PolicyDraft::read(&call.body)?);
    if draft.id.is_some_and(|other| other != id) {
        return Err(HttpError::BadRequest("Policy ID in URL and payload do not match".into()));
    }
    let view = call.committed_view().await?;
    let former = found(view.state(), id)?;
    put(&call, former.modified, draft.into_policy(id, former.created)).await
}

/// `DELETE /v1/acl/policy/<id>`
pub(super) async fn delete(call: Call) -> Result<Response, HttpError> {
    let policy = id(&call)?;
    if policy == PolicyId::GLOBAL_MANAGEMENT {
        let text = "Delete operation not permitted on the builtin global-management policy";
        return Err(HttpError::BadRequest(text.into()));
    }
    call.committed_view().await?;
    call.propose(Command::DeletePolicy { policy }).await?;
    call.yes()
}

async fn put(call: &Call, expected: Revision, policy: Policy) -> Result<Response, HttpError> {
    let command = Command::PutPolicy { expected, policy: policy.clone() };
    let is_name_taken = |rejection: &Rejection| match rejection {
        Rejection::AlreadyExists { .. } => true,
        // A new policy has a random id: what is built in is its name.
        Rejection::BuiltIn { .. } => expected == Revision::default(),
        _ => false,
    };
    let proposed = call.propose(command).await.map_err(|error| match error {
        HttpError::Rejected(rejection) if is_name_taken(&rejection) => {
            let text = format!("Invalid Policy: A Policy with Name \"{}\" already exists", policy.name);
            HttpError::BadRequest(text)
        }
        error => error,
    })?;
    let modified = Revision(proposed.index);
    let created = if expected == Revision::default() { modified } else { policy.created };
    Ok(call.json(&PolicyEntry::of(&Policy { created, modified, ..policy }))?.into_response())
}

fn id(call: &Call) -> Result<PolicyId, HttpError> {
    parse_uuid(call.variable()).map(PolicyId).ok_or_else(|| not_uuid("policy's ID"))
}

fn found(state: &State, id: PolicyId) -> Result<&Policy, HttpError> {
    if id == PolicyId::GLOBAL_MANAGEMENT {
        return Ok(global_management());
    }
    let policy = state.acl().policy(id).map(|policy| &**policy);
    policy.ok_or_else(|| HttpError::NotFound("ACL not found: no policy has this ID".into()))
}

/// A policy as a client asks for it.
#[derive(Debug)]
struct PolicyDraft {
    id: Option<PolicyId>,
    policy: Policy,
}

impl PolicyDraft {
    fn read(body: &[u8]) -> Result<Self, HttpError> {
        let mut fields = Fields::of_body("the policy", body)?;
        let id = fields.some_text("ID")?;
        let id = id.map(|id| parse_uuid(&id).map(PolicyId).ok_or_else(|| not_uuid("policy's ID"))).transpose()?;
        let name = fields.text("Name")?.unwrap_or_default();
        let description = fields.text("Description")?.unwrap_or_default();
        let source = fields.text("Rules")?.unwrap_or_default();
        let datacenters = names(&fields.texts("Datacenters")?)?;
        for name in ["Namespace", "Partition"] {
            fields.refuse_unless_empty(name)?;
        }
        fields.ignore(&["Hash", "CreateIndex", "ModifyIndex"]);
        fields.finish()?;
        check_name(&name)?;
        let rules = parse_rules(&source).map_err(|error| HttpError::BadRequest(format!("Invalid Policy: {error}")))?;
        let (created, modified) = (Revision::default(), Revision::default());
        let new = PolicyId(uuid::Uuid::nil());
        let policy = Policy { id: new, name, description, source, rules: rules.into(), datacenters, created, modified };
        Ok(Self { id, policy })
    }

    fn into_policy(self, id: PolicyId, created: Revision) -> Policy {
        Policy { id, created, ..self.policy }
    }
}

/// Consul's grammar.
fn check_name(name: &str) -> Result<(), HttpError> {
    if name.is_empty() {
        return Err(HttpError::BadRequest("Invalid Policy: no Name is set".into()));
    }
    let is_allowed = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
    if name.len() <= 128 && name.chars().all(is_allowed) {
        return Ok(());
    }
    let text =
        "Invalid Policy: invalid Policy name. Only alphanumeric characters, '-' and '_' are allowed, at most 128";
    Err(HttpError::BadRequest(text.into()))
}
