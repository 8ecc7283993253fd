//! Whether what the clients of one register saw can have come from one copy of it: the search of Wing and Gong ("Testing and
//! Verifying Concurrent Objects", 1993) with the memory of Lowe ("Testing for Linearizability", 2017). An unknown operation
//! may take effect at any time after its begin, or never. Values are unique a key, see [`super::history::Value`].

mod model;
mod search;

use std::{fmt, sync::Arc};

use super::history::{History, Moment, Operation, Outcome, Value};
use model::Problem;
use search::{Ending, Search};

/// The most operations between two moments at which nothing is open: a key of the workloads has a fifth of it in a run.
pub const STRETCH_OPERATIONS_MAX: usize = 10_000;
/// The most configurations that are tried for one key: histories of correct registers take about one an operation.
pub const CONFIGURATIONS_MAX: usize = 400_000;
/// The operations at the end of a long prefix that an explanation prints.
const PREFIX_SHOWN: usize = 12;

/// Why a key does not pass. Each is a defect: of the system, or of a workload whose histories cannot be checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No order of the operations explains what was seen.
    #[error("{0}")]
    NotLinearizable(Box<Explanation>),
    /// More operations without a quiescent moment than are checked.
    #[error("{key}: {operations} operations without a quiescent moment, at most {STRETCH_OPERATIONS_MAX} are checked")]
    TooLong {
        /// The register.
        key: Arc<str>,
        /// How many.
        operations: usize,
    },
    /// The search found no order, and was ended before it had tried all.
    #[error("{key}: no order of {operations} operations was found within {CONFIGURATIONS_MAX} configurations")]
    TooComplex {
        /// The register.
        key: Arc<str>,
        /// How many operations it has.
        operations: usize,
    },
    /// An answer does not belong to what was asked.
    #[error("the answer does not belong to the question: {0}")]
    WrongAnswer(Box<Operation>),
}

/// How far a history of a register can be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The register.
    pub key: Arc<str>,
    /// The longest order of operations that was found to be possible.
    pub prefix: Vec<Operation>,
    /// What the register holds after it.
    pub register: Option<Value>,
    /// The operations of which one had to come next, and none could.
    pub stuck: Vec<Operation>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} is not linearizable; the longest possible order has {} operations:",
            self.key,
            self.prefix.len()
        )?;
        let hidden = self.prefix.len().saturating_sub(PREFIX_SHOWN);
        if hidden > 0 {
            writeln!(f, "  ... {hidden} more")?;
        }
        for operation in &self.prefix[hidden..] {
            writeln!(f, "  {operation}")?;
        }
        match self.register {
            Some(value) => writeln!(f, "then {} holds {value}, and none of these can follow:", self.key)?,
            None => writeln!(f, "then {} is absent, and none of these can follow:", self.key)?,
        }
        let stuck: Vec<String> = self.stuck.iter().map(|operation| format!("  {operation}")).collect();
        f.write_str(&stuck.join("\n"))
    }
}

/// Checks every key of a history; the first failure ends it.
pub fn check(history: &History) -> Result<(), Failure> {
    history.keys().try_for_each(|(key, operations)| check_key(key, operations))
}

/// Checks the operations of one key, which was absent in the beginning.
pub fn check_key(key: &Arc<str>, operations: &[Operation]) -> Result<(), Failure> {
    let longest = longest_stretch(operations);
    if longest > STRETCH_OPERATIONS_MAX {
        return Err(Failure::TooLong { key: key.clone(), operations: longest });
    }
    let problem = Problem::new(operations).map_err(|wrong| Failure::WrongAnswer(Box::new(wrong.clone())))?;
    match Search::new(&problem).run(CONFIGURATIONS_MAX) {
        Ending::Found => Ok(()),
        Ending::GaveUp => Err(Failure::TooComplex { key: key.clone(), operations: operations.len() }),
        Ending::Impossible { prefix, stuck } => {
            let prefix: Vec<Operation> = prefix.into_iter().map(|position| operations[position].clone()).collect();
            let stuck = stuck.into_iter().map(|position| operations[position].clone()).collect();
            let register = prefix.iter().rev().find(|operation| model::has_changed(operation));
            let register = register.and_then(|operation| operation.begun.action.value());
            Err(Failure::NotLinearizable(Box::new(Explanation { key: key.clone(), prefix, register, stuck })))
        }
    }
}

/// The most operations between two quiescent moments: nothing is open, and nothing unknown may still take effect.
fn longest_stretch(operations: &[Operation]) -> usize {
    let mut in_order: Vec<&Operation> = operations.iter().collect();
    in_order.sort_by_key(|operation| operation.begun.begin);
    let (mut longest, mut current, mut busy_until) = (0, 0, None);
    for operation in in_order {
        if busy_until.is_none_or(|until| until < operation.begun.begin) {
            current = 0;
        }
        current += 1;
        longest = longest.max(current);
        let is_pending = operation.outcome == Outcome::Unknown && !operation.begun.action.is_read();
        let until = if is_pending { Moment { nanoseconds: u64::MAX, order: u64::MAX } } else { operation.end };
        busy_until = busy_until.max(Some(until));
    }
    longest
}

#[cfg(test)]
pub(in crate::oracle) mod tests;
