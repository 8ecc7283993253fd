//! A committed entry is durable on a quorum of the membership in force, of both sets of a joint one (Raft thesis, sections 3.5 and
//! 4.3). What counts is what each server has synced and so acknowledged, whatever has happened to its disk since.

use std::collections::BTreeMap;

use super::{
    Invariant, Scene,
    stores::{Reign, Stores, Voters},
    view::View,
};

/// The invariant's name.
const NAME: &str = "committed_on_quorum";

/// See the module.
#[derive(Default)]
pub(super) struct CommittedOnQuorum {
    /// How far the commits of each reign were checked.
    checked: BTreeMap<Reign, u64>,
}

impl Invariant for CommittedOnQuorum {
    fn looked(&mut self, scene: &Scene<'_>, host: &str, view: &View) {
        if !view.leads() {
            return;
        }
        let Some(store) = scene.stores.of(host) else { return };
        let reign = Reign { term: view.term, leader: view.node };
        let Some(committed) = view.committed.min(store.entries.keys().next_back().copied()) else { return };
        let Some(of) = store.reign(committed) else { return };
        if self.checked.insert(reign, committed) >= Some(committed) {
            return;
        }
        let memberships = view.memberships(host, scene.stores);
        if !memberships.iter().any(|voters| is_durable(scene.stores, voters, committed, of)) {
            let text = format!("{host} has committed entry {committed} of {of:?}, which no quorum has durably");
            scene.shared.violate(NAME, text);
        }
    }
}

fn is_durable(stores: &Stores, voters: &Voters, index: u64, reign: Reign) -> bool {
    let holds = |node: &u64| stores.promise(*node).is_some_and(|promise| promise.holds(index, reign));
    voters.iter().all(|set| set.iter().filter(|node| holds(node)).count() > set.len() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        disk::DiskEvent,
        invariants::testing::{Trial, append, identity, leader, reign, set_voters},
    };

    fn logs(voters: &[&[u64]], synced: &[(u64, &str)]) -> (Trial, CommittedOnQuorum) {
        let (mut trial, mut invariant) = (Trial::new(), CommittedOnQuorum::default());
        for (node, host) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
            trial.disk(&mut invariant, host, &identity(node));
            trial.disk(&mut invariant, host, &set_voters(0, reign(1, 1), voters));
            trial.disk(&mut invariant, host, &append(1, reign(1, 1), 1));
            if synced.contains(&(node, host)) {
                trial.disk(&mut invariant, host, &DiskEvent::Synced);
            }
        }
        (trial, invariant)
    }

    #[test]
    fn an_entry_on_two_of_three_disks_is_committed() {
        let (mut trial, mut invariant) = logs(&[&[1, 2, 3]], &[(1, "a"), (3, "c")]);
        trial.look(&mut invariant, "a", leader(1, 1, 1));
        trial.expect_good();
    }

    #[test]
    fn an_entry_that_is_written_and_not_synced_is_not_committed() {
        let (mut trial, mut invariant) = logs(&[&[1, 2, 3]], &[(1, "a")]);
        trial.look(&mut invariant, "a", leader(1, 1, 1));
        trial.expect_broken(NAME);
    }

    #[test]
    fn a_joint_membership_needs_both_quorums() {
        let (mut trial, mut invariant) = logs(&[&[1, 2, 3], &[3, 4]], &[(1, "a"), (2, "b"), (3, "c")]);
        let voters = [1, 2, 3, 4].into();
        trial.look(&mut invariant, "a", View { is_joint: true, voters, ..leader(1, 1, 1) });
        trial.expect_broken(NAME);
    }

    #[test]
    fn a_membership_counts_before_the_leader_has_written_it() {
        let (mut trial, mut invariant) = logs(&[&[1, 2]], &[(2, "b"), (3, "c")]);
        trial.look(&mut invariant, "a", View { voters: [1, 2, 3].into(), ..leader(1, 1, 1) });
        trial.expect_good();
    }
}
