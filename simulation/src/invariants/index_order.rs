//! A server's numbers are in order: purged <= snapshot <= applied <= committed <= last (openraft's own invariant of its state;
//! Raft thesis, sections 3.5 and 5.1): nothing is applied before it is committed, nothing is deleted that no snapshot has.

use super::{Invariant, Scene, view::View};

/// The invariant's name.
const NAME: &str = "index_order";

/// See the module.
pub(super) struct IndexOrder;

impl Invariant for IndexOrder {
    fn looked(&mut self, scene: &Scene<'_>, host: &str, view: &View) {
        let View { purged, snapshot, committed, last_log, .. } = view;
        let applied = Some(view.applied).filter(|applied| *applied > 0);
        let is_ordered = purged <= snapshot && *snapshot <= applied && applied <= *committed && committed <= last_log;
        if !is_ordered {
            let text = format!(
                "{host}: purged {purged:?}, snapshot {snapshot:?}, applied {applied:?}, committed {committed:?}, last {last_log:?}"
            );
            scene.shared.violate(NAME, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{Trial, follower};

    fn look(change: impl FnOnce(&mut View)) -> Trial {
        let mut trial = Trial::new();
        let mut view = View { purged: Some(2), snapshot: Some(3), applied: 4, committed: Some(5), ..follower(1, 1, 6) };
        change(&mut view);
        trial.look(&mut IndexOrder, "a", view);
        trial
    }

    #[test]
    fn numbers_in_their_order_are_good() {
        look(|_| {}).expect_good();
    }

    #[test]
    fn each_number_out_of_order_is_found() {
        look(|view| view.purged = Some(4)).expect_broken(NAME);
        look(|view| view.snapshot = Some(5)).expect_broken(NAME);
        look(|view| view.applied = 6).expect_broken(NAME);
        look(|view| view.committed = Some(7)).expect_broken(NAME);
    }
}
