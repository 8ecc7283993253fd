//! What lies on a disk, for the invariants and for searching it; and images of whole disks, to be put back later.

use std::{collections::BTreeMap, sync::Arc};

use carrack::keys::store::KeySlot;
use carrack_raft::engine::Slot;

use super::{
    file_table::FileTable,
    log::{Layer, Page},
    state::{Keys, State},
};

/// What is written, and what of it a crash cannot take away.
#[derive(Clone, PartialEq, Eq)]
pub struct DiskView {
    /// What a reader sees.
    pub written: DiskContent,
    /// What is durable.
    pub durable: DiskContent,
}

/// The content of a disk without its key store: that one is where keys may be.
#[derive(Clone, PartialEq, Eq)]
pub struct DiskContent {
    /// The entries of the log, as they lie there, damaged or not.
    pub log: BTreeMap<u64, Arc<[u8]>>,
    /// What is left of entries that a crash tore.
    pub torn: BTreeMap<u64, Arc<[u8]>>,
    /// The records beside the log.
    pub slots: BTreeMap<Slot, Arc<[u8]>>,
    /// The files by directory and name.
    pub files: BTreeMap<String, BTreeMap<String, Arc<[u8]>>>,
    /// The keys that are there; always durable.
    pub keys: Vec<KeySlot>,
}

impl DiskView {
    pub(super) fn of(state: &State) -> Self {
        let areas = &state.files.areas;
        let keys: Vec<KeySlot> = state.keys.keys().copied().collect();
        let written = areas.iter().map(|(name, area)| (name.clone(), area.written.clone())).collect();
        let durable = areas.iter().map(|(name, area)| (name.clone(), area.durable())).collect();
        Self {
            written: content_of(&state.log.written, written, keys.clone()),
            durable: content_of(&state.log.durable, durable, keys),
        }
    }
}

impl DiskContent {
    /// Whether the bytes occur anywhere.
    pub fn holds(&self, secret: &[u8]) -> bool {
        let files = self.files.values().flat_map(BTreeMap::values);
        let mut all = self.log.values().chain(self.torn.values()).chain(self.slots.values()).chain(files);
        !secret.is_empty() && all.any(|bytes| bytes.windows(secret.len()).any(|window| window == secret))
    }
}

fn content_of(log: &Layer, files: BTreeMap<String, BTreeMap<String, Arc<[u8]>>>, keys: Vec<KeySlot>) -> DiskContent {
    let entries = |is_whole: bool| {
        let pages = log.entries.iter().filter(move |(_, page)| page.is_whole == is_whole);
        pages.map(|(index, page): (&u64, &Page)| (*index, page.bytes.clone())).collect()
    };
    let slots = log.slots.iter().map(|(slot, page)| (*slot, page.bytes.clone())).collect();
    DiskContent { log: entries(true), torn: entries(false), slots, files, keys }
}

/// A copy of everything on a disk, as a reader of the disk sees it. Holds keys: it does not print.
#[derive(Clone)]
pub struct DiskImage {
    pub(super) log: Layer,
    pub(super) files: FileTable,
    pub(super) keys: Keys,
}
