//! Servers ask for issuers with a CSR; the leader's answer is recorded if it fits the request and the root.

use std::sync::Arc;

use super::{Change, State, check};
use crate::{
    id::{KeyId, NodeId},
    issuer::{ISSUERS_MAX, ISSUERS_PER_SERVER_MAX, Issuer, IssuerPhase, IssuerRequest, SignedIssuer},
    key::{CERTIFICATE_BYTES_MAX, REQUEST_BYTES_MAX},
    outcome::{Outcome, Rejection, WatchKey},
    root::{Root, RootPhase},
    time::Timestamp,
};

impl State {
    pub(super) fn request_issuer(
        &mut self,
        change: &mut Change,
        proposer: NodeId,
        request: &IssuerRequest,
    ) -> Result<Outcome, Rejection> {
        check::from_itself(request.node, proposer)?;
        self.found_member(request.node)?;
        check::der("the request for an issuer", &request.csr, REQUEST_BYTES_MAX)?;
        self.signing_root(&request.root)?;
        if self.issuer_requests.get(&request.node).is_some_and(|found| found.csr == request.csr) {
            return Ok(Outcome::Done);
        }
        let mut others = self.issuer_requests.values().filter(|other| other.node != request.node);
        if self.issuers.contains_key(&request.key) || others.any(|other| other.key == request.key) {
            return Err(Rejection::AlreadyExists { what: format!("an issuer with the key {}", request.key) });
        }
        let own = self.issuers.values().filter(|issuer| issuer.node == request.node).count();
        check::room("unexpired issuers of a server", own, ISSUERS_PER_SERVER_MAX)?;
        let request = IssuerRequest { revision: change.revision(), ..request.clone() };
        self.issuer_requests.insert(request.node, Arc::new(request));
        change.touch(WatchKey::Issuers);
        Ok(Outcome::Done)
    }

    pub(super) fn record_issuer(&mut self, change: &mut Change, signed: &SignedIssuer) -> Result<Outcome, Rejection> {
        let is_duplicate =
            |issuer: &&Arc<Issuer>| issuer.node == signed.node && issuer.certificate == signed.certificate;
        if self.issuers.values().find(is_duplicate).is_some() {
            return Ok(Outcome::Done);
        }
        if self.is_halted() {
            return Err(Rejection::Halted);
        }
        let request = self.issuer_requests.get(&signed.node).cloned();
        let request =
            request.ok_or_else(|| check::not_found(format!("an issuer request of server {}", signed.node)))?;
        check::unchanged(format!("the issuer request of server {}", signed.node), signed.expected, request.revision)?;
        check::room("issuers", self.issuers.len(), ISSUERS_MAX)?;
        check::der("the issuer's certificate", &signed.certificate, CERTIFICATE_BYTES_MAX)?;
        let root = self.signing_root(&request.root)?;
        let (not_before, not_after) = (signed.not_before, signed.not_after);
        self.check_issuer_dates(change, &root, not_before, not_after)?;
        self.retire_issuers_under(change, signed.node, &request.root);
        let issuer = Issuer {
            id: request.key,
            node: signed.node,
            root: request.root,
            certificate: signed.certificate.clone(),
            key_kind: request.key_kind,
            not_before,
            not_after,
            phase: IssuerPhase::Live,
            created: change.revision(),
            modified: change.revision(),
        };
        self.issuers.insert(issuer.id, Arc::new(issuer));
        self.issuer_requests.remove(&signed.node);
        change.touch(WatchKey::Issuers);
        Ok(Outcome::Done)
    }

    pub(super) fn check_issuer_dates(
        &self,
        change: &Change,
        root: &Root,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<(), Rejection> {
        let is_within = not_before >= root.made.not_before && not_after <= root.made.not_after;
        if is_within && not_before <= not_after && not_after > change.now {
            return Ok(());
        }
        let reason = "they are outside of the root's, or have ended".into();
        Err(Rejection::DatesRefused { not_before, not_after, reason })
    }

    /// The root, if issuers may be signed under it.
    pub(super) fn signing_root(&self, id: &KeyId) -> Result<Arc<Root>, Rejection> {
        let root = self.mesh.find(id).cloned().ok_or_else(|| check::not_found(format!("root {id}")))?;
        match root.phase {
            RootPhase::Prepared | RootPhase::Active => Ok(root),
            RootPhase::Retired => {
                let reason = "no issuer is signed under it any more".into();
                Err(Rejection::WrongPhase { root: *id, phase: root.phase.as_str().into(), reason })
            }
        }
    }

    /// A server's newer issuer under the same root replaces the former one.
    fn retire_issuers_under(&mut self, change: &mut Change, node: NodeId, root: &KeyId) {
        self.retire_issuers(change, |issuer| issuer.node == node && issuer.root == *root);
    }

    pub(super) fn retire_issuers_of(&mut self, change: &mut Change, node: NodeId) {
        if self.issuer_requests.remove(&node).is_some() {
            change.touch(WatchKey::Issuers);
        }
        self.retire_issuers(change, |issuer| issuer.node == node);
    }

    /// One that is revoked signs nothing more, and its server asks for another one.
    pub(super) fn retire_issuer(&mut self, change: &mut Change, id: &KeyId) {
        self.retire_issuers(change, |issuer| issuer.id == *id);
    }

    fn retire_issuers(&mut self, change: &mut Change, is_meant: impl Fn(&Issuer) -> bool) {
        let live = self.issuers.values().filter(|issuer| issuer.phase == IssuerPhase::Live && is_meant(issuer));
        let live: Vec<_> = live.cloned().collect();
        for issuer in live {
            let mut issuer = Issuer::clone(&issuer);
            (issuer.phase, issuer.modified) = (IssuerPhase::Retired, change.revision());
            self.issuers.insert(issuer.id, Arc::new(issuer));
            change.touch(WatchKey::Issuers);
        }
    }

    /// With a root that leaves the bundle go the issuers and requests that are of it alone.
    pub(super) fn forget_issuers_under(&mut self, change: &mut Change, root: &KeyId) {
        let issuers: Vec<KeyId> = self.issuers.values().filter(|it| it.root == *root).map(|it| it.id).collect();
        let requests: Vec<NodeId> =
            self.issuer_requests.values().filter(|it| it.root == *root).map(|it| it.node).collect();
        if !issuers.is_empty() || !requests.is_empty() {
            change.touch(WatchKey::Issuers);
        }
        issuers.iter().for_each(|id| drop(self.issuers.remove(id)));
        requests.iter().for_each(|node| drop(self.issuer_requests.remove(node)));
    }

    pub(super) fn expire_issuers(&mut self, change: &mut Change) {
        let now = change.now;
        let ended: Vec<KeyId> =
            self.issuers.values().filter(|issuer| issuer.not_after < now).map(|issuer| issuer.id).collect();
        for id in ended {
            self.issuers.remove(&id);
            change.touch(WatchKey::Issuers);
        }
    }
}
