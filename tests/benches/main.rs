//! `cargo run --release -p carrack-tests --bin bench -- <what>`: real server processes under a closed-loop client, beside the raw
//! limits of the same machine in the same run. It prints figures and judges none.

mod agents;
mod authorize;
mod client;
mod follower;
mod http_load;
mod intentions;
mod latencies;
mod leaves;
mod limits;
mod memory;
mod process;
mod rotation;
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
    /// Decisions on connections: alone, and over HTTP on an agent and on a server
    Authorize(authorize::AuthorizeArguments),
    /// Writes of intentions on three servers, and whom they wake
    Intentions(intentions::IntentionsArguments),
    /// Many agents' streams on one server: what they cost, and how soon a change has come in all
    Agents(agents::AgentsArguments),
    /// Rotations of the root under the leaves of an agent: until it is active, and until all are under it
    Rotation(rotation::RotationArguments),
    /// What an agent keeps for a cached service, and a server for a blocked query
    Memory(memory::MemoryArguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().what {
        What::Leaves(arguments) => leaves::run(&arguments),
        What::Tokens(arguments) => tokens::run(&arguments),
        What::Authorize(arguments) => authorize::run(&arguments),
        What::Intentions(arguments) => intentions::run(&arguments),
        What::Agents(arguments) => agents::run(&arguments),
        What::Rotation(arguments) => rotation::run(&arguments),
        What::Memory(arguments) => memory::run(&arguments),
    }
}
