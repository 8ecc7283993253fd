//! Snapshot files: whole or an error, and received ones that take effect when they are kept.

use std::{collections::BTreeMap, path::Path};

use carrack_authority::{command::Entry, time::Timestamp};
use openraft::BasicNode;

use super::*;
use crate::{
    directory::Directory,
    ports::NamedThreads,
    type_config::{LeaderId, LogId, Membership, StoredMembership},
};

fn meta(index: u64) -> SnapshotMeta {
    let id = LogId { leader_id: LeaderId { term: 2, node_id: 1 }, index };
    let members = BTreeMap::from([(1, BasicNode::new("a:8300")), (2, BasicNode::new("b:8300"))]);
    let membership = Membership::new(vec![[1].into()], members).unwrap();
    SnapshotMeta { last_log_id: Some(id), last_membership: StoredMembership::new(Some(id), membership) }
}

fn state(index: u64) -> State {
    let mut state = State::default();
    state.apply(index, &Entry { stamp: Timestamp(index * 1000), proposals: Vec::new() });
    state
}

fn records(state: &State) -> Vec<carrack_authority::state::StateRecord> {
    state.to_records().collect()
}

async fn open(place: &Path) -> Result<(Snapshots, Option<(SnapshotMeta, State)>), SnapshotError> {
    Snapshots::open(Arc::new(Directory::open(place).unwrap()), Arc::new(NamedThreads)).await
}

async fn built(place: &Path, index: u64) -> Snapshots {
    let (snapshots, _) = open(place).await.unwrap();
    snapshots.builder(meta(index), state(index)).build_snapshot().await.unwrap();
    snapshots
}

fn file_of(place: &Path, index: u64) -> std::path::PathBuf {
    place.join(name_of(&meta(index)))
}

async fn send(from: &Snapshots, to: &Snapshots, announced: SnapshotMeta) -> Result<Received, SnapshotError> {
    let Some(Snapshot { snapshot: SnapshotData::Stored(stored), .. }) = from.current() else { panic!("no file") };
    let mut pieces = from.pieces(stored).unwrap();
    let (sender, received) = to.receive(announced).unwrap();
    while let Some(piece) = pieces.recv().await {
        sender.send(piece.unwrap()).await.unwrap();
    }
    drop(sender);
    received.await.unwrap()
}

#[tokio::test]
async fn a_snapshot_is_found_again_whole() {
    let place = tempfile::tempdir().unwrap();
    built(place.path(), 7).await;
    let (snapshots, loaded) = open(place.path()).await.unwrap();
    let (found, loaded) = loaded.unwrap();
    assert_eq!((found, records(&loaded)), (meta(7), records(&state(7))));
    assert_eq!(snapshots.current().unwrap().meta, meta(7));
}

#[tokio::test]
async fn only_the_last_two_stay() {
    let place = tempfile::tempdir().unwrap();
    for index in [5, 90, 1000] {
        built(place.path(), index).await;
    }
    let left: Vec<bool> = [5, 90, 1000].map(|index| file_of(place.path(), index).exists()).into();
    assert_eq!(left, [false, true, true]);
}

#[tokio::test]
async fn every_cut_and_every_flipped_byte_is_a_named_error() {
    let place = tempfile::tempdir().unwrap();
    built(place.path(), 7).await;
    let path = file_of(place.path(), 7);
    let good = std::fs::read(&path).unwrap();
    let files = Directory::open(place.path()).unwrap();
    for at in 0..good.len() {
        std::fs::write(&path, &good[..at]).unwrap();
        assert!(load(&files, &name_of(&meta(7))).is_err(), "cut at {at}");
        let mut flipped = good.clone();
        flipped[at] ^= 0x10;
        std::fs::write(&path, &flipped).unwrap();
        assert!(load(&files, &name_of(&meta(7))).is_err(), "flipped at {at}");
    }
    assert!(matches!(open(place.path()).await, Err(SnapshotError::File { .. })));
}

#[tokio::test]
async fn an_envelope_left_out_or_doubled_is_an_error() {
    let place = tempfile::tempdir().unwrap();
    built(place.path(), 7).await;
    let path = file_of(place.path(), 7);
    let good = std::fs::read(&path).unwrap();
    let head = carrack_proto::stored::length(&good).unwrap();
    let records = carrack_proto::stored::length(&good[head..]).unwrap();
    let files = Directory::open(place.path()).unwrap();
    let without = [&good[..head], &good[head + records..]].concat();
    let doubled = [&good[..head + records], &good[head..]].concat();
    let trailing = [&good[..], &good[head..head + records]].concat();
    for bad in [without, doubled, trailing] {
        std::fs::write(&path, bad).unwrap();
        let error = load(&files, &name_of(&meta(7))).unwrap_err();
        assert!(matches!(error, SnapshotError::OtherEnd { .. } | SnapshotError::Trailing), "{error}");
    }
}

#[tokio::test]
async fn a_received_snapshot_takes_effect_when_it_is_kept() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sender = built(from.path(), 9).await;
    let (receiver, _) = open(to.path()).await.unwrap();
    let received = send(&sender, &receiver, meta(9)).await.unwrap();
    assert!(!file_of(to.path(), 9).exists() && receiver.current().is_none());
    let (_, kept) = receiver.keep(received).await.unwrap();
    assert_eq!(records(&kept), records(&state(9)));
    assert_eq!(std::fs::read(file_of(to.path(), 9)).unwrap(), std::fs::read(file_of(from.path(), 9)).unwrap());
}

#[tokio::test]
async fn another_snapshot_than_the_announced_one_leaves_nothing() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sender = built(from.path(), 9).await;
    let (receiver, _) = open(to.path()).await.unwrap();
    assert!(matches!(send(&sender, &receiver, meta(10)).await, Err(SnapshotError::OtherMeta)));
    assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 0);
}
