//! A rotation in the primary: it begins, its root is published and bridged, activates, and ends or is rolled back. What others must
//! have done before is decided by `plan::rotate`; what no command may do whatever its proposer saw is decided here.

use std::sync::Arc;

use super::{Change, State, check};
use crate::{
    id::{KeyId, Revision},
    key::CERTIFICATE_BYTES_MAX,
    outcome::{Outcome, Rejection, WatchKey},
    planted::{self, Bug},
    root::{Bridge, Ca, NewRoot, PROVIDER_BYTES_MAX, Root, RootPhase},
    rotation::{
        ACK_TIMEOUT_MAX, LastRotation, RETIRED_MAX, Rotation, RotationCause, RotationControl, RotationEnd,
        RotationRequest, TaintedRoot, WantedRoot,
    },
};

impl State {
    /// The rotation under way.
    pub const fn rotation(&self) -> Option<&Arc<Rotation>> {
        self.rotation.as_ref()
    }

    /// The rotation before.
    pub const fn last_rotation(&self) -> Option<&Arc<LastRotation>> {
        self.last_rotation.as_ref()
    }

    pub(super) fn start_rotation(
        &mut self,
        change: &mut Change,
        request: &RotationRequest,
    ) -> Result<Outcome, Rejection> {
        self.only_in_primary("the root")?;
        if let Some(rotation) = self.rotation.as_ref().filter(|_| !planted::is(Bug::SecondRotationAccepted)) {
            let (id, began_at) = (rotation.id, rotation.began_at);
            let what = format!(
                "the rotation {id}, which began at {began_at} (`carrack ca status` shows it, `carrack ca rollback` ends it),"
            );
            return Err(Rejection::AlreadyExists { what });
        }
        if self.is_halted() {
            return Err(Rejection::Halted);
        }
        let active = self.mesh.active().cloned().ok_or_else(|| check::not_found("an active root"))?;
        if active.made.id != request.expected_active {
            let (expected, found) = (Revision::default(), active.modified);
            return Err(Rejection::Conflict { what: "the active root".into(), expected, found });
        }
        self.check_room_to_retire()?;
        if request.ack_timeout > ACK_TIMEOUT_MAX {
            let reason = format!("at most {} s are allowed", ACK_TIMEOUT_MAX.as_secs());
            return Err(check::invalid(format!("an ack_timeout of {} s", request.ack_timeout.as_secs()), reason));
        }
        let mut rotation = Rotation {
            id: change.revision(),
            cause: request.cause,
            former: active.made.id,
            to_make: None,
            root: None,
            is_bridged: request.is_bridged,
            is_paused: request.pauses_before_activation,
            is_forced: false,
            ack_timeout: request.ack_timeout,
            began_at: change.now,
            activated_at: None,
            modified: change.revision(),
        };
        match &request.wanted {
            WantedRoot::Made { provider, key_kind } => {
                check::text("CA provider", provider, PROVIDER_BYTES_MAX)?;
                rotation.to_make = Some((provider.clone(), *key_kind));
            }
            WantedRoot::Supplied(made) => {
                self.put_prepared(change, Ca::Mesh, made)?;
                rotation.root = Some(made.id);
            }
        }
        self.put_key_kind(change, request.wanted.key_kind());
        self.put_rotation(change, rotation);
        Ok(Outcome::Done)
    }

    /// The active root will be one more that drains.
    pub(crate) fn check_room_to_retire(&self) -> Result<(), Rejection> {
        let retired = || self.mesh.roots.values().filter(|root| root.phase == RootPhase::Retired);
        let Some(oldest) = retired().min_by_key(|root| root.phase_since) else { return Ok(()) };
        if retired().count() < RETIRED_MAX {
            return Ok(());
        }
        let (id, since) = (oldest.made.id, oldest.phase_since);
        let what = format!(
            "retired roots, of which {id} is the oldest (since {since}, `carrack ca status` says what it waits for),"
        );
        Err(Rejection::LimitReached { what, limit: RETIRED_MAX as u64 })
    }

    pub(super) fn publish_rotation_root(
        &mut self,
        change: &mut Change,
        id: Revision,
        expected: Revision,
        made: &NewRoot,
    ) -> Result<Outcome, Rejection> {
        let rotation = self.found_rotation(id)?;
        if let Some(root) = &rotation.root {
            let is_duplicate = self.mesh.find(root).is_some_and(|root| root.made.certificate == made.certificate);
            let found = rotation.modified;
            let raced = || Rejection::Conflict { what: format!("the root of rotation {id}"), expected, found };
            return if is_duplicate { Ok(Outcome::Done) } else { Err(raced()) };
        }
        check::unchanged(format!("rotation {id}"), expected, rotation.modified)?;
        self.put_prepared(change, Ca::Mesh, made)?;
        let root = Some(made.id);
        self.put_rotation(change, Rotation { root, to_make: None, ..Rotation::clone(&rotation) });
        Ok(Outcome::Done)
    }

    pub(super) fn bridge_root(
        &mut self,
        change: &mut Change,
        id: &KeyId,
        expected: Revision,
        bridge: &Bridge,
    ) -> Result<Outcome, Rejection> {
        let root = self.found_root(Ca::Mesh, id)?;
        if root.bridge.as_ref() == Some(bridge) {
            return Ok(Outcome::Done);
        }
        self.only_in_primary("the mesh CA's roots")?;
        check::unchanged(format!("root {id}"), expected, root.modified)?;
        if root.phase != RootPhase::Prepared {
            let reason = "only a prepared root gets a bridge".into();
            return Err(Rejection::WrongPhase { root: *id, phase: root.phase.as_str().into(), reason });
        }
        let former = self.found_root(Ca::Mesh, &bridge.signed_by)?;
        if former.phase != RootPhase::Active {
            let reason = "the active root signs a bridge".into();
            return Err(Rejection::WrongPhase { root: bridge.signed_by, phase: former.phase.as_str().into(), reason });
        }
        check::der("the bridge", &bridge.certificate, CERTIFICATE_BYTES_MAX)?;
        let (not_before, not_after) = (bridge.not_before, bridge.not_after);
        let refused = |reason: &str| Err(Rejection::DatesRefused { not_before, not_after, reason: reason.into() });
        if not_before < former.made.not_before || not_after > former.made.not_after.min(root.made.not_after) {
            return refused("a bridge lives within both of its roots");
        }
        // One that ended earlier would cut off whoever still knows the former root alone.
        let covered = change.now.plus(self.config.config.leaf_ttl).min(former.made.not_after).min(root.made.not_after);
        if not_after < covered && !planted::is(Bug::BridgeTooShort) {
            return refused("the bridge ends before the leaves that it is for");
        }
        self.put_root(change, Ca::Mesh, Root { bridge: Some(bridge.clone()), ..Root::clone(&root) });
        Ok(Outcome::Done)
    }

    /// What stands in the way of the activation of a root of the mesh CA, beside what its proposer has seen.
    pub(super) fn check_rotation_activates(&self, root: &Root) -> Result<(), Rejection> {
        if self.mesh.active().is_none() {
            return Ok(());
        }
        let id = root.made.id;
        let refused = |reason: String| {
            let phase = root.phase.as_str().into();
            Err(Rejection::WrongPhase { root: id, phase, reason })
        };
        let Some(rotation) = self.rotation.as_ref().filter(|rotation| rotation.root == Some(id)) else {
            return refused("no rotation leads to it".into());
        };
        if rotation.is_paused {
            return refused(format!("rotation {} is paused", rotation.id));
        }
        if rotation.is_bridged && root.bridge.is_none() {
            return refused("it has no bridge yet".into());
        }
        Ok(())
    }

    pub(super) fn note_activation(&mut self, change: &mut Change, root: &KeyId) {
        let rotation = self.rotation.clone().filter(|rotation| rotation.root == Some(*root));
        if let Some(rotation) = rotation {
            self.put_rotation(change, Rotation { activated_at: Some(change.now), ..Rotation::clone(&rotation) });
            if rotation.cause == RotationCause::Compromise {
                let (root, reason) = (rotation.former, rotation.cause.as_str().to_owned());
                self.put_tainted(change, TaintedRoot { root, reason, tainted_at: change.now, is_compromised: true });
            }
        }
    }

    pub(super) fn control_rotation(
        &mut self,
        change: &mut Change,
        id: Revision,
        control: RotationControl,
    ) -> Result<Outcome, Rejection> {
        let rotation = self.found_rotation(id)?;
        if rotation.activated_at.is_some() && control == RotationControl::Pause {
            let reason = "it has activated its root; `carrack ca rollback` takes that back".to_owned();
            return Err(check::invalid(format!("a pause of rotation {id}"), reason));
        }
        let mut changed = Rotation::clone(&rotation);
        match control {
            RotationControl::Pause => changed.is_paused = true,
            RotationControl::Resume => changed.is_paused = false,
            RotationControl::Force => (changed.is_forced, changed.is_paused) = (true, false),
        }
        if changed != *rotation {
            self.put_rotation(change, changed);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn finish_rotation(
        &mut self,
        change: &mut Change,
        id: Revision,
        expected: Revision,
    ) -> Result<Outcome, Rejection> {
        let rotation = self.found_rotation(id)?;
        check::unchanged(format!("rotation {id}"), expected, rotation.modified)?;
        if rotation.activated_at.is_none() {
            return Err(check::invalid(format!("the end of rotation {id}"), "it has not activated its root"));
        }
        let end = match rotation.cause {
            RotationCause::RollBack => RotationEnd::RolledBack,
            _ => RotationEnd::Finished,
        };
        self.end_rotation(change, &rotation, end);
        Ok(Outcome::Done)
    }

    /// Takes a rotation back. `seen`: the rotation that the operator saw, under way or the last one.
    pub(super) fn roll_back(&mut self, change: &mut Change, seen: Revision) -> Result<Outcome, Rejection> {
        self.only_in_primary("the root")?;
        let Some(rotation) = self.rotation.clone() else {
            let last = self.last_rotation.clone().filter(|last| last.rotation.id == seen);
            let last = last.ok_or_else(|| check::not_found(format!("rotation {seen}")))?;
            return match last.end {
                RotationEnd::Abandoned => Ok(Outcome::Done),
                RotationEnd::Finished | RotationEnd::RolledBack => {
                    let begun = self.begin_roll_back(change, &last.rotation)?;
                    self.forget_schedule_of(change, &last.rotation);
                    Ok(begun)
                }
            };
        };
        if rotation.id != seen {
            let what = format!("the rotation under way, which is {}", rotation.id);
            return Err(Rejection::Conflict { what, expected: seen, found: rotation.id });
        }
        if rotation.activated_at.is_some() {
            let begun = self.begin_roll_back(change, &rotation)?;
            self.forget_schedule_of(change, &rotation);
            return Ok(begun);
        }
        self.forget_schedule_of(change, &rotation);
        // A second word to take the same rotation back is not one to go on with it.
        if rotation.cause != RotationCause::RollBack {
            self.abandon(change, &rotation);
        }
        Ok(Outcome::Done)
    }

    /// Nothing is issued under its root, and nothing ever was. The rotation before stays the one that can be taken back.
    fn abandon(&mut self, change: &mut Change, rotation: &Arc<Rotation>) {
        if let Some(root) = &rotation.root {
            self.drop_root(change, root);
        }
        if let Some(former) = self.mesh.find(&rotation.former) {
            self.put_key_kind(change, former.made.key_kind);
        }
        let active = self.mesh.active().map(|root| root.made.id);
        let last = self.last_rotation.clone().filter(|last| {
            let was_activated = last.end != RotationEnd::Abandoned && last.rotation.root == active;
            was_activated && self.mesh.find(&last.rotation.former).is_some()
        });
        self.end_rotation(change, rotation, RotationEnd::Abandoned);
        self.last_rotation = last.or(self.last_rotation.take());
    }

    /// One that began by itself would begin again at once: an operator who takes it back has another mind.
    fn forget_schedule_of(&mut self, change: &mut Change, rotation: &Rotation) {
        let is_scheduled = matches!(rotation.cause, RotationCause::Schedule | RotationCause::Expiry);
        if is_scheduled {
            self.put_rotation_period(change, None);
        }
    }

    /// The root that was active before the latest activation becomes active again, by the same steps.
    fn begin_roll_back(&mut self, change: &mut Change, rotation: &Rotation) -> Result<Outcome, Rejection> {
        let refused =
            |reason: String| Err(check::invalid(format!("the roll back of rotation {}", rotation.id), reason));
        let active = self.mesh.active().map(|root| root.made.id);
        if active != rotation.root {
            return refused("only the latest activation can be rolled back, and there was another one since".into());
        }
        let Some(former) = self.mesh.find(&rotation.former).cloned() else {
            return refused(format!("the former root {} is pruned", rotation.former));
        };
        if former.made.not_after <= change.now.plus(self.config.config.leaf_ttl) {
            let (id, end) = (rotation.former, former.made.not_after);
            return refused(format!(
                "the former root {id} ends at {end}, before the leaves that would be issued under it"
            ));
        }
        if self.is_halted() {
            return Err(Rejection::Halted);
        }
        if self.rotation.is_some() {
            self.end_rotation(change, &Arc::new(rotation.clone()), RotationEnd::RolledBack);
        }
        let (phase, phase_since) = (RootPhase::Prepared, change.now);
        self.put_root(change, Ca::Mesh, Root { phase, phase_since, ..Root::clone(&former) });
        self.put_key_kind(change, former.made.key_kind);
        self.untaint(change, &rotation.former);
        let back = Rotation {
            id: change.revision(),
            cause: RotationCause::RollBack,
            former: rotation.root.unwrap_or(rotation.former),
            to_make: None,
            root: Some(rotation.former),
            // Whoever has the root that is active has the former one too: it was never taken out of a bundle.
            is_bridged: false,
            is_paused: false,
            is_forced: false,
            ack_timeout: rotation.ack_timeout,
            began_at: change.now,
            activated_at: None,
            modified: change.revision(),
        };
        self.put_rotation(change, back);
        Ok(Outcome::Done)
    }

    fn end_rotation(&mut self, change: &mut Change, rotation: &Arc<Rotation>, end: RotationEnd) {
        let rotation = Rotation::clone(rotation);
        self.last_rotation = Some(Arc::new(LastRotation { rotation, end, ended_at: change.now }));
        self.rotation = None;
        change.touch(WatchKey::Rotation);
    }

    fn put_rotation(&mut self, change: &mut Change, mut rotation: Rotation) {
        rotation.modified = change.revision();
        self.rotation = Some(Arc::new(rotation));
        change.touch(WatchKey::Rotation);
    }

    fn found_rotation(&self, id: Revision) -> Result<Arc<Rotation>, Rejection> {
        self.only_in_primary("the root")?;
        let found = self.rotation.clone().filter(|rotation| rotation.id == id);
        found.ok_or_else(|| check::not_found(format!("rotation {id} under way")))
    }
}
