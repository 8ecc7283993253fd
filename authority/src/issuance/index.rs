//! The lookups of the issuance log: from a key to pages, and from a fingerprint to sequences. Both answer candidates: compare
//! what they lead to.

use std::{fmt::Debug, sync::Arc};

use imbl::{OrdMap, OrdSet};

/// The pages that have records with a key. Cloning is cheap.
#[derive(Clone, Debug)]
pub(super) struct PageIndex<K: Ord>(OrdMap<K, PageSet>);

/// Some pages: most keys are in one.
#[derive(Clone, Debug)]
enum PageSet {
    One(u64),
    Many(Arc<OrdSet<u64>>),
}

impl<K: Ord> Default for PageIndex<K> {
    fn default() -> Self {
        Self(OrdMap::new())
    }
}

impl<K: Ord + Clone + Debug> PageIndex<K> {
    /// Adds a page. Answers the key that is in use, so that equal keys share their memory; a new one is first given to
    /// `prepare`, with some other key.
    pub(super) fn insert(&mut self, key: &K, page: u64, prepare: impl FnOnce(K, Option<&K>) -> K) -> K {
        if let Some((key, pages)) = self.0.get_key_value_mut(key) {
            pages.insert(page);
            return key.clone();
        }
        let key = prepare(key.clone(), self.0.get_min().map(|(key, _)| key));
        self.0.insert(key.clone(), PageSet::One(page));
        key
    }

    pub(super) fn remove(&mut self, key: &K, page: u64) {
        let is_empty = match self.0.get_mut(key) {
            Some(PageSet::One(only)) => *only == page,
            Some(PageSet::Many(pages)) => {
                let pages = Arc::make_mut(pages);
                pages.remove(&page);
                pages.is_empty()
            }
            None => false,
        };
        if is_empty {
            self.0.remove(key);
        }
    }

    /// The pages of a key, in ascending order.
    pub(super) fn pages_of(&self, key: &K) -> impl Iterator<Item = u64> + use<'_, K> {
        let (one, many) = match self.0.get(key) {
            Some(PageSet::One(page)) => (Some(*page), None),
            Some(PageSet::Many(pages)) => (None, Some(pages)),
            None => (None, None),
        };
        one.into_iter().chain(many.into_iter().flat_map(|pages| pages.iter().copied()))
    }
}

impl PageSet {
    fn insert(&mut self, page: u64) {
        match self {
            Self::One(only) if *only == page => {}
            Self::One(only) => *self = Self::Many(Arc::new(OrdSet::from_iter([*only, page]))),
            Self::Many(pages) if pages.get_max() == Some(&page) => {}
            Self::Many(pages) => drop(Arc::make_mut(pages).insert(page)),
        }
    }
}

/// Sequences by 64 bits of what they are looked up by. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub(super) struct Fingerprints {
    newest: OrdMap<u64, u64>,
    /// The older ones where several share a fingerprint: none, unless somebody has searched for such.
    older: OrdSet<(u64, u64)>,
}

impl Fingerprints {
    /// Adds a sequence, and drops the one that it replaces.
    pub(super) fn insert(&mut self, fingerprint: u64, sequence: u64, replaced: Option<u64>) {
        let former = self.newest.insert(fingerprint, sequence);
        if let Some(former) = former.filter(|former| Some(*former) != replaced) {
            self.older.insert((fingerprint, former));
        }
        if let Some(replaced) = replaced.filter(|replaced| Some(*replaced) != former) {
            self.older.remove(&(fingerprint, replaced));
        }
    }

    pub(super) fn remove(&mut self, fingerprint: u64, sequence: u64) {
        if self.older.remove(&(fingerprint, sequence)).is_none() && self.newest.get(&fingerprint) == Some(&sequence) {
            self.newest.remove(&fingerprint);
        }
    }

    /// The sequences that have this fingerprint.
    pub(super) fn find(&self, fingerprint: u64) -> impl Iterator<Item = u64> + use<'_> {
        let older = (!self.older.is_empty()).then(|| self.older.range((fingerprint, 0)..=(fingerprint, u64::MAX)));
        let older = older.into_iter().flatten().map(|(_, sequence)| *sequence);
        self.newest.get(&fingerprint).copied().into_iter().chain(older)
    }

    pub(super) fn count(&self) -> usize {
        self.newest.len() + self.older.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fingerprints_find_all_that_were_added_and_not_removed(
            steps in prop::collection::vec((0_u64..3, any::<bool>(), any::<prop::sample::Index>()), 0..60),
        ) {
            let (mut found, mut model) = (Fingerprints::default(), BTreeMap::<u64, BTreeSet<u64>>::new());
            for (sequence, (fingerprint, adds, which)) in (1..).zip(steps) {
                let there: Vec<u64> = model.entry(fingerprint).or_default().iter().copied().collect();
                let chosen = (!there.is_empty()).then(|| *which.get(&there));
                let sequences = model.entry(fingerprint).or_default();
                match chosen {
                    Some(chosen) if !adds => {
                        found.remove(fingerprint, chosen);
                        sequences.remove(&chosen);
                    }
                    replaced => {
                        let replaced = replaced.filter(|replaced| replaced % 2 == 0);
                        found.insert(fingerprint, sequence, replaced);
                        replaced.map(|replaced| sequences.remove(&replaced));
                        sequences.insert(sequence);
                    }
                }
                for (fingerprint, sequences) in &model {
                    prop_assert_eq!(&found.find(*fingerprint).collect::<BTreeSet<_>>(), sequences);
                }
                prop_assert_eq!(found.count(), model.values().map(BTreeSet::len).sum::<usize>());
            }
        }

        #[test]
        fn an_index_answers_each_page_once_in_order(
            steps in prop::collection::vec((0_u8..3, 0_u64..6, any::<bool>()), 0..60),
        ) {
            let (mut index, mut model) = (PageIndex::default(), BTreeSet::new());
            for (key, page, adds) in steps {
                if adds {
                    prop_assert_eq!(index.insert(&key, page, |key, _| key), key);
                    model.insert((key, page));
                } else {
                    index.remove(&key, page);
                    model.remove(&(key, page));
                }
                for key in 0..3 {
                    let pages = model.iter().filter(|(other, _)| *other == key).map(|(_, page)| *page);
                    prop_assert_eq!(index.pages_of(&key).collect::<Vec<_>>(), pages.collect::<Vec<_>>());
                }
            }
        }
    }
}
