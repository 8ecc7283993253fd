//! Where the bytes of a data directory lie: the port, and its adapter, a locked directory of the local file system.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use carrack_raft::{Directory, OpenEngine, engine::SledEngine, ports::Files};

use super::{DataDirectoryError, KEYS, LOG, SNAPSHOTS, io_error};
use crate::keys::store::{FileKeyStore, KeyStore, KeyStoreError};

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// The permission bits of group and others.
const OTHERS: u32 = 0o077;
const LOCK: &str = "lock";

/// Where one server keeps everything. Real servers have a directory, the simulator's have disks.
pub trait Place: Send + Sync {
    /// The small files: who the server is, and the roots of its CA.
    fn files(&self) -> Arc<dyn Files>;

    /// The keys.
    fn keys(&self) -> Result<Arc<dyn KeyStore>, KeyStoreError>;

    /// Opens the log.
    fn log(&self) -> OpenEngine;

    /// The snapshots, with the high-water file.
    fn snapshots(&self) -> io::Result<Arc<dyn Files>>;

    /// Whether anything is in a part of it.
    fn is_filled(&self, part: &str) -> io::Result<bool>;
}

/// Opens the place of a server.
pub type OpenPlace = Arc<dyn Fn(&Path) -> Result<Arc<dyn Place>, DataDirectoryError> + Send + Sync>;

/// A directory of the local file system, for its owner alone. The lock is held until it is dropped.
pub struct LocalDirectory {
    root: PathBuf,
    files: Directory,
    /// Held for its lock alone.
    _lock: File,
}

impl LocalDirectory {
    /// Opens the directory, makes it if there is none, and locks it against every other process.
    pub fn open(root: &Path) -> Result<Self, DataDirectoryError> {
        let made = DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(root);
        made.map_err(|source| io_error("make", root, source))?;
        refuse_exposed(root)?;
        let lock = lock(root)?;
        let files = Directory::open(root).map_err(|source| io_error("open", root, source))?;
        Ok(Self { root: root.into(), files, _lock: lock })
    }
}

impl Place for LocalDirectory {
    fn files(&self) -> Arc<dyn Files> {
        Arc::new(self.files.clone())
    }

    fn keys(&self) -> Result<Arc<dyn KeyStore>, KeyStoreError> {
        Ok(Arc::new(FileKeyStore::open(&self.root.join(KEYS))?))
    }

    fn log(&self) -> OpenEngine {
        let path = self.root.join(LOG);
        Box::new(move || Ok(Box::new(SledEngine::open(&path)?)))
    }

    fn snapshots(&self) -> io::Result<Arc<dyn Files>> {
        Ok(Arc::new(Directory::open(self.root.join(SNAPSHOTS))?))
    }

    fn is_filled(&self, part: &str) -> io::Result<bool> {
        match fs::read_dir(self.root.join(part)) {
            Ok(mut entries) => Ok(entries.next().is_some()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn refuse_exposed(path: &Path) -> Result<(), DataDirectoryError> {
    let facts = fs::metadata(path).map_err(|source| io_error("look at", path, source))?;
    let mode = facts.permissions().mode() & 0o7777;
    if mode & OTHERS == 0 { Ok(()) } else { Err(DataDirectoryError::Exposed { path: path.into(), mode }) }
}

/// Takes the lock and writes this process's id into it, for the message that another process prints.
fn lock(root: &Path) -> Result<File, DataDirectoryError> {
    let path = root.join(LOCK);
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(&path);
    let file = opened.map_err(|source| io_error("open", &path, source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            return Err(DataDirectoryError::InUse { path: root.into(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(io_error("lock", &path, source)),
    }
    file.set_len(0).map_err(|source| io_error("empty", &path, source))?;
    // The lock holds without it: a full disk is told by what must be written.
    if let Err(error) = io::Write::write_all(&mut &file, std::process::id().to_string().as_bytes()) {
        tracing::warn!(path = %path.display(), %error, "the lock does not say which process holds it");
    }
    Ok(file)
}
