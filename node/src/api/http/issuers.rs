//! Issuers that sign nothing more, in any datacenter, and whose leaves are refused.

use axum::response::Response;
use carrack_authority::{Command, WatchKey, id::KeyId, revocation::RevokedIssuer};
use serde::Serialize;

use super::{call::Call, error::HttpError, fields::Fields};

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
    let issuer = key_id("IssuerID", &issuer)?;
    let view = call.committed_view().await?;
    tracing::warn!(%issuer, is_forced, accessor = ?view.caller.accessor(), "an issuer is revoked");
    call.propose(Command::RevokeIssuer { issuer, reason, is_forced }).await?;
    call.yes()
}

/// A key id as answers write it: 20 pairs of hexadecimal digits, with or without colons.
pub(super) fn key_id(field: &str, text: &str) -> Result<KeyId, HttpError> {
    text.parse().map_err(|_| {
        let text = format!(
            "{field} is not an id as `carrack status` and `carrack ca status` show them: 20 pairs of hexadecimal digits"
        );
        HttpError::BadRequest(text)
    })
}
