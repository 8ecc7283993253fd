//! What a root leaves when it is not active any more: leaves that drain, the word of each datacenter on them, and the moment when it
//! leaves the bundle, because nothing anywhere depends on it.

use std::sync::Arc;

use uuid::Uuid;

use super::{Change, State, check};
use crate::{
    id::{KeyId, NodeId, Revision},
    issuer::IssuerPhase,
    outcome::{Outcome, Rejection, WatchKey},
    planted::{self, Bug},
    revocation::REASON_BYTES_MAX,
    root::{Ca, ROOTS_MAX, Root, RootPhase},
    rotation::{CLOCK_SKEW, Fence, HeardActivation, HeardStanding, RootStanding, Standing, TaintedRoot},
    spiffe::Name,
    time::Timestamp,
};

/// Why a retired root is still in the bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Depends {
    /// Leaves under it have not ended, or ended a moment ago.
    Leaves {
        /// Where; `None`: in this datacenter.
        datacenter: Option<Name>,
        /// How many.
        unexpired: u64,
        /// When the last of them has ended on every clock.
        until: Timestamp,
    },
    /// A datacenter has not said that it issues nothing more under it, and has issuers that could.
    NoFence {
        /// Which.
        datacenter: Name,
        /// When the last of these issuers has ended on every clock.
        until: Timestamp,
    },
    /// It is not retired: leaves are or will be issued under it.
    NotRetired,
}

impl State {
    /// What this datacenter left under a root when it stopped issuing under it.
    pub fn fence_of(&self, root: &KeyId) -> Option<&Fence> {
        self.fences.get(root)
    }

    /// What another datacenter has said last of where it is.
    pub fn standing_of(&self, datacenter: &Name) -> Option<&HeardStanding> {
        self.standings.get(datacenter).map(|heard| &**heard)
    }

    /// In a secondary: what the primary has activated, and this datacenter does not issue under yet.
    pub const fn heard_activation(&self) -> Option<&HeardActivation> {
        self.heard_activation.as_ref()
    }

    /// Whether the root is marked as not to be relied on, and why.
    pub fn tainted(&self, root: &KeyId) -> Option<&TaintedRoot> {
        self.tainted.get(root)
    }

    /// The roots that are marked as not to be relied on.
    pub fn tainted_roots(&self) -> impl Iterator<Item = &TaintedRoot> {
        self.tainted.values()
    }

    /// Where this datacenter is, as it tells the primary. `absent`: its servers that have not answered their leader for a while.
    pub fn own_standing(&self, is_absent: impl Fn(NodeId) -> bool) -> Standing {
        let servers: Vec<NodeId> = self.members.keys().copied().collect();
        let (absent, there): (Vec<NodeId>, Vec<NodeId>) = servers.into_iter().partition(|node| is_absent(*node));
        let lagging = there.iter().filter_map(|node| self.acknowledgements.get(node)).map(|told| told.lagging.count);
        Standing {
            activation: self.mesh.activation,
            is_halted: self.is_halted(),
            roots: self.mesh.bundle().iter().map(|root| self.root_standing(root, &there)).collect(),
            absent: absent.len() as u64,
            lagging: lagging.sum(),
        }
    }

    fn root_standing(&self, root: &Root, there: &[NodeId]) -> RootStanding {
        let id = root.made.id;
        let mut standing = RootStanding {
            root: id,
            is_acknowledged: there.iter().all(|node| self.has_acknowledged(*node, root)),
            has_issuers: there.iter().all(|node| self.has_issuer(*node, &id)),
            current: 0,
            unexpired: 0,
            last_not_after: self.fences.get(&id).map_or(Timestamp::EPOCH, |fence| fence.last_not_after),
        };
        for issuer in self.issuers.values().filter(|issuer| issuer.root == id) {
            let counts = self.issuances.counts(&issuer.id);
            standing.current += counts.current;
            standing.unexpired += counts.unexpired;
            standing.last_not_after = standing.last_not_after.max(counts.last_not_after);
        }
        standing
    }

    /// Whether all agents of a server that answer have a root in their bundle.
    pub fn has_acknowledged(&self, node: NodeId, root: &Root) -> bool {
        self.acknowledgements.get(&node).is_some_and(|told| told.bundle >= root.created)
    }

    /// Whether a server can issue under a root.
    pub fn has_issuer(&self, node: NodeId, root: &KeyId) -> bool {
        self.issuers.values().any(|issuer| {
            issuer.node == node
                && issuer.root == *root
                && issuer.phase == IssuerPhase::Live
                && issuer.not_after > self.now
        })
    }

    /// Issuing goes from the active root to another one, under the number of an activation.
    pub(super) fn flip(&mut self, change: &mut Change, ca: Ca, to: &Root, activation: u64) {
        if let Some(active) = self.roots(ca).active().cloned() {
            if ca == Ca::Mesh {
                self.fence(&active, activation);
            }
            let (phase, phase_since) = (RootPhase::Retired, change.now);
            self.put_root(change, ca, Root { phase, phase_since, ..Root::clone(&active) });
        }
        self.roots_mut(ca).activation = activation;
        if ca == Ca::Mesh {
            self.fences.remove(&to.made.id);
        }
        let (phase, phase_since) = (RootPhase::Active, change.now);
        self.put_root(change, ca, Root { phase, phase_since, activation, ..to.clone() });
    }

    /// Notes what is left under a root as issuing goes away from it.
    pub(super) fn fence(&mut self, root: &Root, activation: u64) {
        let (root, last_not_after) = (root.made.id, self.root_standing(root, &[]).last_not_after);
        self.fences.insert(root, Fence { root, activation, last_not_after });
    }

    /// In a secondary: it goes on under the root that the primary has activated, when its own agents and servers can.
    pub(super) fn follow_activation(&mut self, change: &mut Change, activation: u64) -> Result<Outcome, Rejection> {
        if self.mesh.activation == activation && self.heard_activation.is_none() {
            return Ok(Outcome::Done);
        }
        let heard = self.heard_activation.filter(|heard| heard.activation == activation);
        let Some(heard) = heard else {
            let found = Revision(self.heard_activation.map_or(self.mesh.activation, |heard| heard.activation));
            return Err(Rejection::Conflict {
                what: "the activation to follow".into(),
                expected: Revision(activation),
                found,
            });
        };
        let root = self.found_root(Ca::Mesh, &heard.root)?;
        self.flip(change, Ca::Mesh, &root, activation);
        self.heard_activation = None;
        Ok(Outcome::Done)
    }

    pub(super) fn announce_standing(
        &mut self,
        change: &mut Change,
        name: &Name,
        cluster: &Uuid,
        standing: &Standing,
    ) -> Result<Outcome, Rejection> {
        self.announcing_datacenter(name, cluster)?;
        check::at_most("roots in a datacenter's word on where it is", standing.roots.len(), ROOTS_MAX)?;
        if standing.activation > self.mesh.activation {
            let (told, last) = (standing.activation, self.mesh.activation);
            let reason = format!("the last activation is {last}");
            return Err(check::invalid(
                format!("activation {told}, which datacenter `{name}` says that it follows"),
                reason,
            ));
        }
        let former = self.standings.get(name);
        // A deposed leader's word that was long on its way.
        if let Some(former) = former.filter(|former| former.standing.activation > standing.activation) {
            let what = format!("the activation that datacenter `{name}` follows");
            let (expected, found) = (Revision(standing.activation), Revision(former.standing.activation));
            return Err(Rejection::Conflict { what, expected, found });
        }
        let heard = HeardStanding { standing: standing.clone(), heard_at: change.now };
        self.standings.insert(name.clone(), Arc::new(heard));
        change.touch(WatchKey::Rotation);
        Ok(Outcome::Done)
    }

    /// What keeps a retired root in the bundle, this datacenter first; empty: nothing.
    pub fn depends_on(&self, root: &Root, now: Timestamp) -> Vec<Depends> {
        let id = root.made.id;
        if root.phase != RootPhase::Retired {
            return vec![Depends::NotRetired];
        }
        let mut depends = Vec::new();
        let mut own = self.root_standing(root, &[]);
        if planted::is(Bug::DrainTakenForEnd) && own.current == 0 {
            (own.unexpired, own.last_not_after) = (0, Timestamp::EPOCH);
        }
        let until = own.last_not_after.plus(CLOCK_SKEW);
        if own.unexpired > 0 || (own.last_not_after > Timestamp::EPOCH && until >= now) {
            depends.push(Depends::Leaves { datacenter: None, unexpired: own.unexpired, until });
        }
        depends.extend(self.datacenters.keys().filter_map(|name| self.depends_there(name, &id, now)));
        depends
    }

    fn depends_there(&self, name: &Name, root: &KeyId, now: Timestamp) -> Option<Depends> {
        let heard = self.standings.get(name).filter(|heard| heard.standing.activation == self.mesh.activation);
        if let Some(heard) = heard {
            let left = heard.standing.of_root(root)?;
            // No leaf outlives its issuer, whatever is said of it.
            let issuers = self.remote_issuers.values().filter(|it| it.datacenter == *name && it.root == *root);
            let last = issuers.map(|issuer| issuer.not_after).max().unwrap_or(left.last_not_after);
            let until = left.last_not_after.min(last).plus(CLOCK_SKEW);
            let is_left = left.unexpired > 0 || left.last_not_after > Timestamp::EPOCH;
            let (datacenter, unexpired) = (Some(name.clone()), left.unexpired);
            return (is_left && until >= now).then_some(Depends::Leaves { datacenter, unexpired, until });
        }
        if planted::is(Bug::PrunedWithoutFence) {
            return None;
        }
        let issuers = self.remote_issuers.values().filter(|it| it.datacenter == *name && it.root == *root);
        let until = issuers.map(|issuer| issuer.not_after).max()?.plus(CLOCK_SKEW);
        (until >= now).then(|| Depends::NoFence { datacenter: name.clone(), until })
    }

    pub(super) fn prune_root(
        &mut self,
        change: &mut Change,
        id: &KeyId,
        expected: Revision,
    ) -> Result<Outcome, Rejection> {
        self.only_in_primary("the mesh CA's roots")?;
        let root = self.found_root(Ca::Mesh, id)?;
        check::unchanged(format!("root {id}"), expected, root.modified)?;
        if !self.depends_on(&root, change.now).is_empty() && !planted::is(Bug::PrunedByTimer) {
            let reason = "something depends on it (`carrack ca status` says what)".into();
            return Err(Rejection::WrongPhase { root: *id, phase: root.phase.as_str().into(), reason });
        }
        self.drop_root(change, id);
        Ok(Outcome::Done)
    }

    /// Takes a root out of the bundle, with everything that is of it alone.
    pub(super) fn drop_root(&mut self, change: &mut Change, id: &KeyId) {
        self.mesh.roots.remove(id);
        self.fences.remove(id);
        self.heard_activation = self.heard_activation.filter(|heard| heard.root != *id);
        change.touch(WatchKey::Roots(Ca::Mesh));
        self.untaint(change, id);
        self.forget_issuers_under(change, id);
        self.forget_remote_issuers_under(change, id);
        self.forget_revoked_issuers_under(change, id);
    }

    pub(super) fn taint_root(&mut self, change: &mut Change, id: &KeyId, reason: &str) -> Result<Outcome, Rejection> {
        self.only_in_primary("the mesh CA's roots")?;
        check::text("the reason why a root is tainted", reason, REASON_BYTES_MAX)?;
        let root = self.found_root(Ca::Mesh, id)?;
        if self.tainted.contains_key(id) {
            return Ok(Outcome::Done);
        }
        if root.phase != RootPhase::Retired {
            let reason =
                "only what is under a retired root can be renewed under another one: `carrack ca rotate` comes first"
                    .into();
            return Err(Rejection::WrongPhase { root: *id, phase: root.phase.as_str().into(), reason });
        }
        let (tainted_at, is_compromised) = (change.now, false);
        self.put_tainted(change, TaintedRoot { root: *id, reason: reason.into(), tainted_at, is_compromised });
        Ok(Outcome::Done)
    }

    /// Verifiers hear of it with the bundle.
    pub(super) fn put_tainted(&mut self, change: &mut Change, tainted: TaintedRoot) {
        self.tainted.insert(tainted.root, tainted);
        change.touch(WatchKey::Roots(Ca::Mesh));
    }

    pub(super) fn untaint(&mut self, change: &mut Change, id: &KeyId) {
        if self.tainted.remove(id).is_some() {
            change.touch(WatchKey::Roots(Ca::Mesh));
        }
    }

    /// Takes a root out of the bundle although leaves under it are in use: they are refused from then on.
    pub(super) fn revoke_root(
        &mut self,
        change: &mut Change,
        id: &KeyId,
        reason: &str,
        is_forced: bool,
    ) -> Result<Outcome, Rejection> {
        self.only_in_primary("the mesh CA's roots")?;
        check::text("the reason of a revocation", reason, REASON_BYTES_MAX)?;
        let root = self.found_root(Ca::Mesh, id)?;
        if root.phase != RootPhase::Retired {
            let reason = match root.phase {
                RootPhase::Active => "leaves are issued under it: `carrack ca rotate` comes first",
                _ => "a rotation leads to it: `carrack ca rollback` takes it out of the bundle",
            };
            return Err(Rejection::WrongPhase { root: *id, phase: root.phase.as_str().into(), reason: reason.into() });
        }
        if !is_forced {
            self.check_drained(&root)?;
        }
        self.drop_root(change, id);
        Ok(Outcome::Done)
    }

    /// Whether no leaf under a retired root is in use in any datacenter, by its own word.
    pub fn is_drained(&self, root: &Root) -> bool {
        self.check_drained(root).is_ok()
    }

    /// Refuses while leaves under the root are in use, here or, by its own word, in another datacenter.
    fn check_drained(&self, root: &Root) -> Result<(), Rejection> {
        let id = root.made.id;
        let refused = |reason: String| {
            let reason = format!(
                "{reason}; they are refused once it is revoked, until they are renewed; `--force` does it all the same"
            );
            Err(check::invalid(format!("the revocation of root {id}"), reason))
        };
        let own = self.root_standing(root, &[]);
        if own.current > 0 {
            return refused(format!("{} leaves under it are in use{}", own.current, self.named_under(&id)));
        }
        for name in self.datacenters.keys() {
            let heard = self.standings.get(name).filter(|heard| heard.standing.activation == self.mesh.activation);
            match heard.map(|heard| heard.standing.of_root(&id)) {
                Some(Some(left)) if left.current > 0 => {
                    return refused(format!("{} leaves under it are in use in datacenter `{name}`", left.current));
                }
                Some(_) => {}
                None => {
                    return refused(format!("datacenter `{name}` has not said that none under it are in use there"));
                }
            }
        }
        Ok(())
    }

    /// Some of the leaves under a root that are in use, for people.
    fn named_under(&self, root: &KeyId) -> String {
        let issuers = self.issuers.values().filter(|issuer| issuer.root == *root);
        let records = issuers.flat_map(|issuer| self.issuances.of_issuer(issuer.id));
        let current = records.filter(|record| record.superseded_by.is_none());
        let named: Vec<String> = current.take(NAMED_MAX).map(|it| it.issuance.identity.to_string()).collect();
        if named.is_empty() { String::new() } else { format!(", of {} for example", named.join(", ")) }
    }
}

/// The most leaves that a refusal names.
const NAMED_MAX: usize = 3;
