//! What clients write becomes rows here, or is refused in Consul's words where Consul refuses it too. Regular expressions are compiled
//! here, never when a row is applied.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Action, Effect, EntryDraft, HeaderDraft, HttpDraft, Intention, JwtDraft, Party, Pattern, Permission,
    PermissionDraft, SourceDraft, bounds,
    canonical::{canonical_path, is_token},
    entry::WILDCARD,
    permission::{HeaderTest, Method, PathTest, ValueTest},
};
use crate::{
    id::Revision,
    spiffe::{DEFAULT_NAMESPACE, Name},
    time::Timestamp,
};

/// Why what a client wrote is no intention: a sentence that begins with the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadIntention(pub String);

fn bad<T>(text: impl Into<String>) -> Result<T, BadIntention> {
    Err(BadIntention(text.into()))
}

/// Puts the field before what is wrong with it.
fn at<T>(field: &str, result: Result<T, BadIntention>) -> Result<T, BadIntention> {
    result.map_err(|BadIntention(text)| BadIntention(format!("{field}{text}")))
}

impl EntryDraft {
    /// The rows of the entry, in the order of precedence.
    pub fn verify(mut self) -> Result<Vec<Intention>, BadIntention> {
        if self.name.is_empty() {
            return bad("Name is required");
        }
        let destination = party(&self.name)?;
        default_only("Namespace", &self.namespace)?;
        default_only("Partition", &self.partition)?;
        self.jwt.as_ref().map_or(Ok(()), check_jwt)?;
        check_meta("Meta", &self.meta)?;
        if self.sources.is_empty() {
            return bad("At least one source is required");
        }
        // As Consul numbers them in what follows.
        self.sources.sort_by_key(|source| source.name == WILDCARD);
        let mut seen = BTreeSet::new();
        let mut rows = Vec::new();
        for (place, source) in self.sources.iter().enumerate() {
            let field = format!("Sources[{place}]");
            let row = at(&field, source.verify(&destination, self.jwt.as_ref(), &self.meta))?;
            if !seen.insert(row.source.clone()) {
                return bad(format!("{field} defines {:?} more than once", source.name));
            }
            rows.push(row);
        }
        rows.sort_by(|one, other| one.order().cmp(&other.order()));
        let bytes: usize = rows.iter().map(Intention::bytes).sum();
        let most = bounds::SERVICE_INTENTIONS_BYTES_MAX;
        if bytes > most {
            return bad(format!(
                "Sources have {bytes} bytes, at most {most} are allowed in one write: write them one by one \
                 (PUT /v1/connect/intentions/exact)"
            ));
        }
        Ok(rows)
    }
}

impl SourceDraft {
    /// One row: of this destination alone. Errors begin with `Sources[0]`, as Consul's do.
    pub fn verify_for(
        &self,
        destination: &str,
        jwt: Option<&JwtDraft>,
        meta: &BTreeMap<String, String>,
    ) -> Result<Intention, BadIntention> {
        let entry = EntryDraft {
            name: destination.into(),
            sources: vec![self.clone()],
            jwt: jwt.cloned(),
            meta: meta.clone(),
            ..EntryDraft::default()
        };
        entry.verify()?.pop().map_or_else(|| bad("At least one source is required"), Ok)
    }

    fn verify(
        &self,
        destination: &Party,
        jwt: Option<&JwtDraft>,
        meta: &BTreeMap<String, String>,
    ) -> Result<Intention, BadIntention> {
        if self.name.is_empty() {
            return bad(".Name is required");
        }
        let source = at(".", party(&self.name))?;
        self.check_unsupported()?;
        if self.description.len() > bounds::DESCRIPTION_BYTES_MAX {
            return bad(format!(".Description exceeds maximum length {}", bounds::DESCRIPTION_BYTES_MAX));
        }
        if self.legacy_id.is_none() && !self.legacy_meta.is_empty() {
            return bad(".LegacyMeta must be omitted");
        }
        at(".", check_meta("Meta", &self.legacy_meta))?;
        let effect = self.effect(destination)?;
        let intention = Intention {
            destination: destination.clone(),
            source,
            effect,
            jwt: jwt.map(JwtDraft::requirement),
            description: self.description.clone(),
            meta: self.legacy_id.map_or(meta, |_| &self.legacy_meta).clone(),
            legacy_id: self.legacy_id,
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
            created: Revision(0),
            modified: Revision(0),
        };
        match bounds::check(&intention) {
            Ok(()) => Ok(intention),
            Err(error) => bad(format!(" is too large: {error}")),
        }
    }

    fn check_unsupported(&self) -> Result<(), BadIntention> {
        for (field, value) in [("Peer", &self.peer), ("SamenessGroup", &self.sameness_group)] {
            if !value.is_empty() {
                return bad(format!(
                    ".{field} {value:?} cannot be: carrack has no peers or sameness groups; leave it out, a service of \
                     another datacenter of the trust domain is named by its name alone"
                ));
            }
        }
        at(".", default_only("Namespace", &self.namespace))?;
        at(".", default_only("Partition", &self.partition))?;
        if !matches!(self.kind.as_str(), "" | "consul") {
            return bad(".Type must be set to 'consul'");
        }
        Ok(())
    }

    fn effect(&self, destination: &Party) -> Result<Effect, BadIntention> {
        if self.permissions.is_empty() {
            return match action(&self.action) {
                Some(action) => Ok(Effect::Action(action)),
                None => bad(".Action must be set to 'allow' or 'deny'"),
            };
        }
        if !self.action.is_empty() {
            return bad(".Action must be omitted if Permissions are specified");
        }
        if *destination == Party::Any {
            return bad(".Permissions cannot be specified on intentions with wildcarded destinations");
        }
        let permissions = self.permissions.iter().enumerate();
        let permissions =
            permissions.map(|(place, permission)| at(&format!(".Permissions[{place}]"), permission.verify()));
        permissions.collect::<Result<_, _>>().map(Effect::Permissions)
    }
}

impl PermissionDraft {
    fn verify(&self) -> Result<Permission, BadIntention> {
        let Some(action) = action(&self.action) else { return bad(".Action must be set to 'allow' or 'deny'") };
        let Some(http) = &self.http else { return bad(".HTTP is required") };
        let path = at(".HTTP", http.path())?;
        let headers = http.header.iter().enumerate();
        let headers = headers.map(|(place, header)| at(&format!(".HTTP.Header[{place}]"), header.verify()));
        let headers: Vec<HeaderTest> = headers.collect::<Result<_, _>>()?;
        let methods = at(".HTTP", http.verified_methods())?;
        if path == PathTest::Any && headers.is_empty() && methods.is_empty() {
            return bad(".HTTP should not be empty");
        }
        self.jwt.as_ref().map_or(Ok(()), |jwt| at(".", check_jwt(jwt)))?;
        Ok(Permission { action, path, headers, methods, jwt: self.jwt.as_ref().map(JwtDraft::requirement) })
    }
}

impl HttpDraft {
    fn path(&self) -> Result<PathTest, BadIntention> {
        let (exact, prefix, regex) = (&self.path_exact, &self.path_prefix, &self.path_regex);
        for (field, path) in [("PathExact", exact), ("PathPrefix", prefix)] {
            if !path.is_empty() {
                check_path(field, path)?;
            }
        }
        match (exact.as_str(), prefix.as_str(), regex.as_str()) {
            ("", "", "") => Ok(PathTest::Any),
            (exact, "", "") => Ok(PathTest::Exact(exact.into())),
            ("", prefix, "") => Ok(PathTest::Prefix(prefix.into())),
            ("", "", regex) => pattern(".PathRegex", regex).map(PathTest::Regex),
            _ => bad(" should only contain at most one of PathExact, PathPrefix, or PathRegex"),
        }
    }

    fn verified_methods(&self) -> Result<Vec<Method>, BadIntention> {
        let mut methods = Vec::new();
        for (name, method) in self.known_methods() {
            match method {
                None => return bad(format!(".Methods contains an invalid method {name:?}")),
                Some(method) if methods.contains(&method) => {
                    return bad(format!(".Methods contains {name:?} more than once"));
                }
                Some(method) => methods.push(method),
            }
        }
        Ok(methods)
    }
}

/// A path that no request has after it was brought into its form would decide nothing, and nobody would see it.
fn check_path(field: &str, path: &str) -> Result<(), BadIntention> {
    if !path.starts_with('/') {
        return bad(format!(".{field} doesn't start with '/': {path:?}"));
    }
    match canonical_path(path) {
        Ok(form) if form == path => Ok(()),
        Ok(form) => {
            bad(format!(".{field} {path:?} fits no request: paths are compared in the form {form:?}; write it so"))
        }
        Err(error) => bad(format!(".{field} {path:?} fits no request: {error}")),
    }
}

impl HeaderDraft {
    fn verify(&self) -> Result<HeaderTest, BadIntention> {
        if self.name.is_empty() {
            return bad(" missing required Name field");
        }
        // Those of HTTP/2 and 3 begin with a colon, and are not among a request's headers here.
        if !is_token(&self.name) {
            return bad(format!(".Name {:?} is no name of a header", self.name));
        }
        let (name, is_inverted, ignores_case) = (self.name.clone(), self.invert, self.ignore_case);
        let value = self.value()?;
        if ignores_case && matches!(value, ValueTest::Present | ValueTest::Regex(_)) {
            return bad(" should set one of Exact, Prefix, Suffix, or Contains when using IgnoreCase");
        }
        Ok(HeaderTest { name, value, is_inverted, ignores_case })
    }

    fn value(&self) -> Result<ValueTest, BadIntention> {
        let present = self.present.then_some(ValueTest::Present);
        let text = |text: &String, test: fn(String) -> ValueTest| (!text.is_empty()).then(|| test(text.clone()));
        let regex = match self.regex.as_str() {
            "" => None,
            regex => Some(ValueTest::Regex(pattern(".Regex", regex)?)),
        };
        let tests = [
            present,
            text(&self.exact, ValueTest::Exact),
            text(&self.prefix, ValueTest::Prefix),
            text(&self.suffix, ValueTest::Suffix),
            text(&self.contains, ValueTest::Contains),
            regex,
        ];
        let mut tests = tests.into_iter().flatten();
        match (tests.next(), tests.next()) {
            (Some(test), None) => Ok(test),
            _ => bad(" should only contain one of Present, Exact, Prefix, Suffix, Contains, or Regex"),
        }
    }
}

fn pattern(field: &str, text: &str) -> Result<Pattern, BadIntention> {
    if text.len() > bounds::PATTERN_BYTES_MAX {
        return bad(format!("{field} has {} bytes, at most {} are allowed", text.len(), bounds::PATTERN_BYTES_MAX));
    }
    let pattern = Pattern::new(text);
    match pattern.check() {
        Ok(()) => Ok(pattern),
        Err(error) => bad(format!("{field} {text:?} is no regular expression that is taken: {error}")),
    }
}

fn action(text: &str) -> Option<Action> {
    [Action::Allow, Action::Deny].into_iter().find(|action| action.as_str() == text)
}

fn party(text: &str) -> Result<Party, BadIntention> {
    if text != WILDCARD && text.contains(WILDCARD) {
        return bad("Name: wildcard character '*' cannot be used with partial values");
    }
    Party::parse("name", text).map_err(|error| BadIntention(format!("Name: {error}")))
}

fn default_only(field: &str, value: &str) -> Result<(), BadIntention> {
    if matches!(value, "" | DEFAULT_NAMESPACE) {
        return Ok(());
    }
    bad(format!("{field} {value:?} cannot be: there is one alone, `{DEFAULT_NAMESPACE}`; leave it out"))
}

fn check_jwt(jwt: &JwtDraft) -> Result<(), BadIntention> {
    if jwt.providers.is_empty() {
        return bad("JWT has no provider: nobody could meet it");
    }
    if jwt.providers.iter().any(|provider| provider.name.is_empty()) {
        return bad("JWT provider name is required");
    }
    let claims = jwt.providers.iter().flat_map(|provider| &provider.verify_claims);
    match claims.filter(|claim| claim.path.is_empty()).count() {
        0 => Ok(()),
        _ => bad("JWT claim path is required"),
    }
}

fn check_meta(field: &str, meta: &BTreeMap<String, String>) -> Result<(), BadIntention> {
    if meta.len() > bounds::META_PAIRS_MAX {
        return bad(format!("{field} exceeds maximum element count {}", bounds::META_PAIRS_MAX));
    }
    for (key, value) in meta {
        if key.len() > bounds::META_KEY_BYTES_MAX {
            return bad(format!("{field} key {key:?} exceeds maximum length {}", bounds::META_KEY_BYTES_MAX));
        }
        if value.len() > bounds::META_VALUE_BYTES_MAX {
            let most = bounds::META_VALUE_BYTES_MAX;
            return bad(format!("{field} value for key {key:?} exceeds maximum length {most}"));
        }
    }
    Ok(())
}

/// What an intention is called in a path or query: `name`, `default/name` or `default/default/name`.
pub fn party_of_path(text: &str) -> Result<Party, BadIntention> {
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        [namespace, name] => {
            default_only("Namespace", namespace)?;
            name
        }
        [partition, namespace, name] => {
            default_only("Partition", partition)?;
            default_only("Namespace", namespace)?;
            name
        }
        _ => return bad(format!("{text:?} is no service: write its name")),
    };
    party(name)
}

/// The name of a service, for what is not a wildcard.
pub fn service_of_path(text: &str) -> Result<Name, BadIntention> {
    match party_of_path(text)? {
        Party::Service(name) => Ok(name),
        Party::Any => bad("Name: wildcard character '*' cannot be used here: name one service"),
    }
}

#[cfg(test)]
mod tests;
