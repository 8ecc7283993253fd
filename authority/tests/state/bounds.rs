//! Everything has a bound, and at the bound a refusal that names it; nobody uses up what is another's.

use std::time::Duration;

use carrack_authority::{
    Command, Entry, Outcome, Proposal, Rejection, State,
    command::Bootstrap,
    federation::SERVER_ROOTS_BYTES_MAX,
    id::{NodeId, Revision},
    issuance::Issuance,
    issuer::{ISSUERS_PER_SERVER_MAX, SignedIssuer},
    key::Der,
    member::{AdmitServer, JOIN_TOKENS_MAX, JoinToken, MEMBERS_MAX, REMOVED_MEMBERS_MAX},
    root::{Ca, NewRoot},
    rotation::{RotationRequest, WantedRoot},
};

use crate::world::*;

fn limit_of(outcome: Outcome) -> (String, u64) {
    match outcome.accepted() {
        Err(Rejection::LimitReached { what, limit }) => (what, limit),
        other => panic!("{other:?}"),
    }
}

fn token(number: usize) -> JoinToken {
    JoinToken { secret: digest(&format!("join {number}")), ..join_token(&format!("s{number}"), START.plus(HOUR)) }
}

fn server(number: usize) -> AdmitServer {
    AdmitServer { secret: digest(&format!("join {number}")), ..admit(&format!("s{number}")) }
}

fn join(state: &mut State, number: usize) -> NodeId {
    propose(state, START, Command::CreateJoinToken(token(number))).accepted().unwrap();
    match propose(state, START, Command::AdmitServer(Box::new(server(number)))) {
        Outcome::Admitted { node } => node,
        other => panic!("{other:?}"),
    }
}

fn remove(state: &mut State, node: NodeId) {
    propose(state, START, Command::RequestRemoval { node }).accepted().unwrap();
    let expected = state.member(node).unwrap().modified;
    propose(state, START, Command::RemoveServer { node, expected }).accepted().unwrap();
}

#[test]
fn unused_join_tokens_are_bounded_and_used_ones_give_way() {
    let mut state = issuing();
    for number in 0..100 {
        let node = join(&mut state, number);
        remove(&mut state, node);
    }
    for number in 100..100 + JOIN_TOKENS_MAX {
        propose(&mut state, START, Command::CreateJoinToken(token(number))).accepted().unwrap();
    }
    let refused = propose(&mut state, START, Command::CreateJoinToken(token(999)));
    assert_eq!(limit_of(refused), ("unused join tokens".into(), JOIN_TOKENS_MAX as u64));
    let kept = (0..1000).filter(|number| state.join_token(&token(*number).secret).is_some()).count();
    assert_eq!(kept, 2 * JOIN_TOKENS_MAX);
}

#[test]
fn servers_are_bounded() {
    let mut state = issuing();
    for number in 1..MEMBERS_MAX {
        join(&mut state, number);
    }
    propose(&mut state, START, Command::CreateJoinToken(token(99))).accepted().unwrap();
    let refused = propose(&mut state, START, Command::AdmitServer(Box::new(server(99))));
    assert_eq!(limit_of(refused), ("servers".into(), MEMBERS_MAX as u64));
}

#[test]
fn the_oldest_removed_servers_are_forgotten_but_their_ids_are_not_given_again() {
    let mut state = issuing();
    for number in 0..=REMOVED_MEMBERS_MAX {
        let node = join(&mut state, number);
        assert_eq!(node, NodeId(number as u64 + 2));
        remove(&mut state, node);
    }
    assert_eq!(state.removed_members().count(), REMOVED_MEMBERS_MAX);
    assert!(state.removed_member(NodeId(2)).is_none() && state.removed_member(NodeId(3)).is_some());
    assert_eq!(join(&mut state, REMOVED_MEMBERS_MAX + 1), NodeId(REMOVED_MEMBERS_MAX as u64 + 3));
}

#[test]
fn the_roots_of_the_server_ca_are_never_more_than_other_datacenters_take() {
    let root = |of: &str, bytes: usize| NewRoot {
        certificate: Der::from(vec![7; bytes]),
        ..new_root(of, START.minus(HOUR), Some(sealed(&[(1, "a")])))
    };
    let limit = ("bytes of the roots of a datacenter's server CA".to_owned(), SERVER_ROOTS_BYTES_MAX as u64);
    let begin = Bootstrap { server_root: root("server root", SERVER_ROOTS_BYTES_MAX + 1), ..bootstrap() };
    let refused = propose(&mut State::default(), START, Command::Bootstrap(Box::new(begin)));
    assert_eq!(limit_of(refused), limit);

    let mut state = issuing();
    let first: usize = state.roots(Ca::Server).bundle().iter().map(|root| root.made.certificate.as_bytes().len()).sum();
    let room = SERVER_ROOTS_BYTES_MAX - first;
    let publish = |ca: Ca, root: NewRoot| Command::PublishRoot { ca, root };
    let refused = propose(&mut state, START, publish(Ca::Server, root("server root 2", room + 1)));
    assert_eq!(limit_of(refused), limit);
    let wanted = WantedRoot::Supplied(Box::new(root("root 2", room + 1)));
    let rotation = Command::StartRotation(Box::new(RotationRequest { wanted, ..rotation_from("root 1") }));
    assert_eq!(propose(&mut state, START, rotation), Outcome::Done, "it stays here");
    assert_eq!(propose(&mut state, START, publish(Ca::Server, root("server root 2", room))), Outcome::Done);
}

#[test]
fn a_server_that_always_asks_for_issuers_uses_up_its_own_share() {
    let mut state = issuing();
    let other = join(&mut state, 1);
    for number in 1..ISSUERS_PER_SERVER_MAX {
        let request = issuer_request(1, "root 1", &format!("issuer {number}"));
        propose(&mut state, START, Command::RequestIssuer(request)).accepted().unwrap();
        let certificate = der(&format!("certificate {number}"));
        let signed = SignedIssuer { certificate, ..signed_issuer(1, state.index(), START) };
        propose(&mut state, START, Command::RecordIssuer(signed)).accepted().unwrap();
    }
    let again = propose(&mut state, START, Command::RequestIssuer(issuer_request(1, "root 1", "one more")));
    assert_eq!(limit_of(again), ("unexpired issuers of a server".into(), ISSUERS_PER_SERVER_MAX as u64));
    let request = Command::RequestIssuer(issuer_request(other.0, "root 1", "other"));
    let entry = Entry { stamp: START, proposals: vec![Proposal { proposer: other, command: request }] };
    assert_eq!(state.apply(state.index() + 1, &entry).outcomes, [Outcome::Done]);
}

/// A herd that ends at once is forgotten over several entries, each as fast as the next; nothing takes part meanwhile.
#[test]
fn a_herd_of_leaves_that_ends_at_once_does_not_stall_one_entry() {
    let mut state = issuing();
    let record = |number: u64| Command::RecordIssuance(issuance(number, &format!("service-{}", number % 10), START));
    let proposals = (0..10_000).map(|number| Proposal { proposer: NodeId(1), command: record(number) }).collect();
    state.apply(state.index() + 1, &Entry { stamp: START, proposals });
    assert_eq!(state.issuances().unexpired(), 10_000);
    let end = START.plus(DAY + Duration::from_secs(1));
    let mut left = Vec::new();
    while state.issuances().unexpired() > 0 {
        let before = state.clone();
        state.apply(state.index() + 1, &Entry { stamp: end, proposals: Vec::new() });
        left.push(state.issuances().unexpired());
        assert!(before.issuances().unexpired() > state.issuances().unexpired(), "an older view is as it was");
    }
    assert!(left.len() == 3 && left[0] > 5000, "{left:?}");
    assert_eq!((state.issuances().length(), state.issuances().current()), (10_000, 0));
    let again = Issuance { deadline: end, ..issuance(1, "web", START) };
    assert!(matches!(propose(&mut state, end, Command::RecordIssuance(again)), Outcome::Rejected(_)));
}

/// The same for tokens: those that have ended allow nothing, before they are forgotten too.
#[test]
fn a_herd_of_tokens_that_ends_at_once_allows_nothing_before_it_is_forgotten() {
    let mut state = issuing();
    let end = START.plus(HOUR);
    let put = |number: u128| {
        let token = carrack_authority::acl::Token {
            policies: management_token().policies,
            expires_at: Some(end),
            ..crate::world::token(number)
        };
        Proposal { proposer: NodeId(1), command: Command::PutToken { expected: Revision(0), token } }
    };
    state.apply(state.index() + 1, &Entry { stamp: START, proposals: (10..10_010).map(put).collect() });
    let leaf = |number: u64| {
        let grant = carrack_authority::issuance::Grant::Token(accessor(u128::from(number)));
        Command::RecordIssuance(Issuance { grant: grant.into(), ..issuance(number, "web", end) })
    };
    let proposals = (10..10_010).map(|number| Proposal { proposer: NodeId(1), command: leaf(number) }).collect();
    let applied = state.apply(state.index() + 1, &Entry { stamp: end, proposals });
    assert!(
        applied.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Rejected(Rejection::GrantRefused { .. })))
    );
    assert!(state.acl().token_count() > 5000);
    (0..2).for_each(|_| drop(propose(&mut state, end, Command::SetHalt { halted: false })));
    assert_eq!(state.acl().token_count(), 1);
}
