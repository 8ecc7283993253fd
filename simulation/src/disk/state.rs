//! Everything that lies on one disk, and the dice for what goes wrong with it.

use std::{
    collections::BTreeMap,
    io::{Error, ErrorKind},
    time::Duration,
};

use carrack::keys::store::KeySlot;
use rand::RngExt;
use zeroize::Zeroizing;

use super::{DiskEvent, DiskFault, DiskFaults, Rate, file_table::FileTable, journal::Journal, log::Log};
use crate::random::Stream;

/// Key bytes by slot.
pub(super) type Keys = BTreeMap<KeySlot, Zeroizing<Vec<u8>>>;

/// What a disk holds, and how it behaves.
pub(super) struct State {
    pub(super) name: String,
    pub(super) random: Stream,
    /// Which process the disk belongs to. Handles of another one are dead.
    pub(super) process: u64,
    pub(super) is_log_open: bool,
    /// After a failed sync nobody knows what is durable, whether the machine stays up or not.
    pub(super) is_sync_failed: bool,
    pub(super) log: Log,
    pub(super) files: FileTable,
    pub(super) keys: Keys,
    pub(super) faults: DiskFaults,
    pub(super) ordered: BTreeMap<DiskFault, u32>,
    slow_syncs: u32,
    /// Entries that vanish from the log's end when it is opened again.
    pub(super) owed_cut: u64,
    pub(super) journal: Journal,
}

impl State {
    pub(super) fn new(name: &str, random: Stream) -> Self {
        Self {
            name: name.to_owned(),
            random,
            process: 0,
            is_log_open: false,
            is_sync_failed: false,
            log: Log::default(),
            files: FileTable::default(),
            keys: Keys::new(),
            faults: DiskFaults::default(),
            ordered: BTreeMap::new(),
            slow_syncs: 0,
            owed_cut: 0,
            journal: Journal::default(),
        }
    }

    /// Whether a fault happens to this operation, because it was ordered or by chance.
    pub(super) fn strikes(&mut self, fault: DiskFault, rate: Rate) -> bool {
        let strikes = self.is_ordered(fault) || self.happens(rate);
        if strikes {
            self.journal.note(DiskEvent::FaultInjected { what: fault });
        }
        strikes
    }

    fn is_ordered(&mut self, fault: DiskFault) -> bool {
        let Some(times) = self.ordered.get_mut(&fault) else { return false };
        *times -= 1;
        if *times == 0 {
            self.ordered.remove(&fault);
        }
        true
    }

    fn happens(&mut self, rate: Rate) -> bool {
        rate != Rate::NEVER && self.random.random_ratio(rate.0.min(Rate::OUT_OF), Rate::OUT_OF)
    }

    /// Refuses `bytes` more than there is room for.
    pub(super) fn check_room(&mut self, bytes: u64) -> Result<(), Error> {
        let used = self.log.bytes() + self.files.bytes();
        let is_full = self.faults.capacity_bytes.is_some_and(|capacity| bytes > 0 && used + bytes > capacity);
        if is_full {
            self.journal.note(DiskEvent::FaultInjected { what: DiskFault::StorageFull });
        }
        if is_full || (bytes > 0 && self.strikes(DiskFault::StorageFull, Rate::NEVER)) {
            return Err(Error::new(ErrorKind::StorageFull, format!("no room for {bytes} bytes beside {used}")));
        }
        Ok(())
    }

    /// How long the next sync takes.
    pub(super) fn sync_time(&mut self) -> Duration {
        let faults = self.faults;
        if self.slow_syncs == 0 && self.happens(faults.slow_spell) {
            self.begin_slow_spell(faults.slow_spell_syncs);
        }
        let (min, max) = match self.slow_syncs {
            0 => (faults.sync_time_min, faults.sync_time_max),
            _ => (faults.sync_time_max, faults.slow_sync_time_max),
        };
        self.slow_syncs = self.slow_syncs.saturating_sub(1);
        if max > min { self.random.random_range(min..=max) } else { min }
    }

    pub(super) fn begin_slow_spell(&mut self, syncs: u32) {
        self.slow_syncs = syncs;
        self.journal.note(DiskEvent::FaultInjected { what: DiskFault::SlowSyncs(syncs) });
    }

    /// The power goes away.
    pub(super) fn crash(&mut self) {
        let settled = self.log.crash(&mut self.random);
        let files = self.files.crash(&mut self.random);
        self.journal.note(DiskEvent::Crashed { lost: settled.lost, returned: settled.returned, files });
        self.begin_process();
        self.cut_what_is_owed();
    }

    /// The process goes away, the machine stays up.
    pub(super) fn kill(&mut self) {
        if self.is_sync_failed {
            // The operating system has forgotten which pages it could not write: only what reached the disk is left.
            return self.crash();
        }
        let settled = self.log.kill(&mut self.random);
        self.journal.note(DiskEvent::Crashed { lost: settled.lost, returned: settled.returned, files: Vec::new() });
        self.begin_process();
        self.cut_what_is_owed();
    }

    /// Makes every handle of before dead.
    pub(super) fn begin_process(&mut self) {
        self.process += 1;
        self.is_log_open = false;
        self.is_sync_failed = false;
    }

    /// Loses the log's end if that was ordered while it was in use.
    pub(super) fn cut_what_is_owed(&mut self) {
        let entries = std::mem::take(&mut self.owed_cut);
        if entries > 0 {
            self.log.cut(entries);
        }
    }
}
