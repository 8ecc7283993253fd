//! What is denied, revoked or deleted is allowed no more: an answer is by what its server had applied at that moment, and an agent's by
//! what the server that it follows had applied at most [`PROMPT_MICROS`] before, or [`SILENT_MICROS`] where a message may have been lost.
//! An agent that follows none goes on with what it has; one that has started or slept answers nothing before a server has told it
//! everything again. How far behind its primary and its leader a server is, is judged when the world rests.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use carrack_authority::{Command, State, acl::AccessorId, id::Serial, time::Timestamp};

use super::{
    Invariant, Scene,
    decision::Decisions,
    seen::{Applied, Installed, Question, Told},
};
use crate::world::agent::AgentHost;

/// The invariant's name.
const NAME: &str = "deny_takes_effect";
/// What a wrong no is called.
const OTHER_NAME: &str = "allow_takes_effect";
/// A change reaches an agent within this: one message, also where messages take thirty times as long, and the time to send it.
const PROMPT_MICROS: u64 = 3_000_000;
/// An agent finds out within this that its connection is dead: ten seconds of silence, after a message that may have been held back.
const SILENT_MICROS: u64 = 20_000_000;
/// What happens within one step of the world is in no order.
const STEP_MICROS: u64 = 30_000;
/// How long it is remembered what a server had applied: longer than any question takes, after the longest bound.
const REMEMBERED_MICROS: u64 = 60_000_000;
/// A revocation that is about to end may be forgotten by a clock that is ahead.
const NEARLY_ENDED: std::time::Duration = std::time::Duration::from_secs(7200);

/// What a server has applied, as far as it decides about connections and tokens.
struct Known {
    decisions: Decisions,
    revoked: BTreeMap<Serial, Timestamp>,
    tokens: BTreeSet<AccessorId>,
}

/// See the module.
#[derive(Default)]
pub(super) struct DenyTakesEffect {
    /// Of each server, since when it knows what.
    servers: BTreeMap<String, VecDeque<(u64, Known)>>,
}

impl Invariant for DenyTakesEffect {
    fn applied(&mut self, scene: &Scene<'_>, applied: &Applied) {
        if applied.commands.proposals.iter().any(|proposal| is_about_decisions(&proposal.command)) {
            self.remember(scene, &applied.host, &applied.after);
        }
    }

    fn installed(&mut self, scene: &Scene<'_>, installed: &Installed) {
        self.remember(scene, &installed.host, &installed.state);
    }

    fn told(&mut self, scene: &Scene<'_>, told: &Told) {
        match told {
            Told::Authorized { host, question, is_allowed, reason, asked_at, .. } => {
                self.judge_decision(scene, host, question, (*is_allowed, reason), *asked_at);
            }
            Told::Served { agent, what, token, asked_at, .. } => {
                let agent = &scene.shared.agents[agent];
                if *asked_at >= agent.woke_at() && !agent.has_heard_since_it_woke() {
                    let text = format!("{} answered {what} from before it started or slept", agent.host);
                    scene.shared.violate(NAME, text);
                }
                if let Some(token) = token {
                    self.judge_token(scene, agent, what, token, *asked_at);
                }
            }
            _ => {}
        }
    }
}

impl DenyTakesEffect {
    fn remember(&mut self, scene: &Scene<'_>, host: &str, state: &State) {
        let now = scene.shared.clock.micros();
        let known = self.servers.entry(host.to_owned()).or_default();
        known.push_back((now, Known::of(state)));
        // Of what is older the newest still holds at the beginning of what is remembered.
        while known.get(1).is_some_and(|(at, _)| at + REMEMBERED_MICROS < now) {
            known.pop_front();
        }
    }

    fn judge_decision(
        &self,
        scene: &Scene<'_>,
        host: &str,
        question: &Question,
        (is_allowed, reason): (bool, &str),
        asked_at: u64,
    ) {
        let Some((server, from)) = basis(scene, host, asked_at) else { return };
        let (by_default, now) = (scene.shared.scenario.mesh.allows_by_default, scene.shared.clock.now());
        let may_be = |known: &Known| known.may_answer(question, by_default, now).contains(&is_allowed);
        if self.is_possible(&server, from, may_be) {
            return;
        }
        let name = if is_allowed { NAME } else { OTHER_NAME };
        let text = format!(
            "{host} answered {is_allowed} ({reason}) to {question:?}, which was asked at {asked_at}; {server} had it otherwise all the time since {from}"
        );
        scene.shared.violate(name, text);
    }

    fn judge_token(&self, scene: &Scene<'_>, agent: &AgentHost, what: &str, token: &AccessorId, asked_at: u64) {
        let Some((server, from)) = basis(scene, &agent.host, asked_at) else { return };
        if !self.is_possible(&server, from, |known| known.tokens.contains(token)) {
            let text = format!(
                "{} answered {what}, asked at {asked_at}, to the token {token}, which {server} does not have since before {from}",
                agent.host
            );
            scene.shared.violate(NAME, text);
        }
    }

    /// Whether something held on a server at any moment since `from`; also if nobody knows what did then.
    fn is_possible(&self, server: &str, from: u64, holds: impl Fn(&Known) -> bool) -> bool {
        let Some(known) = self.servers.get(server) else { return true };
        let before = known.iter().rev().find(|(at, _)| *at <= from);
        before.is_none_or(|(_, known)| holds(known))
            || known.iter().filter(|(at, _)| *at > from).any(|(_, known)| holds(known))
    }
}

/// By which server's knowledge of which time on an answer must be; `None`: by none that can be named.
fn basis(scene: &Scene<'_>, host: &str, asked_at: u64) -> Option<(String, u64)> {
    let shared = scene.shared;
    let Some(agent) = shared.agents.get(host) else {
        let step = STEP_MICROS * u64::from(shared.scenario.slowness());
        return Some((host.to_owned(), asked_at.saturating_sub(step)));
    };
    let connection = agent.connection()?;
    let disturbed_at = agent.disturbed_at().max(shared.disturbed_at(&connection.server));
    let is_whole = connection.since > disturbed_at && !shared.is_lossy();
    let bound = if is_whole { PROMPT_MICROS } else { SILENT_MICROS };
    let from = asked_at.saturating_sub(bound);
    if connection.since <= from {
        return Some((connection.server, from));
    }
    // What it knows it was told in this connection: before, it knew nothing, or may not use what it knew.
    let is_first = agent.is_first_connection_since_it_woke() && asked_at >= agent.woke_at();
    is_first.then(|| (connection.server, from.max(connection.since.saturating_sub(PROMPT_MICROS))))
}

const fn is_about_decisions(command: &Command) -> bool {
    matches!(
        command,
        Command::PutIntention { .. }
            | Command::DeleteIntention { .. }
            | Command::PutServiceIntentions { .. }
            | Command::DeleteServiceIntentions { .. }
            | Command::RevokeLeaf { .. }
            | Command::PutToken { .. }
            | Command::BootstrapAcl { .. }
            | Command::DeleteToken { .. }
            | Command::FollowPrimary(_)
    )
}

impl Known {
    fn of(state: &State) -> Self {
        Self {
            decisions: Decisions::of(state),
            revoked: state.revocations().all().map(|revoked| (revoked.serial, revoked.until)).collect(),
            tokens: state.acl().tokens().map(|token| token.accessor).collect(),
        }
    }

    /// The answers that may be given.
    fn may_answer(&self, question: &Question, by_default: bool, now: Timestamp) -> BTreeSet<bool> {
        let by_intentions = self.decisions.allows(&question.source, &question.destination, by_default);
        match question.serial.and_then(|serial| self.revoked.get(&serial)) {
            None => BTreeSet::from([by_intentions]),
            Some(until) if *until > now.plus(NEARLY_ENDED) => BTreeSet::from([false]),
            Some(_) => BTreeSet::from([false, by_intentions]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::Trial;

    /// A server that allowed it from the first second on and denies it from the second one on.
    fn invariant() -> DenyTakesEffect {
        let known = |is_allowed| Known {
            decisions: Decisions::one("web", "db", is_allowed),
            revoked: BTreeMap::new(),
            tokens: BTreeSet::new(),
        };
        let known = VecDeque::from([(1_000_000, known(true)), (2_000_000, known(false))]);
        DenyTakesEffect { servers: BTreeMap::from([("a".to_owned(), known)]) }
    }

    fn judge(is_allowed: bool, asked_at: u64) -> Trial {
        let trial = Trial::new();
        let question = Question { source: "web".into(), destination: "db".into(), serial: None };
        let (host, reason) = ("a".into(), String::new());
        let told = Told::Authorized { datacenter: 0, host, question, is_allowed, reason, asked_at };
        invariant().told(&trial.scene(), &told);
        trial
    }

    #[test]
    fn an_answer_is_by_what_its_server_had_applied_since_it_was_asked() {
        judge(true, 1_500_000).expect_good();
        judge(false, 1_500_000).expect_good();
        judge(false, 2_500_000).expect_good();
        judge(true, 2_500_000).expect_broken(NAME);
    }

    #[test]
    fn a_revoked_leaf_is_denied_whatever_intentions_say() {
        let serial = Serial([1; 20]);
        let known = Known {
            decisions: Decisions::one("web", "db", true),
            revoked: BTreeMap::from([(serial, Timestamp(u64::MAX))]),
            tokens: BTreeSet::new(),
        };
        let mut question = Question { source: "web".into(), destination: "db".into(), serial: Some(serial) };
        assert_eq!(known.may_answer(&question, false, Timestamp(0)), BTreeSet::from([false]));
        question.serial = Some(Serial([2; 20]));
        assert_eq!(known.may_answer(&question, false, Timestamp(0)), BTreeSet::from([true]));
    }
}
