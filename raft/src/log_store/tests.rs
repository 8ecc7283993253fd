//! The log: openraft's own suite, group commit, crashes, and stores that must not start.

use std::path::Path;

use openraft::{EntryPayload, storage::RaftLogStorageExt};
use tokio::time::Duration;

use super::*;
use crate::{
    directory::Directory,
    engine::{SledEngine, memory::MemoryDisk},
    high_water::HighWaterError,
    ports::NamedThreads,
    state_machine::StateMachine,
    type_config::{Commands, LeaderId},
};

const OWNER: Owner = Owner { node: NodeId(1), store: StoreId([5; 16]), may_create: true };

fn log_id(index: u64) -> LogId {
    LogId { leader_id: LeaderId { term: 1, node_id: 1 }, index }
}

fn entry(index: u64) -> Entry {
    Entry { log_id: log_id(index), payload: EntryPayload::Normal(Commands(vec![7; 3000].into())) }
}

fn ports(place: &Path, engine: OpenEngine) -> LogPorts {
    let fatal: Fatal = Arc::new(|reason| panic!("{reason}"));
    LogPorts { engine, files: Arc::new(Directory::open(place).unwrap()), workers: Arc::new(NamedThreads), fatal }
}

fn on_sled(place: &Path) -> OpenEngine {
    let path = place.join("log");
    Box::new(move || Ok(Box::new(SledEngine::open(&path)?)))
}

fn on_memory(disk: &MemoryDisk) -> OpenEngine {
    let engine = disk.engine();
    Box::new(move || Ok(engine))
}

async fn on_disk(place: &Path, disk: &MemoryDisk, owner: Owner) -> Result<LogStore, LogError> {
    LogStore::open(owner, ports(place, on_memory(disk))).await
}

async fn indexes(log: &mut LogStore) -> Vec<u64> {
    log.try_get_log_entries(..).await.unwrap().iter().map(|entry| entry.log_id.index).collect()
}

struct Builder {
    on_sled: bool,
    /// The suite drops its guards before it is done with the stores.
    places: Mutex<Vec<tempfile::TempDir>>,
}

fn builder(on_sled: bool) -> Builder {
    Builder { on_sled, places: Mutex::default() }
}

impl openraft::testing::log::StoreBuilder<TypeConfig, LogStore, StateMachine> for Builder {
    async fn build(&self) -> Result<((), LogStore, StateMachine), openraft::StorageError<TypeConfig>> {
        let place = tempfile::tempdir().unwrap();
        let engine = if self.on_sled { on_sled(place.path()) } else { on_memory(&MemoryDisk::default()) };
        let ports = ports(place.path(), engine);
        let (files, workers, fatal) = (ports.files.clone(), ports.workers.clone(), ports.fatal.clone());
        let log = LogStore::open(OWNER, ports).await.unwrap();
        let (snapshots, loaded) = crate::snapshot::Snapshots::open(files, workers).await.unwrap();
        self.places.lock().unwrap().push(place);
        Ok(((), log, StateMachine::new(loaded, snapshots, None, fatal)))
    }
}

#[test]
fn openraft_s_storage_suite_passes_on_sled() {
    use openraft::type_config::TypeConfigExt;
    TypeConfig::run(openraft::testing::log::Suite::test_all(builder(true))).unwrap();
}

#[test]
fn openraft_s_storage_suite_passes_in_memory() {
    use openraft::type_config::TypeConfigExt;
    TypeConfig::run(openraft::testing::log::Suite::test_all(builder(false))).unwrap();
}

#[tokio::test]
async fn a_stopped_store_opens_with_everything_in_it() {
    let place = tempfile::tempdir().unwrap();
    let mut log = LogStore::open(OWNER, ports(place.path(), on_sled(place.path()))).await.unwrap();
    let vote = Vote { leader_id: LeaderId { term: 4, node_id: 2 }, committed: false };
    log.save_vote(&vote).await.unwrap();
    log.blocking_append((0..=400).map(entry)).await.unwrap();
    log.truncate_after(Some(log_id(390))).await.unwrap();
    log.save_committed(Some(log_id(380))).await.unwrap();
    log.purge(log_id(200)).await.unwrap();
    log.stop().await;
    let mut log = LogStore::open(OWNER, ports(place.path(), on_sled(place.path()))).await.unwrap();
    assert_eq!(indexes(&mut log).await, (201..=390).collect::<Vec<_>>());
    assert_eq!(log.read_vote().await.unwrap(), Some(vote));
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id(380)));
    let state = log.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(log_id(200)), Some(log_id(390))));
}

#[tokio::test]
async fn appends_that_wait_together_share_one_sync() {
    let (place, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let mut log = on_disk(place.path(), &disk, OWNER).await.unwrap();
    let before = disk.syncs();
    disk.syncs_allowed.forget_permits(usize::MAX);
    let mut waiting = Vec::new();
    for index in 1..=50 {
        let (sender, receiver) = <TypeConfig as openraft::type_config::TypeConfigExt>::oneshot();
        log.append([entry(index)], IOFlushed::signal(sender)).await.unwrap();
        waiting.push(receiver);
    }
    assert_eq!(indexes(&mut log).await.len(), 50, "entries can be read before they are durable");
    assert!(futures::poll!(&mut waiting[0]).is_pending(), "nothing is acknowledged before its sync");
    disk.syncs_allowed.add_permits(1000);
    for receiver in waiting {
        receiver.await.unwrap().unwrap();
    }
    assert!(disk.syncs() - before <= 2, "{} syncs for 50 appends", disk.syncs() - before);
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash_and_nothing_else_has_to() {
    let (place, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let mut log = on_disk(place.path(), &disk, OWNER).await.unwrap();
    log.blocking_append((0..=10).map(entry)).await.unwrap();
    disk.syncs_allowed.forget_permits(usize::MAX);
    let (sender, _receiver) = <TypeConfig as openraft::type_config::TypeConfigExt>::oneshot();
    log.append([entry(11)], IOFlushed::signal(sender)).await.unwrap();
    disk.crash();
    disk.syncs_allowed.add_permits(1000);
    drop(log);
    disk.crash();
    let mut log = on_disk(place.path(), &disk, OWNER).await.unwrap();
    assert!(indexes(&mut log).await.starts_with(&(0..=10).collect::<Vec<_>>()));
}

#[tokio::test]
async fn a_failed_sync_is_fatal_and_never_tried_again() {
    let (place, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let (told, mut reasons) = tokio::sync::mpsc::channel(4);
    let fatal: Fatal = Arc::new(move |reason| told.try_send(reason.to_owned()).unwrap());
    let mut log = LogStore::open(OWNER, LogPorts { fatal, ..ports(place.path(), on_memory(&disk)) }).await.unwrap();
    let before = disk.syncs();
    disk.fail();
    assert!(log.blocking_append([entry(1)]).await.is_err());
    assert!(reasons.recv().await.unwrap().contains("no space"));
    assert!(log.save_vote(&Vote::new(1, 1)).await.is_err());
    assert!(reasons.recv().await.is_none());
    assert_eq!(disk.syncs(), before);
}

#[tokio::test]
async fn a_store_whose_end_is_lost_refuses_to_start_and_says_what_to_do() {
    let (place, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let mut log = on_disk(place.path(), &disk, OWNER).await.unwrap();
    log.blocking_append((0..=10).map(entry)).await.unwrap();
    log.stop().await;
    disk.cut(10);
    let error = on_disk(place.path(), &disk, OWNER).await.err().unwrap();
    assert!(matches!(error, LogError::HighWater(HighWaterError::Behind { expected: 10, found: 9, .. })), "{error}");
    let text = error.to_string();
    for advice in ["members remove 1", "token join", "empty the data directory", "server --join"] {
        assert!(text.contains(advice), "{text}");
    }
}

#[tokio::test]
async fn a_truncated_store_starts() {
    let (place, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let mut log = on_disk(place.path(), &disk, OWNER).await.unwrap();
    log.blocking_append((0..=10).map(entry)).await.unwrap();
    log.save_vote(&Vote::new(1, 1)).await.unwrap();
    log.truncate_after(Some(log_id(4))).await.unwrap();
    disk.crash();
    drop(log);
    let mut log = on_disk(place.path(), &disk, OWNER).await.unwrap();
    assert_eq!(indexes(&mut log).await, [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_vote_is_durable_when_it_is_saved_and_carries_the_last_index() {
    let (place, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let mut log = on_disk(place.path(), &disk, OWNER).await.unwrap();
    log.blocking_append((0..=3).map(entry)).await.unwrap();
    let vote = Vote { leader_id: LeaderId { term: 9, node_id: 3 }, committed: true };
    log.save_vote(&vote).await.unwrap();
    disk.cut(3);
    let error = on_disk(place.path(), &disk, OWNER).await.err().unwrap();
    assert!(matches!(error, LogError::HighWater(HighWaterError::Behind { expected: 3, found: 2, .. })), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_high_water_file_is_at_most_a_second_old() {
    let (place, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let mut log = on_disk(place.path(), &disk, OWNER).await.unwrap();
    log.blocking_append([entry(0)]).await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    log.blocking_append([entry(1)]).await.unwrap();
    log.save_vote(&Vote::new(1, 1)).await.unwrap();
    disk.cut(1);
    assert!(on_disk(place.path(), &disk, OWNER).await.is_err());
}

#[tokio::test]
async fn another_store_another_server_or_a_missing_half_is_refused() {
    let (place, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let mut log = on_disk(place.path(), &disk, OWNER).await.unwrap();
    log.blocking_append([entry(0)]).await.unwrap();
    log.stop().await;
    let refused = async |place: &Path, disk: &MemoryDisk, owner: Owner| match on_disk(place, disk, owner).await {
        Err(LogError::HighWater(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it opened"),
    };
    let other_store = Owner { store: StoreId([6; 16]), ..OWNER };
    let other_node = Owner { node: NodeId(2), ..OWNER };
    assert!(matches!(refused(place.path(), &disk, other_store).await, HighWaterError::OtherStore { .. }));
    assert!(matches!(refused(place.path(), &disk, other_node).await, HighWaterError::OtherNode { .. }));
    assert!(matches!(refused(place.path(), &MemoryDisk::default(), OWNER).await, HighWaterError::LogLost { .. }));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(refused(empty.path(), &disk, OWNER).await, HighWaterError::FileLost { .. }));
    let known = Owner { may_create: false, ..OWNER };
    assert!(matches!(refused(empty.path(), &MemoryDisk::default(), known).await, HighWaterError::LogLost { .. }));
}

#[tokio::test]
async fn a_damaged_high_water_file_is_a_named_error() {
    let (place, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    on_disk(place.path(), &disk, OWNER).await.unwrap().stop().await;
    let path = place.path().join("high-water");
    let good = std::fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 4;
        std::fs::write(&path, &bad).unwrap();
        let error = on_disk(place.path(), &disk, OWNER).await.err().unwrap();
        assert!(matches!(error, LogError::HighWater(HighWaterError::Damaged(_))), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_or_cut_database_file_is_never_silent() {
    let place = tempfile::tempdir().unwrap();
    let mut log = LogStore::open(OWNER, ports(place.path(), on_sled(place.path()))).await.unwrap();
    log.blocking_append((0..=200).map(entry)).await.unwrap();
    log.stop().await;
    let path = place.path().join("log").join("db");
    let good = std::fs::read(&path).unwrap();
    let used = good.iter().rposition(|byte| *byte != 0).unwrap();
    for step in 1..12 {
        let at = used * step / 12;
        let mut flipped = good.clone();
        flipped[at..at + 64].fill(0x5a);
        for bad in [&good[..at], &flipped] {
            std::fs::write(&path, bad).unwrap();
            let opened = LogStore::open(OWNER, ports(place.path(), on_sled(place.path()))).await;
            if let Ok(mut log) = opened {
                // What was damaged may have been garbage of the database; then everything must be there.
                assert_eq!(indexes(&mut log).await, (0..=200).collect::<Vec<_>>(), "damage at {at}");
                log.stop().await;
            }
        }
    }
}
