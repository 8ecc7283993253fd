//! Rotations of the mesh CA's root: begun, steered and taken back here, in the primary for every datacenter; the leader does the rest.

use std::time::Duration;

use axum::response::Response;
use carrack_authority::{
    Command, State,
    id::{KeyId, Revision},
    key::KeyKind,
    root::{Ca, Root},
    rotation::{ACK_TIMEOUT, RotationCause, RotationControl, RotationRequest, WantedRoot},
    time::Timestamp,
    x509::supplied::can_bridge,
};
use serde::Serialize;

use super::{call::Call, error::HttpError, fields::Fields, issuers::key_id, span};
use crate::provider::Providers;

#[derive(Debug, Serialize)]
struct Begun {
    #[serde(rename = "ID")]
    id: u64,
}

/// `PUT /v1/carrack/ca/rotation`: begins one and answers its id; `GET /v1/carrack/ca` says how far it is.
pub(super) async fn start(call: Call) -> Result<Response, HttpError> {
    let wanted = Wanted::read(&call.body)?;
    let view = call.committed_view().await?;
    let request = wanted.request(view.state(), &call.edge.context.providers, call.now())?;
    tracing::warn!(accessor = ?view.caller.accessor(), "an operator begins a rotation of the root");
    let proposed = call.propose(Command::StartRotation(Box::new(request))).await?;
    Ok(call.json(&Begun { id: proposed.index })?.with_index(proposed.index).into_response())
}

/// What a client asks for.
struct Wanted {
    provider: Option<String>,
    key_kind: Option<KeyKind>,
    is_bridged: bool,
    pauses_before_activation: bool,
    ack_timeout: Duration,
}

impl Wanted {
    fn read(body: &[u8]) -> Result<Self, HttpError> {
        let mut fields = Fields::of_body("the rotation", body)?;
        let provider = fields.some_text("Provider")?;
        let key_kind = fields.some_text("KeyType")?;
        let without_bridge = fields.flag("ForceWithoutCrossSigning")?.unwrap_or_default();
        let pause_before = fields.some_text("PauseBefore")?;
        let ack_timeout = fields.span("AckTimeout")?.unwrap_or(ACK_TIMEOUT);
        fields.finish()?;
        let pauses_before_activation = match pause_before.as_deref() {
            None => false,
            Some("activate") => true,
            Some(_) => {
                return Err(HttpError::BadRequest(
                    "PauseBefore is no step that a rotation can stop before: it is `activate`".into(),
                ));
            }
        };
        let key_kind = key_kind.map(|text| text.parse::<KeyKind>()).transpose();
        let key_kind = key_kind.map_err(|error| HttpError::BadRequest(format!("KeyType: {error}")))?;
        Ok(Self { provider, key_kind, is_bridged: !without_bridge, pauses_before_activation, ack_timeout })
    }

    fn request(self, state: &State, providers: &Providers, now: Timestamp) -> Result<RotationRequest, HttpError> {
        let active = active(state)?;
        let flag = "ForceWithoutCrossSigning (`--without-cross-signing`)";
        let is_bridged = is_bridged(active, providers, now, !self.is_bridged, flag)? && self.is_bridged;
        let key_kind = self.key_kind.unwrap_or(state.ca_config().config.key_kind);
        let provider = self.provider.unwrap_or_else(|| active.made.provider.clone());
        providers.named(&provider).map_err(|error| HttpError::BadRequest(format!("Provider: {error}")))?;
        Ok(RotationRequest {
            cause: RotationCause::Operator,
            expected_active: active.made.id,
            wanted: WantedRoot::Made { provider, key_kind },
            is_bridged,
            pauses_before_activation: self.pauses_before_activation,
            ack_timeout: self.ack_timeout,
        })
    }
}

/// The root to rotate away from.
pub(super) fn active(state: &State) -> Result<&Root, HttpError> {
    let active = state.roots(Ca::Mesh).active().map(|root| &**root);
    active.ok_or_else(|| {
        HttpError::Unavailable("there is no active root yet to rotate away from: see `carrack status`".into())
    })
}

/// Whether the active root signs a bridge to the next one; an error where it cannot, and nobody has said that it may be without one. Nothing
/// leads from a root that has ended.
pub(super) fn is_bridged(
    active: &Root,
    providers: &Providers,
    now: Timestamp,
    may_be_without: bool,
    flag: &str,
) -> Result<bool, HttpError> {
    let has_ended = active.made.not_after <= now;
    let signs = providers.of(active).is_ok_and(|provider| provider.can_cross_sign());
    if !signs && !has_ended && !may_be_without {
        return Err(HttpError::BadRequest(format!(
            "the CA provider `{}` of the active root {} is not here, or cannot cross-sign the next one: verifiers without an agent that know \
             this root alone would fail when the next one becomes active; {flag} goes on all the same",
            active.made.provider, active.made.id
        )));
    }
    let can_bridge = |root| signs && can_bridge(root);
    if has_ended || can_bridge(&active.made) || may_be_without {
        return Ok(!has_ended && can_bridge(&active.made));
    }
    Err(HttpError::BadRequest(format!(
        "the active root {} cannot cross-sign the next one, its certificate's path length does not allow it: verifiers without an agent that \
         know it alone would fail when the next one becomes active; {flag} goes on all the same",
        active.made.id
    )))
}

/// `PUT /v1/carrack/ca/rotation/{id}`: pauses, resumes or forces one.
pub(super) async fn control(call: Call) -> Result<Response, HttpError> {
    let mut fields = Fields::of_body("what is done to the rotation", &call.body)?;
    let action = fields.some_text("Action")?;
    fields.finish()?;
    let control = match action.as_deref() {
        Some("pause") => RotationControl::Pause,
        Some("resume") => RotationControl::Resume,
        Some("force") => RotationControl::Force,
        _ => return Err(HttpError::BadRequest("Action is missing or unknown: pause, resume or force".into())),
    };
    let rotation = id(call.variable())?;
    let view = call.committed_view().await?;
    tracing::warn!(%rotation, ?control, accessor = ?view.caller.accessor(), "an operator steers a rotation of the root");
    call.propose(Command::ControlRotation { rotation, control }).await?;
    call.yes()
}

/// `PUT /v1/carrack/ca/rollback`: takes back the rotation under way, or the last one, and no other.
pub(super) async fn roll_back(call: Call) -> Result<Response, HttpError> {
    let mut fields = Fields::of_body("the roll back", &call.body)?;
    let rotation = fields.index("ID")?;
    fields.finish()?;
    let rotation = Revision(rotation.ok_or_else(|| {
        let text = "ID is missing: the id of the rotation to take back, as `carrack ca status` shows it";
        HttpError::BadRequest(text.into())
    })?);
    let view = call.committed_view().await?;
    tracing::warn!(%rotation, accessor = ?view.caller.accessor(), "an operator takes a rotation of the root back");
    call.propose(Command::RollBack { rotation }).await?;
    call.yes()
}

/// `PUT /v1/carrack/ca/taint`: marks a retired root as not to be relied on: its leaves are renewed now.
pub(super) async fn taint(call: Call) -> Result<Response, HttpError> {
    let (root, reason, _) = read_root("the taint", &call.body)?;
    let view = call.committed_view().await?;
    tracing::warn!(%root, accessor = ?view.caller.accessor(), "an operator taints a root");
    call.propose(Command::TaintRoot { root, reason }).await?;
    call.yes()
}

/// `PUT /v1/carrack/ca/root-revocation`: a retired root leaves the bundle of every datacenter.
pub(super) async fn revoke(call: Call) -> Result<Response, HttpError> {
    let (root, reason, is_forced) = read_root("the revocation", &call.body)?;
    let view = call.committed_view().await?;
    tracing::warn!(%root, is_forced, accessor = ?view.caller.accessor(), "an operator revokes a root");
    call.propose(Command::RevokeRoot { root, reason, is_forced }).await?;
    call.yes()
}

fn read_root(what: &'static str, body: &[u8]) -> Result<(KeyId, String, bool), HttpError> {
    let mut fields = Fields::of_body(what, body)?;
    let root = fields.some_text("RootID")?;
    let reason = fields.text("Reason")?.unwrap_or_default();
    let is_forced = fields.flag("Force")?.unwrap_or_default();
    fields.finish()?;
    let root = root.ok_or_else(|| {
        HttpError::BadRequest("RootID is missing: `carrack ca status` shows the ids of the roots".into())
    })?;
    Ok((key_id("RootID", &root)?, reason, is_forced))
}

/// `PUT /v1/carrack/ca/schedule`: how often the root is rotated by itself; without a period an operator begins each rotation.
pub(super) async fn schedule(call: Call) -> Result<Response, HttpError> {
    let mut fields = Fields::of_body("the schedule", &call.body)?;
    let period = fields.span("RotationPeriod")?;
    fields.finish()?;
    let period = period.filter(|period| !period.is_zero());
    let view = call.committed_view().await?;
    let shown = period.map_or_else(|| "none".into(), span::format);
    tracing::warn!(period = shown, accessor = ?view.caller.accessor(), "an operator sets how often the root is rotated");
    call.propose(Command::SetRotationPeriod { period }).await?;
    call.yes()
}

fn id(text: &str) -> Result<Revision, HttpError> {
    let number = text.parse::<u64>().ok().filter(|number| *number > 0);
    number.map(Revision).ok_or_else(|| {
        let text = "the rotation's id in the path is no whole number above zero: `carrack ca status` shows it";
        HttpError::BadRequest(text.into())
    })
}
