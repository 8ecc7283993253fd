//! Where the records lie: pages of consecutive sequences. Indexes name pages, not records: one entry stands for every record
//! of its page that has the key, so a record costs little beyond its own bytes.

use std::sync::Arc;

use imbl::OrdMap;

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
        self.count += 1;
        if let Some(page) = self.pages.get_mut(&number) {
            Arc::make_mut(page).push(record);
            return;
        }
        self.shrink_last();
        let mut page = Page::default();
        page.push(record);
        self.pages.insert(number, Arc::new(page));
    }

    /// A page that gets no more records gives back the room that it had for them.
    fn shrink_last(&mut self) {
        let last = self.pages.get_max().filter(|(_, page)| page.0.len() < page.0.capacity());
        if let Some(number) = last.map(|(number, _)| *number)
            && let Some(page) = self.pages.get_mut(&number)
        {
            Arc::make_mut(page).0.shrink_to_fit();
        }
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
    fn push(&mut self, record: IssuanceRecord) {
        let free = PAGE_RECORDS.saturating_sub(self.0.len() as u64);
        self.0.reserve_exact(usize::try_from(free).expect("a page's size fits"));
        self.0.push(record);
    }

    fn place(&self, sequence: u64) -> Option<usize> {
        self.0.binary_search_by_key(&sequence, |record| record.sequence).ok()
    }
}
