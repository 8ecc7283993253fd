//! Draws the plan of a seed: about half of the classes are off in any one, the others have a rate of their own.

use std::{ops::RangeInclusive, time::Duration};

use rand::{RngExt, seq::IndexedRandom};

use super::{Action, Damage, DiskTrouble, Fault, Planned, Step, Target, Way, agents, halts, rotations};
use crate::{
    random::{Seed, Stream},
    scenario::{PAST_EVERY_CERTIFICATE, Scenario},
    world::PRIMARY,
};

/// A class of faults: how one of it is drawn, and how long it lasts.
type Draw = fn(&mut Stream, &Scenario) -> (Fault, Duration);

/// Seconds of a sleep past the end of every certificate but the roots.
const LONG_SLEEP: RangeInclusive<u64> = PAST_EVERY_CERTIFICATE.as_secs()..=45 * 86_400;

/// Every class, with the number of its faults in a minute where it is on and its rate is the middle one.
const CLASSES: &[(f64, Draw)] = &[
    (2.0, partition),
    (1.5, one_way),
    (1.0, leader_in_minority),
    (0.5, |random, _| (Fault::Flap(target(random), random.random_range(2..=8)), Duration::ZERO)),
    (0.5, |random, _| (Fault::Ring, seconds(random, 1.0, 8.0))),
    (0.7, |random, _| (Fault::Loss(random.random_range(1..=150)), seconds(random, 1.0, 10.0))),
    (0.7, |random, _| (Fault::Delay(random.random_range(2..=30)), seconds(random, 1.0, 10.0))),
    (1.5, |random, _| (Fault::Stall(target(random)), seconds(random, 0.2, 6.0))),
    (3.0, |random, _| (Fault::Kill(target(random)), seconds(random, 0.0, 6.0))),
    (0.4, |random, _| (Fault::Kill(target(random)), seconds(random, 6.0, 40.0))),
    (0.4, |random, _| (Fault::CrashLoop(target(random)), seconds(random, 2.0, 10.0))),
    (2.0, |random, _| (Fault::Trap(*Step::ALL.choose(random).expect("there are steps")), seconds(random, 0.0, 4.0))),
    (0.4, |random, _| (Fault::KillAll, seconds(random, 0.0, 4.0))),
    (1.0, |random, _| (Fault::Stop(target(random)), seconds(random, 0.0, 4.0))),
    (1.0, sleep),
    (0.8, disk_error),
    (0.8, disk_damage),
    (0.8, |random, _| (Fault::SlowDisk(target(random)), seconds(random, 1.0, 10.0))),
    (1.0, clock_step),
    (0.5, |random, _| {
        (Fault::ClockDrift(target(random), random.random_range(-20_000..=20_000)), seconds(random, 5.0, 30.0))
    }),
    (0.5, |random, _| (Fault::SignerFails(target(random)), seconds(random, 1.0, 10.0))),
    (0.8, membership),
    (1.0, |random, _| (Fault::Operator(Action::Transfer(random.random_range(0..5))), Duration::ZERO)),
    (1.0, |_, _| (Fault::Operator(Action::Snapshot), Duration::ZERO)),
    (0.5, |random, _| (Fault::Operator(Action::Halt), seconds(random, 0.5, 5.0))),
    (0.3, |random, _| (Fault::Operator(Action::LeafHours(random.random_range(1..=3))), seconds(random, 3.0, 20.0))),
    (0.5, |random, _| (Fault::Operator(Action::Herd(random.random_range(10..=150))), Duration::ZERO)),
    (0.5, |random, _| (Fault::Operator(Action::LimitRate(random.random_range(1..=20))), seconds(random, 1.0, 8.0))),
];

/// The classes of worlds with several datacenters.
const WAN_CLASSES: &[(f64, Draw)] = &[
    (2.0, |random, _| (Fault::Wan(way(random)), seconds(random, 0.5, 12.0))),
    (0.5, |random, _| (Fault::Wan(Way::Both), seconds(random, 15.0, 60.0))),
];

/// The plan of a seed.
pub fn plan(scenario: &Scenario, seed: Seed) -> Vec<Planned> {
    let mut plan = of_servers(scenario, &mut seed.stream("faults"));
    plan.extend(agents::plan(scenario, &mut seed.stream("faults of agents")));
    plan.extend(halts::plan(scenario, &mut seed.stream("halts of the primary")));
    plan.extend(rotations::plan(scenario, &mut seed.stream("rotations")));
    in_order(plan)
}

/// By their beginnings, and numbered.
pub(super) fn in_order(mut plan: Vec<Planned>) -> Vec<Planned> {
    plan.sort_by_key(|planned| planned.at);
    for (number, planned) in plan.iter_mut().enumerate() {
        planned.number = number;
    }
    plan
}

pub(super) fn of_servers(scenario: &Scenario, random: &mut Stream) -> Vec<Planned> {
    let mut plan: Vec<Planned> = Vec::new();
    let wan = if scenario.datacenters() > 1 { WAN_CLASSES } else { &[] };
    for (each_minute, draw) in CLASSES.iter().chain(wan) {
        if random.random_ratio(1, 2) {
            continue;
        }
        let rate = each_minute * random.random_range(0.3..3.0) / 60.0;
        let mut at = gap(random, rate);
        while at < scenario.chaos {
            let (fault, lasts) = draw(random, scenario);
            plan.push(Planned { number: 0, at, lasts, datacenter: datacenter(random, scenario), fault });
            at += gap(random, rate);
        }
    }
    plan.sort_by_key(|planned| planned.at);
    keep_the_root_alive(&mut plan, scenario);
    wake_without_keys(&mut plan, scenario, random);
    wake_cut_off(&mut plan, scenario, random);
    fall_while_signing(&mut plan, scenario, random);
    fall_while_a_clock_is_behind(&mut plan, scenario, random);
    plan
}

/// The time to the next fault of a class: exponential, as of independent events.
pub(super) fn gap(random: &mut Stream, each_second: f64) -> Duration {
    let uniform: f64 = random.random_range(1e-9..1.0);
    Duration::from_secs_f64((-uniform.ln() / each_second).min(1e6))
}

pub(super) fn seconds(random: &mut Stream, least: f64, most: f64) -> Duration {
    Duration::from_secs_f64(random.random_range(least..most))
}

/// In which datacenter something happens: in any of them.
fn datacenter(random: &mut Stream, scenario: &Scenario) -> usize {
    match scenario.datacenters() {
        1 => 0,
        count => random.random_range(0..count),
    }
}

fn way(random: &mut Stream) -> Way {
    match random.random_range(0..4) {
        0 => Way::In,
        1 => Way::Out,
        _ => Way::Both,
    }
}

fn target(random: &mut Stream) -> Target {
    match random.random_range(0..3) {
        0 => Target::Leader,
        1 => Target::Follower(random.random_range(0..4)),
        _ => Target::Any(random.random_range(0..7)),
    }
}

fn partition(random: &mut Stream, scenario: &Scenario) -> (Fault, Duration) {
    let size = random.random_range(1..=scenario.servers / 2);
    let group = (0..size).map(|_| target(random)).collect();
    (Fault::Partition(group), seconds(random, 0.3, 8.0))
}

fn one_way(random: &mut Stream, _: &Scenario) -> (Fault, Duration) {
    (Fault::OneWay(target(random), target(random)), seconds(random, 0.3, 8.0))
}

fn leader_in_minority(random: &mut Stream, _: &Scenario) -> (Fault, Duration) {
    (Fault::LeaderInMinority(Target::Follower(random.random_range(0..4))), seconds(random, 0.5, 12.0))
}

/// A datacenter that was off: for a minute, until its issuers are about to end, or past the end of every certificate but the roots.
fn sleep(random: &mut Stream, scenario: &Scenario) -> (Fault, Duration) {
    let issuers = scenario.ca.intermediate_ttl.as_secs();
    let by = match random.random_range(0..5) {
        0 => random.random_range(60..=issuers),
        1 | 2 => random.random_range(issuers * 2 / 3..=issuers * 19 / 20),
        _ => random.random_range(LONG_SLEEP),
    };
    (Fault::Sleep(Duration::from_secs(by)), seconds(random, 0.1, 1.0))
}

/// After half of the sleeps the keys of whoever leads first sign nothing for a while: old issuers are all that there is.
fn wake_without_keys(plan: &mut Vec<Planned>, scenario: &Scenario, random: &mut Stream) {
    let wakes = plan.iter().filter(|planned| matches!(planned.fault, Fault::Sleep(_)));
    let wakes: Vec<Duration> = wakes.map(|planned| planned.at + planned.lasts).collect();
    for wakes_at in wakes {
        if random.random_ratio(1, 2) {
            let at = wakes_at + scenario.raft.election_timeout_max.mul_f64(random.random_range(0.5..2.0));
            let fault = Fault::SignerFails(Target::Leader);
            let lasts = seconds(random, 2.0, 8.0);
            plan.push(Planned { number: 0, at, lasts, datacenter: datacenter(random, scenario), fault });
        }
    }
}

/// After half of the sleeps a datacenter does not reach the others: it wakes with what it has.
fn wake_cut_off(plan: &mut Vec<Planned>, scenario: &Scenario, random: &mut Stream) {
    if scenario.datacenters() == 1 {
        return;
    }
    let sleeps = plan.iter().filter(|planned| matches!(planned.fault, Fault::Sleep(_)));
    let sleeps: Vec<(Duration, Duration)> = sleeps.map(|planned| (planned.at, planned.lasts)).collect();
    for (at, asleep) in sleeps {
        if random.random_ratio(1, 2) {
            let lasts = asleep + seconds(random, 3.0, 25.0);
            let (datacenter, fault) = (datacenter(random, scenario), Fault::Wan(Way::Both));
            plan.push(Planned { number: 0, at, lasts, datacenter, fault });
        }
    }
}

/// Leaves out sleeps that would take the world past its root's end, which nothing replaces yet.
fn keep_the_root_alive(plan: &mut Vec<Planned>, scenario: &Scenario) {
    let left = scenario.ca.root_ttl - scenario.ca.intermediate_ttl * 2;
    let mut left = left - scenario.federation.left_alone.unwrap_or_default();
    plan.retain(|planned| match planned.fault {
        Fault::Sleep(by) if by > left => false,
        Fault::Sleep(by) => {
            left -= by;
            true
        }
        _ => true,
    });
}

/// After half of the sleeps, when many issuers are renewed, the primary's leader falls as soon as it has recorded one of another
/// datacenter.
fn fall_while_signing(plan: &mut Vec<Planned>, scenario: &Scenario, random: &mut Stream) {
    if scenario.datacenters() == 1 {
        return;
    }
    let wakes = plan.iter().filter(|planned| matches!(planned.fault, Fault::Sleep(_)));
    let wakes: Vec<Duration> = wakes.map(|planned| planned.at + planned.lasts).collect();
    for at in wakes {
        if random.random_ratio(1, 2) {
            let (lasts, fault) = (Duration::ZERO, Fault::Trap(Step::RemoteIssuerRecorded));
            plan.push(Planned { number: 0, at, lasts, datacenter: PRIMARY, fault });
        }
    }
}

/// While a clock is behind, the leader falls: of three servers two are left, and the earlier of their clocks counts.
fn fall_while_a_clock_is_behind(plan: &mut Vec<Planned>, scenario: &Scenario, random: &mut Stream) {
    let behind = plan.iter().filter(|planned| matches!(planned.fault, Fault::ClockStep(_, step) if step < 0));
    let behind: Vec<(Duration, usize)> = behind.map(|planned| (planned.at, planned.datacenter)).collect();
    for (since, datacenter) in behind {
        let at = since + seconds(random, 0.1, 1.5);
        let (lasts, fault) = (seconds(random, 1.0, 6.0), Fault::Kill(Target::Leader));
        plan.push(Planned { number: 0, at, lasts, datacenter, fault });
        // What the log's end says is known late: entries wait for disks, clocks do not.
        let (at, lasts) = (since, Duration::from_secs(6));
        let slow = (0..scenario.servers_of(datacenter)).map(|number| Fault::SlowDisk(Target::Any(number)));
        plan.extend(slow.map(|fault| Planned { number: 0, at, lasts, datacenter, fault }));
    }
}

fn disk_error(random: &mut Stream, _: &Scenario) -> (Fault, Duration) {
    let trouble = match random.random_range(0..5) {
        0 => DiskTrouble::Write,
        1 => DiskTrouble::Full,
        2 => DiskTrouble::File,
        3 => DiskTrouble::Read,
        _ => DiskTrouble::Sync,
    };
    (Fault::DiskError(target(random), trouble), seconds(random, 0.5, 5.0))
}

fn disk_damage(random: &mut Stream, _: &Scenario) -> (Fault, Duration) {
    let damage = match random.random_range(0..10) {
        0 => Damage::FlippedBit,
        1 => Damage::MisdirectedWrite,
        2 => Damage::LostWrite,
        3 => Damage::CutTail(random.random_range(1..=30)),
        4 => Damage::HighWater,
        5 => Damage::HighWaterBit,
        6 => Damage::SnapshotBit,
        7 => Damage::OldSnapshot,
        _ => Damage::All,
    };
    (Fault::DiskDamage(target(random), damage), seconds(random, 0.0, 4.0))
}

fn clock_step(random: &mut Stream, _: &Scenario) -> (Fault, Duration) {
    let size = match random.random_range(0..3) {
        0 => random.random_range(100..=2_000),
        1 => random.random_range(2_000..=120_000),
        _ => random.random_range(120_000..=7_200_000),
    };
    let step = if random.random_ratio(1, 2) { size } else { -size };
    (Fault::ClockStep(target(random), step), seconds(random, 1.0, 20.0))
}

fn membership(random: &mut Stream, _: &Scenario) -> (Fault, Duration) {
    let action = if random.random_ratio(3, 5) { Action::AddServer } else { Action::RemoveServer(target(random)) };
    (Fault::Operator(action), Duration::ZERO)
}
