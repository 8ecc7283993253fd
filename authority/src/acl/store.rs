//! The tokens and policies of a datacenter, and the questions that decisions ask of them.

use std::{ops::Bound, sync::Arc};

use imbl::{OrdMap, OrdSet};

use super::{AccessorId, Policy, PolicyId, Token};
use crate::{
    id::{Digest, Revision},
    time::Timestamp,
};

/// How many tokens expire in one entry at most: a herd that ends at once must not stall the log.
const EXPIRED_PER_ENTRY_MAX: usize = 4096;

/// Tokens and policies. Cloning is cheap: the maps are persistent.
#[derive(Clone, Debug, Default)]
pub struct Acl {
    tokens: OrdMap<AccessorId, Arc<Token>>,
    by_secret: OrdMap<Digest, AccessorId>,
    by_end: OrdSet<(Timestamp, AccessorId)>,
    policies: OrdMap<PolicyId, Arc<Policy>>,
    by_name: OrdMap<String, PolicyId>,
    pub(crate) bootstrapped: Revision,
}

impl Acl {
    pub(crate) fn put_token(&mut self, token: Arc<Token>) {
        self.delete_token(token.accessor);
        self.by_secret.insert(token.secret, token.accessor);
        if let Some(end) = token.expires_at {
            self.by_end.insert((end, token.accessor));
        }
        self.tokens.insert(token.accessor, token);
    }

    pub(crate) fn delete_token(&mut self, accessor: AccessorId) -> Option<Arc<Token>> {
        let token = self.tokens.remove(&accessor)?;
        self.by_secret.remove(&token.secret);
        if let Some(end) = token.expires_at {
            self.by_end.remove(&(end, accessor));
        }
        Some(token)
    }

    pub(crate) fn put_policy(&mut self, policy: Arc<Policy>) {
        self.delete_policy(policy.id);
        self.by_name.insert(policy.name.clone(), policy.id);
        self.policies.insert(policy.id, policy);
    }

    pub(crate) fn delete_policy(&mut self, id: PolicyId) -> Option<Arc<Policy>> {
        let policy = self.policies.remove(&id)?;
        // Two policies that changed names may have been written one after the other.
        if self.by_name.get(&policy.name) == Some(&id) {
            self.by_name.remove(&policy.name);
        }
        Some(policy)
    }

    /// Forgets the tokens that ended; answers which.
    pub(crate) fn expire(&mut self, now: Timestamp) -> Vec<AccessorId> {
        let ended: Vec<_> = self.by_end.iter().take_while(|(end, _)| *end <= now).take(EXPIRED_PER_ENTRY_MAX).collect();
        let ended: Vec<AccessorId> = ended.into_iter().map(|(_, accessor)| *accessor).collect();
        for accessor in &ended {
            self.delete_token(*accessor);
        }
        ended
    }

    /// The token with this secret, unless it has ended.
    pub fn token_of_secret(&self, secret: &Digest, now: Timestamp) -> Option<&Arc<Token>> {
        self.token(*self.by_secret.get(secret)?, now)
    }

    /// The token, unless it has ended.
    pub fn token(&self, accessor: AccessorId, now: Timestamp) -> Option<&Arc<Token>> {
        self.tokens.get(&accessor).filter(|token| token.expires_at.is_none_or(|end| end > now))
    }

    /// Whether some token has this secret, ended or not.
    pub fn is_secret_taken(&self, secret: &Digest) -> Option<AccessorId> {
        self.by_secret.get(secret).copied()
    }

    /// Every token, by accessor id.
    pub fn tokens(&self) -> impl Iterator<Item = &Arc<Token>> {
        self.tokens.values()
    }

    /// Every token after one, by accessor id.
    pub fn tokens_after(&self, accessor: Option<AccessorId>) -> impl Iterator<Item = &Arc<Token>> {
        let start = accessor.map_or(Bound::Unbounded, Bound::Excluded);
        self.tokens.range((start, Bound::Unbounded)).map(|(_, token)| token)
    }

    /// How many tokens there are.
    pub fn token_count(&self) -> usize {
        self.tokens.len()
    }

    /// One policy.
    pub fn policy(&self, id: PolicyId) -> Option<&Arc<Policy>> {
        self.policies.get(&id)
    }

    /// The policy of this name.
    pub fn policy_of_name(&self, name: &str) -> Option<&Arc<Policy>> {
        self.policy(*self.by_name.get(name)?)
    }

    /// Every policy, by id.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.values()
    }

    /// Every policy after one, by id.
    pub fn policies_after(&self, id: Option<PolicyId>) -> impl Iterator<Item = &Arc<Policy>> {
        let start = id.map_or(Bound::Unbounded, Bound::Excluded);
        self.policies.range((start, Bound::Unbounded)).map(|(_, policy)| policy)
    }

    /// How many policies there are.
    pub fn policy_count(&self) -> usize {
        self.policies.len()
    }

    /// The entry that made the first management token; zero: none did.
    pub const fn bootstrapped(&self) -> Revision {
        self.bootstrapped
    }
}
