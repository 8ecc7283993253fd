//! Issuers that sign nothing more, in any datacenter, and whose leaves are refused.

use axum::response::Response;
use carrack_authority::{Command, WatchKey, id::KeyId, revocation::RevokedIssuer};
use serde::Serialize;

use super::{call::Call, error::HttpError, fields::Fields, leaves::serial};

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RevokedIssuerEntry {
    #[serde(rename = "IssuerID")]
    issuer: String,
    #[serde(rename = "RootID")]
    root: String,
    until: String,
    reason: String,
    revoked_at: String,
}

/// `GET /v1/carrack/issuer-revocations`
pub(super) async fn revocations(call: Call) -> Result<Response, HttpError> {
    call.read(WatchKey::RevokedIssuers, |view| {
        let all = view.state().revoked_issuers().all();
        Ok(all.map(|revoked| entry(revoked)).collect::<Vec<_>>())
    })
    .await
}

fn entry(revoked: &RevokedIssuer) -> RevokedIssuerEntry {
    RevokedIssuerEntry {
        issuer: revoked.issuer.to_string(),
        root: revoked.root.to_string(),
        until: revoked.until.to_string(),
        reason: revoked.reason.clone(),
        revoked_at: revoked.revoked_at.to_string(),
    }
}

/// `PUT /v1/carrack/issuer-revocation`: in the primary for every datacenter. The issuer's server makes itself another one.
pub(super) async fn revoke(call: Call) -> Result<Response, HttpError> {
    let mut fields = Fields::of_body("the revocation", &call.body)?;
    let issuer = fields.some_text("IssuerID")?;
    let reason = fields.text("Reason")?.unwrap_or_default();
    let is_forced = fields.flag("Force")?.unwrap_or_default();
    fields.finish()?;
    let issuer = issuer.ok_or_else(|| {
        HttpError::BadRequest("IssuerID is missing: `carrack status` shows the ids of the issuers".into())
    })?;
    let issuer = key_id(&issuer)?;
    let view = call.committed_view().await?;
    tracing::warn!(%issuer, is_forced, accessor = ?view.caller.accessor(), "an issuer is revoked");
    call.propose(Command::RevokeIssuer { issuer, reason, is_forced }).await?;
    call.yes()
}

/// A key id as answers write it: 20 pairs of hexadecimal digits, with or without colons.
fn key_id(text: &str) -> Result<KeyId, HttpError> {
    let is_whole = text.bytes().filter(u8::is_ascii_hexdigit).count() == 40;
    let bytes = serial(text).ok().filter(|_| is_whole);
    let bytes = bytes.ok_or_else(|| {
        let text =
            "IssuerID is not the id of an issuer: 20 pairs of hexadecimal digits, as `carrack status` shows them";
        HttpError::BadRequest(text.into())
    });
    bytes.map(|bytes| KeyId(bytes.0))
}
