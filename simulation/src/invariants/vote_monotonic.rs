//! A vote is never taken back, not even by a crash (Raft thesis, section 3.4): in the order of openraft's leader ids, which is by
//! term and then by candidate, each durable vote is at least the one before, and a committed one stays committed.

use std::collections::BTreeMap;

use carrack_proto::stored::v1::Vote;

use super::{Invariant, Scene, view::View};
use crate::disk::DiskEvent;

/// The invariant's name.
const NAME: &str = "vote_monotonic";

/// See the module.
#[derive(Default)]
pub(super) struct VoteMonotonic {
    votes: BTreeMap<u64, Vote>,
}

impl Invariant for VoteMonotonic {
    fn disk(&mut self, scene: &Scene<'_>, host: &str, event: &DiskEvent) {
        if !matches!(event, DiskEvent::FileReplaced { name, is_told: true, .. } if name == "high-water") {
            return;
        }
        let Some(node) = scene.stores.of(host).and_then(|store| store.node) else { return };
        let vote = scene.stores.promise(node).and_then(|promise| promise.vote);
        let former = self.votes.get(&node).copied();
        if vote.map(order) < former.map(order) {
            let text = format!("{host}, server {node}, had voted {former:?} and votes {vote:?}");
            scene.shared.violate(NAME, text);
        }
        if let Some(vote) = vote {
            self.votes.insert(node, vote);
        }
    }

    fn looked(&mut self, scene: &Scene<'_>, host: &str, view: &View) {
        let voted = self.votes.get(&view.node).map_or(0, |vote| vote.term);
        if view.term < voted {
            let text = format!("{host} is in term {} after it has voted in term {voted}", view.term);
            scene.shared.violate(NAME, text);
        }
    }
}

fn order(vote: Vote) -> (u64, u64, bool) {
    (vote.term, vote.candidate, vote.is_committed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{Trial, follower, identity, vote};

    fn votes(votes: &[(u64, u64, bool)]) -> (Trial, VoteMonotonic) {
        let (mut trial, mut invariant) = (Trial::new(), VoteMonotonic::default());
        trial.disk(&mut invariant, "a", &identity(1));
        for (term, candidate, is_committed) in votes {
            trial.disk(&mut invariant, "a", &vote(*term, *candidate, *is_committed));
        }
        (trial, invariant)
    }

    #[test]
    fn later_votes_and_a_vote_that_is_committed_are_good() {
        votes(&[(1, 2, false), (1, 2, true), (2, 1, false), (2, 3, false)]).0.expect_good();
    }

    #[test]
    fn a_vote_that_is_taken_back_is_found() {
        votes(&[(2, 2, false), (1, 3, false)]).0.expect_broken(NAME);
        votes(&[(2, 3, false), (2, 1, false)]).0.expect_broken(NAME);
        votes(&[(2, 3, true), (2, 3, false)]).0.expect_broken(NAME);
    }

    #[test]
    fn a_server_in_a_term_before_its_vote_is_found() {
        let (mut trial, mut invariant) = votes(&[(5, 2, true)]);
        trial.look(&mut invariant, "a", follower(1, 4, 1));
        trial.expect_broken(NAME);
    }
}
