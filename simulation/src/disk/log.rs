//! The log on a simulated disk: what is written, what is durable, and the changes between them in their order. A crash keeps a
//! prefix of them, of which the last may be torn, as a log-structured store with checksums does.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use carrack_raft::engine::{EngineError, Indexed, Slot};
use rand::RngExt;

use crate::random::Stream;

/// What a value takes on the disk besides its bytes: key, checksum, number of parts, length.
const VALUE_OVERHEAD_BYTES: u64 = 20;
/// The changes that stay undurable at most. A disk's cache is finite: above it the oldest reach the disk by themselves.
const PENDING_MAX: usize = 65_536;

/// A stored value.
#[derive(Clone)]
pub(super) struct Page {
    checksum: u32,
    pub(super) bytes: Arc<[u8]>,
    /// Whether the part that is written last is there.
    pub(super) is_whole: bool,
}

impl Page {
    pub(super) fn new(place: Place, bytes: Arc<[u8]>) -> Self {
        Self { checksum: checksum(place, &bytes), bytes, is_whole: true }
    }

    /// What is left when the first part is missing.
    fn torn(&self, random: &mut Stream) -> Self {
        let from = random.random_range(1..=self.bytes.len().max(1)).min(self.bytes.len());
        Self { checksum: self.checksum, bytes: self.bytes[from..].into(), is_whole: false }
    }

    pub(super) fn with_flipped_bit(&self, random: &mut Stream) -> Self {
        let bit = 1u8 << random.random_range(0..8u32);
        let mut bytes = self.bytes.to_vec();
        let mut checksum = self.checksum;
        match bytes.len() {
            0 => checksum ^= u32::from(bit),
            length => bytes[random.random_range(0..length)] ^= bit,
        }
        Self { checksum, bytes: bytes.into(), is_whole: self.is_whole }
    }

    fn verify(&self, place: Place) -> Result<(), EngineError> {
        let (found, computed) = (self.checksum, checksum(place, &self.bytes));
        if found == computed {
            return Ok(());
        }
        let reason = format!("its checksum is {found:#010x}, its bytes give {computed:#010x}");
        Err(EngineError::Damaged { place: place.to_string(), reason })
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64 + VALUE_OVERHEAD_BYTES
    }

    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.bytes, &other.bytes) && self.is_whole == other.is_whole && self.checksum == other.checksum
    }
}

/// Where a value lies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Entry(u64),
    Slot(Slot),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Entry(index) => write!(f, "entry {index}"),
            Self::Slot(slot) => f.write_str(slot.name()),
        }
    }
}

fn checksum(place: Place, bytes: &[u8]) -> u32 {
    let sum = match place {
        Place::Entry(index) => crc32c::crc32c(&index.to_be_bytes()),
        Place::Slot(slot) => crc32c::crc32c(slot.name().as_bytes()),
    };
    crc32c::crc32c_append(sum, bytes)
}

/// A new value for a place, or none.
type Change = (Place, Option<Page>);

/// The values of a log.
#[derive(Clone, Default)]
pub(super) struct Layer {
    pub(super) entries: BTreeMap<u64, Page>,
    pub(super) slots: BTreeMap<Slot, Page>,
    bytes: u64,
}

impl Layer {
    fn get(&self, place: Place) -> Option<&Page> {
        match place {
            Place::Entry(index) => self.entries.get(&index),
            Place::Slot(slot) => self.slots.get(&slot),
        }
    }

    fn set(&mut self, place: Place, page: Option<Page>) {
        self.bytes += page.as_ref().map_or(0, Page::size);
        let old = match (place, page) {
            (Place::Entry(index), Some(page)) => self.entries.insert(index, page),
            (Place::Entry(index), None) => self.entries.remove(&index),
            (Place::Slot(slot), Some(page)) => self.slots.insert(slot, page),
            (Place::Slot(slot), None) => self.slots.remove(&slot),
        };
        self.bytes -= old.as_ref().map_or(0, Page::size);
    }
}

/// The entries that a crash changed.
#[derive(Default)]
pub(super) struct Settled {
    pub(super) lost: Vec<u64>,
    pub(super) returned: Vec<u64>,
}

/// The log and the records beside it.
#[derive(Default)]
pub(super) struct Log {
    pub(super) written: Layer,
    pub(super) durable: Layer,
    pending: VecDeque<Change>,
}

impl Log {
    /// A log of which everything is durable.
    pub(super) fn of(layer: Layer) -> Self {
        Self { written: layer.clone(), durable: layer, pending: VecDeque::new() }
    }

    /// How many bytes it takes.
    pub(super) fn bytes(&self) -> u64 {
        self.written.bytes
    }

    /// How many bytes a value takes.
    pub(super) fn size_of(bytes: &[u8]) -> u64 {
        bytes.len() as u64 + VALUE_OVERHEAD_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.written.entries.is_empty() && self.written.slots.is_empty()
    }

    pub(super) fn write(&mut self, place: Place, page: Option<Page>) {
        self.written.set(place, page.clone());
        self.pending.push_back((place, page));
        if self.pending.len() > PENDING_MAX
            && let Some((place, page)) = self.pending.pop_front()
        {
            self.durable.set(place, page);
        }
    }

    /// Deletes from the end: whatever a crash leaves of it has no hole.
    pub(super) fn truncate_after(&mut self, last: Option<u64>) {
        while let Some(index) = self.written.entries.keys().next_back().copied().filter(|index| Some(*index) > last) {
            self.write(Place::Entry(index), None);
        }
    }

    /// Deletes from the front.
    pub(super) fn purge(&mut self, last: u64) {
        while let Some(index) = self.written.entries.keys().next().copied().filter(|index| *index <= last) {
            self.write(Place::Entry(index), None);
        }
    }

    /// Reads a record, verified.
    pub(super) fn record(&self, slot: Slot) -> Result<Option<Vec<u8>>, EngineError> {
        let Some(page) = self.written.slots.get(&slot) else { return Ok(None) };
        page.verify(Place::Slot(slot))?;
        Ok(Some(page.bytes.to_vec()))
    }

    /// Everything after `purged`, verified; deletes what a crash left half written or half deleted at both ends.
    pub(super) fn recover(&mut self, purged: Option<u64>) -> Result<Vec<Indexed>, EngineError> {
        if let Some(purged) = purged {
            self.purge(purged);
        }
        let mut entries: Vec<Indexed> = Vec::with_capacity(self.written.entries.len());
        let mut torn = Vec::new();
        for (index, page) in &self.written.entries {
            if !page.is_whole {
                torn.push(*index);
                continue;
            }
            let next = entries.last().map(|(last, _)| last + 1).or(purged.map(|purged| purged + 1)).unwrap_or(*index);
            let missing = torn.first().copied().unwrap_or(next);
            if missing != *index {
                return Err(EngineError::Hole { missing, found: *index });
            }
            page.verify(Place::Entry(*index))?;
            entries.push((*index, page.bytes.to_vec()));
        }
        for index in torn {
            self.write(Place::Entry(index), None);
        }
        Ok(entries)
    }

    /// Makes everything durable.
    pub(super) fn sync(&mut self) {
        for (place, page) in self.pending.drain(..) {
            self.durable.set(place, page);
        }
    }

    /// The process ends: of what is not durable a prefix reached the operating system, its last change perhaps in part.
    pub(super) fn kill(&mut self, random: &mut Stream) -> Settled {
        let length = self.pending.len();
        let kept = match random.random_range(0..4u32) {
            0 => 0,
            1 => length,
            _ => random.random_range(0..=length),
        };
        let dropped = self.pending.split_off(kept);
        let places: BTreeSet<Place> = dropped.iter().map(|(place, _)| *place).collect();
        let before: Vec<(Place, Option<Page>)> =
            places.into_iter().map(|place| (place, self.written.get(place).cloned())).collect();
        let reached: BTreeMap<Place, &Option<Page>> = self.pending.iter().map(|(place, page)| (*place, page)).collect();
        for (place, _) in &before {
            let page = reached.get(place).map_or_else(|| self.durable.get(*place).cloned(), |page| (*page).clone());
            self.written.set(*place, page);
        }
        if let Some(change) = dropped.front().filter(|_| random.random_bool(0.5)) {
            self.tear(change, random);
        }
        self.compare(before)
    }

    /// The power goes away: what reached the operating system is what reached the disk.
    pub(super) fn crash(&mut self, random: &mut Stream) -> Settled {
        let settled = self.kill(random);
        self.sync();
        settled
    }

    /// Does half of a change of an entry.
    fn tear(&mut self, change: &Change, random: &mut Stream) {
        let &(Place::Entry(index), ref page) = change else { return };
        let half = match (page, self.written.entries.get(&index)) {
            (Some(page), None) if self.is_after_the_last(index) => page.torn(random),
            (None, Some(old)) if old.is_whole => old.torn(random),
            _ => return,
        };
        self.write(Place::Entry(index), Some(half));
    }

    fn is_after_the_last(&self, index: u64) -> bool {
        self.written.entries.keys().next_back().is_none_or(|last| *last < index)
    }

    fn compare(&self, before: Vec<(Place, Option<Page>)>) -> Settled {
        let mut settled = Settled::default();
        for (place, old) in before {
            let Place::Entry(index) = place else { continue };
            let (old, new) = (old.filter(|page| page.is_whole), self.written.get(place).filter(|page| page.is_whole));
            if let (Some(old), Some(new)) = (&old, new)
                && old.is_same(new)
            {
                continue;
            }
            if old.is_some() {
                settled.lost.push(index);
            }
            if new.is_some() {
                settled.returned.push(index);
            }
        }
        settled
    }

    /// Changes what is on the disk behind everybody's back.
    pub(super) fn damage(&mut self, place: Place, page: Option<Page>) {
        let shows = match (self.written.get(place), self.durable.get(place)) {
            (Some(written), Some(durable)) => written.is_same(durable),
            (None, None) => true,
            _ => false,
        };
        if shows {
            self.written.set(place, page.clone());
        }
        self.durable.set(place, page);
    }

    /// Loses entries from the end without a trace.
    pub(super) fn cut(&mut self, entries: u64) {
        self.sync();
        for _ in 0..entries {
            let Some(last) = self.durable.entries.keys().next_back().copied() else { return };
            self.damage(Place::Entry(last), None);
        }
    }
}
