//! The `carrack` command: what it takes, and which exit code it ends with: 0 done, 1 failed, 2 used wrongly.

pub mod acl;
pub mod agent;
pub mod api;
pub mod ca;
pub mod client;
pub mod config;
pub mod connection;
pub mod error;
pub mod federation;
pub mod files;
pub mod inspect;
pub mod intention;
pub mod issuance;
pub mod leaf;
pub mod leaf_records;
pub mod members;
pub mod output;
pub mod rotation;
mod rotation_plan;
pub(crate) mod rotation_watch;
mod run;
pub mod server;
pub mod settings;
pub mod status;
pub mod token;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use client::Client;
use connection::ConnectionArgs;
use error::CliError;
use output::{Format, Output};

/// A replicated certificate authority for service meshes.
#[derive(Parser)]
#[command(name = "carrack", version, propagate_version = true, max_term_width = 120)]
pub struct Cli {
    /// Form of the output
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "table",
        env = "CARRACK_FORMAT",
        hide_env_values = true,
        help_heading = "Output"
    )]
    pub format: Format,
    /// Where the server is.
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Run two datacenters of three servers and an agent each in this process: a first look, and a place to develop against
    Dev(server::DevArgs),
    /// Run a server
    Server(Box<server::ServerArgs>),
    /// Run the agent of this host, and show and remove agents
    Agent(agent::AgentArgs),
    /// Show leader, log, CA and servers of the datacenter
    Status,
    /// List and remove servers
    #[command(subcommand)]
    Members(members::MembersCommand),
    /// Make a token with which a server or an agent joins
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Connect datacenters into one trust domain
    #[command(subcommand)]
    Federation(federation::FederationCommand),
    /// Show and steer the CA
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// Get, list and revoke leaves
    #[command(subcommand)]
    Leaf(leaf::LeafCommand),
    /// Have a CSR signed, and print leaf and chain
    Sign(leaf::SignArgs),
    /// Decide who may do what
    #[command(subcommand)]
    Acl(acl::AclCommand),
    /// Decide which service may reach which
    #[command(subcommand)]
    Intention(intention::IntentionCommand),
    /// Read the issuance log
    #[command(subcommand)]
    Issuance(issuance::IssuanceCommand),
    /// Check and show the configuration of a server or agent
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned()));
    let environment = std::env::vars_os().filter_map(text).collect();
    run(std::env::args_os(), &environment, &mut io::stdout(), &mut io::stderr())
}

/// Runs a command line with an environment; output and errors go to the writers.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &BTreeMap<String, String>,
    output: &mut (dyn Write + Send),
    errors: &mut (dyn Write + Send),
) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let is_help = !error.use_stderr();
            let text = error.render().to_string();
            // Nobody is left to tell if this fails.
            let _ = if is_help { output.write_all(text.as_bytes()) } else { errors.write_all(text.as_bytes()) };
            return ExitCode::from(if is_help { 0 } else { 2 });
        }
    };
    match execute(&cli, environment, &mut Output::new(cli.format, output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = errors.write_all(error.report().as_bytes());
            ExitCode::from(error.exit_code())
        }
    }
}

fn execute(cli: &Cli, environment: &BTreeMap<String, String>, output: &mut Output<'_>) -> Result<(), CliError> {
    match &cli.command {
        Command::Dev(arguments) => run::dev(arguments, output.writer()),
        Command::Server(arguments) => run::server(arguments, output.writer()),
        Command::Agent(arguments) if arguments.command.is_none() => run::agent(arguments, output.writer()),
        Command::Config(command) => command.run(output),
        Command::Ca(command) if command.is_local() => command.run_local(output),
        command => {
            let client = Client::new(cli.connection.resolve(environment)?)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|source| CliError::Setup { what: "the runtime", source: source.into() })?;
            runtime.block_on(ask(command, &client, output))?;
            output.flush()
        }
    }
}

/// Runs a command that speaks to a server.
async fn ask(command: &Command, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    match command {
        Command::Status => status::run(client, output).await,
        Command::Members(command) => command.run(client, output).await,
        Command::Token(command) => command.run(client, output).await,
        Command::Federation(command) => command.run(client, output).await,
        Command::Ca(command) => command.run(client, output).await,
        Command::Leaf(command) => command.run(client, output).await,
        Command::Sign(arguments) => arguments.run(client, output).await,
        Command::Acl(command) => command.run(client, output).await,
        Command::Intention(command) => command.run(client, output).await,
        Command::Issuance(command) => command.run(client, output).await,
        Command::Config(command) => command.run(output),
        Command::Agent(arguments) => match &arguments.command {
            Some(command) => command.run(client, output).await,
            None => unreachable!("it runs, and is handled before a client is made"),
        },
        Command::Dev(_) | Command::Server(_) => {
            unreachable!("they run servers, and are handled before a client is made")
        }
    }
}

#[cfg(test)]
mod tests;
