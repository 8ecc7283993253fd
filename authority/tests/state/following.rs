//! How the primary's policies and tokens are followed: from wherever a secondary is, in pages and by changes, and past the local tokens of
//! its own.

use std::collections::BTreeSet;

use carrack_authority::{
    Command, Entry, Outcome, Proposal, State,
    acl::{AccessorId, Policy, Token},
    federation::Table,
    id::{NodeId, Revision},
    intention::{Action, Intention},
    state::StateRecord,
    time::Timestamp,
};
use proptest::prelude::*;
use uuid::Uuid;

use crate::{
    federation::{admit_dc2, expect_equal, follow, follow_all, secondary},
    world::*,
};

#[test]
fn a_fresh_secondary_reads_many_tokens_in_pages_and_goes_on_in_the_middle() {
    let mut primary = issuing();
    for number in 10..1510 {
        propose(&mut primary, START, Command::PutToken { expected: Revision(0), token: token(number) });
    }
    let mut secondary = secondary();
    assert!(follow(&primary, &mut secondary, Table::Tokens));
    let first = secondary.acl().token_count();
    assert!((100..1500).contains(&first), "{first} tokens came at once");
    assert!(secondary.progress(Table::Tokens).cursor.reading.is_some());
    assert_eq!(secondary.progress(Table::Tokens).heard_at, Timestamp::EPOCH, "a part is not all");
    // Meanwhile: one that was read goes, one that was not read goes, one that was read changes.
    let changed = primary.acl().token(accessor(11), START).unwrap().clone();
    for command in [
        Command::DeleteToken { accessor: accessor(10) },
        Command::DeleteToken { accessor: accessor(1509) },
        Command::PutToken {
            expected: changed.modified,
            token: Token { description: "changed".into(), ..Token::clone(&changed) },
        },
    ] {
        assert_eq!(propose(&mut primary, START, command), Outcome::Done);
    }
    assert!(follow(&primary, &mut secondary, Table::Tokens));
    assert!(secondary.acl().token(accessor(10), START).is_none(), "a deletion does not wait for the rest");
    assert_eq!(secondary.acl().token(accessor(11), START).unwrap().description, "changed");
    assert!(secondary.progress(Table::Tokens).cursor.reading.is_some(), "and the reading goes on");
    follow_all(&primary, &mut secondary);
    assert_eq!(secondary.progress(Table::Tokens).heard_at, START);
    expect_equal(&primary, &secondary);
    let cursor = secondary.progress(Table::Tokens).cursor;
    assert_eq!((cursor.reading, cursor.after), (None, None));
}

fn put_token(state: &mut State, token: Token) {
    assert_eq!(propose(state, START, Command::PutToken { expected: Revision(0), token }), Outcome::Done);
}

#[test]
fn a_local_token_stands_before_the_primarys_with_its_accessor_or_secret_until_it_is_gone() {
    let (mut primary, mut secondary) = (issuing(), secondary());
    admit_dc2(&mut primary);
    let same_accessor = Token { is_local: true, secret: digest("another secret"), ..token(5) };
    let same_secret = Token { is_local: true, accessor: accessor(9), ..token(6) };
    for local in [&same_accessor, &same_secret] {
        put_token(&mut secondary, local.clone());
    }
    for number in [5, 6, 7] {
        put_token(&mut primary, token(number));
    }
    follow_all(&primary, &mut secondary);
    let owner = |state: &State, secret: &str| {
        state.acl().token_of_secret(&digest(secret), START).map(|token| (token.accessor, token.is_local))
    };
    assert_eq!(owner(&secondary, "another secret"), Some((accessor(5), true)), "who holds a local token goes on");
    assert_eq!(owner(&secondary, "token 6"), Some((accessor(9), true)));
    assert_eq!(owner(&secondary, "token 5"), None);
    assert_eq!(owner(&secondary, "token 7"), Some((accessor(7), false)));
    let hidden: Vec<_> = secondary.hidden_tokens().map(|token| token.accessor).collect();
    assert_eq!(hidden, [accessor(5), accessor(6)]);
    expect_equal(&primary, &secondary);

    // The primary's changes reach it there; a deletion too, and the local one stays.
    let changed = Token { description: "changed".into(), ..token(5) };
    let expected = primary.acl().token(accessor(5), START).unwrap().modified;
    assert_eq!(propose(&mut primary, START, Command::PutToken { expected, token: changed }), Outcome::Done);
    assert_eq!(propose(&mut primary, START, Command::DeleteToken { accessor: accessor(6) }), Outcome::Done);
    follow_all(&primary, &mut secondary);
    expect_equal(&primary, &secondary);
    assert_eq!(owner(&secondary, "token 6"), Some((accessor(9), true)));

    // The local one is deleted while the primary says nothing.
    assert_eq!(propose(&mut secondary, START, Command::DeleteToken { accessor: accessor(5) }), Outcome::Done);
    assert_eq!(owner(&secondary, "token 5"), Some((accessor(5), false)));
    assert_eq!(secondary.acl().token(accessor(5), START).unwrap().description, "changed");
    assert_eq!(secondary.hidden_tokens().count(), 0);
    expect_equal(&primary, &secondary);
}

#[test]
fn a_hidden_token_comes_when_the_local_one_ends_and_not_after_its_own_end() {
    let (mut primary, mut secondary) = (issuing(), secondary());
    admit_dc2(&mut primary);
    let (soon, late) = (START.plus(HOUR), START.plus(HOUR * 2));
    for number in [5, 6] {
        let secret = digest(&format!("local {number}"));
        put_token(&mut secondary, Token { is_local: true, secret, expires_at: Some(soon), ..token(number) });
    }
    put_token(&mut primary, Token { expires_at: Some(soon), ..token(5) });
    put_token(&mut primary, Token { expires_at: Some(late), ..token(6) });
    follow_all(&primary, &mut secondary);
    assert_eq!(secondary.hidden_tokens().count(), 2);
    propose(&mut secondary, soon, Command::SetHalt { halted: false });
    let here = |number| secondary.acl().token(accessor(number), soon).map(|token| token.is_local);
    assert_eq!((here(5), here(6)), (None, Some(false)));
    assert_eq!(secondary.hidden_tokens().count(), 0);
}

/// The state of a primary that remembers no change before its last entry.
fn forgetful(primary: &State) -> State {
    let index = Revision(primary.index());
    let mut records: Vec<StateRecord> = primary
        .to_records()
        .filter(|record| !matches!(record, StateRecord::Changed(..) | StateRecord::Forgotten(..)))
        .collect();
    records
        .extend([Table::Policies, Table::Tokens, Table::Intentions].map(|table| StateRecord::Forgotten(table, index)));
    State::from_records(records).unwrap()
}

#[derive(Clone, Debug)]
enum Op {
    Token(u128, bool),
    DeleteToken(u128),
    Policy(u128, u8),
    DeletePolicy(u128),
    LocalToken(u128),
    /// Of the secondary, with the accessor id of one of the primary's, or else with its secret.
    LocalLike(u128, bool),
    DeleteLocal(usize),
    LocalOfPrimary(u128),
    Many(u128),
    /// A row, by [`row`]; with an ID that another one may have.
    Intention(u8, bool),
    DeleteIntention(u8),
    DeleteDestination(u8),
    ManyIntentions(u8),
    Follow(usize),
    Forget,
    Restore,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..8_u128, any::<bool>()).prop_map(|(number, is_changed)| Op::Token(number, is_changed)),
        2 => (0..8_u128).prop_map(Op::DeleteToken),
        3 => (0..4_u128, 0..4_u8).prop_map(|(number, name)| Op::Policy(number, name)),
        1 => (0..4_u128).prop_map(Op::DeletePolicy),
        1 => (20..24_u128).prop_map(Op::LocalToken),
        2 => (0..8_u128, any::<bool>()).prop_map(|(number, is_accessor)| Op::LocalLike(number, is_accessor)),
        1 => (0..8_usize).prop_map(Op::DeleteLocal),
        1 => (0..8_u128).prop_map(Op::LocalOfPrimary),
        1 => (0..3_u128).prop_map(Op::Many),
        4 => (0..Table::ALL.len()).prop_map(Op::Follow),
        3 => (0..12_u8, any::<bool>()).prop_map(|(pair, has_id)| Op::Intention(pair, has_id)),
        1 => (0..12_u8).prop_map(Op::DeleteIntention),
        1 => (0..3_u8).prop_map(Op::DeleteDestination),
        1 => (0..3_u8).prop_map(Op::ManyIntentions),
        1 => Just(Op::Forget),
        1 => Just(Op::Restore),
    ]
}

/// Makes a local token, if it is taken: what the secondary knows of the primary's by now may forbid it.
fn make_local(secondary: &mut State, local: &mut BTreeSet<AccessorId>, token: Token) {
    let (token, expected) = (Token { is_local: true, ..token }, Revision(0));
    let accessor = token.accessor;
    if propose(secondary, START, Command::PutToken { expected, token }) == Outcome::Done {
        local.insert(accessor);
    }
}

fn delete_local(secondary: &mut State, local: &mut BTreeSet<AccessorId>, place: usize) {
    let Some(accessor) = local.iter().nth(place).copied() else { return };
    assert_eq!(propose(secondary, START, Command::DeleteToken { accessor }), Outcome::Done);
    local.remove(&accessor);
}

/// One of four sources of one of three destinations, `*` among both.
fn row(pair: u8) -> Intention {
    let (destination, source) =
        (["db", "cache", "*"][usize::from(pair % 3)], ["web", "api", "x", "*"][usize::from(pair / 3)]);
    intention(source, destination, Action::Allow)
}

fn perform(op: Op, primary: &mut State, secondary: &mut State, local: &mut BTreeSet<AccessorId>) {
    match op {
        Op::Token(number, is_changed) => {
            let found = primary.acl().token(accessor(number), START).cloned();
            let expected = found.as_ref().map_or(Revision(0), |found| found.modified);
            let description = if is_changed { format!("at {}", primary.index()) } else { String::new() };
            let is_local = found.is_some_and(|found| found.is_local);
            let token = Token { description, is_local, ..token(number) };
            assert_eq!(propose(primary, START, Command::PutToken { expected, token }), Outcome::Done);
        }
        Op::DeleteToken(number) => {
            propose(primary, START, Command::DeleteToken { accessor: accessor(number) });
        }
        Op::Policy(number, name) => {
            // May be refused: names are unique.
            let expected = primary.acl().policy(policy_id(number)).map_or(Revision(0), |found| found.modified);
            let policy = Policy { name: format!("name-{name}"), ..policy(number) };
            propose(primary, START, Command::PutPolicy { expected, policy });
        }
        Op::DeletePolicy(number) => {
            propose(primary, START, Command::DeletePolicy { policy: policy_id(number) });
        }
        Op::LocalToken(number) => make_local(secondary, local, token(number)),
        Op::LocalLike(number, true) => {
            make_local(secondary, local, Token { secret: digest(&format!("local {number}")), ..token(number) });
        }
        Op::LocalLike(number, false) => {
            make_local(secondary, local, Token { accessor: accessor(30 + number), ..token(number) });
        }
        Op::DeleteLocal(place) => delete_local(secondary, local, place),
        Op::LocalOfPrimary(number) => {
            // May be refused: whether a token is local never changes.
            let token = Token { is_local: true, ..token(number) };
            propose(primary, START, Command::PutToken { expected: Revision(0), token });
        }
        Op::Many(number) => {
            // In one entry, and more than one page.
            let proposals = (0..700).map(|place| {
                let token = token(1000 + number * 700 + place);
                Proposal { proposer: NodeId(1), command: Command::PutToken { expected: Revision(0), token } }
            });
            primary.apply(primary.index() + 1, &Entry { stamp: START, proposals: proposals.collect() });
        }
        Op::Intention(pair, has_id) => {
            let row = row(pair);
            let found = primary.intentions().exact(&row.destination, &row.source);
            let expected = found.map_or(0, |found| found.modified.0);
            // May be refused: few IDs for many.
            let legacy_id = has_id.then(|| Uuid::from_u128((pair % 2).into()));
            let description = format!("at {}", primary.index());
            propose(primary, START, put_intention(expected, Intention { legacy_id, description, ..row }));
        }
        Op::DeleteIntention(pair) => {
            let Intention { destination, source, .. } = row(pair);
            assert_eq!(propose(primary, START, Command::DeleteIntention { destination, source }), Outcome::Done);
        }
        Op::DeleteDestination(number) => {
            let destination = row(number).destination;
            let delete = Command::DeleteServiceIntentions { expected: None, destination };
            assert_eq!(propose(primary, START, delete), Outcome::Done);
        }
        Op::ManyIntentions(number) => {
            let destination = row(number).destination.to_string();
            let rows = (0..700).map(|place| intention(&format!("many-{place}"), &destination, Action::Deny));
            let (destination, intentions) = (party(&destination), rows.collect());
            let put = Command::PutServiceIntentions { expected: None, destination, intentions };
            assert_eq!(propose(primary, START, put), Outcome::Done);
        }
        Op::Follow(table) => {
            follow(primary, secondary, Table::ALL[table]);
        }
        Op::Forget => *primary = forgetful(primary),
        Op::Restore => *secondary = State::from_records(secondary.to_records()).unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_happens_a_secondary_that_catches_up_has_what_the_primary_has(
        ops in proptest::collection::vec(op(), 0..60)
    ) {
        let mut primary = issuing();
        admit_dc2(&mut primary);
        let (mut secondary, mut local) = (secondary(), BTreeSet::new());
        for op in ops {
            perform(op, &mut primary, &mut secondary, &mut local);
        }
        follow_all(&primary, &mut secondary);
        expect_equal(&primary, &secondary);
        for accessor in &local {
            let is_here = secondary.acl().token(*accessor, START).is_some_and(|token| token.is_local);
            prop_assert!(is_here, "the local token {accessor} is gone");
        }
        let records: Vec<StateRecord> = secondary.to_records().collect();
        let again = State::from_records(records.clone()).unwrap();
        prop_assert_eq!(records, again.to_records().collect::<Vec<_>>());
        // Once no local one stands before them, all are here, although the primary says nothing more.
        while !local.is_empty() {
            delete_local(&mut secondary, &mut local, 0);
        }
        expect_equal(&primary, &secondary);
        prop_assert_eq!(secondary.hidden_tokens().count(), 0);
    }
}
