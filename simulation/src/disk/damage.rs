//! Damage of what is on the disk. Each answers whether there was anything to damage.

use std::sync::Arc;

use carrack_raft::engine::Slot;
use rand::{RngExt, seq::IndexedRandom};

use super::{DiskEvent, DiskFault, file_table::Content, log::Place, state::State};

/// The directory of the snapshots and of the high-water file.
const SNAPSHOTS: &str = "snapshots";
/// The file with the vote and the last durable index.
const HIGH_WATER: &str = "high-water";

impl State {
    /// Orders a fault for the next operation, or does the damage now.
    pub(super) fn order(&mut self, fault: DiskFault) -> bool {
        if let DiskFault::SlowSyncs(syncs) = fault {
            self.begin_slow_spell(syncs);
            return true;
        }
        if fault.waits() {
            *self.ordered.entry(fault).or_default() += 1;
            return true;
        }
        let is_done = self.damage(fault);
        if is_done {
            self.journal.note(DiskEvent::FaultInjected { what: fault });
        }
        is_done
    }

    fn damage(&mut self, fault: DiskFault) -> bool {
        match fault {
            DiskFault::FlipBit => self.flip_bit(),
            DiskFault::FlipBitInSlot(slot) => self.flip_bit_in_slot(slot),
            DiskFault::FlipBitInSnapshot => self.newest_snapshot().is_some_and(|name| self.flip_bit_in_file(&name)),
            DiskFault::FlipBitInHighWater => self.flip_bit_in_file(HIGH_WATER),
            DiskFault::MisdirectedWrite => self.misdirect(),
            DiskFault::LostWrite => self.lose_write(),
            DiskFault::CutTail(entries) => self.cut_tail(entries),
            DiskFault::RestoreOldSnapshotFile => self.restore_old_snapshot(),
            DiskFault::RemoveHighWater => self.remove_high_water(),
            DiskFault::SyncError
            | DiskFault::WriteError
            | DiskFault::ReadError
            | DiskFault::FileWriteError
            | DiskFault::FileReadError
            | DiskFault::StorageFull
            | DiskFault::LyingSync
            | DiskFault::SlowSyncs(_) => false,
        }
    }

    /// One of the durable entries, which are not torn, without the last `spared`.
    fn durable_entry(&mut self, spared: usize) -> Option<u64> {
        let entries = &self.log.durable.entries;
        let choices = entries.len().checked_sub(spared).filter(|choices| *choices > 0)?;
        let chosen = self.random.random_range(0..choices);
        entries.iter().nth(chosen).filter(|(_, page)| page.is_whole).map(|(index, _)| *index)
    }

    fn flip_bit(&mut self) -> bool {
        let Some(index) = self.durable_entry(0) else { return false };
        let page = self.log.durable.entries[&index].with_flipped_bit(&mut self.random);
        self.log.damage(Place::Entry(index), Some(page));
        true
    }

    fn flip_bit_in_slot(&mut self, slot: Slot) -> bool {
        let Some(page) = self.log.durable.slots.get(&slot) else { return false };
        let page = page.with_flipped_bit(&mut self.random);
        self.log.damage(Place::Slot(slot), Some(page));
        true
    }

    fn misdirect(&mut self) -> bool {
        let Some(from) = self.durable_entry(0) else { return false };
        let others: Vec<u64> = self.log.durable.entries.keys().copied().filter(|index| *index != from).collect();
        let Some(to) = others.choose(&mut self.random).copied() else { return false };
        let page = self.log.durable.entries[&from].clone();
        self.log.damage(Place::Entry(to), Some(page));
        true
    }

    fn lose_write(&mut self) -> bool {
        let Some(index) = self.durable_entry(1) else { return false };
        self.log.damage(Place::Entry(index), None);
        true
    }

    fn cut_tail(&mut self, entries: u64) -> bool {
        self.owed_cut += entries;
        if !self.is_log_open {
            self.cut_what_is_owed();
        }
        true
    }

    fn newest_snapshot(&self) -> Option<String> {
        let names = self.files.areas.get(SNAPSHOTS)?.written.keys();
        names.rev().find(|name| *name != HIGH_WATER).cloned()
    }

    fn flip_bit_in_file(&mut self, name: &str) -> bool {
        let content = self.files.get(SNAPSHOTS, name).filter(|content| !content.is_empty());
        let Some(mut bytes) = content.map(|content| content.to_vec()) else { return false };
        let place = self.random.random_range(0..bytes.len());
        bytes[place] ^= 1u8 << self.random.random_range(0..8u32);
        self.files.damage(SNAPSHOTS, name, Some(bytes.into()));
        true
    }

    fn restore_old_snapshot(&mut self) -> bool {
        let Some(newest) = self.newest_snapshot() else { return false };
        let deleted: Option<(String, Content)> =
            self.files.areas.get(SNAPSHOTS).and_then(|area| area.deleted_last.clone());
        self.files.damage(SNAPSHOTS, &newest, None);
        if let Some((name, content)) = deleted {
            self.files.damage(SNAPSHOTS, &name, Some(Arc::clone(&content)));
        }
        true
    }

    fn remove_high_water(&mut self) -> bool {
        let is_there = self.files.get(SNAPSHOTS, HIGH_WATER).is_some();
        self.files.damage(SNAPSHOTS, HIGH_WATER, None);
        is_there
    }
}
