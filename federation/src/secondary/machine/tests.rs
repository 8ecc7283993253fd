//! Tests of the machine: what it does about each input, and that nothing but a recorded answer is success.

use carrack_authority::{
    Entry, Outcome, Proposal,
    ca_config::CaConfig,
    federation::{CaTable, Cursor, KnownServers},
    id::{Digest, FeatureLevel, KeyId, StoreId},
    issuer::IssuerRequest,
    key::KeyKind,
    member::{Addresses, AdmitServer, JoinToken},
    root::{Root, RootPhase},
};
use uuid::Uuid;

use super::*;
use crate::testing::{START, bootstrap, der, name, new_root};

const ROOT: KeyId = KeyId([1; 20]);

fn propose(state: &mut State, command: Command) {
    let entry = Entry { stamp: START, proposals: vec![Proposal { proposer: NodeId(1), command }] };
    assert_eq!(state.apply(state.index() + 1, &entry).outcomes, [Outcome::Done]);
}

/// A secondary of one server.
fn secondary() -> State {
    let primary = Datacenter {
        name: name("dc1"),
        cluster: Uuid::from_u128(7),
        server_roots: vec![der("server root 1")],
        wan_addresses: vec!["a:8302".into()],
        is_primary: true,
        joined_at: START,
        created: Revision(0),
        modified: Revision(0),
    };
    let mut state = State::default();
    let begin = Command::BootstrapSecondary { bootstrap: Box::new(bootstrap("dc2", 8)), primary: Box::new(primary) };
    propose(&mut state, begin);
    state
}

fn ca(revision: u64) -> Heard {
    let root = Root {
        made: new_root("root", ROOT),
        phase: RootPhase::Active,
        activation: 1,
        bridge: None,
        phase_since: START,
        created: Revision(0),
        modified: Revision(0),
    };
    let trust_domain = "example.org".parse().expect("a trust domain");
    let table = CaTable { trust_domain, config: CaConfig::default(), roots: vec![root], activation: 1 };
    let to = Cursor { revision: Revision(revision), ..Cursor::default() };
    Heard { change: Change::Ca(Box::new(table)), to, is_all: true, primary_revision: Revision(revision) }
}

fn alive(revision: u64) -> Heard {
    let to = Cursor { revision: Revision(revision), ..Cursor::default() };
    Heard { change: Change::Nothing, to, is_all: true, primary_revision: Revision(revision) }
}

fn opened(verdict: &Verdict) -> Vec<Table> {
    let tables = verdict.actions.iter().filter_map(|action| match action {
        Action::Open(table) => Some(*table),
        _ => None,
    });
    tables.collect()
}

fn told(verdict: &Verdict) -> Option<Announcement> {
    verdict.actions.iter().find_map(|action| match action {
        Action::Announce(told) => Some(told.clone()),
        _ => None,
    })
}

fn take(machine: &mut Machine, state: &State, now: Instant, input: Input) -> Vec<Action> {
    machine.take(state, START, now, input).actions
}

#[tokio::test(start_paused = true)]
async fn every_table_is_followed_and_what_is_heard_goes_into_the_log_before_more_is_read() {
    let (mut machine, mut state, now) = (Machine::default(), secondary(), Instant::now());
    assert_eq!(opened(&machine.look(&state, now)), Table::ALL);
    assert_eq!(opened(&machine.look(&state, now)), [], "they are being opened");
    let actions = take(&mut machine, &state, now, Input::Heard(Table::Ca, ca(5)));
    let [Action::Follow(Table::Ca, command)] = actions.as_slice() else { panic!("{actions:?}") };
    propose(&mut state, command.clone());
    assert_eq!(state.roots(carrack_authority::root::Ca::Mesh).bundle().len(), 1);
    let actions = take(&mut machine, &state, now, Input::Followed(Table::Ca, Ok(())));
    assert_eq!(actions, [Action::Continue(Table::Ca)]);
    let actions = take(&mut machine, &state, now, Input::Heard(Table::Ca, alive(5)));
    assert_eq!(actions, [Action::Continue(Table::Ca)], "nothing new");
    assert_eq!(machine.status().streams[&Table::Ca].primary_revision, Revision(5));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_is_silent_or_brings_what_is_refused_is_opened_again_later() {
    let (mut machine, state, now) = (Machine::default(), secondary(), Instant::now());
    machine.look(&state, now);
    for (at, pause) in [(0, 500), (500, 1000), (1500, 2000), (3500, 4000), (7500, 8000), (15_500, 15_000)] {
        let now = now + Duration::from_millis(at);
        let verdict = machine.take(&state, START, now, Input::Ended(Table::Tokens, "cut".into()));
        assert_eq!(opened(&verdict), [], "at {at} ms");
        assert_eq!(machine.status().streams[&Table::Tokens].trouble.as_deref(), Some("cut"));
        let due = now + Duration::from_millis(pause);
        assert!(verdict.wake_at.is_some_and(|wake| wake <= due));
        for table in [
            Table::Ca,
            Table::Datacenters,
            Table::Policies,
            Table::Intentions,
            Table::Revocations,
            Table::RevokedIssuers,
        ] {
            machine.take(&state, START, now, Input::Heard(table, alive(1)));
        }
        assert_eq!(opened(&machine.look(&state, due - Duration::from_millis(1))), [], "before the pause is over");
        assert_eq!(opened(&machine.look(&state, due)), [Table::Tokens]);
    }
    let late = now + Duration::from_secs(100);
    let verdict = machine.look(&state, late);
    assert!(verdict.actions.contains(&Action::Close(Table::Tokens)), "nothing was heard: {verdict:?}");
    assert!(verdict.actions.contains(&Action::Distrust(Table::Tokens)), "another server is asked next: {verdict:?}");
    let late = late + PAUSE_MAX;
    assert!(opened(&machine.look(&state, late)).contains(&Table::Tokens));
    let refused = Input::Followed(Table::Tokens, Err("too many".into()));
    let actions = take(&mut machine, &state, late, refused);
    assert!(actions.contains(&Action::Close(Table::Tokens)) && !actions.contains(&Action::Continue(Table::Tokens)));
    assert_eq!(machine.status().streams[&Table::Tokens].trouble.as_deref(), Some("too many"));
}

#[tokio::test(start_paused = true)]
async fn that_the_primary_was_heard_is_written_now_and_then() {
    let (mut machine, mut state, now) = (Machine::default(), secondary(), Instant::now());
    machine.look(&state, now);
    let actions = take(&mut machine, &state, now, Input::Heard(Table::Policies, alive(0)));
    let [Action::Follow(Table::Policies, command)] = actions.as_slice() else { panic!("the first time: {actions:?}") };
    propose(&mut state, command.clone());
    assert_eq!(state.progress(Table::Policies).heard_at, START);
    let actions = take(&mut machine, &state, now, Input::Heard(Table::Policies, alive(0)));
    assert_eq!(actions, [Action::Continue(Table::Policies)]);
    let later = Entry { stamp: START.plus(HEARD_EVERY), proposals: Vec::new() };
    state.apply(state.index() + 1, &later);
    let actions = take(&mut machine, &state, now, Input::Heard(Table::Policies, alive(0)));
    assert!(matches!(actions.as_slice(), [Action::Follow(Table::Policies, _)]), "{actions:?}");
}

/// The state of a secondary whose server waits for an issuer.
fn waiting() -> State {
    let mut state = secondary();
    let mut machine = Machine::default();
    machine.look(&state, Instant::now());
    let actions = take(&mut machine, &state, Instant::now(), Input::Heard(Table::Ca, ca(5)));
    let [Action::Follow(_, command)] = actions.as_slice() else { panic!("{actions:?}") };
    propose(&mut state, command.clone());
    let request = IssuerRequest {
        node: NodeId(1),
        root: ROOT,
        csr: der("csr"),
        key: KeyId([9; 20]),
        key_kind: KeyKind::EcP256,
        revision: Revision(0),
    };
    propose(&mut state, Command::RequestIssuer(request));
    state
}

fn asks(actions: &[Action]) -> Option<Revision> {
    actions.iter().find_map(|action| match action {
        Action::Sign(revision, asked) => {
            assert_eq!((asked.node, asked.root, &asked.csr), (NodeId(1), ROOT, &der("csr")));
            Some(*revision)
        }
        _ => None,
    })
}

#[tokio::test(start_paused = true)]
async fn a_refusal_a_timeout_and_a_wrong_answer_leave_the_request_open_and_show() {
    let (mut machine, state, mut now) = (Machine::default(), waiting(), Instant::now());
    let revision = state.issuer_requests().next().expect("a request").revision;
    let verdict = machine.look(&state, now);
    assert_eq!(asks(&verdict.actions), None, "the primary signs for servers that it was told of");
    let untold = told(&verdict).expect("it is being told");
    let unreachable = WanError::Unreachable { datacenter: name("dc1"), reason: "cut".into() };
    let actions = take(&mut machine, &state, now, Input::Announced(untold, Err(unreachable)));
    assert_eq!(asks(&actions), Some(revision), "it may have been told before");
    assert_eq!(asks(&machine.look(&state, now).actions), None, "it is under way");
    let dc1 = || name("dc1");
    let answers = [
        (Err(WanError::Refused { datacenter: dc1(), reason: "rate".into() }), "refuses: rate"),
        (Err(WanError::Unreachable { datacenter: dc1(), reason: "timeout".into() }), "cannot be reached: timeout"),
        (Ok(der("no certificate")), "the own request cannot be read"),
    ];
    for (answer, shown) in answers {
        let actions = take(&mut machine, &state, now, Input::Signed(NodeId(1), revision, answer));
        assert!(!actions.iter().any(|action| matches!(action, Action::Record(..))), "{actions:?}");
        assert_eq!(asks(&actions), None, "not at once");
        let trouble = &machine.status().unsigned[&NodeId(1)];
        assert!(trouble.contains(shown), "{trouble}");
        now += PAUSE_MAX;
        let verdict = machine.look(&state, now);
        let actions = match told(&verdict) {
            Some(told) => take(&mut machine, &state, now, Input::Announced(told, Ok(()))),
            None => verdict.actions,
        };
        assert_eq!(asks(&actions), Some(revision), "but again");
    }
    let actions = take(&mut machine, &state, now, Input::Recorded(NodeId(1), Err("conflict".into())));
    assert_eq!(asks(&actions), None);
    assert_eq!(machine.status().unsigned[&NodeId(1)], "conflict");
}

#[tokio::test(start_paused = true)]
async fn where_this_datacenter_is_and_how_its_servers_are_known_is_told_once_and_after_each_change() {
    let (mut machine, mut state, now) = (Machine::default(), secondary(), Instant::now());
    let first = told(&machine.look(&state, now)).expect("at the beginning");
    let facts = &first.facts;
    assert_eq!((facts.name.as_str(), facts.wan_addresses.as_slice()), ("dc2", ["x:8302".to_owned()].as_slice()));
    let unreachable = WanError::Unreachable { datacenter: name("dc1"), reason: "cut".into() };
    machine.take(&state, START, now, Input::Announced(first.clone(), Err(unreachable)));
    assert!(machine.status().unannounced.is_some());
    let later = now + PAUSE_MAX;
    assert_eq!(told(&machine.look(&state, later)), Some(first.clone()));
    machine.take(&state, START, later, Input::Announced(first, Ok(())));
    assert_eq!((told(&machine.look(&state, later)), machine.status().unannounced.clone()), (None, None));
    let addresses = Addresses { raft: "x:8300".into(), grpc: "x:8503".into(), wan: Some("y:8302".into()) };
    let announce = Command::AnnounceServer { node: NodeId(1), addresses, supports: FeatureLevel(1) };
    propose(&mut state, announce);
    let changed = told(&machine.look(&state, later)).expect("after a change");
    assert_eq!(changed.facts.wan_addresses, ["y:8302"]);
    let verdict = machine.take(&state, START, later, Input::Announced(changed.clone(), Ok(())));
    assert!(verdict.wake_at.is_some_and(|wake| wake <= later + TOLD_EVERY));
    let again = told(&machine.look(&state, later + TOLD_EVERY));
    assert_eq!(again, Some(changed), "what a deposed leader said may have come later");
}

/// Another server joins and is asked to leave, until the leader has taken it out of the membership.
fn admit_server(state: &mut State) -> NodeId {
    let (secret, public_key, expires_at) = (Digest([5; 32]), Digest([6; 32]), START.plus(Duration::from_secs(3600)));
    let token = JoinToken { secret, node_name: name("y"), expires_at, consumed: None, created: Revision(0) };
    propose(state, Command::CreateJoinToken(token));
    let server = AdmitServer {
        secret,
        name: name("y"),
        store: StoreId([7; 16]),
        addresses: Addresses { raft: "y:8300".into(), grpc: "y:8503".into(), wan: None },
        sealing_recipient: "age1y".into(),
        supports: FeatureLevel(1),
        csr: der("csr"),
        public_key,
    };
    let proposals = vec![Proposal { proposer: NodeId(1), command: Command::AdmitServer(Box::new(server)) }];
    match state.apply(state.index() + 1, &Entry { stamp: START, proposals }).outcomes.as_slice() {
        [Outcome::Admitted { node }] => *node,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_server_is_told_of_at_once() {
    let (mut machine, mut state, now) = (Machine::default(), secondary(), Instant::now());
    let mut servers_told = |state: &State| {
        let told = told(&machine.look(state, now))?;
        machine.take(state, START, now, Input::Announced(told.clone(), Ok(())));
        Some(told.servers)
    };
    let servers = |present: &[u64], next| KnownServers {
        present: present.iter().copied().map(NodeId).collect(),
        next: NodeId(next),
    };
    assert_eq!(servers_told(&state), Some(servers(&[1], 2)));
    let node = admit_server(&mut state);
    assert_eq!(servers_told(&state), Some(servers(&[1, 2], 3)));
    propose(&mut state, Command::RequestRemoval { node });
    assert_eq!(servers_told(&state), None, "it is there until it is out of the membership");
    let expected = state.member(node).expect("it is leaving").modified;
    propose(&mut state, Command::RemoveServer { node, expected });
    assert_eq!(servers_told(&state), Some(servers(&[1], 3)));
}

#[test]
fn a_primary_has_nothing_to_follow() {
    let state = State::default();
    assert_eq!(Machine::default().look(&state, Instant::now()), Verdict::default());
}

fn stood(verdict: &Verdict) -> Option<Standing> {
    verdict.actions.iter().find_map(|action| match action {
        Action::Stand(standing) => Some(standing.clone()),
        _ => None,
    })
}

#[tokio::test(start_paused = true)]
async fn where_it_is_with_the_roots_is_told_at_once_when_others_wait_for_it_and_as_a_sign_of_life() {
    let (mut machine, mut state, now) = (Machine::default(), secondary(), Instant::now());
    let first = stood(&machine.look(&state, now)).expect("at the beginning");
    assert!(first.roots.is_empty() && first.activation == 0);
    let unreachable = WanError::Unreachable { datacenter: name("dc1"), reason: "cut".into() };
    machine.take(&state, START, now, Input::Stood(first.clone(), Err(unreachable)));
    assert!(machine.status().unstood.is_some());
    let later = now + PAUSE_MAX;
    assert_eq!(stood(&machine.look(&state, later)), Some(first.clone()), "again");
    assert_eq!(stood(&machine.look(&state, later)), None, "it is under way");
    machine.take(&state, START, later, Input::Stood(first.clone(), Ok(())));
    assert_eq!((stood(&machine.look(&state, later)), machine.status().unstood.clone()), (None, None));
    assert_eq!(stood(&machine.look(&state, later + STANDING_TOLD_EVERY)), Some(first.clone()), "a sign of life");
    machine.take(&state, START, later, Input::Stood(first, Ok(())));

    let Heard { change, to, is_all, .. } = ca(5);
    let (primary, from) = (Uuid::from_u128(7), Cursor::default());
    let heard = Followed { primary, table: Table::Ca, from, to, change, is_all };
    propose(&mut state, Command::FollowPrimary(Box::new(heard)));
    let changed = stood(&machine.look(&state, later)).expect("a root has come");
    assert_eq!((changed.activation, changed.roots.len()), (1, 1));
    assert!(!changed.roots[0].is_acknowledged && !changed.roots[0].has_issuers);
    machine.take(&state, START, later, Input::Stood(changed.clone(), Ok(())));
    machine.see_absent(BTreeSet::from([NodeId(1)]));
    let without = stood(&machine.look(&state, later)).expect("its only server is away");
    assert_eq!((without.absent, without.roots[0].is_acknowledged), (1, true), "nobody is waited for");
}
