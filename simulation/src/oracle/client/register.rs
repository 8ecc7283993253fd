//! What is certain about one register: which values were asked for, since when each has certainly been written, and which
//! write certainly came after which.

use std::{collections::BTreeMap, sync::Arc};

use crate::oracle::history::{Answer, Begun, Expected, Moment, Operation, OperationId, Outcome, Revision, Value};

/// A write of a value.
#[derive(Clone, Debug)]
pub(super) struct Write {
    /// What was asked.
    pub(super) begun: Begun,
    /// The answer that it has no effect.
    pub(super) without_effect: Option<String>,
    /// The first operation that found the value.
    pub(super) found_by: Option<String>,
    /// From when on it has certainly happened: it was acknowledged, or found by an operation that looks at the newest.
    happened_at: Option<Moment>,
}

/// How it is known that a write has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Its client was told.
    Acknowledged,
    /// A client has found its value.
    FoundBy(Arc<str>),
}

/// A write or a delete that has certainly happened.
#[derive(Clone, Debug)]
pub(super) struct Certain {
    /// When it began: what had certainly happened before is older.
    begin: Moment,
    /// Whether it is a delete.
    pub(super) is_delete: bool,
    /// How that is known.
    pub(super) known: Known,
    /// The operation that shows it.
    pub(super) shown_by: String,
}

/// One register.
#[derive(Clone, Debug, Default)]
pub(super) struct Register {
    writes: BTreeMap<Value, Write>,
    /// The deletes that may still take effect.
    deletes_open: BTreeMap<OperationId, Moment>,
    /// The latest end of a delete that was done.
    deleted_at: Option<Moment>,
    /// What had certainly happened from a moment on, of it only what began later than all that happened earlier.
    certain: BTreeMap<Moment, Certain>,
    winners: BTreeMap<Expected, String>,
    values: BTreeMap<Revision, Value>,
    revisions: BTreeMap<Value, Revision>,
}

impl Register {
    /// Notes that a write begins. Answers the earlier write of the same value.
    pub(super) fn begin_write(&mut self, value: Value, begun: &Begun) -> Option<&Begun> {
        let is_first = !self.writes.contains_key(&value);
        let write = self.writes.entry(value).or_insert_with(|| Write {
            begun: begun.clone(),
            without_effect: None,
            found_by: None,
            happened_at: None,
        });
        (!is_first).then_some(&write.begun)
    }

    /// Notes that a delete begins.
    pub(super) fn begin_delete(&mut self, begun: &Begun) {
        self.deletes_open.insert(begun.id, begun.begin);
    }

    /// Notes how a delete ended, if that is known.
    pub(super) fn end_delete(&mut self, id: OperationId, outcome: Outcome, operation: &Operation) {
        self.deletes_open.remove(&id);
        if matches!(outcome, Outcome::Ok(Answer::Done { .. })) {
            self.deleted_at = self.deleted_at.max(Some(operation.end));
            self.ascertain(operation, operation.begun.begin, true, Known::Acknowledged);
        }
    }

    /// The write of a value.
    pub(super) fn written(&mut self, value: Value) -> Option<&mut Write> {
        self.writes.get_mut(&value)
    }

    /// Notes that the write of a value was acknowledged.
    pub(super) fn acknowledge(&mut self, value: Value, operation: &Operation) {
        self.happen(value, operation, Known::Acknowledged);
    }

    /// Notes that an operation that looks at the newest value has found this one.
    pub(super) fn observe(&mut self, value: Value, operation: &Operation) {
        self.happen(value, operation, Known::FoundBy(operation.begun.client.clone()));
    }

    /// What had certainly happened before `moment`, and certainly after `found` had: a value's write, or for `None` the
    /// beginning and every delete.
    pub(super) fn newer(&self, found: Option<Value>, moment: Moment) -> Option<&Certain> {
        let (_, newest) = self.certain.range(..moment).next_back()?;
        let older_until = match found {
            Some(value) => Some(self.writes.get(&value)?.happened_at?),
            None if !self.deletes_open.is_empty() => return None,
            None => self.deleted_at,
        };
        older_until.is_none_or(|until| until < newest.begin).then_some(newest)
    }

    /// Notes who has replaced a state by compare-and-set. Answers who had done so before.
    pub(super) fn win(&mut self, expected: Expected, operation: &Operation) -> Option<String> {
        let replaced = match expected {
            Expected::Revision(revision) => self.value_of(revision).map_or(expected, Expected::Value),
            Expected::Absent | Expected::Value(_) => expected,
        };
        self.winners.insert(replaced, operation.to_string())
    }

    /// The value of a revision.
    pub(super) fn value_of(&self, revision: Revision) -> Option<Value> {
        self.values.get(&revision).copied()
    }

    /// Notes that a value has a revision. Answers what was known instead.
    pub(super) fn pair(&mut self, value: Value, revision: Revision) -> Option<(Value, Revision)> {
        let known_value = *self.values.entry(revision).or_insert(value);
        let known_revision = *self.revisions.entry(value).or_insert(revision);
        if known_value != value {
            return Some((known_value, revision));
        }
        (known_revision != revision).then_some((value, known_revision))
    }

    fn happen(&mut self, value: Value, operation: &Operation, known: Known) {
        let Some(write) = self.writes.get_mut(&value) else { return };
        write.happened_at = Some(write.happened_at.map_or(operation.end, |at| at.min(operation.end)));
        let begin = write.begun.begin;
        self.ascertain(operation, begin, false, known);
    }

    /// Keeps `certain` a staircase: later moments have later begins.
    fn ascertain(&mut self, operation: &Operation, begin: Moment, is_delete: bool, known: Known) {
        let at = operation.end;
        if self.certain.range(..=at).next_back().is_some_and(|(_, before)| before.begin >= begin) {
            return;
        }
        let is_older = |(moment, later): (&Moment, &Certain)| (later.begin <= begin).then_some(*moment);
        while let Some(moment) = self.certain.range(at..).next().and_then(is_older) {
            self.certain.remove(&moment);
        }
        self.certain.insert(at, Certain { begin, is_delete, known, shown_by: operation.to_string() });
    }
}
