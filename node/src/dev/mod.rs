//! `carrack dev`: datacenters of servers in one process, each with an agent, formed as an operator would form them; at the end a service
//! of one speaks with a service of another, and the agents decide who may.

mod closing;
mod formation;
mod live;
mod place;
mod sample;

use std::{io::Write, path::PathBuf, time::Duration};

use carrack_authority::spiffe::Name;
use tokio::time::Instant;

use self::{formation::Datacenter, place::Dev};
use crate::{
    agent::AgentStartError,
    cli::error::CliError,
    config::ConfigError,
    server::{
        StartError, agent_token::CreateAgentTokenError, federation_token::CreateFederationTokenError,
        join_token::CreateJoinTokenError,
    },
};

/// The names of the servers of a datacenter, in the order in which they join; there may be as many.
const SERVERS: [&str; 5] = ["a", "b", "c", "d", "e"];
/// How far apart the ports of two servers, and of two datacenters, are.
const PORT_STEP: u16 = 10;
const DATACENTER_STEP: u16 = 1000;
/// The most datacenters: their ports stay apart from each other's.
pub const DATACENTERS_MAX: u8 = 8;
/// The most servers of one datacenter.
pub const SERVERS_MAX: u8 = 5;
/// The sample services: one of the first datacenter, and one of the last, which calls it.
const SERVICE: &str = "web";
const CALLER: &str = "api";
/// How long the datacenter may take to form.
const FORM_WITHIN: Duration = Duration::from_secs(60);

/// What `carrack dev` is asked for.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// Where everything is kept; `None`: a temporary directory that goes with the process.
    pub data_dir: Option<PathBuf>,
    /// Added to every port, so that two of them can run.
    pub port_offset: u16,
    /// How many datacenters: the first is the primary.
    pub datacenters: u8,
    /// How many servers each has.
    pub servers: u8,
}

/// `carrack dev` failed.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// A directory or file.
    #[error("cannot use {path}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A server did not start.
    #[error("server {name} did not start")]
    Start {
        /// Which.
        name: String,
        /// Why.
        source: Box<StartError>,
    },
    /// A join token was not made.
    #[error("no join token was made for server {name}")]
    JoinToken {
        /// For which.
        name: String,
        /// Why.
        source: CreateJoinTokenError,
    },
    /// A federation token was not made.
    #[error("no federation token was made for datacenter {name}")]
    FederationToken {
        /// For which.
        name: Name,
        /// Why.
        source: CreateFederationTokenError,
    },
    /// An agent token was not made.
    #[error("no token was made for the agent of datacenter {name}")]
    AgentToken {
        /// For which.
        name: Name,
        /// Why.
        source: CreateAgentTokenError,
    },
    /// An agent did not start.
    #[error("the agent of datacenter {name} did not start")]
    Agent {
        /// Of which.
        name: Name,
        /// Why.
        source: Box<AgentStartError>,
    },
    /// An agent decided against what was written.
    #[error("whether {caller} may reach {called} is still decided otherwise after {} s: {reason}", FORM_WITHIN.as_secs())]
    Undecided {
        /// Who connects.
        caller: &'static str,
        /// To whom.
        called: &'static str,
        /// What the agent said last.
        reason: String,
    },
    /// The services could not speak with each other.
    #[error("the services {CALLER} and {SERVICE} cannot connect")]
    Handshake(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The datacenter did not form in time.
    #[error("datacenter {name} did not form within {} s: {state}", FORM_WITHIN.as_secs())]
    NotFormed {
        /// Which.
        name: Name,
        /// What was still missing.
        state: String,
    },
    /// A command that an operator would give failed.
    #[error(transparent)]
    Command(#[from] CliError),
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The recovery key could not be made.
    #[error("no recovery key was made")]
    Recovery(#[source] crate::keys::sealing::SealError),
}

/// Runs until it is interrupted.
pub async fn run(
    options: DevOptions,
    progress: &mut dyn Progress,
    output: &mut (dyn Write + Send),
) -> Result<(), DevError> {
    let began = Instant::now();
    let (directory, _temporary) = directory(options.data_dir.clone())?;
    let dev = Dev { directory, options };
    let mut datacenters: Vec<Datacenter> = Vec::new();
    for position in 0..dev.options.datacenters {
        let datacenter = dev.form(position, datacenters.first(), progress).await?;
        datacenters.push(datacenter);
    }
    let token = dev.management_token(progress).await?;
    dev.write_environment(&token)?;
    let shown = dev.sample(&datacenters, &token, progress).await?;
    progress.end(&format!("ready after {:.1} s", began.elapsed().as_secs_f64()));
    dev.close(&token, &shown, output)?;
    let prober = dev.prober(&token)?;
    tokio::select! {
        () = interrupted() => {}
        shown = dev.live(&datacenters[0], &prober, &token, progress, output) => shown?,
    }
    prober.stop().await;
    progress.begin("stopping");
    futures::future::join_all(datacenters.into_iter().map(Datacenter::stop)).await;
    progress.end("stopped");
    Ok(())
}

async fn interrupted() {
    // Without the signal the process cannot be asked to stop cleanly: it would just be killed, which is safe too.
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::error!(%error, "cannot wait for Ctrl-C");
        std::future::pending::<()>().await;
    }
}

/// Shows what is being done.
pub trait Progress {
    /// A step begins.
    fn begin(&mut self, step: &str);
    /// The last step has ended, with this to say.
    fn end(&mut self, result: &str);
    /// Lets something be written while nothing turns on the terminal.
    fn aside(&mut self, write: &mut dyn FnMut());
}

/// Where everything is kept, and what deletes it at the end if it is temporary.
fn directory(data_dir: Option<PathBuf>) -> Result<(PathBuf, Option<Temporary>), DevError> {
    let path = match &data_dir {
        Some(path) => path.clone(),
        None => std::env::temp_dir().join(format!("carrack-dev-{}", std::process::id())),
    };
    let made = std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700).create(&path);
    made.map_err(|source| DevError::File { path: path.clone(), source })?;
    let temporary = data_dir.is_none().then(|| Temporary(path.clone()));
    Ok((path, temporary))
}

/// A directory that goes when this does.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the temporary directory stays");
        }
    }
}
