//! Looks after the processes, as a service manager would, and heals the world at its end.

use std::time::Duration;

use rand::RngExt;

use super::{Active, Cure, Injector, Sim, disks::healthy};
use crate::{
    marks::Mark,
    trace::{Detail, Kind},
    world::{
        self, PRIMARY, Power,
        server::{Phase, Server},
        shared::Job,
    },
};

/// What a server says that came with a join token whose time is over.
const TOKEN_HAS_ENDED: &str = "the join token is refused: it is unknown or has ended";
/// What an agent takes for a sleep lasts longer.
const AWAKE_AGAIN_AFTER: Duration = Duration::from_secs(61);
/// How long a process that ended itself stays away: what a service manager waits.
const RESTART_AFTER: Duration = Duration::from_millis(800);

impl Injector {
    pub(super) fn come_back(&mut self, sim: &mut Sim, host: &str) {
        let Some(count) = self.away.get_mut(host) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        self.away.remove(host);
        if self.shared.agents.contains_key(host) {
            return world::start(sim, &self.shared, host);
        }
        let server = &self.shared.servers[host];
        if server.belongs() && !matches!(server.phase(), Phase::Refused(_)) {
            world::start(sim, &self.shared, host);
        }
    }

    /// Starts again what ended itself.
    pub(super) fn supervise(&mut self, sim: &mut Sim, now: Duration) {
        self.supervise_servers(sim, now);
        self.supervise_agents(sim, now);
    }

    /// A server that refuses its own data is joined again; one that refuses sound data is a defect.
    fn supervise_servers(&mut self, sim: &mut Sim, now: Duration) {
        for server in self.shared.servers.values().cloned().collect::<Vec<_>>() {
            let host = server.host.clone();
            let stays_away = self.stays_away(&server);
            if server.is_up() || !server.belongs() || self.away.contains_key(&host) || stays_away {
                self.missed.remove(&host);
                continue;
            }
            let since = *self.missed.entry(host.clone()).or_insert(now);
            if now < since + RESTART_AFTER || server.is_rejoining() {
                continue;
            }
            self.missed.remove(&host);
            match server.phase() {
                Phase::Refused(reason) if has_slept_past_its_token(&server, &reason) => self.ask_to_rejoin(&server),
                Phase::Refused(reason) if !server.may_try_again(&reason) => self.refused(&server, &reason),
                _ => world::start(sim, &self.shared, &host),
            }
        }
    }

    /// Starts again every agent that is away although nothing says so. One that refuses to start is a defect: nothing is done to its disk.
    fn supervise_agents(&mut self, sim: &mut Sim, now: Duration) {
        for agent in self.shared.agents.values().cloned().collect::<Vec<_>>() {
            if agent.is_up() || !agent.has_joined() || self.away.contains_key(&agent.host) {
                self.missed.remove(&agent.host);
                continue;
            }
            if let Phase::Refused(reason) = agent.phase() {
                let text = format!("{} refuses to start: {reason}", agent.host);
                return self.shared.violate("sound_data_is_accepted", text);
            }
            let since = *self.missed.entry(agent.host.clone()).or_insert(now);
            if now >= since + RESTART_AFTER {
                world::start(sim, &self.shared, &agent.host);
            }
        }
    }

    fn stays_away(&self, server: &Server) -> bool {
        let is_lost = self.is_primary_lost && server.datacenter == PRIMARY;
        is_lost || (self.core_only.contains(&server.datacenter) && !server.is_core())
    }

    fn refused(&self, server: &Server, reason: &str) {
        if !server.is_damaged() {
            let text = format!("{} refuses to start though its disk was not damaged: {reason}", server.host);
            return self.shared.violate("sound_data_is_accepted", text);
        }
        self.shared.mark(Mark::DamageDetected);
        if !server.has_identity() {
            self.shared.mark(Mark::OldIdRefused);
        }
        self.ask_to_rejoin(server);
    }

    fn ask_to_rejoin(&self, server: &Server) {
        server.set_rejoining(true);
        self.shared.ask_operator(Job::Rejoin(server.host.clone()));
    }

    /// Ends every fault; all servers are off for so long, and those of the primary stay off.
    pub fn lose_primary(&mut self, sim: &mut Sim, asleep: Duration) {
        self.end_all(sim);
        self.is_primary_lost = true;
        let members = self.all_members();
        members.iter().for_each(|host| world::kill(sim, &self.shared, host, Power::Goes));
        if asleep > AWAKE_AGAIN_AFTER {
            // Those that were off are started again like whatever ended itself.
            drop(self.let_agents_sleep(sim));
            self.away.clear();
        }
        self.shared.clock.skip(asleep);
        for host in members.iter().filter(|host| self.shared.servers[*host].datacenter != PRIMARY) {
            self.start_again(sim, host);
        }
        let text = format!("everything is healed after {} s, but the primary is lost", asleep.as_secs());
        self.shared.note("world", Kind::Fault, text);
    }

    /// Ends every fault. A datacenter that is not healed as a whole has a majority of its voters healed, and the others stay away for
    /// ever.
    pub fn heal(&mut self, sim: &mut Sim, is_whole: bool) {
        self.end_all(sim);
        self.is_primary_lost = false;
        (0..self.shared.scenario.datacenters()).for_each(|datacenter| self.heal_datacenter(sim, datacenter, is_whole));
    }

    fn end_all(&mut self, sim: &mut Sim) {
        for Active { cure, .. } in std::mem::take(&mut self.active) {
            if !matches!(cure, Cure::Start(_)) {
                self.cure(sim, cure);
            }
        }
        self.flaps.clear();
        self.looping.clear();
        self.shared.set_trap(None);
        self.links.mend_all(sim);
        self.quiet(sim);
        sim.set_max_message_latency(self.shared.scenario.latency_max);
        for server in self.shared.servers.values() {
            server.disk.set_faults(healthy());
            server.clock.heal();
            server.signing.fail(false);
        }
        for agent in self.shared.agents.values() {
            agent.disk.set_faults(healthy());
            agent.clock.heal();
        }
        self.away.clear();
        self.shared.note_detail("world", Kind::Heal, Detail::AllEnded, "every fault has ended");
    }

    fn heal_datacenter(&mut self, sim: &mut Sim, datacenter: usize, is_whole: bool) {
        // A change of voters that has begun may need more than a majority of those there were.
        let is_whole = is_whole || self.shared.is_membership_changing(datacenter);
        let core = if is_whole { None } else { self.core(datacenter) };
        if core.is_some() {
            self.core_only.insert(datacenter);
        }
        let core = core.unwrap_or_else(|| self.members(datacenter));
        let text = format!("everything is healed for {}", core.join(" "));
        self.shared.note("world", Kind::Heal, text);
        for host in self.members(datacenter) {
            if core.contains(&host) {
                self.shared.servers[&host].set_core(true);
                self.start_again(sim, &host);
            } else {
                world::kill(sim, &self.shared, &host, Power::Goes);
            }
        }
    }

    fn start_again(&self, sim: &mut Sim, host: &str) {
        if !matches!(self.shared.servers[host].phase(), Phase::Refused(_)) {
            world::start(sim, &self.shared, host);
        }
    }

    /// Looks after the processes while the world comes to rest.
    pub fn look_after(&mut self, sim: &mut Sim) {
        let now = sim.elapsed();
        self.supervise(sim, now);
    }

    /// A majority of the voters, as the newest membership names them, that have sound disks; `None` if too few have.
    fn core(&mut self, datacenter: usize) -> Option<Vec<String>> {
        let mut voters = self.shared.voters(datacenter);
        let needed = voters.len() / 2 + 1;
        voters.retain(|host| {
            let server = &self.shared.servers[host];
            server.belongs() && !server.is_damaged() && !matches!(server.phase(), Phase::Refused(_))
        });
        while voters.len() > needed {
            voters.remove(self.random.random_range(0..voters.len()));
        }
        (voters.len() == needed).then_some(voters)
    }
}

/// Whether a server has not joined yet and its token's time was over when the world woke: it wants a new one, as it says.
fn has_slept_past_its_token(server: &Server, reason: &str) -> bool {
    !server.has_identity() && server.has_slept_since_join() && reason.contains(TOKEN_HAS_ENDED)
}
