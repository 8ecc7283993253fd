//! Which records of a table changed last, so that whoever follows it goes on from where it was. Its size is bounded: whoever was
//! away for longer than it reaches reads the whole table once.

use std::ops::Bound;

use imbl::{OrdMap, OrdSet};
use uuid::Uuid;

use crate::{id::Revision, planted};

/// The most records that are remembered for one table: an outage in which more of them change costs one reading of the whole.
const REMEMBERED_MAX: usize = 16_384;

/// The last changes of one table, each record once.
#[derive(Clone, Debug, Default)]
pub struct History {
    by_revision: OrdSet<(Revision, Uuid)>,
    latest: OrdMap<Uuid, Revision>,
    forgotten: Revision,
}

impl History {
    /// A record was made, changed or deleted.
    pub(crate) fn note(&mut self, revision: Revision, key: Uuid) {
        if let Some(former) = self.latest.insert(key, revision) {
            self.by_revision.remove(&(former, key));
        }
        self.by_revision.insert((revision, key));
        if self.by_revision.len() > planted::bound(planted::Bound::RememberedChanges, REMEMBERED_MAX)
            && let Some((oldest, key)) = self.by_revision.get_min().copied()
        {
            self.by_revision.remove(&(oldest, key));
            self.latest.remove(&key);
            self.forgotten = oldest;
        }
    }

    /// The changes after those of a revision up to a key (`None`: all of that revision), in their order; `None` if some of them
    /// are forgotten.
    pub fn since(
        &self,
        revision: Revision,
        after: Option<Uuid>,
    ) -> Option<impl Iterator<Item = (Revision, Uuid)> + '_> {
        let start = Bound::Excluded((revision, after.unwrap_or(Uuid::max())));
        // Of the last forgotten revision some changes may be left: enough only for who has all of it.
        let is_here = self.forgotten < revision || (self.forgotten == revision && after.is_none());
        let is_here = is_here || planted::is(planted::Bug::GapNotRead);
        is_here.then(|| self.by_revision.range((start, Bound::Unbounded)).copied())
    }

    /// The revision of the last change; zero: there was none that is remembered.
    pub fn last(&self) -> Revision {
        self.by_revision.get_max().map_or(self.forgotten, |(revision, _)| *revision)
    }

    /// The last revision of which a change is forgotten.
    pub const fn forgotten(&self) -> Revision {
        self.forgotten
    }

    pub(crate) const fn set_forgotten(&mut self, forgotten: Revision) {
        self.forgotten = forgotten;
    }

    /// Every remembered change, in their order.
    pub fn entries(&self) -> impl Iterator<Item = (Revision, Uuid)> + '_ {
        self.by_revision.iter().copied()
    }

    /// Whether a record's last change is remembered.
    pub(crate) fn contains(&self, key: Uuid) -> bool {
        self.latest.contains_key(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn since(history: &History, revision: u64, after: Option<u128>) -> Option<Vec<(u64, u128)>> {
        let changes = history.since(Revision(revision), after.map(key))?;
        Some(changes.map(|(revision, key)| (revision.0, key.as_u128())).collect())
    }

    #[test]
    fn a_record_is_there_once_with_its_last_change() {
        let mut history = History::default();
        for (revision, record) in [(1, 7), (2, 8), (2, 9), (3, 7)] {
            history.note(Revision(revision), key(record));
        }
        assert_eq!(since(&history, 0, None), Some(vec![(2, 8), (2, 9), (3, 7)]));
        assert_eq!(since(&history, 2, None), Some(vec![(3, 7)]), "all of the revision");
        assert_eq!(since(&history, 2, Some(8)), Some(vec![(2, 9), (3, 7)]), "a part of the revision");
        assert_eq!(since(&history, 3, None), Some(vec![]));
    }

    #[test]
    fn who_was_away_for_longer_than_it_reaches_is_told_so() {
        let mut history = History::default();
        let count = REMEMBERED_MAX as u64 + 10;
        for revision in 1..=count {
            history.note(Revision(revision), key(revision.into()));
        }
        assert_eq!(history.forgotten(), Revision(10));
        assert_eq!(since(&history, 9, None), None);
        assert_eq!(since(&history, 10, Some(0)), None, "a part of a revision of which something is forgotten");
        assert_eq!(since(&history, 10, None).map(|changes| changes.len()), Some(REMEMBERED_MAX));
    }
}
