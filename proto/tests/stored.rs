//! Golden bytes of each released schema: they decode for ever, and what is written today is what was written then.
//! A file here is never changed; `UPDATE_EXPECT=1` is for new ones.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::Arc,
};

use bytes::Bytes;
use carrack_authority::{
    acl::AccessorId,
    command::{Command, Entry, Proposal},
    id::{Digest, KeyId, NodeId, Serial, StoreId},
    issuance::{Grant, Holder, Issuance, Keeper},
    spiffe::Identity,
    state::{State, StateRecord},
    time::Timestamp,
};
use carrack_proto::stored::{
    Kind, Schema, decode, encode,
    v1::{HighWater, LogEntry, LogId, Membership, Payload, SnapshotEnd, SnapshotHead, StoreIdentity, Vote},
};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, kind: Kind, value: &T) {
    let hex = hex(&encode(kind, Schema::FIRST, value).unwrap());
    let path = format!("{}/tests/golden/v1/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    expect_test::expect_file![path.as_str()].assert_eq(&hex);
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(decode::<T>(kind, &from_hex(&golden)).unwrap(), *value, "{name}");
}

fn hex(bytes: &[u8]) -> String {
    let lines: Vec<String> =
        bytes.chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    lines.join("\n") + "\n"
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

const ID: LogId = LogId { term: 3, leader: 2, index: 0x0102_0304 };

fn membership() -> Membership {
    Membership {
        voters: vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])],
        members: BTreeMap::from([(1, "a:8300".to_owned()), (5, "[::1]:8300".to_owned())]),
    }
}

#[test]
fn log_entries() {
    check("log_entry_blank", Kind::LogEntry, &LogEntry { id: ID, payload: Payload::Blank });
    let commands = Payload::Commands(Bytes::from_static(b"envelope"));
    check("log_entry_commands", Kind::LogEntry, &LogEntry { id: ID, payload: commands });
    check("log_entry_membership", Kind::LogEntry, &LogEntry { id: ID, payload: Payload::Membership(membership()) });
}

#[test]
fn the_high_water_file() {
    let vote = Vote { term: 9, candidate: 1, is_committed: true };
    let full = HighWater { store: StoreId([7; 16]), vote: Some(vote), last_index: Some(77) };
    check("high_water", Kind::HighWater, &full);
    check("high_water_new", Kind::HighWater, &HighWater { store: StoreId([7; 16]), vote: None, last_index: None });
}

#[test]
fn the_store_s_own_records() {
    check("store_identity", Kind::StoreIdentity, &StoreIdentity { store: StoreId([0xab; 16]), node: 4 });
    check("committed", Kind::Committed, &ID);
    check("purged", Kind::Purged, &ID);
}

#[test]
fn the_frame_of_a_snapshot() {
    let head = SnapshotHead { last: Some(ID), membership_at: Some(ID), membership: membership() };
    check("snapshot_head", Kind::SnapshotHead, &head);
    check("snapshot_end", Kind::SnapshotEnd, &SnapshotEnd { records: 12, checksum: 0xdead_beef });
}

fn issuance() -> Issuance {
    let login = AccessorId(Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10));
    Issuance {
        serial: Serial([3; 20]),
        identity: Arc::new(Identity::Spiffe("spiffe://example.org/ns/default/dc/dc1/svc/web".parse().unwrap())),
        grant: Arc::new(Grant::Token(login)),
        public_key: Digest([4; 32]),
        certificate: Digest([5; 32]),
        not_before: Timestamp(1_800_000_000_000),
        not_after: Timestamp(1_800_000_600_000),
        issuer: KeyId([6; 20]),
        holder: Arc::new(Holder { keeper: Keeper::Login(login), slot: "one".into() }),
        deadline: Timestamp(1_800_000_030_000),
    }
}

#[test]
fn the_commands_of_an_entry() {
    let proposal = |command| Proposal { proposer: NodeId(2), command };
    let entry = Entry {
        stamp: Timestamp(1_800_000_000_123),
        proposals: vec![proposal(Command::SetHalt { halted: true }), proposal(Command::RecordIssuance(issuance()))],
    };
    check("commands", Kind::Commands, &entry);
    check("commands_none", Kind::Commands, &Entry { stamp: Timestamp(7), proposals: Vec::new() });
}

#[test]
fn the_records_of_a_snapshot() {
    let mut state = State::default();
    state.apply(9, &Entry { stamp: Timestamp(1_800_000_000_123), proposals: Vec::new() });
    let records: Vec<StateRecord> = state.to_records().collect();
    check("snapshot_records", Kind::SnapshotRecords, &records);
}
