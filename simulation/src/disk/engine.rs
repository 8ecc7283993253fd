//! The engine port on a simulated disk. After a failed write it answers only errors, as its contract allows.

use std::{
    io::{Error, ErrorKind},
    sync::{Arc, MutexGuard},
};

use carrack_raft::{
    OpenEngine,
    engine::{Engine, EngineError, Indexed, Slot},
};
use futures::{FutureExt, future::BoxFuture};
use rand::RngExt;

use super::{
    Disk, DiskEvent, DiskFault,
    log::{Log, Page, Place},
    state::State,
};

/// The log of one process.
pub(super) struct DiskEngine {
    disk: Disk,
    process: u64,
    has_failed: bool,
}

impl DiskEngine {
    /// What opens the log for the process that the disk belongs to now.
    pub(super) fn opener(disk: Disk) -> OpenEngine {
        let process = disk.lock().process;
        Box::new(move || {
            open(&disk, process)?;
            Ok(Box::new(Self { disk, process, has_failed: false }))
        })
    }

    fn state(&self, operation: &'static str) -> Result<MutexGuard<'_, State>, EngineError> {
        state_of(&self.disk, self.process, operation)
    }

    fn change(
        &mut self,
        operation: &'static str,
        change: impl FnOnce(&mut State) -> Result<(), Error>,
    ) -> Result<(), EngineError> {
        let failed = |source| EngineError::Io { operation, source };
        if self.has_failed {
            return Err(failed(Error::new(ErrorKind::BrokenPipe, "an earlier write failed")));
        }
        let changed = self.state(operation).and_then(|mut state| change(&mut state).map_err(failed));
        self.has_failed = changed.is_err();
        changed
    }

    fn end_sync(&mut self) -> Result<(), EngineError> {
        self.change("flush", State::sync)
    }
}

impl Engine for DiskEngine {
    fn append(&mut self, entries: &[Indexed]) -> Result<(), EngineError> {
        self.change("write the log", |state| state.append(entries))
    }

    fn truncate_after(&mut self, last: Option<u64>) -> Result<(), EngineError> {
        self.change("write the log", |state| {
            state.check_write(0)?;
            state.log.truncate_after(last);
            state.journal.note(DiskEvent::TruncatedAfter { last });
            Ok(())
        })
    }

    fn purge(&mut self, last: u64, record: &[u8]) -> Result<(), EngineError> {
        self.put(Slot::Purged, record)?;
        self.change("write the log", |state| {
            state.check_write(0)?;
            state.log.purge(last);
            state.journal.note(DiskEvent::Purged { last });
            Ok(())
        })
    }

    fn recover(&mut self, purged: Option<u64>) -> Result<Vec<Indexed>, EngineError> {
        let mut state = self.state("read the log")?;
        state.check_read().map_err(|source| EngineError::Io { operation: "read the log", source })?;
        state.log.recover(purged)
    }

    fn put(&mut self, slot: Slot, record: &[u8]) -> Result<(), EngineError> {
        self.change("write a record", |state| {
            state.check_write(Log::size_of(record))?;
            let (place, bytes): (Place, Arc<[u8]>) = (Place::Slot(slot), record.into());
            state.log.write(place, Some(Page::new(place, bytes.clone())));
            state.journal.note(DiskEvent::Put { slot, bytes });
            Ok(())
        })
    }

    fn get(&self, slot: Slot) -> Result<Option<Vec<u8>>, EngineError> {
        let mut state = self.state("read a record")?;
        state.check_read().map_err(|source| EngineError::Io { operation: "read a record", source })?;
        state.log.record(slot)
    }

    fn sync(&mut self) -> BoxFuture<'_, Result<(), EngineError>> {
        async {
            let pause = self.state("flush")?.sync_time();
            // What is written before the process dies in here is in the hands of the crash.
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            self.end_sync()
        }
        .boxed()
    }

    fn size_on_disk(&self) -> Result<u64, EngineError> {
        Ok(self.state("measure itself")?.log.bytes())
    }
}

impl Drop for DiskEngine {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state("close") {
            state.is_log_open = false;
        }
    }
}

fn open(disk: &Disk, process: u64) -> Result<(), EngineError> {
    let mut state = state_of(disk, process, "open")?;
    if state.is_log_open {
        let reason = "it is open already".to_owned();
        return Err(EngineError::Open { path: state.name.clone(), reason });
    }
    state.is_log_open = true;
    state.cut_what_is_owed();
    state.journal.note(DiskEvent::Opened);
    Ok(())
}

fn state_of<'a>(disk: &'a Disk, process: u64, operation: &'static str) -> Result<MutexGuard<'a, State>, EngineError> {
    disk.of_process(process).map_err(|source| EngineError::Io { operation, source })
}

impl State {
    fn append(&mut self, entries: &[Indexed]) -> Result<(), Error> {
        let fails = self.strikes(DiskFault::WriteError, self.faults.write_error);
        let written = if fails { self.random.random_range(0..=entries.len()) } else { entries.len() };
        for (index, bytes) in &entries[..written] {
            self.check_room(Log::size_of(bytes))?;
            let (place, bytes): (Place, Arc<[u8]>) = (Place::Entry(*index), bytes.as_slice().into());
            self.log.write(place, Some(Page::new(place, bytes.clone())));
            self.journal.note(DiskEvent::Appended { index: *index, bytes });
        }
        if fails { Err(Error::other("the disk fails to write")) } else { Ok(()) }
    }

    fn check_write(&mut self, bytes: u64) -> Result<(), Error> {
        if self.strikes(DiskFault::WriteError, self.faults.write_error) {
            return Err(Error::other("the disk fails to write"));
        }
        self.check_room(bytes)
    }

    fn check_read(&mut self) -> Result<(), Error> {
        match self.strikes(DiskFault::ReadError, self.faults.read_error) {
            true => Err(Error::other("the disk fails to read")),
            false => Ok(()),
        }
    }

    fn sync(&mut self) -> Result<(), Error> {
        if self.strikes(DiskFault::SyncError, self.faults.sync_error) {
            self.is_sync_failed = true;
            return Err(Error::other("the disk fails to flush"));
        }
        let lies = self.faults.lies_about_sync || self.strikes(DiskFault::LyingSync, super::Rate::NEVER);
        if !lies {
            self.log.sync();
        }
        self.journal.note(DiskEvent::Synced);
        Ok(())
    }
}
