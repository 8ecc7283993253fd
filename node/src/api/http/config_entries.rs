//! Config entries of the one kind that is here, `service-intentions`: the intentions of a destination as a whole.

use axum::response::Response;
use carrack_authority::{Command, Rejection, State, WatchKey, id::Revision, intention::Party};
use serde_json::json;

use super::{
    call::{Call, View},
    error::HttpError,
    intention_draft::{bad, entry, party},
    intention_shapes::{SERVICE_INTENTIONS, config_entry},
    intention_writes::{AN_INTENTION, writable},
};

/// `GET /v1/config/service-intentions`
pub(super) async fn list(call: Call) -> Result<Response, HttpError> {
    let (view, index) = call.watched(WatchKey::Intentions).await?;
    let readable = view.state().authorizer(view.token()?);
    let destinations: Vec<&Party> = view.state().intentions().destinations().collect();
    let shown = destinations.iter().filter(|destination| readable.intention_read(destination.as_str()));
    let entries: Vec<_> = shown.filter_map(|destination| config_entry(view.state(), destination)).collect();
    let is_filtered = entries.len() < destinations.len();
    let answer = call.json(&entries)?.with_index(index).with_freshness(view.freshness).with_filtered(is_filtered);
    Ok(answer.into_response())
}

/// `GET /v1/config/service-intentions/<name>`
pub(super) async fn read(call: Call) -> Result<Response, HttpError> {
    let destination = party("the name", call.variable())?;
    let read = |view: &View| {
        // The name is not repeated: people paste secrets where names belong.
        let text = format!("Config entry not found for \"{SERVICE_INTENTIONS}\": this destination has no intentions");
        config_entry(view.state(), &destination).ok_or(HttpError::NotFound(text))
    };
    call.read(WatchKey::intentions_of(&destination), read).await
}

/// `PUT /v1/config`
pub(super) async fn apply(call: Call) -> Result<Response, HttpError> {
    let rows = entry(&call.body)?.verify().map_err(bad)?;
    // There is at least one.
    let destination = rows.first().map_or(Party::Any, |row| row.destination.clone());
    let expected = compared(&call)?;
    refuse_foreign_index(call.committed_view().await?.state(), expected)?;
    writable(&call, &destination).await?;
    let command = Command::PutServiceIntentions { expected, destination, intentions: rows };
    let is_written = written(&call, command, expected).await?;
    Ok(call.json(&is_written)?.into_response())
}

/// `DELETE /v1/config/service-intentions/<name>`
pub(super) async fn delete(call: Call) -> Result<Response, HttpError> {
    let destination = party("the name", call.variable())?;
    let expected = compared(&call)?;
    let view = call.committed_view().await?;
    refuse_foreign_index(view.state(), expected)?;
    view.state().only_in_primary(AN_INTENTION)?;
    let is_written = written(&call, Command::DeleteServiceIntentions { expected, destination }, expected).await?;
    // Consul's: only who compares is told whether it was.
    let answer = if expected.is_some() { json!(is_written) } else { json!({}) };
    Ok(call.json(&answer)?.into_response())
}

/// The index with which the destination is compared: 0 is that of one that is not there.
fn compared(call: &Call) -> Result<Option<Revision>, HttpError> {
    Ok(call.parameters.number("cas")?.map(Revision))
}

/// Whether it was written: not if it was compared, and was another one.
async fn written(call: &Call, command: Command, expected: Option<Revision>) -> Result<bool, HttpError> {
    match call.propose(command).await {
        Ok(_) => Ok(true),
        Err(HttpError::Rejected(Rejection::Conflict { .. })) if expected.is_some() => Ok(false),
        Err(error) => Err(error),
    }
}

/// A secondary shows indexes of its own log, and what is written is compared in the primary's: equal numbers would be chance.
fn refuse_foreign_index(state: &State, expected: Option<Revision>) -> Result<(), HttpError> {
    let (Some(index), Some(primary)) = (expected, state.primary()) else { return Ok(()) };
    Err(HttpError::BadRequest(format!(
        "cas={index} cannot be compared: intentions are written in the primary datacenter `{primary}`, whose indexes are others than \
         those that are read here; read the entry and write it with `?dc={primary}`, or leave cas out"
    )))
}
