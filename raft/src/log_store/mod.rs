//! openraft's log on an engine: the live window in memory for reading, one worker that writes whatever is queued with one sync.

mod open;
mod writer;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    io,
    ops::RangeBounds,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use carrack_authority::id::{NodeId, StoreId};
use openraft::{
    OptionalSend, RaftLogReader,
    storage::{IOFlushed, LogState, RaftLogStorage},
};
use tokio::sync::{mpsc, oneshot};

pub use self::open::LogError;
use self::writer::{Job, Writer};
use crate::{
    engine::Engine,
    ports::{Fatal, Files, Workers},
    type_config::{Entry, LogId, TypeConfig, Vote, entry_bytes},
};

/// The most writes that wait for the worker. openraft sends the next append when the one before is queued, so this bounds the
/// memory of a slow disk, not the throughput of a fast one.
const JOBS_MAX: usize = 1024;
/// The bytes that one message to a follower carries at most, if it is more than one entry.
const READ_BYTES_MAX: usize = 1 << 20;

/// Opens an engine on the worker that will use it.
pub type OpenEngine = Box<dyn FnOnce() -> Result<Box<dyn Engine>, crate::engine::EngineError> + Send>;

/// Whose log it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    /// The server.
    pub(crate) node: NodeId,
    /// The store that is recorded for it.
    pub(crate) store: StoreId,
    /// Whether the store may be missing, because the server was never started before.
    pub(crate) may_create: bool,
}

/// What the log needs.
pub(crate) struct LogPorts {
    pub(crate) engine: OpenEngine,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) workers: Arc<dyn Workers>,
    pub(crate) fatal: Fatal,
}

/// The log. Clones share it.
#[derive(Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
}

struct Shared {
    window: Mutex<Window>,
    jobs: mpsc::Sender<Job>,
    size_on_disk: Arc<AtomicU64>,
}

/// What is in memory.
#[derive(Default)]
struct Window {
    entries: BTreeMap<u64, Entry>,
    bytes: usize,
    purged: Option<LogId>,
    committed: Option<LogId>,
    vote: Option<Vote>,
}

impl LogStore {
    /// Opens the log and verifies all of it.
    pub(crate) async fn open(owner: Owner, ports: LogPorts) -> Result<Self, LogError> {
        let (jobs, queue) = mpsc::channel(JOBS_MAX);
        let (opened, result) = oneshot::channel();
        let size_on_disk = Arc::new(AtomicU64::new(0));
        let (files, fatal, size) = (ports.files, ports.fatal, size_on_disk.clone());
        let work = async move {
            match open::open(owner, ports.engine, files).await {
                Ok((window, engine, high_water)) => {
                    let writer = Writer::new(engine, high_water, fatal, size);
                    if opened.send(Ok(window)).is_ok() {
                        writer.run(queue).await;
                    }
                }
                Err(error) => drop(opened.send(Err(error))),
            }
        };
        ports.workers.run("raft-log", Box::pin(work)).map_err(LogError::Worker)?;
        let window = result.await.map_err(|_| LogError::WorkerGone)??;
        Ok(Self { shared: Arc::new(Shared { window: Mutex::new(window), jobs, size_on_disk }) })
    }

    /// How many bytes of commands are in memory.
    pub(crate) fn window_bytes(&self) -> usize {
        self.window().bytes
    }

    /// The last entry deleted from the front.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.window().purged
    }

    /// How many bytes the store took when it was last measured.
    pub(crate) fn size_on_disk(&self) -> u64 {
        self.shared.size_on_disk.load(Ordering::Relaxed)
    }

    /// Brings the high-water file up to date; call it at least once in its allowed age.
    pub(crate) fn tick(&self) {
        // A full queue writes the file by itself.
        drop(self.shared.jobs.try_send(Job::Tick));
    }

    /// Writes what is queued and the high-water file, and closes the engine.
    pub(crate) async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.shared.jobs.send(Job::Stop { done }).await.is_ok() {
            // The worker drops the sender when it ends, in whatever way.
            drop(stopped.await);
        }
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        // No panic can leave the window half changed: each change is one map operation.
        self.shared.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, job: Job) -> io::Result<()> {
        self.shared.jobs.send(job).await.map_err(|_| worker_gone())
    }

    async fn send_and_wait(&self, job: impl FnOnce(oneshot::Sender<()>) -> Job) -> io::Result<()> {
        let (done, finished) = oneshot::channel();
        self.send(job(done)).await?;
        finished.await.map_err(|_| worker_gone())
    }
}

fn worker_gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the log's worker has ended")
}

impl Window {
    fn insert(&mut self, entry: Entry) {
        self.bytes += entry_bytes(&entry);
        if let Some(old) = self.entries.insert(entry.log_id.index, entry) {
            self.bytes -= entry_bytes(&old);
        }
    }

    fn truncate_after(&mut self, last: Option<u64>) {
        let gone = self.entries.split_off(&last.map_or(0, |last| last + 1));
        self.bytes -= gone.values().map(entry_bytes).sum::<usize>();
    }

    fn purge(&mut self, last: LogId) {
        let kept = self.entries.split_off(&(last.index + 1));
        self.bytes -= self.entries.values().map(entry_bytes).sum::<usize>();
        self.entries = kept;
        self.purged = self.purged.max(Some(last));
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.window().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.window().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let window = self.window();
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let is_first = bytes == 0;
            bytes += entry_bytes(entry).max(1);
            is_first || bytes <= READ_BYTES_MAX
        };
        Ok(window.entries.range(start..end).map(|(_, entry)| entry).take_while(fits).cloned().collect())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let window = self.window();
        let last = window.entries.values().next_back().map(|entry| entry.log_id);
        Ok(LogState { last_purged_log_id: window.purged, last_log_id: last.or(window.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let vote = *vote;
        self.send_and_wait(|done| Job::Vote { vote, done }).await?;
        self.window().vote = Some(vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.window().committed = committed;
        match committed {
            Some(committed) => self.send(Job::Committed(committed)).await,
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.window().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        {
            let mut window = self.window();
            for entry in &entries {
                window.insert(entry.clone());
            }
        }
        self.send(Job::Append { entries, callback }).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let last = last.map(|last| last.index);
        self.window().truncate_after(last);
        self.send_and_wait(|done| Job::Truncate { last, done }).await
    }

    async fn purge(&mut self, last: LogId) -> Result<(), io::Error> {
        self.window().purge(last);
        self.send(Job::Purge { last }).await
    }
}

#[cfg(test)]
mod tests;
