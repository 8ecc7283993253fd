//! A command that is rejected changes nothing: an entry of which every proposal was rejected leads to the state to which the same
//! entry without proposals leads (time moves on, what has ended goes).

use carrack_authority::{Entry, Outcome, State};
use carrack_proto::stored::state_digest;

use super::{Invariant, Scene, seen::Applied};

/// The invariant's name.
const NAME: &str = "rejected_changes_nothing";
/// Of the entries that are rejected as a whole, one in so many is checked: a herd of them must not slow the run.
const EVERY: u64 = 3;

/// See the module.
#[derive(Default)]
pub(super) struct RejectedChangesNothing {
    rejected: u64,
}

impl Invariant for RejectedChangesNothing {
    fn decided(&mut self, scene: &Scene<'_>, applied: &Applied) {
        let is_rejected = applied.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Rejected(_)));
        if applied.outcomes.is_empty() || !is_rejected {
            return;
        }
        self.rejected += 1;
        if self.rejected % EVERY == 1 && !is_unchanged(applied) {
            let text =
                format!("entry {} was rejected as {:?}, and the state is another", applied.index, applied.outcomes);
            scene.shared.violate(NAME, text);
        }
    }
}

fn is_unchanged(applied: &Applied) -> bool {
    let mut expected: State = applied.before.clone();
    expected.apply(applied.index, &Entry { stamp: applied.commands.stamp, proposals: Vec::new() });
    state_digest(&expected).ok() == state_digest(&applied.after).ok()
}

#[cfg(test)]
mod tests {
    use carrack_authority::{Command, Rejection};

    use super::*;
    use crate::invariants::testing::{Trial, applied, stamped};

    fn decide(after: State) -> Trial {
        let (trial, mut invariant) = (Trial::new(), RejectedChangesNothing::default());
        let rejected = Outcome::Rejected(Rejection::NotBootstrapped);
        let mut entry = applied("a", 7, &[Command::SetHalt { halted: true }], &[rejected]);
        entry.after = after;
        invariant.decided(&trial.scene(), &entry);
        trial
    }

    #[test]
    fn time_may_move_on_and_nothing_else() {
        decide(stamped(7, 7000)).expect_good();
        decide(stamped(7, 7001)).expect_broken(NAME);
    }
}
