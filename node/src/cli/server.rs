//! The arguments of `carrack server` and of `carrack dev`, and what they ask for.

use std::path::PathBuf;

use clap::Args;

use super::{error::CliError, settings::ConfigArgs};
use crate::{
    config::{Loaded, Purpose},
    server::{Start, join_token::JoinTokenText},
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
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Runs three servers in one process, for a first look and for development.
#[derive(Clone, Debug, Args)]
pub struct DevArgs {
    /// Directory to keep everything in; default: a temporary one that goes with the process
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Added to every port, so that two of them can run
    #[arg(long, value_name = "NUMBER", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..50_000))]
    pub port_offset: u16,
}

/// The longest join token that is read from a file: a token has some hundred bytes.
const JOIN_TOKEN_BYTES_MAX: usize = 16 * 1024;

impl ServerArgs {
    /// The validated configuration, and how to start with it.
    pub fn resolve(&self) -> Result<(Loaded, Start), CliError> {
        let purpose = if self.bootstrap { Purpose::Bootstrap } else { Purpose::Start };
        let loaded = self.config.load(purpose)?;
        let start = match &self.join {
            Some(token) => Start::Join(parse_join_token(&join_token(token)?)?),
            None if self.bootstrap => Start::Bootstrap,
            None => Start::Again,
        };
        Ok((loaded, start))
    }
}

fn join_token(text: &str) -> Result<String, CliError> {
    let Some(path) = text.strip_prefix('@') else { return Ok(text.trim().into()) };
    let token = std::fs::read_to_string(path);
    let token = token.map_err(|source| CliError::File { action: "read", path: path.into(), source })?;
    match token.trim() {
        token if token.len() <= JOIN_TOKEN_BYTES_MAX && !token.is_empty() => Ok(token.into()),
        _ => Err(CliError::usage(
            format!("{path} holds no join token"),
            "make one with `carrack token join --node <name>`",
        )),
    }
}

fn parse_join_token(text: &str) -> Result<JoinTokenText, CliError> {
    let next = "make one with `carrack token join --node <name>` on a server of the datacenter";
    text.parse().map_err(|error: crate::server::join_token::BadJoinToken| CliError::usage(error.to_string(), next))
}
