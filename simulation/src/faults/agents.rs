//! What befalls agents: they die, are cut off, sleep alone, have wrong clocks and full disks, and start while no server is there.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::{
    Fault, Planned,
    draw::{gap, seconds},
    inject::{Cure, Injector, Sim, both_ways, healthy},
};
use crate::{disk::DiskFaults, random::Stream, scenario::Scenario};

/// A class of faults of agents.
type Draw = fn(&mut Stream) -> (AgentFault, Duration);

/// What befalls an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentFault {
    /// Its process is killed, and started again at the end.
    Kill,
    /// It and the servers do not reach each other.
    Cut,
    /// Everything between it and the servers is held back, and delivered at the end.
    Stall,
    /// Its machine is suspended until the end; by its clock it was so many milliseconds longer.
    Sleep(u64),
    /// Its clock is moved by so many milliseconds, and back at the end.
    ClockStep(i64),
    /// Its clock runs too fast by so many parts in a million.
    ClockDrift(i64),
    /// There is no room on its disk.
    FullDisk,
}

/// Every class, with the number of its faults in a minute where it is on and its rate is the middle one.
const CLASSES: &[(f64, Draw)] = &[
    (2.0, |random| (AgentFault::Kill, seconds(random, 0.0, 4.0))),
    (0.5, |random| (AgentFault::Kill, seconds(random, 6.0, 30.0))),
    (2.0, |random| (AgentFault::Cut, seconds(random, 0.5, 20.0))),
    (1.0, |random| (AgentFault::Stall, seconds(random, 0.2, 6.0))),
    (1.5, |random| (AgentFault::Sleep(random.random_range(61_000..=600_000)), seconds(random, 2.5, 12.0))),
    (1.0, |random| (AgentFault::ClockStep(step(random)), seconds(random, 1.0, 20.0))),
    (0.7, |random| (AgentFault::ClockDrift(random.random_range(-20_000..=20_000)), seconds(random, 5.0, 30.0))),
    (0.7, |random| (AgentFault::FullDisk, seconds(random, 1.0, 20.0))),
];

impl AgentFault {
    /// The class that a report counts it in.
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Kill => "agent kill",
            Self::Cut => "agent cut off",
            Self::Stall => "agent stall",
            Self::Sleep(_) => "agent sleep",
            Self::ClockStep(_) => "agent clock step",
            Self::ClockDrift(_) => "agent clock drift",
            Self::FullDisk => "agent disk full",
        }
    }
}

fn step(random: &mut Stream) -> i64 {
    let size = match random.random_range(0..2) {
        0 => random.random_range(100..=59_000),
        _ => random.random_range(61_000..=1_500_000),
    };
    if random.random_ratio(1, 2) { size } else { -size }
}

/// What befalls the agents of a world.
pub(super) fn plan(scenario: &Scenario, random: &mut Stream) -> Vec<Planned> {
    let mut plan = Vec::new();
    let agents = scenario.mesh.agents.len();
    if agents == 0 {
        return plan;
    }
    let mut add = |at, lasts, agent: usize, fault| {
        let (datacenter, fault) = (scenario.mesh.agents[agent], Fault::Agent(agent, fault));
        plan.push(Planned { number: 0, at, lasts, datacenter, fault });
    };
    for (each_minute, draw) in CLASSES {
        if random.random_ratio(1, 2) {
            continue;
        }
        let rate = each_minute * random.random_range(0.3..3.0) / 60.0;
        let mut at = gap(random, rate);
        while at < scenario.chaos {
            let (agent, (fault, lasts)) = (random.random_range(0..agents), draw(random));
            add(at, lasts, agent, fault);
            // Half of those that die come back while no server is there.
            if fault == AgentFault::Kill && random.random_ratio(1, 2) {
                add(at, lasts + seconds(random, 1.0, 12.0), agent, AgentFault::Cut);
            }
            at += gap(random, rate);
        }
    }
    plan
}

impl Injector {
    /// Begins a fault of an agent; `None` if it has no token yet or is away.
    pub(super) fn befall(&mut self, sim: &mut Sim, agent: usize, fault: AgentFault) -> Option<(String, Option<Cure>)> {
        let agent = self.shared.agents.values().nth(agent).filter(|agent| agent.belongs())?.clone();
        let (class, host, now) = (fault.class(), agent.host.clone(), self.shared.clock.micros());
        match fault {
            AgentFault::Kill => {
                self.kill(sim, &host);
                Some((format!("{class}: {host}"), Some(Cure::Start(vec![host]))))
            }
            AgentFault::Cut => {
                let pairs = both_ways(&self.to_servers(&host));
                self.cut(sim, class, pairs)
            }
            AgentFault::Stall => {
                let others = self.others(&host);
                let is_stalled = self.links.stall(sim, &host, &others);
                is_stalled.then(|| (format!("{class} of {host}"), Some(Cure::Release(host))))
            }
            AgentFault::Sleep(longer) => {
                if !agent.is_up() || agent.is_asleep() {
                    return None;
                }
                let longer = i64::try_from(longer).unwrap_or(i64::MAX);
                let directions = self.links.cut(sim, &both_ways(&self.to_servers(&host)));
                agent.fall_asleep();
                agent.step_clock(-longer, now);
                let text = format!("{class}: {host}, {longer} ms longer by its clock");
                Some((text, Some(Cure::Wake(host, longer, directions))))
            }
            AgentFault::ClockStep(milliseconds) => {
                agent.step_clock(milliseconds, now);
                let text = format!("{class} of {host} by {milliseconds} ms");
                Some((text, Some(Cure::TurnBack(host, milliseconds))))
            }
            AgentFault::ClockDrift(rate) => {
                agent.clock.set_drift(rate);
                Some((format!("{class} of {host} by {rate} ppm"), Some(Cure::Steady(host))))
            }
            AgentFault::FullDisk => {
                agent.disk.set_faults(DiskFaults { capacity_bytes: Some(0), ..healthy() });
                Some((format!("{class}: {host}"), Some(Cure::CalmDisk(host))))
            }
        }
    }

    fn to_servers(&self, host: &str) -> Vec<(String, String)> {
        self.shared.servers.keys().map(|server| (host.to_owned(), server.clone())).collect()
    }

    /// The agent's machine goes on: by its clock it has slept for long.
    pub(super) fn wake(&mut self, sim: &Sim, host: &str, longer: i64, directions: &[(String, String)]) {
        let agent = self.shared.agents[host].clone();
        self.links.mend(sim, directions);
        // One that was killed in its sleep has started with this clock.
        agent.clock.step(longer);
        agent.wake(self.shared.clock.micros());
        self.shared.note(host, crate::trace::Kind::Heal, "wakes");
    }

    /// Every machine of a datacenter sleeps or is off for so long: of each agent the one or the other.
    pub(super) fn let_agents_sleep(&mut self, sim: &mut Sim) -> Vec<String> {
        let mut off = Vec::new();
        for agent in self.shared.agents.values().filter(|agent| agent.belongs()).cloned().collect::<Vec<_>>() {
            if self.random.random_ratio(1, 2) {
                self.kill(sim, &agent.host);
                off.push(agent.host.clone());
            } else {
                agent.wake(self.shared.clock.micros());
            }
        }
        off
    }
}
