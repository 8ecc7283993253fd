//! What the driver, the hosts and the checks of one world share.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
    },
};

use carrack_authority::{command::Entry, id::NodeId};
use carrack_raft::{Role, Status};

use super::{
    agent::AgentHost,
    clock::{HostClock, WorldClock},
    server::Server,
};
use crate::{
    disk::Disk,
    faults::{Action, Step},
    invariants::seen::Seen,
    marks::{Mark, Marks},
    random::Seed,
    scenario::Scenario,
    trace::{Detail, Event, Keep, Kind, Trace},
    workloads::Book,
};

/// The most violations that are kept: the first one ends the run, but a step may find several.
const VIOLATIONS_MAX: usize = 16;

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Violation {
    /// The invariant's name.
    pub invariant: String,
    /// What was seen.
    pub text: String,
}

/// What a host asks of the driver, which alone may start and end hosts.
#[derive(Clone, Debug)]
pub enum Order {
    /// Starts the process of a server or an agent.
    Start(String),
    /// Ends it at once.
    Kill(String),
    /// Ends it at once and empties its disk.
    Wipe(String),
}

/// What a leader is killed after.
#[derive(Default)]
struct Trap {
    /// In which datacenter, and what.
    set: Option<(usize, Step)>,
    trapped: Option<String>,
}

/// Where a world is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Workloads work, faults may happen.
    Living = 0,
    /// The secondaries are healed and the primary is lost.
    Alone = 1,
    /// Everything that will be healed is healed; the operator proves that it reads and writes.
    Proving = 2,
    /// Nobody asks for anything any more.
    Resting = 3,
}

/// Something that the operator is to do.
#[derive(Clone, Debug)]
pub enum Job {
    /// What the plan says, in the datacenter with this number.
    Do(usize, Action),
    /// The end of something that lasts.
    Undo(usize, Action),
    /// A server that lost its data is to join again under a new id.
    Rejoin(String),
}

/// What is counted in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Faults that began, by class.
    pub faults: BTreeMap<String, u64>,
    /// Client operations that succeeded, by kind.
    pub operations: BTreeMap<String, u64>,
    /// Client operations that were refused or had no answer, by kind.
    pub failures: BTreeMap<String, u64>,
    /// Entries that were checked when they were applied.
    pub applied: u64,
    /// Handshakes between workloads.
    pub handshakes: u64,
}

impl Counts {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        let add = |into: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>| {
            from.iter().for_each(|(name, count)| *into.entry(name.clone()).or_default() += count);
        };
        add(&mut self.faults, &other.faults);
        add(&mut self.operations, &other.operations);
        add(&mut self.failures, &other.failures);
        self.applied += other.applied;
        self.handshakes += other.handshakes;
    }
}

/// See the module.
pub struct Shared {
    /// Where all randomness comes from.
    pub seed: Seed,
    /// What the seed decided.
    pub scenario: Scenario,
    /// The time.
    pub clock: WorldClock,
    /// Every server that may ever run, by its host name.
    pub servers: BTreeMap<String, Arc<Server>>,
    /// Every agent that may ever run, by its host name.
    pub agents: BTreeMap<String, Arc<AgentHost>>,
    /// Which situations were hit.
    pub marks: Marks,
    trace: Mutex<Trace>,
    violations: Mutex<Vec<Violation>>,
    orders: Mutex<VecDeque<Order>>,
    counts: Mutex<Counts>,
    jobs: Mutex<VecDeque<Job>>,
    open_jobs: AtomicUsize,
    /// By datacenter.
    voters: Mutex<BTreeMap<usize, BTreeSet<NodeId>>>,
    trap: Mutex<Trap>,
    ending: AtomicU8,
    pub(crate) book: Mutex<Book>,
    operator: Mutex<Option<String>>,
    /// The roots of each datacenter's server CA, as PEM.
    server_cas: Mutex<BTreeMap<usize, String>>,
    seen: Mutex<Vec<Seen>>,
    /// When something last befell the links or the machine of a server.
    disturbed: Mutex<BTreeMap<String, u64>>,
    is_lossy: AtomicBool,
}

impl Shared {
    /// A world's shared part, before anything has happened.
    pub fn new(
        scenario: Scenario,
        clock: WorldClock,
        servers: BTreeMap<String, Arc<Server>>,
        agents: BTreeMap<String, Arc<AgentHost>>,
        keep: Keep,
    ) -> Self {
        Self {
            seed: Seed(scenario.seed),
            scenario,
            clock,
            servers,
            agents,
            disturbed: Mutex::default(),
            is_lossy: AtomicBool::new(false),
            marks: Marks::default(),
            trace: Mutex::new(Trace::new(keep)),
            violations: Mutex::default(),
            orders: Mutex::default(),
            counts: Mutex::default(),
            jobs: Mutex::default(),
            open_jobs: AtomicUsize::default(),
            voters: Mutex::default(),
            trap: Mutex::default(),
            ending: AtomicU8::default(),
            book: Mutex::default(),
            operator: Mutex::default(),
            server_cas: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// Adds an event to the trace.
    pub fn note(&self, subject: &str, kind: Kind, text: impl Into<String>) {
        self.note_detail(subject, kind, Detail::None, text);
    }

    /// Adds an event with what a timeline draws of it.
    pub fn note_detail(&self, subject: &str, kind: Kind, detail: Detail, text: impl Into<String>) {
        let at = self.clock.micros();
        self.trace().add(Event { at, subject: subject.into(), kind, text: text.into(), detail });
    }

    /// Notes that an invariant does not hold; the run ends after this step.
    pub fn violate(&self, invariant: &str, text: impl Into<String>) {
        let text = text.into();
        self.note("world", Kind::Violation, format!("{invariant}: {text}"));
        let mut violations = lock(&self.violations);
        if violations.len() < VIOLATIONS_MAX {
            violations.push(Violation { invariant: invariant.into(), text });
        }
    }

    /// Notes that a situation was hit, in the trace at its first time.
    pub fn mark(&self, mark: Mark) {
        if self.marks.hit(mark) {
            self.note("world", Kind::Mark, mark.name());
        }
    }

    /// Tells the invariants something; they look at it after this step.
    pub fn saw(&self, seen: Seen) {
        lock(&self.seen).push(seen);
    }

    /// Everything that the invariants were told since the last call.
    pub fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *lock(&self.seen))
    }

    /// What does not hold.
    pub fn violations(&self) -> Vec<Violation> {
        lock(&self.violations).clone()
    }

    /// Whether everything held so far.
    pub fn holds(&self) -> bool {
        lock(&self.violations).is_empty()
    }

    /// The trace.
    pub fn trace(&self) -> MutexGuard<'_, Trace> {
        lock(&self.trace)
    }

    /// Asks the driver for something; it is done after this step.
    pub fn order(&self, order: Order) {
        lock(&self.orders).push_back(order);
    }

    /// Everything that the hosts asked for.
    pub fn take_orders(&self) -> VecDeque<Order> {
        std::mem::take(&mut *lock(&self.orders))
    }

    /// Gives the operator something to do.
    pub fn ask_operator(&self, job: Job) {
        self.open_jobs.fetch_add(1, Ordering::Relaxed);
        lock(&self.jobs).push_back(job);
    }

    /// The operator's next job; it is open until it is [`Shared::job_done`].
    pub fn next_job(&self) -> Option<Job> {
        lock(&self.jobs).pop_front()
    }

    /// The operator has done or given up a job.
    pub fn job_done(&self) {
        self.open_jobs.fetch_sub(1, Ordering::Relaxed);
    }

    /// The jobs that are not done.
    pub fn open_jobs(&self) -> usize {
        self.open_jobs.load(Ordering::Relaxed)
    }

    /// Lets the leader of a datacenter that applies such an entry next be killed.
    pub fn set_trap(&self, set: Option<(usize, Step)>) {
        *lock(&self.trap) = Trap { set, trapped: None };
    }

    /// Looks whether an entry that a server applied springs the trap.
    pub fn spring_trap(&self, host: &str, commands: &Entry) {
        let mut trap = lock(&self.trap);
        let Some((datacenter, step)) = trap.set else { return };
        let is_it = self.servers[host].datacenter == datacenter
            && commands.proposals.iter().any(|proposal| Step::of(&proposal.command) == Some(step));
        let leads = || {
            let context = self.servers[host].context();
            context.is_some_and(|context| context.replica.subscribe().borrow().role == Role::Leader)
        };
        if is_it && leads() {
            if step == Step::RemoteIssuerRecorded {
                self.mark(Mark::FellWhileSigning);
            }
            *trap = Trap { set: None, trapped: Some(host.to_owned()) };
        }
    }

    /// Who fell into the trap.
    pub fn take_trapped(&self) -> Option<String> {
        lock(&self.trap).trapped.take()
    }

    /// The disk of a server or an agent.
    pub fn disk(&self, host: &str) -> &Disk {
        match self.agents.get(host) {
            Some(agent) => &agent.disk,
            None => &self.servers[host].disk,
        }
    }

    /// Notes that something befalls the links or the machine of a host: what was on its way may be lost with its connection.
    pub fn disturb(&self, host: &str) {
        let now = self.clock.micros();
        match self.agents.get(host) {
            Some(agent) => agent.disturb(now),
            None => drop(lock(&self.disturbed).insert(host.to_owned(), now)),
        }
    }

    /// Notes that something befalls every link.
    pub fn disturb_all(&self) {
        self.servers.keys().chain(self.agents.keys()).for_each(|host| self.disturb(host));
    }

    /// Whether any message may be lost.
    pub fn set_lossy(&self, is_lossy: bool) {
        if self.is_lossy.swap(is_lossy, Ordering::Relaxed) != is_lossy {
            self.disturb_all();
        }
    }

    /// Whether any message may be lost now.
    pub fn is_lossy(&self) -> bool {
        self.is_lossy.load(Ordering::Relaxed)
    }

    /// Sets the clock of a server or an agent by so many milliseconds.
    pub fn step_clock(&self, host: &str, milliseconds: i64) {
        match self.agents.get(host) {
            Some(agent) => agent.step_clock(milliseconds, self.clock.micros()),
            None => self.servers[host].clock.step(milliseconds),
        }
    }

    /// The clock of a server or an agent.
    pub fn host_clock(&self, host: &str) -> &HostClock {
        match self.agents.get(host) {
            Some(agent) => &agent.clock,
            None => &self.servers[host].clock,
        }
    }

    /// When something last befell a server or its links.
    pub fn disturbed_at(&self, server: &str) -> u64 {
        lock(&self.disturbed).get(server).copied().unwrap_or(0)
    }

    /// The agents of a datacenter that the operator has given a token.
    pub fn agents_of(&self, datacenter: usize) -> impl Iterator<Item = &Arc<AgentHost>> {
        self.agents.values().filter(move |agent| agent.datacenter == datacenter && agent.belongs())
    }

    /// The servers that may run in a datacenter.
    pub fn servers_of(&self, datacenter: usize) -> impl Iterator<Item = &Arc<Server>> {
        self.servers.values().filter(move |server| server.datacenter == datacenter)
    }

    /// The servers that the operator has made members of a datacenter.
    pub fn members(&self, datacenter: usize) -> Vec<Arc<Server>> {
        self.servers_of(datacenter).filter(|server| server.belongs()).cloned().collect()
    }

    /// The datacenter of a server's host.
    pub fn datacenter_of(&self, host: &str) -> Option<usize> {
        self.servers.get(host).map(|server| server.datacenter)
    }

    /// Notes the newest membership that a server of a datacenter knows.
    pub fn set_voters(&self, datacenter: usize, voters: BTreeSet<NodeId>) {
        lock(&self.voters).insert(datacenter, voters);
    }

    /// The hosts of the voters of a datacenter's newest known membership.
    pub fn voters(&self, datacenter: usize) -> Vec<String> {
        let voters = lock(&self.voters).get(&datacenter).cloned().unwrap_or_default();
        let is_voter = |server: &&Arc<Server>| server.node().is_some_and(|node| voters.contains(&node));
        self.servers_of(datacenter).filter(is_voter).map(|server| server.host.clone()).collect()
    }

    /// The voters of a committed configuration in whose place no other one is being put, as far as the servers that run know: a
    /// minority of them may be lost. `None`: there is a change, or nobody knows.
    pub fn settled_voters(&self, datacenter: usize) -> Option<BTreeSet<NodeId>> {
        let statuses = self.servers_of(datacenter).filter_map(|server| Some(server.context()?.replica.status()));
        let statuses: Vec<Status> = statuses.collect();
        let newest = statuses.iter().max_by_key(|status| status.leadership.membership.id.index())?;
        let membership = &newest.leadership.membership;
        let is_committed = membership.id.index() <= newest.committed;
        (is_committed && !membership.is_joint).then(|| membership.voters.clone())
    }

    /// The server of a datacenter that believes to lead; of two, the one with the older term.
    pub fn oldest_leader(&self, datacenter: usize) -> Option<String> {
        let leaders = self.servers_of(datacenter).filter_map(|server| {
            let leadership = server.context()?.replica.subscribe().borrow().clone();
            (leadership.role == Role::Leader).then(|| (leadership.term, server.host.clone()))
        });
        leaders.min().map(|(_, host)| host)
    }

    /// Whether a server of a datacenter is about to leave or two configurations are in force, as any server that runs or ran last
    /// knows.
    pub fn is_membership_changing(&self, datacenter: usize) -> bool {
        self.open_jobs() > 0
            || self.servers_of(datacenter).filter_map(|server| server.context()).any(|context| {
                let is_joint = context.replica.subscribe().borrow().membership.is_joint;
                is_joint || context.replica.state().state.members().any(|member| member.is_leaving)
            })
    }

    /// Where the world is in its life.
    pub fn stage(&self) -> Stage {
        match self.ending.load(Ordering::Relaxed) {
            0 => Stage::Living,
            1 => Stage::Alone,
            2 => Stage::Proving,
            _ => Stage::Resting,
        }
    }

    /// Moves the world's life on.
    pub fn set_stage(&self, stage: Stage) {
        self.ending.store(stage as u8, Ordering::Relaxed);
    }

    /// What clients have received and done.
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    /// What is counted.
    pub fn counts(&self) -> MutexGuard<'_, Counts> {
        lock(&self.counts)
    }

    /// Counts a client's operation.
    pub fn count_operation(&self, kind: &str, is_success: bool) {
        let mut counts = self.counts();
        let table = if is_success { &mut counts.operations } else { &mut counts.failures };
        *table.entry(kind.into()).or_default() += 1;
    }

    /// The operator's management token, once the primary has begun.
    pub fn operator_token(&self) -> Option<String> {
        lock(&self.operator).clone()
    }

    /// Hands the operator's management token to every host.
    pub fn set_operator_token(&self, token: String) {
        *lock(&self.operator) = Some(token);
    }

    /// Hands the roots of a datacenter's server CA to every host.
    pub fn set_server_ca(&self, datacenter: usize, roots: String) {
        lock(&self.server_cas).insert(datacenter, roots);
    }

    /// The roots of a datacenter's server CA as PEM, once it has begun.
    pub fn server_ca(&self, datacenter: usize) -> Option<String> {
        lock(&self.server_cas).get(&datacenter).cloned()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
