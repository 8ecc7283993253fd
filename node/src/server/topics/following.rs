//! What one stream follows, and the bell by which it hears of changes. A bell holds at most the newest of each topic, so a stream that does
//! not read falls no further behind.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{Found, Topic, Topics};

/// The most that one stream follows: as many as an agent knows, and some more.
const FOLLOWED_BY_ONE_MAX: usize = 25_000;
/// The most that all streams of a server follow together: 50 topics of each of 10,000 agents, at some 200 bytes.
const FOLLOWED_MAX: usize = 500_000;

/// Too much would be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooMuchFollowed {
    /// By this stream.
    #[error("an agent follows {FOLLOWED_BY_ONE_MAX} tokens and destinations at most")]
    ByOne,
    /// By all streams of this server.
    #[error(
        "agents follow {FOLLOWED_MAX} tokens and destinations already on this server: it is one of too few, or agents use few of them"
    )]
    ByAll,
}

/// What rings a stream: the newest of each topic that has changed, by its number there.
#[derive(Default)]
pub(super) struct Bell {
    rung: Mutex<BTreeMap<u32, Arc<Found>>>,
    ringing: Notify,
}

/// What one stream follows, until it is dropped.
pub struct Following {
    topics: Arc<Topics>,
    stream: u64,
    bell: Arc<Bell>,
    items: BTreeMap<u32, Arc<Topic>>,
}

impl Topics {
    /// A stream that follows nothing yet.
    pub fn enter(self: &Arc<Self>) -> Following {
        let mut board = self.lock();
        board.streams += 1;
        Following { topics: self.clone(), stream: board.streams, bell: Arc::default(), items: BTreeMap::new() }
    }
}

impl Following {
    /// Follows something under a number that is not in use; what there is to be told of it now. What has ended is not followed.
    pub fn follow(&mut self, number: u32, topic: Topic) -> Result<Arc<Found>, TooMuchFollowed> {
        if self.items.len() >= FOLLOWED_BY_ONE_MAX {
            return Err(TooMuchFollowed::ByOne);
        }
        let mut board = self.topics.lock();
        if board.followed >= FOLLOWED_MAX {
            return Err(TooMuchFollowed::ByAll);
        }
        let topic = board.known(topic);
        let mut feed = match board.feeds.remove(&topic) {
            Some(mut feed) => {
                self.topics.look(&topic, &mut feed);
                feed
            }
            None => self.topics.first_look(&topic),
        };
        let found = feed.found.clone();
        if !found.is_end() {
            feed.followers.insert((self.stream, number), self.bell.clone());
            board.followed += 1;
            self.items.insert(number, topic.clone());
        }
        board.keep(topic, feed);
        Ok(found)
    }

    /// Follows it no more.
    pub fn leave(&mut self, number: u32) {
        let Some(topic) = self.items.remove(&number) else { return };
        self.topics.lock().leave(&topic, (self.stream, number));
        self.bell.lock().remove(&number);
    }

    /// How much is followed.
    pub fn count(&self) -> usize {
        self.items.len()
    }

    /// Whether something is followed under this number.
    pub fn is_in_use(&self, number: u32) -> bool {
        self.items.contains_key(&number)
    }

    /// The next that has changed: its number and what it is now. What has ended is followed no more. May be dropped at any time.
    pub async fn changed(&mut self) -> (u32, Arc<Found>) {
        loop {
            let rung = self.bell.lock().pop_first();
            if let Some((number, found)) = rung {
                if found.is_end() {
                    self.leave(number);
                }
                return (number, found);
            }
            self.bell.ringing.notified().await;
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut board = self.topics.lock();
        for (number, topic) in std::mem::take(&mut self.items) {
            board.leave(&topic, (self.stream, number));
        }
    }
}

impl Bell {
    pub(super) fn ring(&self, number: u32, found: Arc<Found>) {
        self.lock().insert(number, found);
        self.ringing.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<Found>>> {
        // Each change is one map operation: a panic leaves nothing half done.
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
