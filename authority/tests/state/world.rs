//! Values to build commands from: everything has a short name, and equal names give equal values.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use carrack_authority::{
    Command, Entry, Outcome, Proposal, State,
    acl::{AccessorId, Policy, PolicyId, Token},
    ca_config::CaConfig,
    command::Bootstrap,
    id::{Digest, FeatureLevel, KeyId, NodeId, Revision, Serial, StoreId},
    intention::{Action, Effect, Intention, Party, Permission, permission::PathTest},
    issuance::{Grant, Holder, Issuance, Keeper},
    issuer::{IssuerRequest, SignedIssuer},
    key::{Der, KeyKind},
    member::{Addresses, AdmitServer, JoinToken, Member},
    root::{Bridge, Ca, NewRoot, SealedKey},
    rotation::{ACK_TIMEOUT, RotationCause, RotationRequest, WantedRoot},
    spiffe::{Identity, Name, SpiffeId, TrustDomain},
    time::Timestamp,
};
use uuid::Uuid;

/// When every story begins: 2026-01-01T00:00:00Z.
pub(crate) const START: Timestamp = Timestamp(1_767_225_600_000);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn name(text: &str) -> Name {
    Name::parse("name", text).unwrap()
}

pub(crate) fn digest(of: &str) -> Digest {
    Der::from(of.as_bytes()).digest()
}

pub(crate) fn key_id(of: &str) -> KeyId {
    KeyId(digest(of).0[..20].try_into().unwrap())
}

pub(crate) fn serial(number: u64) -> Serial {
    let mut bytes: [u8; 20] = digest(&format!("serial {number}")).0[..20].try_into().unwrap();
    bytes[0] &= 0x7f;
    Serial(bytes)
}

pub(crate) fn der(of: &str) -> Der {
    Der::from(of.as_bytes())
}

pub(crate) fn accessor(number: u128) -> AccessorId {
    AccessorId(Uuid::from_u128(1 << 64 | number))
}

pub(crate) fn policy_id(number: u128) -> PolicyId {
    PolicyId(Uuid::from_u128(2 << 64 | number))
}

pub(crate) fn store(of: &str) -> StoreId {
    StoreId(digest(of).0[..16].try_into().unwrap())
}

pub(crate) fn addresses(of: &str) -> Addresses {
    Addresses { raft: format!("{of}:8300"), grpc: format!("{of}:8503"), wan: None }
}

pub(crate) fn sealed(slots: &[(u64, &str)]) -> SealedKey {
    let slots = slots.iter().map(|(node, of)| (NodeId(*node), format!("age1{of}"))).collect();
    SealedKey { ciphertext: der("sealed"), slots, recovery: Some("age1recovery".into()) }
}

pub(crate) fn new_root(of: &str, from: Timestamp, sealed_key: Option<SealedKey>) -> NewRoot {
    NewRoot {
        id: key_id(of),
        provider: "builtin".into(),
        certificate: der(of),
        chain: Vec::new(),
        key_kind: KeyKind::EcP256,
        not_before: from,
        not_after: from.plus(DAY * 3650),
        sealed_key,
    }
}

pub(crate) fn bootstrap() -> Bootstrap {
    Bootstrap {
        cluster: Uuid::from_u128(7),
        datacenter: name("dc1"),
        trust_domain: "example.org".parse().unwrap(),
        feature_level: FeatureLevel(1),
        recovery: Some("age1recovery".into()),
        member: Member {
            node: NodeId(1),
            name: name("a"),
            store: store("a"),
            addresses: addresses("a"),
            sealing_recipient: "age1a".into(),
            supports: FeatureLevel(1),
            certificate: None,
            former_key: None,
            request: None,
            is_leaving: false,
            admitted_at: Timestamp::EPOCH,
            created: Revision(0),
            modified: Revision(0),
        },
        server_root: new_root("server root", START, Some(sealed(&[(1, "a")]))),
        config: CaConfig::default(),
    }
}

pub(crate) fn join_token(of: &str, until: Timestamp) -> JoinToken {
    JoinToken {
        secret: digest(&format!("join {of}")),
        node_name: name(of),
        expires_at: until,
        consumed: None,
        created: Revision(0),
    }
}

pub(crate) fn admit(of: &str) -> AdmitServer {
    AdmitServer {
        secret: digest(&format!("join {of}")),
        name: name(of),
        store: store(of),
        addresses: addresses(of),
        sealing_recipient: format!("age1{of}"),
        supports: FeatureLevel(1),
        csr: der(&format!("csr {of}")),
        public_key: digest(&format!("key {of}")),
    }
}

pub(crate) fn issuer_request(node: u64, root: &str, key: &str) -> IssuerRequest {
    IssuerRequest {
        node: NodeId(node),
        root: key_id(root),
        csr: der(&format!("csr {key}")),
        key: key_id(key),
        key_kind: KeyKind::EcP256,
        revision: Revision(0),
    }
}

pub(crate) fn signed_issuer(node: u64, expected: u64, from: Timestamp) -> SignedIssuer {
    SignedIssuer {
        node: NodeId(node),
        expected: Revision(expected),
        certificate: der("issuer"),
        not_before: from,
        not_after: from.plus(DAY * 365),
    }
}

pub(crate) fn management_token() -> Token {
    Token { policies: vec![PolicyId::GLOBAL_MANAGEMENT], ..token(1) }
}

pub(crate) fn token(number: u128) -> Token {
    Token {
        accessor: accessor(number),
        secret: digest(&format!("token {number}")),
        description: String::new(),
        policies: Vec::new(),
        service_identities: Vec::new(),
        node_identities: Vec::new(),
        roles: Vec::new(),
        auth_method: None,
        is_local: false,
        expires_at: None,
        created_at: Timestamp::EPOCH,
        created: Revision(0),
        modified: Revision(0),
    }
}

pub(crate) fn policy(number: u128) -> Policy {
    Policy {
        id: policy_id(number),
        name: format!("policy-{number}"),
        description: String::new(),
        source: String::new(),
        rules: Arc::new([]),
        datacenters: Vec::new(),
        created: Revision(0),
        modified: Revision(0),
    }
}

pub(crate) fn party(text: &str) -> Party {
    Party::parse("name", text).unwrap()
}

pub(crate) fn intention(source: &str, destination: &str, action: Action) -> Intention {
    Intention {
        destination: party(destination),
        source: party(source),
        effect: Effect::Action(action),
        jwt: None,
        description: String::new(),
        meta: BTreeMap::new(),
        legacy_id: None,
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
        created: Revision(0),
        modified: Revision(0),
    }
}

/// A permission for one path.
pub(crate) fn permission(action: Action, path: &str) -> Permission {
    Permission { action, path: PathTest::Exact(path.into()), headers: Vec::new(), methods: Vec::new(), jwt: None }
}

pub(crate) fn put_intention(expected: u64, intention: Intention) -> Command {
    Command::PutIntention { expected: Revision(expected), intention: Box::new(intention) }
}

pub(crate) fn service(datacenter: &str, service: &str) -> Arc<Identity> {
    let trust_domain: TrustDomain = "example.org".parse().unwrap();
    Arc::new(Identity::Spiffe(SpiffeId::service(trust_domain, name(datacenter), name(service))))
}

/// A leaf of server 1's first issuer, signed at `at` for a day, held by that server.
pub(crate) fn issuance(number: u64, of: &str, at: Timestamp) -> Issuance {
    Issuance {
        serial: serial(number),
        identity: service("dc1", of),
        grant: Arc::new(Grant::Token(accessor(1))),
        public_key: digest(&format!("key {number}")),
        certificate: digest(&format!("certificate {number}")),
        not_before: at.minus(Duration::from_secs(60)),
        not_after: at.plus(DAY),
        issuer: key_id("issuer a"),
        holder: Arc::new(Holder { keeper: Keeper::Server(NodeId(1)), slot: of.into() }),
        deadline: at.plus(Duration::from_secs(5)),
    }
}

/// Applies one command of server 1's as one entry.
pub(crate) fn propose(state: &mut State, stamp: Timestamp, command: Command) -> Outcome {
    let entry = Entry { stamp, proposals: vec![Proposal { proposer: NodeId(1), command }] };
    let mut applied = state.apply(state.index() + 1, &entry);
    applied.outcomes.remove(0)
}

/// A datacenter of one server with an active root, an issuer, and a management token: it can issue.
pub(crate) fn issuing() -> State {
    let mut state = State::default();
    let commands = [
        Command::Bootstrap(Box::new(bootstrap())),
        Command::PublishRoot { ca: Ca::Mesh, root: new_root("root 1", START.minus(HOUR), Some(sealed(&[(1, "a")]))) },
        Command::ActivateRoot { ca: Ca::Mesh, root: key_id("root 1"), expected: Revision(2), expected_active: None },
        Command::RequestIssuer(issuer_request(1, "root 1", "issuer a")),
        Command::RecordIssuer(signed_issuer(1, 4, START.minus(HOUR))),
        Command::BootstrapAcl { token: management_token(), reset: None },
    ];
    for command in commands {
        assert_eq!(propose(&mut state, START, command), Outcome::Done);
    }
    state
}

/// A rotation away from a root, to one that the provider makes.
pub(crate) fn rotation_from(active: &str) -> RotationRequest {
    RotationRequest {
        cause: RotationCause::Operator,
        expected_active: key_id(active),
        wanted: WantedRoot::Made { provider: "builtin".into(), key_kind: KeyKind::EcP256 },
        is_bridged: true,
        pauses_before_activation: false,
        ack_timeout: ACK_TIMEOUT,
    }
}

pub(crate) fn start_rotation(active: &str) -> Command {
    Command::StartRotation(Box::new(rotation_from(active)))
}

/// The root of the rotation under way, sealed to the recorded servers.
pub(crate) fn publish_rotation_root(state: &State, root: &str) -> Command {
    let rotation = state.rotation().unwrap();
    let recovery = Some("age1recovery".into());
    let sealed = SealedKey { ciphertext: der("sealed"), slots: state.sealing_slots(), recovery };
    let root = Box::new(new_root(root, START.minus(HOUR), Some(sealed)));
    Command::PublishRotationRoot { rotation: rotation.id, expected: rotation.modified, root }
}

/// The bridge from the active root to another one, for as long as both live.
pub(crate) fn bridge_to(state: &State, root: &str) -> Command {
    let (active, new) = (state.roots(Ca::Mesh).active().unwrap(), state.roots(Ca::Mesh).find(&key_id(root)).unwrap());
    let bridge = Bridge {
        certificate: der(&format!("bridge to {root}")),
        signed_by: active.made.id,
        not_before: active.made.not_before,
        not_after: active.made.not_after.min(new.made.not_after),
    };
    Command::BridgeRoot { root: key_id(root), expected: new.modified, bridge: Box::new(bridge) }
}

pub(crate) fn activate(state: &State, root: &str) -> Command {
    let expected = state.roots(Ca::Mesh).find(&key_id(root)).unwrap().modified;
    let expected_active = state.roots(Ca::Mesh).active().map(|root| root.made.id);
    Command::ActivateRoot { ca: Ca::Mesh, root: key_id(root), expected, expected_active }
}

/// Server 1 has an issuer under a root.
pub(crate) fn issuer_under(state: &mut State, root: &str, issuer: &str) {
    let request = Command::RequestIssuer(issuer_request(1, root, issuer));
    assert_eq!(propose(state, state.now(), request), Outcome::Done);
    let signed = SignedIssuer { certificate: der(issuer), ..signed_issuer(1, state.index(), START.minus(HOUR)) };
    assert_eq!(propose(state, state.now(), Command::RecordIssuer(signed)), Outcome::Done);
}

/// Rotates to another root, without waiting for anybody.
pub(crate) fn rotate_to(state: &mut State, root: &str, issuer: &str) {
    let active = state.roots(Ca::Mesh).active().unwrap().made.id;
    let request = RotationRequest { expected_active: active, ..rotation_from("") };
    assert_eq!(propose(state, state.now(), Command::StartRotation(Box::new(request))), Outcome::Done);
    for step in [publish_rotation_root, bridge_to] {
        let command = step(state, root);
        assert_eq!(propose(state, state.now(), command), Outcome::Done);
    }
    issuer_under(state, root, issuer);
    let command = activate(state, root);
    assert_eq!(propose(state, state.now(), command), Outcome::Done);
    let rotation = state.rotation().unwrap();
    let command = Command::FinishRotation { rotation: rotation.id, expected: rotation.modified };
    assert_eq!(propose(state, state.now(), command), Outcome::Done);
}
