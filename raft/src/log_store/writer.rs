//! The one writer of the log. It takes everything that is queued, writes it, syncs once, then tells everybody. A failed write
//! ends the process and is never tried again: nobody knows what of it is on the disk.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use carrack_authority::planted::{self, Bug};
use carrack_proto::stored::{self, Kind, Schema};
use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot};

use super::open::LogError;
use crate::{
    engine::{Engine, Indexed, Slot},
    high_water::HighWaterFile,
    ports::Fatal,
    type_config::{Entry, LogId, TypeConfig, Vote, entry_to_stored, log_id_to_stored, vote_to_stored},
};

/// The most jobs that one sync answers: it bounds the latency of the first of them, and is more than openraft ever queues.
const JOBS_PER_COMMIT_MAX: usize = 256;

/// Something to write.
pub(super) enum Job {
    /// Entries after the last one.
    Append { entries: Vec<Entry>, callback: IOFlushed<TypeConfig> },
    /// A vote.
    Vote { vote: Vote, done: oneshot::Sender<()> },
    /// Entries after `last` go.
    Truncate { last: Option<u64>, done: oneshot::Sender<()> },
    /// Entries up to `last` go.
    Purge { last: LogId },
    /// The last entry known to be committed. Nobody waits for it.
    Committed(LogId),
    /// The high-water file may be old.
    Tick,
    /// The end.
    Stop { done: oneshot::Sender<()> },
}

/// The engine with what goes beside it.
pub(super) struct Writer {
    engine: Box<dyn Engine>,
    high_water: HighWaterFile,
    fatal: Fatal,
    size_on_disk: Arc<AtomicU64>,
    /// Goes with the next append, or with the next tick if there is none: it saves a wait at start, and nothing depends on it.
    committed: Option<LogId>,
}

/// The appends that the next sync makes durable.
#[derive(Default)]
struct Group {
    entries: Vec<Indexed>,
    callbacks: Vec<IOFlushed<TypeConfig>>,
}

impl Writer {
    pub(super) fn new(
        engine: Box<dyn Engine>,
        high_water: HighWaterFile,
        fatal: Fatal,
        size_on_disk: Arc<AtomicU64>,
    ) -> Self {
        Self { engine, high_water, fatal, size_on_disk, committed: None }
    }

    /// Writes until nobody can send any more, or is told to stop.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut queue = Vec::new();
        self.measure();
        while jobs.recv_many(&mut queue, JOBS_PER_COMMIT_MAX).await > 0 {
            match self.work(&mut queue).await {
                Ok(None) => {}
                Ok(Some(stopped)) => {
                    drop(self);
                    // Nobody waits if the replica was dropped meanwhile.
                    let _ = stopped.send(());
                    return;
                }
                Err(error) => return (self.fatal)(&chain(&error)),
            }
        }
    }

    /// Writes the queue; answers who waits for the end, if it is the end.
    async fn work(&mut self, queue: &mut Vec<Job>) -> Result<Option<oneshot::Sender<()>>, LogError> {
        let mut group = Group::default();
        for job in queue.drain(..) {
            match job {
                Job::Append { entries, callback } => group.add(&entries, callback)?,
                Job::Committed(committed) => self.committed = Some(committed),
                other => {
                    self.commit(std::mem::take(&mut group)).await?;
                    if let Some(stopped) = self.single(other).await? {
                        return Ok(Some(stopped));
                    }
                }
            }
        }
        self.commit(group).await?;
        Ok(None)
    }

    async fn single(&mut self, job: Job) -> Result<Option<oneshot::Sender<()>>, LogError> {
        match job {
            Job::Vote { vote, done } => {
                self.high_water.save_vote(vote_to_stored(&vote))?;
                let _ = done.send(());
            }
            Job::Truncate { last, done } => {
                self.high_water.lower(last)?;
                self.engine.truncate_after(last)?;
                self.engine.sync().await?;
                let _ = done.send(());
            }
            Job::Purge { last } => self.purge(last).await?,
            Job::Tick => {
                self.write_committed()?;
                self.high_water.raise(None)?;
                self.measure();
            }
            Job::Stop { done } => {
                self.write_committed()?;
                self.engine.sync().await?;
                self.high_water.save()?;
                return Ok(Some(done));
            }
            Job::Append { .. } | Job::Committed(_) => {}
        }
        Ok(None)
    }

    async fn commit(&mut self, group: Group) -> Result<(), LogError> {
        if group.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.write(&group).await {
            for callback in group.callbacks {
                callback.io_completed(Err(std::io::Error::other(chain(&error))));
            }
            return Err(error);
        }
        let last = group.entries.last().map(|(index, _)| *index);
        for callback in group.callbacks {
            callback.io_completed(Ok(()));
        }
        self.high_water.raise(last)?;
        Ok(())
    }

    async fn write(&mut self, group: &Group) -> Result<(), LogError> {
        self.engine.append(&group.entries)?;
        self.write_committed()?;
        if !group.callbacks.is_empty() && !planted::is(Bug::AcknowledgedBeforeSync) {
            let synced = self.engine.sync().await;
            if !planted::is(Bug::FailedFlushIgnored) {
                synced?;
            }
        }
        Ok(())
    }

    fn write_committed(&mut self) -> Result<(), LogError> {
        if let Some(committed) = self.committed.take() {
            let record = stored::encode(Kind::Committed, Schema::FIRST, &log_id_to_stored(&committed))?;
            self.engine.put(Slot::Committed, &record)?;
        }
        Ok(())
    }

    async fn purge(&mut self, last: LogId) -> Result<(), LogError> {
        let record = stored::encode(Kind::Purged, Schema::FIRST, &log_id_to_stored(&last))?;
        self.engine.purge(last.index, &record)?;
        self.engine.sync().await?;
        self.high_water.raise(Some(last.index))?;
        Ok(())
    }

    fn measure(&self) {
        match self.engine.size_on_disk() {
            Ok(bytes) => self.size_on_disk.store(bytes, Ordering::Relaxed),
            Err(error) => tracing::warn!(error = chain(&error.into()), "the size of the log on disk is unknown"),
        }
    }
}

impl Group {
    fn add(&mut self, entries: &[Entry], callback: IOFlushed<TypeConfig>) -> Result<(), LogError> {
        for entry in entries {
            let bytes = stored::encode(Kind::LogEntry, Schema::FIRST, &entry_to_stored(entry))?;
            self.entries.push((entry.log_id.index, bytes));
        }
        self.callbacks.push(callback);
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.callbacks.is_empty()
    }
}

/// An error with its causes, in one line.
fn chain(error: &LogError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
