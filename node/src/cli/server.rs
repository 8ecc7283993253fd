//! The arguments of `carrack server` and of `carrack dev`, and what they ask for.

use std::path::PathBuf;

use clap::Args;

use super::{error::CliError, settings::ConfigArgs};
use crate::config::{Loaded, Purpose};

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
}

/// How a server starts.
#[derive(Clone, PartialEq, Eq)]
pub enum Start {
    /// It creates its datacenter.
    Bootstrap,
    /// It joins with a token.
    Join(String),
    /// It goes on with what its data directory holds.
    Again,
}

/// The token stays out of logs.
impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bootstrap => "Bootstrap",
            Self::Join(_) => "Join(...)",
            Self::Again => "Again",
        })
    }
}

/// The longest join token that is read from a file: a token has some hundred bytes.
const JOIN_TOKEN_BYTES_MAX: usize = 16 * 1024;

impl ServerArgs {
    /// The validated configuration, and how to start with it.
    pub fn resolve(&self) -> Result<(Loaded, Start), CliError> {
        let purpose = if self.bootstrap { Purpose::Bootstrap } else { Purpose::Start };
        let loaded = self.config.load(purpose)?;
        let start = match &self.join {
            Some(token) => Start::Join(join_token(token)?),
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
