//! Golden bytes of what the log and snapshots hold: one line for each kind of command, record and outcome of schema 1. They decode
//! for ever; a file here is only ever added to (`UPDATE_EXPECT=1`).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agents;
mod intentions;
mod rotations;

use std::{collections::BTreeSet, fmt::Debug, sync::Arc, time::Duration};

use carrack_authority::{
    Command, Entry, Outcome, Proposal, Rejection, WatchKey,
    acl::{
        AccessorId, NodeIdentity, Policy, PolicyId, RoleId, Rule, ServiceIdentity, Token,
        rules::{Access, Resource, Scope},
    },
    ca_config::{BadCaConfig, CaConfig, StoredCaConfig},
    command::Bootstrap,
    federation::{
        AdmitDatacenter, CaTable, Change, Cursor, Datacenter, DatacenterFacts, FederationToken, Followed,
        KnownDatacenter, KnownServers, Page, Progress, RemoteIssuer, Table,
    },
    id::{Digest, FeatureLevel, KeyId, NodeId, Revision, Serial, StoreId},
    issuance::{Grant, Holder, Issuance, IssuanceRecord, Keeper, Review},
    issuer::{Issuer, IssuerPhase, IssuerRequest, SignedIssuer},
    key::{Der, KeyKind},
    member::{Addresses, AdmitServer, JoinToken, Member, RemovedMember, ServerCertificate, ServerCertificateRequest},
    root::{Bridge, Ca, NewRoot, Root, RootPhase, SealedKey},
    spiffe::{Identity, Name, SpiffeId, SpiffePath},
    state::{Cluster, StateHead, StateRecord},
    time::Timestamp,
};
use carrack_proto::stored::{Kind, Schema, decode, encode};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

/// Each value on a line of its own: the variant's name and its envelope.
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(file: &str, kind: Kind, values: &[T]) {
    let lines: Vec<String> = values.iter().map(|value| format!("{}\n", line(kind, value))).collect();
    let path = format!("{}/tests/golden/v1/{file}.txt", env!("CARGO_MANIFEST_DIR"));
    expect_test::expect_file![path.as_str()].assert_eq(&lines.concat());
    let golden = std::fs::read_to_string(&path).unwrap();
    for (line, value) in golden.lines().zip(values) {
        let (_, hex) = line.split_once(' ').unwrap();
        let bytes =
            hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
        assert_eq!(decode::<T>(kind, &bytes.collect::<Vec<_>>()).unwrap(), *value);
    }
}

fn line<T: Serialize + Debug>(kind: Kind, value: &T) -> String {
    let hex = encode(kind, Schema::FIRST, value).unwrap().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let name: String = format!("{value:?}").chars().take_while(|letter| letter.is_alphanumeric()).collect();
    format!("{name} {hex}")
}

fn names<T: Debug>(values: &[T]) -> BTreeSet<String> {
    let name = |value: &T| format!("{value:?}").chars().take_while(|letter| letter.is_alphanumeric()).collect();
    values.iter().map(name).collect()
}

fn name(text: &str) -> Name {
    Name::parse("name", text).unwrap()
}

fn der(text: &str) -> Der {
    Der::from(text.as_bytes())
}

fn addresses() -> Addresses {
    Addresses { raft: "a:8300".into(), grpc: "a:8503".into(), wan: Some("a:8302".into()) }
}

fn certificate() -> ServerCertificate {
    let (not_before, not_after) = (Timestamp(1), Timestamp(2));
    ServerCertificate {
        certificate: der("crt"),
        public_key: Digest([1; 32]),
        root: KeyId([2; 20]),
        not_before,
        not_after,
    }
}

fn request() -> ServerCertificateRequest {
    ServerCertificateRequest { csr: der("csr"), public_key: Digest([3; 32]), revision: Revision(4) }
}

fn member() -> Member {
    Member {
        node: NodeId(5),
        name: name("a"),
        store: StoreId([6; 16]),
        addresses: addresses(),
        sealing_recipient: "age1a".into(),
        supports: FeatureLevel(7),
        certificate: Some(certificate()),
        former_key: Some(Digest([44; 32])),
        request: Some(request()),
        is_leaving: true,
        admitted_at: Timestamp(8),
        created: Revision(9),
        modified: Revision(10),
    }
}

fn sealed() -> SealedKey {
    SealedKey { ciphertext: der("age"), slots: vec![(NodeId(1), "age1a".into())], recovery: Some("age1r".into()) }
}

fn new_root() -> NewRoot {
    NewRoot {
        id: KeyId([11; 20]),
        provider: "builtin".into(),
        certificate: der("root"),
        chain: vec![der("above")],
        key_kind: KeyKind::EcP384,
        not_before: Timestamp(12),
        not_after: Timestamp(13),
        sealed_key: Some(sealed()),
    }
}

fn config() -> CaConfig {
    CaConfig {
        leaf_ttl: Duration::from_secs(14),
        intermediate_ttl: Duration::from_secs(15),
        root_ttl: Duration::from_secs(16),
        key_kind: KeyKind::Rsa4096,
        csr_max_per_second: 17,
        csr_max_concurrent: 18,
    }
}

fn token() -> Token {
    Token {
        accessor: AccessorId(Uuid::from_u128(19)),
        secret: Digest([20; 32]),
        description: "d".into(),
        policies: vec![PolicyId(Uuid::from_u128(21))],
        service_identities: vec![ServiceIdentity { service: name("web"), datacenters: vec![name("dc1")] }],
        node_identities: vec![NodeIdentity { node: name("n"), datacenter: name("dc1") }],
        roles: vec![RoleId(Uuid::from_u128(22))],
        auth_method: Some(name("k8s")),
        is_local: true,
        expires_at: Some(Timestamp(23)),
        created_at: Timestamp(24),
        created: Revision(25),
        modified: Revision(26),
    }
}

fn policy() -> Policy {
    let scopes = [Scope::All, Scope::Exact("web".into()), Scope::Prefix("w".into())];
    let rule = |scope: Scope| Rule { resource: Resource::Service, scope, access: Access::Write };
    Policy {
        id: PolicyId(Uuid::from_u128(27)),
        name: "p".into(),
        description: "d".into(),
        source: "service \"web\" { policy = \"write\" }".into(),
        rules: scopes.map(rule).into(),
        datacenters: vec![name("dc1")],
        created: Revision(28),
        modified: Revision(29),
    }
}

fn issuance(path: SpiffePath, grant: Grant, keeper: Keeper) -> Issuance {
    let id = SpiffeId { trust_domain: "example.org".parse().unwrap(), path };
    Issuance {
        serial: Serial([30; 20]),
        identity: Arc::new(Identity::Spiffe(id)),
        grant: Arc::new(grant),
        public_key: Digest([31; 32]),
        certificate: Digest([32; 32]),
        not_before: Timestamp(33),
        not_after: Timestamp(34),
        issuer: KeyId([35; 20]),
        holder: Arc::new(Holder { keeper, slot: "slot".into() }),
        deadline: Timestamp(36),
    }
}

fn issuances() -> [Issuance; 4] {
    let (datacenter, service, node) = (name("dc1"), name("web"), name("n"));
    let review = Arc::new(Review { method: name("k8s"), digest: Digest([37; 32]) });
    let token = Grant::Token(AccessorId(Uuid::from_u128(38)));
    let path = SpiffePath::Service { datacenter: datacenter.clone(), service };
    let of_service = issuance(path, token.clone(), Keeper::Server(NodeId(39)));
    let path = SpiffePath::Agent { datacenter: datacenter.clone(), node: node.clone() };
    let of_agent = issuance(path, Grant::Agent(node.clone()), Keeper::Agent(node));
    let login = Keeper::Login(AccessorId(Uuid::from_u128(40)));
    let of_server = issuance(SpiffePath::Server { datacenter }, Grant::Review(review), login);
    let linkerd = Arc::new(Identity::LinkerdDns("web.ns.serviceaccount.identity.linkerd.example.org".into()));
    [Issuance { identity: linkerd, ..of_service.clone() }, of_service, of_agent, of_server]
}

fn issuer_request() -> IssuerRequest {
    let (node, root, key) = (NodeId(41), KeyId([42; 20]), KeyId([43; 20]));
    IssuerRequest { node, root, csr: der("csr"), key, key_kind: KeyKind::Ed25519, revision: Revision(44) }
}

fn join_token() -> JoinToken {
    JoinToken {
        secret: Digest([45; 32]),
        node_name: name("b"),
        expires_at: Timestamp(46),
        consumed: Some((Digest([47; 32]), NodeId(48))),
        created: Revision(49),
    }
}

fn bootstrap() -> Bootstrap {
    Bootstrap {
        cluster: Uuid::from_u128(50),
        datacenter: name("dc1"),
        trust_domain: "example.org".parse().unwrap(),
        feature_level: FeatureLevel(51),
        recovery: Some("age1r".into()),
        member: member(),
        server_root: new_root(),
        config: config(),
    }
}

fn admit() -> AdmitServer {
    AdmitServer {
        secret: Digest([52; 32]),
        name: name("b"),
        store: StoreId([53; 16]),
        addresses: addresses(),
        sealing_recipient: "age1b".into(),
        supports: FeatureLevel(54),
        csr: der("csr"),
        public_key: Digest([55; 32]),
    }
}

fn commands() -> Vec<Command> {
    let (node, expected, root, ca) = (NodeId(56), Revision(57), KeyId([58; 20]), Ca::Mesh);
    let signed = SignedIssuer {
        node,
        expected,
        certificate: der("issuer"),
        not_before: Timestamp(59),
        not_after: Timestamp(60),
    };
    let mut commands = vec![
        Command::Bootstrap(Box::new(bootstrap())),
        Command::RaiseFeatureLevel { expected: FeatureLevel(61), level: FeatureLevel(62) },
        Command::CreateJoinToken(join_token()),
        Command::AdmitServer(Box::new(admit())),
        Command::AnnounceServer { node, addresses: addresses(), supports: FeatureLevel(63) },
        Command::RequestServerCertificate { node, request: request() },
        Command::RecordServerCertificate { node, expected, certificate: certificate() },
        Command::RequestRemoval { node },
        Command::RemoveServer { node, expected },
        Command::PublishRoot { ca: Ca::Server, root: new_root() },
        Command::ActivateRoot { ca, root, expected, expected_active: Some(KeyId([64; 20])) },
        Command::ResealRoot { ca, root, expected, sealed: sealed() },
        Command::RequestIssuer(issuer_request()),
        Command::RecordIssuer(signed),
        Command::SetHalt { halted: true },
        Command::SetCaConfig {
            expected,
            config: config(),
            rotation_period: Some(Duration::from_secs(70)),
            rotation: Some(Box::new(rotations::request(
                carrack_authority::rotation::RotationCause::Configuration,
                rotations::made(),
            ))),
        },
        Command::BootstrapAcl { token: token(), reset: Some(65) },
        Command::PutToken { expected, token: token() },
        Command::DeleteToken { accessor: AccessorId(Uuid::from_u128(66)) },
        Command::PutPolicy { expected, policy: policy() },
        Command::DeletePolicy { policy: PolicyId(Uuid::from_u128(67)) },
    ];
    commands.extend(issuances().map(Command::RecordIssuance));
    commands.extend(federation_commands());
    commands.extend(intentions::commands());
    commands.push(agents::acknowledgement());
    commands.extend(agents::revoked_issuers());
    commands.extend(rotations::commands());
    commands
}

fn facts() -> DatacenterFacts {
    let (server_roots, wan_addresses) = (vec![der("server root")], vec!["x:8302".into()]);
    DatacenterFacts { name: name("dc2"), cluster: Uuid::from_u128(130), server_roots, wan_addresses }
}

fn datacenter() -> Datacenter {
    let DatacenterFacts { name, cluster, server_roots, wan_addresses } = facts();
    let (joined_at, created, modified) = (Timestamp(131), Revision(132), Revision(133));
    Datacenter { name, cluster, server_roots, wan_addresses, is_primary: true, joined_at, created, modified }
}

fn federation_token() -> FederationToken {
    FederationToken {
        secret: Digest([134; 32]),
        datacenter: name("dc2"),
        expires_at: Timestamp(135),
        consumed: Some(Uuid::from_u128(136)),
        created: Revision(137),
    }
}

fn remote_issuer() -> RemoteIssuer {
    RemoteIssuer {
        id: KeyId([138; 20]),
        datacenter: name("dc2"),
        node: NodeId(139),
        root: KeyId([140; 20]),
        certificate: der("issuer"),
        not_before: Timestamp(141),
        not_after: Timestamp(142),
        created: Revision(143),
    }
}

fn root() -> Root {
    Root {
        made: NewRoot { sealed_key: None, ..new_root() },
        phase: RootPhase::Active,
        activation: 144,
        bridge: None,
        phase_since: Timestamp(145),
        created: Revision(146),
        modified: Revision(147),
    }
}

fn federation_commands() -> Vec<Command> {
    let cursor = |reading, after| Cursor { revision: Revision(148), reading, after };
    let key = Some(Uuid::from_u128(149));
    let page = Some(Page { after: None, upto: key });
    let trust_domain = "example.org".parse().unwrap();
    let ca = CaTable { trust_domain, config: config(), roots: vec![root()], activation: 150 };
    let (policies, tokens) = (vec![policy()], vec![token()]);
    let (policy, accessor) = (PolicyId(Uuid::from_u128(151)), AccessorId(Uuid::from_u128(152)));
    let changes = [
        (Table::Ca, Change::Nothing),
        (Table::Ca, Change::Ca(Box::new(ca))),
        (Table::Datacenters, Change::Datacenters(vec![datacenter()])),
        (Table::Policies, Change::Policies { page, put: policies, deleted: vec![policy] }),
        (Table::Tokens, Change::Tokens { page: None, put: tokens, deleted: vec![accessor] }),
    ];
    let followed = changes.map(|(table, change)| {
        let (primary, from, to) = (Uuid::from_u128(153), cursor(None, None), cursor(Some(Revision(154)), key));
        Command::FollowPrimary(Box::new(Followed { primary, table, from, to, change, is_all: true }))
    });
    let mut commands = vec![
        Command::BootstrapSecondary { bootstrap: Box::new(bootstrap()), primary: Box::new(datacenter()) },
        Command::CreateFederationToken(federation_token()),
        Command::AdmitDatacenter(Box::new(AdmitDatacenter { secret: Digest([155; 32]), facts: facts() })),
        Command::AnnounceDatacenter(Box::new(facts())),
        Command::RemoveDatacenter { name: name("dc2") },
        Command::RecordRemoteIssuer(Box::new(remote_issuer())),
    ];
    commands.extend(followed);
    commands.extend(server_commands());
    commands.extend(agents::commands());
    commands.extend(agents::revocations());
    commands
}

fn servers() -> KnownServers {
    KnownServers { present: vec![NodeId(164), NodeId(165)], next: NodeId(166) }
}

fn server_commands() -> [Command; 2] {
    let known = [Some(servers()), None].map(|servers| KnownDatacenter { datacenter: datacenter(), servers });
    let (primary, table, at) = (Uuid::from_u128(167), Table::Datacenters, Cursor::default());
    let change = Change::DatacentersAndServers(known.into());
    let cluster = Uuid::from_u128(168);
    [
        Command::FollowPrimary(Box::new(Followed { primary, table, from: at, to: at, change, is_all: false })),
        Command::AnnounceServersOf { datacenter: name("dc2"), cluster, servers: servers() },
    ]
}

fn federation_records() -> Vec<StateRecord> {
    let cursor = Cursor { revision: Revision(156), reading: Some(Revision(157)), after: Some(Uuid::from_u128(158)) };
    let mut records = vec![
        StateRecord::Primary(name("dc1")),
        StateRecord::Datacenter(Arc::new(datacenter())),
        StateRecord::FederationToken(federation_token()),
        StateRecord::RemoteIssuer(Arc::new(remote_issuer())),
        StateRecord::Followed(Table::Tokens, Progress { cursor, heard_at: Timestamp(159) }),
        StateRecord::Changed(Table::Policies, Revision(160), Uuid::from_u128(161)),
        StateRecord::Forgotten(Table::Tokens, Revision(162)),
    ];
    let keys = [WatchKey::Datacenters, WatchKey::FederationTokens, WatchKey::RemoteIssuers, WatchKey::Followed];
    records.extend(keys.map(|key| StateRecord::Modified(key, Revision(163))));
    records
}

fn records() -> Vec<StateRecord> {
    let cluster = Cluster {
        id: Uuid::from_u128(68),
        datacenter: name("dc1"),
        trust_domain: "example.org".parse().unwrap(),
        recovery: Some("age1r".into()),
        feature_level: FeatureLevel(69),
        is_halted: true,
    };
    let head = StateHead {
        index: 70,
        now: Timestamp(71),
        next_node: NodeId(72),
        mesh_activation: 73,
        server_activation: 74,
        issuance_head: Digest([75; 32]),
        issuance_length: 76,
        acl_bootstrapped: Revision(77),
        config: StoredCaConfig { config: config(), created: Revision(78), modified: Revision(79) },
    };
    let removed =
        RemovedMember { node: NodeId(80), name: name("c"), store: StoreId([81; 16]), removed_at: Timestamp(82) };
    let issuer = |phase| Issuer {
        id: KeyId([83; 20]),
        node: NodeId(84),
        root: KeyId([85; 20]),
        certificate: der("issuer"),
        key_kind: KeyKind::EcP256,
        not_before: Timestamp(86),
        not_after: Timestamp(87),
        phase,
        created: Revision(88),
        modified: Revision(89),
    };
    let root = |phase| {
        let (certificate, signed_by) = (der("bridge"), KeyId([90; 20]));
        let (not_before, not_after) = (Timestamp(91), Timestamp(92));
        let bridge = Some(Bridge { certificate, signed_by, not_before, not_after });
        let (created, modified) = (Revision(94), Revision(95));
        let root =
            Root { made: new_root(), phase, activation: 93, bridge, phase_since: Timestamp(96), created, modified };
        StateRecord::Root(Ca::Mesh, Arc::new(root))
    };
    let issuance = |superseded_by| {
        let [_, issuance, ..] = issuances();
        let (sequence, recorded_at, index, hash) = (97, Timestamp(98), 99, Digest([100; 32]));
        StateRecord::Issuance(IssuanceRecord { issuance, sequence, recorded_at, index, hash, superseded_by })
    };
    let mut records = vec![
        StateRecord::Head(head),
        StateRecord::Cluster(Arc::new(cluster)),
        StateRecord::Member(Arc::new(member())),
        StateRecord::RemovedMember(removed),
        StateRecord::JoinToken(join_token()),
        root(RootPhase::Prepared),
        root(RootPhase::Active),
        root(RootPhase::Retired),
        StateRecord::Issuer(Arc::new(issuer(IssuerPhase::Live))),
        StateRecord::Issuer(Arc::new(issuer(IssuerPhase::Retired))),
        StateRecord::IssuerRequest(Arc::new(issuer_request())),
        issuance(None),
        issuance(Some(101)),
        StateRecord::Token(Arc::new(token())),
        StateRecord::Policy(Arc::new(policy())),
    ];
    let keys = [
        WatchKey::Cluster,
        WatchKey::Members,
        WatchKey::JoinTokens,
        WatchKey::Roots(Ca::Mesh),
        WatchKey::Roots(Ca::Server),
        WatchKey::Issuers,
        WatchKey::CaConfig,
        WatchKey::Issuances,
        WatchKey::Tokens,
        WatchKey::Token(AccessorId(Uuid::from_u128(102))),
        WatchKey::Policies,
    ];
    records.extend(keys.map(|key| StateRecord::Modified(key, Revision(103))));
    records.extend(federation_records());
    records.push(StateRecord::ServersOf(name("dc2"), servers()));
    records.push(StateRecord::HiddenToken(Arc::new(Token { is_local: false, ..token() })));
    records.extend(agents::records());
    records.push(StateRecord::Revocation(Arc::new(agents::revocation())));
    records.push(StateRecord::Modified(WatchKey::Revocations, Revision(188)));
    records.extend(intentions::records());
    let (table, at) = (Table::Intentions, Revision(192));
    records.extend([StateRecord::Changed(table, at, Uuid::from_u128(193)), StateRecord::Forgotten(table, at)]);
    records.extend(agents::acknowledgement_records());
    records.extend(agents::revoked_issuer_records());
    records.extend(rotations::records());
    records
}

fn outcomes() -> Vec<Outcome> {
    let (node, what, reason) = (NodeId(104), || "what".to_owned(), || "reason".to_owned());
    let (not_before, not_after) = (Timestamp(105), Timestamp(106));
    let rejections = [
        Rejection::NotBootstrapped,
        Rejection::AlreadyBootstrapped,
        Rejection::Conflict { what: what(), expected: Revision(107), found: Revision(108) },
        Rejection::NotFound { what: what() },
        Rejection::AlreadyExists { what: what() },
        Rejection::LimitReached { what: what(), limit: 109 },
        Rejection::Invalid { what: what(), reason: reason() },
        Rejection::WrongProposer { node, proposer: NodeId(110) },
        Rejection::Removed { node, removed_at: Timestamp(111) },
        Rejection::TooOld { who: what(), supports: FeatureLevel(112), level: FeatureLevel(113) },
        Rejection::JoinTokenRefused { reason: reason() },
        Rejection::WrongRecipients,
        Rejection::WrongPhase { root: KeyId([114; 20]), phase: "active".into(), reason: reason() },
        Rejection::BadCaConfig(BadCaConfig::LimitTooHigh { key: what(), value: 115 }),
        Rejection::SerialTaken { serial: Serial([116; 20]) },
        Rejection::DeadlinePassed { deadline: Timestamp(117), now: Timestamp(118) },
        Rejection::Halted,
        Rejection::IssuerRefused { issuer: KeyId([119; 20]), reason: reason() },
        Rejection::DatesRefused { not_before, not_after, reason: reason() },
        Rejection::GrantRefused { reason: reason() },
        Rejection::AclBootstrapped { reset_index: 120 },
        Rejection::BuiltIn { what: what() },
        Rejection::InSecondary { what: what(), primary: name("dc1") },
        Rejection::FederationTokenRefused { reason: reason() },
        Rejection::AgentTokenRefused { reason: reason() },
    ];
    let mut outcomes = vec![Outcome::Done, Outcome::Recorded { sequence: 121 }, Outcome::Admitted { node }];
    outcomes.extend(rejections.map(Outcome::Rejected));
    outcomes
}

#[test]
fn commands_of_schema_1() {
    check("commands", Kind::Commands, &commands());
    assert_eq!(names(&commands()).len(), 52, "a new command needs its golden bytes");
}

#[test]
fn an_entry_of_schema_1() {
    let proposals = vec![Proposal { proposer: NodeId(1), command: Command::SetHalt { halted: false } }];
    check("entry", Kind::Commands, &[Entry { stamp: Timestamp(2), proposals }]);
}

#[test]
fn records_of_schema_1() {
    check("records", Kind::SnapshotRecords, &records());
    assert_eq!(names(&records()).len(), 35, "a new kind of record needs its golden bytes");
}

#[test]
fn outcomes_of_schema_1() {
    check("outcomes", Kind::Outcomes, &outcomes());
}

#[test]
fn single_values_of_schema_1() {
    check("key_kinds", Kind::Commands, &KeyKind::ALL);
    let all = [
        Resource::Acl,
        Resource::Agent,
        Resource::Event,
        Resource::Identity,
        Resource::IdentityIntention,
        Resource::Intention,
        Resource::Key,
        Resource::Keyring,
        Resource::Mesh,
        Resource::Node,
        Resource::Operator,
        Resource::Peering,
        Resource::Query,
        Resource::Service,
        Resource::Session,
    ];
    check("resources", Kind::Commands, &all);
    check("accesses", Kind::Commands, &[Access::Deny, Access::Read, Access::List, Access::Write]);
    let seconds = Duration::from_secs;
    let bad = [
        BadCaConfig::LeafTooShort(seconds(1)),
        BadCaConfig::LeafTooLong(seconds(2)),
        BadCaConfig::IntermediateTooShort(seconds(3)),
        BadCaConfig::IntermediateBelowLeaves { leaf: seconds(4), intermediate: seconds(5) },
        BadCaConfig::RootBelowIntermediate { intermediate: seconds(6), root: seconds(7) },
        BadCaConfig::RootTooLong(seconds(8)),
        BadCaConfig::LimitTooHigh { key: "key".into(), value: 9 },
    ];
    check("bad_ca_configs", Kind::Outcomes, &bad);
}
