//! The way of a command into the log, from any server. One task takes everything that is queued: on the leader it makes one entry
//! of it and goes on without waiting for the commit, elsewhere it sends one message to the leader. When nothing is in flight a
//! command goes at once; under load the batches grow by themselves, because only a few are in flight.

mod batch;
mod dispatch;
mod flight;
mod scout;

use std::time::Duration;

use carrack_authority::{command::Command, id::NodeId, outcome::Outcome};
use carrack_proto::stored;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

pub(crate) use self::dispatch::Dispatcher;

/// The most proposals in one entry. Outcomes of one entry come together, so this bounds latency too.
pub(crate) const ENTRY_PROPOSALS_MAX: usize = 256;
/// The most bytes of commands in one entry, if it is more than one command: an entry is one message and some hundred stored values.
pub(crate) const ENTRY_BYTES_MAX: usize = 256 << 10;
/// The largest command. A leaf with its facts has one KiB, the largest policy some ten.
pub(crate) const COMMAND_BYTES_MAX: usize = 512 << 10;
/// The most proposals that wait on this server: a second of work at the fastest. More would only wait past their deadlines.
const QUEUE_MAX: usize = 8192;
/// How much longer than its deadline a proposer waits for the task, which decides at the deadline.
const GRACE: Duration = Duration::from_millis(250);

/// A decided command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// The entry that decided it.
    pub index: u64,
    /// What it came to.
    pub outcome: Outcome,
}

/// Why a command has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Nothing was proposed: no leader was found in time.
    #[error("no server leads this datacenter; nothing was changed")]
    NoLeader,
    /// It may have happened, or may still happen.
    #[error("the outcome is unknown: the leader was lost before it answered")]
    OutcomeUnknown,
    /// Nothing was proposed: too much waits already.
    #[error("{QUEUE_MAX} proposals wait already on this server; nothing was changed")]
    Overloaded,
    /// Nothing was proposed: the command is too large.
    #[error("the command has {bytes} bytes; the most is {COMMAND_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Nothing was proposed: only the leader may propose this, and this server does not lead.
    #[error("only the leader may propose this, and this server does not lead")]
    NotLeader,
    /// This server stops.
    #[error("this server is stopping; nothing was changed")]
    Stopped,
}

type Reply = oneshot::Sender<Result<Proposed, ProposeError>>;

/// A command on its way.
pub(crate) struct Pending {
    command: Command,
    bytes: usize,
    proposer: NodeId,
    /// Another server forwarded it here: it goes nowhere else.
    is_forwarded: bool,
    /// It may be in the log already.
    is_maybe_proposed: bool,
    deadline: Instant,
    reply: Reply,
}

impl Pending {
    fn finish(self, result: Result<Proposed, ProposeError>) {
        // Whoever asked may have given up.
        drop(self.reply.send(result));
    }

    /// What its caller is told when it cannot be proposed any more.
    fn give_up(self, error: ProposeError) {
        let error = if self.is_maybe_proposed { ProposeError::OutcomeUnknown } else { error };
        self.finish(Err(error));
    }
}

/// Where commands enter.
#[derive(Clone)]
pub(crate) struct Proposer {
    queue: mpsc::Sender<Pending>,
}

impl Proposer {
    /// The entrance and the queue behind it.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Pending>) {
        let (queue, pending) = mpsc::channel(QUEUE_MAX);
        (Self { queue }, pending)
    }

    /// Proposes and waits for the outcome.
    pub(crate) async fn propose(
        &self,
        command: Command,
        proposer: NodeId,
        is_forwarded: bool,
        deadline: Instant,
    ) -> Result<Proposed, ProposeError> {
        let bytes = stored::encoded_length(&command).unwrap_or(usize::MAX);
        if bytes > COMMAND_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes });
        }
        let (reply, outcome) = oneshot::channel();
        let pending = Pending { command, bytes, proposer, is_forwarded, is_maybe_proposed: false, deadline, reply };
        self.queue.try_send(pending).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ProposeError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => ProposeError::Stopped,
        })?;
        match timeout_at(deadline + GRACE, outcome).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(ProposeError::OutcomeUnknown),
        }
    }
}

/// How many batches may be in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlight {
    /// Entries of this leader that are not applied.
    pub(crate) entries: usize,
    /// Messages to the leader that are not answered.
    pub(crate) forwards: usize,
    /// The longest that a message to the leader waits for its answer.
    pub(crate) forward_timeout: Duration,
}

#[cfg(test)]
mod tests;
