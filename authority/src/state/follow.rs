//! A secondary takes over what its leader heard of the primary: one table a command, with the point up to which it is followed then.

use std::{collections::BTreeSet, sync::Arc};

use uuid::Uuid;

use super::{
    Change, State,
    acl::{check_links, check_policy_bounds},
    check,
    federation::{check_known_by, check_servers},
    roots::check_root_form,
};
use crate::{
    acl::{
        AccessorId, Policy, PolicyId, Token,
        policy::{DESCRIPTION_BYTES_MAX, POLICIES_MAX},
        token::TOKENS_MAX,
    },
    federation::{
        self, CaTable, DATACENTERS_MAX, Datacenter, Followed, KnownDatacenter, Page, Progress, Switches, Table,
    },
    id::KeyId,
    outcome::{Outcome, Rejection, WatchKey},
    planted::{self, Bug},
    revocation::REASON_BYTES_MAX,
    root::{Ca, ROOTS_MAX, Root, RootPhase},
    rotation::HeardActivation,
    time::Timestamp,
};

impl State {
    pub(super) fn follow_primary(&mut self, change: &mut Change, followed: &Followed) -> Result<Outcome, Rejection> {
        let Followed { primary, table, from, to, change: heard, is_all } = followed;
        self.check_primary_cluster(primary)?;
        let progress = self.progress(*table);
        if progress.cursor != *from {
            let (expected, found) = (from.revision, progress.cursor.revision);
            // While a whole table is read its revision rests.
            let what = match expected == found {
                true => format!("the followed table `{table}`, of which another part was read,"),
                false => format!("the followed table `{table}`"),
            };
            return Err(Rejection::Conflict { what, expected, found });
        }
        self.check_heard(*table, heard)?;
        match heard {
            federation::Change::Nothing => {}
            federation::Change::Ca(ca) => self.follow_ca(change, ca),
            federation::Change::CaAndSwitches(ca, switches) => {
                self.follow_ca(change, ca);
                self.follow_switches(change, switches);
            }
            federation::Change::Datacenters(datacenters) => {
                self.follow_datacenters(change, &datacenters.iter().collect::<Vec<_>>())
            }
            federation::Change::DatacentersAndServers(known) => {
                self.follow_datacenters(change, &datacenters_of(known));
                self.follow_servers(change, known);
            }
            federation::Change::Policies { page, put, deleted } => {
                self.follow_policies(change, page.as_ref(), put, deleted)
            }
            federation::Change::Tokens { page, put, deleted } => {
                self.follow_tokens(change, page.as_ref(), put, deleted)
            }
            federation::Change::Intentions { page, put, deleted } => {
                self.follow_intentions(change, page.as_ref(), put, deleted)
            }
            federation::Change::Revocations { put, .. } => self.follow_revocations(change, put),
            federation::Change::RevokedIssuers(all) => self.follow_revoked_issuers(change, all),
        }
        // A part says nothing of what is missing: a token that was deleted may be in the rest.
        let heard_at = if *is_all { change.now } else { progress.heard_at };
        self.followed.insert(*table, Progress { cursor: *to, heard_at });
        change.touch(WatchKey::Followed);
        Ok(Outcome::Done)
    }

    fn check_primary_cluster(&self, cluster: &Uuid) -> Result<(), Rejection> {
        let Some(name) = self.primary() else {
            return Err(check::invalid("what was followed", "this datacenter is the primary"));
        };
        match self.datacenters.get(name) {
            Some(primary) if primary.cluster == *cluster => Ok(()),
            _ => Err(check::invalid(format!("what was followed of the cluster {cluster}"), "it is not the primary")),
        }
    }

    /// Everything that could be wrong, before anything is changed.
    fn check_heard(&self, table: Table, heard: &federation::Change) -> Result<(), Rejection> {
        match (heard, table) {
            (federation::Change::Nothing, _) => Ok(()),
            (federation::Change::Ca(ca), Table::Ca) => self.check_ca(ca),
            (federation::Change::CaAndSwitches(ca, switches), Table::Ca) => {
                check::at_most("tainted roots", switches.tainted.len(), ROOTS_MAX)?;
                let mut reasons = switches.tainted.iter().map(|tainted| &tainted.reason);
                reasons
                    .try_for_each(|reason| check::text("the reason why a root is tainted", reason, REASON_BYTES_MAX))?;
                self.check_ca(ca)
            }
            (federation::Change::Datacenters(datacenters), Table::Datacenters) => {
                self.check_datacenters(&datacenters.iter().collect::<Vec<_>>())
            }
            (federation::Change::DatacentersAndServers(known), Table::Datacenters) => {
                self.check_datacenters(&datacenters_of(known))?;
                known.iter().try_for_each(|known| match &known.servers {
                    Some(servers) => check_servers(&known.datacenter.name, servers),
                    None => Ok(()),
                })
            }
            (federation::Change::Policies { put, .. }, Table::Policies) => {
                // Those that the primary has deleted meanwhile may still be here while its table is read anew.
                let new = put.iter().filter(|policy| self.acl.policy(policy.id).is_none()).count();
                check::at_most("policies", self.acl.policy_count() + new, 2 * POLICIES_MAX)?;
                put.iter().try_for_each(check_followed_policy)
            }
            (federation::Change::Tokens { put, .. }, Table::Tokens) => {
                // Those that the primary has deleted meanwhile may still be here; the local ones of this datacenter count, too.
                let is_new = |token: &&Token| {
                    !self.has_global_token(token.accessor) && !self.hidden_tokens.contains_key(&token.accessor)
                };
                let count = self.acl.token_count() + self.hidden_tokens.len() + put.iter().filter(is_new).count();
                check::at_most("tokens", count, 2 * TOKENS_MAX)?;
                put.iter().try_for_each(check_followed_token)
            }
            (federation::Change::Intentions { put, .. }, Table::Intentions) => self.check_followed_intentions(put),
            (federation::Change::Revocations { put, .. }, Table::Revocations) => self.check_followed_revocations(put),
            (federation::Change::RevokedIssuers(all), Table::RevokedIssuers) => self.check_followed_issuers(all),
            _ => Err(check::invalid(format!("what was followed of the table `{table}`"), "it is of another table")),
        }
    }

    fn check_ca(&self, ca: &CaTable) -> Result<(), Rejection> {
        if let Some(cluster) = &self.cluster
            && cluster.trust_domain != ca.trust_domain
            && !planted::is(Bug::OwnTrustDomain)
        {
            let reason = format!("this datacenter's is `{}`, and it never changes", cluster.trust_domain);
            return Err(check::invalid(format!("the primary's trust domain `{}`", ca.trust_domain), reason));
        }
        ca.config.validate().map_err(Rejection::BadCaConfig)?;
        check::at_most("roots", ca.roots.len(), ROOTS_MAX)?;
        let activation = self.heard_activation.map_or(self.mesh.activation, |heard| heard.activation);
        if ca.activation < activation {
            let reason = format!("this datacenter has followed activation {activation} already");
            return Err(check::invalid(format!("the primary's activation {}", ca.activation), reason));
        }
        let active = ca.roots.iter().filter(|root| root.phase == RootPhase::Active).count();
        if active > 1 {
            return Err(check::invalid("the primary's roots", "more than one of them is active"));
        }
        for root in &ca.roots {
            if root.made.sealed_key.is_some() || root.activation > ca.activation {
                let reason = "it comes with a sealed key, or was activated after the last activation";
                return Err(check::invalid(format!("root {}", root.made.id), reason));
            }
            // It may have ended: the primary keeps it until nothing depends on it.
            check_root_form(&root.made)?;
        }
        Ok(())
    }

    fn follow_ca(&mut self, change: &mut Change, ca: &CaTable) {
        if self.config.config != ca.config {
            self.config.config = ca.config;
            self.config.modified = change.revision();
            change.touch(WatchKey::CaConfig);
        }
        let kept = |id: &KeyId| ca.roots.iter().any(|root| root.made.id == *id);
        let pruned: Vec<KeyId> = self.mesh.roots.keys().filter(|id| !kept(id)).copied().collect();
        for id in pruned {
            self.drop_root(change, &id);
        }
        let active = ca.roots.iter().find(|root| root.phase == RootPhase::Active);
        self.heard_activation = active.filter(|_| self.waits_for(ca)).map(|root| {
            let (activation, root) = (ca.activation, root.made.id);
            HeardActivation { activation, root }
        });
        if self.heard_activation.is_none() {
            self.mesh.activation = ca.activation;
        }
        for heard in &ca.roots {
            self.follow_root(change, heard);
        }
    }

    /// Whether an activation of the primary is not this datacenter's yet: its own agents must have the root before, and its own servers
    /// an issuer under it. There is nobody who would have to learn of the first root that it hears of; and where the one that was active
    /// here has left the bundle meanwhile, nothing is left that it could go on under.
    fn waits_for(&self, ca: &CaTable) -> bool {
        let is_news = ca.activation > self.mesh.activation && self.mesh.activation > 0;
        let active = ca.roots.iter().find(|root| root.phase == RootPhase::Active).map(|root| root.made.id);
        let is_other = self.mesh.active().is_some_and(|root| Some(root.made.id) != active);
        is_news && is_other && !planted::is(Bug::ActivatedUnacknowledged)
    }

    fn follow_root(&mut self, change: &mut Change, heard: &Root) {
        let found = self.mesh.find(&heard.made.id).cloned();
        let mut root = Root { created: change.revision(), phase_since: change.now, ..heard.clone() };
        if self.heard_activation.is_some() {
            // Until issuing flips here, the root that was active stays so, and the new one is prepared.
            let here = found.as_ref().map(|found| (found.phase, found.activation));
            (root.phase, root.activation) = match (heard.phase, here) {
                (RootPhase::Retired | RootPhase::Prepared, Some((RootPhase::Active, activation))) => {
                    (RootPhase::Active, activation)
                }
                (RootPhase::Active, Some((_, activation))) => (RootPhase::Prepared, activation),
                (RootPhase::Active, None) => (RootPhase::Prepared, 0),
                (phase, here) => (phase, here.map_or(0, |(_, activation)| activation)),
            };
        } else if root.phase == RootPhase::Retired
            && let Some(found) = found.as_ref().filter(|found| found.phase == RootPhase::Active)
        {
            self.fence(found, self.mesh.activation);
        }
        if let Some(found) = &found {
            root.created = found.created;
            root.modified = found.modified;
            if found.phase == root.phase {
                root.phase_since = found.phase_since;
            }
        }
        if found.as_deref() != Some(&root) {
            self.put_root(change, Ca::Mesh, root);
        }
    }

    fn follow_switches(&mut self, change: &mut Change, switches: &Switches) {
        if self.is_primary_halted != switches.is_halted {
            self.is_primary_halted = switches.is_halted;
            change.touch(WatchKey::Cluster);
        }
        let untainted: Vec<KeyId> = self.tainted.keys().copied().collect();
        let untainted = untainted.into_iter().filter(|id| switches.tainted.iter().all(|tainted| tainted.root != *id));
        untainted.for_each(|id| self.untaint(change, &id));
        for tainted in &switches.tainted {
            if self.mesh.find(&tainted.root).is_some() && self.tainted.get(&tainted.root) != Some(tainted) {
                self.put_tainted(change, tainted.clone());
            }
        }
    }

    fn check_datacenters(&self, datacenters: &[&Datacenter]) -> Result<(), Rejection> {
        check::at_most("datacenters", datacenters.len(), DATACENTERS_MAX + 1)?;
        let known = self.primary().and_then(|name| self.datacenters.get(name));
        let is_there = |known: &Arc<Datacenter>| {
            datacenters
                .iter()
                .any(|other| other.is_primary && other.name == known.name && other.cluster == known.cluster)
        };
        if !known.is_some_and(is_there) || datacenters.iter().filter(|other| other.is_primary).count() != 1 {
            return Err(check::invalid("the primary's list of datacenters", "the one primary in it is not this one's"));
        }
        datacenters.iter().try_for_each(|other| check_known_by(&other.server_roots, &other.wan_addresses))
    }

    fn follow_datacenters(&mut self, change: &mut Change, datacenters: &[&Datacenter]) {
        let own = self.cluster.as_ref().map(|cluster| cluster.id);
        let others = datacenters.iter().copied().filter(|other| Some(other.cluster) != own);
        let others: Vec<&Datacenter> = others.collect();
        let gone: Vec<_> =
            self.datacenters.keys().filter(|name| others.iter().all(|other| other.name != **name)).cloned().collect();
        for name in gone {
            self.datacenters.remove(&name);
            self.servers_of.remove(&name);
            change.touch(WatchKey::Datacenters);
        }
        for heard in others {
            let found = self.datacenters.get(&heard.name).cloned();
            let mut other = Datacenter::clone(heard);
            let first = (change.revision(), change.revision(), change.now);
            (other.created, other.modified, other.joined_at) =
                found.as_ref().map_or(first, |found| (found.created, found.modified, found.joined_at));
            if found.as_deref() != Some(&other) {
                other.modified = change.revision();
                self.datacenters.insert(other.name.clone(), Arc::new(other));
                change.touch(WatchKey::Datacenters);
            }
        }
    }

    fn follow_servers(&mut self, change: &mut Change, known: &[KnownDatacenter]) {
        if planted::is(Bug::ServersNotFollowed) {
            return;
        }
        for KnownDatacenter { datacenter, servers } in known {
            let (name, found) = (&datacenter.name, self.servers_of.get(&datacenter.name));
            if found == servers.as_ref() || !self.datacenters.contains_key(name) {
                continue;
            }
            match servers {
                Some(servers) => self.servers_of.insert(name.clone(), servers.clone()),
                None => self.servers_of.remove(name),
            };
            change.touch(WatchKey::Datacenters);
        }
    }

    fn follow_policies(&mut self, change: &mut Change, page: Option<&Page>, put: &[Policy], deleted: &[PolicyId]) {
        let mut gone: Vec<PolicyId> = deleted.to_vec();
        if let Some(page) = page {
            let here = self.acl.policies_after(page.after.map(PolicyId)).map(|policy| policy.id);
            let here = here.take_while(|id| page.contains(id.0));
            gone.extend(here.filter(|id| put.iter().all(|policy| policy.id != *id)));
        }
        for id in gone {
            if self.acl.delete_policy(id).is_some() {
                change.touch(WatchKey::Policies);
            }
        }
        for heard in put {
            let found = self.acl.policy(heard.id).cloned();
            let first = (change.revision(), change.revision());
            let (created, modified) = found.as_ref().map_or(first, |found| (found.created, found.modified));
            let mut policy = Policy { created, modified, ..heard.clone() };
            if found.as_deref() == Some(&policy) {
                continue;
            }
            policy.modified = change.revision();
            // Names are unique in the primary: whoever has this one here has another one there, or is gone, and a later change says so.
            if let Some(other) = self.acl.policy_of_name(&policy.name).map(|other| other.id) {
                self.acl.delete_policy(other);
            }
            self.acl.put_policy(Arc::new(policy));
            change.touch(WatchKey::Policies);
        }
    }

    fn follow_tokens(&mut self, change: &mut Change, page: Option<&Page>, put: &[Token], deleted: &[AccessorId]) {
        let mut gone: Vec<AccessorId> = deleted.to_vec();
        if let Some(page) = page {
            let here = self.acl.tokens_after(page.after.map(AccessorId)).map(|token| token.accessor);
            let here = here.take_while(|id| page.contains(id.0));
            let hidden = self.hidden_tokens.keys().copied().filter(|id| page.contains(id.0));
            let heard: BTreeSet<AccessorId> = put.iter().map(|token| token.accessor).collect();
            gone.extend(here.chain(hidden).filter(|id| !heard.contains(id)));
        }
        if planted::is(Bug::DeletionNotFollowed) {
            gone.clear();
        }
        for id in gone {
            self.forget_global_token(change, id);
        }
        for heard in put {
            self.follow_token(change, heard);
        }
    }

    fn follow_token(&mut self, change: &mut Change, heard: &Token) {
        if heard.expires_at.is_some_and(|end| end <= change.now) {
            return self.forget_global_token(change, heard.accessor);
        }
        if self.local_token_before(heard).is_some() && !planted::is(Bug::HiddenTokenHonoured) {
            self.forget_global_token(change, heard.accessor);
            let (created, modified) = (change.revision(), change.revision());
            self.hidden_tokens.insert(heard.accessor, Arc::new(Token { created, modified, ..heard.clone() }));
            return;
        }
        self.hidden_tokens.remove(&heard.accessor);
        let found = self.acl.token(heard.accessor, Timestamp::EPOCH).cloned();
        let first = (change.revision(), change.revision());
        let (created, modified) = found.as_ref().map_or(first, |found| (found.created, found.modified));
        let mut token = Token { created, modified, ..heard.clone() };
        if found.as_deref() == Some(&token) {
            return;
        }
        token.modified = change.revision();
        // A secret is random: two owners are one token that was made twice, and the primary's counts.
        if let Some(other) = self.acl.is_secret_taken(&token.secret).filter(|other| *other != token.accessor) {
            self.forget_token(change, other);
        }
        change.touch(WatchKey::Tokens);
        change.touch(WatchKey::Token(token.accessor));
        self.acl.put_token(Arc::new(token));
    }

    /// The tokens of the primary that are not honoured here, because a local one has their accessor id or their secret.
    pub fn hidden_tokens(&self) -> impl Iterator<Item = &Arc<Token>> {
        self.hidden_tokens.values().filter(|token| token.expires_at.is_none_or(|end| end > self.now))
    }

    /// The local token that has the accessor id or the secret of one of the primary's.
    pub fn local_token_before(&self, token: &Token) -> Option<&Arc<Token>> {
        let owner = self.acl.is_secret_taken(&token.secret);
        let like = [Some(token.accessor), owner].into_iter().flatten();
        like.filter_map(|id| self.acl.token(id, Timestamp::EPOCH)).find(|found| found.is_local)
    }

    /// Takes over the hidden tokens behind which no local one stands any more: the primary's stream does not bring them again. What has
    /// been deleted there meanwhile has left them already.
    pub(super) fn show_hidden_tokens(&mut self, change: &mut Change) {
        if self.hidden_tokens.is_empty() || !change.touched.contains(&WatchKey::Tokens) {
            return;
        }
        let all: Vec<Arc<Token>> = self.hidden_tokens.values().cloned().collect();
        for token in all {
            let has_ended = token.expires_at.is_some_and(|end| end <= self.now);
            // Another global one with its secret is older or newer; the primary says soon which of the two is gone.
            let is_free = self.acl.token(token.accessor, Timestamp::EPOCH).is_none()
                && self.acl.is_secret_taken(&token.secret).is_none();
            if has_ended || is_free {
                self.hidden_tokens.remove(&token.accessor);
            }
            if is_free && !has_ended {
                change.touch(WatchKey::Token(token.accessor));
                self.acl.put_token(Arc::new(Token { modified: change.revision(), ..Token::clone(&token) }));
            }
        }
    }

    fn has_global_token(&self, accessor: AccessorId) -> bool {
        self.acl.token(accessor, Timestamp::EPOCH).is_some_and(|token| !token.is_local)
    }

    /// Forgets a token that the primary has no more. A local one with its accessor id is this datacenter's own.
    fn forget_global_token(&mut self, change: &mut Change, accessor: AccessorId) {
        self.hidden_tokens.remove(&accessor);
        if self.has_global_token(accessor) {
            self.forget_token(change, accessor);
        }
    }

    fn forget_token(&mut self, change: &mut Change, accessor: AccessorId) {
        if self.acl.delete_token(accessor).is_some() {
            change.touch(WatchKey::Tokens);
            change.touch(WatchKey::Token(accessor));
        }
    }
}

fn datacenters_of(known: &[KnownDatacenter]) -> Vec<&Datacenter> {
    known.iter().map(|known| &known.datacenter).collect()
}

fn check_followed_policy(policy: &Policy) -> Result<(), Rejection> {
    if policy.id.is_reserved() {
        return Err(Rejection::BuiltIn { what: format!("policy {}", policy.id) });
    }
    check_policy_bounds(policy)
}

fn check_followed_token(token: &Token) -> Result<(), Rejection> {
    if token.accessor.is_reserved() {
        return Err(Rejection::BuiltIn { what: format!("token {}", token.accessor) });
    }
    if token.is_local {
        return Err(check::invalid(format!("token {}", token.accessor), "a local token does not leave its datacenter"));
    }
    check::text("token description", &token.description, DESCRIPTION_BYTES_MAX)?;
    check_links(token)
}
