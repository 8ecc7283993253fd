//! `run`: many seeds, and a summary that fails if something does not hold.

use std::{collections::BTreeMap, num::NonZeroUsize, path::Path, thread::available_parallelism, time::Duration};

use clap::Args;
use futures::StreamExt;
use rand::{TryRng, rngs::SysRng};

use super::{
    describe,
    one::One,
    progress::{bar, say},
    runner,
    saved::{FOLDER, SavedWorld},
    summary::Summary,
};
use crate::world::{Report, shared::Violation};

/// The digests of the traces of seeds that run twice.
#[derive(Default)]
struct Traces(BTreeMap<u64, String>);

impl Traces {
    /// Whether this is a seed's second run; one that differs from the first is a violation.
    fn is_second(&mut self, report: &mut Report) -> bool {
        let Some(first) = self.0.insert(report.seed, report.digest.clone()) else { return false };
        if first != report.digest {
            let text = format!("the same seed gave trace {first} before and {} now", report.digest);
            report.violations.push(Violation { invariant: "same_seed_same_trace".into(), text });
        }
        true
    }
}

/// The failures that are told in full.
const FAILURES_TOLD: usize = 3;

/// Which seeds.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// How many seeds
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed; the others follow it. Without it, one that nobody knows before
    #[arg(long)]
    from: Option<u64>,
    /// Seeds at once; without it as many as there are cores
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// Run so many of them a second time and compare the traces
    #[arg(long, default_value_t = 0)]
    twice: u64,
    /// The worlds of `simulation/seeds/` instead, which have found something once
    #[arg(long, conflicts_with_all = ["seeds", "from", "twice"])]
    regressions: bool,
    /// Go on after a failure
    #[arg(long)]
    keep_going: bool,
    /// Fail if a situation that seeds must hit was not hit by any of them
    #[arg(long)]
    marks: bool,
}

impl Run {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let worlds = self.worlds()?;
        let jobs = self.jobs.map_or_else(|| available_parallelism().map_or(1, NonZeroUsize::get), NonZeroUsize::get);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.run_worlds(worlds, jobs))
    }

    fn worlds(&self) -> anyhow::Result<Vec<One>> {
        if self.regressions {
            return Ok(SavedWorld::read_all(Path::new(FOLDER))?.into_iter().map(One::saved).collect());
        }
        let first = match self.from {
            Some(first) => first,
            None => SysRng.try_next_u64()? >> 16,
        };
        let last = first.saturating_add(self.seeds);
        say(&format!("seeds {first} to {}", last.saturating_sub(1)));
        let times = |seed: u64| if seed - first < self.twice { 2 } else { 1 };
        Ok((first..last).flat_map(|seed| std::iter::repeat_n(One::of(seed), times(seed))).collect())
    }

    async fn run_worlds(&self, worlds: Vec<One>, jobs: usize) -> anyhow::Result<bool> {
        say(&format!("{} worlds, {jobs} at once", worlds.len()));
        let bar = bar(worlds.len() as u64);
        // The bar shows the rate; a run that is not looked at says now and then how far it is.
        bar.enable_steady_tick(Duration::from_millis(250));
        let mut summary = Summary::new();
        let mut traces = Traces::default();
        let mut results = std::pin::pin!(runner::run(worlds.into_iter(), jobs));
        while let Some(ran) = results.next().await {
            let mut ran = ran?;
            bar.inc(1);
            // Two files may have one seed in two worlds.
            if !self.regressions && traces.is_second(&mut ran.report) && ran.report.violations.is_empty() {
                continue;
            }
            bar.set_message(summary.add(&ran.report));
            if !ran.report.violations.is_empty() {
                if summary.failures() <= FAILURES_TOLD {
                    bar.suspend(|| say(&describe::failure(&ran.one, &ran.report)));
                }
                if !self.keep_going {
                    break;
                }
            }
        }
        bar.finish_and_clear();
        summary.print();
        let missed = summary.missed_marks();
        if self.marks && !missed.is_empty() {
            say(&format!("no seed hit: {}", missed.join("; ")));
            return Ok(false);
        }
        Ok(summary.failures() == 0)
    }
}
