//! What a seed decides before anything runs: the size of the world, its times, which faults there are and how many.

pub mod year;

use std::time::Duration;

use carrack::config::RaftSettings;
use carrack_authority::{ca_config::CaConfig, key::KeyKind};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::{
    faults::{Planned, plan},
    random::{Seed, Stream},
};

/// Servers that may join the primary later.
const SPARES: usize = 2;
/// Servers that may join a secondary later.
const SPARES_OF_SECONDARY: usize = 1;
/// The most agents of a world: each host costs time in every step.
const AGENTS_MAX: usize = 3;

/// A time after which every leaf, issuer and server certificate has ended: issuers live for at most 30 days here, as server
/// certificates do.
pub(crate) const PAST_EVERY_CERTIFICATE: Duration = Duration::from_secs(31 * 86_400);

/// The step of a world that is quick: twice as long is not yet slow.
const QUICK_TICK: Duration = Duration::from_millis(10);

/// The life of a root that outlives everything: ten years.
const ROOT_TTL: Duration = Duration::from_secs(87_600 * 3600);

/// A world, before it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Where everything comes from.
    pub seed: u64,
    /// Servers at the beginning.
    pub servers: usize,
    /// Hosts of clients.
    pub clients: usize,
    /// How much time passes in a step of the world.
    pub tick: Duration,
    /// How long faults and workloads last.
    pub chaos: Duration,
    /// The shortest latency between two hosts.
    pub latency_min: Duration,
    /// The longest.
    pub latency_max: Duration,
    /// The servers' consensus.
    #[serde(with = "SavedRaftSettings")]
    pub raft: RaftSettings,
    /// The CA configuration.
    pub ca: CaConfig,
    /// The pause between two requests of one client.
    pub think: Duration,
    /// Identities that ask for leaves.
    pub identities: usize,
    /// Registers that are read and written.
    pub registers: usize,
    /// The other datacenters. Worlds that were saved before there were any have none.
    #[serde(default)]
    pub federation: Federation,
    /// The agents and what decides about connections. Worlds that were saved before there were any have none.
    #[serde(default)]
    pub mesh: Mesh,
    /// The faults, in the order of their beginnings.
    pub plan: Vec<Planned>,
}

/// What is there for workloads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mesh {
    /// The datacenter of each agent.
    pub agents: Vec<usize>,
    /// Whether a connection is allowed that no intention is about.
    pub allows_by_default: bool,
}

/// The datacenters beside the primary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Federation {
    /// The secondaries, each with so many servers at the beginning.
    pub secondaries: Vec<usize>,
    /// The latency between datacenters.
    pub wan_latency: Duration,
    /// For how long a secondary honours tokens of all datacenters without having heard of the primary; none: for ever.
    pub token_staleness_max: Option<Duration>,
    /// For how long a secondary issues without having heard of the primary, which may have halted it; none: for ever. Worlds that were
    /// saved before there was a bound have none.
    #[serde(default)]
    pub halt_staleness_max: Option<Duration>,
    /// The most records of one change of what is followed; zero: as many as outside of the simulator.
    pub followed_records: usize,
    /// The changes of what is followed that are remembered; zero: as many as outside of the simulator.
    pub remembered_changes: usize,
    /// How much time passes before the secondaries wake without the primary, when everything else has been healed; none: the primary
    /// is not lost.
    pub left_alone: Option<Duration>,
}

impl Scenario {
    /// What `seed` decides.
    pub fn derive(seed: u64) -> Self {
        let mut random = Seed(seed).stream("scenario");
        let servers = if random.random_ratio(1, 4) { 5 } else { 3 };
        let tick = Duration::from_millis(random.random_range(4..=12));
        let latency_min = Duration::from_millis(random.random_range(1..=4));
        let latency_max = latency_min + Duration::from_millis(random.random_range(1..=30));
        // Many short worlds find more than few long ones; some faults need their time.
        let chaos = Duration::from_secs(if random.random_ratio(1, 16) {
            random.random_range(90..=240)
        } else {
            random.random_range(12..=45)
        });
        let mut scenario = Self {
            seed,
            servers,
            clients: random.random_range(1..=3),
            tick,
            chaos,
            latency_min,
            latency_max,
            raft: raft(&mut random),
            ca: ca(&mut random),
            think: Duration::from_millis(random.random_range(40..=600)),
            identities: random.random_range(2..=8),
            registers: random.random_range(1..=4),
            federation: Federation::default(),
            mesh: Mesh::default(),
            plan: Vec::new(),
        };
        scenario.federation = federation(&mut Seed(seed).stream("federation"), &scenario.ca);
        scenario.federation.halt_staleness_max =
            halt_staleness_max(&mut Seed(seed).stream("halts"), &scenario.federation);
        let rest = scenario.ca.root_ttl - scenario.ca.intermediate_ttl * 2;
        scenario.federation.left_alone = scenario.federation.left_alone.map(|asleep| asleep.min(rest));
        // Each datacenter has a client at least.
        scenario.clients = scenario.clients.max(scenario.datacenters());
        scenario.mesh = mesh(&mut Seed(seed).stream("mesh"), scenario.datacenters());
        scenario.plan = plan(&scenario, Seed(seed));
        scenario
    }

    /// How often a time of a quick world passes before as much has happened in this one: by its steps.
    pub fn slowness(&self) -> u32 {
        u32::try_from(self.tick.as_millis() / QUICK_TICK.as_millis()).unwrap_or(u32::MAX).max(1)
    }

    /// How many datacenters there are. The primary has the number 0.
    pub fn datacenters(&self) -> usize {
        1 + self.federation.secondaries.len()
    }

    /// How many servers a datacenter has at the beginning.
    pub fn servers_of(&self, datacenter: usize) -> usize {
        let secondary = datacenter.checked_sub(1).and_then(|number| self.federation.secondaries.get(number));
        secondary.copied().unwrap_or(self.servers)
    }

    /// How many hosts of a datacenter may run a server.
    pub fn hosts_of(&self, datacenter: usize) -> usize {
        self.servers_of(datacenter) + if datacenter == 0 { SPARES } else { SPARES_OF_SECONDARY }
    }

    /// The datacenter in which a client lives.
    pub fn datacenter_of_client(&self, number: usize) -> usize {
        number % self.datacenters()
    }
}

/// Half of the worlds have agents, each in any datacenter.
fn mesh(random: &mut Stream, datacenters: usize) -> Mesh {
    let count = if random.random_ratio(1, 2) { random.random_range(1..=AGENTS_MAX) } else { 0 };
    let agents = (0..count).map(|_| random.random_range(0..datacenters)).collect();
    Mesh { agents, allows_by_default: random.random_ratio(1, 3) }
}

/// A third of the worlds has secondaries: what happens within one datacenter is found in small worlds.
fn federation(random: &mut Stream, ca: &CaConfig) -> Federation {
    if !random.random_ratio(1, 3) {
        return Federation::default();
    }
    let count = if random.random_ratio(1, 5) { 2 } else { 1 };
    let secondaries = (0..count).map(|_| if random.random_ratio(1, 3) { 1 } else { 3 }).collect();
    Federation {
        secondaries,
        wan_latency: Duration::from_millis(random.random_range(5..=120)),
        // Drawn from a stream of its own.
        halt_staleness_max: None,
        token_staleness_max: random.random_ratio(1, 3).then(|| Duration::from_secs(random.random_range(60..=600))),
        followed_records: if random.random_ratio(1, 2) { random.random_range(1..=12) } else { 0 },
        remembered_changes: if random.random_ratio(1, 2) { random.random_range(2..=40) } else { 0 },
        left_alone: random.random_ratio(2, 3).then(|| left_alone(random, ca)),
    }
}

/// A third of the worlds with secondaries has a bound.
fn halt_staleness_max(random: &mut Stream, federation: &Federation) -> Option<Duration> {
    let is_bound = !federation.secondaries.is_empty() && random.random_ratio(1, 3);
    is_bound.then(|| Duration::from_secs(random.random_range(60..=600)))
}

/// A minute, until after half of the issuers' life, or past the end of every certificate but the roots.
fn left_alone(random: &mut Stream, ca: &CaConfig) -> Duration {
    match random.random_range(0..3) {
        0 => Duration::from_secs(random.random_range(0..60)),
        1 => ca.intermediate_ttl.mul_f64(random.random_range(0.6..0.9)),
        _ => PAST_EVERY_CERTIFICATE,
    }
}

fn raft(random: &mut Stream) -> RaftSettings {
    let heartbeat = Duration::from_millis(random.random_range(80..=300));
    let election_timeout_min = heartbeat * random.random_range(4..=6);
    RaftSettings {
        heartbeat_interval: heartbeat,
        election_timeout_min,
        election_timeout_max: election_timeout_min * 2,
        snapshot_threshold: random.random_range(20..=400),
        trailing_logs: random.random_range(0..=100),
    }
}

fn ca(random: &mut Stream) -> CaConfig {
    let leaf_ttl = Duration::from_secs(3600 * random.random_range(1..=24));
    // Often the shortest that is possible: then leaves reach the end of their issuers.
    let intermediate_ttl = leaf_ttl * if random.random_ratio(1, 2) { 3 } else { random.random_range(3..=30) };
    CaConfig {
        leaf_ttl,
        intermediate_ttl,
        // Half of the roots live as long as Consul's, so that a datacenter may sleep past everything below them.
        root_ttl: if random.random_ratio(1, 2) { ROOT_TTL } else { intermediate_ttl * random.random_range(2..=20) },
        key_kind: match random.random_range(0..10) {
            0 => KeyKind::EcP384,
            1 => KeyKind::Ed25519,
            _ => KeyKind::EcP256,
        },
        csr_max_per_second: if random.random_ratio(1, 5) { random.random_range(3..=30) } else { 0 },
        csr_max_concurrent: 0,
    }
}

/// The settings of consensus in a file: the product reads and writes them only as its own configuration.
#[derive(Serialize, Deserialize)]
#[serde(remote = "RaftSettings", deny_unknown_fields)]
struct SavedRaftSettings {
    heartbeat_interval: Duration,
    election_timeout_min: Duration,
    election_timeout_max: Duration,
    snapshot_threshold: u64,
    trailing_logs: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_derives_the_same_scenario_and_its_bounds_hold() {
        for seed in 0..300 {
            let scenario = Scenario::derive(seed);
            let again = serde_json::to_string(&Scenario::derive(seed)).unwrap();
            assert_eq!(serde_json::from_str::<Scenario>(&again).unwrap(), scenario);
            assert_eq!(serde_json::to_string(&scenario).unwrap(), again);
            scenario.ca.validate().unwrap();
            assert!(scenario.raft.election_timeout_min >= scenario.raft.heartbeat_interval * 3);
            assert!(scenario.clients >= scenario.datacenters());
            assert!(scenario.plan.iter().all(|planned| planned.datacenter < scenario.datacenters()));
            assert!(scenario.federation.halt_staleness_max.is_none() || scenario.datacenters() > 1);
            assert!(scenario.mesh.agents.len() <= AGENTS_MAX);
            assert!(scenario.mesh.agents.iter().all(|home| *home < scenario.datacenters()));
        }
    }
}
