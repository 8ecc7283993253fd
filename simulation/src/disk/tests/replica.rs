//! A whole replica on a simulated disk: it goes on after each crash, and refuses a disk that has forgotten something.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use carrack_authority::{
    id::{NodeId, StoreId},
    time::Timestamp,
};
use carrack_raft::{
    HighWaterError, Leadership, LogError, OpenError, Replica, ReplicaOptions, ReplicaPorts, Tuning,
    engine::EngineError,
    ports::{BoxedStream, Dialer, Entropy, PeerDirectory, Refusal, WallClock, Workers},
};
use futures::future::BoxFuture;
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

use super::*;

struct Alone;

impl Dialer for Alone {
    fn dial(&self, _node: NodeId, _address: &str) -> BoxFuture<'static, std::io::Result<BoxedStream>> {
        Box::pin(async { Err(ErrorKind::ConnectionRefused.into()) })
    }
}

impl PeerDirectory for Alone {
    fn check(&self, node: NodeId, _store: StoreId, _cluster: Uuid) -> Result<(), Refusal> {
        Err(Refusal::NotMember { node, reason: "there is one server".to_owned() })
    }

    fn address(&self, _node: NodeId) -> Option<String> {
        None
    }
}

impl WallClock for Alone {
    fn now(&self) -> Timestamp {
        Timestamp(1_800_000_000_000)
    }
}

impl Entropy for Alone {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

impl Workers for Alone {
    fn run(&self, _name: &str, work: BoxFuture<'static, ()>) -> std::io::Result<()> {
        drop(tokio::spawn(work));
        Ok(())
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

async fn open(disk: &Disk, may_create: bool) -> Result<Replica, OpenError> {
    let tuning = Tuning::default();
    let (node, store, cluster) = (NodeId(1), StoreId([1; 16]), Uuid::from_u128(1));
    let options = ReplicaOptions { node, store, cluster, may_create, tuning };
    let ports = ReplicaPorts {
        engine: disk.engine(),
        files: disk.files("snapshots"),
        workers: Arc::new(Alone),
        dialer: Arc::new(Alone),
        directory: Arc::new(Alone),
        wall_clock: Arc::new(Alone),
        entropy: Arc::new(Alone),
        fatal: Arc::new(|reason| panic!("{reason}")),
        observer: None,
    };
    Replica::open(options, ports).await
}

async fn lead(replica: &Replica) {
    let mut leadership = replica.subscribe();
    let leads = leadership.wait_for(Leadership::is_ready_leader);
    drop(tokio::time::timeout(Duration::from_secs(60), leads).await.expect("one server elects itself").unwrap());
}

/// A replica that led a few times, and was cut off by a crash each time.
fn used(seed: u64) -> Disk {
    let disk = disk(seed);
    let (sync_time_min, sync_time_max) = (Duration::from_millis(1), Duration::from_millis(30));
    disk.set_faults(DiskFaults { sync_time_min, sync_time_max, ..DiskFaults::default() });
    for round in 0..4 {
        let process = runtime();
        process.block_on(async {
            let replica = open(&disk, round == 0).await.unwrap();
            if !replica.is_initialized().await.unwrap() {
                replica.initialize("a:1").await.unwrap();
            }
            lead(&replica).await;
        });
        disk.crash();
        drop(process);
    }
    disk
}

fn refusal(disk: &Disk) -> LogError {
    match runtime().block_on(open(disk, false)).err() {
        Some(OpenError::Log(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_replica_goes_on_after_each_crash() {
    for seed in 0..10 {
        let disk = used(seed);
        let last = *disk.view().durable.log.keys().next_back().unwrap();
        assert!(last >= 4, "each term has an entry, the last is {last}");
    }
}

#[test]
fn a_replica_refuses_a_disk_that_is_damaged_or_has_forgotten() {
    let disk = used(1);
    let image = disk.copy();
    disk.once(DiskFault::FlipBit);
    assert!(matches!(refusal(&disk), LogError::Engine(EngineError::Damaged { .. })));
    disk.restore(&image);
    disk.once(DiskFault::CutTail(image.log.entries.len() as u64 - 1));
    assert!(matches!(refusal(&disk), LogError::HighWater(HighWaterError::Behind { .. })));
    disk.restore(&image);
    disk.once(DiskFault::RemoveHighWater);
    assert!(matches!(refusal(&disk), LogError::HighWater(HighWaterError::FileLost { .. })));
    disk.restore(&image);
    disk.once(DiskFault::FlipBitInHighWater);
    assert!(matches!(refusal(&disk), LogError::HighWater(HighWaterError::Damaged(_))));
    disk.wipe_part("log");
    assert!(matches!(refusal(&disk), LogError::HighWater(_)));
    disk.wipe();
    assert!(matches!(refusal(&disk), LogError::HighWater(HighWaterError::LogLost { .. })));
    disk.restore(&image);
    assert!(runtime().block_on(open(&disk, false)).is_ok());
}

#[test]
fn what_a_killed_process_left_is_durable_before_the_next_takes_part() {
    for seed in 0..40 {
        let disk = used(seed);
        let (process, time) = (runtime(), Duration::from_secs(3600));
        process.block_on(async {
            let replica = open(&disk, false).await.unwrap();
            // No sync ends from now on.
            disk.set_faults(DiskFaults { sync_time_min: time, sync_time_max: time, ..DiskFaults::default() });
            let leads = lead(&replica);
            drop(tokio::time::timeout(Duration::from_secs(30), leads).await);
        });
        disk.kill();
        drop(process);
        disk.set_faults(DiskFaults::default());
        let process = runtime();
        process.block_on(async {
            let _replica = open(&disk, false).await.unwrap();
            let view = disk.view();
            assert_eq!(view.written.log.len(), view.durable.log.len(), "seed {seed}");
        });
    }
}

#[test]
fn a_vote_that_a_failing_disk_left_is_durable_before_the_next_process_takes_part() {
    let high_water = |files: &BTreeMap<String, BTreeMap<String, Arc<[u8]>>>| files["snapshots"]["high-water"].clone();
    let mut differed = 0;
    for seed in 0..10 {
        let disk = used(seed);
        // As after a failed sync of the directory: the file has its new content for every process, and not on the disk.
        disk.set_faults(DiskFaults { lies_about_files: true, ..DiskFaults::default() });
        let process = runtime();
        process.block_on(async { lead(&open(&disk, false).await.unwrap()).await });
        disk.kill();
        drop(process);
        disk.set_faults(DiskFaults::default());
        let left = disk.view();
        differed += usize::from(high_water(&left.written.files) != high_water(&left.durable.files));
        let process = runtime();
        process.block_on(async {
            let _replica = open(&disk, false).await.unwrap();
            let view = disk.view();
            assert_eq!(high_water(&view.written.files), high_water(&view.durable.files), "seed {seed}");
        });
    }
    assert!(differed > 0, "no disk was left in doubt");
}
