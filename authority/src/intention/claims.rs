//! What a verified JWT says. Who verifies it is not decided here: a provider's claims are here only if it did vouch for them.

use std::collections::BTreeMap;

use super::permission::{ClaimTest, JwtProvider, JwtRequirement};

/// One value in a JWT's payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A text.
    Text(String),
    /// Several values.
    List(Vec<Claim>),
    /// Values with names.
    Object(BTreeMap<String, Claim>),
    /// Anything that no requirement can name: numbers, truth values, null.
    Other,
}

/// By provider: what the JWT says for which it vouches.
pub type VerifiedClaims = BTreeMap<String, Claim>;

impl JwtRequirement {
    /// Whether one of the providers vouches for everything that it must.
    pub(super) fn is_met_by(&self, claims: &VerifiedClaims) -> bool {
        self.providers.iter().any(|provider| provider.is_met_by(claims))
    }
}

impl JwtProvider {
    fn is_met_by(&self, claims: &VerifiedClaims) -> bool {
        claims.get(&self.name).is_some_and(|payload| self.claims.iter().all(|test| test.is_met_by(payload)))
    }
}

impl ClaimTest {
    fn is_met_by(&self, payload: &Claim) -> bool {
        let found = self.path.iter().try_fold(payload, |at, name| match at {
            Claim::Object(members) => members.get(name),
            _ => None,
        });
        let is_it = |claim: &Claim| matches!(claim, Claim::Text(text) if *text == self.value);
        match found {
            Some(Claim::List(all)) => all.iter().any(is_it),
            Some(claim) => is_it(claim),
            None => false,
        }
    }
}
