//! What the primary records of the other datacenters: the tokens with which they join, who they are, the issuers that were signed for
//! them; and what a secondary records of the primary when it begins.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::{Change, State, check};
use crate::{
    acl::Token,
    federation::{
        AdmitDatacenter, DATACENTERS_MAX, Datacenter, DatacenterFacts, FEDERATION_TOKEN_TTL_MAX, FEDERATION_TOKENS_MAX,
        FederationToken, KnownServers, Progress, REMOTE_ISSUERS_MAX, REMOTE_ISSUERS_PER_SERVER_MAX, RemoteIssuer,
        SERVER_ROOTS_BYTES_MAX, SERVERS_AT_ONCE_MAX, Table, WAN_ADDRESSES_MAX, table_keys,
    },
    id::{Digest, KeyId, NodeId, Revision},
    key::{CERTIFICATE_BYTES_MAX, Der},
    member::ADDRESS_BYTES_MAX,
    outcome::{Outcome, Rejection, WatchKey},
    planted::{self, Bug},
    root::ROOTS_MAX,
    spiffe::Name,
    time::Timestamp,
};

impl State {
    /// The other datacenters, by name.
    pub fn datacenters(&self) -> impl Iterator<Item = &Arc<Datacenter>> {
        self.datacenters.values()
    }

    /// Another datacenter.
    pub fn datacenter(&self, name: &Name) -> Option<&Arc<Datacenter>> {
        self.datacenters.get(name)
    }

    /// This datacenter, as the others know it; `None` before it has begun.
    pub fn own_datacenter(&self) -> Option<Datacenter> {
        let cluster = self.cluster.as_ref()?;
        let wan = self.members.values().filter_map(|member| member.addresses.wan.clone());
        let mut own = Datacenter {
            name: cluster.datacenter.clone(),
            cluster: cluster.id,
            server_roots: self.server.bundle().iter().map(|root| root.made.certificate.clone()).collect(),
            wan_addresses: wan.collect(),
            is_primary: self.primary.is_none(),
            joined_at: self.members.values().map(|member| member.admitted_at).min().unwrap_or_default(),
            created: Revision::default(),
            modified: Revision::default(),
        };
        own.wan_addresses.sort();
        Some(own)
    }

    /// The servers of this datacenter, as the others know them.
    pub fn own_servers(&self) -> KnownServers {
        KnownServers { present: self.members.keys().copied().collect(), next: NodeId(self.next_node) }
    }

    /// The servers of another datacenter, if it has told.
    pub fn servers_of(&self, datacenter: &Name) -> Option<&KnownServers> {
        self.servers_of.get(datacenter)
    }

    /// Whether another datacenter has told that it has this server: nothing is signed for one that was invented or removed.
    pub fn has_told_of(&self, datacenter: &Name, node: NodeId) -> bool {
        self.servers_of(datacenter).is_some_and(|servers| servers.present.contains(&node))
    }

    /// The name of the primary, in a secondary.
    pub const fn primary(&self) -> Option<&Name> {
        self.primary.as_ref()
    }

    /// The federation token with this digest.
    pub fn federation_token(&self, secret: &Digest) -> Option<&FederationToken> {
        self.federation_tokens.get(secret)
    }

    /// The issuers that were signed for other datacenters and have not expired, by id.
    pub fn remote_issuers(&self) -> impl Iterator<Item = &Arc<RemoteIssuer>> {
        self.remote_issuers.values()
    }

    /// One of them.
    pub fn remote_issuer(&self, id: &KeyId) -> Option<&Arc<RemoteIssuer>> {
        self.remote_issuers.get(id)
    }

    /// In a secondary: how far a table of the primary is followed.
    pub fn progress(&self, table: Table) -> Progress {
        self.followed.get(&table).copied().unwrap_or_default()
    }

    /// Whether a token is not to be honoured, because it holds everywhere and this secondary has not heard for longer than
    /// `staleness_max` whether the primary still has it; `None`: however long that is.
    pub fn is_stale(&self, token: &Token, now: Timestamp, staleness_max: Option<Duration>) -> bool {
        let is_followed = self.primary.is_some() && !token.is_local && !planted::is(Bug::StaleTokenHonoured);
        is_followed && staleness_max.is_some_and(|most| now.since(self.progress(Table::Tokens).heard_at) > most)
    }

    /// Whether nobody here knows if issuing is halted, because this secondary has not heard for longer than `staleness_max` whether the
    /// primary has halted every datacenter; `None`: it goes on however long that is. One that never heard it knows as little.
    pub fn is_halt_unknown(&self, now: Timestamp, staleness_max: Option<Duration>) -> bool {
        let is_followed = self.primary.is_some();
        is_followed && staleness_max.is_some_and(|most| now.since(self.progress(Table::Ca).heard_at) > most)
    }

    /// The revision of the last change of a table that other datacenters follow.
    pub fn table_revision(&self, table: Table) -> Revision {
        match table {
            Table::Policies => self.histories.policies.last(),
            Table::Tokens => self.histories.tokens.last(),
            Table::Intentions => self.histories.intentions.last(),
            Table::Revocations => self.histories.revocations.last(),
            Table::Ca | Table::Datacenters | Table::RevokedIssuers => {
                table_keys(table).iter().map(|key| self.modified(key)).max().unwrap_or_default()
            }
        }
    }

    /// Refuses in a secondary what holds in every datacenter.
    pub fn only_in_primary(&self, what: &str) -> Result<(), Rejection> {
        match self.primary() {
            Some(primary) => Err(Rejection::InSecondary { what: what.into(), primary: primary.clone() }),
            None => Ok(()),
        }
    }

    /// Remembers a change for those who follow the table.
    pub(super) fn note_for_secondaries(&mut self, change: &Change, table: Table, key: Uuid) {
        if let Some(history) = self.histories.of_mut(table) {
            history.note(change.revision(), key);
        }
    }

    pub(super) fn begin_as_secondary(&mut self, change: &mut Change, primary: &Datacenter) {
        let (created, modified, joined_at) = (change.revision(), change.revision(), change.now);
        self.primary = Some(primary.name.clone());
        let primary = Datacenter { created, modified, joined_at, ..primary.clone() };
        self.datacenters.insert(primary.name.clone(), Arc::new(primary));
        change.touch(WatchKey::Datacenters);
    }

    pub(super) fn create_federation_token(
        &mut self,
        change: &mut Change,
        token: &FederationToken,
    ) -> Result<Outcome, Rejection> {
        self.only_in_primary("a federation token")?;
        if let Some(found) = self.federation_tokens.get(&token.secret) {
            let is_duplicate = found.datacenter == token.datacenter && found.expires_at == token.expires_at;
            return if is_duplicate {
                Ok(Outcome::Done)
            } else {
                Err(Rejection::AlreadyExists { what: "a federation token with this secret".into() })
            };
        }
        let unused = self.federation_tokens.values().filter(|token| token.consumed.is_none()).count();
        check::room("unused federation tokens", unused, FEDERATION_TOKENS_MAX)?;
        if token.expires_at <= change.now || token.expires_at > change.now.plus(FEDERATION_TOKEN_TTL_MAX) {
            let days = FEDERATION_TOKEN_TTL_MAX.as_secs() / 86_400;
            let reason = format!("it must be within {days} days after {}", change.now);
            return Err(check::invalid(format!("the federation token's end {}", token.expires_at), reason));
        }
        self.check_free_name(&token.datacenter)?;
        self.forget_used_federation_token();
        let mut token = token.clone();
        (token.consumed, token.created) = (None, change.revision());
        self.federation_tokens.insert(token.secret, token);
        change.touch(WatchKey::FederationTokens);
        Ok(Outcome::Done)
    }

    /// Used tokens are kept for lost replies, but no more of them than of unused ones.
    fn forget_used_federation_token(&mut self) {
        if self.federation_tokens.len() < 2 * FEDERATION_TOKENS_MAX {
            return;
        }
        let used = self.federation_tokens.values().filter(|token| token.consumed.is_some());
        if let Some(first) = used.min_by_key(|token| (token.expires_at, token.secret)).map(|token| token.secret) {
            self.federation_tokens.remove(&first);
        }
    }

    fn check_free_name(&self, name: &Name) -> Result<(), Rejection> {
        let is_own = self.cluster.as_ref().is_some_and(|cluster| cluster.datacenter == *name);
        if is_own || self.datacenters.contains_key(name) {
            return Err(Rejection::AlreadyExists { what: format!("a datacenter named `{name}`") });
        }
        Ok(())
    }

    pub(super) fn admit_datacenter(
        &mut self,
        change: &mut Change,
        admit: &AdmitDatacenter,
    ) -> Result<Outcome, Rejection> {
        self.only_in_primary("a datacenter")?;
        let refused = |reason: String| Rejection::FederationTokenRefused { reason };
        let facts = &admit.facts;
        let token = self.federation_tokens.get(&admit.secret);
        let token = token.ok_or_else(|| refused("it is unknown or has ended".into()))?;
        if token.datacenter != facts.name {
            let (wanted, found) = (&token.datacenter, &facts.name);
            return Err(refused(format!("it is for the datacenter `{wanted}`, not for `{found}`")));
        }
        match token.consumed {
            Some(cluster) if cluster == facts.cluster => return self.announce_datacenter(change, facts),
            Some(cluster) => return Err(refused(format!("it was used already, by the cluster {cluster}"))),
            None => {}
        }
        check_facts(facts)?;
        check::room("datacenters", self.datacenters.len(), DATACENTERS_MAX)?;
        self.check_free_name(&facts.name)?;
        self.check_free_cluster(&facts.cluster)?;
        let mut token = token.clone();
        token.consumed = Some(facts.cluster);
        self.federation_tokens.insert(admit.secret, token);
        let datacenter = Datacenter {
            name: facts.name.clone(),
            cluster: facts.cluster,
            server_roots: facts.server_roots.clone(),
            wan_addresses: facts.wan_addresses.clone(),
            is_primary: false,
            joined_at: change.now,
            created: change.revision(),
            modified: change.revision(),
        };
        self.datacenters.insert(facts.name.clone(), Arc::new(datacenter));
        change.touch(WatchKey::Datacenters);
        change.touch(WatchKey::FederationTokens);
        Ok(Outcome::Done)
    }

    fn check_free_cluster(&self, cluster: &Uuid) -> Result<(), Rejection> {
        let is_own = self.cluster.as_ref().is_some_and(|own| own.id == *cluster);
        if is_own || self.datacenters.values().any(|other| other.cluster == *cluster) {
            return Err(Rejection::AlreadyExists { what: format!("a datacenter with the cluster {cluster}") });
        }
        Ok(())
    }

    pub(super) fn announce_datacenter(
        &mut self,
        change: &mut Change,
        facts: &DatacenterFacts,
    ) -> Result<Outcome, Rejection> {
        let found = self.announcing_datacenter(&facts.name, &facts.cluster)?;
        check_facts(facts)?;
        if found.server_roots == facts.server_roots && found.wan_addresses == facts.wan_addresses {
            return Ok(Outcome::Done);
        }
        let mut datacenter = Datacenter::clone(&found);
        datacenter.server_roots = facts.server_roots.clone();
        datacenter.wan_addresses = facts.wan_addresses.clone();
        datacenter.modified = change.revision();
        self.datacenters.insert(facts.name.clone(), Arc::new(datacenter));
        change.touch(WatchKey::Datacenters);
        Ok(Outcome::Done)
    }

    /// A datacenter that may say something of itself.
    pub(super) fn announcing_datacenter(&self, name: &Name, cluster: &Uuid) -> Result<Arc<Datacenter>, Rejection> {
        self.only_in_primary("a datacenter")?;
        let found = self.datacenters.get(name).cloned();
        let found = found.ok_or_else(|| check::not_found(format!("the datacenter `{name}`")))?;
        if found.cluster == *cluster {
            return Ok(found);
        }
        let what = format!("the datacenter `{name}` with the cluster {cluster}");
        Err(check::invalid(what, format!("the recorded one has the cluster {}", found.cluster)))
    }

    pub(super) fn announce_servers_of(
        &mut self,
        change: &mut Change,
        name: &Name,
        cluster: &Uuid,
        servers: &KnownServers,
    ) -> Result<Outcome, Rejection> {
        self.announcing_datacenter(name, cluster)?;
        check_servers(name, servers)?;
        let found = self.servers_of.get(name);
        if let Some(found) = found.filter(|found| servers.next.0 > found.next.0.saturating_add(SERVERS_AT_ONCE_MAX)) {
            let (known, told) = (found.next, servers.next);
            let reason = format!(
                "its next id {told} is far above {known}, which was told last: at most {SERVERS_AT_ONCE_MAX} servers may have joined since"
            );
            return Err(check::invalid(format!("what datacenter `{name}` says of its servers"), reason));
        }
        let servers = found.map_or_else(|| servers.clone(), |found| found.with(servers));
        if found != Some(&servers) {
            self.servers_of.insert(name.clone(), servers);
            change.touch(WatchKey::Datacenters);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn remove_datacenter(&mut self, change: &mut Change, name: &Name) -> Result<Outcome, Rejection> {
        self.only_in_primary("the list of datacenters")?;
        self.servers_of.remove(name);
        if self.standings.remove(name).is_some() {
            change.touch(WatchKey::Rotation);
        }
        match self.datacenters.remove(name) {
            Some(_) => change.touch(WatchKey::Datacenters),
            None => return Err(check::not_found(format!("the datacenter `{name}`"))),
        }
        Ok(Outcome::Done)
    }

    /// With a root that leaves the bundle go the records of what it has signed for others.
    pub(super) fn forget_remote_issuers_under(&mut self, change: &mut Change, root: &KeyId) {
        let gone: Vec<KeyId> = self.remote_issuers.values().filter(|it| it.root == *root).map(|it| it.id).collect();
        if !gone.is_empty() {
            change.touch(WatchKey::RemoteIssuers);
        }
        gone.iter().for_each(|id| drop(self.remote_issuers.remove(id)));
    }

    pub(super) fn record_remote_issuer(
        &mut self,
        change: &mut Change,
        issuer: &RemoteIssuer,
    ) -> Result<Outcome, Rejection> {
        self.only_in_primary("an issuer for another datacenter")?;
        if let Some(found) = self.remote_issuers.get(&issuer.id) {
            let is_duplicate = found.certificate == issuer.certificate && found.datacenter == issuer.datacenter;
            return if is_duplicate {
                Ok(Outcome::Done)
            } else {
                Err(Rejection::AlreadyExists { what: format!("an issuer with the key {}", issuer.id) })
            };
        }
        if self.is_halted() {
            return Err(Rejection::Halted);
        }
        if !self.datacenters.contains_key(&issuer.datacenter) {
            return Err(check::not_found(format!("the datacenter `{}`", issuer.datacenter)));
        }
        if !self.has_told_of(&issuer.datacenter, issuer.node) {
            let (node, datacenter) = (issuer.node, &issuer.datacenter);
            return Err(check::not_found(format!(
                "server {node} among those that the datacenter `{datacenter}` has told of"
            )));
        }
        if self.issuers.contains_key(&issuer.id) || self.issuer_requests.values().any(|other| other.key == issuer.id) {
            return Err(Rejection::AlreadyExists { what: format!("an issuer with the key {}", issuer.id) });
        }
        let of_datacenter = self.remote_issuers.values().filter(|other| other.datacenter == issuer.datacenter);
        let (all, own) =
            of_datacenter.fold((0, 0), |(all, own), other| (all + 1, own + usize::from(other.node == issuer.node)));
        check::room("unexpired issuers of a datacenter", all, REMOTE_ISSUERS_MAX)?;
        check::room("unexpired issuers of a server of a datacenter", own, REMOTE_ISSUERS_PER_SERVER_MAX)?;
        check::der("the issuer's certificate", &issuer.certificate, CERTIFICATE_BYTES_MAX)?;
        let root = self.signing_root(&issuer.root)?;
        self.check_issuer_dates(change, &root, issuer.not_before, issuer.not_after)?;
        let issuer = RemoteIssuer { created: change.revision(), ..issuer.clone() };
        self.remote_issuers.insert(issuer.id, Arc::new(issuer));
        change.touch(WatchKey::RemoteIssuers);
        Ok(Outcome::Done)
    }

    pub(super) fn expire_federation(&mut self, change: &mut Change) {
        let now = change.now;
        let ended = self.federation_tokens.iter().filter(|(_, token)| token.expires_at < now);
        let ended: Vec<Digest> = ended.map(|(secret, _)| *secret).collect();
        for secret in ended {
            self.federation_tokens.remove(&secret);
            change.touch(WatchKey::FederationTokens);
        }
        let ended = self.remote_issuers.values().filter(|issuer| issuer.not_after < now).map(|issuer| issuer.id);
        let ended: Vec<KeyId> = ended.collect();
        for id in ended {
            self.remote_issuers.remove(&id);
            change.touch(WatchKey::RemoteIssuers);
        }
    }
}

/// The primary, as a secondary records it when it begins.
pub(super) fn check_primary(primary: &Datacenter, own: &Name, own_cluster: &Uuid) -> Result<(), Rejection> {
    let what = || format!("the primary `{}`", primary.name);
    if primary.name == *own || primary.cluster == *own_cluster {
        return Err(check::invalid(what(), "it is this datacenter itself"));
    }
    if !primary.is_primary {
        return Err(check::invalid(what(), "it is a secondary itself"));
    }
    check_known_by(&primary.server_roots, &primary.wan_addresses)
}

pub(super) fn check_facts(facts: &DatacenterFacts) -> Result<(), Rejection> {
    check_known_by(&facts.server_roots, &facts.wan_addresses)
}

/// What a datacenter says of its servers.
pub(super) fn check_servers(datacenter: &Name, servers: &KnownServers) -> Result<(), Rejection> {
    let what = || format!("what datacenter `{datacenter}` says of its servers");
    servers.fault().map_or(Ok(()), |fault| Err(check::invalid(what(), fault)))
}

/// How a datacenter's servers are known and reached.
pub(super) fn check_known_by(server_roots: &[Der], wan_addresses: &[String]) -> Result<(), Rejection> {
    if server_roots.is_empty() {
        return Err(check::invalid("the server CA of the datacenter", "it has no root"));
    }
    check::at_most("roots of a server CA", server_roots.len(), ROOTS_MAX)?;
    for root in server_roots {
        check::der("a root of the server CA", root, CERTIFICATE_BYTES_MAX)?;
    }
    check_server_roots_bytes(server_roots)?;
    check::at_most("addresses of a datacenter", wan_addresses.len(), WAN_ADDRESSES_MAX)?;
    wan_addresses.iter().try_for_each(|address| check::text("WAN address", address, ADDRESS_BYTES_MAX))
}

/// The bytes of all roots of one server CA: what exceeds them the other datacenters would refuse for ever.
pub(super) fn check_server_roots_bytes<'a>(roots: impl IntoIterator<Item = &'a Der>) -> Result<(), Rejection> {
    let bytes = roots.into_iter().map(|root| root.as_bytes().len()).sum();
    check::at_most("bytes of the roots of a datacenter's server CA", bytes, SERVER_ROOTS_BYTES_MAX)
}
