//! The port of the log's storage. It moves bytes with an index; what they mean is not its business. Writes are in memory or in
//! the operating system until `sync` returns; each is checksummed together with its place.

#[cfg(test)]
pub(crate) mod memory;
mod sled;

use futures::future::BoxFuture;

pub use self::sled::SledEngine;

/// The records beside the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// Which store this is.
    Identity,
    /// The last entry known to be committed.
    Committed,
    /// The last entry deleted from the front of the log.
    Purged,
}

impl Slot {
    /// The slot's key.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Committed => "committed",
            Self::Purged => "purged",
        }
    }
}

/// An index with the bytes stored at it.
pub type Indexed = (u64, Vec<u8>);

/// A place for the log on one disk. There is one caller, and it never calls again after an error of a write.
pub trait Engine: Send + 'static {
    /// Writes entries with consecutive indexes after the last one.
    fn append(&mut self, entries: &[Indexed]) -> Result<(), EngineError>;
    /// Deletes every entry after `last`, from the end; all of them for `None`.
    fn truncate_after(&mut self, last: Option<u64>) -> Result<(), EngineError>;
    /// Deletes every entry up to `last`, after it has written `record` into the slot `Purged`.
    fn purge(&mut self, last: u64, record: &[u8]) -> Result<(), EngineError>;
    /// Every entry after `purged`, in order, verified; deletes what a crash left half written or half deleted at both ends.
    fn recover(&mut self, purged: Option<u64>) -> Result<Vec<Indexed>, EngineError>;
    /// Writes a record.
    fn put(&mut self, slot: Slot, record: &[u8]) -> Result<(), EngineError>;
    /// Reads a record, verified.
    fn get(&self, slot: Slot) -> Result<Option<Vec<u8>>, EngineError>;
    /// Makes everything written before durable.
    fn sync(&mut self) -> BoxFuture<'_, Result<(), EngineError>>;
    /// How many bytes the store takes.
    fn size_on_disk(&self) -> Result<u64, EngineError>;
}

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The database does not open.
    #[error("the database in {path} does not open: {reason}")]
    Open {
        /// Where it is.
        path: String,
        /// What the database says.
        reason: String,
    },
    /// A read or a write fails.
    #[error("the database fails to {operation}")]
    Database {
        /// What was tried.
        operation: &'static str,
        /// What the database says.
        source: ::sled::Error,
    },
    /// An engine without a database of its own, such as the simulator's, fails to read or write.
    #[error("the store fails to {operation}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What the disk says.
        source: std::io::Error,
    },
    /// The operating system cannot make the database file durable.
    #[error("the database file cannot be synced")]
    Sync(#[source] std::io::Error),
    /// A stored value is not what was written.
    #[error("the value of {place} is damaged: {reason}")]
    Damaged {
        /// Which value.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An entry between others is missing.
    #[error("entry {missing} is missing, though entry {found} is there")]
    Hole {
        /// The missing one.
        missing: u64,
        /// The next one that is there.
        found: u64,
    },
}
