//! A datacenter as an operator forms it: the first server begins, the others and an agent join with a one-time token each.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use carrack_authority::{issuer::IssuerPhase, spiffe::Name};
use tokio::time::{Instant, sleep};

use super::{DATACENTER_STEP, DevError, FORM_WITHIN, PORT_STEP, Progress, SERVERS, place::Dev};
use crate::{
    agent::{Agent, AgentOptions, AgentPorts, directory::AGENT_FILE},
    config::{self, Config, Layers, Purpose},
    server::{
        Server, ServerPorts, Start, agent_token::create_agent_token, federation_token::create_federation_token,
        join_token::create_join_token,
    },
};

/// How often something is looked at that is waited for.
pub(super) const LOOK: Duration = Duration::from_millis(50);
/// The name of the host of each datacenter's agent.
const HOST: &str = "host";

/// A datacenter that has formed.
pub(super) struct Datacenter {
    pub(super) name: Name,
    pub(super) position: u8,
    pub(super) servers: Vec<Server>,
    pub(super) agent: Agent,
}

impl Dev {
    /// One datacenter: a secondary of the primary if there is one.
    pub(super) async fn form(
        &self,
        position: u8,
        primary: Option<&Datacenter>,
        progress: &mut dyn Progress,
    ) -> Result<Datacenter, DevError> {
        let name = Name::parse("datacenter", &format!("dc{}", position + 1)).expect("the names are in the grammar");
        let mut servers: Vec<Server> = Vec::new();
        let count = usize::from(self.options.servers);
        for (place, server) in SERVERS.into_iter().take(count).enumerate() {
            let config = self.config(&name, position, place)?;
            let is_new = !config.data_dir.join("identity.toml").exists();
            let shown = format!("{name}/{server}");
            progress.begin(&format!("server {shown}: {}", if is_new { "joining" } else { "starting" }));
            let start = match (is_new, servers.first(), primary) {
                (false, _, _) => Start::Again,
                (true, None, None) => Start::Bootstrap,
                (true, None, Some(primary)) => {
                    let made = create_federation_token(primary.servers[0].context(), name.clone(), FORM_WITHIN).await;
                    let made = made.map_err(|source| DevError::FederationToken { name: name.clone(), source })?;
                    Start::BootstrapSecondary(made.0)
                }
                (true, Some(first), _) => {
                    // It answers who joins with the certificate that it then has.
                    let joined = servers.len();
                    wait_until(&name, || is_complete(first, joined), || incomplete(&servers, joined)).await?;
                    let node = Name::parse("node name", server).expect("the names are in the grammar");
                    let made = create_join_token(first.context(), node, FORM_WITHIN).await;
                    Start::Join(made.map_err(|source| DevError::JoinToken { name: shown.clone(), source })?.0)
                }
            };
            let ports =
                ServerPorts::of_machine().map_err(|source| DevError::File { path: self.directory.clone(), source })?;
            let started = Server::start(config, start, ports).await;
            servers.push(started.map_err(|source| DevError::Start { name: shown, source: Box::new(source) })?);
        }
        progress.begin(&format!("datacenter {name}: {count} voters, each with an issuer"));
        let is_formed = || servers.iter().all(|server| is_complete(server, count));
        wait_until(&name, is_formed, || incomplete(&servers, count)).await?;
        let agent = self.agent(&name, position, &servers[0], progress).await?;
        Ok(Datacenter { name, position, servers, agent })
    }

    /// The agent of a host beside the servers, when it serves.
    async fn agent(
        &self,
        datacenter: &Name,
        position: u8,
        server: &Server,
        progress: &mut dyn Progress,
    ) -> Result<Agent, DevError> {
        let data_dir = self.directory.join(datacenter.as_str()).join("agent");
        let is_new = !data_dir.join(AGENT_FILE).exists();
        progress.begin(&format!("the agent of {datacenter}: {}", if is_new { "joining" } else { "starting" }));
        let join = match is_new {
            false => None,
            true => {
                let host = Name::parse("node name", HOST).expect("the name is in the grammar");
                let made = create_agent_token(server.context(), host, FORM_WITHIN).await;
                Some(made.map_err(|source| DevError::AgentToken { name: datacenter.clone(), source })?.0)
            }
        };
        let options = AgentOptions { data_dir, http: self.agent_listens(position), join };
        let started = Agent::start(options, AgentPorts::of_machine()).await;
        let agent = started.map_err(|source| DevError::Agent { name: datacenter.clone(), source: Box::new(source) })?;
        let followed = &agent.edge().followed;
        let silence = || followed.not_fresh().unwrap_or_default();
        wait_until(datacenter, || followed.not_fresh().is_none(), silence).await?;
        Ok(agent)
    }

    /// The configuration of one server, by the settings that an operator would give.
    fn config(&self, datacenter: &Name, position: u8, place: usize) -> Result<Config, DevError> {
        let place_step = u16::try_from(place).unwrap_or_default() * PORT_STEP;
        let step = place_step + u16::from(position) * DATACENTER_STEP + self.options.port_offset;
        let at = |port: u16| format!("127.0.0.1:{}", port + step);
        let name = SERVERS[place];
        let flags = [
            ("data_dir", self.directory.join(datacenter.as_str()).join(name).display().to_string()),
            ("datacenter", datacenter.to_string()),
            ("node_name", name.into()),
            ("recovery_recipient", self.recovery()?),
            ("listen.raft", at(8300)),
            ("listen.grpc", at(8503)),
            ("listen.wan", at(8302)),
            ("listen.http", at(8500)),
            ("listen.https", at(8501)),
        ];
        let layers = Layers { file: None, environment: BTreeMap::new(), flags: BTreeMap::from(flags) };
        Ok(config::load(&layers, Purpose::Bootstrap)?.config)
    }
}

impl Datacenter {
    /// Ends the agent, then the servers.
    pub(super) async fn stop(self) {
        self.agent.stop().await;
        futures::future::join_all(self.servers.into_iter().map(Server::stop)).await;
    }
}

/// Whether this server sees every server vote and issue, itself too, and is certified.
fn is_complete(server: &Server, count: usize) -> bool {
    let context = server.context();
    let issuing = context.replica.state();
    let issuers = issuing.state.issuers().filter(|issuer| issuer.phase == IssuerPhase::Live).count();
    context.replica.status().leadership.membership.voters.len() == count
        && issuers >= count
        && context.desk.issuer().is_some()
        && issuing.state.member(context.identity.node).is_some_and(|member| member.certificate.is_some())
}

/// What is still missing, in words.
fn incomplete(servers: &[Server], count: usize) -> String {
    let mut texts = Vec::new();
    for server in servers.iter().filter(|server| !is_complete(server, count)) {
        let context: &Arc<crate::server::context::Context> = server.context();
        let status = context.replica.status();
        let troubles: Vec<String> =
            context.troubles.list().into_iter().map(|(task, text)| format!("{task}: {text}")).collect();
        let issues = if context.desk.issuer().is_some() { "issues" } else { "has no issuer" };
        texts.push(format!(
            "server {} sees {} voters and {issues}; {}",
            context.identity.name,
            status.leadership.membership.voters.len(),
            troubles.join("; ")
        ));
    }
    texts.join(" | ")
}

/// Looks until it is so.
pub(super) async fn wait_until(
    name: &Name,
    is_so: impl Fn() -> bool,
    state: impl Fn() -> String,
) -> Result<(), DevError> {
    let deadline = Instant::now() + FORM_WITHIN;
    while !is_so() {
        if Instant::now() > deadline {
            return Err(DevError::NotFormed { name: name.clone(), state: state() });
        }
        sleep(LOOK).await;
    }
    Ok(())
}
