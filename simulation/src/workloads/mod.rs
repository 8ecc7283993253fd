//! What clients do in a world, and how the world sees that it is formed, alive, at rest.

mod agent;
mod attacker;
mod book;
mod configuration;
mod generations;
mod handshake;
mod intentions;
mod issue;
mod operator;
mod prober;
mod questions;
mod registers;
mod tokens;
mod watch;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use carrack::server::context::Context;
use carrack_authority::{
    State,
    acl::{Policy, Token},
    federation::{Datacenter, Table},
    id::Revision,
    intention::Intention,
    revocation::Revocation,
    root::{Ca, Root, RootPhase},
    time::Timestamp,
};
use carrack_raft::Role;
use rand::{RngExt, seq::IndexedRandom};
use tokio::time::sleep;

pub use self::book::Leaf;
pub(crate) use self::{agent::beside_agent, book::Book};
use crate::{
    client::Client,
    random::Stream,
    world::{
        PRIMARY,
        agent::AgentHost,
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
    let (host, datacenter) = (client_host(number), shared.scenario.datacenter_of_client(number));
    let worker = |what| Worker::new(&shared, datacenter, &host, what);
    while !is_formed(&shared) {
        sleep(LOOK).await;
    }
    let works = [
        tokio::task::spawn_local(issue::run(worker("issue"))),
        tokio::task::spawn_local(registers::run(worker("registers"))),
        tokio::task::spawn_local(tokens::run(worker("tokens"))),
        tokio::task::spawn_local(prober::run(worker("prober"))),
        tokio::task::spawn_local(watch::run(worker("watch"))),
        tokio::task::spawn_local(configuration::run(worker("configuration"))),
        tokio::task::spawn_local(intentions::write(worker("intentions"))),
        tokio::task::spawn_local(intentions::watch(worker("watch intentions"))),
        tokio::task::spawn_local(questions::of_server(worker("questions"))),
    ];
    for work in works {
        work.await?;
    }
    Ok(())
}

/// One line of work of a client: its own connections and its own randomness.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    /// The datacenter whose servers it asks.
    pub(crate) datacenter: usize,
    pub(crate) host: String,
    pub(crate) random: Stream,
    pub(crate) client: Client,
}

impl Worker {
    fn new(shared: &Arc<Shared>, datacenter: usize, host: &str, what: &str) -> Self {
        let random = shared.seed.stream(&format!("{what} of {host}"));
        let server_ca = shared.server_ca(datacenter).expect("a formed datacenter has told its server CA");
        let client = Client::new(shared, &server_ca, shared.operator_token());
        Self { shared: shared.clone(), datacenter, host: host.to_owned(), random, client }
    }

    /// Whether there is still work to do, after the client has thought about it.
    pub(crate) async fn goes_on(&mut self) -> bool {
        let think = self.shared.scenario.think;
        sleep(think.mul_f64(self.random.random_range(0.2..2.0))).await;
        self.shared.stage() == Stage::Living
    }

    /// A server to ask: one that runs, or sometimes one that does not.
    pub(crate) fn any_server(&mut self) -> String {
        any_server(&self.shared, self.datacenter, &mut self.random)
    }
}

pub(crate) fn any_server(shared: &Shared, datacenter: usize, random: &mut Stream) -> String {
    let members = shared.members(datacenter);
    let up: Vec<Arc<Server>> = members.iter().filter(|server| server.phase() == Phase::Running).cloned().collect();
    let from = if up.is_empty() || random.random_ratio(1, 20) { members } else { up };
    from.choose(random).expect("a datacenter never loses its last member").host.clone()
}

fn datacenters(shared: &Shared) -> std::ops::Range<usize> {
    0..shared.scenario.datacenters()
}

/// Whether every first server of every datacenter votes and issues.
pub fn is_formed(shared: &Shared) -> bool {
    shared.book().is_formed
}

/// Whether every secondary has issued without the primary, or has said why it cannot.
pub fn stand_alone(shared: &Shared) -> bool {
    datacenters(shared).skip(1).all(|secondary| shared.book().stood_alone.contains(&secondary))
}

/// Whether the healed core of every datacenter has elected a leader, and the operator has read and written there since.
pub fn is_live(shared: &Shared) -> bool {
    datacenters(shared)
        .all(|datacenter| shared.book().has_proved_life.contains(&datacenter) && leaders(shared, datacenter) == 1)
}

/// Whether nothing is left to do: everything that was logged is applied by every running member, every job is done, every server
/// has renewed what it has, no rotation is under way, and every secondary has what the primary has.
pub fn is_at_rest(shared: &Shared) -> bool {
    shared.open_jobs() == 0
        && shared.book().has_read_registers
        && datacenters(shared).all(|datacenter| rests(shared, datacenter))
        && has_converged(shared)
        && agents(shared).all(|agent| agent_rests(shared, agent))
}

fn agents(shared: &Shared) -> impl Iterator<Item = &Arc<AgentHost>> {
    shared.agents.values().filter(|agent| agent.belongs())
}

/// Whether an agent has come back to its servers, and its workloads have found everything there.
fn agent_rests(shared: &Shared, agent: &AgentHost) -> bool {
    agent.phase() == Phase::Running && agent::has_come_back(shared, agent) && agent_rests_by(&shared.book(), agent)
}

fn agent_rests_by(book: &Book, agent: &AgentHost) -> bool {
    book.rested_agents.contains(&(agent.host.clone(), agent.starts()))
}

fn rests(shared: &Shared, datacenter: usize) -> bool {
    let expected: Vec<&Arc<Server>> =
        shared.servers_of(datacenter).filter(|server| server.belongs() && server.is_core()).collect();
    let running: Vec<_> = expected.iter().filter_map(|server| server.context()).collect();
    if running.len() < expected.len() || leaders(shared, datacenter) != 1 {
        return false;
    }
    let statuses: Vec<_> = running.iter().map(|context| context.replica.status()).collect();
    let last = statuses.iter().filter_map(|status| status.last_log).max();
    statuses.iter().all(|status| status.last_log == last && Some(status.applied) == last)
        && running.iter().all(|context| has_renewed(context, shared.clock.now()))
        && running.iter().all(|context| is_rotated(&context.replica.state().state))
}

/// Whether every rotation has come to its end (the liveness of `rotation_resumes`). One waits while nothing may be issued.
fn is_rotated(state: &State) -> bool {
    state.is_halted() || (state.rotation().is_none() && state.heard_activation().is_none())
}

/// Whether every secondary has followed all that the primary has.
fn has_converged(shared: &Shared) -> bool {
    let state = |datacenter| {
        let running =
            shared.servers_of(datacenter).filter(|server| server.is_core()).find_map(|server| server.context());
        running.map(|context| context.replica.state().state.clone())
    };
    let Some(primary) = state(PRIMARY) else { return false };
    datacenters(shared)
        .skip(1)
        .all(|secondary| state(secondary).is_some_and(|secondary| is_followed(&primary, &secondary)))
}

fn is_followed(primary: &State, secondary: &State) -> bool {
    let has_told = secondary.own_datacenter().is_some_and(|own| {
        let known = primary.datacenter(&own.name).map(|known| told(known));
        known == Some(told(&own)) && primary.servers_of(&own.name) == Some(&secondary.own_servers())
    });
    has_told && Table::ALL.into_iter().all(|table| what_differs(primary, secondary, table).is_none())
}

/// A datacenter without what each other datacenter keeps for itself.
fn told(datacenter: &Datacenter) -> Datacenter {
    let (created, modified) = (Revision(0), Revision(0));
    Datacenter { joined_at: Timestamp::EPOCH, created, modified, ..datacenter.clone() }
}

/// The number of the last activation that a datacenter has heard of.
fn followed_activation(state: &State) -> u64 {
    state.heard_activation().map_or_else(|| state.roots(Ca::Mesh).activation(), |heard| heard.activation)
}

/// What of a table a secondary has otherwise than the primary: whole records, without their revisions and times of the own log.
pub(crate) fn what_differs(primary: &State, secondary: &State, table: Table) -> Option<String> {
    let (created, modified) = (Revision(0), Revision(0));
    match table {
        Table::Ca if primary.ca_config().config != secondary.ca_config().config => Some("the configuration".into()),
        Table::Ca if primary.roots(Ca::Mesh).activation() != followed_activation(secondary) => {
            Some("the number of the last activation".into())
        }
        Table::Ca if primary.is_halted() != secondary.is_primary_halted() => Some("whether it is halted".into()),
        Table::Ca => {
            // Until issuing has flipped there, its phases are those of before.
            let has_flipped = secondary.heard_activation().is_none();
            let bare = |root: &Root| {
                let mut root = Root { created, modified, phase_since: Timestamp::EPOCH, ..root.clone() };
                root.made.sealed_key = None;
                if !has_flipped {
                    (root.phase, root.activation) = (RootPhase::Prepared, 0);
                }
                // A secondary that has left activations out knows of a root that it left only by which one it was active there.
                if root.phase != RootPhase::Active {
                    root.activation = 0;
                }
                root
            };
            let roots = |state: &State| -> BTreeMap<_, _> {
                state.roots(Ca::Mesh).bundle().iter().map(|root| (root.made.id, bare(root))).collect()
            };
            other_key(&roots(primary), &roots(secondary)).map(|root| format!("root {root}"))
        }
        Table::Datacenters => {
            let own = secondary.cluster().map(|cluster| cluster.id);
            let others = |state: &State| -> BTreeMap<_, _> {
                let here = state.own_datacenter().map(|here| (told(&here), Some(state.own_servers())));
                let all = state.datacenters().map(|other| (told(other), state.servers_of(&other.name).cloned()));
                // What a secondary says of itself comes to the primary when it does.
                let all = all.chain(here).filter(|(other, _)| Some(other.cluster) != own);
                all.map(|(other, servers)| (other.name.clone(), (other, servers))).collect()
            };
            other_key(&others(primary), &others(secondary)).map(|name| format!("the datacenter {name}"))
        }
        Table::Policies => {
            let policies = |state: &State| -> BTreeMap<_, _> {
                let policies = state.acl().policies();
                policies.map(|policy| (policy.id, Policy { created, modified, ..Policy::clone(policy) })).collect()
            };
            other_key(&policies(primary), &policies(secondary)).map(|policy| format!("policy {policy}"))
        }
        Table::Tokens => {
            let now = primary.now().max(secondary.now());
            let tokens = |state: &State| -> BTreeMap<_, _> {
                // Behind a local token that of the primary waits.
                let tokens = state.acl().tokens().chain(state.hidden_tokens());
                let tokens = tokens.filter(|token| !token.is_local && token.expires_at.is_none_or(|end| end > now));
                tokens.map(|token| (token.accessor, Token { created, modified, ..Token::clone(token) })).collect()
            };
            other_key(&tokens(primary), &tokens(secondary)).map(|token| format!("token {token}"))
        }
        Table::Revocations => {
            let now = primary.now().max(secondary.now());
            let revoked = |state: &State| -> BTreeMap<_, _> {
                let revoked = state.revocations().all().filter(|revoked| revoked.until >= now);
                revoked.map(|it| (it.serial, Revocation { created, modified, ..Revocation::clone(it) })).collect()
            };
            other_key(&revoked(primary), &revoked(secondary)).map(|serial| format!("the revocation of {serial}"))
        }
        Table::RevokedIssuers => {
            let now = primary.now().max(secondary.now());
            let revoked = |state: &State| -> BTreeMap<_, _> {
                let revoked = state.revoked_issuers().all().filter(|revoked| revoked.until >= now);
                revoked.map(|it| (it.issuer, it.clone())).collect()
            };
            other_key(&revoked(primary), &revoked(secondary)).map(|issuer| format!("the revoked issuer {issuer}"))
        }
        Table::Intentions => {
            let intentions = |state: &State| -> BTreeMap<_, _> {
                let intentions = state.intentions().all();
                intentions.map(|it| (it.key(), Intention { created, modified, ..Intention::clone(it) })).collect()
            };
            other_key(&intentions(primary), &intentions(secondary)).map(|key| format!("the intention {}", key.0))
        }
    }
}

/// The first key whose value the two do not share.
fn other_key<K: Ord + Clone, V: PartialEq>(one: &BTreeMap<K, V>, other: &BTreeMap<K, V>) -> Option<K> {
    one.keys().chain(other.keys()).find(|key| one.get(*key) != other.get(*key)).cloned()
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

fn leaders(shared: &Shared, datacenter: usize) -> usize {
    let contexts =
        shared.servers_of(datacenter).filter(|server| server.is_core()).filter_map(|server| server.context());
    contexts.filter(|context| context.replica.subscribe().borrow().role == Role::Leader).count()
}

/// How every server stands, for whoever looks for the cause of a violation.
pub fn standing(shared: &Shared) -> String {
    let lines = shared.servers.values().filter(|server| server.belongs()).map(|server| {
        let Some(context) = server.context() else { return format!("{} is {:?}", server.host, server.phase()) };
        let status = context.replica.status();
        let leadership = &status.leadership;
        format!(
            "{} is {:?} of term {} (leader {:?}, voters {:?}, learners {:?}, log {:?}, committed {:?}, applied {}, issues {}, has renewed {}, is rotated {}, troubles {:?})",
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
            is_rotated(&context.replica.state().state),
            context.troubles.list(),
        )
    });
    let book = shared.book();
    let agents = agents(shared).filter(|agent| !agent_rests_by(&book, agent)).map(|agent| {
        let reason = book.restless_agents.get(&(agent.host.clone(), agent.starts()));
        format!("the agent {} is {:?} and follows {:?}: {reason:?}", agent.host, agent.phase(), agent.connection())
    });
    let agents: Vec<String> = agents.collect();
    let open = format!("{} open jobs", shared.open_jobs());
    lines.chain(agents).chain(std::iter::once(open)).collect::<Vec<_>>().join("; ")
}
