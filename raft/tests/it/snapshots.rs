//! Snapshots, purges, and learners that begin with one.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use carrack_authority::id::NodeId;
use carrack_raft::{OpenError, Tuning};

use crate::cluster::{Cluster, quick, soon};

fn often() -> Tuning {
    Tuning { entries_per_snapshot: 40, entries_kept: 5, ..quick() }
}

async fn purged(cluster: &Cluster, node: u64) -> u64 {
    let replica = cluster.replica(node);
    let mut turn = 0;
    while replica.status().purged.is_none_or(|purged| purged < 40) {
        turn += 1;
        cluster.halt(node, turn % 2 == 0).await;
        assert!(turn < 2000, "{:?}", replica.status());
    }
    replica.status().purged.unwrap()
}

fn snapshot_files(cluster: &Cluster, node: u64) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(cluster.directory(node)).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("snapshot-")).collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_learner_gets_a_snapshot_when_the_log_does_not_reach_back() {
    let mut cluster = Cluster::formed(1, often()).await;
    let purged = purged(&cluster, 1).await;
    cluster.start(2).await;
    cluster.join(2).await;
    let proposed = cluster.halt(2, true).await;
    cluster.all_apply(proposed.index).await;
    let status = cluster.replica(2).status();
    assert!(status.snapshot.is_some_and(|snapshot| snapshot >= purged), "{status:?}");
    let (one, two) = (cluster.replica(1).state(), cluster.replica(2).state());
    assert!(one.state.to_records().eq(two.state.to_records()));
    let mode = std::fs::metadata(&snapshot_files(&cluster, 2)[0]).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_comes_back_from_its_snapshot_and_the_log_behind_it() {
    let mut cluster = Cluster::formed(1, often()).await;
    purged(&cluster, 1).await;
    let proposed = cluster.halt(1, true).await;
    let before: Vec<_> = cluster.replica(1).state().state.to_records().collect();
    cluster.kill(1);
    assert!(snapshot_files(&cluster, 1).len() <= 2);
    cluster.start(1).await;
    cluster.all_apply(proposed.index).await;
    assert!(cluster.replica(1).read_linearizable(soon()).await.unwrap().state.cluster().unwrap().is_halted);
    assert_eq!(before.len(), cluster.replica(1).state().state.to_records().count());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_damaged_snapshot_is_a_named_error_at_start() {
    let mut cluster = Cluster::formed(1, often()).await;
    purged(&cluster, 1).await;
    cluster.stop(1).await;
    let newest = snapshot_files(&cluster, 1).pop().unwrap();
    let good = std::fs::read(&newest).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    std::fs::write(&newest, bad).unwrap();
    let error = cluster.try_start(1).await.unwrap_err();
    assert!(matches!(&error, OpenError::Snapshot(error) if error.to_string().contains("is damaged")), "{error}");
    for file in snapshot_files(&cluster, 1) {
        std::fs::remove_file(file).unwrap();
    }
    let error = cluster.try_start(1).await.unwrap_err();
    assert!(
        matches!(&error, OpenError::Snapshot(error) if error.to_string().contains("snapshot is missing")),
        "{error}"
    );
    std::fs::write(&newest, good).unwrap();
    cluster.start(1).await;
    cluster.leader().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_can_be_asked_for() {
    let cluster = Cluster::formed(1, quick()).await;
    let replica = cluster.replica(1);
    replica.snapshot_now().await.unwrap();
    let made = async {
        while replica.status().snapshot.is_none() {
            cluster.halt(1, true).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), made).await.unwrap();
    let id = replica.subscribe().borrow().membership.id;
    assert!(replica.remove(NodeId(1), id, soon()).await.is_err(), "the only voter stays");
}
