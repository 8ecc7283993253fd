//! `run`: many seeds, and a summary that fails if something does not hold.

use std::{num::NonZeroUsize, ops::Range, thread::available_parallelism, time::Duration};

use clap::Args;
use futures::StreamExt;
use rand::{TryRng, rngs::SysRng};

use super::{
    describe,
    one::One,
    progress::{bar, say},
    runner,
    summary::Summary,
};

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
    /// Go on after a failure
    #[arg(long)]
    keep_going: bool,
    /// Fail if a situation that seeds must hit was not hit by any of them
    #[arg(long)]
    marks: bool,
}

impl Run {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let first = match self.from {
            Some(first) => first,
            None => SysRng.try_next_u64()? >> 16,
        };
        let jobs = self.jobs.map_or_else(|| available_parallelism().map_or(1, NonZeroUsize::get), NonZeroUsize::get);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.run_seeds(first..first.saturating_add(self.seeds), jobs))
    }

    async fn run_seeds(&self, seeds: Range<u64>, jobs: usize) -> anyhow::Result<bool> {
        say(&format!("seeds {} to {}, {jobs} at once", seeds.start, seeds.end.saturating_sub(1)));
        let bar = bar(self.seeds);
        // The bar shows the rate; a run that is not looked at says now and then how far it is.
        bar.enable_steady_tick(Duration::from_millis(250));
        let mut summary = Summary::new();
        let worlds = seeds.map(|seed| One { seed, only: None, plant: None });
        let mut results = std::pin::pin!(runner::run(worlds, jobs));
        while let Some(ran) = results.next().await {
            let ran = ran?;
            bar.inc(1);
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
