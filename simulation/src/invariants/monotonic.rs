//! Terms, commits and what is applied never go backwards (Raft thesis, figure 3.1): within the life of a process none of them, over
//! restarts those that are durable when they show, which are the term and the snapshot (a purge shows before it is synced).

use std::collections::BTreeMap;

use super::{Invariant, Scene, view::View};
use crate::disk::{DiskEvent, DiskFault};

/// The invariant's name.
const NAME: &str = "monotonic";

/// See the module.
#[derive(Default)]
pub(super) struct Monotonic {
    last: BTreeMap<String, View>,
}

impl Invariant for Monotonic {
    fn disk(&mut self, _scene: &Scene<'_>, host: &str, event: &DiskEvent) {
        match event {
            DiskEvent::Wiped { .. } | DiskEvent::Restored => drop(self.last.remove(host)),
            // A fault has taken the newest one: an older one will do, if the log has everything since.
            DiskEvent::FaultInjected { what: DiskFault::RestoreOldSnapshotFile } => {
                if let Some(last) = self.last.get_mut(host) {
                    last.snapshot = None;
                }
            }
            _ => {}
        }
    }

    fn looked(&mut self, scene: &Scene<'_>, host: &str, view: &View) {
        let Some(former) = self.last.insert(host.to_owned(), view.clone()) else { return };
        if former.node != view.node {
            return;
        }
        let durable = [("term", Some(former.term), Some(view.term)), ("snapshot", former.snapshot, view.snapshot)];
        let living = [
            ("purged", former.purged, view.purged),
            ("committed", former.committed, view.committed),
            ("applied", Some(former.applied), Some(view.applied)),
            ("start", Some(former.start.into()), Some(view.start.into())),
        ];
        let is_same_life = former.start == view.start;
        for (what, before, now) in durable.iter().chain(living.iter().filter(|_| is_same_life)) {
            if now < before {
                scene.shared.violate(NAME, format!("{host}: {what} goes from {before:?} back to {now:?}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{Trial, follower};

    fn look_twice(first: View, second: View) -> Trial {
        let (mut trial, mut invariant) = (Trial::new(), Monotonic::default());
        trial.look(&mut invariant, "a", first);
        trial.look(&mut invariant, "a", second);
        trial
    }

    #[test]
    fn what_grows_is_good_and_what_is_not_durable_may_begin_again() {
        look_twice(follower(1, 1, 5), follower(1, 2, 6)).expect_good();
        look_twice(follower(1, 1, 5), View { start: 2, ..follower(1, 1, 3) }).expect_good();
    }

    #[test]
    fn what_shrinks_is_found() {
        look_twice(follower(1, 1, 5), follower(1, 1, 4)).expect_broken(NAME);
        look_twice(follower(1, 2, 5), View { start: 2, ..follower(1, 1, 5) }).expect_broken(NAME);
        let purged = View { purged: Some(3), snapshot: Some(3), ..follower(1, 1, 5) };
        look_twice(purged.clone(), View { purged: None, ..purged.clone() }).expect_broken(NAME);
        look_twice(purged.clone(), View { start: 2, purged: None, ..purged.clone() }).expect_good();
        look_twice(purged, View { start: 2, ..follower(1, 1, 5) }).expect_broken(NAME);
    }
}
