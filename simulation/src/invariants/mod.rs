//! What must always hold, one file each. An invariant says what it is after, is told of every applied entry, every disk operation,
//! every step and the end of the run, and has a synthetic test that shows that it fires. Each works on what has changed: no step
//! copies or hashes a whole state or log.

mod committed_immutable;
mod committed_on_quorum;
mod constraints_hold;
pub mod decision;
mod deny_takes_effect;
mod election_safety;
pub mod every_live_leaf_verifies;
mod every_voter_can_unseal;
mod exactly_one_active_root;
mod halt_halts;
mod index_order;
mod keys_stay_home;
mod leader_completeness;
mod log_is_complete;
mod log_matching;
mod log_time_monotonic;
mod monotonic;
mod no_issue_after_delete;
mod no_queue_grows;
mod no_reissue_storm;
mod path;
mod prune_after_dependants;
mod published_before_used;
pub mod received;
mod rejected_changes_nothing;
mod renewals_part;
mod rotation_resumes;
mod same_index_same_state;
mod secondary_is_honest;
mod secrets_hashed;
pub mod seen;
mod serials_unique;
mod situations;
mod stale_leader_harmless;
mod state_machine_keys;
mod state_machine_safety;
pub mod stores;
#[cfg(test)]
mod testing;
mod trust_domain_constant;
mod view;
mod vote_monotonic;
mod wakes_its_own;
mod written;

use std::{collections::BTreeMap, sync::Arc};

use carrack_authority::id::NodeId;

pub use self::seen::Observer;
use self::{
    seen::{Applied, Installed, Said, Seen, Told},
    state_machine_safety::Ledger,
    stores::Stores,
    view::View,
};
use crate::{
    crypto::registry::KeyRegistry,
    disk::DiskEvent,
    world::{PRIMARY, shared::Shared},
};

/// How many steps of the world may pass before every server is looked at although nothing happened on its disk.
const LOOK_EVERY: u64 = 32;

/// What every hook can see.
pub struct Scene<'a> {
    /// The world.
    pub shared: &'a Shared,
    /// The number of the datacenter in which something happened.
    pub datacenter: usize,
    /// Every log of that datacenter.
    pub stores: &'a Stores,
    /// Every running server, as it was looked at last: of that datacenter, or of all to what must hold between datacenters.
    pub views: &'a BTreeMap<String, View>,
}

/// Something that must always hold. Every hook is called after a step of the world, in this order; most need one or two.
pub trait Invariant {
    /// Something happened on a server's disk; the stores have followed it.
    fn disk(&mut self, _scene: &Scene<'_>, _host: &str, _event: &DiskEvent) {}
    /// An entry was applied by some server for the first time: in the log's order, each once.
    fn decided(&mut self, _scene: &Scene<'_>, _applied: &Applied) {}
    /// A server applied an entry, perhaps after others have.
    fn applied(&mut self, _scene: &Scene<'_>, _applied: &Applied) {}
    /// A server took a state from a snapshot.
    fn installed(&mut self, _scene: &Scene<'_>, _installed: &Installed) {}
    /// A server said something to another one inside of TLS.
    fn said(&mut self, _scene: &Scene<'_>, _said: &Said) {}
    /// A client did or learnt something.
    fn told(&mut self, _scene: &Scene<'_>, _told: &Told) {}
    /// A running server was looked at, because something may have changed.
    fn looked(&mut self, _scene: &Scene<'_>, _host: &str, _view: &View) {}
    /// The step ends.
    fn stepped(&mut self, _scene: &Scene<'_>) {}
    /// The run ends.
    fn finished(&mut self, _scene: &Scene<'_>) {}
}

/// Every invariant of a world.
pub struct Invariants {
    shared: Arc<Shared>,
    /// In the order of their numbers.
    datacenters: Vec<Datacenter>,
    /// What must hold of all datacenters together.
    federation: Vec<Box<dyn Invariant>>,
    views: BTreeMap<String, View>,
    steps: u64,
}

/// One datacenter, and what must hold within it.
struct Datacenter {
    number: usize,
    stores: Stores,
    views: BTreeMap<String, View>,
    ledger: Ledger,
    all: Vec<Box<dyn Invariant>>,
}

impl Datacenter {
    fn new(shared: &Shared, number: usize) -> Self {
        let all: Vec<Box<dyn Invariant>> = vec![
            Box::new(election_safety::ElectionSafety::default()),
            Box::new(log_matching::LogMatching::default()),
            Box::new(leader_completeness::LeaderCompleteness::default()),
            Box::new(committed_on_quorum::CommittedOnQuorum::default()),
            Box::new(committed_immutable::CommittedImmutable::default()),
            Box::new(index_order::IndexOrder),
            Box::new(monotonic::Monotonic::default()),
            Box::new(vote_monotonic::VoteMonotonic::default()),
            Box::new(state_machine_keys::StateMachineKeys),
            Box::new(exactly_one_active_root::ExactlyOneActiveRoot),
            Box::new(rotation_resumes::RotationResumes),
            Box::new(stale_leader_harmless::StaleLeaderHarmless),
            Box::new(published_before_used::PublishedBeforeUsed),
            Box::new(log_is_complete::LogIsComplete::default()),
            Box::new(same_index_same_state::SameIndexSameState::new(shared.seed)),
            Box::new(rejected_changes_nothing::RejectedChangesNothing::default()),
            Box::new(log_time_monotonic::LogTimeMonotonic::default()),
            Box::new(every_voter_can_unseal::EveryVoterCanUnseal::default()),
            Box::new(no_reissue_storm::NoReissueStorm::default()),
            Box::new(deny_takes_effect::DenyTakesEffect::default()),
            Box::new(wakes_its_own::WakesItsOwn::default()),
            Box::new(no_queue_grows::NoQueueGrows),
            Box::new(situations::Situations::default()),
        ];
        let (stores, views, ledger) = Default::default();
        Self { number, stores, views, ledger, all }
    }

    fn each(&mut self, shared: &Shared, mut call: impl FnMut(&mut dyn Invariant, &Scene<'_>)) {
        let scene = Scene { shared, datacenter: self.number, stores: &self.stores, views: &self.views };
        self.all.iter_mut().for_each(|invariant| call(&mut **invariant, &scene));
    }

    fn follow_membership(&self, shared: &Shared) {
        if let Some(newest) = self.views.values().max_by_key(|view| view.applied) {
            shared.set_voters(self.number, newest.voters.iter().map(|voter| NodeId(*voter)).collect());
        }
    }
}

impl Invariants {
    /// The invariants of a world that has not begun.
    pub fn new(shared: Arc<Shared>, keys: KeyRegistry) -> Self {
        let federation: Vec<Box<dyn Invariant>> = vec![
            Box::new(trust_domain_constant::TrustDomainConstant::default()),
            Box::new(serials_unique::SerialsUnique::default()),
            Box::new(no_issue_after_delete::NoIssueAfterDelete::default()),
            Box::new(halt_halts::HaltHalts::default()),
            Box::new(secondary_is_honest::SecondaryIsHonest::default()),
            Box::new(constraints_hold::ConstraintsHold::default()),
            Box::new(prune_after_dependants::PruneAfterDependants::default()),
            Box::new(every_live_leaf_verifies::EveryLiveLeafVerifies::default()),
            Box::new(keys_stay_home::KeysStayHome::new(keys)),
            Box::new(secrets_hashed::SecretsHashed::default()),
            Box::new(renewals_part::RenewalsPart),
        ];
        let datacenters = (0..shared.scenario.datacenters()).map(|number| Datacenter::new(&shared, number)).collect();
        Self { shared, datacenters, federation, views: BTreeMap::new(), steps: 0 }
    }

    /// Looks at the world after a step.
    pub fn step(&mut self) {
        self.steps += 1;
        let busy = self.follow_disks();
        self.follow_entries();
        self.look(&busy);
        self.everywhere(|invariant, scene| invariant.stepped(scene));
    }

    /// Looks at the world at its end.
    pub fn finish(&mut self) {
        self.steps = 0;
        self.step();
        self.everywhere(|invariant, scene| invariant.finished(scene));
    }

    /// Lets every invariant see what happened on the disks; answers the hosts where something did.
    fn follow_disks(&mut self) -> Vec<String> {
        let shared = self.shared.clone();
        let mut busy = Vec::new();
        for (host, agent) in &shared.agents {
            for event in agent.disk.journal() {
                self.between(agent.datacenter, |invariant, scene| invariant.disk(scene, host, &event));
            }
        }
        for (host, server) in &shared.servers {
            let events = server.disk.journal();
            for event in &events {
                self.datacenters[server.datacenter].stores.follow(host, event, Some(&server.disk));
                self.each(server.datacenter, |invariant, scene| invariant.disk(scene, host, event));
            }
            if !events.is_empty() {
                busy.push(host.clone());
            }
        }
        busy
    }

    fn follow_entries(&mut self) {
        for seen in self.shared.take_seen() {
            match seen {
                Seen::Applied(applied) => {
                    let at = self.shared.servers[&*applied.host].datacenter;
                    if self.datacenters[at].ledger.judge(&self.shared, &applied) {
                        self.each(at, |invariant, scene| invariant.decided(scene, &applied));
                    }
                    self.each(at, |invariant, scene| invariant.applied(scene, &applied));
                }
                Seen::Installed(installed) => {
                    let at = self.shared.servers[&*installed.host].datacenter;
                    self.each(at, |invariant, scene| invariant.installed(scene, &installed));
                }
                Seen::Said(said) => {
                    let at = self.shared.servers[&*said.host].datacenter;
                    self.each(at, |invariant, scene| invariant.said(scene, &said));
                }
                Seen::Told(told) => match told.datacenter() {
                    Some(at) => self.each(at, |invariant, scene| invariant.told(scene, &told)),
                    None => self.everywhere(|invariant, scene| invariant.told(scene, &told)),
                },
            }
        }
    }

    /// Looks at the servers on whose disks something happened, now and then at all.
    fn look(&mut self, busy: &[String]) {
        let shared = self.shared.clone();
        let is_round = self.steps.is_multiple_of(LOOK_EVERY);
        for (host, server) in &shared.servers {
            let at = server.datacenter;
            let Some(context) = server.context() else {
                self.views.remove(host);
                self.datacenters[at].views.remove(host);
                continue;
            };
            if is_round || busy.contains(host) || !self.views.contains_key(host) {
                let view = View::of(&context.replica, server.starts());
                self.views.insert(host.clone(), view.clone());
                self.datacenters[at].views.insert(host.clone(), view.clone());
                self.each(at, |invariant, scene| invariant.looked(scene, host, &view));
            }
        }
        if is_round || !busy.is_empty() {
            self.datacenters.iter().for_each(|datacenter| datacenter.follow_membership(&self.shared));
        }
    }

    /// What happened in one datacenter, for what must hold there and between all of them.
    fn each(&mut self, at: usize, mut call: impl FnMut(&mut dyn Invariant, &Scene<'_>)) {
        let datacenter = &mut self.datacenters[at];
        datacenter.each(&self.shared, &mut call);
        let scene = Scene { shared: &self.shared, datacenter: at, stores: &datacenter.stores, views: &self.views };
        self.federation.iter_mut().for_each(|invariant| call(&mut **invariant, &scene));
    }

    /// What happened in one datacenter, and is the concern of what must hold between all of them alone.
    fn between(&mut self, at: usize, mut call: impl FnMut(&mut dyn Invariant, &Scene<'_>)) {
        let stores = &self.datacenters[at].stores;
        let scene = Scene { shared: &self.shared, datacenter: at, stores, views: &self.views };
        self.federation.iter_mut().for_each(|invariant| call(&mut **invariant, &scene));
    }

    /// What is about all datacenters. What must hold between them is asked once.
    fn everywhere(&mut self, mut call: impl FnMut(&mut dyn Invariant, &Scene<'_>)) {
        for datacenter in &mut self.datacenters {
            datacenter.each(&self.shared, &mut call);
        }
        let stores = &self.datacenters[PRIMARY].stores;
        let scene = Scene { shared: &self.shared, datacenter: PRIMARY, stores, views: &self.views };
        self.federation.iter_mut().for_each(|invariant| call(&mut **invariant, &scene));
    }
}
