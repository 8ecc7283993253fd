//! When issuing goes on under another root, every agent of the datacenter that answers has it in its bundle, by the committed word of its
//! server, and every server that answers has an issuer under it (the architecture's rotation, steps 2 and 3). The first root of all is
//! known to nobody before: there is no agent yet.

use carrack_authority::root::Ca;

use super::{Invariant, Scene, seen::Applied};

/// The invariant's name.
const NAME: &str = "published_before_used";

/// See the module.
pub(super) struct PublishedBeforeUsed;

impl Invariant for PublishedBeforeUsed {
    fn decided(&mut self, scene: &Scene<'_>, applied: &Applied) {
        let active = |state: &carrack_authority::State| state.roots(Ca::Mesh).active().map(|root| root.made.id);
        let (Some(former), Some(new)) = (active(&applied.before), active(&applied.after)) else { return };
        let Some(root) = applied.before.roots(Ca::Mesh).find(&new).filter(|_| former != new) else { return };
        // In a secondary that was away for so long that nothing under the root of before has not ended: it goes on at once.
        if applied.after.roots(Ca::Mesh).find(&former).is_none() {
            return;
        }
        for member in applied.before.members() {
            // One that does not know of the root yet does not answer: it takes the bundle before it serves.
            let mut views = scene.views.values();
            let knows = views.any(|view| view.node == member.node.0 && view.applied >= root.created.0);
            let has_said = applied.before.has_acknowledged(member.node, root);
            if knows && !(has_said && applied.before.has_issuer(member.node, &new)) {
                let what = if has_said { "no issuer under it" } else { "not said that its agents have it" };
                let text = format!("entry {} activates root {new}, server {} has {what}", applied.index, member.name);
                scene.shared.violate(NAME, text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use carrack_authority::{
        Command, Outcome,
        agent::{Acknowledgement, LaggingAgents},
        id::{KeyId, Revision},
        root::RootPhase,
        state::StateRecord,
        time::Timestamp,
    };

    use super::*;
    use crate::invariants::testing::{
        Trial, applied, follower,
        roots::{NODE, issuer, root, state},
    };

    const FORMER: KeyId = KeyId([1; 20]);
    const NEW: KeyId = KeyId([2; 20]);
    const ALWAYS: Timestamp = Timestamp(u64::MAX);

    /// The entry activates the new root after this was recorded.
    fn activated_after(others: Vec<StateRecord>, applied_by_server: u64) -> Trial {
        let before = [root(FORMER, RootPhase::Active, 1, 1), root(NEW, RootPhase::Prepared, 0, 3)];
        let after = [root(FORMER, RootPhase::Retired, 1, 1), root(NEW, RootPhase::Active, 2, 3)];
        let (before, after) = (state(before, others), state(after, Vec::new()));
        let command = Command::FollowActivation { activation: 2 };
        let mut trial = Trial::new();
        trial.look(&mut PublishedBeforeUsed, "a", follower(NODE.0, 1, applied_by_server));
        let entry = Applied { before, after, ..applied("a", 6, &[command], &[Outcome::Done]) };
        PublishedBeforeUsed.decided(&trial.scene(), &entry);
        trial
    }

    fn acknowledgement() -> StateRecord {
        let (bundle, lagging) = (Revision(3), LaggingAgents::default());
        let (told_at, modified) = (Timestamp(0), Revision(4));
        StateRecord::Acknowledgement(Acknowledgement { node: NODE, bundle, lagging, told_at, modified })
    }

    #[test]
    fn a_root_that_every_server_that_knows_it_has_said_yes_to_is_good() {
        activated_after(vec![acknowledgement(), issuer(NEW, ALWAYS)], 5).expect_good();
        activated_after(Vec::new(), 2).expect_good();
    }

    #[test]
    fn without_the_word_of_a_server_or_an_issuer_of_its_own_it_is_found() {
        activated_after(vec![issuer(NEW, ALWAYS)], 5).expect_broken(NAME);
        activated_after(vec![acknowledgement()], 5).expect_broken(NAME);
    }
}
