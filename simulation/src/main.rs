//! `carrack-simulation`: runs seeds, replays one, shrinks its faults, and shows within how many seeds planted bugs are caught.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    carrack_simulation::cli::Cli::parse().run()
}
