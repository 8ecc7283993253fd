//! Leader completeness (Raft thesis, section 3.6): when a server begins to lead, its log has every entry that was committed under
//! former leaders, or a snapshot with it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Invariant, Scene, stores::Reign, view::View};

/// The invariant's name.
const NAME: &str = "leader_completeness";

/// See the module.
#[derive(Default)]
pub(super) struct LeaderCompleteness {
    /// The last entry that is known to be committed of each reign.
    committed: BTreeMap<Reign, u64>,
    seen: BTreeSet<(Reign, u32)>,
}

impl Invariant for LeaderCompleteness {
    fn looked(&mut self, scene: &Scene<'_>, host: &str, view: &View) {
        let Some(store) = scene.stores.of(host) else { return };
        let reign = Reign { term: view.term, leader: view.node };
        if view.leads() && self.seen.insert((reign, view.start)) && !store.is_damaged {
            for (of, index) in self.committed.range(..reign) {
                let has = store.reign(*index) == Some(*of)
                    || store.purged.is_some_and(|(purged, _)| purged >= *index)
                    || store.snapshot.as_ref().is_some_and(|(last, _)| last >= index);
                if !has {
                    let text = format!("{host} leads {reign:?} without entry {index} of {of:?}, which was committed");
                    scene.shared.violate(NAME, text);
                }
            }
        }
        if let Some(committed) = view.committed
            && let Some(of) = store.reign(committed)
        {
            let last = self.committed.entry(of).or_default();
            *last = committed.max(*last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{Trial, append, follower, leader, reign};

    fn after_a_commit(own: &[u64]) -> (Trial, LeaderCompleteness) {
        let (mut trial, mut invariant) = (Trial::new(), LeaderCompleteness::default());
        for index in 0..3 {
            trial.disk(&mut invariant, "a", &append(index, reign(1, 1), index));
        }
        for index in own {
            trial.disk(&mut invariant, "b", &append(*index, reign(1, 1), *index));
        }
        trial.look(&mut invariant, "a", follower(1, 1, 1));
        (trial, invariant)
    }

    #[test]
    fn a_leader_with_everything_that_was_committed_is_complete() {
        let (mut trial, mut invariant) = after_a_commit(&[0, 1]);
        trial.look(&mut invariant, "b", leader(2, 2, 1));
        trial.expect_good();
    }

    #[test]
    fn a_leader_without_a_committed_entry_is_found() {
        let (mut trial, mut invariant) = after_a_commit(&[0]);
        trial.look(&mut invariant, "b", leader(2, 2, 0));
        trial.expect_broken(NAME);
    }
}
