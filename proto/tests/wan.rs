//! What goes over the WAN comes back as it was, and what is not in its form is refused by name.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use carrack_authority::{
    acl::{
        AccessorId, NodeIdentity, Policy, PolicyId, Rule, ServiceIdentity, Token,
        rules::{Access, Resource, Scope},
    },
    ca_config::CaConfig,
    federation::{CaTable, Change, Cursor, Datacenter, KnownDatacenter, KnownServers, Page, Switches, Table},
    id::{Digest, KeyId, NodeId, Revision},
    intention::{
        Action, Effect, Intention, IntentionKey, Party, Pattern, Permission,
        permission::{ClaimTest, HeaderTest, JwtProvider, JwtRequirement, Method, PathTest, ValueTest},
    },
    key::{Der, KeyKind},
    revocation::RevokedIssuer,
    root::{Bridge, NewRoot, Root, RootPhase},
    rotation::TaintedRoot,
    spiffe::Name,
    time::Timestamp,
};
use carrack_proto::{
    convert::wan::{heard_from_wire, heard_to_wire, table_from_wire, table_to_wire},
    wan,
};
use prost::Message;
use uuid::Uuid;

fn name(text: &str) -> Name {
    Name::parse("name", text).unwrap()
}

fn der(text: &str) -> Der {
    Der::from(text.as_bytes())
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn root(phase: RootPhase, bridge: Option<Bridge>) -> Root {
    Root {
        made: NewRoot {
            id: KeyId([1; 20]),
            provider: "builtin".into(),
            certificate: der("root"),
            chain: vec![der("above")],
            key_kind: KeyKind::EcP384,
            not_before: Timestamp(2),
            not_after: Timestamp(3),
            sealed_key: None,
        },
        phase,
        activation: 4,
        bridge,
        phase_since: Timestamp::EPOCH,
        created: Revision(0),
        modified: Revision(0),
    }
}

fn every_rule() -> Arc<[Rule]> {
    let resources = [
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
    let rule = |resource, scope, access| Rule { resource, scope, access };
    let all = resources.map(|resource| rule(resource, Scope::All, Access::Deny));
    let more = [
        rule(Resource::Service, Scope::Exact("web".into()), Access::Read),
        rule(Resource::Service, Scope::Prefix(String::new()), Access::Write),
        rule(Resource::Key, Scope::Prefix("a".into()), Access::List),
    ];
    all.into_iter().chain(more).collect()
}

/// One for connections and one for requests, with every kind of test.
fn intentions() -> Vec<Intention> {
    let claims = vec![ClaimTest { path: vec!["realm".into(), "roles".into()], value: "admin".into() }];
    let jwt = JwtRequirement { providers: vec![JwtProvider { name: "okta".into(), claims }] };
    let text = || "text".to_owned();
    let values = [
        ValueTest::Present,
        ValueTest::Exact(text()),
        ValueTest::Prefix(text()),
        ValueTest::Suffix(text()),
        ValueTest::Contains(text()),
        ValueTest::Regex(Pattern::new("te?xt")),
    ];
    let header = |value: &ValueTest| HeaderTest {
        name: "X-A".into(),
        value: value.clone(),
        is_inverted: *value == ValueTest::Present,
        ignores_case: *value == ValueTest::Exact(text()),
    };
    let paths = [
        PathTest::Any,
        PathTest::Exact("/a".into()),
        PathTest::Prefix("/b".into()),
        PathTest::Regex(Pattern::new("/c.*")),
    ];
    let permissions = paths.map(|path| Permission {
        action: if path == PathTest::Any { Action::Deny } else { Action::Allow },
        path,
        headers: values.iter().map(header).collect(),
        methods: Method::ALL.to_vec(),
        jwt: Some(jwt.clone()),
    });
    let plain = Intention {
        destination: Party::Any,
        source: Party::Service(name("web")),
        effect: Effect::Action(Action::Deny),
        jwt: None,
        description: "what it is for".into(),
        meta: BTreeMap::from([("k".into(), "v".into()), ("l".into(), String::new())]),
        legacy_id: Some(id(26)),
        created_at: Timestamp(27),
        updated_at: Timestamp(28),
        created: Revision(0),
        modified: Revision(0),
    };
    let (destination, source) = (Party::Service(name("db")), Party::Any);
    let effect = Effect::Permissions(permissions.into());
    let by_request = Intention {
        destination,
        source,
        effect,
        jwt: Some(jwt),
        meta: BTreeMap::new(),
        legacy_id: None,
        ..plain.clone()
    };
    vec![plain, by_request]
}

fn changes() -> Vec<Change> {
    let bridge = Bridge {
        certificate: der("bridge"),
        signed_by: KeyId([5; 20]),
        not_before: Timestamp(6),
        not_after: Timestamp(7),
    };
    let roots =
        vec![root(RootPhase::Active, None), root(RootPhase::Prepared, Some(bridge)), root(RootPhase::Retired, None)];
    let config = CaConfig { csr_max_per_second: 8, leaf_ttl: Duration::from_millis(9), ..CaConfig::default() };
    let ca = CaTable { trust_domain: "example.org".parse().unwrap(), config, roots, activation: 10 };
    let datacenter = Datacenter {
        name: name("dc2"),
        cluster: id(11),
        server_roots: vec![der("server root")],
        wan_addresses: vec!["x:8302".into()],
        is_primary: true,
        joined_at: Timestamp::EPOCH,
        created: Revision(0),
        modified: Revision(0),
    };
    let servers = KnownServers { present: vec![NodeId(1), NodeId(3)], next: NodeId(4) };
    let silent = KnownDatacenter { datacenter: datacenter.clone(), servers: None };
    let known = vec![KnownDatacenter { datacenter, servers: Some(servers) }, silent];
    let policy = Policy {
        id: PolicyId(id(12)),
        name: "operators".into(),
        description: "who operates".into(),
        source: "operator = \"write\"".into(),
        rules: every_rule(),
        datacenters: vec![name("dc1")],
        created: Revision(0),
        modified: Revision(0),
    };
    let token = Token {
        accessor: AccessorId(id(13)),
        secret: Digest([14; 32]),
        description: "a token".into(),
        policies: vec![PolicyId(id(15))],
        service_identities: vec![ServiceIdentity { service: name("web"), datacenters: vec![name("dc2")] }],
        node_identities: vec![NodeIdentity { node: name("n1"), datacenter: name("dc1") }],
        roles: Vec::new(),
        auth_method: None,
        is_local: false,
        expires_at: Some(Timestamp(16)),
        created_at: Timestamp(17),
        created: Revision(0),
        modified: Revision(0),
    };
    let endless = Token { expires_at: None, ..token.clone() };
    let pages = [None, Some(Page { after: None, upto: Some(id(18)) }), Some(Page { after: Some(id(19)), upto: None })];
    let ca = |switches: Switches| Change::CaAndSwitches(Box::new(ca.clone()), switches);
    let tainted =
        TaintedRoot { root: KeyId([34; 20]), reason: "stolen".into(), tainted_at: Timestamp(35), is_compromised: true };
    let switched = ca(Switches { is_halted: true, tainted: vec![tainted] });
    let mut changes = vec![Change::Nothing, ca(Switches::default()), Change::DatacentersAndServers(known)];
    let (issuer, root, reason) = (KeyId([30; 20]), KeyId([31; 20]), "lost machine".to_owned());
    let revoked = RevokedIssuer { issuer, root, until: Timestamp(32), reason, revoked_at: Timestamp(33) };
    for page in pages {
        changes.push(Change::Policies { page, put: vec![policy.clone()], deleted: vec![PolicyId(id(20))] });
        let put = vec![token.clone(), endless.clone()];
        changes.push(Change::Tokens { page, put, deleted: vec![AccessorId(id(21))] });
        changes.push(Change::Intentions { page, put: intentions(), deleted: vec![IntentionKey(id(29))] });
    }
    changes.extend([Change::RevokedIssuers(vec![revoked]), switched]);
    changes
}

#[test]
fn every_change_comes_as_it_was_sent() {
    let cursors = [
        Cursor::default(),
        Cursor { revision: Revision(22), reading: None, after: Some(id(23)) },
        Cursor { revision: Revision(24), reading: Some(Revision(0)), after: None },
    ];
    for change in changes() {
        for to in cursors {
            let bytes = heard_to_wire(&change, &to, true, Revision(25)).encode_to_vec();
            let heard = heard_from_wire(wan::FollowResponse::decode(&*bytes).unwrap()).unwrap();
            assert_eq!(heard, (change.clone(), to, true, Revision(25)));
        }
    }
    for table in Table::ALL {
        assert_eq!(table_from_wire(table_to_wire(table).into()), Ok(table));
    }
}

#[test]
fn what_is_not_in_its_form_is_refused_by_name() {
    let sent = |change: &Change| heard_to_wire(change, &Cursor::default(), false, Revision(1));
    let refusal = |response: wan::FollowResponse| heard_from_wire(response).unwrap_err().to_string();
    let changes = changes();
    let mut cursor = sent(&changes[0]);
    cursor.to = Some(wan::Cursor { after: vec![1, 2].into(), ..wan::Cursor::default() });
    assert!(refusal(cursor).contains("cursor"));
    let mut ca = sent(&changes[1]);
    let Some(wan::follow_response::Change::Ca(table)) = &mut ca.change else { panic!("no CA") };
    table.trust_domain = "UPPER".into();
    assert!(refusal(ca.clone()).contains("trust domain"));
    let Some(wan::follow_response::Change::Ca(table)) = &mut ca.change else { panic!("no CA") };
    table.trust_domain = "example.org".into();
    table.roots[0].phase = 99;
    assert!(refusal(ca).contains("root"));
    let mut policies = sent(&changes[3]);
    let Some(wan::follow_response::Change::Policies(change)) = &mut policies.change else { panic!("no policies") };
    change.put[0].rules[0].resource = "everything".into();
    assert!(refusal(policies).contains("everything"));
    let mut tokens = sent(&changes[4]);
    let Some(wan::follow_response::Change::Tokens(change)) = &mut tokens.change else { panic!("no tokens") };
    change.put[0].secret_digest = vec![0; 31].into();
    assert!(refusal(tokens).contains("digest"));
    type Spoil = fn(&mut wan::Intention);
    let spoilt: [(Spoil, &str); 6] = [
        (|intention| intention.source = "a b".into(), "source"),
        (|intention| intention.destination = String::new(), "destination"),
        (|intention| intention.action = "maybe".into(), "maybe"),
        (|intention| intention.legacy_id = vec![1].into(), "ID of an intention"),
        (|intention| intention.permissions = vec![wan::Permission::default()], "action and permissions"),
        (|intention| intention.action = String::new(), "unknown action"),
    ];
    for (spoil, named) in spoilt {
        let mut intentions = sent(&changes[5]);
        let Some(wan::follow_response::Change::Intentions(change)) = &mut intentions.change else {
            panic!("no intentions")
        };
        spoil(&mut change.put[0]);
        assert!(refusal(intentions).contains(named), "{named}");
    }
    let mut intentions = sent(&changes[5]);
    let Some(wan::follow_response::Change::Intentions(change)) = &mut intentions.change else {
        panic!("no intentions")
    };
    change.put[1].permissions[0].methods[0] = "get".into();
    assert!(refusal(intentions).contains("unknown method `get`"));
    assert!(table_from_wire(0).is_err() && table_from_wire(77).is_err());
}
