//! Operations on registers as their clients saw them. What timed out is *unknown*: it may take effect later, or never.

use std::{collections::BTreeMap, fmt, sync::Arc};

/// The most operations of one run: the longest workload makes a tenth of it.
const OPERATIONS_MAX: usize = 2_000_000;

/// A point in a run. Two things at the same nanosecond are ordered as they happened in the one thread of the simulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Simulated nanoseconds since the run began.
    pub nanoseconds: u64,
    /// The number of the event in the history.
    pub order: u64,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, rest) = (self.nanoseconds / 1_000_000_000, self.nanoseconds % 1_000_000_000);
        write!(f, "{seconds}.{rest:09}s")
    }
}

/// What a register holds. The workload writes each value at most once a key, retries included: so a value names its write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value(pub u64);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// The index under which a server has recorded a value. Zero is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// What a compare-and-set expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expected {
    /// No value.
    Absent,
    /// This value.
    Value(Value),
    /// The value of this revision, which the client saw in an earlier answer.
    Revision(Revision),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::Value(value) => write!(f, "{value}"),
            Self::Revision(revision) => write!(f, "{revision}"),
        }
    }
}

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sets the value, whatever is there.
    Write(Value),
    /// Reads the newest value.
    Read,
    /// Reads some value that was the newest once.
    StaleRead,
    /// Sets the value if what is there is what was expected.
    CompareAndSet {
        /// What must be there.
        expected: Expected,
        /// The value to set.
        new: Value,
    },
    /// Removes the value, if there is one.
    Delete,
}

impl Action {
    /// The value that the action may set.
    pub fn value(self) -> Option<Value> {
        match self {
            Self::Write(value) | Self::CompareAndSet { new: value, .. } => Some(value),
            Self::Read | Self::StaleRead | Self::Delete => None,
        }
    }

    /// Whether the action changes nothing.
    pub fn is_read(self) -> bool {
        matches!(self, Self::Read | Self::StaleRead)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(value) => write!(f, "write {value}"),
            Self::Read => f.write_str("read"),
            Self::StaleRead => f.write_str("stale read"),
            Self::CompareAndSet { expected, new } => write!(f, "compare {expected} and set {new}"),
            Self::Delete => f.write_str("delete"),
        }
    }
}

/// A value that a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The value.
    pub value: Value,
    /// Its revision, if the answer has it.
    pub revision: Option<Revision>,
}

/// What a server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The write, the delete or the compare-and-set was done.
    Done {
        /// The revision of what was set, if the answer has it.
        revision: Option<Revision>,
    },
    /// A read found this.
    Read(Option<Observed>),
    /// The compare-and-set found something else than was expected, and changed nothing.
    Conflict,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Ok(Answer),
    /// It did certainly not happen and never will.
    Refused,
    /// It may have happened, may happen at any later time, or never.
    Unknown,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok(Answer::Done { revision: Some(revision) }) => write!(f, "done at {revision}"),
            Self::Ok(Answer::Done { revision: None }) => f.write_str("done"),
            Self::Ok(Answer::Read(None)) => f.write_str("absent"),
            Self::Ok(Answer::Read(Some(Observed { value, revision: Some(revision) }))) => {
                write!(f, "{value} at {revision}")
            }
            Self::Ok(Answer::Read(Some(Observed { value, revision: None }))) => write!(f, "{value}"),
            Self::Ok(Answer::Conflict) => f.write_str("conflict"),
            Self::Refused => f.write_str("refused"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// Names an operation of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperationId(u64);

/// An operation that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Its name.
    pub id: OperationId,
    /// Who asks.
    pub client: Arc<str>,
    /// The register.
    pub key: Arc<str>,
    /// What is asked for.
    pub action: Action,
    /// When it began.
    pub begin: Moment,
}

/// An operation that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What was asked, by whom and when.
    pub begun: Begun,
    /// When the client had the answer, or gave up.
    pub end: Moment,
    /// What the client knows of it.
    pub outcome: Outcome,
}

impl Operation {
    /// Whether this had ended when `other` began.
    pub fn precedes(&self, other: &Begun) -> bool {
        self.end < other.begin
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Begun { client, key, action, begin, .. } = &self.begun;
        write!(f, "[{begin} .. {}] {client}: {action} of {key}: {}", self.end, self.outcome)
    }
}

/// The operations of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    open: BTreeMap<OperationId, Begun>,
    finished: BTreeMap<Arc<str>, Vec<Operation>>,
    events: u64,
    begun: u64,
}

impl History {
    /// Notes that an operation begins at `nanoseconds`.
    pub fn begin(&mut self, client: &Arc<str>, key: &Arc<str>, action: Action, nanoseconds: u64) -> Begun {
        assert!(self.begun < OPERATIONS_MAX as u64, "one run made more than {OPERATIONS_MAX} operations");
        let id = OperationId(self.begun);
        self.begun += 1;
        let begin = self.moment(nanoseconds);
        let begun = Begun { id, client: client.clone(), key: key.clone(), action, begin };
        self.open.insert(id, begun.clone());
        begun
    }

    /// Notes how an operation ended at `nanoseconds`. `None` if it is not open.
    pub fn finish(&mut self, id: OperationId, outcome: Outcome, nanoseconds: u64) -> Option<Operation> {
        let begun = self.open.remove(&id)?;
        let operation = Operation { end: self.moment(nanoseconds), begun, outcome };
        self.finished.entry(operation.begun.key.clone()).or_default().push(operation.clone());
        Some(operation)
    }

    /// Ends what is still open: nobody knows what becomes of it.
    pub fn close(&mut self, nanoseconds: u64) -> Vec<Operation> {
        let open: Vec<OperationId> = self.open.keys().copied().collect();
        open.into_iter().filter_map(|id| self.finish(id, Outcome::Unknown, nanoseconds)).collect()
    }

    /// The finished operations of each key, in the order of their ends.
    pub fn keys(&self) -> impl Iterator<Item = (&Arc<str>, &[Operation])> {
        self.finished.iter().map(|(key, operations)| (key, operations.as_slice()))
    }

    /// How many operations have ended.
    pub fn count(&self) -> usize {
        self.finished.values().map(Vec::len).sum()
    }

    fn moment(&mut self, nanoseconds: u64) -> Moment {
        self.events += 1;
        Moment { nanoseconds, order: self.events }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_when_the_run_ends_is_unknown() {
        let mut history = History::default();
        let (client, key) = ("client".into(), "key".into());
        let write = history.begin(&client, &key, Action::Write(Value(1)), 5);
        let read = history.begin(&client, &key, Action::Read, 6);
        let done = Outcome::Ok(Answer::Done { revision: Some(Revision(9)) });
        let finished = history.finish(write.id, done, 1_000_000_007).unwrap();
        assert_eq!(finished.to_string(), "[0.000000005s .. 1.000000007s] client: write v1 of key: done at r9");
        assert_eq!(history.finish(write.id, done, 8), None);
        let closed = history.close(9);
        assert_eq!(
            closed.iter().map(|closed| (closed.begun.id, closed.outcome)).collect::<Vec<_>>(),
            [(read.id, Outcome::Unknown)]
        );
        assert_eq!(history.count(), 2);
    }

    #[test]
    fn at_the_same_nanosecond_the_order_of_events_counts() {
        let mut history = History::default();
        let (client, key) = ("client".into(), "key".into());
        let first = history.begin(&client, &key, Action::Delete, 5);
        let beside = history.begin(&client, &key, Action::Read, 5);
        let first = history.finish(first.id, Outcome::Refused, 5).unwrap();
        let after = history.begin(&client, &key, Action::Read, 5);
        assert!(!first.precedes(&beside) && first.precedes(&after));
    }
}
