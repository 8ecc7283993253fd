//! What goes wrong in a year: the faults of a few minutes of another world, far apart, and a rotation each month or oftener. Nobody
//! sleeps through it: time passes for everybody.

use std::time::Duration;

use rand::RngExt;

use super::{
    Fault, Planned, agents,
    draw::{in_order, of_servers},
    rotations,
};
use crate::{
    random::{Seed, Stream},
    scenario::{Scenario, year::YEAR},
};

/// The world from which the faults of a whole year are taken.
const DRAWN_FROM: Duration = Duration::from_secs(240);
/// The rotations of a whole year.
const ROTATIONS: u32 = 16;
/// The plan of a year, or of the part of one that a scenario is.
pub fn plan(scenario: &Scenario, seed: Seed) -> Vec<Planned> {
    let stretch = YEAR.as_secs_f64() / DRAWN_FROM.as_secs_f64();
    let short = Scenario { chaos: scenario.chaos.div_f64(stretch), ..scenario.clone() };
    let mut plan = of_servers(&short, &mut seed.stream("faults of a year"));
    plan.extend(agents::plan(&short, &mut seed.stream("faults of agents in a year")));
    plan.retain(|planned| !matches!(planned.fault, Fault::Sleep(_)));
    for planned in &mut plan {
        planned.at = planned.at.mul_f64(stretch);
        planned.lasts *= scenario.slowness();
    }
    plan.retain(|planned| planned.at < scenario.chaos);
    plan.extend(of_rotations(scenario, &mut seed.stream("rotations of a year")));
    in_order(plan)
}

fn of_rotations(scenario: &Scenario, random: &mut Stream) -> Vec<Planned> {
    let (mut plan, mut at) = (Vec::new(), Duration::ZERO);
    loop {
        at += (YEAR / ROTATIONS).mul_f64(random.random_range(0.8..1.2));
        if at + DRAWN_FROM >= scenario.chaos {
            return plan;
        }
        rotations::add(&mut plan, at, scenario, random);
    }
}
