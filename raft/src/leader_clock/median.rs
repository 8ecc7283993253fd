//! What the clocks of a majority say.

use std::time::Duration;

use carrack_authority::{
    planted::{self, Bug},
    time::Timestamp,
};

/// The readings of those voters that answered, brought to one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Readings {
    /// How many voters there are.
    pub(super) voters: usize,
    /// Who answered what.
    pub(super) answers: Vec<(u64, Timestamp)>,
}

impl Readings {
    /// The lower median, if a majority answered. Of three clocks one that is wrong never decides; of two the earlier counts.
    pub(super) fn lower_median(&self) -> Option<Timestamp> {
        if !self.is_majority(self.answers.len()) {
            return None;
        }
        let mut clocks: Vec<Timestamp> = self.answers.iter().map(|(_, clock)| *clock).collect();
        clocks.sort();
        if planted::is(Bug::LatestClockCounts) {
            return clocks.last().copied();
        }
        clocks.get((clocks.len() - 1) / 2).copied()
    }

    /// Whether the clocks of a majority are within `distance` of `stamp`.
    pub(super) fn has_majority_near(&self, stamp: Timestamp, distance: Duration) -> bool {
        let near = self.answers.iter().filter(|(_, clock)| distance_of(*clock, stamp) <= distance);
        self.is_majority(near.count())
    }

    /// The voters whose clocks are within `distance` of `stamp`.
    pub(super) fn near(&self, stamp: Timestamp, distance: Duration) -> impl Iterator<Item = u64> + '_ {
        let near = self.answers.iter().filter(move |(_, clock)| distance_of(*clock, stamp) <= distance);
        near.map(|(node, _)| *node)
    }

    fn is_majority(&self, count: usize) -> bool {
        count * 2 > self.voters
    }
}

/// How far two points are apart.
pub(super) fn distance_of(one: Timestamp, other: Timestamp) -> Duration {
    one.since(other).max(other.since(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(voters: usize, clocks: &[u64]) -> Readings {
        Readings { voters, answers: (1..).zip(clocks.iter().map(|clock| Timestamp(*clock))).collect() }
    }

    #[test]
    fn the_lower_median_of_a_majority_counts() {
        let cases: [(usize, &[u64], Option<u64>); 8] = [
            (1, &[7], Some(7)),
            (3, &[5], None),
            (3, &[9, 5], Some(5)),
            (3, &[9, 5, 7], Some(7)),
            (3, &[9, 9, 1], Some(9)),
            (2, &[5], None),
            (5, &[4, 3, 2], Some(3)),
            (4, &[1, 2], None),
        ];
        for (voters, clocks, expected) in cases {
            assert_eq!(readings(voters, clocks).lower_median(), expected.map(Timestamp), "{voters} {clocks:?}");
        }
    }

    #[test]
    fn a_majority_is_counted_among_all_voters() {
        let near =
            |voters, clocks| readings(voters, clocks).has_majority_near(Timestamp(100), Duration::from_millis(5));
        assert!(near(3, &[95, 105, 900]));
        assert!(!near(3, &[94, 100, 106]));
        assert!(!near(5, &[100, 100]));
    }
}
