//! The workloads beside an agent: they ask it for leaves, roots and decisions, one by one, in blocking queries, and all at once when it
//! has come back; and they judge what they get. They start and end with its host.

mod leaves;
mod rest;
mod roots;
mod tokens;

use std::{sync::Arc, time::Duration};

use rand::RngExt;
use tokio::time::sleep;

pub(crate) use self::rest::has_come_back;
use super::{LOOK, is_formed, questions};
use crate::{
    client::{Answer, Call, Client, Lost},
    invariants::seen::{Seen, Told},
    random::Stream,
    trace::{Detail, Kind},
    world::{
        agent::AgentHost,
        shared::{Shared, Stage},
    },
};

/// How long a workload waits for its agent: longer than that waits for a server.
const ANSWER_WITHIN: Duration = Duration::from_secs(12);
/// How long workloads ask without pause when the agent has found a server after a start or a sleep.
const EAGER_MICROS: u64 = 300_000;
/// How long after a start or a sleep workloads wait eagerly for their agent.
const BACK_WITHIN_MICROS: u64 = 6_000_000;

/// Starts the workloads of an agent's host.
pub(crate) async fn beside_agent(shared: &Arc<Shared>, agent: &Arc<AgentHost>) {
    while !is_formed(shared) {
        sleep(LOOK).await;
    }
    let beside = |what| Beside::new(shared, agent, what);
    tokio::task::spawn_local(leaves::run(beside("leaves")));
    tokio::task::spawn_local(roots::run(beside("roots")));
    tokio::task::spawn_local(questions::of_agent(beside("questions")));
    tokio::task::spawn_local(tokens::run(beside("tokens")));
    tokio::task::spawn_local(rest::run(beside("rest")));
}

/// One line of work beside an agent.
pub(crate) struct Beside {
    pub(crate) shared: Arc<Shared>,
    pub(crate) agent: Arc<AgentHost>,
    pub(crate) random: Stream,
    pub(crate) client: Client,
}

impl Beside {
    fn new(shared: &Arc<Shared>, agent: &Arc<AgentHost>, what: &str) -> Self {
        let random = shared.seed.stream(&format!("{what} of {}, start {}", agent.host, agent.starts()));
        let client = Client::of_agent(shared, None);
        Self { shared: shared.clone(), agent: agent.clone(), random, client }
    }

    /// Whether there is still work to do, after the workload has thought about it. While its machine sleeps, so does it.
    pub(crate) async fn goes_on(&mut self) -> bool {
        sleep(self.shared.scenario.think.mul_f64(self.random.random_range(0.2..2.0))).await;
        self.is_awake().await
    }

    /// The same without thinking while the agent has just started or woken: what it answers first is looked at most.
    pub(crate) async fn goes_on_eagerly(&mut self) -> bool {
        if !self.has_just_come_back() {
            return self.goes_on().await;
        }
        sleep(self.shared.scenario.tick).await;
        self.is_awake().await
    }

    fn has_just_come_back(&self) -> bool {
        let (agent, now) = (&self.agent, self.shared.clock.micros());
        let is_first = agent.is_first_connection_since_it_woke();
        match agent.connection() {
            Some(connection) => is_first && now < connection.since + EAGER_MICROS,
            None => !agent.has_heard_since_it_woke() && now < agent.woke_at() + BACK_WITHIN_MICROS,
        }
    }

    /// Waits until the agent serves, for a while.
    async fn is_ready(&mut self) {
        let deadline = self.shared.clock.micros() + BACK_WITHIN_MICROS;
        while self.shared.clock.micros() < deadline && self.is_awake().await {
            if self.ask("/readyz").await.is_ok_and(|answer| answer.is_success()) {
                return;
            }
            sleep(self.shared.scenario.tick).await;
        }
    }

    async fn is_awake(&self) -> bool {
        while self.agent.is_asleep() {
            sleep(LOOK).await;
        }
        self.shared.stage() < Stage::Proving
    }

    /// Asks with this line's own connection and its token.
    pub(crate) async fn ask(&mut self, path: &str) -> Result<Answer, Lost> {
        get(&mut self.client, &self.agent, path).await
    }

    /// Notes what came of a question, and tells of a good answer.
    pub(crate) fn note(&self, kind: &'static str, what: &str, asked_at: u64, answer: &Result<Answer, Lost>) {
        let is_success = answer.as_ref().is_ok_and(Answer::is_success);
        self.shared.count_operation(kind, is_success);
        let text = match answer {
            Ok(answer) if is_success => format!("{what}: {} at index {:?}", answer.status, answer.index),
            Ok(answer) => format!("{what}: {} {}", answer.status, answer.text()),
            Err(lost) => format!("{what}: {lost}"),
        };
        let detail = if is_success { Detail::None } else { Detail::Failed };
        self.shared.note_detail(&self.agent.host, Kind::Client, detail, text);
        if is_success {
            self.tell_served(what, None, asked_at);
        }
    }

    /// Tells that the agent has given a good answer.
    pub(crate) fn tell_served(&self, what: &str, token: Option<carrack_authority::acl::AccessorId>, asked_at: u64) {
        let (datacenter, agent) = (self.agent.datacenter, self.agent.host.clone());
        let what = what.to_owned();
        self.shared.saw(Seen::Told(Told::Served { datacenter, agent, what, token, asked_at }));
    }
}

/// Asks an agent from its own host.
pub(crate) async fn get(client: &mut Client, agent: &AgentHost, path: &str) -> Result<Answer, Lost> {
    client.call(&agent.host, Call { method: "GET", path, body: None, within: ANSWER_WITHIN }).await
}
