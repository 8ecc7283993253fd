//! An engine in memory for tests: it loses what was not synced, counts its syncs, and can be told to wait or to fail.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::Semaphore;

use super::{Engine, EngineError, Indexed, Slot};

/// A disk that engines of one store after the other lie on.
#[derive(Clone)]
pub(crate) struct MemoryDisk {
    content: Arc<Mutex<Content>>,
    /// Each sync takes one permit.
    pub(crate) syncs_allowed: Arc<Semaphore>,
}

#[derive(Default)]
struct Content {
    written: Pages,
    durable: Pages,
    syncs: u64,
    fails: bool,
}

#[derive(Clone, Default)]
struct Pages {
    log: BTreeMap<u64, Vec<u8>>,
    slots: BTreeMap<Slot, Vec<u8>>,
}

impl Default for MemoryDisk {
    fn default() -> Self {
        Self { content: Arc::default(), syncs_allowed: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)) }
    }
}

impl MemoryDisk {
    /// Loses what was not synced.
    pub(crate) fn crash(&self) {
        let mut content = self.lock();
        content.written = content.durable.clone();
    }

    /// Forgets the entries from `index` on, as a damaged tail does.
    pub(crate) fn cut(&self, index: u64) {
        let mut content = self.lock();
        content.written.log.split_off(&index);
        content.durable.log.split_off(&index);
    }

    /// Makes every sync from now on fail.
    pub(crate) fn fail(&self) {
        self.lock().fails = true;
    }

    /// How many syncs ended.
    pub(crate) fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// An engine on this disk.
    pub(crate) fn engine(&self) -> Box<dyn Engine> {
        Box::new(MemoryEngine(self.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap()
    }
}

struct MemoryEngine(MemoryDisk);

impl Engine for MemoryEngine {
    fn append(&mut self, entries: &[Indexed]) -> Result<(), EngineError> {
        self.0.lock().written.log.extend(entries.iter().cloned());
        Ok(())
    }

    fn truncate_after(&mut self, last: Option<u64>) -> Result<(), EngineError> {
        self.0.lock().written.log.split_off(&last.map_or(0, |last| last + 1));
        Ok(())
    }

    fn purge(&mut self, last: u64, record: &[u8]) -> Result<(), EngineError> {
        let mut content = self.0.lock();
        content.written.slots.insert(Slot::Purged, record.to_vec());
        content.written.log = content.written.log.split_off(&(last + 1));
        Ok(())
    }

    fn recover(&mut self, _purged: Option<u64>) -> Result<Vec<Indexed>, EngineError> {
        Ok(self.0.lock().written.log.iter().map(|(index, bytes)| (*index, bytes.clone())).collect())
    }

    fn put(&mut self, slot: Slot, record: &[u8]) -> Result<(), EngineError> {
        self.0.lock().written.slots.insert(slot, record.to_vec());
        Ok(())
    }

    fn get(&self, slot: Slot) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.0.lock().written.slots.get(&slot).cloned())
    }

    fn sync(&mut self) -> BoxFuture<'_, Result<(), EngineError>> {
        async {
            self.0.syncs_allowed.acquire().await.unwrap().forget();
            let mut content = self.0.lock();
            if content.fails {
                return Err(EngineError::Sync(std::io::Error::other("no space")));
            }
            content.durable = content.written.clone();
            content.syncs += 1;
            Ok(())
        }
        .boxed()
    }

    fn size_on_disk(&self) -> Result<u64, EngineError> {
        Ok(self.0.lock().written.log.values().map(|bytes| bytes.len() as u64).sum())
    }
}
