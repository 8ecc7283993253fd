//! `carrack server` and `carrack dev`: the commands that run servers in this process.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use super::{
    agent::AgentArgs,
    error::CliError,
    server::{DevArgs, ServerArgs},
};
use crate::{
    agent::{Agent, AgentPorts},
    config::{LogFormat, LogSettings},
    dev::{self, DevOptions, Progress},
    server::{Server, ServerPorts, Start},
    telemetry::{
        hardening::{allow_open_files, harden_process},
        logs,
    },
};

/// How long the first server may take until its datacenter has begun; it goes on trying after that.
const BEGIN_WITHIN: Duration = Duration::from_secs(20);

/// Runs a server until it is asked to stop.
pub(super) fn server(arguments: &ServerArgs, output: &mut (dyn Write + Send)) -> Result<(), CliError> {
    let (loaded, start) = arguments.resolve()?;
    start_logs(&loaded.config.log)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    harden_process();
    allow_open_files();
    runtime()?.block_on(async {
        let is_first = matches!(start, Start::Bootstrap);
        let ports = ServerPorts::of_machine().map_err(|source| setup("the signing threads", source))?;
        let server = Server::start(loaded.config, start, ports).await?;
        if is_first {
            wait_for_beginning(&server).await;
        }
        announce(&server, is_first, output)?;
        interrupted().await.map_err(|source| setup("the signal handlers", source))?;
        tracing::info!("stopping");
        server.stop().await;
        Ok(())
    })
}

/// Runs the agent of this host until it is asked to stop.
pub(super) fn agent(arguments: &AgentArgs, output: &mut (dyn Write + Send)) -> Result<(), CliError> {
    let (loaded, options) = arguments.resolve()?;
    start_logs(&loaded.config.log)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    harden_process();
    allow_open_files();
    runtime()?.block_on(async {
        let agent = Agent::start(options, AgentPorts::of_machine()).await?;
        let (identity, http) = (agent.identity(), loaded.config.http);
        let text = format!(
            "agent of {} in datacenter {}, trust domain {}\nHTTP API on http://{http}\n",
            identity.node, identity.datacenter, identity.trust_domain
        );
        let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
        written.map_err(|source| setup("standard output", source))?;
        interrupted().await.map_err(|source| setup("the signal handlers", source))?;
        tracing::info!("stopping");
        agent.stop().await;
        Ok(())
    })
}

/// Runs datacenters of servers until it is interrupted.
pub(super) fn dev(arguments: &DevArgs, output: &mut (dyn Write + Send)) -> Result<(), CliError> {
    start_logs(&LogSettings { format: LogFormat::Auto, level: "error".into() })?;
    harden_process();
    allow_open_files();
    let options = DevOptions {
        data_dir: arguments.data_dir.clone(),
        port_offset: arguments.port_offset,
        datacenters: arguments.datacenters,
        servers: arguments.servers,
    };
    let mut progress: Box<dyn Progress> =
        if std::io::stderr().is_terminal() { Box::new(Spinner::new()) } else { Box::new(Lines) };
    Ok(runtime()?.block_on(dev::run(options, &mut *progress, output))?)
}

fn start_logs(settings: &LogSettings) -> Result<(), CliError> {
    let variable = std::env::var(logs::FILTER_VARIABLE).ok();
    logs::init(settings, variable.as_deref())
        .map_err(|source| CliError::Setup { what: "the log", source: source.into() })
}

fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("carrack").build();
    runtime.map_err(|source| setup("the runtime", source))
}

fn setup(what: &'static str, source: std::io::Error) -> CliError {
    CliError::Setup { what, source: source.into() }
}

async fn wait_for_beginning(server: &Server) {
    let context = server.context();
    let begun = async {
        while context.desk.issuer().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(BEGIN_WITHIN, begun).await.is_err() {
        for (task, trouble) in context.troubles.list() {
            tracing::error!(task, trouble, "the datacenter has not begun yet");
        }
    }
}

/// Says what runs, and for the first server what an operator does next.
fn announce(server: &Server, is_first: bool, output: &mut (dyn Write + Send)) -> Result<(), CliError> {
    let (identity, config) = (&server.context().identity, server.config());
    let mut text = format!(
        "server {} (node id {}) of datacenter {}, trust domain {}\n",
        identity.name, identity.node, identity.datacenter, identity.trust_domain
    );
    if let Some(http) = config.listen.http {
        text.push_str(&format!("HTTP API on http://{http}\n"));
    }
    if is_first {
        text.push_str(
            "\nThe datacenter exists. Next, on this machine:\n  \
             carrack acl bootstrap                 # the management token, shown once; export it as CARRACK_TOKEN\n  \
             carrack token join --node <name>      # then on each further machine: carrack server --join <token>\n",
        );
    }
    let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    written.map_err(|source| setup("standard output", source))
}

async fn interrupted() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}

/// Steps on a terminal: the one under way turns.
struct Spinner(ProgressBar);

impl Spinner {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::default_spinner());
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }
}

impl Progress for Spinner {
    fn begin(&mut self, step: &str) {
        self.0.set_message(step.to_owned());
    }

    fn end(&mut self, result: &str) {
        self.0.suspend(|| write_line(result));
        self.0.set_message("");
    }

    fn aside(&mut self, write: &mut dyn FnMut()) {
        self.0.suspend(write);
    }
}

/// Steps where nobody watches: a line each.
struct Lines;

impl Progress for Lines {
    fn begin(&mut self, step: &str) {
        write_line(step);
    }

    fn end(&mut self, result: &str) {
        write_line(result);
    }

    fn aside(&mut self, write: &mut dyn FnMut()) {
        write();
    }
}

/// Progress is no result: it goes to standard error, and nothing is lost if that is closed.
fn write_line(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}
