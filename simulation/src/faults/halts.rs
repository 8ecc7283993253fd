//! Halts in the primary of a world of several datacenters: every other one hears of them at once, or late when it is cut off.

use std::time::Duration;

use rand::RngExt;

use super::{Action, Fault, Planned, Way, draw::seconds};
use crate::{random::Stream, scenario::Scenario, world::PRIMARY};

/// The most halts of the primary in one world.
const HALTS_MAX: u32 = 2;

/// The halts of a seed: half of the worlds with several datacenters have some. Each ends while the primary is still there.
pub(super) fn plan(scenario: &Scenario, random: &mut Stream) -> Vec<Planned> {
    let mut plan = Vec::new();
    if scenario.datacenters() == 1 || random.random_ratio(1, 2) {
        return plan;
    }
    for _ in 0..random.random_range(1..=HALTS_MAX) {
        let at = scenario.chaos.mul_f64(random.random_range(0.0..0.6));
        let lasts = seconds(random, 1.0, 8.0).min(scenario.chaos.mul_f64(0.2));
        let mut put = |at: Duration, lasts: Duration, fault: Fault| {
            plan.push(Planned { number: 0, at, lasts, datacenter: PRIMARY, fault });
        };
        put(at, lasts, Fault::Operator(Action::Halt));
        if random.random_ratio(1, 2) {
            // Nobody hears of it before it is over, or long after.
            let (before, after) = (seconds(random, 0.0, 0.5), seconds(random, 0.0, 12.0));
            put(at.saturating_sub(before), lasts + after, Fault::Wan(Way::Both));
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seed;

    #[test]
    fn worlds_of_several_datacenters_have_halts_of_the_primary_that_end_in_time_and_others_have_none() {
        let (mut halts, mut cuts) = (0, 0);
        for seed in 0..300 {
            let scenario = Scenario::derive(seed);
            let plan = plan(&scenario, &mut Seed(seed).stream("halts of the primary"));
            assert!(plan.is_empty() || scenario.datacenters() > 1);
            for Planned { at, lasts, datacenter, fault, .. } in plan {
                assert_eq!(datacenter, PRIMARY);
                match fault {
                    Fault::Operator(Action::Halt) => {
                        assert!(at + lasts < scenario.chaos);
                        halts += 1;
                    }
                    _ => cuts += 1,
                }
            }
        }
        assert!(halts > cuts && cuts > 10, "{halts} halts, {cuts} of them cut off");
    }
}
