//! The arguments of `carrack server` and of `carrack dev`, and what they ask for.

use std::path::PathBuf;

use clap::Args;

use super::{
    error::CliError,
    settings::{ConfigArgs, ServerFlags},
};
use crate::{
    config::{Loaded, Purpose},
    dev::{DATACENTERS_MAX, SERVERS_MAX},
    server::{
        Start,
        federation_token::FederationTokenText,
        join_token::JoinTokenText,
        token_text::{BadToken, TOKEN_TEXT_BYTES_MAX},
    },
};

/// Runs a server of a datacenter.
#[derive(Clone, Debug, Args)]
pub struct ServerArgs {
    /// Create the datacenter: this is its first server
    #[arg(long, conflicts_with = "join")]
    pub bootstrap: bool,
    /// Join the datacenter that made this token (`carrack token join --node <name>`), or `@FILE` that holds it
    #[arg(long, value_name = "TOKEN", env = "CARRACK_JOIN_TOKEN", hide_env_values = true)]
    pub join: Option<String>,
    /// With --bootstrap: create the datacenter as a secondary of the primary that made this token (`carrack federation token
    /// --datacenter <name>`), or `@FILE` that holds it
    #[arg(
        long,
        value_name = "TOKEN",
        requires = "bootstrap",
        env = "CARRACK_JOIN_PRIMARY_TOKEN",
        hide_env_values = true
    )]
    pub join_primary: Option<String>,
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs<ServerFlags>,
}

/// Runs datacenters of servers in one process, for a first look and for development.
#[derive(Clone, Debug, Args)]
pub struct DevArgs {
    /// Directory to keep everything in; default: a temporary one that goes with the process
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Added to every port, so that two of them can run
    #[arg(long, value_name = "NUMBER", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..50_000))]
    pub port_offset: u16,
    /// How many datacenters; the first is the primary
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 2,
        value_parser = clap::value_parser!(u8).range(1..=i64::from(DATACENTERS_MAX))
    )]
    pub datacenters: u8,
    /// How many servers in each
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 3,
        value_parser = clap::value_parser!(u8).range(1..=i64::from(SERVERS_MAX))
    )]
    pub servers: u8,
}

impl ServerArgs {
    /// The validated configuration, and how to start with it.
    pub fn resolve(&self) -> Result<(Loaded, Start), CliError> {
        let purpose = if self.bootstrap { Purpose::Bootstrap } else { Purpose::Start };
        let loaded = self.config.load(purpose)?;
        let start = match (&self.join, &self.join_primary) {
            (Some(token), _) => Start::Join(parse_join_token(&token_text(token)?)?),
            (None, Some(token)) => Start::BootstrapSecondary(parse_federation_token(&token_text(token)?)?),
            (None, None) if self.bootstrap => Start::Bootstrap,
            (None, None) => Start::Again,
        };
        Ok((loaded, start))
    }
}

pub(super) fn token_text(text: &str) -> Result<String, CliError> {
    let Some(path) = text.strip_prefix('@') else { return Ok(text.trim().into()) };
    let token = std::fs::read_to_string(path);
    let token = token.map_err(|source| CliError::File { action: "read", path: path.into(), source })?;
    match token.trim() {
        token if token.len() <= TOKEN_TEXT_BYTES_MAX && !token.is_empty() => Ok(token.into()),
        _ => Err(CliError::usage(
            format!("{path} holds no token"),
            "make one with `carrack token join` or `carrack token agent`, or with `carrack federation token` in the primary",
        )),
    }
}

fn parse_join_token(text: &str) -> Result<JoinTokenText, CliError> {
    let next = "make one with `carrack token join --node <name>` on a server of the datacenter";
    text.parse().map_err(|error: BadToken| CliError::usage(error.to_string(), next))
}

fn parse_federation_token(text: &str) -> Result<FederationTokenText, CliError> {
    let next = "make one with `carrack federation token --datacenter <name>` in the primary";
    text.parse().map_err(|error: BadToken| CliError::usage(error.to_string(), next))
}
