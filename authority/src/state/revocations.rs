//! A leaf is revoked in the primary, and so everywhere; what has ended is forgotten by itself, in each datacenter by its own time.

use std::sync::Arc;

use super::{Change, State, check};
use crate::{
    ca_config::LEAF_TTL_MAX,
    federation::Table,
    id::{Revision, Serial},
    issuance::BACKDATING,
    outcome::{Outcome, Rejection, WatchKey},
    revocation::{REASON_BYTES_MAX, REVOCATIONS_MAX, Revocation, Revocations},
    time::Timestamp,
};

impl State {
    /// The revoked leaves.
    pub const fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    pub(super) fn revoke_leaf(
        &mut self,
        change: &mut Change,
        serial: &Serial,
        until: Timestamp,
        reason: &str,
    ) -> Result<Outcome, Rejection> {
        self.only_in_primary("a revocation")?;
        check::text("the reason of a revocation", reason, REASON_BYTES_MAX)?;
        let found = self.revocations.of_serial(serial).cloned();
        if found.as_ref().is_some_and(|found| found.until >= until && found.reason == reason) {
            return Ok(Outcome::Done);
        }
        let latest = change.now.plus(LEAF_TTL_MAX + BACKDATING);
        if until <= change.now || until > latest {
            let reason = format!("it must be after {}, and no leaf lives beyond {latest}", change.now);
            return Err(check::invalid(format!("the end {until} of the leaf {serial}"), reason));
        }
        if found.is_none() {
            check::room("revoked leaves", self.revocations.count(), REVOCATIONS_MAX)?;
        }
        let (revision, now) = (change.revision(), change.now);
        let revocation = Revocation {
            serial: *serial,
            // It is never taken back before the end that was said first.
            until: found.as_ref().map_or(until, |found| found.until.max(until)),
            reason: reason.to_owned(),
            revoked_at: found.as_ref().map_or(now, |found| found.revoked_at),
            created: found.as_ref().map_or(revision, |found| found.created),
            modified: revision,
        };
        self.note_for_secondaries(change, Table::Revocations, revocation.key().0);
        self.revocations.put(Arc::new(revocation));
        change.touch(WatchKey::Revocations);
        Ok(Outcome::Done)
    }

    /// No change that others must hear of: each forgets by its own time.
    pub(super) fn expire_revocations(&mut self, change: &mut Change) {
        if self.revocations.expire(change.now) {
            change.touch(WatchKey::Revocations);
        }
    }

    pub(super) fn check_followed_revocations(&self, put: &[Revocation]) -> Result<(), Rejection> {
        // Those that have ended in the primary may still be here while its table is read anew.
        let new = put.iter().filter(|revocation| self.revocations.of_key(revocation.key()).is_none()).count();
        check::at_most("revoked leaves", self.revocations.count() + new, 2 * REVOCATIONS_MAX)?;
        put.iter().try_for_each(|it| check::text("the reason of a revocation", &it.reason, REASON_BYTES_MAX))
    }

    /// A revocation is never taken back: what a part of the whole does not have has ended in the primary, and ends here by itself.
    pub(super) fn follow_revocations(&mut self, change: &mut Change, put: &[Revocation]) {
        let now = change.now;
        for heard in put.iter().filter(|heard| heard.until >= now) {
            let found = self.revocations.of_key(heard.key()).cloned();
            let (created, modified) = found
                .as_ref()
                .map_or((change.revision(), Revision::default()), |found| (found.created, found.modified));
            let mut revocation = Revocation { created, modified, ..heard.clone() };
            if found.as_deref() == Some(&revocation) {
                continue;
            }
            revocation.modified = change.revision();
            self.revocations.put(Arc::new(revocation));
            change.touch(WatchKey::Revocations);
        }
    }
}
