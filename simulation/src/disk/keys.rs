//! The key store port on a simulated disk. Its bytes never leave it but through `read` and through images of the whole disk.

use std::{
    io::{Error, Result},
    path::PathBuf,
    sync::MutexGuard,
};

use carrack::keys::store::{KEY_FILE_BYTES_MAX, KeySlot, KeyStore, KeyStoreError};
use rand::RngExt;
use zeroize::Zeroizing;

use super::{Disk, DiskEvent, state::State};

/// The keys as one process sees them.
pub(super) struct DiskKeys {
    disk: Disk,
    process: u64,
}

impl DiskKeys {
    pub(super) fn new(disk: Disk) -> Self {
        let process = disk.lock().process;
        Self { disk, process }
    }

    fn state(&self) -> Result<MutexGuard<'_, State>> {
        self.disk.of_process(self.process)
    }

    fn path(&self, slot: &str) -> PathBuf {
        [self.disk.lock().name.as_str(), "keys", slot].iter().collect()
    }

    fn failed(&self, what: &'static str, slot: KeySlot) -> impl Fn(Error) -> KeyStoreError {
        move |source| KeyStoreError::Io { what, path: self.path(&slot.to_string()), source }
    }

    /// Does a change that is durable when it returns; one that fails may have happened all the same.
    fn change(&self, bytes: usize, change: impl FnOnce(&mut State)) -> Result<()> {
        let mut state = self.state()?;
        let checked = state.check_file_write(bytes);
        let is_full = checked.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::StorageFull);
        if checked.is_ok() || (!is_full && state.random.random_bool(0.5)) {
            change(&mut state);
        }
        checked
    }
}

impl KeyStore for DiskKeys {
    fn read(&self, slot: KeySlot) -> std::result::Result<Option<Zeroizing<Vec<u8>>>, KeyStoreError> {
        let read = self.state().and_then(|mut state| {
            state.check_file_read()?;
            Ok(state.keys.get(&slot).cloned())
        });
        let bytes = read.map_err(self.failed("read", slot))?;
        if bytes.as_ref().is_some_and(|bytes| bytes.len() > KEY_FILE_BYTES_MAX) {
            let path = self.path(&slot.to_string());
            return Err(KeyStoreError::TooLarge { path, bytes_max: KEY_FILE_BYTES_MAX });
        }
        Ok(bytes)
    }

    fn write(&self, slot: KeySlot, bytes: &[u8]) -> std::result::Result<(), KeyStoreError> {
        let written = self.change(bytes.len(), |state| {
            state.keys.insert(slot, Zeroizing::new(bytes.to_vec()));
            state.journal.note(DiskEvent::KeyWritten { slot });
        });
        written.map_err(self.failed("write", slot))
    }

    fn rename(&self, from: KeySlot, to: KeySlot) -> std::result::Result<(), KeyStoreError> {
        let is_there = self.state().map(|state| state.keys.contains_key(&from));
        if !is_there.map_err(self.failed("rename", from))? {
            return Err(KeyStoreError::Missing { slot: from });
        }
        let renamed = self.change(0, |state| {
            if let Some(bytes) = state.keys.remove(&from) {
                state.keys.insert(to, bytes);
                state.journal.note(DiskEvent::KeyRenamed { from, to });
            }
        });
        renamed.map_err(self.failed("rename", from))
    }

    fn delete(&self, slot: KeySlot) -> std::result::Result<(), KeyStoreError> {
        let deleted = self.change(0, |state| {
            if state.keys.remove(&slot).is_some() {
                state.journal.note(DiskEvent::KeyDeleted { slot });
            }
        });
        deleted.map_err(self.failed("remove", slot))
    }

    fn list(&self) -> std::result::Result<Vec<KeySlot>, KeyStoreError> {
        let listed = self.state().and_then(|mut state| {
            state.check_file_read()?;
            Ok(state.keys.keys().copied().collect())
        });
        listed.map_err(|source| KeyStoreError::Io { what: "list", path: self.path(""), source })
    }
}
