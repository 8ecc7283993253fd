//! The directory that holds everything one server keeps: who it is, its keys, its log, its snapshots. It is locked while a
//! process uses it, and it knows whether it is empty, complete, or left half made by a crash.

mod identity;
mod place;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use carrack_authority::id::StoreId;
use carrack_raft::{OpenEngine, ports::Files};

pub use self::{
    identity::{IdentityError, NodeIdentity},
    place::{LocalDirectory, OpenPlace, Place},
};
use crate::keys::store::{KeyStore, KeyStoreError};

const IDENTITY: &str = "identity.toml";
const STORE: &str = "store-id";
const SERVER_CA: &str = "server-ca.pem";
const KEYS: &str = "keys";
const LOG: &str = "log";
const SNAPSHOTS: &str = "snapshots";
const AUDIT: &str = "audit";

/// The longest file of this directory that is read: ten roots of the server CA have less.
const IDENTITY_BYTES_MAX: u64 = 64 * 1024;

/// An opened data directory.
pub struct DataDirectory {
    root: PathBuf,
    place: Arc<dyn Place>,
    files: Arc<dyn Files>,
}

impl fmt::Debug for DataDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataDirectory({})", self.root.display())
    }
}

/// What a data directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Nothing: a server may begin or join here.
    Empty,
    /// A bootstrap or a join began here and did not end. Repeating the same command goes on with it.
    HalfMade {
        /// What is there already, relative to the directory.
        found: Vec<String>,
    },
    /// A server.
    Initialised(Box<NodeIdentity>),
}

/// A data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirectoryError {
    /// Another process uses it.
    #[error(
        "the data directory {path} is in use by another process{holder}: stop that one, or choose another directory",
        path = path.display(),
        holder = holder.map(|id| format!(" (process id {id})")).unwrap_or_default()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process that holds the lock, if it said so.
        holder: Option<u32>,
    },
    /// Others than its owner can enter it.
    #[error(
        "the data directory {path} has mode {mode:04o}: others than its owner can enter it; run `chmod 700 {path}`",
        path = path.display()
    )]
    Exposed {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The identity is there, a part that belongs to it is not.
    #[error(
        "the data directory {path} belongs to server {name} (node id {node}) but its {part} is gone: restore the whole directory from the same moment, or remove it with `carrack members remove {name}` on another server and join again with an empty directory, which gives this server a new node id",
        path = path.display()
    )]
    PartMissing {
        /// The directory.
        path: PathBuf,
        /// The server's name.
        name: String,
        /// The server's node id.
        node: u64,
        /// The missing part.
        part: &'static str,
    },
    /// Nothing is there where a server is expected.
    #[error(
        "the data directory {path} is empty: begin a datacenter with `carrack server --bootstrap`, or join one with `carrack server --join TOKEN`, where `carrack token join` on a server of it makes the token",
        path = path.display()
    )]
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// A bootstrap or a join was interrupted.
    #[error(
        "the data directory {path} is half made ({found}): a bootstrap or a join was interrupted; repeat the same command with the same token to go on with it, or remove the directory to start over",
        path = path.display(),
        found = found.join(", ")
    )]
    HalfMade {
        /// The directory.
        path: PathBuf,
        /// What is there.
        found: Vec<String>,
    },
    /// The identity file cannot be used.
    #[error("the identity file {path} cannot be used", path = path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// Why.
        source: IdentityError,
    },
    /// An identity is there already.
    #[error("the data directory {path} belongs to a server already", path = path.display())]
    AlreadyInitialised {
        /// The directory.
        path: PathBuf,
    },
    /// The operating system failed.
    #[error("cannot {what} {path}", path = path.display())]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl DataDirectory {
    /// The data directory `root`, whose bytes are in `place`.
    pub fn new(root: &Path, place: Arc<dyn Place>) -> Self {
        let files = place.files();
        Self { root: root.into(), place, files }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Opens the keys.
    pub fn keys(&self) -> Result<Arc<dyn KeyStore>, KeyStoreError> {
        self.place.keys()
    }

    /// Opens the log.
    pub fn log(&self) -> OpenEngine {
        self.place.log()
    }

    /// Opens the snapshots, with the high-water file.
    pub fn snapshots(&self) -> Result<Arc<dyn Files>, DataDirectoryError> {
        self.place.snapshots().map_err(|source| io_error("open", &self.root.join(SNAPSHOTS), source))
    }

    /// What is in it. The identity is written last, so its presence means that a bootstrap or a join came to its end.
    pub fn contents(&self) -> Result<Contents, DataDirectoryError> {
        let Some(identity) = self.identity()? else {
            let found = self.found()?;
            return Ok(if found.is_empty() { Contents::Empty } else { Contents::HalfMade { found } });
        };
        for part in [KEYS, LOG] {
            if !self.is_filled(part)? {
                let (path, name) = (self.root.clone(), identity.name.to_string());
                return Err(DataDirectoryError::PartMissing { path, name, node: identity.node.0, part });
            }
        }
        Ok(Contents::Initialised(Box::new(identity)))
    }

    /// The server that it belongs to; an error that says what to do if it belongs to none.
    pub fn server(&self) -> Result<NodeIdentity, DataDirectoryError> {
        let path = self.root.clone();
        match self.contents()? {
            Contents::Initialised(identity) => Ok(*identity),
            Contents::Empty => Err(DataDirectoryError::Empty { path }),
            Contents::HalfMade { found } => Err(DataDirectoryError::HalfMade { path, found }),
        }
    }

    /// The id of the store that this directory gets: the one of an interrupted try, or a new one from `draw`. A repeated bootstrap
    /// or join must find the log that the first one made.
    pub fn new_store(&self, draw: impl FnOnce() -> StoreId) -> Result<StoreId, DataDirectoryError> {
        let path = self.root.join(STORE);
        match self.read(STORE) {
            Ok(text) => match text.trim().parse() {
                Ok(store) => return Ok(store),
                Err(error) => return Err(io_error("read", &path, io::Error::other(error))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(io_error("read", &path, source)),
        }
        let store = draw();
        self.put(STORE, &format!("{store}\n"))?;
        Ok(store)
    }

    /// Makes the directory that of a server: the last step of a bootstrap or a join. Repeating it is success.
    pub fn write_identity(&self, identity: &NodeIdentity) -> Result<(), DataDirectoryError> {
        match self.identity()? {
            Some(existing) if existing == *identity => return Ok(()),
            Some(_) => return Err(DataDirectoryError::AlreadyInitialised { path: self.root.clone() }),
            None => {}
        }
        let text = identity.to_text().map_err(|source| identity_error(&self.root.join(IDENTITY), source))?;
        self.put(IDENTITY, &text)
    }

    /// Puts the server CA's roots where an operator finds them: clients trust them as `CARRACK_CACERT`.
    pub fn write_server_ca(&self, roots_pem: &str) -> Result<(), DataDirectoryError> {
        if self.read(SERVER_CA).is_ok_and(|found| found == roots_pem) {
            return Ok(());
        }
        self.put(SERVER_CA, roots_pem)
    }

    fn put(&self, name: &str, text: &str) -> Result<(), DataDirectoryError> {
        let put = self.files.replace(name, text.as_bytes());
        put.map_err(|source| io_error("write", &self.root.join(name), source))
    }

    fn read(&self, name: &str) -> io::Result<String> {
        let mut text = String::new();
        io::Read::read_to_string(&mut io::Read::take(self.files.open(name)?, IDENTITY_BYTES_MAX), &mut text)?;
        Ok(text)
    }

    fn identity(&self) -> Result<Option<NodeIdentity>, DataDirectoryError> {
        let path = self.root.join(IDENTITY);
        let text = match self.read(IDENTITY) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_error("read", &path, source)),
        };
        NodeIdentity::from_text(&text).map(Some).map_err(|source| identity_error(&path, source))
    }

    /// The parts that are there although nothing has been finished, in order.
    fn found(&self) -> Result<Vec<String>, DataDirectoryError> {
        let mut found = Vec::new();
        for part in [KEYS, LOG, SNAPSHOTS, AUDIT] {
            if self.is_filled(part)? {
                found.push(part.to_owned());
            }
        }
        Ok(found)
    }

    fn is_filled(&self, part: &str) -> Result<bool, DataDirectoryError> {
        self.place.is_filled(part).map_err(|source| io_error("list", &self.root.join(part), source))
    }
}

fn io_error(what: &'static str, path: &Path, source: io::Error) -> DataDirectoryError {
    DataDirectoryError::Io { what, path: path.into(), source }
}

fn identity_error(path: &Path, source: IdentityError) -> DataDirectoryError {
    DataDirectoryError::Identity { path: path.into(), source }
}

#[cfg(test)]
mod tests;
