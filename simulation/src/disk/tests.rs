//! What a simulated disk keeps, loses and says.

mod crashes;
mod engine;
mod faults;
mod files;
mod replica;

use carrack_raft::engine::{Engine, Indexed};
use futures::FutureExt;

use super::*;

fn disk(seed: u64) -> Disk {
    Disk::new("a", Seed(seed))
}

fn opened(disk: &Disk) -> Box<dyn Engine> {
    disk.engine()().unwrap()
}

fn entry(index: u64, length: usize) -> Indexed {
    (index, (0..length).map(|byte| u8::try_from((byte as u64 + index) % 251).unwrap()).collect())
}

fn entries(indexes: std::ops::RangeInclusive<u64>) -> Vec<Indexed> {
    indexes.map(|index| entry(index, 300)).collect()
}

/// Syncs a disk that takes no time for it.
fn sync(engine: &mut Box<dyn Engine>) {
    engine.sync().now_or_never().expect("a disk that takes no time does not wait").unwrap();
}
