//! Rotations of the root, and what befalls them: the leader falls after one of their steps, and an operator takes some of them back.

use std::time::Duration;

use rand::{RngExt, seq::IndexedRandom};

use super::{
    Action, Fault, Planned, RotatedKey, Step,
    draw::{gap, seconds},
};
use crate::{random::Stream, scenario::Scenario, world::PRIMARY};

/// The number of rotations in a minute where there are any and their rate is the middle one.
const EACH_MINUTE: f64 = 3.0;

/// The rotations of a seed: half of the worlds have none.
pub(super) fn plan(scenario: &Scenario, random: &mut Stream) -> Vec<Planned> {
    let mut plan = Vec::new();
    if random.random_ratio(1, 2) {
        return plan;
    }
    let rate = EACH_MINUTE * random.random_range(0.5..3.0) / 60.0;
    let mut at = gap(random, rate);
    while at < scenario.chaos {
        add(&mut plan, at, scenario, random);
        at += gap(random, rate);
    }
    plan
}

/// Adds a rotation, and what befalls it.
pub(super) fn add(plan: &mut Vec<Planned>, at: Duration, scenario: &Scenario, random: &mut Stream) {
    let key = *RotatedKey::ALL.choose(random).expect("there are kinds");
    let mut put = |at: Duration, lasts: Duration, datacenter: usize, fault: Fault| {
        plan.push(Planned { number: 0, at, lasts, datacenter, fault });
    };
    if random.random_ratio(1, 2) {
        let step = *Step::OF_ROTATIONS.choose(random).expect("there are steps");
        let (datacenter, lasts) = (random.random_range(0..scenario.datacenters()), seconds(random, 0.0, 4.0));
        let datacenter = if step == Step::ActivationFollowed { datacenter } else { PRIMARY };
        put(at, lasts, datacenter, Fault::Trap(step));
    }
    let rotate = match random.random_range(0..6) {
        0 => Action::RotateWithoutBridge,
        1 | 2 => Action::RotateToOtherProvider,
        _ => Action::Rotate,
    };
    put(at, Duration::ZERO, PRIMARY, Fault::Operator(rotate(key)));
    if random.random_ratio(1, 3) {
        let back = at + seconds(random, 0.1, 8.0);
        put(back, Duration::ZERO, PRIMARY, Fault::Operator(Action::RollBack));
    }
}
