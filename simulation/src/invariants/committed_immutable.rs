//! What is committed stays (Raft thesis, section 3.6.2: a committed entry is in the logs of all later leaders, so nobody ever has
//! another one in its place): every server commits the same entry at an index, and none deletes it from the end of its log.

use std::collections::BTreeMap;

use super::{
    Invariant, Scene,
    stores::{Reign, Store},
    view::View,
};
use crate::disk::DiskEvent;

/// The invariant's name.
const NAME: &str = "committed_immutable";

/// See the module.
#[derive(Default)]
pub(super) struct CommittedImmutable {
    /// What was committed, by index.
    committed: BTreeMap<u64, (Reign, String)>,
    /// How far each process of a server was compared.
    compared: BTreeMap<(String, u32), u64>,
    /// What each log holds of what is committed: the last index that was compared and is still there.
    held: BTreeMap<String, u64>,
}

impl Invariant for CommittedImmutable {
    fn disk(&mut self, scene: &Scene<'_>, host: &str, event: &DiskEvent) {
        match event {
            DiskEvent::TruncatedAfter { last } => {
                let held = self.held.get(host).copied();
                if held > *last && scene.stores.of(host).is_some_and(|store| !store.is_damaged) {
                    let text = format!("{host} deletes its log after {last:?}, entry {held:?} in it was committed");
                    scene.shared.violate(NAME, text);
                }
            }
            DiskEvent::Crashed { .. } | DiskEvent::Wiped { .. } | DiskEvent::Restored => drop(self.held.remove(host)),
            _ => {}
        }
    }

    fn looked(&mut self, scene: &Scene<'_>, host: &str, view: &View) {
        let Some(store) = scene.stores.of(host).filter(|store| !store.is_damaged) else { return };
        let compared = self.compared.entry((host.to_owned(), view.start)).or_default();
        let Some(end) = view.committed.min(store.entries.keys().next_back().copied()) else { return };
        let begin = (*compared).max(first_of(store));
        if end < begin {
            return;
        }
        for (index, entry) in store.entries.range(begin..=end) {
            let first = self.committed.entry(*index).or_insert_with(|| (entry.reign, host.to_owned()));
            if first.0 != entry.reign {
                let text = format!(
                    "entry {index} was committed as {:?} by {}, {host} commits {:?}",
                    first.0, first.1, entry.reign
                );
                scene.shared.violate(NAME, text);
            }
        }
        *compared = end + 1;
        self.held.insert(host.to_owned(), end);
    }
}

fn first_of(store: &Store) -> u64 {
    store.entries.keys().next().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{Trial, append, follower, reign};

    fn committed() -> (Trial, CommittedImmutable) {
        let (mut trial, mut invariant) = (Trial::new(), CommittedImmutable::default());
        for index in 0..3 {
            trial.disk(&mut invariant, "a", &append(index, reign(1, 1), index));
        }
        trial.look(&mut invariant, "a", follower(1, 1, 1));
        (trial, invariant)
    }

    #[test]
    fn what_is_not_committed_may_go() {
        let (mut trial, mut invariant) = committed();
        trial.disk(&mut invariant, "a", &DiskEvent::TruncatedAfter { last: Some(1) });
        trial.disk(&mut invariant, "a", &append(2, reign(2, 2), 9));
        trial.look(&mut invariant, "a", follower(1, 2, 2));
        trial.expect_good();
    }

    #[test]
    fn what_is_committed_may_not_go() {
        let (mut trial, mut invariant) = committed();
        trial.disk(&mut invariant, "a", &DiskEvent::TruncatedAfter { last: Some(0) });
        trial.expect_broken(NAME);
    }

    #[test]
    fn two_servers_never_commit_different_entries_at_one_place() {
        let (mut trial, mut invariant) = committed();
        for index in 0..2 {
            trial.disk(&mut invariant, "b", &append(index, reign(1, 2), index));
        }
        trial.look(&mut invariant, "b", follower(2, 1, 1));
        trial.expect_broken(NAME);
    }
}
