//! When another server last spoke here as the leader. openraft goes on naming a leader that has fallen silent until the next one is
//! elected, and without a majority none is.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use carrack_authority::id::NodeId;
use tokio::time::Instant;

/// The last server that spoke as the leader, and when.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<Option<(NodeId, Instant)>>);

impl Heard {
    /// A message of this server as the leader came now.
    pub(crate) fn note(&self, leader: NodeId) {
        *self.lock() = Some((leader, Instant::now()));
    }

    /// How long ago this server spoke as the leader; `None`: never, or another one has since.
    pub(crate) fn since(&self, leader: NodeId) -> Option<Duration> {
        let last = *self.lock();
        last.filter(|(last, _)| *last == leader).map(|(_, at)| at.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, Option<(NodeId, Instant)>> {
        // A pair of two words is whole whenever the lock is free.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_leader_counts_and_its_silence_grows() {
        let heard = Heard::default();
        assert_eq!(heard.since(NodeId(1)), None);
        heard.note(NodeId(1));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(heard.since(NodeId(1)), Some(Duration::from_secs(3)));
        heard.note(NodeId(2));
        assert_eq!((heard.since(NodeId(1)), heard.since(NodeId(2))), (None, Some(Duration::ZERO)));
    }
}
