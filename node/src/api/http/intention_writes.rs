//! Intentions are written, each by itself. In a secondary the primary does it: its refusal here has the request passed on.

use axum::response::Response;
use carrack_authority::{
    Command, Rejection, State,
    id::Revision,
    intention::{Intention, Party},
};
use serde::Serialize;

use super::{
    access::Right,
    acl_tokens::random_uuid,
    call::{Call, View},
    error::HttpError,
    intention_draft::{IntentionDraft, party},
    intention_shapes::entry_meta,
    intentions::{id, pair},
};

/// What a secondary cannot write.
pub(super) const AN_INTENTION: &str = "an intention";

#[derive(Serialize)]
struct Made {
    #[serde(rename = "ID")]
    id: String,
}

/// `PUT /v1/connect/intentions/exact`
pub(super) async fn put_exact(call: Call) -> Result<Response, HttpError> {
    let (source, destination) = pair(&call)?;
    let mut draft = IntentionDraft::read(&call.body)?;
    check_same("SourceName", &draft.row.name, &source)?;
    check_same("DestinationName", draft.destination.as_deref().unwrap_or_default(), &destination)?;
    if !draft.meta.is_empty() {
        let text = "Meta must not be specified: it is that of the destination's config entry (PUT /v1/config)";
        return Err(HttpError::BadRequest(text.into()));
    }
    draft.row.name = source.to_string();
    let verified = draft.verify(destination.as_str(), &draft.meta)?;
    let view = writable(&call, &destination).await?;
    let former = view.state().intentions().exact(&destination, &source);
    // One that Consul's deprecated API made is one like the others from now on.
    let meta = former.filter(|former| former.legacy_id.is_none()).map(|former| former.meta.clone());
    let meta = meta.unwrap_or_else(|| entry_meta(view.state(), &destination));
    let expected = former.map_or_else(Revision::default, |former| former.modified);
    put(&call, expected, Intention { meta, ..verified }).await?;
    call.yes()
}

/// `DELETE /v1/connect/intentions/exact`
pub(super) async fn delete_exact(call: Call) -> Result<Response, HttpError> {
    let (source, destination) = pair(&call)?;
    writable(&call, &destination).await?;
    call.propose(Command::DeleteIntention { destination, source }).await?;
    call.yes()
}

/// `POST /v1/connect/intentions`
pub(super) async fn create(call: Call) -> Result<Response, HttpError> {
    let mut draft = IntentionDraft::read(&call.body)?;
    if draft.id.is_some() {
        return Err(HttpError::BadRequest("ID must be empty when creating a new intention".into()));
    }
    let id = random_uuid(&call);
    draft.row.legacy_id = Some(id);
    let verified = verified_with_meta(&mut draft, None)?;
    let view = writable(&call, &verified.destination).await?;
    refuse_duplicate(view.state(), &verified)?;
    let (source, destination) = (verified.source.clone(), verified.destination.clone());
    put(&call, Revision::default(), verified).await.map_err(|error| match error {
        HttpError::Rejected(Rejection::Conflict { .. }) => duplicate(&source, &destination),
        error => error,
    })?;
    Ok(call.json(&Made { id: id.to_string() })?.into_response())
}

/// `PUT /v1/connect/intentions/<uuid>`
pub(super) async fn update(call: Call) -> Result<Response, HttpError> {
    let id = id(&call)?;
    let mut draft = IntentionDraft::read(&call.body)?;
    if draft.id.is_some_and(|other| other != id) {
        return Err(HttpError::BadRequest("Intention ID in URL and payload do not match".into()));
    }
    let view = call.committed_view().await?;
    let former = expect_of_id(&view, id)?;
    view.state().only_in_primary(AN_INTENTION)?;
    check_same("SourceName", &draft.row.name, &former.source)?;
    check_same("DestinationName", draft.destination.as_deref().unwrap_or_default(), &former.destination)?;
    draft.row.legacy_id = Some(id);
    let verified = verified_with_meta(&mut draft, Some(former))?;
    put(&call, former.modified, verified).await?;
    Ok(call.json(&Made { id: id.to_string() })?.into_response())
}

/// `DELETE /v1/connect/intentions/<uuid>`
pub(super) async fn delete(call: Call) -> Result<Response, HttpError> {
    let id = id(&call)?;
    let view = call.committed_view().await?;
    let Intention { destination, source, .. } = expect_of_id(&view, id)?.clone();
    call.propose(Command::DeleteIntention { destination, source }).await?;
    call.yes()
}

/// The committed state, if the caller may write intentions of this destination and this is where they are written.
pub(super) async fn writable(call: &Call, destination: &Party) -> Result<View, HttpError> {
    let view = call.committed_view().await?;
    view.caller.expect(Right::IntentionWrite, Some(destination.as_str()), view.state())?;
    view.state().only_in_primary(AN_INTENTION)?;
    Ok(view)
}

async fn put(call: &Call, expected: Revision, intention: Intention) -> Result<(), HttpError> {
    call.propose(Command::PutIntention { expected, intention: Box::new(intention) }).await.map(drop)
}

/// One that Consul's deprecated API made, with a `Meta` of its own.
fn verified_with_meta(draft: &mut IntentionDraft, former: Option<&Intention>) -> Result<Intention, HttpError> {
    draft.row.legacy_meta = std::mem::take(&mut draft.meta);
    if let Some(former) = former {
        draft.row.name = former.source.to_string();
        draft.destination = Some(former.destination.to_string());
    }
    draft.verify(draft.destination.as_deref().unwrap_or_default(), &draft.meta)
}

fn expect_of_id(view: &View, id: uuid::Uuid) -> Result<&Intention, HttpError> {
    let found = view.state().intentions().of_legacy_id(id);
    // The id is not repeated: people paste secrets where ids belong.
    let not_found = || HttpError::NotFound("Cannot modify non-existent intention: none has this ID".into());
    let found = found.ok_or_else(not_found)?;
    view.caller.expect(Right::IntentionWrite, Some(found.destination.as_str()), view.state())?;
    Ok(found)
}

fn refuse_duplicate(state: &State, intention: &Intention) -> Result<(), HttpError> {
    match state.intentions().exact(&intention.destination, &intention.source) {
        Some(found) => Err(duplicate(&found.source, &found.destination)),
        None => Ok(()),
    }
}

fn duplicate(source: &Party, destination: &Party) -> HttpError {
    HttpError::Conflict(format!(
        "duplicate intention found: {source} => {destination}; change it with PUT /v1/connect/intentions/exact"
    ))
}

/// A name that is there already never changes; a body may repeat it.
fn check_same(field: &str, text: &str, known: &Party) -> Result<(), HttpError> {
    if text.is_empty() || party(field, text)? == *known {
        return Ok(());
    }
    Err(HttpError::BadRequest(format!(
        "cannot modify {field} for an intention once it exists: it is `{known}`; make another intention, and delete this one"
    )))
}
