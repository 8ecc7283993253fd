//! The datacenter's beginning, its feature level, its switches, its CA configuration.

use std::sync::Arc;

use super::{
    Change, Cluster, State, check,
    federation::{check_primary, check_server_roots_bytes},
    members::check_server,
    roots::check_root,
};
use crate::{
    ca_config::StoredCaConfig,
    command::Bootstrap,
    federation::Datacenter,
    id::{FeatureLevel, Revision},
    key::{CERTIFICATE_BYTES_MAX, REQUEST_BYTES_MAX},
    member::{FIRST_NODE_MAX, RECIPIENT_BYTES_MAX},
    outcome::{Outcome, Rejection, WatchKey},
    root::{Ca, Root, RootPhase},
};

impl State {
    pub(super) fn bootstrap(
        &mut self,
        change: &mut Change,
        bootstrap: &Bootstrap,
        primary: Option<&Datacenter>,
    ) -> Result<Outcome, Rejection> {
        if let Some(cluster) = &self.cluster {
            let is_duplicate = cluster.id == bootstrap.cluster;
            return if is_duplicate { Ok(Outcome::Done) } else { Err(Rejection::AlreadyBootstrapped) };
        }
        check_bootstrap(change, bootstrap)?;
        if let Some(primary) = primary {
            check_primary(primary, &bootstrap.datacenter, &bootstrap.cluster)?;
        }
        let revision = change.revision();
        let mut member = bootstrap.member.clone();
        (member.created, member.modified, member.admitted_at) = (revision, revision, change.now);
        member.is_leaving = false;
        let root = Root {
            made: bootstrap.server_root.clone(),
            phase: RootPhase::Active,
            activation: 1,
            bridge: None,
            phase_since: change.now,
            created: revision,
            modified: revision,
        };
        self.cluster = Some(Arc::new(Cluster {
            id: bootstrap.cluster,
            datacenter: bootstrap.datacenter.clone(),
            trust_domain: bootstrap.trust_domain.clone(),
            recovery: bootstrap.recovery.clone(),
            feature_level: bootstrap.feature_level,
            is_halted: false,
        }));
        self.next_node = member.node.0 + 1;
        self.members.insert(member.node, Arc::new(member));
        self.server.activation = 1;
        self.server.roots.insert(root.made.id, Arc::new(root));
        self.config = StoredCaConfig { config: bootstrap.config, created: revision, modified: revision };
        if let Some(primary) = primary {
            self.begin_as_secondary(change, primary);
        }
        for key in [WatchKey::Cluster, WatchKey::Members, WatchKey::Roots(Ca::Server), WatchKey::CaConfig] {
            change.touch(key);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn raise_feature_level(
        &mut self,
        change: &mut Change,
        expected: FeatureLevel,
        level: FeatureLevel,
    ) -> Result<Outcome, Rejection> {
        let found = self.feature_level();
        if found == level {
            return Ok(Outcome::Done);
        }
        if level < found {
            return Err(check::invalid(format!("feature level {level}"), format!("it is {found} and never lowered")));
        }
        if found != expected {
            let (expected, found) = (Revision(expected.0.into()), Revision(found.0.into()));
            return Err(Rejection::Conflict { what: "feature level".into(), expected, found });
        }
        if let Some(member) = self.members.values().find(|member| member.supports < level) {
            let who = format!("server {}", member.name);
            return Err(Rejection::TooOld { who, supports: member.supports, level });
        }
        self.change_cluster(change, |cluster| cluster.feature_level = level);
        Ok(Outcome::Done)
    }

    pub(super) fn set_halt(&mut self, change: &mut Change, halted: bool) -> Result<Outcome, Rejection> {
        if self.cluster.as_ref().is_some_and(|cluster| cluster.is_halted) != halted {
            self.change_cluster(change, |cluster| cluster.is_halted = halted);
        }
        Ok(Outcome::Done)
    }

    /// Whether nothing is recorded: it was halted here, or in the primary for every datacenter.
    pub fn is_halted(&self) -> bool {
        self.is_primary_halted || self.cluster.as_ref().is_some_and(|cluster| cluster.is_halted)
    }

    /// In a secondary: whether the primary has halted every datacenter.
    pub const fn is_primary_halted(&self) -> bool {
        self.is_primary_halted
    }

    fn change_cluster(&mut self, change: &mut Change, edit: impl FnOnce(&mut Cluster)) {
        if let Some(cluster) = &mut self.cluster {
            edit(Arc::make_mut(cluster));
            change.touch(WatchKey::Cluster);
        }
    }
}

/// What the beginning must be: everything later relies on it.
fn check_bootstrap(change: &Change, bootstrap: &Bootstrap) -> Result<(), Rejection> {
    let Bootstrap { member, feature_level: level, server_root, .. } = bootstrap;
    bootstrap.config.validate().map_err(Rejection::BadCaConfig)?;
    if !(1..=FIRST_NODE_MAX).contains(&member.node.0) {
        let reason = format!("it must be 1 to {FIRST_NODE_MAX}");
        return Err(check::invalid(format!("the first server's id {}", member.node), reason));
    }
    if *level < FeatureLevel(1) || member.supports < *level {
        let who = format!("server {}", member.name);
        return Err(Rejection::TooOld { who, supports: member.supports, level: *level });
    }
    check_server(&member.addresses, &member.sealing_recipient)?;
    check::text("recovery recipient", bootstrap.recovery.as_deref().unwrap_or_default(), RECIPIENT_BYTES_MAX)?;
    if let Some(certificate) = &member.certificate {
        check::der("the server certificate", &certificate.certificate, CERTIFICATE_BYTES_MAX)?;
    }
    if let Some(request) = &member.request {
        check::der("the request for a server certificate", &request.csr, REQUEST_BYTES_MAX)?;
    }
    check_root(change, server_root)?;
    check_server_roots_bytes([&server_root.certificate])?;
    let slots = [(member.node, member.sealing_recipient.clone())];
    match &server_root.sealed_key {
        Some(sealed) if sealed.slots != slots || sealed.recovery != bootstrap.recovery => {
            Err(Rejection::WrongRecipients)
        }
        _ => Ok(()),
    }
}
