//! The command line of the simulator.

mod describe;
mod mutants;
mod one;
mod progress;
mod run;
mod runner;
mod saved;
mod shrink;
mod summary;

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use self::{mutants::Mutants, one::One, run::Run, saved::Save, shrink::Shrink};

/// Runs carrack's federations in one deterministic world: one seed decides everything, and always the same.
#[derive(Debug, Parser)]
#[command(name = "carrack-simulation", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run many seeds, a process for each
    Run(Run),
    /// Run one seed here, and show what happened
    Replay(Replay),
    /// Find the fewest faults of a failing seed that still make it fail
    Shrink(Shrink),
    /// Write a world to a file, so that it stays the same when the code changes that draws it
    Save(Save),
    /// Show within how many seeds each planted bug is caught
    Mutants(Mutants),
    /// Run one seed here and print its report as JSON: what the other commands start
    #[command(hide = true)]
    One(Alone),
}

/// One seed, for another command.
#[derive(Debug, Args)]
struct Alone {
    #[command(flatten)]
    one: One,
    /// End as soon as standard input does: whoever holds its other end is gone
    #[arg(long)]
    until_input_ends: bool,
}

/// What is replayed.
#[derive(Debug, Args)]
struct Replay {
    #[command(flatten)]
    one: One,
    /// Print every event, not only the last ones of a failure
    #[arg(long)]
    trace: bool,
    /// Write a timeline of leaders, faults and leaves
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Show the servers' own log lines, by a filter such as `info,openraft=debug`
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

impl Cli {
    /// Does what was asked; fails if something does not hold.
    pub fn run(self) -> ExitCode {
        let done = match self.command {
            Command::Run(run) => run.run(),
            Command::Replay(replay) => {
                one::replay(&replay.one, replay.trace, replay.html.as_deref(), replay.log.as_deref())
            }
            Command::Shrink(shrink) => shrink.run(),
            Command::Save(save) => save.run(),
            Command::Mutants(mutants) => mutants.run(),
            Command::One(Alone { one, until_input_ends }) => one::report(&one, until_input_ends),
        };
        match done {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(1),
            Err(error) => {
                progress::say(&format!("error: {error:#}"));
                ExitCode::from(2)
            }
        }
    }
}

/// A list of numbers of faults, such as `0,4,7`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Numbers(BTreeSet<usize>);

impl std::str::FromStr for Numbers {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::parse);
        numbers.collect::<Result<_, _>>().map(Self)
    }
}

impl std::fmt::Display for Numbers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(usize::to_string).collect();
        f.write_str(&numbers.join(","))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn a_world_is_named_by_its_seed_or_by_its_file_and_by_one_of_them_only() {
        Cli::command().debug_assert();
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/reads-after-leadership.json");
        let accepts = |arguments: &[&str]| Cli::try_parse_from([&["simulation", "replay"], arguments].concat()).is_ok();
        assert!(accepts(&["7"]) && accepts(&["--file", file]) && accepts(&["--file", file, "--only", "1,2"]));
        assert!(!accepts(&[]) && !accepts(&["7", "--file", file]) && !accepts(&["--file", "absent.json"]));
    }
}
