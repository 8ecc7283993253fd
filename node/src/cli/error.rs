//! Why a command failed, said to a person: what happened, to what, why, and what to do next. Exit code 2: the command was used wrongly.

use std::{error::Error, fmt::Write as _, io, path::PathBuf};

use crate::{agent::AgentStartError, config::ConfigError, dev::DevError, keys::secret::KeyError, server::StartError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line or the environment cannot be used.
    #[error("{what}")]
    Usage {
        /// What was given, and why it is refused.
        what: String,
        /// What to do.
        next: String,
    },
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No answer came.
    #[error("no answer from the server at {address} to {request}")]
    Unreachable {
        /// The server.
        address: String,
        /// The request's method and path.
        request: String,
        /// The reason.
        #[source]
        source: reqwest::Error,
    },
    /// The server refused.
    #[error("the server at {address} refused {request} with status {status}: {text}")]
    Refused {
        /// The server.
        address: String,
        /// The request's method and path.
        request: String,
        /// The HTTP status.
        status: u16,
        /// What the server said.
        text: String,
    },
    /// The answer is not what this version expects.
    #[error("the answer of the server at {address} to {request} is not understood")]
    NotUnderstood {
        /// The server.
        address: String,
        /// The request's method and path.
        request: String,
        /// The reason.
        #[source]
        source: serde_json::Error,
    },
    /// The answer is too long.
    #[error("the answer of the server at {address} to {request} is longer than {bytes_max} bytes")]
    TooLong {
        /// The server.
        address: String,
        /// The request's method and path.
        request: String,
        /// The limit.
        bytes_max: usize,
    },
    /// A certificate or CSR cannot be used.
    #[error("{what} cannot be used: {why}")]
    Certificate {
        /// What was looked at.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The issuance log that the server shows is not the one that was shown before.
    #[error(
        "the issuance log does not hold together at record {sequence}: its hash is {shown}, but its contents give {computed}"
    )]
    BrokenChain {
        /// The record.
        sequence: u64,
        /// The hash that the server shows.
        shown: String,
        /// The hash that the record and the one before give.
        computed: String,
    },
    /// A key could not be made or used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file could not be read or written.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The client could not be set up.
    #[error("cannot set up {what}")]
    Setup {
        /// What was set up.
        what: &'static str,
        /// The reason.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A server did not start.
    #[error("the server did not start")]
    Server(#[source] Box<StartError>),
    /// An agent did not start.
    #[error("the agent did not start")]
    Agent(#[source] Box<AgentStartError>),
    /// The development datacenter failed.
    #[error("the development datacenter failed")]
    Dev(#[source] Box<DevError>),
    /// The output could not be written.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
}

impl From<AgentStartError> for CliError {
    fn from(error: AgentStartError) -> Self {
        Self::Agent(Box::new(error))
    }
}

impl From<StartError> for CliError {
    fn from(error: StartError) -> Self {
        Self::Server(Box::new(error))
    }
}

impl From<DevError> for CliError {
    fn from(error: DevError) -> Self {
        Self::Dev(Box::new(error))
    }
}

impl CliError {
    /// A usage error.
    pub fn usage(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Usage { what: what.into(), next: next.into() }
    }

    /// The process's exit code: 2 for wrong use, 1 for anything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } => 2,
            _ => 1,
        }
    }

    /// Whether the reader of the output went away, which is no failure (`carrack ... | head`).
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// What to do next, if anything is known.
    fn next(&self) -> Option<String> {
        Some(match self {
            Self::Usage { next, .. } => next.clone(),
            Self::Config(_) => "correct the settings above; `carrack config validate` checks them without a start".into(),
            Self::Unreachable { .. } => {
                "is a server running there? Name another one with --http-addr or CARRACK_HTTP_ADDR; for https, trust its \
                 CA with --cacert or CARRACK_CACERT"
                    .into()
            }
            Self::Refused { status, .. } => next_after(*status)?.into(),
            Self::NotUnderstood { .. } => "is that a carrack server, and of this version?".into(),
            Self::BrokenChain { .. } => "keep this output: a server rewrote its log, or answers were changed on the way".into(),
            _ => return None,
        })
    }

    /// The whole text for a person: the error, what caused it, what to do next.
    pub fn report(&self) -> String {
        let mut text = format!("error: {self}\n");
        let mut cause = self.source();
        while let Some(error) = cause {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  because: {error}");
            cause = error.source();
        }
        if let Some(next) = self.next() {
            let _ = writeln!(text, "  next: {next}");
        }
        text
    }
}

fn next_after(status: u16) -> Option<&'static str> {
    match status {
        400 => Some("correct what the server names"),
        401 | 403 => Some("give a token that may do this with --token or CARRACK_TOKEN"),
        404 => Some("check the name; the `list` commands show what exists"),
        429 => Some("the server limits requests: try again later"),
        501 => Some("this server cannot do that yet"),
        500..=599 => Some("`carrack status` shows whether the servers have a leader; then try again"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_why_and_what_next() {
        let source = io::Error::new(io::ErrorKind::PermissionDenied, "permission denied");
        let error = CliError::File { action: "read", path: "ca.pem".into(), source };
        assert_eq!(error.report(), "error: cannot read ca.pem\n  because: permission denied\n");
        let refused = CliError::Refused {
            address: "http://127.0.0.1:8500".into(),
            request: "GET /v1/acl/tokens".into(),
            status: 403,
            text: "Permission denied".into(),
        };
        assert_eq!(
            refused.report(),
            "error: the server at http://127.0.0.1:8500 refused GET /v1/acl/tokens with status 403: Permission denied\n  \
             next: give a token that may do this with --token or CARRACK_TOKEN\n"
        );
    }

    #[test]
    fn wrong_use_is_2_and_failure_is_1() {
        assert_eq!(CliError::usage("a", "b").exit_code(), 2);
        assert_eq!(CliError::Output(io::ErrorKind::Other.into()).exit_code(), 1);
    }
}
