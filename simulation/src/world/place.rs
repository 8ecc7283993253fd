//! The place of a simulated server's data: its disk, which outlives its processes.

use std::{io, sync::Arc};

use carrack::{
    data_directory::Place,
    keys::store::{KeyStore, KeyStoreError},
};
use carrack_raft::{OpenEngine, ports::Files};

use crate::disk::Disk;

/// A data directory on a simulated disk.
pub struct DiskPlace(pub Disk);

impl Place for DiskPlace {
    fn files(&self) -> Arc<dyn Files> {
        self.0.files("root")
    }

    fn keys(&self) -> Result<Arc<dyn KeyStore>, KeyStoreError> {
        Ok(self.0.keys())
    }

    fn log(&self) -> OpenEngine {
        self.0.engine()
    }

    fn snapshots(&self) -> io::Result<Arc<dyn Files>> {
        Ok(self.0.files("snapshots"))
    }

    fn is_filled(&self, part: &str) -> io::Result<bool> {
        Ok(self.0.is_filled(part))
    }
}
