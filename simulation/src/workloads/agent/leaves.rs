//! Leaves of an agent: each is of the identity that was asked for, with the key that comes with it, whole, in order, alive by the
//! agent's clock, and under a root that is in its bundle and in that of every other agent that hears its servers.

use std::{collections::BTreeMap, sync::Arc};

use carrack::keys::{aws_lc::AwsLcKeyMaker, secret::KeyMaker};
use carrack_authority::{
    id::{Revision, Serial},
    key::{Der, Signer},
    time::Timestamp,
    x509::{CertificateFacts, pem},
};
use futures::future::join_all;
use rand::{RngExt, seq::IndexedRandom};

use super::{Beside, get};
use crate::{
    client::{Answer, Client, Lost},
    crypto::{entropy::ProcessStart, keys::SeededKeyMaker, registry::KeyRegistry},
    invariants::{
        every_live_leaf_verifies::verify_twice,
        received::{differs, nests},
        seen::{Seen, Told},
    },
    marks::Mark,
    trace::Kind,
    workloads::{Leaf, handshake::LeafKey, issue::identity_of},
    world::{agent::AgentHost, shared::Shared},
};

/// The invariant that is judged here.
const NAME: &str = "served_chain_minimal";
/// How long an agent that hears its servers may be without a root that another one has.
const PUBLISHED_WITHIN_MICROS: u64 = 3_000_000;
/// Every service asks this many times in a herd.
const HERD_TIMES: usize = 4;

pub(super) async fn run(mut beside: Beside) {
    let mut indices = Indices::default();
    let mut woke_at = 0;
    while beside.goes_on().await {
        if woke_at != beside.agent.woke_at() {
            woke_at = beside.agent.woke_at();
            beside.is_ready().await;
            herd(&beside).await;
            continue;
        }
        let services: Vec<(String, String)> = beside.shared.book().service_tokens.clone().into_iter().collect();
        let (service, secret) = services.choose(&mut beside.random).expect("a formed world has services").clone();
        beside.client.set_token(Some(secret));
        let path = match indices.0.get(&service).filter(|_| beside.random.random_ratio(1, 3)) {
            Some(index) => format!("{}?index={index}&wait=2s", path(&service)),
            None => path(&service),
        };
        let asking = Asking::begin(&beside.shared, &beside.agent);
        let answer = beside.ask(&path).await;
        beside.note("leaf of an agent", &format!("leaf of {service}"), asking.asked_at, &answer);
        let Some(answer) = answer.ok().filter(Answer::is_success) else { continue };
        indices.check(&beside, &service, &answer);
        asking.take(&service, &answer);
    }
}

/// The newest index of each service.
#[derive(Default)]
struct Indices(BTreeMap<String, u64>);

impl Indices {
    fn check(&mut self, beside: &Beside, service: &str, answer: &Answer) {
        let index = answer.index.unwrap_or(0);
        let newest = self.0.entry(service.to_owned()).or_default();
        if index < *newest {
            let host = &beside.agent.host;
            let text = format!("the agent {host} answered index {index} for the leaf of {service} after {newest}");
            beside.shared.violate("watch_monotone", text);
        }
        *newest = index.max(*newest);
    }
}

pub(super) fn path(service: &str) -> String {
    format!("/v1/agent/connect/ca/leaf/{service}")
}

/// The agent has come back from its start or its sleep: everybody on its host asks at once, each on a connection of its own.
async fn herd(beside: &Beside) {
    let services: Vec<(String, String)> = beside.shared.book().service_tokens.clone().into_iter().collect();
    let all = services.iter().cycle().take(services.len() * HERD_TIMES);
    let asked = all.map(|(service, secret)| {
        let (shared, agent) = (beside.shared.clone(), beside.agent.clone());
        let mut client = Client::of_agent(&shared, Some(secret.clone()));
        async move {
            let asking = Asking::begin(&shared, &agent);
            let answer = get(&mut client, &agent, &path(service)).await;
            (service.clone(), asking, answer)
        }
    });
    let mut served = 0;
    for (service, asking, answer) in join_all(asked).await {
        let answer: Result<Answer, Lost> = answer;
        beside.note("leaf of an agent in a herd", &format!("leaf of {service}"), asking.asked_at, &answer);
        if let Some(answer) = answer.ok().filter(Answer::is_success) {
            served += 1;
            asking.take(&service, &answer);
        }
    }
    if served > services.len() {
        beside.shared.mark(Mark::HerdAtAgent);
    }
}

/// A leaf that is asked for.
pub(super) struct Asking {
    shared: Arc<Shared>,
    agent: Arc<AgentHost>,
    pub(super) asked_at: u64,
    /// What the agent's clock showed.
    by_clock: Timestamp,
}

impl Asking {
    pub(super) fn begin(shared: &Arc<Shared>, agent: &Arc<AgentHost>) -> Self {
        let (asked_at, by_clock) = (shared.clock.micros(), now_of(agent));
        Self { shared: shared.clone(), agent: agent.clone(), asked_at, by_clock }
    }

    /// Examines the leaf of a good answer and keeps it for the workloads of this host; its end, if it can be used.
    pub(super) fn take(&self, service: &str, answer: &Answer) -> Option<CertificateFacts> {
        let shared = &self.shared;
        let found = match read(answer) {
            Ok(found) => found,
            Err(reason) => {
                shared.violate(NAME, format!("the leaf of {service} that {} served: {reason}", self.agent.host));
                return None;
            }
        };
        let facts = found.facts.clone();
        if let Err((name, reason)) = self.examine(service, &found) {
            shared.violate(name, format!("the leaf of {service} that {} served: {reason}", self.agent.host));
            return None;
        }
        if self.agent.connection().is_none() && answer.is_cached {
            shared.mark(Mark::AgentServedAlone);
        }
        self.keep(facts.serial, found);
        Some(facts)
    }

    fn examine(&self, service: &str, found: &Found) -> Result<(), (&'static str, String)> {
        let identity = identity_of(&self.shared, self.agent.datacenter, service);
        if let Some(text) = differs(&found.facts, &identity, found.signer.public_key()) {
            return Err(("exactly_one_identity", text));
        }
        if found.identity != identity.to_string() {
            return Err((NAME, format!("it is said to be of {}", found.identity)));
        }
        nests(&self.shared, &found.facts, &self.leaf(found));
        // Its clock may have been set, or its machine have slept, while the answer was on its way.
        let times = [self.by_clock, now_of(&self.agent)];
        let is_alive = |at: &Timestamp| found.facts.not_before <= *at && *at < found.facts.not_after;
        let Some(at) = times.into_iter().find(is_alive) else {
            let (from, to) = (found.facts.not_before, found.facts.not_after);
            return Err((NAME, format!("it lives from {from} to {to}, and it was {} and {}", times[0], times[1])));
        };
        self.verify(found, at)
    }

    /// The chain leads to the bundle of its own agent, and to that of every other one that has heard its servers for a while.
    fn verify(&self, found: &Found, at: Timestamp) -> Result<(), (&'static str, String)> {
        let leaf = found.certificate.as_bytes();
        let chain: Vec<&[u8]> = found.chain.iter().map(Der::as_bytes).collect();
        let now = self.shared.clock.micros();
        let mut verified: Vec<Vec<Der>> = Vec::new();
        let others = self.shared.agents.values().filter(|other| other.host != self.agent.host);
        for agent in std::iter::once(&self.agent).chain(others) {
            let is_own = agent.host == self.agent.host;
            let Some(bundle) = agent.knows().and_then(|knows| knows.followed.bundle()) else { continue };
            let within = PUBLISHED_WITHIN_MICROS * u64::from(self.shared.scenario.slowness());
            let hears = agent.connection().is_some_and(|heard| heard.since + within < now);
            let anchors: Vec<Der> = bundle.anchors().into_iter().cloned().collect();
            if (!is_own && !hears) || verified.contains(&anchors) {
                continue;
            }
            if is_own && found.chain.iter().any(|der| anchors.contains(der)) {
                return Err((NAME, "a root is served with it".into()));
            }
            let bytes: Vec<&[u8]> = anchors.iter().map(Der::as_bytes).collect();
            if let Err(error) = verify_twice(leaf, &chain, &bytes, at)
                && (is_own || !self.follows_one_without(&found.chain, agent))
            {
                let name = if is_own { NAME } else { "published_before_used" };
                return Err((name, format!("by the bundle of {}: {error}", agent.host)));
            }
            verified.push(anchors);
        }
        Ok(())
    }

    /// Whether a root came without a bridge, and an agent follows a server that does not have it: one that is cut off from its leader.
    fn follows_one_without(&self, chain: &[Der], agent: &AgentHost) -> bool {
        let issuer = chain.first().and_then(|der| CertificateFacts::read(der.as_bytes()).ok());
        let root = issuer.and_then(|issuer| issuer.authority_key_id);
        let server = agent.connection().and_then(|heard| self.shared.servers.get(&heard.server).cloned());
        let applied = server.and_then(|server| server.context()).map(|context| context.replica.status().applied);
        let revision = Revision(applied.unwrap_or(0));
        root.is_some_and(|root| self.shared.book().generations.is_unknown(agent.datacenter, revision, &root))
    }

    fn leaf(&self, found: &Found) -> Leaf {
        Leaf {
            identity: found.identity.clone(),
            holder: self.agent.host.clone(),
            key: LeafKey(found.signer.clone()),
            certificate: found.certificate.clone(),
            chain: found.chain.clone(),
            not_after: found.facts.not_after,
        }
    }

    fn keep(&self, serial: Serial, found: Found) {
        let shared = &self.shared;
        let leaf = self.leaf(&found);
        {
            let mut book = shared.book();
            if book.leaves.contains_key(&serial) {
                return;
            }
            let former = book.newest.get(&(leaf.identity.clone(), leaf.holder.clone()));
            let has_ended = former.and_then(|former| book.leaves.get(former)).map(|former| former.not_after);
            if has_ended.is_some_and(|ended| ended < shared.clock.now()) {
                shared.mark(Mark::AgentOutlivedLeaf);
            }
            book.receive(serial, leaf);
        }
        let text = format!("leaf of {}: {serial} until {}", found.identity, found.facts.not_after);
        shared.note(&self.agent.host, Kind::Issued, text);
        let (datacenter, identity, certificate) = (self.agent.datacenter, found.identity, found.certificate);
        shared.saw(Seen::Told(Told::LeafOfAgent { datacenter, identity, certificate }));
    }
}

/// What an agent answered.
struct Found {
    certificate: Der,
    chain: Vec<Der>,
    facts: CertificateFacts,
    identity: String,
    signer: Arc<dyn Signer>,
}

fn read(answer: &Answer) -> Result<Found, String> {
    let json = answer.json();
    let text = |field: &str| json[field].as_str().ok_or_else(|| format!("it has no {field}"));
    let (certificates, key) = (text("CertPEM")?, text("PrivateKeyPEM")?);
    for (field, text) in [("CertPEM", certificates), ("PrivateKeyPEM", key)] {
        if !text.ends_with("-----\n") {
            return Err(format!("{field} does not end in a newline"));
        }
    }
    let mut certificates = pem::decode_certificates(certificates).map_err(|error| error.to_string())?;
    if certificates.len() < 2 {
        return Err("it comes without its issuer".into());
    }
    let certificate = certificates.remove(0);
    let facts = CertificateFacts::read(certificate.as_bytes()).map_err(|error| error.to_string())?;
    let key = AwsLcKeyMaker.import(key).map_err(|error| error.to_string())?;
    // Its signatures come from the seed; it makes no key.
    let signers =
        SeededKeyMaker::new(crate::random::Seed(0), &ProcessStart::new("workload", 0), KeyRegistry::default());
    let signer = signers.signer(&key).map_err(|error| error.to_string())?;
    if facts.public_key != *signer.public_key() {
        return Err("the key that comes with it is another one's".into());
    }
    Ok(Found { certificate, chain: certificates, facts, identity: text("ServiceURI")?.to_owned(), signer })
}

/// What an agent's clock shows.
pub(super) fn now_of(agent: &AgentHost) -> Timestamp {
    carrack_raft::ports::WallClock::now(&agent.clock)
}
