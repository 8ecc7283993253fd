//! `mutants`: the simulator tested by bugs on purpose. One that it does not find is a defect of the simulator.

use std::{num::NonZeroUsize, path::PathBuf, thread::available_parallelism};

use anyhow::Context;
use carrack_authority::planted::Bug;
use clap::Args;
use futures::StreamExt;

use super::{
    one::{One, bug},
    progress::{bar, say},
    runner::{self, Ran},
};

/// Which bugs.
#[derive(Debug, Args)]
pub(super) struct Mutants {
    /// Only this bug
    #[arg(long, value_name = "NAME", value_parser = bug)]
    only: Option<Bug>,
    /// A bug that this many seeds do not catch is not caught
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Seeds at once; without it as many as there are cores
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// Write the table to this file, as Markdown
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// What came of one bug.
struct Caught {
    bug: Bug,
    /// The first seed that catches it, how many came before it, and what does not hold then.
    by: Option<(u64, u64, String)>,
}

impl Mutants {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.run_bugs())
    }

    async fn run_bugs(&self) -> anyhow::Result<bool> {
        let bugs: Vec<Bug> =
            Bug::ALL.iter().filter(|bug| self.only.is_none_or(|only| only == **bug)).copied().collect();
        let bar = bar(bugs.len() as u64);
        let mut all = Vec::new();
        for bug in bugs {
            bar.set_message(bug.name());
            let caught = self.hunt(bug).await?;
            bar.suspend(|| say(&line(&caught)));
            all.push(caught);
            bar.inc(1);
        }
        bar.finish_and_clear();
        if let Some(path) = &self.write {
            std::fs::write(path, table(&all)).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(all.iter().all(|caught| caught.by.is_some()))
    }

    async fn hunt(&self, bug: Bug) -> anyhow::Result<Caught> {
        let jobs = self.jobs.map_or_else(|| available_parallelism().map_or(1, NonZeroUsize::get), NonZeroUsize::get);
        let worlds =
            (self.from..self.from.saturating_add(self.seeds)).map(|seed| One { plant: Some(bug), ..One::of(seed) });
        let mut results = std::pin::pin!(runner::run_in_order(worlds, jobs));
        let mut first: Option<Ran> = None;
        while let Some(ran) = results.next().await {
            let ran = ran?;
            // A process that ended on its own says nothing of what does not hold.
            if ran.report.violations.first().is_some_and(|violation| violation.invariant != runner::PROCESS) {
                first = Some(ran);
                break;
            }
        }
        let by = first.and_then(|ran| {
            let violation = ran.report.violations.first()?;
            Some((ran.one.seed, ran.one.seed - self.from + 1, violation.invariant.clone()))
        });
        Ok(Caught { bug, by })
    }
}

fn line(caught: &Caught) -> String {
    match &caught.by {
        Some((seed, count, invariant)) => {
            format!("{}: caught by seed {seed}, number {count}: {invariant}", caught.bug.name())
        }
        None => format!("{}: NOT CAUGHT", caught.bug.name()),
    }
}

fn table(all: &[Caught]) -> String {
    let mut text = String::from(
        "# Planted bugs\n\nWithin how many seeds the simulator catches each bug on purpose (`authority/src/planted.rs`), and what does not hold then.\nWritten by `cargo run --release -p carrack-simulation -- mutants --write simulation/mutants.md`.\n\n| bug | seeds | what does not hold |\n|---|---|---|\n",
    );
    for caught in all {
        let (seeds, invariant) = match &caught.by {
            Some((_, count, invariant)) => (count.to_string(), invariant.as_str()),
            None => ("not caught".to_owned(), ""),
        };
        text.push_str(&format!("| {} | {seeds} | {invariant} |\n", caught.bug.name()));
    }
    text
}
