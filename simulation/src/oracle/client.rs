//! The client oracle: what one answer can prove wrong, at once. No phantom, no lost acknowledged write, no lost observed
//! write, no backward read, no two winners of one compare-and-set. What needs many answers is for the linearizability check.

mod register;

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::history::{Action, Answer, Begun, Expected, Moment, Observed, Operation, Outcome, Revision, Value};
use register::{Known, Register};

/// What an operation has shown to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anomaly {
    /// A value was found that nobody had written.
    Phantom,
    /// A value was found whose write had no effect, as its client was told.
    RefusedEffect,
    /// A write had been acknowledged, and something older was found.
    LostAcknowledgedWrite,
    /// A value had been found, and something older was found by another client.
    LostObservedWrite,
    /// A delete had been acknowledged, and a value from before it was found.
    ResurrectedDelete,
    /// A client found something older than it had found before.
    BackwardRead,
    /// Two compare-and-sets from the same value or revision were done.
    TwoWinners,
    /// A value was seen with two revisions, or a revision with two values.
    RevisionChanged,
    /// The workload wrote a value twice, so that nothing can be said: a defect of the workload.
    ValueWrittenTwice,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Phantom => "a value was found that nobody had written",
            Self::RefusedEffect => "a write had an effect although its client was told that it has none",
            Self::LostAcknowledgedWrite => "an acknowledged write was lost",
            Self::LostObservedWrite => "a write that had been read was lost",
            Self::ResurrectedDelete => "a deleted value came back",
            Self::BackwardRead => "a client read something older than before",
            Self::TwoWinners => "two compare-and-sets from the same state were done",
            Self::RevisionChanged => "a value and its revision do not belong together any more",
            Self::ValueWrittenTwice => "the workload wrote a value twice",
        })
    }
}

/// An anomaly and what shows it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{anomaly}: {shown_by}; against {against}")]
pub struct Violation {
    /// What is wrong.
    pub anomaly: Anomaly,
    /// The operation that shows it.
    pub shown_by: String,
    /// What it contradicts.
    pub against: String,
}

/// What has been asked and answered, for every register.
#[derive(Clone, Debug, Default)]
pub struct ClientOracle {
    registers: BTreeMap<Arc<str>, Register>,
    /// The newest revision that a client has found in a register, and when it had.
    newest: BTreeMap<(Arc<str>, Arc<str>), (Revision, Moment)>,
}

impl ClientOracle {
    /// Takes note of an operation that begins: from now on its value can be found.
    pub fn begin(&mut self, begun: &Begun) -> Result<(), Violation> {
        let register = self.registers.entry(begun.key.clone()).or_default();
        match begun.action {
            Action::Delete => register.begin_delete(begun),
            Action::Read | Action::StaleRead => {}
            Action::Write(value) | Action::CompareAndSet { new: value, .. } => {
                if let Some(first) = register.begin_write(value, begun) {
                    let shown_by = format!("{} of {} by {}", begun.action, begun.key, begun.client);
                    let against = format!("the one by {} at {}", first.client, first.begin);
                    return Err(Violation { anomaly: Anomaly::ValueWrittenTwice, shown_by, against });
                }
            }
        }
        Ok(())
    }

    /// Checks an operation that has ended, in the order of ends.
    pub fn finish(&mut self, operation: &Operation) -> Result<(), Violation> {
        let Some(register) = self.registers.get_mut(&operation.begun.key) else { return Ok(()) };
        match (operation.begun.action, operation.outcome) {
            (_, Outcome::Unknown) | (Action::Read | Action::StaleRead, Outcome::Refused) => Ok(()),
            (Action::Read, Outcome::Ok(Answer::Read(found))) => self.finish_read(operation, found),
            (Action::StaleRead, Outcome::Ok(Answer::Read(found))) => found.map_or(Ok(()), |found| {
                check_written(register, operation, found.value)?;
                note_revision(register, operation, found.value, found.revision)
            }),
            (Action::Delete, outcome) => {
                register.end_delete(operation.begun.id, outcome, operation);
                Ok(())
            }
            (Action::CompareAndSet { expected, new }, Outcome::Ok(Answer::Done { revision })) => {
                // A compare-and-set that was done has read what it expected, before it wrote.
                check_winner(register, operation, expected)?;
                check_expected(register, operation, expected)?;
                register.acknowledge(new, operation);
                note_revision(register, operation, new, revision)
            }
            (Action::Write(value), Outcome::Ok(Answer::Done { revision })) => {
                register.acknowledge(value, operation);
                note_revision(register, operation, value, revision)
            }
            (action, Outcome::Refused | Outcome::Ok(_)) => {
                action.value().map_or(Ok(()), |value| check_no_effect(register, operation, value))
            }
        }
    }

    fn finish_read(&mut self, operation: &Operation, found: Option<Observed>) -> Result<(), Violation> {
        let Some(register) = self.registers.get_mut(&operation.begun.key) else { return Ok(()) };
        let Some(found) = found else { return check_newest(register, operation, None) };
        check_written(register, operation, found.value)?;
        check_newest(register, operation, Some(found.value))?;
        register.observe(found.value, operation);
        note_revision(register, operation, found.value, found.revision)?;
        found.revision.map_or(Ok(()), |revision| self.check_forward(operation, revision))
    }

    /// Revisions only grow, and a client's reads one after the other show that even where nothing else is certain.
    fn check_forward(&mut self, operation: &Operation, revision: Revision) -> Result<(), Violation> {
        let reader = (operation.begun.client.clone(), operation.begun.key.clone());
        let (newest, found_at) = *self.newest.entry(reader.clone()).or_insert((revision, operation.end));
        if newest > revision && found_at < operation.begun.begin {
            let against = format!("{newest}, which the client had read at {found_at}");
            return Err(violation(Anomaly::BackwardRead, operation, against));
        }
        if newest < revision {
            self.newest.insert(reader, (revision, operation.end));
        }
        Ok(())
    }
}

fn violation(anomaly: Anomaly, operation: &Operation, against: impl Into<String>) -> Violation {
    Violation { anomaly, shown_by: operation.to_string(), against: against.into() }
}

/// A found value was asked to be written before the operation ended, and its client was not told that it has no effect.
fn check_written(register: &mut Register, operation: &Operation, value: Value) -> Result<(), Violation> {
    match register.written(value) {
        None => Err(violation(Anomaly::Phantom, operation, format!("every write: none is of {value}"))),
        Some(write) if operation.end < write.begun.begin => {
            Err(violation(Anomaly::Phantom, operation, format!("the write, which began at {}", write.begun.begin)))
        }
        Some(write) => match &write.without_effect {
            Some(refusal) => Err(violation(Anomaly::RefusedEffect, operation, refusal)),
            None => {
                write.found_by.get_or_insert_with(|| operation.to_string());
                Ok(())
            }
        },
    }
}

/// A client was told that its write has no effect, and nobody has found the value.
fn check_no_effect(register: &mut Register, operation: &Operation, value: Value) -> Result<(), Violation> {
    let Some(write) = register.written(value) else { return Ok(()) };
    write.without_effect = Some(operation.to_string());
    match &write.found_by {
        Some(found_by) => Err(violation(Anomaly::RefusedEffect, operation, found_by)),
        None => Ok(()),
    }
}

/// Nothing that had certainly happened before the operation began is newer than what it found. `None` is no value.
fn check_newest(register: &Register, operation: &Operation, found: Option<Value>) -> Result<(), Violation> {
    let Some(newer) = register.newer(found, operation.begun.begin) else { return Ok(()) };
    let anomaly = match &newer.known {
        Known::Acknowledged if newer.is_delete => Anomaly::ResurrectedDelete,
        Known::Acknowledged => Anomaly::LostAcknowledgedWrite,
        Known::FoundBy(client) if *client == operation.begun.client => Anomaly::BackwardRead,
        Known::FoundBy(_) => Anomaly::LostObservedWrite,
    };
    Err(violation(anomaly, operation, &newer.shown_by))
}

fn check_expected(register: &mut Register, operation: &Operation, expected: Expected) -> Result<(), Violation> {
    let value = match expected {
        Expected::Absent => return check_newest(register, operation, None),
        Expected::Value(value) => value,
        Expected::Revision(revision) => match register.value_of(revision) {
            Some(value) => value,
            None => return Ok(()),
        },
    };
    check_written(register, operation, value)?;
    check_newest(register, operation, Some(value))?;
    register.observe(value, operation);
    Ok(())
}

/// A value that was replaced does not come back: only one compare-and-set can have found it.
fn check_winner(register: &mut Register, operation: &Operation, expected: Expected) -> Result<(), Violation> {
    if expected == Expected::Absent {
        return Ok(());
    }
    match register.win(expected, operation) {
        Some(first) => Err(violation(Anomaly::TwoWinners, operation, first)),
        None => Ok(()),
    }
}

fn note_revision(
    register: &mut Register,
    operation: &Operation,
    value: Value,
    revision: Option<Revision>,
) -> Result<(), Violation> {
    match revision.and_then(|revision| register.pair(value, revision)) {
        Some((value, revision)) => {
            Err(violation(Anomaly::RevisionChanged, operation, format!("{value} at {revision}, as it was seen before")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
