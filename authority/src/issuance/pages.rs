//! Where the records lie: pages of consecutive sequences, and indexes that name pages, not records. One index entry stands for
//! every record of its page that has the key, so a record costs little beyond its own bytes.

use std::{fmt::Debug, ops::Bound, sync::Arc};

use imbl::{OrdMap, OrdSet};

use super::record::IssuanceRecord;
use crate::time::Timestamp;

/// How many consecutive sequences share a page: a page that a snapshot still holds is copied by its next change, 8 KiB at most.
const PAGE_RECORDS: u64 = 32;

/// The records in ascending order of their sequences. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    pages: OrdMap<u64, Arc<Page>>,
    count: usize,
}

/// At most [`PAGE_RECORDS`] records, in ascending order of their sequences; never empty.
#[derive(Clone, Debug, Default)]
struct Page(Vec<IssuanceRecord>);

/// The page that a sequence lies in.
pub(super) const fn page_of(sequence: u64) -> u64 {
    sequence / PAGE_RECORDS
}

impl Pages {
    /// Puts a record after all others.
    pub(super) fn push(&mut self, record: IssuanceRecord) {
        let number = page_of(record.sequence);
        let page = self.pages.entry(number).or_default();
        let records = &mut Arc::make_mut(page).0;
        let free = usize::try_from(PAGE_RECORDS).expect("a page's size fits").saturating_sub(records.len());
        records.reserve_exact(free);
        records.push(record);
        self.count += 1;
    }

    /// Takes a record out.
    pub(super) fn remove(&mut self, sequence: u64) -> Option<IssuanceRecord> {
        let number = page_of(sequence);
        let page = self.pages.get_mut(&number)?;
        let place = page.place(sequence)?;
        let records = &mut Arc::make_mut(page).0;
        let record = records.remove(place);
        if records.is_empty() {
            self.pages.remove(&number);
        } else if records.len() * 2 <= records.capacity() {
            records.shrink_to_fit();
        }
        self.count -= 1;
        Some(record)
    }

    /// The record of a sequence, to be changed.
    pub(super) fn find_mut(&mut self, sequence: u64) -> Option<&mut IssuanceRecord> {
        let page = self.pages.get_mut(&page_of(sequence))?;
        let place = page.place(sequence)?;
        Arc::make_mut(page).0.get_mut(place)
    }

    /// The record of a sequence.
    pub(super) fn find(&self, sequence: u64) -> Option<&IssuanceRecord> {
        let page = self.pages.get(&page_of(sequence))?;
        page.0.get(page.place(sequence)?)
    }

    /// The records of one page.
    pub(super) fn page(&self, number: u64) -> &[IssuanceRecord] {
        self.pages.get(&number).map(|page| page.0.as_slice()).unwrap_or_default()
    }

    /// The earliest end of the records of one page.
    pub(super) fn first_end(&self, number: u64) -> Option<Timestamp> {
        self.page(number).iter().map(|record| record.issuance.not_after).min()
    }

    /// The records after a sequence.
    pub(super) fn after(&self, sequence: u64) -> impl Iterator<Item = &IssuanceRecord> {
        let pages = self.pages.range(page_of(sequence)..);
        pages.flat_map(|(_, page)| &page.0).skip_while(move |record| record.sequence <= sequence)
    }

    /// The record with the highest sequence.
    pub(super) fn last(&self) -> Option<&IssuanceRecord> {
        self.pages.get_max().and_then(|(_, page)| page.0.last())
    }

    /// How many records there are.
    pub(super) const fn count(&self) -> usize {
        self.count
    }
}

impl Page {
    fn place(&self, sequence: u64) -> Option<usize> {
        self.0.binary_search_by_key(&sequence, |record| record.sequence).ok()
    }
}

/// The pages that have records with a key. Cloning is cheap.
#[derive(Clone, Debug)]
pub(super) struct PageIndex<K: Ord>(OrdSet<(K, u64)>);

impl<K: Ord> Default for PageIndex<K> {
    fn default() -> Self {
        Self(OrdSet::new())
    }
}

impl<K: Ord + Clone + Debug> PageIndex<K> {
    pub(super) fn insert(&mut self, key: K, page: u64) {
        self.0.insert((key, page));
    }

    pub(super) fn remove(&mut self, key: K, page: u64) {
        self.0.remove(&(key, page));
    }

    /// The pages of a key, in ascending order.
    pub(super) fn pages_of(&self, key: &K) -> impl Iterator<Item = u64> + use<'_, K> {
        let bounds = (Bound::Included((key.clone(), 0)), Bound::Included((key.clone(), u64::MAX)));
        self.0.range(bounds).map(|(_, page)| *page)
    }

    /// The key that is equal to this one and in use already: equal keys share their memory.
    pub(super) fn shared(&self, key: &K) -> Option<&K> {
        let from = (Bound::Included((key.clone(), 0)), Bound::Unbounded);
        self.0.range(from).next().map(|(found, _)| found).filter(|found| *found == key)
    }

    /// The smallest key, with its first page.
    pub(super) fn first(&self) -> Option<&(K, u64)> {
        self.0.get_min()
    }
}
