//! The disks of simulated servers: the second implementation of the ports for the log, files and keys. What was not synced is
//! lost, torn or there after a crash; what was, stays, unless a fault takes it. A disk outlives the processes that use it.

mod damage;
mod engine;
mod faults;
mod file_table;
mod files;
mod journal;
mod keys;
mod log;
mod state;
mod view;

use std::{
    io::{Error, ErrorKind},
    sync::{Arc, Mutex, MutexGuard},
};

use carrack::keys::store::KeyStore;
use carrack_raft::{OpenEngine, ports::Files};

use self::{
    engine::DiskEngine,
    files::DiskFiles,
    keys::DiskKeys,
    log::Log,
    state::{Keys, State},
};
pub use self::{
    faults::{DiskFault, DiskFaults, Rate},
    journal::DiskEvent,
    view::{DiskContent, DiskImage, DiskView},
};
use crate::random::Seed;

/// The part of a disk that is the log with the records beside it.
const LOG: &str = "log";
/// The part of a disk that is the key store.
const KEYS: &str = "keys";

/// One disk. Clones share it.
///
/// A process takes its handles with [`Disk::engine`], [`Disk::files`] and [`Disk::keys`] when it starts. The calls that end a
/// process (`kill`, `crash`, `wipe`, `restore`) make all of them dead: they answer errors and change nothing.
#[derive(Clone)]
pub struct Disk {
    state: Arc<Mutex<State>>,
}

impl Disk {
    /// An empty, healthy disk with its own stream of randomness.
    pub fn new(name: &str, seed: Seed) -> Self {
        let random = seed.stream(&format!("disk of {name}"));
        Self { state: Arc::new(Mutex::new(State::new(name, random))) }
    }

    /// Opens the log, for the process that starts now. One process has it open at a time.
    pub fn engine(&self) -> OpenEngine {
        DiskEngine::opener(self.clone())
    }

    /// The files of a directory, for the process that starts now. `snapshots` is where the high-water file is.
    pub fn files(&self, area: &str) -> Arc<dyn Files> {
        Arc::new(DiskFiles::new(self.clone(), area))
    }

    /// The key store, for the process that starts now.
    pub fn keys(&self) -> Arc<dyn KeyStore> {
        Arc::new(DiskKeys::new(self.clone()))
    }

    /// Ends the process and leaves the machine up: what is not synced may have reached the operating system, where the next
    /// process finds it, and is still not durable.
    pub fn kill(&self) {
        self.lock().kill();
    }

    /// Takes the power away: of what is not synced, a prefix is durable, its last change perhaps torn.
    pub fn crash(&self) {
        self.lock().crash();
    }

    /// Puts an empty disk in the place of this one. Its faults stay.
    pub fn wipe(&self) {
        let mut state = self.lock();
        state.begin_process();
        state.owed_cut = 0;
        (state.log, state.files, state.keys) = Default::default();
        state.journal.note(DiskEvent::Wiped { part: None });
    }

    /// Empties one part: `log`, `keys` or a directory of files.
    pub fn wipe_part(&self, part: &str) {
        let mut state = self.lock();
        state.begin_process();
        match part {
            LOG => state.log = Log::default(),
            KEYS => state.keys = Keys::new(),
            area => state.files.remove_area(area),
        }
        state.journal.note(DiskEvent::Wiped { part: Some(part.to_owned()) });
    }

    /// Changes how the disk behaves from now on.
    pub fn set_faults(&self, faults: DiskFaults) {
        self.lock().faults = faults;
    }

    /// Orders one fault. Answers whether it was or will be done: damage needs something to damage.
    pub fn once(&self, fault: DiskFault) -> bool {
        self.lock().order(fault)
    }

    /// Takes what happened since the last call.
    pub fn journal(&self) -> Vec<DiskEvent> {
        self.lock().journal.take()
    }

    /// Puts back an image; everything in it is durable.
    pub fn restore(&self, image: &DiskImage) {
        let mut state = self.lock();
        state.begin_process();
        state.owed_cut = 0;
        state.log = Log::of(image.log.clone());
        state.files = image.files.clone();
        state.keys = image.keys.clone();
        state.journal.note(DiskEvent::Restored);
    }

    /// Copies everything that a reader of the disk sees now, synced or not.
    pub fn copy(&self) -> DiskImage {
        let state = self.lock();
        DiskImage { log: state.log.written.clone(), files: state.files.as_durable(), keys: state.keys.clone() }
    }

    /// What is written and what is durable. Copies the whole index of the disk: for every step, follow the journal.
    pub fn view(&self) -> DiskView {
        DiskView::of(&self.lock())
    }

    /// Whether a part holds anything: `log`, `keys` or a directory of files.
    pub fn is_filled(&self, part: &str) -> bool {
        let state = self.lock();
        match part {
            LOG => !state.log.is_empty(),
            KEYS => !state.keys.is_empty(),
            area => state.files.areas.get(area).is_some_and(|area| !area.written.is_empty()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    /// The disk as a process may use it, as long as that process lives.
    fn of_process(&self, process: u64) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.lock();
        if state.process == process {
            return Ok(state);
        }
        Err(Error::new(ErrorKind::BrokenPipe, format!("the process that used the disk of {} is dead", state.name)))
    }
}

#[cfg(test)]
mod tests;
