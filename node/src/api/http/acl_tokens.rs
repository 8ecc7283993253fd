//! Tokens: made, read, changed, cloned, deleted. Secrets are in the answers that make them and nowhere else.

use axum::response::Response;
use carrack_authority::{
    Command, Rejection, WatchKey,
    acl::{AccessorId, Token, token::secret_digest},
    id::Revision,
    time::Timestamp,
};
use uuid::Uuid;

use super::{
    acl_draft::TokenDraft,
    acl_shapes::TokenEntry,
    call::{Call, View},
    error::HttpError,
    fields::Fields,
    parameters::parse_uuid,
};

/// The id is not repeated: people paste secrets where accessor ids belong.
const NOT_FOUND: &str = "ACL not found: no token has this accessor ID";

/// `GET /v1/acl/tokens`
pub(super) async fn list(call: Call) -> Result<Response, HttpError> {
    for name in ["role", "authmethod"] {
        if call.parameters.text(name).is_some() {
            let text = format!("tokens cannot be listed by `{name}`: roles and auth methods are not here");
            return Err(HttpError::NotImplemented(text));
        }
    }
    let policy =
        call.parameters.text("policy").map(|id| parse_uuid(id).ok_or_else(|| not_uuid("policy"))).transpose()?;
    let service = call.parameters.text("servicename");
    let is_wanted = |token: &Token| {
        policy.is_none_or(|policy| token.policies.iter().any(|id| id.0 == policy))
            && service.is_none_or(|service| token.service_identities.iter().any(|own| own.service.as_str() == service))
    };
    let (view, index) = call.watched(WatchKey::Tokens).await?;
    let is_whole = policy.is_none() && service.is_none();
    let anonymous = is_whole.then(TokenEntry::anonymous).into_iter();
    let tokens = view.state().acl().tokens().filter(|token| is_alive(token, call.now()) && is_wanted(token));
    let entries: Vec<_> = anonymous.chain(tokens.map(|token| TokenEntry::of(token, view.state()))).collect();
    Ok(call.json(&entries)?.with_index(index).with_freshness(view.freshness).with_filtered(false).into_response())
}

/// `GET /v1/acl/token/<accessor>`
pub(super) async fn read(call: Call) -> Result<Response, HttpError> {
    let accessor = accessor(&call)?;
    let read = |view: &View| {
        if accessor == AccessorId::ANONYMOUS {
            return Ok(TokenEntry::anonymous());
        }
        Ok(TokenEntry::of(found(view, accessor, call.now())?, view.state()))
    };
    call.read(WatchKey::Token(accessor), read).await
}

/// `GET /v1/acl/token/self`
pub(super) async fn read_own(call: Call) -> Result<Response, HttpError> {
    let view = call.view().await?;
    let token = view.token()?;
    let answer = call.json(&TokenEntry::of(token, view.state()))?;
    Ok(answer.with_index(token.modified.0).with_freshness(view.freshness).into_response())
}

/// What a secondary cannot write.
const GLOBAL_TOKEN: &str = "a token that holds in every datacenter (one that is not `Local`)";

/// `PUT /v1/acl/token`
pub(super) async fn create(call: Call) -> Result<Response, HttpError> {
    let draft = TokenDraft::read(&call.body)?;
    let view = call.committed_view().await?;
    if draft.is_local != Some(true) {
        // Before its links are looked up: the primary may have made them meanwhile.
        view.state().only_in_primary(GLOBAL_TOKEN)?;
    }
    let (accessor, secret) = (draft.accessor, draft.secret);
    let (accessor, secret) =
        (accessor.unwrap_or_else(|| random_uuid(&call)), secret.unwrap_or_else(|| random_uuid(&call)));
    let token = draft.into_new(view.state(), accessor, &secret, call.now())?;
    put_new(&call, token, &secret).await
}

/// `PUT /v1/acl/token/<accessor>/clone`
pub(super) async fn clone(call: Call) -> Result<Response, HttpError> {
    let mut fields = Fields::of_body("the clone", &call.body)?;
    let description = fields.some_text("Description")?;
    fields.ignore(&["AccessorID", "SecretID", "Local", "CreateTime", "Hash", "CreateIndex", "ModifyIndex"]);
    fields.finish()?;
    let view = call.committed_view().await?;
    let former = found(&view, accessor(&call)?, call.now())?;
    let secret = random_uuid(&call);
    let clone = Token {
        accessor: AccessorId(random_uuid(&call)),
        secret: secret_digest(&secret),
        description: description.unwrap_or_else(|| former.description.clone()),
        created: Revision::default(),
        modified: Revision::default(),
        ..Token::clone(former)
    };
    put_new(&call, clone, &secret).await
}

/// `PUT /v1/acl/token/<accessor>`
pub(super) async fn update(call: Call) -> Result<Response, HttpError> {
    let draft = TokenDraft::read(&call.body)?;
    let view = call.committed_view().await?;
    let former = found(&view, accessor(&call)?, call.now())?;
    if !former.is_local {
        view.state().only_in_primary(GLOBAL_TOKEN)?;
    }
    let expected = former.modified;
    let token = draft.into_changed(view.state(), former)?;
    let proposed = call.propose(Command::PutToken { expected, token: token.clone() }).await?;
    let token = Token { modified: Revision(proposed.index), ..token };
    Ok(call.json(&TokenEntry::of(&token, view.state()))?.into_response())
}

/// `DELETE /v1/acl/token/<accessor>`
pub(super) async fn delete(call: Call) -> Result<Response, HttpError> {
    let accessor = accessor(&call)?;
    if accessor == AccessorId::ANONYMOUS {
        return Err(HttpError::BadRequest("Delete operation not permitted on the anonymous token".into()));
    }
    let view = call.committed_view().await?;
    if view.caller.accessor() == Some(accessor) {
        return Err(HttpError::BadRequest("Deletion of the request's authorization token is not permitted".into()));
    }
    call.propose(Command::DeleteToken { accessor }).await?;
    call.yes()
}

/// Makes the token and answers it with its secret, this once.
pub(super) async fn put_new(call: &Call, token: Token, secret: &Uuid) -> Result<Response, HttpError> {
    let command = Command::PutToken { expected: Revision::default(), token: token.clone() };
    let proposed = call.propose(command).await.map_err(|error| match error {
        HttpError::Rejected(Rejection::Conflict { .. }) => {
            HttpError::BadRequest("Invalid Token: AccessorID is already in use".into())
        }
        HttpError::Rejected(Rejection::AlreadyExists { .. }) => {
            HttpError::BadRequest("Invalid Token: SecretID is already in use".into())
        }
        error => error,
    })?;
    answer_new(call, token, secret, proposed.index).await
}

/// The answer for a token that was made at `index`. Its times come from the state; if this server is too far behind, from here.
pub(super) async fn answer_new(call: &Call, token: Token, secret: &Uuid, index: u64) -> Result<Response, HttpError> {
    let applied = call.state_after(index).await;
    let made = applied.as_ref().and_then(|applied| applied.state.acl().token(token.accessor, call.now()));
    let entry = match (&applied, made) {
        (Some(applied), Some(made)) => TokenEntry::of(made, &applied.state),
        _ => {
            let local = call.edge.context.replica.state();
            TokenEntry::of(&Token { created: Revision(index), modified: Revision(index), ..token }, &local.state)
        }
    };
    Ok(call.json(&entry.with_secret(secret))?.with_secret().into_response())
}

/// A random UUID of version 4 (RFC 9562 section 5.4).
pub(super) fn random_uuid(call: &Call) -> Uuid {
    let mut bytes = [0; 16];
    call.edge.context.entropy.fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

fn accessor(call: &Call) -> Result<AccessorId, HttpError> {
    parse_uuid(call.variable()).map(AccessorId).ok_or_else(|| not_uuid("token's accessor ID"))
}

/// The text is not repeated: people paste secrets where accessor ids belong.
pub(super) fn not_uuid(what: &str) -> HttpError {
    HttpError::BadRequest(format!("the {what} is not a UUID"))
}

fn found(view: &View, accessor: AccessorId, now: Timestamp) -> Result<&Token, HttpError> {
    let token = view.state().acl().token(accessor, now);
    token.map(|token| &**token).ok_or_else(|| HttpError::NotFound(NOT_FOUND.into()))
}

fn is_alive(token: &Token, now: Timestamp) -> bool {
    token.expires_at.is_none_or(|end| end > now)
}
