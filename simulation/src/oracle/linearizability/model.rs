//! The operations of one register as steps that need a state and give one.

use std::collections::{BTreeMap, BTreeSet};

use crate::oracle::history::{Action, Answer, Expected, Moment, Observed, Operation, Outcome, Revision, Value};

/// What the register holds: nothing, a value that no answer and no question names, or one of the named values.
pub(super) type State = usize;
/// Nothing.
pub(super) const ABSENT: State = 0;
/// A value that nobody names: which of them makes no difference to anybody.
pub(super) const UNNAMED: State = 1;

/// What a step needs in order to happen as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Any state.
    Anything,
    /// This state.
    Exactly(State),
    /// Another state than this.
    OtherThan(State),
    /// A value whose revision nobody saw: the expected revision is nobody else's.
    UnseenRevision,
}

/// One operation that takes part in the search.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// Its position among the operations.
    pub(super) operation: usize,
    /// When it began.
    pub(super) begin: Moment,
    /// When it had happened, if its outcome is known.
    pub(super) end: Moment,
    /// What it needs.
    pub(super) needs: Needs,
    /// What it leaves behind; nothing if it changes nothing.
    pub(super) gives: Option<State>,
}

/// The steps of one register.
pub(super) struct Problem {
    /// The steps that must happen, in the order of their begins.
    pub(super) known: Vec<Step>,
    /// The steps that may happen, in the order of their begins.
    pub(super) unknown: Vec<Step>,
    /// Whether some step needs only that a value is not there, so that a value that nobody names can explain it.
    pub(super) has_vague_needs: bool,
    /// Whether some step needs a revision that nobody saw.
    pub(super) has_unseen_revisions: bool,
    unseen: BTreeSet<State>,
}

impl Problem {
    /// The steps of the operations; an operation whose answer is not one to its question is answered back.
    pub(super) fn new(operations: &[Operation]) -> Result<Self, &Operation> {
        let names = Names::new(operations);
        let (has_unseen_revisions, unseen) = (names.has_unseen, names.unseen());
        let mut problem = Self {
            known: vec![],
            unknown: vec![],
            has_vague_needs: has_unseen_revisions,
            has_unseen_revisions,
            unseen,
        };
        for (position, operation) in operations.iter().enumerate() {
            let Some((needs, gives)) = names.meaning(operation).map_err(|WrongAnswer| operation)? else { continue };
            let (begin, end) = (operation.begun.begin, operation.end);
            let step = Step { operation: position, begin, end, needs, gives };
            problem.has_vague_needs |= matches!(needs, Needs::OtherThan(_));
            let steps = if operation.outcome == Outcome::Unknown { &mut problem.unknown } else { &mut problem.known };
            steps.push(step);
        }
        problem.known.sort_by_key(|step| step.begin);
        problem.unknown.sort_by_key(|step| step.begin);
        Ok(problem)
    }

    /// Whether a step with such needs can happen in a state.
    pub(super) fn is_met(&self, needs: Needs, state: State) -> bool {
        match needs {
            Needs::Anything => true,
            Needs::Exactly(needed) => state == needed,
            Needs::OtherThan(refused) => state != refused,
            Needs::UnseenRevision => self.unseen.contains(&state),
        }
    }
}

/// Whether an operation, once it has taken effect, has changed the register.
pub(super) fn has_changed(operation: &Operation) -> bool {
    !operation.begun.action.is_read() && operation.outcome != Outcome::Ok(Answer::Conflict)
}

struct WrongAnswer;

/// The values that somebody names, and the values of revisions.
struct Names {
    states: BTreeMap<Value, State>,
    revisions: BTreeMap<Revision, Value>,
    has_unseen: bool,
}

impl Names {
    fn new(operations: &[Operation]) -> Self {
        let mut revisions = BTreeMap::new();
        for operation in operations {
            match (operation.begun.action.value(), operation.outcome) {
                (_, Outcome::Ok(Answer::Read(Some(Observed { value, revision: Some(revision) }))))
                | (Some(value), Outcome::Ok(Answer::Done { revision: Some(revision) })) => {
                    revisions.insert(revision, value);
                }
                _ => {}
            }
        }
        let mut names = Self { states: BTreeMap::new(), revisions, has_unseen: false };
        for operation in operations {
            names.note(operation);
        }
        if names.has_unseen {
            // Which values can have the unseen revision makes a difference, so that each needs its own state.
            operations
                .iter()
                .filter_map(|operation| operation.begun.action.value())
                .for_each(|value| names.name(value));
        }
        names
    }

    fn note(&mut self, operation: &Operation) {
        if let Outcome::Ok(Answer::Read(Some(observed))) = operation.outcome {
            self.name(observed.value);
        }
        if let Action::CompareAndSet { expected, .. } = operation.begun.action {
            match expected {
                Expected::Absent => {}
                Expected::Value(value) => self.name(value),
                Expected::Revision(revision) => match self.revisions.get(&revision).copied() {
                    Some(value) => self.name(value),
                    None => self.has_unseen = true,
                },
            }
        }
    }

    fn name(&mut self, value: Value) {
        let next = UNNAMED + 1 + self.states.len();
        self.states.entry(value).or_insert(next);
    }

    fn state(&self, value: Value) -> State {
        self.states.get(&value).copied().unwrap_or(UNNAMED)
    }

    fn unseen(&self) -> BTreeSet<State> {
        let seen: BTreeSet<Value> = self.revisions.values().copied().collect();
        self.states.iter().filter(|(value, _)| !seen.contains(value)).map(|(_, state)| *state).collect()
    }

    /// What the operation needs and gives; `None` if it has no effect and saw nothing that binds.
    fn meaning(&self, operation: &Operation) -> Result<Option<(Needs, Option<State>)>, WrongAnswer> {
        let (action, outcome) = (operation.begun.action, operation.outcome);
        Ok(Some(match (action, outcome) {
            (_, Outcome::Refused)
            | (Action::Read | Action::StaleRead, Outcome::Unknown)
            | (Action::StaleRead, Outcome::Ok(Answer::Read(_))) => return Ok(None),
            (Action::Read, Outcome::Ok(Answer::Read(found))) => {
                (Needs::Exactly(found.map_or(ABSENT, |observed| self.state(observed.value))), None)
            }
            (Action::Write(value), Outcome::Unknown | Outcome::Ok(Answer::Done { .. })) => {
                (Needs::Anything, Some(self.state(value)))
            }
            (Action::Delete, Outcome::Unknown | Outcome::Ok(Answer::Done { .. })) => (Needs::Anything, Some(ABSENT)),
            (Action::CompareAndSet { expected, new }, Outcome::Unknown | Outcome::Ok(Answer::Done { .. })) => {
                (self.expected(expected).map_or(Needs::UnseenRevision, Needs::Exactly), Some(self.state(new)))
            }
            (Action::CompareAndSet { expected, .. }, Outcome::Ok(Answer::Conflict)) => {
                (self.expected(expected).map_or(Needs::Anything, Needs::OtherThan), None)
            }
            _ => return Err(WrongAnswer),
        }))
    }

    fn expected(&self, expected: Expected) -> Option<State> {
        match expected {
            Expected::Absent => Some(ABSENT),
            Expected::Value(value) => Some(self.state(value)),
            Expected::Revision(revision) => self.revisions.get(&revision).map(|value| self.state(*value)),
        }
    }
}
