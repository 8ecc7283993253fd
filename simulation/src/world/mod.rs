//! A world: hosts of servers and clients on one simulated network, the faults that are planned for it, and the checks after every
//! step. It forms a datacenter, lives through its faults, is healed in part, and must come to rest.

pub mod agent;
pub mod clock;
mod ending;
pub mod network;
pub mod place;
mod roles;
pub mod server;
pub mod shared;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use carrack::config::{self, Config, Layers, Purpose};
use carrack_authority::planted;
use rand::RngExt;

pub use self::ending::Report;
use self::{
    agent::AgentHost,
    clock::{HostClock, WorldClock},
    roles::Roles,
    server::{Phase, Server},
    shared::{Order, Shared, Stage},
};
use crate::{
    crypto::{outside::OutsideProvider, registry::KeyRegistry},
    disk::Disk,
    faults::Injector,
    invariants::Invariants,
    random::{Seed, Stream},
    scenario::Scenario,
    trace::{Detail, Keep, Kind, Life},
    workloads,
};

/// The number of the primary among the datacenters of a world.
pub const PRIMARY: usize = 0;
/// How long all datacenters may take to form without faults.
const FORMED_WITHIN: Duration = Duration::from_secs(120);
/// How long the secondaries may take to issue, or to refuse with the reason, when the primary is lost: elections, and time for the
/// clients' patience.
const ALONE_WITHIN: Duration = Duration::from_secs(60);
/// How long a healed core may take to come to rest, besides ten election timeouts.
const RESTED_WITHIN: Duration = Duration::from_secs(60);
/// How long everything may take after that: the operator's last jobs end within their own time.
const DONE_WITHIN: Duration = Duration::from_secs(180);

/// A world.
pub struct World {
    sim: turmoil::Sim<'static>,
    shared: Arc<Shared>,
    injector: Injector,
    invariants: Invariants,
    roles: Roles,
    random: Stream,
}

impl World {
    /// Builds the world of a scenario. Nothing runs yet. One world in a process: consensus draws from one source of it.
    pub fn build(scenario: Scenario, keep: Keep) -> Self {
        let seed = Seed(scenario.seed);
        carrack_raft::runtime::seed(scenario.seed);
        planted::lower(planted::Bound::FollowedRecords, scenario.federation.followed_records);
        planted::lower(planted::Bound::RememberedChanges, scenario.federation.remembered_changes);
        let mut sim = turmoil::Builder::new()
            .rng_seed(scenario.seed)
            .enable_random_order()
            .simulation_duration(Duration::from_secs(1 << 30))
            .tick_duration(scenario.tick)
            .min_message_latency(scenario.latency_min)
            .max_message_latency(scenario.latency_max)
            .tcp_capacity(1 << 16)
            .build();
        let clock = WorldClock::default();
        let servers = servers(&scenario, &clock);
        let agents = agents(&scenario, &clock);
        let shared = Arc::new(Shared::new(scenario, clock, servers, agents, keep));
        let keys = KeyRegistry::default();
        let outside = Arc::new(OutsideProvider::new(seed, keys.clone()));
        for server in shared.servers.values() {
            let (server, shared, keys) = (server.clone(), shared.clone(), keys.clone());
            let (host, outside) = (server.host.clone(), outside.clone());
            sim.host(host, move || server.clone().run(shared.clone(), keys.clone(), outside.clone()));
        }
        for agent in shared.agents.values() {
            let (agent, shared, keys) = (agent.clone(), shared.clone(), keys.clone());
            sim.host(agent.host.clone(), move || agent.clone().run(shared.clone(), keys.clone()));
        }
        workloads::hosts(&mut sim, &shared);
        lengthen_wan(&sim, &shared);
        let injector = Injector::new(shared.clone());
        let invariants = Invariants::new(shared.clone(), keys);
        Self { sim, shared, injector, invariants, roles: Roles::default(), random: seed.stream("driver") }
    }

    /// What the hosts and the driver share; it outlives the run.
    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Runs the world to its end, or to the first thing that must not be.
    pub fn run(mut self) -> Report {
        let first = host_name(PRIMARY, "a");
        self.shared.servers[&first].will_bootstrap();
        self.shared.order(Order::Start(first));
        let formed = self.until("the datacenters form", FORMED_WITHIN * self.slowness(), workloads::is_formed);
        if formed {
            self.live_through_faults();
        }
        if let Some(asleep) = self.shared.scenario.federation.left_alone.filter(|_| self.shared.holds()) {
            self.leave_alone(asleep);
        }
        if self.shared.holds() {
            self.rest();
        }
        self.shared.book().check_history(&self.shared);
        self.invariants.finish();
        Report::of(&self.shared)
    }

    fn live_through_faults(&mut self) {
        let begin = self.sim.elapsed();
        let end = begin + self.shared.scenario.chaos;
        self.injector.begin(begin);
        while self.sim.elapsed() < end && self.shared.holds() {
            self.step();
            self.injector.step(&mut self.sim);
        }
    }

    /// The secondaries are healed and the primary is lost: they issue, or say why they cannot.
    fn leave_alone(&mut self, asleep: Duration) {
        self.injector.lose_primary(&mut self.sim, asleep);
        self.shared.set_stage(Stage::Alone);
        let within = ALONE_WITHIN * self.slowness();
        self.until("every secondary issues without the primary, or says why not", within, workloads::stand_alone);
    }

    /// Faults end; a majority is healed, in half of the worlds the rest stays away for ever; then everything comes to rest.
    fn rest(&mut self) {
        let is_whole = self.random.random_ratio(1, 2);
        self.injector.heal(&mut self.sim, is_whole);
        self.shared.set_stage(Stage::Proving);
        let timeouts = self.shared.scenario.raft.election_timeout_max * 10;
        let rested = timeouts + RESTED_WITHIN * self.slowness();
        if self.until("the healed core elects, writes and reads", rested, workloads::is_live) {
            self.shared.set_stage(Stage::Resting);
            self.until(
                "every member has applied everything and nothing is left to do",
                DONE_WITHIN * self.slowness(),
                workloads::is_at_rest,
            );
        }
    }

    fn slowness(&self) -> u32 {
        self.shared.scenario.slowness()
    }

    /// Steps until a condition holds; that it never does is a violation of liveness.
    fn until(&mut self, what: &str, within: Duration, mut holds: impl FnMut(&Shared) -> bool) -> bool {
        let deadline = self.sim.elapsed() + within;
        while self.shared.holds() {
            self.step();
            self.injector.look_after(&mut self.sim);
            if holds(&self.shared) {
                return true;
            }
            if self.sim.elapsed() > deadline {
                let standing = workloads::standing(&self.shared);
                self.shared.violate("liveness", format!("not within {} s: {what}; {standing}", within.as_secs()));
            }
        }
        false
    }

    fn step(&mut self) {
        match catch_unwind(AssertUnwindSafe(|| self.sim.step())) {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => self.shared.violate("no_panic", format!("a host's software failed: {error}")),
            Err(panic) => self.shared.violate("no_panic", format!("a host panicked: {}", panic_text(&*panic))),
        }
        self.shared.clock.set(self.sim.elapsed());
        self.roles.follow(&self.shared);
        self.shared.agents.values().for_each(|agent| agent.look(&self.shared));
        self.end_the_dying();
        self.obey();
        self.invariants.step();
    }

    /// A server that ended itself takes its host with it.
    fn end_the_dying(&mut self) {
        let dying = self.shared.servers.values().filter(|server| matches!(server.phase(), Phase::Fatal(_)));
        let dying: Vec<Arc<Server>> = dying.filter(|server| server.context().is_some()).cloned().collect();
        for server in dying {
            self.sim.crash(server.host.as_str());
            server.killed();
            self.shared.disturb(&server.host);
        }
    }

    fn obey(&mut self) {
        for order in self.shared.take_orders() {
            match order {
                Order::Start(host) => start(&mut self.sim, &self.shared, &host),
                Order::Kill(host) => kill(&mut self.sim, &self.shared, &host, Power::Stays),
                Order::Wipe(host) => {
                    kill(&mut self.sim, &self.shared, &host, Power::Stays);
                    self.shared.disk(&host).wipe();
                    self.shared.note(&host, Kind::Process, "has an empty disk");
                }
            }
        }
    }
}

/// Whether a killed process takes its machine with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    /// What was written is still in the operating system.
    Stays,
    /// What was not synced may be gone.
    Goes,
}

/// Starts the process of a server or an agent, unless there is one.
pub(crate) fn start(sim: &mut turmoil::Sim<'static>, shared: &Shared, host: &str) {
    if let Some(agent) = shared.agents.get(host) {
        if !agent.is_up() {
            agent.starting(shared.clock.micros());
            sim.bounce(host);
        }
        return;
    }
    let server = &shared.servers[host];
    if !server.is_up() {
        server.starting();
        sim.bounce(host);
    }
}

/// Ends the process of a server or an agent at once.
pub(crate) fn kill(sim: &mut turmoil::Sim<'static>, shared: &Shared, host: &str, power: Power) {
    sim.crash(host);
    let disk = shared.disk(host);
    match power {
        Power::Stays => disk.kill(),
        Power::Goes => disk.crash(),
    }
    match shared.agents.get(host) {
        Some(agent) => agent.killed(),
        None => shared.servers[host].killed(),
    }
    shared.disturb(host);
    let how = if power == Power::Goes { "loses its power" } else { "is killed" };
    shared.note_detail(host, Kind::Process, Detail::Life(Life::Gone), how);
}

/// The name of a datacenter.
pub fn datacenter_name(datacenter: usize) -> String {
    format!("dc{}", datacenter + 1)
}

/// The host of a datacenter's server of that name.
pub fn host_name(datacenter: usize, server: &str) -> String {
    format!("{}-{server}", datacenter_name(datacenter))
}

/// Sets the latency between servers of different datacenters.
fn lengthen_wan(sim: &turmoil::Sim<'static>, shared: &Shared) {
    for one in shared.servers.values() {
        for other in shared.servers.values().filter(|other| other.datacenter > one.datacenter) {
            sim.set_link_latency(one.host.as_str(), other.host.as_str(), shared.scenario.federation.wan_latency);
        }
    }
}

fn servers(scenario: &Scenario, clock: &WorldClock) -> BTreeMap<String, Arc<Server>> {
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let of_datacenter =
        |datacenter| names.iter().take(scenario.hosts_of(datacenter)).map(move |name| (datacenter, *name));
    let servers = (0..scenario.datacenters()).flat_map(of_datacenter).map(|(datacenter, name)| {
        let host = host_name(datacenter, name);
        let disk = Disk::new(&host, Seed(scenario.seed));
        let config = config(scenario, datacenter, name, &host);
        let server = Server::new(datacenter, name, &host, disk, HostClock::new(clock.clone()), config);
        (host, Arc::new(server))
    });
    servers.collect()
}

fn agents(scenario: &Scenario, clock: &WorldClock) -> BTreeMap<String, Arc<AgentHost>> {
    let homes = scenario.mesh.agents.iter().enumerate().map(|(number, datacenter)| {
        let name = format!("agent{}", number + 1);
        let host = host_name(*datacenter, &name);
        let disk = Disk::new(&host, Seed(scenario.seed));
        let agent = AgentHost::new(*datacenter, &name, &host, disk, HostClock::new(clock.clone()));
        (host, Arc::new(agent))
    });
    homes.collect()
}

fn config(scenario: &Scenario, datacenter: usize, name: &str, host: &str) -> Config {
    let is_alone = scenario.federation.secondaries.is_empty();
    let mut flags = BTreeMap::from([
        ("data_dir", "/simulated".to_owned()),
        ("node_name", name.to_owned()),
        ("datacenter", datacenter_name(datacenter)),
        ("without_recovery", "true".to_owned()),
        ("listen.address", "0.0.0.0".to_owned()),
        ("advertise.address", host.to_owned()),
    ]);
    if is_alone {
        flags.insert("listen.wan", "off".to_owned());
    }
    if scenario.mesh.allows_by_default {
        flags.insert("default_intention_policy", "allow".to_owned());
    }
    if let Some(most) = scenario.federation.token_staleness_max {
        flags.insert("acl.token_staleness_max", format!("{}s", most.as_secs()));
    }
    if let Some(most) = scenario.federation.halt_staleness_max {
        flags.insert("ca.halt_staleness_max", format!("{}s", most.as_secs()));
    }
    let layers = Layers { file: None, environment: BTreeMap::new(), flags };
    let mut config =
        config::load(&layers, Purpose::Bootstrap).expect("the settings of a simulated server are right").config;
    config.raft = scenario.raft;
    config.ca = scenario.ca;
    config
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "with no text".into())
}
