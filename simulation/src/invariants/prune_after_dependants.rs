//! A root leaves a bundle only when no leaf under it lives, in any datacenter (the architecture's rotation, step 5), unless an operator
//! has revoked it: whatever command takes it out, and whoever holds the leaf.

use carrack_authority::{Command, Outcome, id::KeyId, root::Ca, x509::CertificateFacts};

use super::{Invariant, Scene, seen::Applied};

/// The invariant's name.
const NAME: &str = "prune_after_dependants";

/// See the module.
pub(super) struct PruneAfterDependants;

impl Invariant for PruneAfterDependants {
    fn decided(&mut self, scene: &Scene<'_>, applied: &Applied) {
        let mut gone = applied.before.roots(Ca::Mesh).bundle();
        gone.retain(|root| applied.after.roots(Ca::Mesh).find(&root.made.id).is_none());
        for root in gone.iter().filter(|root| !is_revoked(applied, &root.made.id)) {
            if let Some(text) = living_leaf(scene, &root.made.id) {
                scene.shared.violate(NAME, format!("entry {} drops root {}: {text}", applied.index, root.made.id));
            }
        }
    }
}

fn is_revoked(applied: &Applied, id: &KeyId) -> bool {
    let accepted = applied.commands.proposals.iter().zip(&*applied.outcomes);
    let mut accepted = accepted.filter(|(_, outcome)| **outcome == Outcome::Done);
    accepted.any(|(proposal, _)| matches!(&proposal.command, Command::RevokeRoot { root, .. } if root == id))
}

/// A leaf under the root that a client holds and that lives, or that a log has and that lives by that log's time.
fn living_leaf(scene: &Scene<'_>, root: &KeyId) -> Option<String> {
    let now = scene.shared.clock.now();
    let book = scene.shared.book();
    let is_under =
        |issuer: &[u8]| CertificateFacts::read(issuer).is_ok_and(|facts| facts.authority_key_id.as_ref() == Some(root));
    let held = book.leaves.values().filter(|leaf| leaf.not_after >= now);
    let held = held.into_iter().find(|leaf| leaf.chain.first().is_some_and(|issuer| is_under(issuer.as_bytes())));
    if let Some(leaf) = held {
        return Some(format!("a leaf of {} under it ends at {}", leaf.identity, leaf.not_after));
    }
    scene.views.iter().find_map(|(host, view)| {
        let state = &view.state;
        let issuers = state.issuers().filter(|issuer| issuer.root == *root);
        let mut records = issuers.flat_map(|issuer| state.issuances().of_issuer(issuer.id));
        let record = records.find(|record| record.issuance.not_after >= state.now().max(now))?;
        Some(format!("the log of {host} has a leaf of {} under it", record.issuance.identity))
    })
}

#[cfg(test)]
mod tests {
    use carrack_authority::id::Revision;

    use super::*;
    use crate::invariants::testing::applied;

    #[test]
    fn only_an_accepted_revocation_excuses() {
        let root = KeyId([1; 20]);
        let revoke = Command::RevokeRoot { root, reason: String::new(), is_forced: true };
        let prune = Command::PruneRoot { root, expected: Revision(1) };
        assert!(is_revoked(&applied("a", 1, std::slice::from_ref(&revoke), &[Outcome::Done]), &root));
        let refused = carrack_authority::Rejection::Halted;
        assert!(!is_revoked(&applied("a", 1, &[revoke], &[Outcome::Rejected(refused)]), &root));
        assert!(!is_revoked(&applied("a", 1, &[prune], &[Outcome::Done]), &root));
    }
}
