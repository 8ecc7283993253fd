//! The state as readers see it: one consistent version at a time, published after each group of entries, and who waits for the next.

use std::sync::Arc;

use arc_swap::ArcSwap;
use carrack_authority::{id::Revision, outcome::WatchKey, state::State, time::Timestamp};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    changes::{Changes, Changing},
    watch::{TooManyWatchers, Watchers},
};

/// One version of the state. Nothing changes it; clones of it are cheap.
#[derive(Debug)]
pub struct AppliedState {
    /// The last entry in it.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
    /// The state.
    pub state: State,
    /// When it became visible here.
    pub published_at: Instant,
}

impl AppliedState {
    /// The log's time now: the last stamp and the monotonic time since.
    pub fn log_time(&self) -> Timestamp {
        self.state.now().plus(self.published_at.elapsed())
    }
}

/// The place where the state machine puts versions and readers take them.
pub(crate) struct Published {
    current: ArcSwap<AppliedState>,
    index: watch::Sender<u64>,
    watchers: Watchers,
    changing: Changing,
}

impl Published {
    pub(crate) fn new(index: u64, term: u64, state: State) -> Self {
        let first = AppliedState { index, term, state, published_at: Instant::now() };
        let current = ArcSwap::from_pointee(first);
        let (index, watchers, changing) = (watch::Sender::new(index), Watchers::default(), Changing::new());
        Self { current, index, watchers, changing }
    }

    pub(crate) fn current(&self) -> Arc<AppliedState> {
        self.current.load_full()
    }

    /// Makes a version visible; `touched` wakes its readers, `None` wakes all.
    pub(crate) fn publish(
        &self,
        index: u64,
        term: u64,
        state: State,
        touched: Option<&std::collections::BTreeSet<WatchKey>>,
    ) {
        self.current.store(Arc::new(AppliedState { index, term, state, published_at: Instant::now() }));
        self.index.send_replace(index);
        match touched {
            Some(touched) => self.watchers.wake(touched),
            None => self.watchers.wake_all(),
        }
        self.changing.tell(touched);
    }

    /// Tells what changes from now on.
    pub(crate) fn changes(&self) -> Changes {
        self.changing.follow()
    }

    /// The first version seen that includes entry `index`; `None` at the deadline.
    pub(crate) async fn wait_index(&self, index: u64, deadline: Instant) -> Option<Arc<AppliedState>> {
        let mut applied = self.index.subscribe();
        let reached = timeout_at(deadline, applied.wait_for(|applied| *applied >= index)).await;
        reached.is_ok().then(|| self.current())
    }

    /// The first version seen in which `key` changed after `after`, or the one at the deadline.
    pub(crate) async fn wait_key(
        &self,
        key: WatchKey,
        after: Revision,
        deadline: Instant,
    ) -> Result<Arc<AppliedState>, TooManyWatchers> {
        loop {
            // Registered before it is looked at: a change in between wakes it.
            let watch = self.watchers.register(key)?;
            let current = self.current();
            if current.state.modified(&key) > after || timeout_at(deadline, watch.woken()).await.is_err() {
                return Ok(self.current());
            }
        }
    }

    /// How many readers wait for a key.
    pub(crate) fn watchers(&self) -> usize {
        self.watchers.count()
    }
}
