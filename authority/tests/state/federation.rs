//! A primary and a secondary as two states: what the one has, the other takes over, from wherever it is, and nothing of its own is
//! lost.

use carrack_authority::{
    Command, Outcome, Rejection, State, WatchKey,
    acl::{Policy, Token},
    federation::{
        AdmitDatacenter, Change, Cursor, Datacenter, DatacenterFacts, FederationToken, Followed, KnownDatacenter,
        KnownServers, Next, REMOTE_ISSUERS_PER_SERVER_MAX, RemoteIssuer, SERVERS_AT_ONCE_MAX, Table, next,
    },
    id::{NodeId, Revision},
    intention::{Action, Effect, Intention},
    root::{Ca, RootPhase},
    state::StateRecord,
    time::Timestamp,
};
use uuid::Uuid;

use crate::world::*;

const PRIMARY: Uuid = Uuid::from_u128(7);
pub(crate) const SECONDARY: Uuid = Uuid::from_u128(8);

fn facts() -> DatacenterFacts {
    let (server_roots, wan_addresses) = (vec![der("server root 2")], vec!["x:8302".into()]);
    DatacenterFacts { name: name("dc2"), cluster: SECONDARY, server_roots, wan_addresses }
}

fn federation_token(of: &str) -> FederationToken {
    let (secret, expires_at) = (digest(&format!("federation {of}")), START.plus(DAY));
    FederationToken { secret, datacenter: name(of), expires_at, consumed: None, created: Revision(0) }
}

pub(crate) fn admit_dc2(primary: &mut State) {
    let token = Command::CreateFederationToken(federation_token("dc2"));
    assert_eq!(propose(primary, START, token), Outcome::Done);
    let admit = AdmitDatacenter { secret: digest("federation dc2"), facts: facts() };
    assert_eq!(propose(primary, START, Command::AdmitDatacenter(Box::new(admit))), Outcome::Done);
}

fn primary_as_seen() -> Datacenter {
    Datacenter {
        name: name("dc1"),
        cluster: PRIMARY,
        server_roots: vec![der("server root")],
        wan_addresses: vec!["a:8302".into()],
        is_primary: true,
        joined_at: Timestamp::EPOCH,
        created: Revision(0),
        modified: Revision(0),
    }
}

pub(crate) fn secondary() -> State {
    let mut begin = bootstrap();
    (begin.cluster, begin.datacenter) = (SECONDARY, name("dc2"));
    let mut state = State::default();
    let begin = Command::BootstrapSecondary { bootstrap: Box::new(begin), primary: Box::new(primary_as_seen()) };
    assert_eq!(propose(&mut state, START, begin), Outcome::Done);
    state
}

pub(crate) fn followed(table: Table, from: Cursor, to: Cursor, change: Change) -> Command {
    Command::FollowPrimary(Box::new(Followed { primary: PRIMARY, table, from, to, change, is_all: true }))
}

/// Takes over the next change of a table; whether there was one.
pub(crate) fn follow(primary: &State, secondary: &mut State, table: Table) -> bool {
    let from = secondary.progress(table).cursor;
    let Some(next) = next(primary, table, &from) else { return false };
    let Next { change, to, is_all } = next;
    let command = Command::FollowPrimary(Box::new(Followed { primary: PRIMARY, table, from, to, change, is_all }));
    let outcome = propose(secondary, START, command);
    assert_eq!(outcome, Outcome::Done);
    true
}

pub(crate) fn follow_all(primary: &State, secondary: &mut State) {
    for table in Table::ALL {
        while follow(primary, secondary, table) {}
    }
}

/// A token without what differs from datacenter to datacenter.
fn bare(token: &Token) -> Token {
    Token { created: Revision(0), modified: Revision(0), ..token.clone() }
}

fn bare_policy(policy: &Policy) -> Policy {
    Policy { created: Revision(0), modified: Revision(0), ..policy.clone() }
}

fn bare_intention(intention: &Intention) -> Intention {
    Intention { created: Revision(0), modified: Revision(0), ..intention.clone() }
}

pub(crate) fn expect_equal(primary: &State, secondary: &State) {
    let tokens = |state: &State| {
        let tokens = state.acl().tokens().filter(|token| !token.is_local);
        tokens.map(|token| bare(token)).collect::<Vec<_>>()
    };
    // Behind a local token that of the primary waits.
    let (hidden, shown): (Vec<_>, Vec<_>) =
        tokens(primary).into_iter().partition(|token| secondary.local_token_before(token).is_some());
    assert_eq!(shown, tokens(secondary));
    assert_eq!(hidden, secondary.hidden_tokens().map(|token| bare(token)).collect::<Vec<_>>());
    let policies = |state: &State| state.acl().policies().map(|policy| bare_policy(policy)).collect::<Vec<_>>();
    assert_eq!(policies(primary), policies(secondary));
    let intentions = |state: &State| state.intentions().all().map(|it| bare_intention(it)).collect::<Vec<_>>();
    assert_eq!(intentions(primary), intentions(secondary));
    let roots = |state: &State| {
        let roots = state.roots(Ca::Mesh).bundle();
        roots.iter().map(|root| (root.made.id, root.phase, root.activation)).collect::<Vec<_>>()
    };
    assert_eq!(roots(primary), roots(secondary));
    assert_eq!(primary.ca_config().config, secondary.ca_config().config);
}

fn rejection(outcome: Outcome) -> Rejection {
    outcome.accepted().unwrap_err()
}

#[test]
fn a_datacenter_joins_once_with_its_token_and_under_its_name() {
    let mut primary = issuing();
    admit_dc2(&mut primary);
    let admit = |secret: &str, facts: DatacenterFacts| {
        Command::AdmitDatacenter(Box::new(AdmitDatacenter { secret: digest(secret), facts }))
    };
    let again = propose(&mut primary, START, admit("federation dc2", facts()));
    assert_eq!(again, Outcome::Done, "its answer was lost");
    let other = DatacenterFacts { cluster: Uuid::from_u128(9), ..facts() };
    let refused = rejection(propose(&mut primary, START, admit("federation dc2", other))).to_string();
    assert!(refused.contains("it was used already"), "{refused}");
    let unknown = rejection(propose(&mut primary, START, admit("federation x", facts()))).to_string();
    assert!(unknown.contains("unknown or has ended") && unknown.contains("carrack federation token"), "{unknown}");
    for taken in ["dc1", "dc2"] {
        let token = FederationToken { secret: digest("another"), ..federation_token(taken) };
        let token = Command::CreateFederationToken(token);
        let taken = rejection(propose(&mut primary, START, token)).to_string();
        assert!(taken.contains("exists already"), "{taken}");
    }
    assert_eq!(propose(&mut primary, START, Command::CreateFederationToken(federation_token("dc3"))), Outcome::Done);
    let wrong = rejection(propose(&mut primary, START, admit("federation dc3", facts()))).to_string();
    assert!(wrong.contains("it is for the datacenter `dc3`, not for `dc2`"), "{wrong}");
    let mut known = primary.datacenters().map(|other| other.name.to_string());
    assert_eq!((known.next().as_deref(), known.next()), (Some("dc2"), None));
}

#[test]
fn a_secondary_writes_nothing_that_holds_everywhere() {
    let mut state = secondary();
    let local = Token { is_local: true, ..token(4) };
    let outcome = propose(&mut state, START, Command::PutToken { expected: Revision(0), token: local });
    assert_eq!(outcome, Outcome::Done);
    let root = new_root("root 1", START.minus(HOUR), None);
    let commands = [
        Command::PutToken { expected: Revision(0), token: token(5) },
        Command::PutPolicy { expected: Revision(0), policy: policy(1) },
        Command::DeletePolicy { policy: policy_id(1) },
        Command::BootstrapAcl { token: management_token(), reset: None },
        Command::SetCaConfig {
            expected: state.ca_config().modified,
            config: carrack_authority::ca_config::CaConfig { leaf_ttl: HOUR, ..state.ca_config().config },
            rotation_period: None,
            rotation: None,
        },
        Command::PublishRoot { ca: Ca::Mesh, root },
        start_rotation("root 1"),
        Command::RollBack { rotation: Revision(1) },
        Command::TaintRoot { root: key_id("root 1"), reason: String::new() },
        Command::RevokeRoot { root: key_id("root 1"), reason: String::new(), is_forced: true },
        Command::PruneRoot { root: key_id("root 1"), expected: Revision(1) },
        Command::CreateFederationToken(federation_token("dc3")),
        Command::AdmitDatacenter(Box::new(AdmitDatacenter { secret: digest("x"), facts: facts() })),
        Command::RemoveDatacenter { name: name("dc1") },
        put_intention(0, intention("web", "db", Action::Allow)),
        Command::DeleteIntention { destination: party("db"), source: party("web") },
        Command::PutServiceIntentions {
            expected: None,
            destination: party("db"),
            intentions: vec![intention("web", "db", Action::Allow)],
        },
        Command::DeleteServiceIntentions { expected: None, destination: party("db") },
    ];
    let unchanged = Command::SetCaConfig {
        expected: state.ca_config().modified,
        config: state.ca_config().config,
        rotation_period: None,
        rotation: None,
    };
    for command in commands.into_iter().chain([unchanged]) {
        let refused = rejection(propose(&mut state, START, command.clone()));
        assert!(matches!(refused, Rejection::InSecondary { .. }), "{command:?}: {refused}");
        assert!(refused.to_string().contains("`dc1`"), "{refused}");
    }
}

#[test]
fn a_secondary_takes_over_roots_and_configuration_and_issues_under_them() {
    let mut primary = issuing();
    admit_dc2(&mut primary);
    let mut secondary = secondary();
    follow_all(&primary, &mut secondary);
    expect_equal(&primary, &secondary);
    let root = secondary.roots(Ca::Mesh).active().unwrap().clone();
    assert!(root.made.sealed_key.is_none(), "no key leaves the primary");
    let known: Vec<_> = secondary.datacenters().map(|other| (other.name.to_string(), other.is_primary)).collect();
    assert_eq!(known, [("dc1".to_owned(), true)], "a datacenter is not one of its others");
    let commands = [
        Command::RequestIssuer(issuer_request(1, "root 1", "issuer x")),
        Command::RecordIssuer(signed_issuer(1, secondary.index() + 1, START.minus(HOUR))),
    ];
    for command in commands {
        assert_eq!(propose(&mut secondary, START, command), Outcome::Done);
    }
    let mut issuance = issuance(1, "web", START);
    (issuance.issuer, issuance.identity) = (key_id("issuer x"), service("dc2", "web"));
    let outcome = propose(&mut secondary, START, Command::RecordIssuance(issuance.clone()));
    assert!(matches!(outcome, Outcome::Recorded { .. }), "{outcome:?}");
    let delete = Command::DeleteToken { accessor: accessor(1) };
    assert!(matches!(rejection(propose(&mut secondary, START, delete.clone())), Rejection::InSecondary { .. }));
    assert_eq!(propose(&mut primary, START, delete), Outcome::Done);
    follow_all(&primary, &mut secondary);
    issuance.serial = serial(2);
    let refused = rejection(propose(&mut secondary, START, Command::RecordIssuance(issuance)));
    assert!(matches!(refused, Rejection::GrantRefused { .. }), "{refused}");
}

#[test]
fn what_cannot_be_of_the_primary_changes_nothing() {
    let mut primary = issuing();
    admit_dc2(&mut primary);
    let mut secondary = secondary();
    let begin = Cursor::default();
    let ca = next(&primary, Table::Ca, &begin).unwrap();
    let Change::CaAndSwitches(table, _) = &ca.change else { panic!("{ca:?}") };
    let mut foreign = table.clone();
    foreign.trust_domain = "evil.org".parse().unwrap();
    let mut sealed_key = table.clone();
    sealed_key.roots[0].made.sealed_key = Some(sealed(&[(1, "a")]));
    let mut two_active = table.clone();
    let mut second = two_active.roots[0].clone();
    second.made.id = key_id("root 2");
    two_active.roots.push(second);
    assert_eq!(two_active.roots.iter().filter(|root| root.phase == RootPhase::Active).count(), 2);
    let mut orphan = primary_as_seen();
    orphan.cluster = Uuid::from_u128(9);
    let local = Token { is_local: true, ..token(3) };
    let tokens = |token: Token| Change::Tokens { page: None, put: vec![token], deleted: Vec::new() };
    let allow = intention("web", "db", Action::Allow);
    let intentions = |it: Intention| Change::Intentions { page: None, put: vec![it], deleted: Vec::new() };
    let wrong = [
        (Table::Ca, Change::Ca(foreign), "trust domain"),
        (Table::Ca, Change::Ca(sealed_key), "sealed key"),
        (Table::Ca, Change::Ca(two_active), "more than one"),
        (Table::Ca, Change::Datacenters(vec![primary_as_seen()]), "another table"),
        (Table::Datacenters, Change::Datacenters(Vec::new()), "primary"),
        (Table::Datacenters, Change::Datacenters(vec![orphan]), "primary"),
        (Table::Tokens, tokens(local), "local"),
        (Table::Policies, intentions(allow.clone()), "another table"),
        (Table::Intentions, intentions(Intention { description: "x".repeat(513), ..allow.clone() }), "512"),
        (Table::Intentions, intentions(Intention { effect: Effect::Permissions(Vec::new()), ..allow }), "neither"),
    ];
    let before: Vec<StateRecord> = secondary.to_records().skip(1).collect();
    for (table, change, reason) in wrong {
        let refused = rejection(propose(&mut secondary, START, followed(table, begin, ca.to, change))).to_string();
        assert!(refused.contains(reason), "{refused}");
    }
    let mut other = Followed {
        primary: SECONDARY,
        table: Table::Ca,
        from: begin,
        to: ca.to,
        change: ca.change.clone(),
        is_all: true,
    };
    let refused = rejection(propose(&mut secondary, START, Command::FollowPrimary(Box::new(other.clone()))));
    assert!(refused.to_string().contains("not the primary"), "{refused}");
    other.primary = PRIMARY;
    let refused = rejection(propose(&mut primary, START, Command::FollowPrimary(Box::new(other))));
    assert!(refused.to_string().contains("is the primary"), "{refused}");
    assert_eq!(before, secondary.to_records().skip(1).collect::<Vec<_>>());
    assert_eq!(propose(&mut secondary, START, followed(Table::Ca, begin, ca.to, ca.change.clone())), Outcome::Done);
    let late = rejection(propose(&mut secondary, START, followed(Table::Ca, begin, ca.to, ca.change)));
    assert!(matches!(late, Rejection::Conflict { .. }), "a deposed leader's command: {late}");
}

#[test]
fn an_issuer_for_another_datacenter_is_recorded_once_and_only_under_a_root_that_signs() {
    let mut primary = issuing();
    let issuer = |key: &str, root: &str| RemoteIssuer {
        id: key_id(key),
        datacenter: name("dc2"),
        node: NodeId(1),
        root: key_id(root),
        certificate: der(&format!("issuer {key}")),
        not_before: START,
        not_after: START.plus(DAY * 365),
        created: Revision(0),
    };
    let record = |issuer: &RemoteIssuer| Command::RecordRemoteIssuer(Box::new(issuer.clone()));
    let first = issuer("x", "root 1");
    let refused = rejection(propose(&mut primary, START, record(&first)));
    assert!(refused.to_string().contains("datacenter `dc2` not found"), "{refused}");
    admit_dc2(&mut primary);
    let told = |servers| Command::AnnounceServersOf { datacenter: name("dc2"), cluster: SECONDARY, servers };
    for known in [None, Some(servers(&[2], 3))] {
        if let Some(servers) = known {
            assert_eq!(propose(&mut primary, START, told(servers)), Outcome::Done);
        }
        let of_another = RemoteIssuer { node: NodeId(5), ..first.clone() };
        let refused = rejection(propose(&mut primary, START, record(&of_another))).to_string();
        assert!(refused.contains("server 5 among those that the datacenter `dc2` has told of"), "{refused}");
    }
    let first = RemoteIssuer { node: NodeId(2), ..first };
    let issuer = |key: &str, root: &str| RemoteIssuer { node: NodeId(2), ..issuer(key, root) };
    assert_eq!(propose(&mut primary, START, record(&first)), Outcome::Done);
    let index = primary.remote_issuer(&first.id).unwrap().created;
    assert_eq!(propose(&mut primary, START, record(&first)), Outcome::Done, "an answer that was lost");
    assert_eq!(primary.remote_issuer(&first.id).unwrap().created, index);
    let again = RemoteIssuer { certificate: der("another"), ..first };
    assert!(matches!(rejection(propose(&mut primary, START, record(&again))), Rejection::AlreadyExists { .. }));
    let taken = issuer("issuer a", "root 1");
    assert!(matches!(rejection(propose(&mut primary, START, record(&taken))), Rejection::AlreadyExists { .. }));
    let unknown = issuer("y", "root 9");
    assert!(matches!(rejection(propose(&mut primary, START, record(&unknown))), Rejection::NotFound { .. }));
    rotate_to(&mut primary, "root 2", "issuer 2");
    let retired = issuer("z", "root 1");
    assert!(matches!(rejection(propose(&mut primary, START, record(&retired))), Rejection::WrongPhase { .. }));
    let ended = START.plus(DAY * 366);
    propose(&mut primary, ended, Command::SetHalt { halted: true });
    assert_eq!(primary.remote_issuers().count(), 0, "it is forgotten when it has ended");
    let halted = issuer("w", "root 2");
    assert!(matches!(rejection(propose(&mut primary, ended, record(&halted))), Rejection::Halted));
}

/// A server that asks again and again has its own share.
#[test]
fn a_server_of_another_datacenter_uses_up_its_own_share_of_issuers() {
    let mut primary = issuing();
    admit_dc2(&mut primary);
    let told = Command::AnnounceServersOf { datacenter: name("dc2"), cluster: SECONDARY, servers: servers(&[1, 2], 3) };
    assert_eq!(propose(&mut primary, START, told), Outcome::Done);
    let mut record = |node: u64, number: usize| {
        let key = format!("issuer {number} of {node}");
        let issuer = RemoteIssuer {
            id: key_id(&key),
            datacenter: name("dc2"),
            node: NodeId(node),
            root: key_id("root 1"),
            certificate: der(&key),
            not_before: START,
            not_after: START.plus(DAY * 365),
            created: Revision(0),
        };
        propose(&mut primary, START, Command::RecordRemoteIssuer(Box::new(issuer)))
    };
    for number in 0..REMOTE_ISSUERS_PER_SERVER_MAX {
        assert_eq!(record(1, number), Outcome::Done);
    }
    let refused = rejection(record(1, REMOTE_ISSUERS_PER_SERVER_MAX));
    assert!(matches!(&refused, Rejection::LimitReached { .. }), "{refused}");
    assert_eq!(record(2, 0), Outcome::Done, "the other has its own");
}

fn servers(present: &[u64], next: u64) -> KnownServers {
    KnownServers { present: present.iter().copied().map(NodeId).collect(), next: NodeId(next) }
}

fn join(state: &mut State, of: &str) -> NodeId {
    assert_eq!(propose(state, START, Command::CreateJoinToken(join_token(of, START.plus(HOUR)))), Outcome::Done);
    match propose(state, START, Command::AdmitServer(Box::new(admit(of)))) {
        Outcome::Admitted { node } => node,
        other => panic!("{other:?}"),
    }
}

fn remove(state: &mut State, node: NodeId) {
    assert_eq!(propose(state, START, Command::RequestRemoval { node }), Outcome::Done);
    let expected = state.member(node).unwrap().modified;
    assert_eq!(propose(state, START, Command::RemoveServer { node, expected }), Outcome::Done);
}

#[test]
fn every_datacenter_hears_which_servers_the_others_removed() {
    let (mut primary, mut dc2) = (issuing(), secondary());
    admit_dc2(&mut primary);
    assert_eq!(primary.servers_of(&name("dc2")), None, "it has not told yet");
    follow_all(&primary, &mut dc2);
    assert_eq!(dc2.servers_of(&name("dc1")), Some(&servers(&[1], 2)));
    let node = join(&mut primary, "b");
    remove(&mut primary, node);
    follow_all(&primary, &mut dc2);
    assert_eq!(dc2.servers_of(&name("dc1")), Some(&servers(&[1], 3)));

    let told = |servers| Command::AnnounceServersOf { datacenter: name("dc2"), cluster: SECONDARY, servers };
    let node = join(&mut dc2, "b");
    let before = dc2.own_servers();
    remove(&mut dc2, node);
    assert_eq!((&before, dc2.own_servers()), (&servers(&[1, 2], 3), servers(&[1], 3)));
    for late in [dc2.own_servers(), before] {
        assert_eq!(propose(&mut primary, START, told(late)), Outcome::Done);
        assert_eq!(primary.servers_of(&name("dc2")), Some(&servers(&[1], 3)), "a late word brings nobody back");
    }
    let seen = primary.modified(&WatchKey::Datacenters);
    assert_eq!(propose(&mut primary, START, told(servers(&[1], 3))), Outcome::Done);
    assert_eq!(primary.modified(&WatchKey::Datacenters), seen, "nothing new");
    for (wrong, reason) in [
        (told(servers(&[2, 1], 3)), "ascending"),
        (told(servers(&[1], 1)), "not above"),
        (told(servers(&[1], 4 + SERVERS_AT_ONCE_MAX)), "far above 3, which was told last"),
        (
            Command::AnnounceServersOf { datacenter: name("dc2"), cluster: PRIMARY, servers: servers(&[1], 3) },
            "recorded one has the cluster",
        ),
        (
            Command::AnnounceServersOf { datacenter: name("dc3"), cluster: SECONDARY, servers: servers(&[1], 3) },
            "`dc3` not found",
        ),
    ] {
        let refused = rejection(propose(&mut primary, START, wrong)).to_string();
        assert!(refused.contains(reason), "{refused}");
    }
    let records: Vec<StateRecord> = primary.to_records().collect();
    assert_eq!(records, State::from_records(records.clone()).unwrap().to_records().collect::<Vec<_>>());
    assert_eq!(propose(&mut primary, START, Command::RemoveDatacenter { name: name("dc2") }), Outcome::Done);
    assert_eq!(primary.servers_of(&name("dc2")), None);
}

#[test]
fn a_third_datacenter_hears_of_a_removed_server_through_the_primary() {
    let mut dc2 = secondary();
    let known = |name: &str, cluster: Uuid, servers: Option<KnownServers>| {
        let datacenter =
            Datacenter { name: crate::world::name(name), cluster, is_primary: name == "dc1", ..primary_as_seen() };
        KnownDatacenter { datacenter, servers }
    };
    let heard = |dc2: &mut State, dc3: Option<KnownServers>| {
        let from = dc2.progress(Table::Datacenters).cursor;
        let to = Cursor { revision: Revision(from.revision.0 + 1), ..from };
        let all = vec![known("dc1", PRIMARY, None), known("dc3", Uuid::from_u128(9), dc3)];
        propose(dc2, START, followed(Table::Datacenters, from, to, Change::DatacentersAndServers(all)))
    };
    assert_eq!(heard(&mut dc2, None), Outcome::Done);
    assert_eq!(dc2.servers_of(&name("dc3")), None);
    assert_eq!(heard(&mut dc2, Some(servers(&[2], 4))), Outcome::Done);
    assert_eq!(dc2.servers_of(&name("dc3")), Some(&servers(&[2], 4)));
    assert!(matches!(rejection(heard(&mut dc2, Some(servers(&[4], 4)))), Rejection::Invalid { .. }));
    let from = dc2.progress(Table::Datacenters).cursor;
    let gone = Change::DatacentersAndServers(vec![known("dc1", PRIMARY, None)]);
    assert_eq!(propose(&mut dc2, START, followed(Table::Datacenters, from, from, gone)), Outcome::Done);
    assert_eq!(dc2.servers_of(&name("dc3")), None, "it is gone with its datacenter");
}

#[test]
fn a_secondary_that_does_not_hear_the_primary_knows_how_old_its_tokens_are() {
    let (mut primary, mut secondary) = (issuing(), secondary());
    admit_dc2(&mut primary);
    follow_all(&primary, &mut secondary);
    let local = Token { is_local: true, ..token(4) };
    let make = Command::PutToken { expected: Revision(0), token: local.clone() };
    assert_eq!(propose(&mut secondary, START, make), Outcome::Done);
    let global = secondary.acl().token(accessor(1), START).unwrap().clone();
    let (then, later) = (START.plus(HOUR), START.plus(HOUR * 2));
    assert!(!secondary.is_stale(&global, then, Some(HOUR)), "just within");
    assert!(secondary.is_stale(&global, later, Some(HOUR)));
    assert!(!secondary.is_stale(&global, later, None), "unlimited");
    assert!(!secondary.is_stale(&local, later, Some(HOUR)), "its own");
    assert!(!primary.is_stale(&global, later, Some(HOUR)), "the primary itself");
    let cursor = secondary.progress(Table::Tokens).cursor;
    let heard = followed(Table::Tokens, cursor, cursor, Change::Nothing);
    assert_eq!(propose(&mut secondary, later, heard), Outcome::Done);
    assert!(!secondary.is_stale(&global, later, Some(HOUR)), "the primary was heard again");
}

#[test]
fn a_secondary_that_does_not_hear_the_primary_does_not_know_whether_it_has_halted_it() {
    let (mut primary, mut dc2) = (issuing(), secondary());
    let (then, later) = (START.plus(HOUR), START.plus(HOUR * 2));
    assert!(dc2.is_halt_unknown(START, Some(HOUR)), "it was never heard");
    assert!(!dc2.is_halt_unknown(START, None), "unlimited");
    admit_dc2(&mut primary);
    follow_all(&primary, &mut dc2);
    assert!(!dc2.is_halt_unknown(then, Some(HOUR)), "just within");
    assert!(dc2.is_halt_unknown(later, Some(HOUR)));
    assert!(!dc2.is_halt_unknown(later, None), "unlimited");
    assert!(!primary.is_halt_unknown(later, Some(HOUR)), "the primary itself");
    let hear = |dc2: &mut State, table| {
        let cursor = dc2.progress(table).cursor;
        assert_eq!(propose(dc2, later, followed(table, cursor, cursor, Change::Nothing)), Outcome::Done);
    };
    hear(&mut dc2, Table::Tokens);
    assert!(dc2.is_halt_unknown(later, Some(HOUR)), "another table does not tell of halts");
    hear(&mut dc2, Table::Ca);
    assert!(!dc2.is_halt_unknown(later, Some(HOUR)));
}
