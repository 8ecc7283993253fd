//! What a run came to.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::shared::{Counts, Shared, Violation};
use crate::{marks::Mark, trace::LAST_EVENTS};

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
    /// The last events, if something does not hold.
    pub last_events: Vec<String>,
}

impl Report {
    /// The report of a seed that told nothing.
    pub fn none(seed: u64) -> Self {
        Self {
            seed,
            simulated_micros: 0,
            events: 0,
            digest: String::new(),
            marks: BTreeSet::new(),
            counts: Counts::default(),
            violations: Vec::new(),
            last_events: Vec::new(),
        }
    }

    pub(super) fn of(shared: &Shared) -> Self {
        let trace = shared.trace();
        let violations = shared.violations();
        let skipped = if violations.is_empty() { usize::MAX } else { trace.kept().len().saturating_sub(LAST_EVENTS) };
        Self {
            last_events: trace.kept().skip(skipped).map(ToString::to_string).collect(),
            seed: shared.scenario.seed,
            simulated_micros: shared.clock.micros(),
            events: trace.count(),
            digest: trace.digest(),
            marks: shared.marks.all(),
            counts: shared.counts().clone(),
            violations,
        }
    }
}
