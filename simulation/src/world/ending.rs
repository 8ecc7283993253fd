//! What a run came to.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::shared::{Counts, Shared, Violation};
use crate::marks::Mark;

/// What a run came to, as the process of one seed tells it to the runner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Microseconds of simulated time.
    pub simulated_micros: u64,
    /// How many events its trace has.
    pub events: u64,
    /// The digest of its trace.
    pub digest: String,
    /// Situations that it hit.
    pub marks: BTreeSet<Mark>,
    /// What was counted.
    pub counts: Counts,
    /// What does not hold; empty: everything held.
    pub violations: Vec<Violation>,
}

impl Report {
    pub(super) fn of(shared: &Shared) -> Self {
        let trace = shared.trace();
        Self {
            seed: shared.scenario.seed,
            simulated_micros: shared.clock.micros(),
            events: trace.count(),
            digest: trace.digest(),
            marks: shared.marks.all(),
            counts: shared.counts().clone(),
            violations: shared.violations(),
        }
    }
}
