//! One seed in this process: one world in a process, because consensus and its libraries draw from sources that are the process's.

use std::path::Path;

use anyhow::Context;
use carrack::{
    config::{LogFormat, LogSettings},
    telemetry::logs,
};
use clap::Args;

use super::{Numbers, describe, progress::say};
use crate::{
    scenario::Scenario,
    trace::Keep,
    world::{Report, World},
};

/// Which world.
#[derive(Clone, Debug, Args)]
pub(super) struct One {
    /// What decides everything
    pub(super) seed: u64,
    /// Only these faults of its plan, by number; an empty list: none
    #[arg(long, value_name = "NUMBERS")]
    pub(super) only: Option<Numbers>,
}

impl One {
    pub(super) fn scenario(&self) -> Scenario {
        let mut scenario = Scenario::derive(self.seed);
        if let Some(only) = &self.only {
            scenario.plan.retain(|planned| only.0.contains(&planned.number));
        }
        scenario
    }

    /// The arguments that mean the same world.
    pub(super) fn arguments(&self) -> Vec<String> {
        let only = self.only.iter().flat_map(|only| ["--only".to_owned(), only.to_string()]);
        std::iter::once(self.seed.to_string()).chain(only).collect()
    }
}

/// Runs it and prints its report.
pub(super) fn report(one: &One) -> anyhow::Result<bool> {
    let report = quietly(|| World::build(one.scenario(), Keep::Last).run());
    println(&serde_json::to_string(&report)?);
    Ok(report.violations.is_empty())
}

/// Runs it and shows what happened.
pub(super) fn replay(one: &One, is_traced: bool, html: Option<&Path>, filter: Option<&str>) -> anyhow::Result<bool> {
    if let Some(filter) = filter {
        logs::init(&LogSettings { format: LogFormat::Pretty, level: filter.to_owned() }, None)?;
    }
    let keep = if is_traced || html.is_some() { Keep::All } else { Keep::Last };
    let world = World::build(one.scenario(), keep);
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
