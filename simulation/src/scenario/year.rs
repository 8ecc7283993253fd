//! A year of a federation: three datacenters with five servers each, twelve rotations and more, four hundred generations of leaves, and
//! now and then something that goes wrong. Its leaves live for an hour, so that it all passes in eight days; a step of the world is as
//! long as ten of another one's.

use std::time::Duration;

use carrack::config::RaftSettings;
use carrack_authority::{ca_config::CaConfig, key::KeyKind};

use super::{Federation, Mesh, ROOT_TTL, Scenario};
use crate::{faults::plan_of_year, random::Seed};

/// The life of a leaf: the shortest that there is. It is renewed at half of it.
const LEAF_TTL: Duration = Duration::from_secs(3600);
/// The generations of leaves: those of leaves of 44 hours, which are renewed after 22, fill a year.
const GENERATIONS: u32 = 400;
/// How long a year is here.
pub const YEAR: Duration = Duration::from_secs(LEAF_TTL.as_secs() / 2 * GENERATIONS as u64);
/// How long issuers live here: each is renewed some thirty times.
const INTERMEDIATE_TTL: Duration = Duration::from_secs(12 * 3600);
/// How much time passes in a step.
const TICK: Duration = Duration::from_millis(100);
/// The servers of each datacenter.
const SERVERS: usize = 5;

impl Scenario {
    /// The year that `seed` decides, or so many hundredths of it.
    pub fn year(seed: u64, hundredths: u32) -> Self {
        let heartbeat_interval = Duration::from_secs(2);
        let mut scenario = Self {
            seed,
            servers: SERVERS,
            clients: 3,
            tick: TICK,
            chaos: YEAR * hundredths.clamp(1, 100) / 100,
            latency_min: Duration::from_millis(1),
            latency_max: Duration::from_millis(20),
            raft: RaftSettings {
                heartbeat_interval,
                election_timeout_min: heartbeat_interval * 5,
                election_timeout_max: heartbeat_interval * 10,
                snapshot_threshold: 2000,
                trailing_logs: 200,
            },
            ca: CaConfig {
                leaf_ttl: LEAF_TTL,
                intermediate_ttl: INTERMEDIATE_TTL,
                root_ttl: ROOT_TTL,
                key_kind: KeyKind::EcP256,
                csr_max_per_second: 0,
                csr_max_concurrent: 0,
            },
            think: Duration::from_secs(120),
            identities: 6,
            registers: 4,
            federation: Federation {
                secondaries: vec![SERVERS; 2],
                wan_latency: Duration::from_millis(80),
                ..Federation::default()
            },
            mesh: Mesh { agents: vec![0, 1, 2], allows_by_default: false },
            plan: Vec::new(),
        };
        scenario.plan = plan_of_year(&scenario, Seed(seed));
        scenario
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::{Action, Fault};

    #[test]
    fn it_has_its_rotations_and_its_generations_and_something_goes_wrong() {
        for seed in 0..20 {
            let year = Scenario::year(seed, 100);
            year.ca.validate().unwrap();
            assert_eq!(year.chaos, Duration::from_secs(200 * 3600));
            let is_rotation = |fault: &Fault| {
                use Action::{Rotate, RotateToOtherProvider, RotateWithoutBridge};
                matches!(fault, Fault::Operator(Rotate(_) | RotateWithoutBridge(_) | RotateToOtherProvider(_)))
            };
            let rotations = year.plan.iter().filter(|planned| is_rotation(&planned.fault)).count();
            assert!(rotations >= 12, "{rotations} rotations");
            assert!(year.plan.len() > 50 && year.plan.iter().all(|planned| planned.at < year.chaos));
            assert!(year.plan.iter().all(|planned| !matches!(planned.fault, Fault::Sleep(_))));
            let tenth = Scenario::year(seed, 10);
            assert!(tenth.chaos == year.chaos / 10 && tenth.plan.len() < year.plan.len() / 2);
        }
    }
}
