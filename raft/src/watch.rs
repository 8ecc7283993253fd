//! Who waits for a key of the state to change. Interest ends when the waiter is dropped.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use carrack_authority::outcome::WatchKey;
use tokio::sync::oneshot;

/// The most blocking reads at a time on one server: each holds a request of some hundred bytes, together some ten MiB.
pub const WATCHERS_MAX: usize = 32_768;

/// Every place for a waiting reader is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{WATCHERS_MAX} blocking queries wait already on this server")]
pub struct TooManyWatchers;

/// The waiters, by key.
#[derive(Clone, Default)]
pub(crate) struct Watchers(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    next: u64,
    by_key: BTreeMap<(WatchKey, u64), oneshot::Sender<()>>,
}

/// One waiter.
pub(crate) struct Watch {
    watchers: Watchers,
    place: (WatchKey, u64),
    woken: oneshot::Receiver<()>,
}

impl Watchers {
    /// Waits for the next change of `key`, from now on.
    pub(crate) fn register(&self, key: WatchKey) -> Result<Watch, TooManyWatchers> {
        let (wake, woken) = oneshot::channel();
        let mut waiting = self.lock();
        if waiting.by_key.len() >= WATCHERS_MAX {
            return Err(TooManyWatchers);
        }
        let place = (key, waiting.next);
        waiting.next += 1;
        waiting.by_key.insert(place, wake);
        drop(waiting);
        Ok(Watch { watchers: self.clone(), place, woken })
    }

    /// Wakes who waits for one of these keys.
    pub(crate) fn wake(&self, touched: &BTreeSet<WatchKey>) {
        let mut waiting = self.lock();
        if waiting.by_key.is_empty() {
            return;
        }
        for key in touched {
            let places: Vec<_> = waiting.by_key.range((*key, 0)..=(*key, u64::MAX)).map(|(place, _)| *place).collect();
            for place in places {
                // Sending fails only if the waiter has just given up.
                waiting.by_key.remove(&place).map(|wake| wake.send(()));
            }
        }
    }

    /// Wakes everybody.
    pub(crate) fn wake_all(&self) {
        for wake in std::mem::take(&mut self.lock().by_key).into_values() {
            // As above.
            let _ = wake.send(());
        }
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.lock().by_key.len()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Each change is one map operation: a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Ends when the key has changed.
    pub(crate) async fn woken(mut self) {
        // An error means that the sender was dropped, after which looking again is right too.
        drop((&mut self.woken).await);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watchers.lock().by_key.remove(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_touched_key_wakes_its_waiters() {
        let watchers = Watchers::default();
        let (members, issuers) =
            (watchers.register(WatchKey::Members).unwrap(), watchers.register(WatchKey::Issuers).unwrap());
        watchers.wake(&BTreeSet::from([WatchKey::Members]));
        members.woken().await;
        assert_eq!(watchers.count(), 1);
        drop(issuers);
        assert_eq!(watchers.count(), 0);
    }

    #[tokio::test]
    async fn the_number_of_waiters_is_bounded_and_comes_back() {
        let watchers = Watchers::default();
        let all: Vec<Watch> = (0..WATCHERS_MAX).map(|_| watchers.register(WatchKey::Tokens).unwrap()).collect();
        assert_eq!(watchers.register(WatchKey::Tokens).err(), Some(TooManyWatchers));
        watchers.wake_all();
        for watch in all {
            watch.woken().await;
        }
        watchers.register(WatchKey::Tokens).unwrap();
        assert_eq!(watchers.count(), 0);
    }
}
