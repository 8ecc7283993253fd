//! Intentions as clients write them, in the fields of Consul's JSON. A field that is not known is an error of the reader: one that were
//! left out could turn a denial into nothing. [`EntryDraft::verify`] makes rows of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Effect, Intention,
    permission::{ClaimTest, HeaderTest, JwtProvider, JwtRequirement, Method, PathTest, Permission, ValueTest},
};

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A destination with its sources: the config entry `service-intentions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", deny_unknown_fields)]
pub struct EntryDraft {
    /// `service-intentions`.
    #[serde(alias = "kind")]
    pub kind: String,
    /// The destination: a service or `*`.
    #[serde(alias = "name")]
    pub name: String,
    /// `default`, or nothing.
    #[serde(alias = "namespace", skip_serializing_if = "is_default")]
    pub namespace: String,
    /// `default`, or nothing.
    #[serde(alias = "partition", skip_serializing_if = "is_default")]
    pub partition: String,
    /// Its sources.
    #[serde(alias = "sources")]
    pub sources: Vec<SourceDraft>,
    /// What every request's JWT must say.
    #[serde(rename = "JWT", alias = "jwt", skip_serializing_if = "is_default")]
    pub jwt: Option<JwtDraft>,
    /// Whatever its writer wants to find again.
    #[serde(alias = "meta", skip_serializing_if = "is_default")]
    pub meta: BTreeMap<String, String>,
    /// The revision of the entry; not looked at.
    pub create_index: u64,
    /// The revision of the entry; not looked at.
    pub modify_index: u64,
    /// Consul's hash of the entry; not looked at.
    #[serde(skip_serializing_if = "is_default")]
    pub hash: u64,
}

/// One source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", deny_unknown_fields)]
pub struct SourceDraft {
    /// A service or `*`.
    #[serde(alias = "name")]
    pub name: String,
    /// `allow` or `deny`; nothing if there are permissions.
    #[serde(alias = "action", skip_serializing_if = "is_default")]
    pub action: String,
    /// What of requests.
    #[serde(alias = "permissions", skip_serializing_if = "is_default")]
    pub permissions: Vec<PermissionDraft>,
    /// Computed; not looked at.
    #[serde(alias = "precedence")]
    pub precedence: u8,
    /// `consul`, or nothing.
    #[serde(rename = "Type", alias = "type")]
    pub kind: String,
    /// What it is for.
    #[serde(alias = "description", skip_serializing_if = "is_default")]
    pub description: String,
    /// `default`, or nothing.
    #[serde(alias = "namespace", skip_serializing_if = "is_default")]
    pub namespace: String,
    /// `default`, or nothing.
    #[serde(alias = "partition", skip_serializing_if = "is_default")]
    pub partition: String,
    /// Not supported: nothing.
    #[serde(alias = "peer", skip_serializing_if = "is_default")]
    pub peer: String,
    /// Not supported: nothing.
    #[serde(alias = "sameness_group", skip_serializing_if = "is_default")]
    pub sameness_group: String,
    /// The id of one that was made by the deprecated API.
    #[serde(rename = "LegacyID", alias = "legacy_id", skip_serializing_if = "is_default")]
    pub legacy_id: Option<Uuid>,
    /// `Meta` of one that was made by the deprecated API.
    #[serde(alias = "legacy_meta", skip_serializing_if = "is_default")]
    pub legacy_meta: BTreeMap<String, String>,
}

/// One permission.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", deny_unknown_fields)]
pub struct PermissionDraft {
    /// `allow` or `deny`.
    #[serde(alias = "action")]
    pub action: String,
    /// Which requests.
    #[serde(rename = "HTTP", alias = "http", skip_serializing_if = "is_default")]
    pub http: Option<HttpDraft>,
    /// What their JWT says.
    #[serde(rename = "JWT", alias = "jwt", skip_serializing_if = "is_default")]
    pub jwt: Option<JwtDraft>,
}

/// Which requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", deny_unknown_fields)]
pub struct HttpDraft {
    /// The path.
    #[serde(alias = "path_exact", skip_serializing_if = "is_default")]
    pub path_exact: String,
    /// How it begins.
    #[serde(alias = "path_prefix", skip_serializing_if = "is_default")]
    pub path_prefix: String,
    /// What it fits.
    #[serde(alias = "path_regex", skip_serializing_if = "is_default")]
    pub path_regex: String,
    /// Headers, all of them.
    #[serde(alias = "header", skip_serializing_if = "is_default")]
    pub header: Vec<HeaderDraft>,
    /// Methods, one of them.
    #[serde(alias = "methods", skip_serializing_if = "is_default")]
    pub methods: Vec<String>,
}

/// One header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", deny_unknown_fields)]
pub struct HeaderDraft {
    /// Its name.
    #[serde(alias = "name")]
    pub name: String,
    /// Whether it must be there.
    #[serde(alias = "present", skip_serializing_if = "is_default")]
    pub present: bool,
    /// Its value.
    #[serde(alias = "exact", skip_serializing_if = "is_default")]
    pub exact: String,
    /// How it begins.
    #[serde(alias = "prefix", skip_serializing_if = "is_default")]
    pub prefix: String,
    /// How it ends.
    #[serde(alias = "suffix", skip_serializing_if = "is_default")]
    pub suffix: String,
    /// What is in it.
    #[serde(alias = "contains", skip_serializing_if = "is_default")]
    pub contains: String,
    /// What it fits.
    #[serde(alias = "regex", skip_serializing_if = "is_default")]
    pub regex: String,
    /// Whether it must be otherwise.
    #[serde(alias = "invert", skip_serializing_if = "is_default")]
    pub invert: bool,
    /// Whether letter case does not matter.
    #[serde(alias = "ignore_case", skip_serializing_if = "is_default")]
    pub ignore_case: bool,
}

/// What a JWT must say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", deny_unknown_fields)]
pub struct JwtDraft {
    /// Who may vouch for it.
    #[serde(alias = "providers")]
    pub providers: Vec<JwtProviderDraft>,
}

/// Who may vouch for a JWT.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", deny_unknown_fields)]
pub struct JwtProviderDraft {
    /// The provider's name.
    #[serde(alias = "name")]
    pub name: String,
    /// What the JWT must say.
    #[serde(alias = "verify_claims", skip_serializing_if = "is_default")]
    pub verify_claims: Vec<ClaimDraft>,
}

/// A claim with a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", deny_unknown_fields)]
pub struct ClaimDraft {
    /// The names on the way to it.
    #[serde(alias = "path")]
    pub path: Vec<String>,
    /// What it must be.
    #[serde(alias = "value")]
    pub value: String,
}

impl SourceDraft {
    /// The source of a row, as clients read it.
    pub fn of(intention: &Intention) -> Self {
        let (legacy_id, meta) = (intention.legacy_id, &intention.meta);
        Self {
            name: intention.source.to_string(),
            action: match &intention.effect {
                Effect::Action(action) => action.to_string(),
                Effect::Permissions(_) => String::new(),
            },
            permissions: intention.permissions().iter().map(PermissionDraft::of).collect(),
            precedence: intention.precedence(),
            kind: "consul".into(),
            description: intention.description.clone(),
            legacy_id,
            legacy_meta: legacy_id.map(|_| meta.clone()).unwrap_or_default(),
            ..Self::default()
        }
    }
}

impl PermissionDraft {
    /// A permission, as clients read it.
    pub fn of(permission: &Permission) -> Self {
        let mut http = HttpDraft {
            header: permission.headers.iter().map(HeaderDraft::of).collect(),
            methods: permission.methods.iter().map(|method| method.as_str().to_owned()).collect(),
            ..HttpDraft::default()
        };
        match &permission.path {
            PathTest::Any => {}
            PathTest::Exact(path) => http.path_exact.clone_from(path),
            PathTest::Prefix(path) => http.path_prefix.clone_from(path),
            PathTest::Regex(pattern) => http.path_regex = pattern.as_str().into(),
        }
        let jwt = permission.jwt.as_ref().map(JwtDraft::of);
        Self { action: permission.action.to_string(), http: Some(http), jwt }
    }
}

impl HeaderDraft {
    fn of(test: &HeaderTest) -> Self {
        let (name, invert, ignore_case) = (test.name.clone(), test.is_inverted, test.ignores_case);
        let mut draft = Self { name, invert, ignore_case, ..Self::default() };
        match &test.value {
            ValueTest::Present => draft.present = true,
            ValueTest::Exact(text) => draft.exact.clone_from(text),
            ValueTest::Prefix(text) => draft.prefix.clone_from(text),
            ValueTest::Suffix(text) => draft.suffix.clone_from(text),
            ValueTest::Contains(text) => draft.contains.clone_from(text),
            ValueTest::Regex(pattern) => draft.regex = pattern.as_str().into(),
        }
        draft
    }
}

impl JwtDraft {
    /// A requirement, as clients read it.
    pub fn of(requirement: &JwtRequirement) -> Self {
        let claim = |test: &ClaimTest| ClaimDraft { path: test.path.clone(), value: test.value.clone() };
        let provider = |provider: &JwtProvider| JwtProviderDraft {
            name: provider.name.clone(),
            verify_claims: provider.claims.iter().map(claim).collect(),
        };
        Self { providers: requirement.providers.iter().map(provider).collect() }
    }

    /// The requirement.
    pub(super) fn requirement(&self) -> JwtRequirement {
        let claim = |draft: &ClaimDraft| ClaimTest { path: draft.path.clone(), value: draft.value.clone() };
        let provider = |draft: &JwtProviderDraft| JwtProvider {
            name: draft.name.clone(),
            claims: draft.verify_claims.iter().map(claim).collect(),
        };
        JwtRequirement { providers: self.providers.iter().map(provider).collect() }
    }
}

impl HttpDraft {
    pub(super) fn known_methods(&self) -> impl Iterator<Item = (String, Option<Method>)> {
        self.methods.iter().map(|method| {
            let method = method.to_ascii_uppercase();
            let known = Method::of(&method);
            (method, known)
        })
    }
}
