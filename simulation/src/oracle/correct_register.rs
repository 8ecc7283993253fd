//! A register that is linearizable by construction, and clients with delays, refusals and time-outs: the histories on which
//! the checkers are tested.

use std::{collections::BTreeMap, sync::Arc};

use rand::RngExt as _;

use super::history::{Action, Answer, Begun, Expected, History, Observed, Operation, Outcome, Revision, Value};
use crate::random::{Seed, Stream};

/// What a run is drawn from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) clients: usize,
    pub(super) operations: usize,
    /// Of a hundred operations, how many are unknown.
    pub(super) unknown_percent: u32,
    /// Whether operations are compare-and-sets too.
    pub(super) has_compare_and_set: bool,
    /// Whether answers have revisions, and compare-and-sets expect them.
    pub(super) has_revisions: bool,
}

/// What a client saw, in the order of events.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Begin(Begun),
    End(Operation),
}

enum Plan {
    Begin(usize),
    Effect(Begun),
    End(usize, Begun, bool),
}

struct World {
    random: Stream,
    shape: Shape,
    plans: BTreeMap<(u64, u64), Plan>,
    planned: u64,
    begun: usize,
    history: History,
    events: Vec<Event>,
    register: Option<Observed>,
    written: u64,
    answers: BTreeMap<super::history::OperationId, Answer>,
    seen: Vec<Option<Observed>>,
}

/// The events of one run of the correct register.
pub(super) fn run(seed: u64, shape: Shape) -> Vec<Event> {
    let mut world = World {
        random: Seed(seed).stream("correct register"),
        shape,
        plans: BTreeMap::new(),
        planned: 0,
        begun: 0,
        history: History::default(),
        events: Vec::new(),
        register: None,
        written: 0,
        answers: BTreeMap::new(),
        seen: vec![None; shape.clients],
    };
    for client in 0..shape.clients {
        world.plan(world.planned, Plan::Begin(client));
    }
    while let Some(((now, _), plan)) = world.plans.pop_first() {
        match plan {
            Plan::Begin(client) => world.begin(client, now),
            Plan::Effect(begun) => world.take_effect(&begun),
            Plan::End(client, begun, is_known) => world.end(client, &begun, is_known, now),
        }
    }
    world.events
}

/// The finished operations of events.
pub(super) fn operations(events: &[Event]) -> Vec<Operation> {
    let end = |event: &Event| if let Event::End(operation) = event { Some(operation.clone()) } else { None };
    events.iter().filter_map(end).collect()
}

impl World {
    fn plan(&mut self, at: u64, plan: Plan) {
        self.planned += 1;
        self.plans.insert((at, self.planned), plan);
    }

    fn draws(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn begin(&mut self, client: usize, now: u64) {
        if self.begun == self.shape.operations {
            return;
        }
        self.begun += 1;
        let action = self.draw_action(client);
        let begun = self.history.begin(&format!("client {client}").into(), &key(), action, now);
        self.events.push(Event::Begin(begun.clone()));
        let end = now + self.random.random_range(2..200);
        let is_refused = self.draws(3);
        let is_known = is_refused || !self.draws(self.shape.unknown_percent);
        if is_known && !is_refused {
            let at = self.random.random_range(now + 1..end);
            self.plan(at, Plan::Effect(begun.clone()));
        } else if !is_refused && self.draws(60) {
            let at = now + self.random.random_range(1..2_000);
            self.plan(at, Plan::Effect(begun.clone()));
        }
        self.plan(end, Plan::End(client, begun, is_known));
    }

    fn draw_action(&mut self, client: usize) -> Action {
        self.written += 1;
        let new = Value(self.written);
        match self.random.random_range(0..100) {
            0..50 => Action::Read,
            50..90 if self.shape.has_compare_and_set => {
                let expected = match self.seen[client] {
                    None => Expected::Absent,
                    Some(Observed { revision: Some(revision), .. }) => Expected::Revision(revision),
                    Some(Observed { value, .. }) => Expected::Value(value),
                };
                Action::CompareAndSet { expected, new }
            }
            90..95 => Action::Delete,
            _ => Action::Write(new),
        }
    }

    fn take_effect(&mut self, begun: &Begun) {
        let revision = self.shape.has_revisions.then_some(Revision(self.planned * 1_000 + self.written));
        let done = Answer::Done { revision };
        let answer = match begun.action {
            Action::Read | Action::StaleRead => Answer::Read(self.register),
            Action::Delete => {
                self.register = None;
                Answer::Done { revision: None }
            }
            Action::Write(value) => {
                self.register = Some(Observed { value, revision });
                done
            }
            Action::CompareAndSet { expected, new } => {
                let is_there = match expected {
                    Expected::Absent => self.register.is_none(),
                    Expected::Value(value) => self.register.is_some_and(|found| found.value == value),
                    Expected::Revision(revision) => self.register.is_some_and(|found| found.revision == Some(revision)),
                };
                if is_there {
                    self.register = Some(Observed { value: new, revision });
                }
                if is_there { done } else { Answer::Conflict }
            }
        };
        // Every effect has its own revision.
        self.planned += 1;
        self.answers.insert(begun.id, answer);
    }

    fn end(&mut self, client: usize, begun: &Begun, is_known: bool, now: u64) {
        let outcome = match self.answers.get(&begun.id) {
            Some(answer) if is_known => Outcome::Ok(*answer),
            None if is_known => Outcome::Refused,
            _ => Outcome::Unknown,
        };
        match (outcome, begun.action.value()) {
            (Outcome::Ok(Answer::Read(found)), _) => self.seen[client] = found,
            (Outcome::Ok(Answer::Done { revision }), Some(value)) => {
                self.seen[client] = Some(Observed { value, revision });
            }
            _ => {}
        }
        let operation = self.history.finish(begun.id, outcome, now).expect("it is open");
        self.events.push(Event::End(operation));
        let pause = self.random.random_range(0..50);
        self.plan(now + pause, Plan::Begin(client));
    }
}

/// The one register.
pub(super) fn key() -> Arc<str> {
    "register".into()
}
