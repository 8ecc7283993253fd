//! Roots are published, activated, and their keys sealed anew when the servers change.

use std::sync::Arc;

use super::{Change, State, check, federation::check_server_roots_bytes};
use crate::{
    id::{KeyId, Revision},
    key::CERTIFICATE_BYTES_MAX,
    outcome::{Outcome, Rejection, WatchKey},
    root::{
        Ca, NewRoot, PROVIDER_BYTES_MAX, ROOT_CHAIN_MAX, ROOTS_MAX, Root, RootPhase, SEALED_KEY_BYTES_MAX, SealedKey,
    },
};

impl State {
    pub(super) fn publish_root(&mut self, change: &mut Change, ca: Ca, made: &NewRoot) -> Result<Outcome, Rejection> {
        if let Some(found) = self.roots(ca).find(&made.id) {
            let is_duplicate = found.made.certificate == made.certificate;
            return if is_duplicate {
                Ok(Outcome::Done)
            } else {
                Err(Rejection::AlreadyExists { what: format!("the root {}", made.id) })
            };
        }
        self.only_own_roots(ca)?;
        if ca == Ca::Mesh && self.mesh.active().is_some() {
            let reason =
                "there is an active one, and a rotation leads to another: `carrack ca rotate` begins it".into();
            return Err(Rejection::Invalid { what: format!("the root {}", made.id), reason });
        }
        self.put_prepared(change, ca, made)?;
        Ok(Outcome::Done)
    }

    /// Puts a new root into a bundle, if it can be one.
    pub(super) fn put_prepared(&mut self, change: &mut Change, ca: Ca, made: &NewRoot) -> Result<(), Rejection> {
        if self.roots(ca).find(&made.id).is_some() {
            return Err(Rejection::AlreadyExists { what: format!("the root {}", made.id) });
        }
        check::room("roots", self.roots(ca).roots.len(), ROOTS_MAX)?;
        if self.roots(ca).roots.values().any(|root| root.phase == RootPhase::Prepared) {
            return Err(Rejection::AlreadyExists { what: "a prepared root".into() });
        }
        check_root(change, made)?;
        if ca == Ca::Server {
            let recorded = self.server.roots.values().map(|root| &root.made.certificate);
            check_server_roots_bytes(recorded.chain([&made.certificate]))?;
        }
        if let Some(sealed) = &made.sealed_key {
            self.check_recipients(sealed)?;
        }
        let root = Root {
            made: made.clone(),
            phase: RootPhase::Prepared,
            activation: 0,
            bridge: None,
            phase_since: change.now,
            created: change.revision(),
            modified: change.revision(),
        };
        self.put_root(change, ca, root);
        Ok(())
    }

    pub(super) fn activate_root(
        &mut self,
        change: &mut Change,
        ca: Ca,
        id: &KeyId,
        expected: Revision,
        expected_active: Option<&KeyId>,
    ) -> Result<Outcome, Rejection> {
        let root = self.found_root(ca, id)?;
        if root.phase == RootPhase::Active {
            return Ok(Outcome::Done);
        }
        self.only_own_roots(ca)?;
        check::unchanged(format!("root {id}"), expected, root.modified)?;
        let active = self.roots(ca).active().cloned();
        if active.as_ref().map(|active| &active.made.id) != expected_active {
            let found = active.map_or_else(Revision::default, |active| active.modified);
            return Err(Rejection::Conflict { what: "the active root".into(), expected, found });
        }
        if root.phase != RootPhase::Prepared {
            let reason = "only a prepared root can be activated".into();
            return Err(Rejection::WrongPhase { root: *id, phase: root.phase.as_str().into(), reason });
        }
        if ca == Ca::Mesh {
            self.check_rotation_activates(&root)?;
        }
        let activation = self.roots(ca).activation + 1;
        self.flip(change, ca, &root, activation);
        if ca == Ca::Mesh {
            self.note_activation(change, id);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn reseal_root(
        &mut self,
        change: &mut Change,
        ca: Ca,
        id: &KeyId,
        expected: Revision,
        sealed: &SealedKey,
    ) -> Result<Outcome, Rejection> {
        let root = self.found_root(ca, id)?;
        if root.made.sealed_key.is_none() {
            return Err(check::not_found(format!("a sealed key of root {id}")));
        }
        if root.made.sealed_key.as_ref() == Some(sealed) {
            return Ok(Outcome::Done);
        }
        check::unchanged(format!("root {id}"), expected, root.modified)?;
        check_sealed_key(sealed)?;
        self.check_recipients(sealed)?;
        let mut root = Root::clone(&root);
        root.made.sealed_key = Some(sealed.clone());
        self.put_root(change, ca, root);
        Ok(Outcome::Done)
    }

    /// The mesh CA's roots are the primary's; each datacenter has a server CA of its own.
    fn only_own_roots(&self, ca: Ca) -> Result<(), Rejection> {
        if ca == Ca::Mesh { self.only_in_primary("the mesh CA's roots") } else { Ok(()) }
    }

    pub(super) fn check_recipients(&self, sealed: &SealedKey) -> Result<(), Rejection> {
        let recovery = self.cluster.as_ref().and_then(|cluster| cluster.recovery.as_ref());
        let is_exact = sealed.slots == self.sealing_slots() && sealed.recovery.as_ref() == recovery;
        if is_exact { Ok(()) } else { Err(Rejection::WrongRecipients) }
    }

    pub(super) fn found_root(&self, ca: Ca, id: &KeyId) -> Result<Arc<Root>, Rejection> {
        self.roots(ca).find(id).cloned().ok_or_else(|| check::not_found(format!("root {id}")))
    }

    pub(super) fn put_root(&mut self, change: &mut Change, ca: Ca, mut root: Root) {
        root.modified = change.revision();
        self.roots_mut(ca).roots.insert(root.made.id, Arc::new(root));
        change.touch(WatchKey::Roots(ca));
    }
}

/// What every new root must be, whoever made it.
pub(super) fn check_root(change: &Change, made: &NewRoot) -> Result<(), Rejection> {
    let (not_before, not_after) = (made.not_before, made.not_after);
    let refused = |reason: &str| Err(Rejection::DatesRefused { not_before, not_after, reason: reason.into() });
    if not_after <= change.now {
        return refused("the root has ended");
    }
    if not_after <= not_before {
        return refused("the root ends before it begins");
    }
    check_root_form(made)
}

/// What every root must be, whenever it is looked at.
pub(super) fn check_root_form(made: &NewRoot) -> Result<(), Rejection> {
    check::text("CA provider", &made.provider, PROVIDER_BYTES_MAX)?;
    check::der("the root's certificate", &made.certificate, CERTIFICATE_BYTES_MAX)?;
    check::at_most("certificates above a root", made.chain.len(), ROOT_CHAIN_MAX)?;
    for above in &made.chain {
        check::der("a certificate above the root", above, CERTIFICATE_BYTES_MAX)?;
    }
    made.sealed_key.as_ref().map_or(Ok(()), check_sealed_key)
}

fn check_sealed_key(sealed: &SealedKey) -> Result<(), Rejection> {
    check::der("the sealed key", &sealed.ciphertext, SEALED_KEY_BYTES_MAX)
}
