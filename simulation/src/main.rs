//! `carrack-simulation`: runs seeds, replays one, shrinks its faults, and shows within how many seeds planted bugs are caught.

use std::process::ExitCode;

use clap::Parser;

/// The product's own allocator: a world makes and drops much.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    carrack_simulation::cli::Cli::parse().run()
}
