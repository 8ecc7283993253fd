//! Opening the log: everything is read and verified once, before anybody relies on it. Damage is an error with a name.

use std::sync::Arc;

use carrack_authority::id::NodeId;
use carrack_proto::stored::{
    self, DecodeError, EncodeError, Kind, Schema,
    v1::{self, HighWater, StoreIdentity},
};
use serde::de::DeserializeOwned;

use super::{OpenEngine, Owner, Window};
use crate::{
    engine::{Engine, EngineError, Slot},
    high_water::{self, HighWaterError, HighWaterFile},
    ports::Files,
    type_config::{LogId, entry_from_stored, log_id_from_stored, vote_from_stored},
};

/// Why the log cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The engine fails, or holds something damaged.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The high-water file and the store do not go together.
    #[error(transparent)]
    HighWater(#[from] HighWaterError),
    /// A stored entry is not what was written.
    #[error("entry {index} of the log is damaged")]
    Entry {
        /// Where it is.
        index: u64,
        /// What is wrong.
        source: DecodeError,
    },
    /// An entry holds another one.
    #[error("entry {found} is stored in the place of entry {index}")]
    Misplaced {
        /// Where it is.
        index: u64,
        /// What it says.
        found: u64,
    },
    /// An entry's membership is none.
    #[error("the membership in entry {index} is not one: {reason}")]
    Membership {
        /// Where it is.
        index: u64,
        /// What is wrong.
        reason: String,
    },
    /// A record beside the log is not what was written.
    #[error("the record `{name}` of the store is damaged")]
    Record {
        /// Which record.
        name: &'static str,
        /// What is wrong.
        source: DecodeError,
    },
    /// Something is too large to be written.
    #[error("an entry or record cannot be encoded")]
    Encode(#[from] EncodeError),
    /// No thread for the log.
    #[error("the log's worker cannot be started")]
    Worker(#[source] std::io::Error),
    /// The log's worker ended early.
    #[error("the log's worker ended before it had opened the log")]
    WorkerGone,
}

type Opened = (Window, Box<dyn Engine>, HighWaterFile);

pub(super) async fn open(owner: Owner, engine: OpenEngine, files: Arc<dyn Files>) -> Result<Opened, LogError> {
    let node = owner.node;
    let mut engine = engine()?;
    let file = HighWaterFile::read(&files)?;
    let identity: Option<StoreIdentity> = read_record(&*engine, Slot::Identity, Kind::StoreIdentity)?;
    let mut window = read_window(&mut *engine)?;
    let last = window.last_index();
    let content = match (identity, file) {
        (Some(identity), Some(file)) => {
            owner.check(identity)?;
            high_water::check(&file, node, identity.store, last)?;
            file
        }
        (None, Some(file)) => return Err(HighWaterError::LogLost { node, expected: file.store }.into()),
        (Some(identity), None) if last.is_some() => {
            return Err(HighWaterError::FileLost { node, found: identity.store }.into());
        }
        (None, None) if !owner.may_create => {
            return Err(HighWaterError::LogLost { node, expected: owner.store }.into());
        }
        (identity, None) => return make(owner, identity, engine, window, files).await,
    };
    window.vote = content.vote.map(vote_from_stored);
    // A process that was killed, or that a failing disk ended, may have left entries, a vote and names of files that are in the
    // operating system alone. From here on they count as this server's.
    engine.sync().await?;
    let mut high_water = HighWaterFile::new(files, content);
    high_water.rewrite(last)?;
    Ok((window, engine, high_water))
}

/// Makes a new store: its identity first, so that a high-water file without one always means a lost log.
async fn make(
    owner: Owner,
    identity: Option<StoreIdentity>,
    mut engine: Box<dyn Engine>,
    window: Window,
    files: Arc<dyn Files>,
) -> Result<Opened, LogError> {
    let identity = identity.unwrap_or(StoreIdentity { store: owner.store, node: owner.node.0 });
    owner.check(identity)?;
    engine.put(Slot::Identity, &stored::encode(Kind::StoreIdentity, Schema::FIRST, &identity)?)?;
    engine.sync().await?;
    let content = HighWater { store: identity.store, vote: None, last_index: None };
    let mut high_water = HighWaterFile::new(files, content);
    high_water.rewrite(None)?;
    Ok((window, engine, high_water))
}

impl Owner {
    fn check(self, identity: StoreIdentity) -> Result<(), LogError> {
        let Self { node, store, .. } = self;
        if identity.node != node.0 {
            return Err(HighWaterError::OtherNode { node, found: NodeId(identity.node) }.into());
        }
        if identity.store != store {
            return Err(HighWaterError::OtherStore { node, expected: store, found: identity.store }.into());
        }
        Ok(())
    }
}

fn read_window(engine: &mut dyn Engine) -> Result<Window, LogError> {
    let purged: Option<v1::LogId> = read_record(engine, Slot::Purged, Kind::Purged)?;
    let committed: Option<v1::LogId> = read_record(engine, Slot::Committed, Kind::Committed)?;
    let mut window = Window { purged: purged.map(log_id_from_stored), ..Window::default() };
    let entries = engine.recover(purged.map(|purged| purged.index))?;
    if let Some((found, _)) = entries.first().filter(|(first, _)| purged.is_none() && *first != 0) {
        return Err(EngineError::Hole { missing: 0, found: *found }.into());
    }
    for (index, bytes) in entries {
        let entry: v1::LogEntry =
            stored::decode(Kind::LogEntry, &bytes).map_err(|source| LogError::Entry { index, source })?;
        if entry.id.index != index {
            return Err(LogError::Misplaced { index, found: entry.id.index });
        }
        window.insert(entry_from_stored(entry).map_err(|reason| LogError::Membership { index, reason })?);
    }
    window.committed = committed.map(log_id_from_stored).and_then(|committed| window.known(committed));
    Ok(window)
}

fn read_record<T: DeserializeOwned>(engine: &dyn Engine, slot: Slot, kind: Kind) -> Result<Option<T>, LogError> {
    let Some(bytes) = engine.get(slot)? else { return Ok(None) };
    stored::decode(kind, &bytes).map(Some).map_err(|source| LogError::Record { name: slot.name(), source })
}

impl Window {
    fn last_index(&self) -> Option<u64> {
        let last = self.entries.keys().next_back().copied();
        last.max(self.purged.map(|purged| purged.index))
    }

    /// The committed id as far as the log reaches: it is written without a sync of its own.
    fn known(&self, committed: LogId) -> Option<LogId> {
        if Some(committed.index) <= self.last_index() {
            return Some(committed);
        }
        self.entries.values().next_back().map(|entry| entry.log_id).or(self.purged)
    }
}
