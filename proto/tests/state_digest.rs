//! The digest of a state: equal for equal states, other for any change of one, the same after a snapshot.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use carrack_authority::{
    Command, Entry, Proposal, State,
    command::Bootstrap,
    id::{Digest, FeatureLevel, KeyId, NodeId, Revision, StoreId},
    key::{Der, KeyKind},
    member::{Addresses, Member},
    root::NewRoot,
    state::StateRecord,
    time::Timestamp,
};
use carrack_proto::stored::{Kind, Schema, decode, encode, state_digest};

fn bootstrap() -> Command {
    let name = |text: &str| carrack_authority::spiffe::Name::parse("name", text).unwrap();
    let (not_before, not_after) = (Timestamp(1000), Timestamp(1_000_000_000));
    let member = Member {
        node: NodeId(1),
        name: name("a"),
        store: StoreId([1; 16]),
        addresses: Addresses { raft: "a:8300".into(), grpc: "a:8503".into(), wan: None },
        sealing_recipient: "age1a".into(),
        supports: FeatureLevel(1),
        certificate: None,
        former_key: None,
        request: None,
        is_leaving: false,
        admitted_at: Timestamp(0),
        created: Revision(0),
        modified: Revision(0),
    };
    let server_root = NewRoot {
        id: KeyId([2; 20]),
        provider: "builtin".into(),
        certificate: Der::from(&b"root"[..]),
        chain: Vec::new(),
        key_kind: KeyKind::EcP256,
        not_before,
        not_after,
        sealed_key: None,
    };
    Command::Bootstrap(Box::new(Bootstrap {
        cluster: uuid::Uuid::from_u128(3),
        datacenter: name("dc1"),
        trust_domain: "example.org".parse().unwrap(),
        feature_level: FeatureLevel(1),
        recovery: None,
        member,
        server_root,
        config: Default::default(),
    }))
}

fn apply(state: &mut State, stamp: u64, command: Command) -> Digest {
    let entry = Entry { stamp: Timestamp(stamp), proposals: vec![Proposal { proposer: NodeId(1), command }] };
    state.apply(state.index() + 1, &entry);
    state_digest(state).unwrap()
}

#[test]
fn every_entry_changes_the_digest_of_every_replica_alike() {
    let (mut one, mut other) = (State::default(), State::default());
    let mut seen = vec![state_digest(&one).unwrap()];
    for (stamp, command) in [
        (2000, bootstrap()),
        (2000, Command::SetHalt { halted: true }),
        (2000, Command::SetHalt { halted: true }),
        (3000, Command::SetHalt { halted: true }),
    ] {
        let digest = apply(&mut one, stamp, command.clone());
        assert_eq!(digest, apply(&mut other, stamp, command));
        assert!(!seen.contains(&digest), "the digest stayed though index, time or content did not");
        seen.push(digest);
    }
}

#[test]
fn a_state_that_went_through_stored_records_has_the_same_digest() {
    let mut state = State::default();
    let digest = apply(&mut state, 2000, bootstrap());
    let records: Vec<StateRecord> = state.to_records().collect();
    let bytes = encode(Kind::SnapshotRecords, Schema::FIRST, &records).unwrap();
    let records: Vec<StateRecord> = decode(Kind::SnapshotRecords, &bytes).unwrap();
    assert_eq!(state_digest(&State::from_records(records).unwrap()).unwrap(), digest);
}

#[test]
fn a_name_that_breaks_its_grammar_is_no_value() {
    let good = encode(Kind::Commands, Schema::FIRST, "web").unwrap();
    assert!(decode::<carrack_authority::spiffe::Name>(Kind::Commands, &good).is_ok());
    let texts = ["", "a/b", "a b", "*", "\u{430}", "x\0", &"x".repeat(256), "..", &"x".repeat(129)];
    for (place, text) in texts.into_iter().enumerate() {
        let bytes = encode(Kind::Commands, Schema::FIRST, text).unwrap();
        assert!(decode::<carrack_authority::spiffe::Name>(Kind::Commands, &bytes).is_err(), "{text:?}");
        // The last two are no names, but a trust domain may be so.
        let trust_domain = decode::<carrack_authority::spiffe::TrustDomain>(Kind::Commands, &bytes);
        assert_eq!(trust_domain.is_ok(), place >= 7, "{text:?}");
    }
}
