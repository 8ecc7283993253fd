//! Intentions as Consul's JSON has them: each by itself, and those of a destination as a config entry.

use std::collections::BTreeMap;

use carrack_authority::{
    State,
    intention::{EntryDraft, Intention, JwtDraft, Party, PermissionDraft, SourceDraft},
    spiffe::DEFAULT_NAMESPACE,
};
use serde::Serialize;

/// The kind of the config entries that are here.
pub(super) const SERVICE_INTENTIONS: &str = "service-intentions";

/// An intention.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct IntentionEntry {
    #[serde(rename = "ID", skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(rename = "SourceNS")]
    source_namespace: &'static str,
    source_name: String,
    #[serde(rename = "DestinationNS")]
    destination_namespace: &'static str,
    destination_name: String,
    source_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    permissions: Vec<PermissionDraft>,
    #[serde(rename = "JWT", skip_serializing_if = "Option::is_none")]
    jwt: Option<JwtDraft>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    meta: BTreeMap<String, String>,
    precedence: u8,
    created_at: String,
    updated_at: String,
    create_index: u64,
    modify_index: u64,
}

impl IntentionEntry {
    /// An intention as clients read it.
    pub(super) fn of(intention: &Intention) -> Self {
        let source = SourceDraft::of(intention);
        Self {
            id: intention.legacy_id.map(|id| id.to_string()),
            description: source.description,
            source_namespace: DEFAULT_NAMESPACE,
            source_name: source.name,
            destination_namespace: DEFAULT_NAMESPACE,
            destination_name: intention.destination.to_string(),
            source_type: "consul",
            action: Some(source.action).filter(|action| !action.is_empty()),
            permissions: source.permissions,
            jwt: intention.jwt.as_ref().map(JwtDraft::of),
            meta: intention.meta.clone(),
            precedence: source.precedence,
            created_at: intention.created_at.to_string(),
            updated_at: intention.updated_at.to_string(),
            create_index: intention.created.0,
            modify_index: intention.modified.0,
        }
    }
}

/// The intentions of a destination as its config entry; `None`: it has none.
pub(super) fn config_entry(state: &State, destination: &Party) -> Option<EntryDraft> {
    let rows: Vec<_> = state.intentions().of_destination(destination).collect();
    let first = rows.first()?;
    Some(EntryDraft {
        kind: SERVICE_INTENTIONS.into(),
        name: destination.to_string(),
        sources: rows.iter().map(|row| SourceDraft::of(row)).collect(),
        jwt: first.jwt.as_ref().map(JwtDraft::of),
        meta: entry_meta(state, destination),
        create_index: rows.iter().map(|row| row.created.0).min().unwrap_or_default(),
        modify_index: state.destination_revision(destination).0,
        ..EntryDraft::default()
    })
}

/// The `Meta` of a destination's config entry: it stands in each row that has none of its own.
pub(super) fn entry_meta(state: &State, destination: &Party) -> BTreeMap<String, String> {
    let mut rows = state.intentions().of_destination(destination).filter(|row| row.legacy_id.is_none());
    rows.next().map(|row| row.meta.clone()).unwrap_or_default()
}
