//! What a seed decides before anything runs: the size of the world, its times, which faults there are and how many.

use std::time::Duration;

use carrack::config::RaftSettings;
use carrack_authority::{ca_config::CaConfig, key::KeyKind};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::{
    faults::{Planned, plan},
    random::{Seed, Stream},
};

/// Servers that may join later.
pub const SPARES: usize = 2;

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
    /// The faults, in the order of their beginnings.
    pub plan: Vec<Planned>,
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
            plan: Vec::new(),
        };
        scenario.plan = plan(&scenario, &mut Seed(seed).stream("faults"));
        scenario
    }

    /// How many hosts may run a server.
    pub fn hosts(&self) -> usize {
        self.servers + SPARES
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
        }
    }
}
