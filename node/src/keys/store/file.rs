//! Keeps keys as files of one directory: mode 0600 in a directory of mode 0700, each written beside its target, synced,
//! renamed, and the directory synced.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{KEY_FILE_BYTES_MAX, KeySlot, KeyStore, KeyStoreError};

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// The permission bits of group and others.
const OTHERS: u32 = 0o077;
/// The end of the name of a file that is being written.
const NEW_SUFFIX: &str = ".new";

/// Keeps keys in a directory of the local file system.
#[derive(Debug)]
pub struct FileKeyStore {
    directory: PathBuf,
}

impl FileKeyStore {
    /// Opens the directory, makes it if there is none, and removes what a crash left half written.
    pub fn open(directory: &Path) -> Result<Self, KeyStoreError> {
        let made = DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory);
        made.map_err(|source| io_error("make", directory, source))?;
        let facts = fs::metadata(directory).map_err(|source| io_error("look at", directory, source))?;
        refuse_exposed(directory, &facts.permissions(), DIRECTORY_MODE)?;
        let store = Self { directory: directory.into() };
        store.remove_half_written()?;
        Ok(store)
    }

    fn remove_half_written(&self) -> Result<(), KeyStoreError> {
        for name in self.names()? {
            let is_ours = name.strip_suffix(NEW_SUFFIX).is_some_and(|slot| slot.parse::<KeySlot>().is_ok());
            if is_ours {
                let path = self.directory.join(name);
                fs::remove_file(&path).map_err(|source| io_error("remove", &path, source))?;
            }
        }
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, KeyStoreError> {
        let entries = fs::read_dir(&self.directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.map_err(|source| io_error("list", &self.directory, source))?;
        Ok(entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    fn path(&self, slot: KeySlot) -> PathBuf {
        self.directory.join(slot.to_string())
    }

    fn sync_directory(&self) -> Result<(), KeyStoreError> {
        let synced = File::open(&self.directory).and_then(|directory| directory.sync_all());
        synced.map_err(|source| io_error("sync", &self.directory, source))
    }
}

impl KeyStore for FileKeyStore {
    fn read(&self, slot: KeySlot) -> Result<Option<Zeroizing<Vec<u8>>>, KeyStoreError> {
        let path = self.path(slot);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_error("open", &path, source)),
        };
        let facts = file.metadata().map_err(|source| io_error("look at", &path, source))?;
        if !matches!(slot, KeySlot::ServerCertificate | KeySlot::AgentCertificate) {
            refuse_exposed(&path, &facts.permissions(), FILE_MODE)?;
        }
        // The whole capacity is reserved first, so that no growth leaves a copy of the key in freed memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES_MAX + 1));
        let read = file.take(KEY_FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|source| io_error("read", &path, source))?;
        if bytes.len() > KEY_FILE_BYTES_MAX {
            return Err(KeyStoreError::TooLarge { path, bytes_max: KEY_FILE_BYTES_MAX });
        }
        Ok(Some(bytes))
    }

    fn write(&self, slot: KeySlot, bytes: &[u8]) -> Result<(), KeyStoreError> {
        let path = self.path(slot);
        let new = self.directory.join(format!("{slot}{NEW_SUFFIX}"));
        write_synced(&new, bytes).map_err(|source| io_error("write", &new, source))?;
        fs::rename(&new, &path).map_err(|source| io_error("put in place", &path, source))?;
        self.sync_directory()
    }

    fn rename(&self, from: KeySlot, to: KeySlot) -> Result<(), KeyStoreError> {
        let path = self.path(from);
        fs::rename(&path, self.path(to)).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => KeyStoreError::Missing { slot: from },
            _ => io_error("rename", &path, source),
        })?;
        self.sync_directory()
    }

    fn delete(&self, slot: KeySlot) -> Result<(), KeyStoreError> {
        let path = self.path(slot);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path, source)),
            _ => self.sync_directory(),
        }
    }

    fn list(&self) -> Result<Vec<KeySlot>, KeyStoreError> {
        let mut slots: Vec<KeySlot> = self.names()?.iter().filter_map(|name| name.parse().ok()).collect();
        slots.sort_unstable();
        Ok(slots)
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)?;
    // A file that a crash left keeps its old mode, so the mode is set again before the first secret byte.
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn refuse_exposed(path: &Path, permissions: &Permissions, wanted: u32) -> Result<(), KeyStoreError> {
    let mode = permissions.mode() & 0o7777;
    if mode & OTHERS == 0 { Ok(()) } else { Err(KeyStoreError::Exposed { path: path.into(), mode, wanted }) }
}

fn io_error(what: &'static str, path: &Path, source: io::Error) -> KeyStoreError {
    KeyStoreError::Io { what, path: path.into(), source }
}
