//! Tokens and policies are written, and what a token may do is looked up.

use std::sync::Arc;

use super::{Change, State, check};
use crate::{
    acl::{
        AccessorId, Policy, PolicyId, Token,
        policy::{DESCRIPTION_BYTES_MAX, POLICIES_MAX, POLICY_NAME_BYTES_MAX, RULES_BYTES_MAX},
        resolve::Authorizer,
        rules::{RULES_MAX, Scope},
        token::{TOKEN_LINKS_MAX, TOKENS_MAX},
    },
    federation::Table,
    id::Revision,
    outcome::{Outcome, Rejection, WatchKey},
    planted::{self, Bug},
    time::Timestamp,
};

impl State {
    pub(super) fn bootstrap_acl(
        &mut self,
        change: &mut Change,
        token: &Token,
        reset: Option<u64>,
    ) -> Result<Outcome, Rejection> {
        self.only_in_primary("the first management token")?;
        let bootstrapped = self.acl.bootstrapped();
        if bootstrapped != Revision::default() {
            if self.is_same_token(token) {
                return Ok(Outcome::Done);
            }
            if reset != Some(bootstrapped.0) {
                return Err(Rejection::AclBootstrapped { reset_index: bootstrapped.0 });
            }
        }
        if token.expires_at.is_some() || !token.policies.contains(&PolicyId::GLOBAL_MANAGEMENT) {
            return Err(check::invalid("the bootstrap token", "it must be a management token that never ends"));
        }
        self.put_token(change, Revision::default(), token)?;
        self.acl.bootstrapped = change.revision();
        Ok(Outcome::Done)
    }

    pub(super) fn put_token(
        &mut self,
        change: &mut Change,
        expected: Revision,
        token: &Token,
    ) -> Result<Outcome, Rejection> {
        let what = || format!("token {}", token.accessor);
        if token.accessor.is_reserved() {
            return Err(Rejection::BuiltIn { what: what() });
        }
        let former = self.acl.token(token.accessor, self.now).cloned();
        let mut token = token.clone();
        let first = (change.revision(), change.now);
        (token.created, token.created_at) = former.as_ref().map_or(first, |former| (former.created, former.created_at));
        token.modified = former.as_ref().map_or_else(Revision::default, |former| former.modified);
        if !token.is_local || former.as_ref().is_some_and(|former| !former.is_local) {
            // Also one that is like the copy here: the primary's may be another one by now.
            self.only_in_primary("a token that holds in every datacenter (one that is not `Local`)")?;
        }
        if former.as_deref() == Some(&token) {
            return Ok(Outcome::Done);
        }
        check::unchanged(what(), expected, token.modified)?;
        match &former {
            Some(former) => check_same_credential(former, &token)?,
            None => {
                change.check_made_once(&what(), token.accessor.0)?;
                check::room("tokens", self.acl.token_count(), TOKENS_MAX)?;
            }
        }
        self.check_token(&token)?;
        token.modified = change.revision();
        change.touch(WatchKey::Tokens);
        change.touch(WatchKey::Token(token.accessor));
        if !token.is_local {
            self.note_for_secondaries(change, Table::Tokens, token.accessor.0);
        }
        self.acl.put_token(Arc::new(token));
        Ok(Outcome::Done)
    }

    fn check_token(&self, token: &Token) -> Result<(), Rejection> {
        check::text("token description", &token.description, DESCRIPTION_BYTES_MAX)?;
        if let Some(owner) = self.acl.is_secret_taken(&token.secret)
            && owner != token.accessor
        {
            return Err(Rejection::AlreadyExists { what: "a token with this secret".into() });
        }
        check_links(token)?;
        if token.expires_at.is_some_and(|end| end <= self.now) {
            return Err(check::invalid("the token's expiration time", "it has passed"));
        }
        let known = |id: &&PolicyId| **id == PolicyId::GLOBAL_MANAGEMENT || self.acl.policy(**id).is_some();
        match token.policies.iter().find(|id| !known(id)) {
            Some(unknown) => Err(check::not_found(format!("policy {unknown}"))),
            None => Ok(()),
        }
    }

    pub(super) fn delete_token(&mut self, change: &mut Change, accessor: AccessorId) -> Result<Outcome, Rejection> {
        if accessor.is_reserved() {
            return Err(Rejection::BuiltIn { what: format!("token {accessor}") });
        }
        if planted::is(Bug::DeletedTokenLives) {
            return Ok(Outcome::Done);
        }
        let found = self.acl.token(accessor, Timestamp::EPOCH);
        let (is_known, is_local) = (found.is_some(), found.is_some_and(|token| token.is_local));
        if !is_local {
            // One that is not known here may be one that the primary has just made.
            self.only_in_primary("a token that holds in every datacenter (one that is not `Local`)")?;
            if is_known {
                self.note_for_secondaries(change, Table::Tokens, accessor.0);
            }
        }
        if let Some(gone) = self.acl.delete_token(accessor) {
            change.unmake(accessor.0, gone.modified);
            change.touch(WatchKey::Tokens);
            change.touch(WatchKey::Token(accessor));
        }
        Ok(Outcome::Done)
    }

    pub(super) fn put_policy(
        &mut self,
        change: &mut Change,
        expected: Revision,
        policy: &Policy,
    ) -> Result<Outcome, Rejection> {
        let what = || format!("policy {}", policy.id);
        if policy.id.is_reserved() || policy.name == "global-management" {
            return Err(Rejection::BuiltIn { what: what() });
        }
        self.only_in_primary("a policy")?;
        let former = self.acl.policy(policy.id).cloned();
        let mut policy = policy.clone();
        policy.created = former.as_ref().map_or(change.revision(), |former| former.created);
        policy.modified = former.as_ref().map_or_else(Revision::default, |former| former.modified);
        if former.as_deref() == Some(&policy) {
            return Ok(Outcome::Done);
        }
        if planted::is(Bug::RejectedCommandWrites) {
            self.acl.put_policy(Arc::new(Policy { modified: change.revision(), ..policy.clone() }));
        }
        check::unchanged(what(), expected, policy.modified)?;
        if former.is_none() {
            change.check_made_once(&what(), policy.id.0)?;
            check::room("policies", self.acl.policy_count(), POLICIES_MAX)?;
        }
        self.check_policy(&policy)?;
        policy.modified = change.revision();
        self.note_for_secondaries(change, Table::Policies, policy.id.0);
        self.acl.put_policy(Arc::new(policy));
        change.touch(WatchKey::Policies);
        Ok(Outcome::Done)
    }

    fn check_policy(&self, policy: &Policy) -> Result<(), Rejection> {
        check_policy_bounds(policy)?;
        match self.acl.policy_of_name(&policy.name) {
            Some(other) if other.id != policy.id => {
                Err(Rejection::AlreadyExists { what: format!("a policy named `{}`", policy.name) })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn delete_policy(&mut self, change: &mut Change, id: PolicyId) -> Result<Outcome, Rejection> {
        if id.is_reserved() {
            return Err(Rejection::BuiltIn { what: format!("policy {id}") });
        }
        self.only_in_primary("a policy")?;
        if let Some(gone) = self.acl.delete_policy(id) {
            change.unmake(id.0, gone.modified);
            self.note_for_secondaries(change, Table::Policies, id.0);
            change.touch(WatchKey::Policies);
        }
        Ok(Outcome::Done)
    }

    fn is_same_token(&self, token: &Token) -> bool {
        self.acl.token(token.accessor, self.now).is_some_and(|found| found.secret == token.secret)
    }

    /// What a token may do in this datacenter.
    pub fn authorizer(&self, token: &Token) -> Authorizer {
        if token.policies.contains(&PolicyId::GLOBAL_MANAGEMENT) {
            return Authorizer::management();
        }
        let datacenter = self.cluster.as_ref().map(|cluster| cluster.datacenter.as_str()).unwrap_or_default();
        let policies = token.policies.iter().filter_map(|id| self.acl.policy(*id));
        let policies = policies.filter(|policy| {
            policy.datacenters.is_empty() || policy.datacenters.iter().any(|other| other.as_str() == datacenter)
        });
        let services = token.service_identities.iter().filter(|identity| {
            identity.datacenters.is_empty() || identity.datacenters.iter().any(|other| other.as_str() == datacenter)
        });
        let nodes = token.node_identities.iter().filter(|identity| identity.datacenter.as_str() == datacenter);
        Authorizer::new(
            policies.map(|policy| policy.rules.clone()),
            services.map(|identity| identity.service.clone()),
            nodes.map(|identity| identity.node.clone()),
        )
    }
}

/// The bounds of a policy, which hold wherever it was written.
pub(super) fn check_policy_bounds(policy: &Policy) -> Result<(), Rejection> {
    check::text("policy name", &policy.name, POLICY_NAME_BYTES_MAX)?;
    check::text("policy description", &policy.description, DESCRIPTION_BYTES_MAX)?;
    check::text("policy rules", &policy.source, RULES_BYTES_MAX)?;
    check::at_most("rules of a policy", policy.rules.len(), RULES_MAX)?;
    let names = policy.rules.iter().map(|rule| match &rule.scope {
        Scope::All => 0,
        Scope::Exact(name) | Scope::Prefix(name) => name.len(),
    });
    check::at_most("bytes of names in the rules of a policy", names.sum(), RULES_BYTES_MAX)?;
    check::at_most("datacenters of a policy", policy.datacenters.len(), TOKEN_LINKS_MAX)
}

/// What of a token never changes: whoever holds its secret keeps holding it, for as long as was said.
fn check_same_credential(former: &Token, token: &Token) -> Result<(), Rejection> {
    let changed = [
        ("SecretID", former.secret != token.secret),
        ("Local", former.is_local != token.is_local),
        ("ExpirationTime", former.expires_at != token.expires_at),
        ("AuthMethod", former.auth_method != token.auth_method),
    ];
    match changed.into_iter().find(|(_, is_changed)| *is_changed) {
        Some((field, _)) => Err(check::invalid(format!("the token's {field}"), "it never changes")),
        None => Ok(()),
    }
}

/// The bounds of a token's links, and those that no feature level knows yet.
pub(super) fn check_links(token: &Token) -> Result<(), Rejection> {
    let datacenters = token.service_identities.iter().map(|identity| identity.datacenters.len());
    let counts = [token.policies.len(), token.service_identities.len(), token.node_identities.len()];
    let most = counts.into_iter().chain(datacenters).max().unwrap_or_default();
    check::at_most("policies, identities or datacenters of a token", most, TOKEN_LINKS_MAX)?;
    if let Some(role) = token.roles.first() {
        return Err(check::not_found(format!("role {role}")));
    }
    match &token.auth_method {
        Some(method) => Err(check::not_found(format!("auth method `{method}`"))),
        None => Ok(()),
    }
}
