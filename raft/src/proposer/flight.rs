//! A batch in flight, and what becomes of it. However it ends, the task hears of it exactly once.

use carrack_authority::outcome::Outcome;
use tokio::sync::mpsc;

use super::{Pending, ProposeError, Proposed};
use crate::network::Forwarded;

/// Which kind of batch has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// An entry of this leader.
    Entry,
    /// A message to the leader.
    Forward,
}

/// The end of a batch, with what is to be proposed again.
pub(super) struct Ended {
    pub(super) way: Way,
    pub(super) again: Vec<Pending>,
}

/// A batch in flight. Dropped, the outcome of what is still in it is unknown.
pub(super) struct Flight {
    way: Way,
    pending: Vec<Pending>,
    again: Vec<Pending>,
    /// It has a place for every flight.
    ended: mpsc::Sender<Ended>,
}

impl Flight {
    pub(super) fn new(way: Way, pending: Vec<Pending>, ended: mpsc::Sender<Ended>) -> Self {
        Self { way, pending, again: Vec::new(), ended }
    }

    pub(super) fn pending(&self) -> &[Pending] {
        &self.pending
    }

    /// Every command was decided in one entry.
    pub(super) fn decided(mut self, index: u64, outcomes: Vec<Outcome>) {
        debug_assert_eq!(outcomes.len(), self.pending.len(), "apply answers each proposal");
        for (pending, outcome) in std::mem::take(&mut self.pending).into_iter().zip(outcomes) {
            pending.finish(Ok(Proposed { index, outcome }));
        }
    }

    /// The leader answered each command; missing answers are unknown outcomes.
    pub(super) fn answered(mut self, answers: Vec<Forwarded>) {
        let mut pending = std::mem::take(&mut self.pending).into_iter();
        for (answer, pending) in answers.into_iter().zip(&mut pending) {
            match answer {
                Forwarded::Decided(index, outcome) => pending.finish(Ok(Proposed { index, outcome })),
                Forwarded::NotProposed => self.again.push(pending),
                Forwarded::Unknown => self.again.extend(after_unknown(pending)),
            }
        }
        self.pending.extend(pending);
    }

    /// None of the commands was proposed.
    pub(super) fn turned_away(mut self) {
        self.again = std::mem::take(&mut self.pending);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.again.extend(std::mem::take(&mut self.pending).into_iter().filter_map(after_unknown));
        // It is never full; it is closed when the task has ended, and then the callers hear it from their dropped replies.
        drop(self.ended.try_send(Ended { way: self.way, again: std::mem::take(&mut self.again) }));
    }
}

/// The command, if it may be proposed again although it may have been already.
fn after_unknown(mut pending: Pending) -> Option<Pending> {
    if pending.command.retry_is_safe() && !pending.is_forwarded {
        pending.is_maybe_proposed = true;
        return Some(pending);
    }
    pending.finish(Err(ProposeError::OutcomeUnknown));
    None
}
