//! The high-water file: the vote, and the last index that was durable when it was written. sled drops a damaged tail silently;
//! a store that holds less than this file says has forgotten what it acknowledged, and must not start under its old id.

use std::sync::Arc;

use carrack_authority::{
    id::{NodeId, StoreId},
    planted::{self, Bug},
};
use carrack_proto::stored::{
    self, Kind, Schema,
    v1::{HighWater, Vote},
};
use tokio::time::{Duration, Instant};

use crate::ports::Files;

/// The file's name.
const NAME: &str = "high-water";
/// How old the file's index may be: what a damaged tail can hide is at most what was written in this time.
pub(crate) const INDEX_AGE_MAX: Duration = Duration::from_secs(1);

/// The file and what stands in it.
pub(crate) struct HighWaterFile {
    files: Arc<dyn Files>,
    written: HighWater,
    written_at: Instant,
    last_index: Option<u64>,
}

impl HighWaterFile {
    /// Reads the file, or `None` if there is none.
    pub(crate) fn read(files: &Arc<dyn Files>) -> Result<Option<HighWater>, HighWaterError> {
        let Some(bytes) = files.read(NAME).map_err(HighWaterError::Read)? else { return Ok(None) };
        stored::decode(Kind::HighWater, &bytes).map(Some).map_err(HighWaterError::Damaged)
    }

    /// The file with this content; writes nothing.
    pub(crate) fn new(files: Arc<dyn Files>, content: HighWater) -> Self {
        let last_index = content.last_index;
        Self { files, written: content, written_at: Instant::now(), last_index }
    }

    /// Writes the vote, durably.
    pub(crate) fn save_vote(&mut self, vote: Vote) -> Result<(), HighWaterError> {
        if planted::is(Bug::VoteNotWritten) {
            return Ok(());
        }
        self.write(HighWater { vote: Some(vote), last_index: self.last_index, ..self.written.clone() })
    }

    /// Writes the index that the log will end at, before it is cut.
    pub(crate) fn lower(&mut self, last_index: Option<u64>) -> Result<(), HighWaterError> {
        self.last_index = last_index;
        self.save()
    }

    /// Notes that everything up to `last_index` is durable; writes it if the file is old.
    pub(crate) fn raise(&mut self, last_index: Option<u64>) -> Result<(), HighWaterError> {
        self.last_index = self.last_index.max(last_index);
        if self.written_at.elapsed() >= INDEX_AGE_MAX { self.save() } else { Ok(()) }
    }

    /// Writes the file if it is behind.
    pub(crate) fn save(&mut self) -> Result<(), HighWaterError> {
        if self.last_index == self.written.last_index {
            return Ok(());
        }
        self.write(HighWater { last_index: self.last_index, ..self.written.clone() })
    }

    /// Notes that everything up to `last_index` is durable, and writes the file, whatever is in it. With it every name in its
    /// directory is durable.
    pub(crate) fn rewrite(&mut self, last_index: Option<u64>) -> Result<(), HighWaterError> {
        self.last_index = self.last_index.max(last_index);
        self.write(HighWater { last_index: self.last_index, ..self.written.clone() })
    }

    fn write(&mut self, content: HighWater) -> Result<(), HighWaterError> {
        let bytes = stored::encode(Kind::HighWater, Schema::FIRST, &content).map_err(HighWaterError::Encode)?;
        self.files.replace(NAME, &bytes).map_err(HighWaterError::Write)?;
        self.written = content;
        self.written_at = Instant::now();
        Ok(())
    }
}

/// Whether a store that ends at `last_index` can be the one that wrote the file.
pub(crate) fn check(
    file: &HighWater,
    node: NodeId,
    store: StoreId,
    last_index: Option<u64>,
) -> Result<(), HighWaterError> {
    if planted::is(Bug::LostStoreAccepted) {
        return Ok(());
    }
    if file.store != store {
        return Err(HighWaterError::OtherStore { node, expected: file.store, found: store });
    }
    if last_index < file.last_index {
        let expected = file.last_index.unwrap_or(0);
        return Err(HighWaterError::Behind { node, expected, found: last_index.unwrap_or(0) });
    }
    Ok(())
}

/// What an operator does with a server that has forgotten something.
fn rejoin(node: NodeId) -> String {
    format!(
        "it must not start again as server {node}, let it rejoin under a new node id. \
         On another server: `carrack members remove {node}`, then `carrack token join --node <name>`. \
         Here: empty the data directory, then `carrack server --join <token>`"
    )
}

/// Why the high-water file and the store do not go together.
#[derive(Debug, thiserror::Error)]
pub enum HighWaterError {
    /// The file cannot be read.
    #[error("the high-water file cannot be read")]
    Read(#[source] std::io::Error),
    /// The file cannot be written.
    #[error("the high-water file cannot be written")]
    Write(#[source] std::io::Error),
    /// The file's content has no stored form.
    #[error("the high-water file cannot be encoded")]
    Encode(#[source] stored::EncodeError),
    /// The file is not what was written.
    #[error("the high-water file is damaged")]
    Damaged(#[source] stored::DecodeError),
    /// The log's end is lost.
    #[error("the log ends at entry {found}, but entry {expected} was durable: its end is lost: {}", rejoin(*node))]
    Behind {
        /// The server.
        node: NodeId,
        /// What was durable.
        expected: u64,
        /// Where the log ends.
        found: u64,
    },
    /// The log belongs to another store than the high-water file, or than this server.
    #[error("the log is of store {found}, it must be of store {expected}: {}", rejoin(*node))]
    OtherStore {
        /// The server.
        node: NodeId,
        /// The store that it must be.
        expected: StoreId,
        /// What the log says.
        found: StoreId,
    },
    /// The store was made, and is not there.
    #[error("the log of store {expected} is gone: {}", rejoin(*node))]
    LogLost {
        /// The server.
        node: NodeId,
        /// The store that was there.
        expected: StoreId,
    },
    /// The log is there, the file is missing, and with it the vote.
    #[error("the high-water file of store {found} is gone, and with it the last vote: {}", rejoin(*node))]
    FileLost {
        /// The server.
        node: NodeId,
        /// What the log says.
        found: StoreId,
    },
    /// The store belongs to another server.
    #[error(
        "this data directory belongs to server {found}, not to server {node}: start it with its own, or with an empty one"
    )]
    OtherNode {
        /// The server that was started.
        node: NodeId,
        /// The server that the store belongs to.
        found: NodeId,
    },
}
