//! A root leaves a bundle only when no leaf under it lives, in any datacenter (the architecture's rotation, step 5), unless an operator
//! has revoked it: whatever command takes it out, and whoever holds the leaf. And the primary prunes none under which another datacenter
//! may still issue, whether it has done so or not: by its own log it goes on under it, with an issuer that has not ended.

use std::collections::BTreeMap;

use carrack_authority::{
    Command, Outcome, State, id::KeyId, issuer::IssuerPhase, root::Ca, time::Timestamp, x509::CertificateFacts,
};

use super::{Invariant, Scene, seen::Applied};

/// The invariant's name.
const NAME: &str = "prune_after_dependants";

/// See the module.
#[derive(Default)]
pub(super) struct PruneAfterDependants {
    /// The newest state of each datacenter that was decided.
    newest: BTreeMap<usize, State>,
}

impl Invariant for PruneAfterDependants {
    fn decided(&mut self, scene: &Scene<'_>, applied: &Applied) {
        self.newest.insert(scene.datacenter, applied.after.clone());
        let now = scene.shared.clock.now();
        for root in pruned(applied) {
            let mut others = self.newest.iter().filter(|(at, _)| **at != scene.datacenter);
            if let Some((at, _)) = others.find(|(_, state)| may_issue_under(state, &root, now)) {
                let text = format!("entry {} prunes root {root}, under which datacenter {at} may issue", applied.index);
                scene.shared.violate(NAME, text);
            }
        }
        let mut gone = applied.before.roots(Ca::Mesh).bundle();
        gone.retain(|root| applied.after.roots(Ca::Mesh).find(&root.made.id).is_none());
        for root in gone.iter().filter(|root| !is_revoked(applied, &root.made.id)) {
            if let Some(text) = living_leaf(scene, &root.made.id) {
                scene.shared.violate(NAME, format!("entry {} drops root {}: {text}", applied.index, root.made.id));
            }
        }
    }
}

/// The roots that the entry prunes.
fn pruned(applied: &Applied) -> Vec<KeyId> {
    let accepted = applied.commands.proposals.iter().zip(&*applied.outcomes);
    let accepted = accepted.filter(|(_, outcome)| **outcome == Outcome::Done);
    let pruned = accepted.filter_map(|(proposal, _)| match &proposal.command {
        Command::PruneRoot { root, .. } => Some(*root),
        _ => None,
    });
    pruned.collect()
}

/// Whether a datacenter goes on under a root: it has flipped to no other one, and has an issuer that signs.
fn may_issue_under(state: &State, root: &KeyId, now: Timestamp) -> bool {
    let is_active = state.roots(Ca::Mesh).active().is_some_and(|active| active.made.id == *root);
    let signs = |phase: IssuerPhase, not_after: Timestamp| phase == IssuerPhase::Live && not_after > now;
    is_active && state.issuers().any(|it| it.root == *root && signs(it.phase, it.not_after))
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
    use carrack_authority::{
        id::Revision,
        root::RootPhase::{Active, Retired},
    };

    use super::*;
    use crate::invariants::testing::{
        Trial, applied,
        roots::{issuer, root, state},
    };

    const ROOT: KeyId = KeyId([1; 20]);
    const OTHER: KeyId = KeyId([2; 20]);

    #[test]
    fn only_an_accepted_revocation_excuses() {
        let revoke = Command::RevokeRoot { root: ROOT, reason: String::new(), is_forced: true };
        assert!(is_revoked(&applied("a", 1, std::slice::from_ref(&revoke), &[Outcome::Done]), &ROOT));
        let refused = carrack_authority::Rejection::Halted;
        assert!(!is_revoked(&applied("a", 1, &[revoke], &[Outcome::Rejected(refused)]), &ROOT));
        assert!(!is_revoked(&applied("a", 1, &[prune()], &[Outcome::Done]), &ROOT));
    }

    fn prune() -> Command {
        Command::PruneRoot { root: ROOT, expected: Revision(1) }
    }

    /// The primary prunes a root, while another datacenter has this one active, and an issuer under the pruned one until then.
    fn pruned_while(active: KeyId, issuer_ends: Timestamp) -> Trial {
        let phase = |id| if id == active { Active } else { Retired };
        let roots = [root(ROOT, phase(ROOT), 1, 1), root(OTHER, phase(OTHER), 2, 3)];
        let there = state(roots, vec![issuer(ROOT, issuer_ends)]);
        let (trial, mut invariant) = (Trial::new(), PruneAfterDependants::default());
        let entry = Applied { after: there, ..applied("b", 1, &[], &[]) };
        invariant.decided(&trial.scene_of(1), &entry);
        invariant.decided(&trial.scene(), &applied("a", 1, &[prune()], &[Outcome::Done]));
        trial
    }

    #[test]
    fn a_root_under_which_another_datacenter_may_issue_is_not_pruned() {
        let ends = Timestamp(u64::MAX);
        pruned_while(ROOT, ends).expect_broken(NAME);
        pruned_while(OTHER, ends).expect_good();
        pruned_while(ROOT, Timestamp(1)).expect_good();
    }
}
