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
    use carrack_authority::{Command, Outcome, id::Revision};

    use super::*;
    use crate::invariants::testing::{Trial, applied};

    #[test]
    fn an_entry_that_activates_nothing_is_good() {
        let trial = Trial::new();
        let command = Command::RollBack { rotation: Revision(1) };
        let applied = applied("a", 1, &[command], &[Outcome::Done]);
        PublishedBeforeUsed.decided(&trial.scene_of(0), &applied);
        assert!(trial.shared.violations().is_empty());
    }
}
