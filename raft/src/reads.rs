//! Linearizable reads from any server: everybody who asks while a round to the leader is under way shares the next round.

use carrack_authority::planted::{self, Bug};
use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    applied::{AppliedState, Published},
    network::Links,
    replica::{Raft, read_index},
    status::{Leadership, Role},
};

/// The most reads that wait for a round; as many as blocking queries, and each is a few bytes.
const QUEUE_MAX: usize = 32_768;
/// How long to wait for another leader after a round failed, unless leadership changes.
const PAUSE: Duration = Duration::from_millis(20);

/// Why there is no consistent state to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader confirmed itself in time.
    #[error("no server leads this datacenter, so no consistent read is possible")]
    NoLeader,
    /// The leader answered, but this server is not that far.
    #[error("this server lags: it has applied entry {applied}, the leader confirmed entry {needed}")]
    Lagging {
        /// The last applied entry.
        applied: u64,
        /// The entry that a consistent read needs.
        needed: u64,
    },
    /// Too many reads wait.
    #[error("{QUEUE_MAX} consistent reads wait already on this server")]
    Overloaded,
    /// This server stops.
    #[error("this server is stopping")]
    Stopped,
}

/// A read that waits for its index.
pub(crate) struct Reading {
    deadline: Instant,
    reply: oneshot::Sender<u64>,
}

/// Where reads enter.
#[derive(Clone)]
pub(crate) struct Reader {
    queue: mpsc::Sender<Reading>,
}

impl Reader {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Reading>) {
        let (queue, readings) = mpsc::channel(QUEUE_MAX);
        (Self { queue }, readings)
    }

    /// A state that is at least as new as every outcome that anybody had before the call, and knows what time it is.
    pub(crate) async fn read(&self, published: &Published, deadline: Instant) -> Result<Arc<AppliedState>, ReadError> {
        if planted::is(Bug::ReadWithoutLeader) {
            return Ok(published.current());
        }
        let (reply, index) = oneshot::channel();
        self.queue.try_send(Reading { deadline, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ReadError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => ReadError::Stopped,
        })?;
        let needed = timeout_at(deadline, index).await.ok().and_then(Result::ok).ok_or(ReadError::NoLeader)?;
        let applied = published.wait_index(needed, deadline).await;
        applied.ok_or_else(|| ReadError::Lagging { applied: published.current().index, needed })
    }
}

/// The task behind the queue.
pub(crate) struct ReadTask {
    pub(crate) queue: mpsc::Receiver<Reading>,
    pub(crate) raft: Raft,
    pub(crate) links: Arc<Links>,
    pub(crate) leadership: watch::Receiver<Leadership>,
}

impl ReadTask {
    /// Runs until the queue is closed.
    pub(crate) async fn run(mut self) {
        let mut readings = Vec::new();
        while self.queue.recv_many(&mut readings, QUEUE_MAX).await > 0 {
            while !readings.is_empty() {
                match self.round().await {
                    Some(index) => {
                        for reading in readings.drain(..) {
                            // Whoever asked may have given up.
                            let _ = reading.reply.send(index);
                        }
                    }
                    None => {
                        let now = Instant::now();
                        readings.retain(|reading| reading.deadline > now && !reading.reply.is_closed());
                        // Whichever comes first is right. Nobody will ever lead again where nobody looks after leadership any more.
                        if let Ok(Err(_)) = timeout(PAUSE, self.leadership.changed()).await {
                            return;
                        }
                    }
                }
            }
        }
    }

    async fn round(&self) -> Option<u64> {
        let leadership = self.leadership.borrow().clone();
        if leadership.role == Role::Leader {
            // Before its clock has begun the log's time is that of the last leader: what has ended since would be read as alive.
            if !leadership.is_ready_leader() {
                return None;
            }
            return read_index(&self.raft).await;
        }
        let (node, address) = leadership.leader_and_address()?;
        let index = self.links.read_index(node, &address).await;
        index.inspect_err(|status| tracing::debug!(%status, leader = node, "no index to read at")).ok()
    }
}
