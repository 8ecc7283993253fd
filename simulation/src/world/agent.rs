//! A simulated agent: its disk and its clock, which outlive its processes, the software of its host, and what the world sees of it.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use carrack::{
    agent::{Agent, AgentOptions, AgentPorts, followed::Followed, leaf_cache::LeafCache},
    data_directory::Place,
    server::agent_token::AgentTokenText,
};
use tokio::time::Instant;

use super::{
    clock::HostClock,
    network::SimulatedNetwork,
    place::DiskPlace,
    server::{Phase, chain},
    shared::{Shared, Stage},
};
use crate::{
    crypto::{
        entropy::{ProcessStart, SeededEntropy},
        keys::SeededKeyMaker,
        registry::KeyRegistry,
    },
    disk::Disk,
    marks::Mark,
    trace::{Detail, Kind, Life},
    workloads,
};

/// Where an agent keeps its name: what is there when it has joined.
const ROOT: &str = "root";
/// An agent looks once a second what its clock shows.
const HIDDEN_MICROS: u64 = 2_000_000;
/// Where an agent answers the workloads of its host.
pub const HTTP_PORT: u16 = 8500;

/// An agent that may run.
pub struct AgentHost {
    /// The number of its datacenter.
    pub datacenter: usize,
    /// Its name in the datacenter.
    pub name: String,
    /// Its host.
    pub host: String,
    /// Its disk.
    pub disk: Disk,
    /// Its clock.
    pub clock: HostClock,
    process: Mutex<Process>,
}

/// What an agent's process is doing.
#[derive(Default)]
struct Process {
    token: Option<AgentTokenText>,
    starts: u32,
    phase: Phase,
    knows: Option<Knows>,
    followed: Following,
    /// When it started or woke last: what it answers since then is of after that.
    woke_at: u64,
    /// How many servers it had followed then.
    connections_when_it_woke: u32,
    /// Both as they were before it slept last.
    before_sleep: Option<(u64, u32)>,
    /// How many servers all of its processes have followed.
    all_connections: u32,
    /// When its clock was set back last.
    set_back_at: u64,
    /// Its machine is suspended: nothing on it does anything.
    is_asleep: bool,
    /// When something last befell the links or the machine of this host.
    disturbed_at: u64,
}

/// What a running agent knows.
#[derive(Clone)]
pub struct Knows {
    /// The bundle, tokens and intentions.
    pub followed: Arc<Followed>,
    /// The leaves of its workloads.
    pub leaves: Arc<LeafCache>,
}

/// Which server an agent says that it follows.
#[derive(Clone, Debug, Default)]
struct Following {
    connection: Option<Connection>,
    heard: Option<Instant>,
    former: Option<String>,
    connections: u32,
}

/// A server that an agent follows, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The server's host.
    pub server: String,
    /// Since when, in simulated microseconds.
    pub since: u64,
    /// When it heard it last.
    pub heard_at: u64,
}

impl AgentHost {
    /// An agent that has never run.
    pub fn new(datacenter: usize, name: &str, host: &str, disk: Disk, clock: HostClock) -> Self {
        Self { datacenter, name: name.into(), host: host.into(), disk, clock, process: Mutex::default() }
    }

    /// Lets the next start without data join with this token.
    pub fn will_join(&self, token: AgentTokenText) {
        let mut process = self.process();
        process.token = Some(token);
        process.phase = Phase::Off;
    }

    /// Whether the operator has ever given it a token.
    pub fn belongs(&self) -> bool {
        self.process().token.is_some()
    }

    /// Whether its disk is that of an agent.
    pub fn has_joined(&self) -> bool {
        self.disk.is_filled(ROOT)
    }

    /// Where its process is in its life.
    pub fn phase(&self) -> Phase {
        self.process().phase.clone()
    }

    /// Whether a process serves or starts.
    pub fn is_up(&self) -> bool {
        matches!(self.phase(), Phase::Starting | Phase::Running)
    }

    /// How often it was started.
    pub fn starts(&self) -> u32 {
        self.process().starts
    }

    /// What the running agent knows.
    pub fn knows(&self) -> Option<Knows> {
        self.process().knows.clone()
    }

    /// Which server it follows, as it says.
    pub fn connection(&self) -> Option<Connection> {
        self.process().followed.connection.clone()
    }

    /// How many servers all of its processes have followed.
    pub fn all_connections(&self) -> u32 {
        self.process().all_connections
    }

    /// When it started or woke last.
    pub fn woke_at(&self) -> u64 {
        self.process().woke_at
    }

    /// Whether a server was heard since then.
    pub fn has_heard_since_it_woke(&self) -> bool {
        let process = self.process();
        process.followed.connections > process.connections_when_it_woke
    }

    /// Whether it follows the first server since then.
    pub fn is_first_connection_since_it_woke(&self) -> bool {
        let process = self.process();
        process.followed.connections == process.connections_when_it_woke + 1
    }

    /// Sets its clock by so many milliseconds.
    pub fn step_clock(&self, milliseconds: i64, now: u64) {
        self.clock.step(milliseconds);
        if milliseconds < 0 {
            let mut process = self.process();
            process.set_back_at = now;
            // Set back before it has looked, it hides the sleep too.
            if let Some(before) = process.before_sleep.take().filter(|_| now < process.woke_at + HIDDEN_MICROS) {
                (process.woke_at, process.connections_when_it_woke) = before;
            }
        }
    }

    /// When something last befell its links, its machine, or every link.
    pub fn disturbed_at(&self) -> u64 {
        self.process().disturbed_at
    }

    /// Notes that something befalls its links or its machine.
    pub fn disturb(&self, now: u64) {
        self.process().disturbed_at = now;
    }

    /// Whether its machine is suspended.
    pub fn is_asleep(&self) -> bool {
        self.process().is_asleep
    }

    /// Suspends its machine: the caller cuts it off.
    pub fn fall_asleep(&self) {
        self.process().is_asleep = true;
    }

    /// Its machine goes on. A clock that was set back within the last second or two hides the sleep from it.
    pub fn wake(&self, now: u64) {
        let mut process = self.process();
        process.is_asleep = false;
        if process.set_back_at + HIDDEN_MICROS < now || process.set_back_at == 0 {
            process.before_sleep = Some((process.woke_at, process.connections_when_it_woke));
            process.woke_at = now;
            process.connections_when_it_woke = process.followed.connections;
        }
    }

    /// Forgets the process: it was killed.
    pub(super) fn killed(&self) {
        let mut process = self.process();
        (process.knows, process.followed) = (None, Following::default());
        if !matches!(process.phase, Phase::Refused(_)) {
            process.phase = Phase::Off;
        }
    }

    /// Notes that a process begins: its host is about to be started.
    pub(super) fn starting(&self, now: u64) {
        let mut process = self.process();
        process.starts += 1;
        (process.phase, process.woke_at, process.is_asleep) = (Phase::Starting, now, false);
        process.connections_when_it_woke = 0;
        process.before_sleep = None;
    }

    /// The software of its host: one process of the agent and the workloads beside it.
    pub(super) async fn run(self: Arc<Self>, shared: Arc<Shared>, keys: KeyRegistry) -> turmoil::Result {
        if self.phase() != Phase::Starting {
            return Ok(());
        }
        let join = self.process().token.clone().filter(|_| !self.has_joined());
        let how = if join.is_some() { "join" } else { "again" };
        let text = format!("starts ({how}), start {}", self.starts());
        shared.note_detail(&self.host, Kind::Process, Detail::Life(Life::Starting), text);
        let http = ([127, 0, 0, 1], HTTP_PORT).into();
        let options = AgentOptions { data_dir: PathBuf::from("/simulated"), http, join };
        match Agent::start(options, self.ports(&shared, keys)).await {
            Ok(agent) => self.serve(shared, &agent).await,
            Err(error) => {
                let reason = chain(&error);
                let text = format!("refuses to start: {reason}");
                shared.note_detail(&self.host, Kind::Process, Detail::Life(Life::Refused), text);
                self.process().phase = Phase::Refused(reason);
            }
        }
        Ok(())
    }

    async fn serve(self: Arc<Self>, shared: Arc<Shared>, agent: &Agent) {
        {
            let mut process = self.process();
            process.knows = Some(Knows { followed: agent.followed().clone(), leaves: agent.leaves().clone() });
            process.phase = Phase::Running;
        }
        shared.note_detail(&self.host, Kind::Process, Detail::Life(Life::Serving), "serves as an agent");
        workloads::beside_agent(&shared, &self).await;
        // The process ends with its host.
        std::future::pending().await
    }

    fn ports(&self, shared: &Shared, keys: KeyRegistry) -> AgentPorts {
        let start = ProcessStart::new(self.host.as_str(), self.starts().into());
        let disk = self.disk.clone();
        AgentPorts {
            wall_clock: Arc::new(self.clock.clone()),
            entropy: Arc::new(SeededEntropy::new(shared.seed, &start)),
            key_maker: Arc::new(SeededKeyMaker::new(shared.seed, &start, keys)),
            network: Arc::new(SimulatedNetwork),
            place: Arc::new(move |_| Ok(Arc::new(DiskPlace(disk.clone())) as Arc<dyn Place>)),
        }
    }

    /// Looks at which server it follows now. Compares times and never asks for one: the driver has none.
    pub(super) fn look(&self, shared: &Shared) {
        let mut process = self.process();
        let Some(knows) = &process.knows else { return };
        let (heard, now) = (knows.followed.heard(), shared.clock.micros());
        let server = heard.server.as_deref().map(|address| host_of(address).to_owned());
        let following = &mut process.followed;
        let is_new = server.as_ref() != following.connection.as_ref().map(|connection| &connection.server);
        if is_new {
            following.connection = server.map(|server| Connection { server, since: now, heard_at: now });
            following.heard = heard.at;
            let text = match &following.connection {
                Some(connection) => format!("follows {}", connection.server),
                None => "follows no server".into(),
            };
            shared.note(&self.host, Kind::State, text);
            let is_connected = following.connection.is_some();
            following.follow_marks(shared);
            process.all_connections += u32::from(is_connected);
        } else if heard.at != following.heard {
            following.heard = heard.at;
            match &mut following.connection {
                Some(connection) => connection.heard_at = now,
                // It has found a server and lost it again since the last look.
                None => {
                    following.connections += 1;
                    process.all_connections += 1;
                }
            }
        }
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Following {
    fn follow_marks(&mut self, shared: &Shared) {
        let Some(connection) = &self.connection else { return };
        self.connections += 1;
        let former = self.former.replace(connection.server.clone());
        if former.is_some_and(|former| former != connection.server) && shared.stage() < Stage::Resting {
            shared.mark(Mark::AgentChangedServer);
        }
    }
}

/// The host of an address with a port.
fn host_of(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}
