//! One seed in this process: one world in a process, because consensus and its libraries draw from sources that are the process's.

use std::path::Path;

use anyhow::Context;
use carrack::{
    config::{LogFormat, LogSettings},
    telemetry::logs,
};
use carrack_authority::planted::{Bug, arm};
use clap::{Args, builder::ArgPredicate};

use super::{Numbers, describe, progress::say, saved::SavedWorld};
use crate::{
    scenario::Scenario,
    trace::Keep,
    world::{Report, World},
};

/// Which world.
#[derive(Clone, Debug, Args)]
pub(super) struct One {
    /// What decides everything
    #[arg(required = false, required_unless_present = "file", default_value_if("file", ArgPredicate::IsPresent, "0"))]
    pub(super) seed: u64,
    /// The world in this file instead of one that is drawn
    #[arg(long, value_name = "FILE", conflicts_with = "seed")]
    pub(super) file: Option<SavedWorld>,
    /// A year instead: three datacenters with five servers, rotations, and 400 generations of leaves; or so many hundredths of it
    #[arg(long, value_name = "HUNDREDTHS", num_args = 0..=1, default_missing_value = "100", conflicts_with = "file")]
    pub(super) year: Option<u32>,
    /// Only these faults of its plan, by number; an empty list: none
    #[arg(long, value_name = "NUMBERS")]
    pub(super) only: Option<Numbers>,
    /// With this bug, by its name in the table of `mutants`
    #[arg(long, value_name = "NAME", value_parser = bug)]
    pub(super) plant: Option<Bug>,
}

pub(super) fn bug(name: &str) -> Result<Bug, String> {
    let found = Bug::ALL.iter().find(|bug| bug.name() == name).copied();
    found.ok_or_else(|| {
        format!(
            "no bug has this name; there are {}",
            Bug::ALL.iter().map(|bug| bug.name()).collect::<Vec<_>>().join(", ")
        )
    })
}

impl One {
    /// The world of a seed, whole.
    pub(super) fn of(seed: u64) -> Self {
        Self { seed, file: None, year: None, only: None, plant: None }
    }

    /// The world of a file.
    pub(super) fn saved(file: SavedWorld) -> Self {
        Self { file: Some(file), ..Self::of(0) }
    }

    pub(super) fn scenario(&self) -> Scenario {
        let mut scenario = match (&self.file, self.year) {
            (Some(file), _) => file.scenario(),
            (None, Some(hundredths)) => Scenario::year(self.seed, hundredths),
            (None, None) => Scenario::derive(self.seed),
        };
        if let Some(only) = &self.only {
            scenario.plan.retain(|planned| only.0.contains(&planned.number));
        }
        scenario
    }

    /// Builds the world, with its bug.
    fn build(&self, keep: Keep) -> World {
        if let Some(bug) = self.plant {
            arm(bug);
        }
        World::build(self.scenario(), keep)
    }

    /// The arguments that mean the same world.
    pub(super) fn arguments(&self) -> Vec<String> {
        let year = self.year.iter().flat_map(|hundredths| ["--year".to_owned(), hundredths.to_string()]);
        let only = self.only.iter().flat_map(|only| ["--only".to_owned(), only.to_string()]);
        let plant = self.plant.iter().flat_map(|bug| ["--plant".to_owned(), bug.name().to_owned()]);
        let which = match &self.file {
            Some(file) => vec!["--file".to_owned(), file.path().display().to_string()],
            None => vec![self.seed.to_string()],
        };
        which.into_iter().chain(year).chain(only).chain(plant).collect()
    }
}

/// Runs it and prints its report.
pub(super) fn report(one: &One, until_input_ends: bool) -> anyhow::Result<bool> {
    if until_input_ends {
        std::thread::spawn(|| {
            // Whether the end is an error or not: nobody waits for the report any more.
            drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
            std::process::exit(3);
        });
    }
    let report = quietly(|| one.build(Keep::Last).run());
    println(&serde_json::to_string(&report)?);
    Ok(report.violations.is_empty())
}

/// Runs it and shows what happened.
pub(super) fn replay(one: &One, is_traced: bool, html: Option<&Path>, filter: Option<&str>) -> anyhow::Result<bool> {
    if let Some(filter) = filter {
        logs::init(&LogSettings { format: LogFormat::Pretty, level: filter.to_owned() }, None)?;
    }
    let keep = if is_traced || html.is_some() { Keep::All } else { Keep::Last };
    let world = one.build(keep);
    let shared = world.shared();
    let report = quietly(|| world.run());
    if is_traced {
        shared.trace().kept().for_each(|event| println(&event.to_string()));
    }
    if let Some(path) = html {
        let timeline = crate::timeline::render(&one.scenario(), &report, &shared.trace());
        std::fs::write(path, timeline).with_context(|| format!("cannot write {}", path.display()))?;
        say(&format!("the timeline is in {}", path.display()));
    }
    match report.violations.is_empty() {
        true => say(&describe::success(&report)),
        false => say(&describe::failure(one, &report)),
    }
    Ok(report.violations.is_empty())
}

/// A panic of a host is a violation with its text: its backtrace would stand in the middle of a progress bar.
fn quietly(run: impl FnOnce() -> Report) -> Report {
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        std::panic::set_hook(Box::new(|_| {}));
    }
    run()
}

#[expect(clippy::print_stdout, reason = "this is a command line")]
fn println(text: &str) {
    println!("{text}");
}
