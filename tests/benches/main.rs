//! `cargo run --release -p carrack-tests --bin bench -- <what>`: real server processes under a closed-loop client, beside the raw
//! limits of the same machine in the same run. It prints figures and judges none.

mod client;
mod leaves;
mod limits;
mod process;
mod tokens;

use clap::{Parser, Subcommand};

/// Measures carrack.
#[derive(Parser)]
#[command(name = "bench")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

/// What is measured.
#[derive(Subcommand)]
enum What {
    /// Committed leaves per second on three servers, and the CPU each costs
    Leaves(leaves::LeavesArguments),
    /// How fast secondaries take over the primary's tokens, and how soon a deleted one ends there
    Tokens(tokens::TokensArguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().what {
        What::Leaves(arguments) => leaves::run(&arguments),
        What::Tokens(arguments) => tokens::run(&arguments),
    }
}
