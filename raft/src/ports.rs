//! What this crate needs from outside. `node` has the adapters, the simulator has its own.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use carrack_authority::{
    State,
    command::Entry as Commands,
    id::{NodeId, StoreId},
    outcome::Outcome,
    time::Timestamp,
};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use uuid::Uuid;

/// The machine's clock, which may be wrong. Only the leader's clock and tests of certificates from outside look at it.
pub trait WallClock: Send + Sync {
    /// What the clock shows.
    fn now(&self) -> Timestamp;
}

/// Random bytes that nobody can guess.
pub trait Entropy: Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// Runs work that reads and writes files, or is long, beside the async tasks. The work only ever waits for channels.
pub trait Workers: Send + Sync {
    /// Starts `work` under a name that shows in a thread list.
    fn run(&self, name: &str, work: BoxFuture<'static, ()>) -> io::Result<()>;
}

/// Named files in one directory, each written whole: it is there completely after `replace` or `commit`, or not at all.
pub trait Files: Send + Sync {
    /// The content of a file, or `None` if there is none.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Puts `bytes` in the place of a file's content, durably.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Begins a new file that takes its name when it is committed.
    fn create(&self, name: &str) -> io::Result<Box<dyn NewFile>>;
    /// Opens a file for reading from its beginning.
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>>;
    /// The names of the files, sorted.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Deletes a file; none is no error.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// A file that has no name yet. Dropped without a commit it leaves nothing.
pub trait NewFile: Write + Send {
    /// Makes the content durable and gives the file its name.
    fn commit(self: Box<Self>) -> io::Result<()>;
}

/// A connection to another server, authenticated and encrypted by whoever dialled it.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// See [`Stream`].
pub type BoxedStream = Box<dyn Stream>;

/// Connects to other servers.
pub trait Dialer: Send + Sync {
    /// Connects to server `node` at `address` and makes sure that it is that server.
    fn dial(&self, node: NodeId, address: &str) -> BoxFuture<'static, io::Result<BoxedStream>>;
}

/// What is recorded of the other servers.
pub trait PeerDirectory: Send + Sync {
    /// Whether the server with this store and cluster may speak as `node`.
    fn check(&self, node: NodeId, store: StoreId, cluster: Uuid) -> Result<(), Refusal>;
    /// Where the server is reached, if something newer than the Raft membership is known.
    fn address(&self, node: NodeId) -> Option<String>;
}

/// Why a peer is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The peer belongs to another cluster.
    #[error("the peer belongs to cluster {found}, this is cluster {expected}")]
    OtherCluster {
        /// What the peer says.
        found: Uuid,
        /// What is recorded.
        expected: Uuid,
    },
    /// The peer's store is not the one recorded for its id.
    #[error("server {node} speaks from store {found}, recorded is store {expected}")]
    OtherStore {
        /// The server.
        node: NodeId,
        /// What the peer says.
        found: StoreId,
        /// What is recorded.
        expected: StoreId,
    },
    /// No such member, or a removed one.
    #[error("server {node} is not a member: {reason}")]
    NotMember {
        /// The server.
        node: NodeId,
        /// Why.
        reason: String,
    },
}

/// Looks on when entries are applied. Real servers have none; the simulator checks what must always hold.
pub trait ApplyObserver: Send + Sync {
    /// Entry `index` was applied: what it says, what it led to, and the state after it.
    fn applied(&self, index: u64, commands: &Commands, outcomes: &[Outcome], after: &State);

    /// The state up to entry `index` came in a snapshot, or from one at start.
    fn installed(&self, index: u64, state: &State);
}

/// What ends the process when it must not go on, with the reason. After it, nothing more is written.
pub type Fatal = Arc<dyn Fn(&str) + Send + Sync>;

/// The exit code of a process that could not write its store: not a code of a shell or of the command line.
const FATAL_EXIT_CODE: i32 = 70;

/// The fatal hook of a real process: it says why and exits.
pub fn exit_process() -> Fatal {
    Arc::new(|reason| {
        tracing::error!("the store cannot be trusted any more, the process ends: {reason}");
        std::process::exit(FATAL_EXIT_CODE);
    })
}

/// The workers of a real process: one named thread each.
#[derive(Clone, Copy, Debug, Default)]
pub struct NamedThreads;

impl Workers for NamedThreads {
    fn run(&self, name: &str, work: BoxFuture<'static, ()>) -> io::Result<()> {
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(move || futures::executor::block_on(work)).map(drop)
    }
}
