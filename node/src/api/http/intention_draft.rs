//! Intentions in request bodies. No error repeats a value: it may be a secret that was pasted where it does not belong.

use std::collections::BTreeMap;

use carrack_authority::intention::{BadIntention, EntryDraft, Intention, PermissionDraft, SourceDraft, party_of_path};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    acl_tokens::not_uuid, error::HttpError, fields::Fields, intention_shapes::SERVICE_INTENTIONS,
    parameters::parse_uuid,
};

/// The longest name of a field or kind that an error repeats.
const REPEATED_CHARACTERS_MAX: usize = 64;

/// An intention as a client writes it.
#[derive(Debug)]
pub(super) struct IntentionDraft {
    /// The id that Consul's deprecated API gives.
    pub(super) id: Option<Uuid>,
    /// Who is reached.
    pub(super) destination: Option<String>,
    /// Who reaches, what holds, what it is for.
    pub(super) row: SourceDraft,
    /// Whatever its writer wants to find again.
    pub(super) meta: BTreeMap<String, String>,
}

impl IntentionDraft {
    pub(super) fn read(body: &[u8]) -> Result<Self, HttpError> {
        let mut fields = Fields::of_body("the intention", body)?;
        let id = fields.some_text("ID")?;
        let id = id.map(|id| parse_uuid(&id).ok_or_else(|| not_uuid("intention's ID"))).transpose()?;
        let destination = fields.some_text("DestinationName")?;
        let mut row = SourceDraft {
            name: fields.text("SourceName")?.unwrap_or_default(),
            action: fields.text("Action")?.unwrap_or_default(),
            kind: fields.text("SourceType")?.unwrap_or_default(),
            description: fields.text("Description")?.unwrap_or_default(),
            ..SourceDraft::default()
        };
        row.permissions = fields.list("Permissions")?.into_iter().map(permission).collect::<Result<_, _>>()?;
        let meta = fields.take("Meta").map(|value| typed("`Meta` of the intention", value)).transpose()?;
        for name in [
            "SourceNS",
            "DestinationNS",
            "SourcePartition",
            "DestinationPartition",
            "SourcePeer",
            "SourceSamenessGroup",
            "JWT",
        ] {
            fields.refuse_unless_empty(name)?;
        }
        fields.ignore(&[
            "DefaultAddr",
            "DefaultPort",
            "Precedence",
            "CreatedAt",
            "UpdatedAt",
            "Hash",
            "CreateIndex",
            "ModifyIndex",
        ]);
        fields.finish()?;
        Ok(Self { id, destination, row, meta: meta.unwrap_or_default() })
    }

    /// The row, in the bounds and forms that rows have.
    pub(super) fn verify(&self, destination: &str, meta: &BTreeMap<String, String>) -> Result<Intention, HttpError> {
        self.row.verify_for(destination, None, meta).map_err(bad)
    }
}

fn permission(value: Value) -> Result<PermissionDraft, HttpError> {
    typed("a permission of the intention", value)
}

/// Reads a config entry. Kinds that are not here are named.
pub(super) fn entry(body: &[u8]) -> Result<EntryDraft, HttpError> {
    const WHAT: &str = "the config entry";
    // An object, with each field once.
    let kind = Fields::of_body(WHAT, body)?.some_text("Kind")?;
    if let Some(kind) = kind.as_deref().filter(|kind| *kind != SERVICE_INTENTIONS) {
        return Err(HttpError::NotImplemented(format!(
            "config entries of the kind `{}` are not here; those of `{SERVICE_INTENTIONS}` are",
            shown(kind)
        )));
    }
    let value: Value =
        if body.trim_ascii().is_empty() { json!({}) } else { serde_json::from_slice(body).map_err(not_json)? };
    let draft = typed(WHAT, value)?;
    match kind {
        Some(_) => Ok(draft),
        None => Err(HttpError::BadBody(format!("Kind is required: it is `{SERVICE_INTENTIONS}`"))),
    }
}

fn not_json(error: serde_json::Error) -> HttpError {
    HttpError::BadBody(format!("the body is not JSON (line {}, column {})", error.line(), error.column()))
}

fn typed<T: DeserializeOwned>(what: &str, value: Value) -> Result<T, HttpError> {
    serde_json::from_value(value).map_err(|error| HttpError::BadBody(format!("{what}: {}", without_values(&error))))
}

/// What serde says, without what it was given: names of fields are said, values are not.
fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("unknown field") || text.starts_with("duplicate field") {
        let text = text.chars().take(4 * REPEATED_CHARACTERS_MAX);
        return text.map(|character| if character.is_control() { '?' } else { character }).collect();
    }
    match text.rsplit_once("expected ") {
        Some((_, expected)) => format!("a value is of another type than its field's, which is {expected}"),
        None => "it is not in its form".into(),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(REPEATED_CHARACTERS_MAX).collect::<String>().escape_default().to_string()
}

/// What is no intention, in Consul's words.
pub(super) fn bad(error: BadIntention) -> HttpError {
    HttpError::BadRequest(error.to_string())
}

/// A name in a query, which is repeated only if it can be one.
pub(super) fn party(what: &str, text: &str) -> Result<carrack_authority::intention::Party, HttpError> {
    party_of_path(text).map_err(|error| HttpError::BadRequest(format!("{what} is invalid: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(result: Result<impl std::fmt::Debug, HttpError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn no_error_repeats_a_value_and_each_names_its_field() {
        let secret = "2f1b0c5e-secret";
        let in_permission = format!(r#"{{"Permissions":[{{"HTTP":{{"Methods":"{secret}"}}}}]}}"#);
        let in_meta = format!(r#"{{"Meta":"{secret}"}}"#);
        for body in [in_permission, in_meta, format!(r#"{{"Action":["{secret}"]}}"#)] {
            let error = refused(IntentionDraft::read(body.as_bytes()));
            assert!(!error.contains(secret), "{error}");
        }
        let body = format!(r#"{{"Kind":"service-intentions","Name":"db","Sources":"{secret}"}}"#);
        let error = refused(entry(body.as_bytes()));
        assert!(!error.contains(secret) && error.contains("a sequence"), "{error}");
        let error = refused(entry(br#"{"Kind":"service-intentions","Name":"db","Sorces":[]}"#));
        assert!(error.contains("unknown field `Sorces`, expected one of"), "{error}");
        let error = refused(IntentionDraft::read(br#"{"Acton":"allow"}"#));
        assert!(error.contains("the intention has the unknown field `Acton`"), "{error}");
    }

    #[test]
    fn a_kind_that_is_not_here_is_named() {
        assert!(refused(entry(br#"{"Kind":"proxy-defaults"}"#)).contains("`proxy-defaults` are not here"));
        assert!(refused(entry(b"{}")).contains("Kind is required"));
        assert!(refused(entry(b"[1")).contains("not JSON"));
    }
}
