//! Election safety (Ongaro, *Consensus: Bridging Theory and Practice*, section 3.4): a leader was elected by a quorum, whose votes
//! are durable. openraft orders leaders by term and id (its "advanced" leader ids), so that a second candidate with a higher id may
//! follow in the same term; what holds for a term in the thesis holds here for a term with its leader.

use std::collections::BTreeMap;

use super::{
    Invariant, Scene,
    stores::{Reign, Stores, Voters},
    view::View,
};

/// The invariant's name.
const NAME: &str = "election_safety";

/// See the module.
#[derive(Default)]
pub(super) struct ElectionSafety {
    /// Every reign that was seen, with the host that had it.
    reigns: BTreeMap<Reign, String>,
}

impl Invariant for ElectionSafety {
    fn looked(&mut self, scene: &Scene<'_>, host: &str, view: &View) {
        if !view.leads() {
            return;
        }
        let reign = Reign { term: view.term, leader: view.node };
        match self.reigns.get(&reign) {
            Some(other) if other != host => {
                let text = format!("{other} and {host} both lead as server {} of term {}", view.node, view.term);
                scene.shared.violate(NAME, text);
            }
            Some(_) => {}
            None => {
                self.reigns.insert(reign, host.to_owned());
                check_votes(scene, host, view, reign);
            }
        }
    }
}

fn check_votes(scene: &Scene<'_>, host: &str, view: &View, reign: Reign) {
    // The election may have been under the membership before the newest, which the leader appended since.
    let memberships = view.memberships(host, scene.stores);
    if !memberships.iter().any(|voters| is_elected(scene.stores, voters, reign)) {
        let text = format!("{host} leads {reign:?}, and no quorum of its membership has durably voted for it");
        scene.shared.violate(NAME, text);
    }
}

fn is_elected(stores: &Stores, voters: &Voters, reign: Reign) -> bool {
    let has_voted = |node: &u64| {
        let vote = stores.promise(*node).and_then(|promise| promise.vote);
        vote.is_some_and(|vote| Reign { term: vote.term, leader: vote.candidate } >= reign)
    };
    voters.iter().all(|set| set.iter().filter(|node| has_voted(node)).count() > set.len() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{Trial, identity, leader, reign, set_voters, vote};

    fn votes(votes: &[(u64, &str)]) -> (Trial, ElectionSafety) {
        let (mut trial, mut invariant) = (Trial::new(), ElectionSafety::default());
        for (node, host) in votes {
            trial.disk(&mut invariant, host, &identity(*node));
            trial.disk(&mut invariant, host, &vote(4, 1, false));
            trial.disk(&mut invariant, host, &set_voters(0, reign(1, 1), &[&[1, 2, 3]]));
        }
        (trial, invariant)
    }

    #[test]
    fn a_leader_with_two_of_three_durable_votes_is_one() {
        let (mut trial, mut invariant) = votes(&[(1, "a"), (2, "b")]);
        trial.look(&mut invariant, "a", leader(1, 4, 0));
        trial.expect_good();
    }

    #[test]
    fn a_leader_with_one_of_three_durable_votes_is_none() {
        let (mut trial, mut invariant) = votes(&[(1, "a")]);
        trial.look(&mut invariant, "a", leader(1, 4, 0));
        trial.expect_broken(NAME);
    }

    #[test]
    fn two_hosts_never_lead_as_one_server() {
        let (mut trial, mut invariant) = votes(&[(1, "a"), (2, "b")]);
        trial.look(&mut invariant, "a", leader(1, 4, 0));
        trial.look(&mut invariant, "b", leader(1, 4, 0));
        trial.expect_broken(NAME);
    }
}
