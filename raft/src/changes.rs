//! What changed in the state, told to whoever follows many keys of it at once: for each group of entries the keys that it touched.

use std::{collections::BTreeSet, sync::Arc};

use carrack_authority::outcome::WatchKey;
use tokio::sync::broadcast;

/// The most groups of entries that wait for a follower. One that is slower looks at everything, which costs it less than so many looks.
const GROUPS_MAX: usize = 256;

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// What these keys stand for.
    Keys(Arc<BTreeSet<WatchKey>>),
    /// Anything.
    Everything,
}

/// The place from which followers are told.
pub(crate) struct Changing(broadcast::Sender<Changed>);

/// The changes since it was made, in their order.
pub struct Changes(broadcast::Receiver<Changed>);

impl Changing {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(GROUPS_MAX))
    }

    /// Tells what a version that is visible now has touched; `None`: everything.
    pub(crate) fn tell(&self, touched: Option<&BTreeSet<WatchKey>>) {
        if self.0.receiver_count() == 0 || touched.is_some_and(BTreeSet::is_empty) {
            return;
        }
        let changed = touched.map_or(Changed::Everything, |touched| Changed::Keys(Arc::new(touched.clone())));
        // An error means that the last follower has just gone.
        drop(self.0.send(changed));
    }

    pub(crate) fn follow(&self) -> Changes {
        Changes(self.0.subscribe())
    }
}

impl Changes {
    /// The next change; it is visible in the state already. `None`: the replica is gone.
    pub async fn next(&mut self) -> Option<Changed> {
        match self.0.recv().await {
            Ok(changed) => Some(changed),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Changed::Everything),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(key: WatchKey) -> BTreeSet<WatchKey> {
        BTreeSet::from([key])
    }

    #[tokio::test]
    async fn a_follower_is_told_each_group_in_order_and_a_slow_one_that_anything_may_have_changed() {
        let changing = Changing::new();
        changing.tell(Some(&keys(WatchKey::Members)));
        let mut changes = changing.follow();
        changing.tell(Some(&keys(WatchKey::Policies)));
        changing.tell(Some(&BTreeSet::new()));
        changing.tell(None);
        assert_eq!(changes.next().await, Some(Changed::Keys(Arc::new(keys(WatchKey::Policies)))));
        assert_eq!(changes.next().await, Some(Changed::Everything));
        for _ in 0..=GROUPS_MAX {
            changing.tell(Some(&keys(WatchKey::Members)));
        }
        assert_eq!(changes.next().await, Some(Changed::Everything));
        drop(changing);
        while changes.next().await.is_some() {}
    }
}
