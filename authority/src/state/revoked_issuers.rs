//! An issuer is revoked in the primary, and so everywhere: it signs nothing more, and where its leaves are shown whole they are refused.
//! What has ended is forgotten by itself, in each datacenter by its own time.

use std::sync::Arc;

use super::{Change, State, check};
use crate::{
    id::KeyId,
    outcome::{Outcome, Rejection, WatchKey},
    revocation::{REASON_BYTES_MAX, REVOKED_ISSUERS_MAX, RevokedIssuer, RevokedIssuers},
    spiffe::Name,
    time::Timestamp,
};

/// The most leaves that a refusal names.
const NAMED_MAX: usize = 3;

/// An issuer that this datacenter knows, of its own or of another one.
struct Found {
    root: KeyId,
    not_after: Timestamp,
    /// The other datacenter.
    of: Option<Name>,
}

impl State {
    /// The revoked issuers.
    pub const fn revoked_issuers(&self) -> &RevokedIssuers {
        &self.revoked_issuers
    }

    pub(super) fn revoke_issuer(
        &mut self,
        change: &mut Change,
        issuer: &KeyId,
        reason: &str,
        is_forced: bool,
    ) -> Result<Outcome, Rejection> {
        self.only_in_primary("the revocation of an issuer")?;
        check::text("the reason of a revocation", reason, REASON_BYTES_MAX)?;
        if self.revoked_issuers.find(issuer).is_some() {
            return Ok(Outcome::Done);
        }
        let found = self.known_issuer(issuer).ok_or_else(|| check::not_found(format!("issuer {issuer}")))?;
        if !is_forced {
            self.check_unused(issuer, found.of.as_ref())?;
        }
        check::room("revoked issuers", self.revoked_issuers.count(), REVOKED_ISSUERS_MAX)?;
        let (issuer, root, until, reason) = (*issuer, found.root, found.not_after, reason.to_owned());
        self.put_revoked(change, RevokedIssuer { issuer, root, until, reason, revoked_at: change.now });
        Ok(Outcome::Done)
    }

    fn known_issuer(&self, id: &KeyId) -> Option<Found> {
        let own = self.issuers.get(id).map(|it| Found { root: it.root, not_after: it.not_after, of: None });
        own.or_else(|| {
            let remote = self.remote_issuers.get(id)?;
            Some(Found { root: remote.root, not_after: remote.not_after, of: Some(remote.datacenter.clone()) })
        })
    }

    /// Refuses while leaves under the issuer are in use, as far as this log knows.
    fn check_unused(&self, issuer: &KeyId, of: Option<&Name>) -> Result<(), Rejection> {
        let refused = |reason: String| Err(check::invalid(format!("the revocation of issuer {issuer}"), reason));
        if let Some(datacenter) = of {
            return refused(format!(
                "its leaves are in the log of {datacenter} and cannot be counted here; they are refused from then on until they are renewed; `--force` does it all the same"
            ));
        }
        let count = self.issuances.counts(issuer).current;
        if count == 0 {
            return Ok(());
        }
        let current = self.issuances.of_issuer(*issuer).filter(|record| record.superseded_by.is_none());
        let named: Vec<String> = current.take(NAMED_MAX).map(|it| it.issuance.identity.to_string()).collect();
        refused(format!(
            "{count} leaves under it are in use, of {} for example; they are refused from then on until they are renewed; `--force` does it all the same",
            named.join(", ")
        ))
    }

    fn put_revoked(&mut self, change: &mut Change, revoked: RevokedIssuer) {
        self.retire_issuer(change, &revoked.issuer);
        self.revoked_issuers.put(Arc::new(revoked));
        change.touch(WatchKey::RevokedIssuers);
    }

    /// No change that others must hear of: each forgets by its own time.
    pub(super) fn expire_revoked_issuers(&mut self, change: &mut Change) {
        let now = change.now;
        if self.revoked_issuers.forget(|revoked| revoked.until < now) {
            change.touch(WatchKey::RevokedIssuers);
        }
    }

    /// What is under a root that nobody trusts any more need not be told apart.
    pub(super) fn forget_revoked_issuers_under(&mut self, change: &mut Change, root: &KeyId) {
        if self.revoked_issuers.forget(|revoked| revoked.root == *root) {
            change.touch(WatchKey::RevokedIssuers);
        }
    }

    pub(super) fn check_followed_issuers(&self, all: &[RevokedIssuer]) -> Result<(), Rejection> {
        // Those that have ended in the primary may still be here.
        let new = all.iter().filter(|revoked| self.revoked_issuers.find(&revoked.issuer).is_none()).count();
        check::at_most("revoked issuers", self.revoked_issuers.count() + new, 2 * REVOKED_ISSUERS_MAX)?;
        all.iter().try_for_each(|revoked| check::text("the reason of a revocation", &revoked.reason, REASON_BYTES_MAX))
    }

    /// A revocation is never taken back: what the primary does not have any more has ended there, and ends here by itself.
    pub(super) fn follow_revoked_issuers(&mut self, change: &mut Change, all: &[RevokedIssuer]) {
        let now = change.now;
        for heard in all.iter().filter(|heard| heard.until >= now) {
            if self.revoked_issuers.find(&heard.issuer).map(|known| &**known) != Some(heard) {
                self.put_revoked(change, heard.clone());
            }
        }
    }
}
