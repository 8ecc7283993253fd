//! Carries out the plan: begins each fault on whom it hits, ends it in time, and starts again what ended itself, as a service
//! manager would.

mod disks;
mod supervise;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rand::RngExt;

pub(super) use self::disks::healthy;
use super::{
    Action, Fault, Planned, Target, Way,
    links::{Direction, Links},
};
use crate::{
    disk::DiskFaults,
    random::Stream,
    trace::{Detail, Kind},
    world::{
        self, Power,
        server::Phase,
        shared::{Job, Shared},
    },
};

/// A clock that is off by less is a right one.
const RIGHT_WITHIN_MS: i64 = 1000;

pub(super) type Sim = turmoil::Sim<'static>;

/// Carries out the plan of a world.
pub struct Injector {
    pub(super) shared: Arc<Shared>,
    began: Duration,
    next: usize,
    active: Vec<Active>,
    pub(super) links: Links,
    pub(super) random: Stream,
    /// Servers that are away because a fault says so.
    away: BTreeMap<String, usize>,
    /// Since when a server is away although nothing says so.
    missed: BTreeMap<String, Duration>,
    /// Datacenters of which a core is healed and the others stay away for ever.
    core_only: BTreeSet<usize>,
    /// Whether every server of the primary stays away.
    is_primary_lost: bool,
    flaps: Vec<Flap>,
    /// Servers that are killed as soon as they are up.
    looping: BTreeSet<String>,
}

/// A fault that has begun and not ended.
struct Active {
    ends_at: Duration,
    /// Its number in the plan; none, if it is a part of another one.
    number: Option<usize>,
    cure: Cure,
}

/// What ends a fault.
pub(super) enum Cure {
    Mend(Vec<Direction>),
    Release(String),
    Quiet,
    Hasten,
    Start(Vec<String>),
    CalmDisk(String),
    TurnBack(String, i64),
    Steady(String),
    Undo(usize, Action),
    Unloop(String),
    Sign(String),
    /// An agent, by how much its clock is behind, and which links are cut.
    Wake(String, i64, Vec<Direction>),
}

/// A link that comes and goes.
struct Flap {
    host: String,
    left: u32,
    next: Duration,
    cut: Vec<Direction>,
}

impl Cure {
    /// The hosts and the directions of links that the fault is about.
    fn reach(&self) -> (Vec<String>, Vec<Direction>) {
        match self {
            Self::Mend(directions) => (Vec::new(), directions.clone()),
            Self::Release(host)
            | Self::CalmDisk(host)
            | Self::TurnBack(host, _)
            | Self::Steady(host)
            | Self::Unloop(host)
            | Self::Sign(host) => (vec![host.clone()], Vec::new()),
            Self::Start(hosts) => (hosts.clone(), Vec::new()),
            Self::Wake(host, _, directions) => (vec![host.clone()], directions.clone()),
            Self::Quiet | Self::Hasten | Self::Undo(..) => (Vec::new(), Vec::new()),
        }
    }
}

impl Injector {
    /// An injector that has not begun.
    pub fn new(shared: Arc<Shared>) -> Self {
        let random = shared.seed.stream("injector");
        let links = Links::new(shared.clone());
        Self {
            shared,
            began: Duration::ZERO,
            next: 0,
            active: Vec::new(),
            links,
            random,
            away: BTreeMap::new(),
            missed: BTreeMap::new(),
            core_only: BTreeSet::new(),
            is_primary_lost: false,
            flaps: Vec::new(),
            looping: BTreeSet::new(),
        }
    }

    /// The plan's times count from now on.
    pub fn begin(&mut self, now: Duration) {
        self.began = now;
        for server in self.shared.servers.values() {
            server.disk.set_faults(healthy());
        }
        self.shared.agents.values().for_each(|agent| agent.disk.set_faults(healthy()));
    }

    /// Begins and ends what is due.
    pub fn step(&mut self, sim: &mut Sim) {
        let now = sim.elapsed();
        self.end_due(sim, now);
        while let Some(planned) = self.shared.scenario.plan.get(self.next).cloned() {
            if self.began + planned.at > now {
                break;
            }
            self.next += 1;
            self.start(sim, now, &planned);
        }
        self.flap(sim, now);
        self.kill_the_looping_and_trapped(sim, now);
        self.supervise(sim, now);
    }

    fn flap(&mut self, sim: &Sim, now: Duration) {
        let mut flaps = std::mem::take(&mut self.flaps);
        for flap in flaps.iter_mut().filter(|flap| flap.next <= now) {
            flap.left -= 1;
            flap.next = now + Duration::from_millis(self.random.random_range(20..=700));
            if flap.cut.is_empty() {
                let datacenter = self.shared.servers[&flap.host].datacenter;
                let others = self.members(datacenter).into_iter().filter(|host| *host != flap.host);
                let pairs: Vec<(String, String)> = others.map(|other| (flap.host.clone(), other)).collect();
                flap.cut = self.links.cut(sim, &both_ways(&pairs));
            } else {
                self.links.mend(sim, &std::mem::take(&mut flap.cut));
            }
        }
        let (ended, going): (Vec<_>, Vec<_>) = flaps.into_iter().partition(|flap| flap.left == 0);
        ended.into_iter().for_each(|flap| self.links.mend(sim, &flap.cut));
        self.flaps = going;
    }

    fn kill_the_looping_and_trapped(&mut self, sim: &mut Sim, now: Duration) {
        let up = |host: &String| self.shared.servers[host].phase() == Phase::Running;
        let looping: Vec<String> = self.looping.iter().filter(|host| up(host)).cloned().collect();
        for host in looping.into_iter().chain(self.shared.take_trapped()) {
            self.kill(sim, &host);
            let back = now + Duration::from_millis(self.random.random_range(50..=1500));
            self.active.push(Active { ends_at: back, number: None, cure: Cure::Start(vec![host]) });
        }
    }

    fn end_due(&mut self, sim: &mut Sim, now: Duration) {
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.active).into_iter().partition(|active| active.ends_at <= now);
        self.active = later;
        for Active { number, cure, .. } in due {
            if let Some(number) = number {
                self.shared.note_detail("world", Kind::Heal, Detail::Ended(number), format!("{number}: ends"));
            }
            self.cure(sim, cure);
        }
    }

    fn start(&mut self, sim: &mut Sim, now: Duration, planned: &Planned) {
        let Some((text, cure)) = self.inflict(sim, planned.datacenter, &planned.fault) else { return };
        let number = planned.number;
        let (hosts, links) = cure.as_ref().map(Cure::reach).unwrap_or_default();
        let detail = Detail::Began { number, class: planned.fault.class(), hosts, links, lasts: cure.is_some() };
        let text = format!("{number}: {text}, for {:.1} s", planned.lasts.as_secs_f64());
        self.shared.note_detail("world", Kind::Fault, detail, text);
        *self.shared.counts().faults.entry(planned.fault.class().to_owned()).or_default() += 1;
        if let Some(cure) = cure {
            self.active.push(Active { ends_at: now + planned.lasts, number: Some(number), cure });
        }
    }

    /// Begins a fault; `None` if there is nobody that it could hit.
    fn inflict(&mut self, sim: &mut Sim, datacenter: usize, fault: &Fault) -> Option<(String, Option<Cure>)> {
        let class = fault.class();
        match fault {
            Fault::Partition(group) => {
                let group: Vec<String> = group.iter().filter_map(|target| self.host(datacenter, *target)).collect();
                let others = self.members(datacenter).into_iter().filter(|host| !group.contains(host));
                let pairs: Vec<(String, String)> =
                    others.flat_map(|other| group.iter().map(move |host| (host.clone(), other.clone()))).collect();
                self.cut(sim, class, both_ways(&pairs))
            }
            Fault::Wan(way) => {
                let (inside, outside) = (self.members(datacenter), self.outside(datacenter));
                let pairs = |from: &[String], to: &[String]| -> Vec<Direction> {
                    from.iter().flat_map(|from| to.iter().map(move |to| (from.clone(), to.clone()))).collect()
                };
                let directions = match way {
                    Way::In => pairs(&outside, &inside),
                    Way::Out => pairs(&inside, &outside),
                    Way::Both => [pairs(&outside, &inside), pairs(&inside, &outside)].concat(),
                };
                self.cut(sim, class, directions)
            }
            Fault::Flap(target, times) => {
                let host = self.host(datacenter, *target)?;
                self.flaps.push(Flap { host: host.clone(), left: times * 2, next: sim.elapsed(), cut: Vec::new() });
                Some((format!("{class} of {host}, {times} times"), None))
            }
            Fault::OneWay(from, to) => {
                let (from, to) = (self.host(datacenter, *from)?, self.host(datacenter, *to)?);
                let directions = if from == to { Vec::new() } else { vec![(from, to)] };
                self.cut(sim, class, directions)
            }
            Fault::LeaderInMinority(friend) => {
                let (leader, friend) = (self.host(datacenter, Target::Leader)?, self.host(datacenter, *friend)?);
                let group = [leader, friend];
                let others = self.members(datacenter).into_iter().filter(|host| !group.contains(host));
                let pairs: Vec<(String, String)> =
                    others.flat_map(|other| group.iter().map(move |host| (host.clone(), other.clone()))).collect();
                self.cut(sim, class, both_ways(&pairs))
            }
            Fault::Ring => self.cut(sim, class, ring(&self.members(datacenter))),
            Fault::Loss(rate) => {
                sim.set_fail_rate(f64::from(*rate) / 10_000.0);
                self.shared.set_lossy(true);
                Some((format!("{class} of {rate} in 10,000"), Some(Cure::Quiet)))
            }
            Fault::Delay(factor) => {
                sim.set_max_message_latency(self.shared.scenario.latency_max * *factor);
                Some((format!("{class} of {factor} times"), Some(Cure::Hasten)))
            }
            Fault::Stall(target) => {
                let host = self.host(datacenter, *target)?;
                let others = self.others(&host);
                let is_stalled = self.links.stall(sim, &host, &others);
                is_stalled.then(|| (format!("{class} of {host}"), Some(Cure::Release(host))))
            }
            Fault::Kill(target) => {
                let host = self.host(datacenter, *target)?;
                self.kill(sim, &host);
                Some((format!("{class} {host}"), Some(Cure::Start(vec![host]))))
            }
            Fault::CrashLoop(target) => {
                let host = self.host(datacenter, *target)?;
                self.looping.insert(host.clone());
                Some((format!("{class} of {host}"), Some(Cure::Unloop(host))))
            }
            Fault::Trap(step) => {
                self.shared.set_trap(Some((datacenter, *step)));
                Some((format!("{class}: {step:?}"), None))
            }
            Fault::KillAll => {
                let members = self.members(datacenter);
                members.iter().for_each(|host| self.kill(sim, host));
                Some((class.to_owned(), Some(Cure::Start(members))))
            }
            Fault::Stop(target) => {
                let host = self.host(datacenter, *target)?;
                let is_told = self.shared.servers[&host].stop();
                self.leave(&host);
                Some((
                    format!("{class} {host}{}", if is_told { "" } else { ", which is away" }),
                    Some(Cure::Start(vec![host])),
                ))
            }
            Fault::Sleep(by) => {
                let mut members = self.all_members();
                members.iter().for_each(|host| self.kill(sim, host));
                members.extend(self.let_agents_sleep(sim));
                self.shared.clock.skip(*by);
                Some((format!("{class} for {} s", by.as_secs()), Some(Cure::Start(members))))
            }
            Fault::DiskError(target, trouble) => self.trouble(datacenter, *target, *trouble),
            Fault::DiskDamage(target, damage) => self.damage(sim, datacenter, *target, *damage),
            Fault::SlowDisk(target) => {
                let host = self.host(datacenter, *target)?;
                let slow = DiskFaults { sync_time_max: Duration::from_millis(400), ..healthy() };
                self.shared.servers[&host].disk.set_faults(slow);
                Some((format!("{class} of {host}"), Some(Cure::CalmDisk(host))))
            }
            Fault::ClockStep(target, milliseconds) => {
                let host = self.host(datacenter, *target).filter(|host| self.leaves_right_clocks(host))?;
                self.shared.servers[&host].clock.step(*milliseconds);
                Some((format!("{class} of {host} by {milliseconds} ms"), Some(Cure::TurnBack(host, *milliseconds))))
            }
            Fault::ClockDrift(target, rate) => {
                let host = self.host(datacenter, *target).filter(|host| self.leaves_right_clocks(host))?;
                self.shared.servers[&host].clock.set_drift(*rate);
                Some((format!("{class} of {host} by {rate} ppm"), Some(Cure::Steady(host))))
            }
            Fault::SignerFails(target) => {
                let host = self.host(datacenter, *target)?;
                self.shared.servers[&host].signing.fail(true);
                Some((format!("{class} on {host}"), Some(Cure::Sign(host))))
            }
            Fault::Operator(action) => {
                self.shared.ask_operator(Job::Do(datacenter, *action));
                let lasts = matches!(action, Action::Halt | Action::LimitRate(_) | Action::LeafHours(_));
                Some((format!("{class}: {action:?}"), lasts.then_some(Cure::Undo(datacenter, *action))))
            }
            Fault::Agent(agent, fault) => self.befall(sim, *agent, *fault),
        }
    }

    pub(super) fn cut(&mut self, sim: &Sim, class: &str, directions: Vec<Direction>) -> Option<(String, Option<Cure>)> {
        let directions = self.links.cut(sim, &directions);
        if directions.is_empty() {
            return None;
        }
        let text: Vec<String> = directions.iter().map(|(from, to)| format!("{from}>{to}")).collect();
        Some((format!("{class}: {}", text.join(" ")), Some(Cure::Mend(directions))))
    }

    /// Whether the clocks of a majority are right when this one is wrong: a wrong majority decides what time it is.
    fn leaves_right_clocks(&self, host: &str) -> bool {
        let members = self.members(self.shared.servers[host].datacenter);
        let is_right =
            |other: &&String| *other != host && self.shared.servers[*other].clock.ahead().abs() <= RIGHT_WITHIN_MS;
        members.iter().filter(is_right).count() * 2 > members.len()
    }

    pub(super) fn kill(&mut self, sim: &mut Sim, host: &str) {
        let power = if self.random.random_ratio(1, 2) { Power::Goes } else { Power::Stays };
        world::kill(sim, &self.shared, host, power);
        self.leave(host);
    }

    fn leave(&mut self, host: &str) {
        *self.away.entry(host.to_owned()).or_default() += 1;
    }

    fn cure(&mut self, sim: &mut Sim, cure: Cure) {
        match cure {
            Cure::Mend(directions) => {
                self.links.mend(sim, &directions);
                self.shared.note("world", Kind::Heal, "links are mended");
            }
            Cure::Release(host) => {
                let others = self.others(&host);
                self.links.release(sim, &host, &others);
                self.shared.note(&host, Kind::Heal, "goes on");
            }
            Cure::Quiet => self.quiet(sim),
            Cure::Hasten => sim.set_max_message_latency(self.shared.scenario.latency_max),
            Cure::Start(hosts) => hosts.iter().for_each(|host| self.come_back(sim, host)),
            Cure::CalmDisk(host) => self.shared.disk(&host).set_faults(healthy()),
            Cure::TurnBack(host, milliseconds) => self.shared.step_clock(&host, -milliseconds),
            Cure::Steady(host) => self.shared.host_clock(&host).set_drift(0),
            Cure::Wake(host, longer, directions) => self.wake(sim, &host, longer, &directions),
            Cure::Unloop(host) => drop(self.looping.remove(&host)),
            Cure::Sign(host) => self.shared.servers[&host].signing.fail(false),
            Cure::Undo(datacenter, action) => self.shared.ask_operator(Job::Undo(datacenter, action)),
        }
    }

    pub(super) fn quiet(&self, sim: &mut Sim) {
        sim.set_fail_rate(0.0);
        self.shared.set_lossy(false);
    }

    fn members(&self, datacenter: usize) -> Vec<String> {
        self.shared.members(datacenter).iter().map(|server| server.host.clone()).collect()
    }

    fn all_members(&self) -> Vec<String> {
        (0..self.shared.scenario.datacenters()).flat_map(|datacenter| self.members(datacenter)).collect()
    }

    /// The servers of all other datacenters.
    fn outside(&self, datacenter: usize) -> Vec<String> {
        let others = (0..self.shared.scenario.datacenters()).filter(|other| *other != datacenter);
        others.flat_map(|other| self.members(other)).collect()
    }

    pub(super) fn others(&self, host: &str) -> Vec<String> {
        let all = self.shared.servers.keys().chain(self.shared.agents.keys());
        let others = all.filter(|other| *other != host).cloned();
        others.chain(crate::workloads::client_hosts(&self.shared)).collect()
    }

    fn host(&self, datacenter: usize, target: Target) -> Option<String> {
        let members = self.members(datacenter);
        let leader = self.shared.oldest_leader(datacenter);
        match target {
            Target::Leader => leader.or_else(|| members.first().cloned()),
            Target::Follower(number) => {
                let followers: Vec<&String> = members.iter().filter(|host| Some(*host) != leader.as_ref()).collect();
                followers.get(number % followers.len().max(1)).map(|host| (*host).clone())
            }
            Target::Any(number) => members.get(number % members.len().max(1)).cloned(),
        }
    }
}

pub(super) fn both_ways(pairs: &[(String, String)]) -> Vec<Direction> {
    pairs.iter().flat_map(|(one, other)| [(one.clone(), other.clone()), (other.clone(), one.clone())]).collect()
}

/// Every link but those between neighbours.
fn ring(members: &[String]) -> Vec<Direction> {
    let count = members.len();
    let mut pairs = Vec::new();
    for (position, one) in members.iter().enumerate() {
        for (distance, other) in
            members.iter().enumerate().skip(position + 1).map(|(other, host)| (other - position, host))
        {
            if distance != 1 && distance != count - 1 {
                pairs.push((one.clone(), other.clone()));
            }
        }
    }
    both_ways(&pairs)
}
