//! What clients do in a world, and how the world sees that it is formed, alive, at rest.

mod attacker;
mod book;
mod handshake;
mod issue;
mod operator;
mod prober;
mod registers;
mod tokens;
mod watch;

use std::{sync::Arc, time::Duration};

use carrack::server::context::Context;
use carrack_authority::time::Timestamp;
use carrack_raft::Role;
use rand::{RngExt, seq::IndexedRandom};
use tokio::time::sleep;

pub(crate) use self::book::Book;
pub use self::book::Leaf;
use crate::{
    client::Client,
    random::Stream,
    world::{
        server::{Phase, Server},
        shared::{Shared, Stage},
    },
};

/// How long a client waits for an answer.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How often a client looks whether the world is ready for it.
const LOOK: Duration = Duration::from_millis(50);

const OPERATOR: &str = "operator";
const ATTACKER: &str = "attacker";

/// The hosts that are no servers.
pub fn client_hosts(shared: &Shared) -> Vec<String> {
    let clients = (0..shared.scenario.clients).map(client_host);
    [OPERATOR, ATTACKER].map(str::to_owned).into_iter().chain(clients).collect()
}

fn client_host(number: usize) -> String {
    format!("client-{number}")
}

/// Adds the hosts of the operator and of every client.
pub fn hosts(sim: &mut turmoil::Sim<'static>, shared: &Arc<Shared>) {
    let world = shared.clone();
    sim.host(OPERATOR, move || operator::run(world.clone()));
    let world = shared.clone();
    sim.host(ATTACKER, move || attacker::run(world.clone()));
    for number in 0..shared.scenario.clients {
        let world = shared.clone();
        sim.host(client_host(number), move || run_client(world.clone(), number));
    }
}

async fn run_client(shared: Arc<Shared>, number: usize) -> turmoil::Result {
    let host = client_host(number);
    while !is_formed(&shared) {
        sleep(LOOK).await;
    }
    let works = [
        tokio::task::spawn_local(issue::run(Worker::new(&shared, &host, "issue"))),
        tokio::task::spawn_local(registers::run(Worker::new(&shared, &host, "registers"))),
        tokio::task::spawn_local(tokens::run(Worker::new(&shared, &host, "tokens"))),
        tokio::task::spawn_local(prober::run(Worker::new(&shared, &host, "prober"))),
        tokio::task::spawn_local(watch::run(Worker::new(&shared, &host, "watch"))),
    ];
    for work in works {
        work.await?;
    }
    Ok(())
}

/// One line of work of a client: its own connections and its own randomness.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) host: String,
    pub(crate) random: Stream,
    pub(crate) client: Client,
}

impl Worker {
    fn new(shared: &Arc<Shared>, host: &str, what: &str) -> Self {
        let random = shared.seed.stream(&format!("{what} of {host}"));
        let server_ca = shared.server_ca().expect("a formed datacenter has told its server CA");
        let client = Client::new(shared, &server_ca, shared.operator_token());
        Self { shared: shared.clone(), host: host.to_owned(), random, client }
    }

    /// Whether there is still work to do, after the client has thought about it.
    pub(crate) async fn goes_on(&mut self) -> bool {
        let think = self.shared.scenario.think;
        sleep(think.mul_f64(self.random.random_range(0.2..2.0))).await;
        self.shared.stage() == Stage::Living
    }

    /// A server to ask: one that runs, or sometimes one that does not.
    pub(crate) fn any_server(&mut self) -> String {
        any_server(&self.shared, &mut self.random)
    }
}

pub(crate) fn any_server(shared: &Shared, random: &mut Stream) -> String {
    let members: Vec<&Arc<Server>> = shared.servers.values().filter(|server| server.belongs()).collect();
    let up: Vec<&Arc<Server>> = members.iter().filter(|server| server.phase() == Phase::Running).copied().collect();
    let from = if up.is_empty() || random.random_ratio(1, 20) { members } else { up };
    from.choose(random).expect("a datacenter never loses its last member").host.clone()
}

/// Whether every first server votes and issues.
pub fn is_formed(shared: &Shared) -> bool {
    shared.server_ca().is_some() && shared.book().is_formed
}

/// Whether the healed core has elected a leader, and the operator has read and written since.
pub fn is_live(shared: &Shared) -> bool {
    shared.book().has_proved_life && leaders(shared) == 1
}

/// Whether nothing is left to do: everything that was logged is applied by every running member, every job is done, every server
/// has renewed what it has.
pub fn is_at_rest(shared: &Shared) -> bool {
    let expected: Vec<&Arc<Server>> =
        shared.servers.values().filter(|server| server.belongs() && server.is_core()).collect();
    let running: Vec<_> = expected.iter().filter_map(|server| server.context()).collect();
    let is_read = shared.book().has_read_registers;
    if running.len() < expected.len() || leaders(shared) != 1 || shared.open_jobs() > 0 || !is_read {
        return false;
    }
    let statuses: Vec<_> = running.iter().map(|context| context.replica.status()).collect();
    let last = statuses.iter().filter_map(|status| status.last_log).max();
    statuses.iter().all(|status| status.last_log == last && Some(status.applied) == last)
        && running.iter().all(|context| has_renewed(context, shared.clock.now()))
}

/// Whether a server's issuer and its server certificate have more than a third of their lives left: both are renewed at half life.
fn has_renewed(context: &Context, now: Timestamp) -> bool {
    let applied = context.replica.state();
    let issuer = context.desk.issuer().and_then(|id| applied.state.issuer(&id).cloned());
    let member = applied.state.member(context.identity.node);
    let certificate = member.and_then(|member| member.certificate.as_ref());
    let is_young = |begins: Timestamp, ends: Timestamp| ends.since(now) > ends.since(begins) / 3;
    issuer.is_some_and(|issuer| is_young(issuer.not_before, issuer.not_after))
        && certificate.is_some_and(|certificate| is_young(certificate.not_before, certificate.not_after))
}

fn leaders(shared: &Shared) -> usize {
    let contexts = shared.servers.values().filter(|server| server.is_core()).filter_map(|server| server.context());
    contexts.filter(|context| context.replica.subscribe().borrow().role == Role::Leader).count()
}

/// How every server stands, for whoever looks for the cause of a violation.
pub fn standing(shared: &Shared) -> String {
    let lines = shared.servers.values().filter(|server| server.belongs()).map(|server| {
        let Some(context) = server.context() else { return format!("{} is {:?}", server.host, server.phase()) };
        let status = context.replica.status();
        let leadership = &status.leadership;
        format!(
            "{} is {:?} of term {} (leader {:?}, voters {:?}, learners {:?}, log {:?}, committed {:?}, applied {}, issues {}, has renewed {}, troubles {:?})",
            server.host,
            leadership.role,
            leadership.term,
            leadership.leader.map(|leader| leader.0),
            leadership.membership.voters.iter().map(|voter| voter.0).collect::<Vec<_>>(),
            leadership.membership.learners.iter().map(|voter| voter.0).collect::<Vec<_>>(),
            status.last_log,
            status.committed,
            status.applied,
            context.desk.issuer().is_some(),
            has_renewed(&context, shared.clock.now()),
            context.troubles.list(),
        )
    });
    let open = format!("{} open jobs", shared.open_jobs());
    lines.chain(std::iter::once(open)).collect::<Vec<_>>().join("; ")
}
