//! The waiting commands, and how many of them go together.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::{ENTRY_BYTES_MAX, ENTRY_PROPOSALS_MAX, Pending, ProposeError};

/// Commands in the order of their arrival.
#[derive(Default)]
pub(super) struct Waiting {
    queue: VecDeque<Pending>,
}

impl Waiting {
    pub(super) fn extend(&mut self, pending: impl Iterator<Item = Pending>) {
        self.queue.extend(pending);
    }

    /// Puts commands back that were sent before the others.
    pub(super) fn put_back(&mut self, pending: Vec<Pending>) {
        for pending in pending.into_iter().rev() {
            self.queue.push_front(pending);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// When the first of them has waited long enough.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.queue.iter().map(|pending| pending.deadline).min()
    }

    /// The next batch: at least one command, unless none waits.
    pub(super) fn take(&mut self) -> Vec<Pending> {
        let mut bytes = 0;
        let mut count = 0;
        for pending in self.queue.iter().take(ENTRY_PROPOSALS_MAX) {
            bytes += pending.bytes;
            if count > 0 && bytes > ENTRY_BYTES_MAX {
                break;
            }
            count += 1;
        }
        self.queue.drain(..count).collect()
    }

    /// The first command that may be sent to a server of which nobody knows whether it leads.
    pub(super) fn take_scout(&mut self) -> Option<Pending> {
        let may_go = |pending: &Pending| !pending.is_forwarded && pending.command.is_forwardable();
        let position = self.queue.iter().position(may_go)?;
        self.queue.remove(position)
    }

    /// Tells those whose deadline has passed.
    pub(super) fn expire(&mut self, now: Instant) {
        self.take_if(|pending| pending.deadline <= now, ProposeError::NoLeader);
    }

    /// Takes out those for which `is_out` holds, with this error.
    pub(super) fn take_if(&mut self, is_out: impl Fn(&Pending) -> bool, error: ProposeError) {
        if !self.queue.iter().any(&is_out) {
            return;
        }
        for pending in std::mem::take(&mut self.queue) {
            if is_out(&pending) { pending.give_up(error.clone()) } else { self.queue.push_back(pending) }
        }
    }
}
