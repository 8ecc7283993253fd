//! Snapshots as plain files: written on a worker from a version of the state that no entry changes any more, and there whole or
//! not at all.

mod file;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use carrack_authority::state::State;
use openraft::RaftSnapshotBuilder;
use tokio::sync::{mpsc, oneshot};

pub use self::file::SnapshotError;
use self::file::{PIECE_BYTES, Reader, Writer};
use crate::{
    ports::{Files, NewFile, Workers},
    type_config::{SnapshotMeta, TypeConfig},
};

/// How many snapshots are kept: the current one, and the one before it for an operator to look at.
const KEPT: usize = 2;
/// What the names of snapshot files begin with.
const PREFIX: &str = "snapshot-";
/// The pieces of a snapshot between the worker and the network: enough that neither waits for each other's small pauses.
const PIECES_QUEUED_MAX: usize = 8;

/// openraft's snapshot with our data.
pub(crate) type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotData>;

/// What openraft carries from one of our calls to another.
pub(crate) enum SnapshotData {
    /// A file that is there.
    Stored(StoredSnapshot),
    /// Received and verified, and not yet named.
    Received(Box<Received>),
}

/// A file of a store.
#[derive(Clone)]
pub(crate) struct StoredSnapshot {
    files: Arc<dyn Files>,
    name: String,
}

/// A snapshot that came from the leader.
pub(crate) struct Received {
    pub(crate) meta: SnapshotMeta,
    pub(crate) state: State,
    file: Box<dyn NewFile>,
}

/// A file in pieces, in order.
pub(crate) type Pieces = mpsc::Receiver<io::Result<Vec<u8>>>;
/// Where a snapshot that is received goes, and where it comes out.
pub(crate) type Receiving = (mpsc::Sender<Vec<u8>>, oneshot::Receiver<Result<Received, SnapshotError>>);

/// The snapshots of one store.
#[derive(Clone)]
pub(crate) struct Snapshots {
    files: Arc<dyn Files>,
    workers: Arc<dyn Workers>,
    current: Arc<Mutex<Option<(SnapshotMeta, String)>>>,
}

impl Snapshots {
    /// Finds the newest snapshot and reads all of it.
    pub(crate) async fn open(
        files: Arc<dyn Files>,
        workers: Arc<dyn Workers>,
    ) -> Result<(Self, Option<(SnapshotMeta, State)>), SnapshotError> {
        let snapshots = Self { files, workers, current: Arc::default() };
        let files = snapshots.files.clone();
        let loaded = snapshots.on_worker("raft-snapshot", move || load_newest(&*files)).await??;
        let Some((name, meta, state)) = loaded else { return Ok((snapshots, None)) };
        snapshots.set_current(meta.clone(), name);
        Ok((snapshots, Some((meta, state))))
    }

    /// The snapshot that a follower would get now.
    pub(crate) fn current(&self) -> Option<Snapshot> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|(meta, name)| Snapshot { meta: meta.clone(), snapshot: self.stored(name.clone()) })
    }

    /// Reads a file again; one of another store becomes one of this.
    pub(crate) async fn load(&self, stored: StoredSnapshot) -> Result<(SnapshotMeta, State), SnapshotError> {
        let is_ours = Arc::ptr_eq(&stored.files, &self.files);
        let (meta, state) = self.on_worker("raft-snapshot", move || load(&*stored.files, &stored.name)).await??;
        if !is_ours {
            self.builder(meta.clone(), state.clone()).build().await?;
        }
        Ok((meta, state))
    }

    /// Gives a received snapshot its name, durably, and makes it the current one.
    pub(crate) async fn keep(&self, received: Received) -> Result<(SnapshotMeta, State), SnapshotError> {
        let Received { meta, state, file } = received;
        let (name, files) = (name_of(&meta), self.files.clone());
        self.on_worker("raft-snapshot", move || {
            file.commit().map_err(SnapshotError::Io)?;
            delete_old(&*files)
        })
        .await??;
        self.set_current(meta.clone(), name);
        Ok((meta, state))
    }

    /// The pieces of a file, in order.
    pub(crate) fn pieces(&self, stored: StoredSnapshot) -> Result<Pieces, SnapshotError> {
        let (pieces, queue) = mpsc::channel(PIECES_QUEUED_MAX);
        let work = async move {
            let mut file = match stored.files.open(&stored.name) {
                Ok(file) => file,
                Err(error) => return drop(pieces.send(Err(error)).await),
            };
            loop {
                let mut piece = Vec::with_capacity(PIECE_BYTES);
                let read = io::Read::read_to_end(&mut io::Read::take(&mut file, PIECE_BYTES as u64), &mut piece);
                let is_end = matches!(read, Ok(0) | Err(_));
                if matches!(read, Ok(0)) || pieces.send(read.map(|_| piece)).await.is_err() || is_end {
                    return;
                }
            }
        };
        self.workers.run("raft-snapshot", Box::pin(work)).map_err(SnapshotError::Io)?;
        Ok(queue)
    }

    /// Takes the pieces of a file, writes and verifies them; the result comes when the sender of pieces is dropped.
    pub(crate) fn receive(&self, meta: SnapshotMeta) -> Result<Receiving, SnapshotError> {
        let (pieces, mut queue) = mpsc::channel::<Vec<u8>>(PIECES_QUEUED_MAX);
        let (done, received) = oneshot::channel();
        let file = self.files.create(&name_of(&meta)).map_err(SnapshotError::Io)?;
        let work = async move {
            let mut reader = Reader::new(Some(file));
            let mut result = Ok(());
            while let Some(piece) = queue.recv().await {
                result = reader.take(&piece);
                if result.is_err() {
                    break;
                }
            }
            let received = result.and_then(|()| reader.finish()).and_then(|(found, state, file)| {
                let file = file.ok_or(SnapshotError::Empty)?;
                if found == meta { Ok(Received { meta, state, file }) } else { Err(SnapshotError::OtherMeta) }
            });
            // The network gave up: the file goes with its value.
            drop(done.send(received));
        };
        self.workers.run("raft-snapshot", Box::pin(work)).map_err(SnapshotError::Io)?;
        Ok((pieces, received))
    }

    /// A builder for this version of the state.
    pub(crate) fn builder(&self, meta: SnapshotMeta, state: State) -> Builder {
        Builder { snapshots: self.clone(), meta, state }
    }

    fn stored(&self, name: String) -> SnapshotData {
        SnapshotData::Stored(StoredSnapshot { files: self.files.clone(), name })
    }

    fn set_current(&self, meta: SnapshotMeta, name: String) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        // A build that ends after a newer snapshot was installed does not take its place.
        if current.as_ref().is_none_or(|(old, _)| old.last_log_id <= meta.last_log_id) {
            *current = Some((meta, name));
        }
    }

    async fn on_worker<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, SnapshotError> {
        let (done, result) = oneshot::channel();
        // The caller may be gone; then nobody wants the result.
        let work = async move { drop(done.send(work())) };
        self.workers.run(name, Box::pin(work)).map_err(SnapshotError::Io)?;
        result.await.map_err(|_| SnapshotError::WorkerGone)
    }
}

/// Builds one snapshot.
pub(crate) struct Builder {
    snapshots: Snapshots,
    meta: SnapshotMeta,
    state: State,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        self.build().await.map_err(io::Error::other)
    }
}

impl Builder {
    async fn build(&mut self) -> Result<Snapshot, SnapshotError> {
        let (meta, state, files) = (self.meta.clone(), self.state.clone(), self.snapshots.files.clone());
        let name = name_of(&meta);
        let file_name = name.clone();
        let work = move || {
            let mut writer = Writer::new(files.create(&file_name).map_err(SnapshotError::Io)?);
            writer.write(&meta, &state)?;
            writer.finish()?.commit().map_err(SnapshotError::Io)?;
            delete_old(&*files)
        };
        self.snapshots.on_worker("raft-snapshot", work).await??;
        self.snapshots.set_current(self.meta.clone(), name.clone());
        Ok(Snapshot { meta: self.meta.clone(), snapshot: self.snapshots.stored(name) })
    }
}

/// The name sorts by index.
fn name_of(meta: &SnapshotMeta) -> String {
    let (index, term) = meta.last_log_id.map_or((0, 0), |last| (last.index, last.leader_id.term));
    format!("{PREFIX}{index:020}-{term}")
}

fn names(files: &dyn Files) -> Result<Vec<String>, SnapshotError> {
    let names = files.list().map_err(SnapshotError::Io)?;
    Ok(names.into_iter().filter(|name| name.starts_with(PREFIX)).collect())
}

fn delete_old(files: &dyn Files) -> Result<(), SnapshotError> {
    let names = names(files)?;
    let old = names.len().saturating_sub(KEPT);
    names[..old].iter().try_for_each(|name| files.remove(name).map_err(SnapshotError::Io))
}

fn load_newest(files: &dyn Files) -> Result<Option<(String, SnapshotMeta, State)>, SnapshotError> {
    let Some(name) = names(files)?.pop() else { return Ok(None) };
    let damaged = |source| SnapshotError::File { name: name.clone(), source: Box::new(source) };
    let (meta, state) = load(files, &name).map_err(damaged)?;
    Ok(Some((name, meta, state)))
}

fn load(files: &dyn Files, name: &str) -> Result<(SnapshotMeta, State), SnapshotError> {
    let mut file = files.open(name).map_err(SnapshotError::Io)?;
    let mut reader = Reader::new(None);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = file.read(&mut piece).map_err(SnapshotError::Io)?;
        if length == 0 {
            break;
        }
        reader.take(&piece[..length])?;
    }
    let (meta, state, _) = reader.finish()?;
    Ok((meta, state))
}

#[cfg(test)]
mod tests;
