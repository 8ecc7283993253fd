//! HTTP requests in the form in which permissions look at them. One that can be read in two ways is denied wherever a permission would
//! have to look at it.

use std::collections::BTreeMap;

use super::{
    Ambiguous,
    canonical::{ambiguous, canonical_path, is_token},
    claims::VerifiedClaims,
};

/// A request in its canonical form, with what its verified JWTs say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    parts: Result<Parts, Ambiguous>,
    claims: VerifiedClaims,
}

/// What permissions look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) method: String,
    pub(super) path: String,
    headers: BTreeMap<String, Vec<String>>,
}

impl Request {
    /// A request with its method, its target in origin form (`/path?query`), its headers as they came, and what its JWTs say.
    pub fn new<'a>(
        method: &str,
        target: &str,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        claims: VerifiedClaims,
    ) -> Self {
        Self { parts: Parts::of(method, target, headers), claims }
    }

    pub(super) const fn parts(&self) -> Result<&Parts, &Ambiguous> {
        self.parts.as_ref()
    }

    pub(super) const fn claims(&self) -> &VerifiedClaims {
        &self.claims
    }
}

impl Parts {
    fn of<'a>(
        method: &str,
        target: &str,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Ambiguous> {
        if !is_token(method) {
            return Err(ambiguous("method", method, "is no token"));
        }
        let path = canonical_path(target.split_once('?').map_or(target, |(path, _)| path))?;
        let mut parts = Self { method: method.to_ascii_uppercase(), path, headers: BTreeMap::new() };
        for (name, value) in headers {
            if !is_token(name) {
                return Err(ambiguous("header name", name, "is no token"));
            }
            if value.chars().any(|character| character.is_control() && character != '\t') {
                return Err(ambiguous("header value", value, "has a control character"));
            }
            let value = value.trim_matches([' ', '\t']).to_owned();
            parts.headers.entry(name.to_ascii_lowercase()).or_default().push(value);
        }
        Ok(parts)
    }

    /// The values of a header, in their order, whatever the case of its name.
    pub(super) fn header(&self, name: &str) -> &[String] {
        self.headers.get(&name.to_ascii_lowercase()).map(Vec::as_slice).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
