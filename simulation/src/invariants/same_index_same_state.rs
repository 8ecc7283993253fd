//! Servers that have applied the same entries have the same state, whatever way they came there (Raft thesis, section 2.1: state
//! machine replication). Compared by the digest of all records at every so many entries, after each snapshot, and at the end.

use std::collections::BTreeMap;

use carrack_authority::{State, id::Digest};
use carrack_proto::stored::state_digest;
use rand::RngExt;

use super::{
    Invariant, Scene,
    seen::{Applied, Installed},
};
use crate::random::Seed;

/// The invariant's name.
const NAME: &str = "same_index_same_state";
/// The states that are kept to be compared with a snapshot of the same index: a snapshot is rarely older. Versions of a state share
/// almost all of their memory.
const STATES_KEPT: usize = 4096;

/// See the module.
pub(super) struct SameIndexSameState {
    /// Every so many entries.
    every: u64,
    digests: BTreeMap<u64, Digest>,
    states: BTreeMap<u64, State>,
}

impl SameIndexSameState {
    /// Compares at the entries that the seed decides.
    pub(super) fn new(seed: Seed) -> Self {
        let every = seed.stream("compared states").random_range(40..=160);
        Self { every, digests: BTreeMap::new(), states: BTreeMap::new() }
    }

    fn compare(&mut self, scene: &Scene<'_>, host: &str, index: u64, state: &State) {
        let Ok(found) = state_digest(state) else {
            return scene.shared.violate(NAME, format!("the state of {host} at {index} cannot be encoded"));
        };
        let kept = || self.states.get(&index).and_then(|state| state_digest(state).ok());
        let expected = self.digests.get(&index).copied().or_else(kept).unwrap_or(found);
        self.digests.insert(index, expected);
        if expected != found {
            let text = format!("{host} has the state {found} at {index}, where another server has {expected}");
            scene.shared.violate(NAME, text);
        }
    }
}

impl Invariant for SameIndexSameState {
    fn decided(&mut self, _scene: &Scene<'_>, applied: &Applied) {
        self.states.insert(applied.index, applied.after.clone());
        if self.states.len() > STATES_KEPT {
            self.states.pop_first();
        }
    }

    fn applied(&mut self, scene: &Scene<'_>, applied: &Applied) {
        if applied.index.is_multiple_of(self.every) {
            self.compare(scene, &applied.host, applied.index, &applied.after);
        }
    }

    fn installed(&mut self, scene: &Scene<'_>, installed: &Installed) {
        // A snapshot may end at an entry without commands: its state is that of the last one with some.
        let index = installed.state.index();
        if index > 0 {
            self.compare(scene, &installed.host, index, &installed.state);
        }
    }

    fn finished(&mut self, scene: &Scene<'_>) {
        for (host, view) in scene.views {
            self.compare(scene, host, view.state.index(), &view.state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{Trial, stamped};

    fn compare(one: &State, other: &State) -> Trial {
        let (trial, mut invariant) = (Trial::new(), SameIndexSameState::new(Seed(1)));
        for (host, state) in [("a", one), ("b", other)] {
            let installed = Installed { host: host.into(), index: 9, state: state.clone(), is_start: true };
            invariant.installed(&trial.scene(), &installed);
        }
        trial
    }

    #[test]
    fn equal_states_are_good_and_others_at_one_index_are_found() {
        compare(&stamped(7, 5), &stamped(7, 5)).expect_good();
        compare(&stamped(7, 5), &stamped(8, 6)).expect_good();
        compare(&stamped(7, 5), &stamped(7, 6)).expect_broken(NAME);
    }
}
