//! Records of a snapshot are not trusted: whatever cannot be is a named error, and what is taken is the same state.

use std::sync::Arc;

use carrack_authority::{
    Command, State,
    acl::Token,
    id::{Digest, NodeId, Revision},
    intention::Action,
    issuance::{BadIssuance, IssuanceRecord},
    root::{Ca, Root, RootPhase},
    state::{BadRecords, StateHead, StateRecord},
};
use proptest::prelude::*;

use crate::world::*;

/// A state with something in every table.
fn full() -> State {
    let mut state = issuing();
    let commands = [
        Command::CreateJoinToken(join_token("b", START.plus(HOUR))),
        Command::AdmitServer(Box::new(admit("b"))),
        Command::CreateJoinToken(join_token("c", START.plus(HOUR))),
        Command::AdmitServer(Box::new(admit("c"))),
        Command::RequestRemoval { node: NodeId(3) },
        Command::RemoveServer { node: NodeId(3), expected: Revision(11) },
        Command::PutPolicy { expected: Revision(0), policy: policy(1) },
        Command::PutToken { expected: Revision(0), token: Token { policies: vec![policy_id(1)], ..token(5) } },
        Command::RequestIssuer(issuer_request(1, "root 1", "issuer 2")),
        put_intention(0, intention("web", "db", Action::Allow)),
        put_intention(0, intention("*", "*", Action::Deny)),
        put_intention(0, intention("web", "gone", Action::Deny)),
        Command::DeleteIntention { destination: party("gone"), source: party("web") },
    ];
    for command in commands {
        propose(&mut state, START, command).accepted().unwrap();
    }
    for number in 0..40 {
        let service = format!("service-{}", number % 7);
        propose(&mut state, START, Command::RecordIssuance(issuance(number, &service, START))).accepted().unwrap();
    }
    state
}

fn records() -> Vec<StateRecord> {
    full().to_records().collect()
}

fn error_of(records: Vec<StateRecord>) -> BadRecords {
    State::from_records(records).map(|state| state.index()).unwrap_err()
}

/// The error after one kind of record was changed, wherever it is.
fn error_after(mut edit: impl FnMut(&mut StateRecord)) -> BadRecords {
    let mut records = records();
    records.iter_mut().for_each(&mut edit);
    error_of(records)
}

fn error_after_issuance(sequence: u64, edit: impl Fn(&mut IssuanceRecord)) -> BadIssuance {
    let error = error_after(|record| match record {
        StateRecord::Issuance(record) if record.sequence == sequence => edit(record),
        _ => {}
    });
    let BadRecords::Issuance(error) = error else { panic!("{error}") };
    error
}

#[test]
fn what_is_restored_is_the_same_and_goes_on_the_same() {
    let mut state = full();
    let mut restored = State::from_records(records()).unwrap();
    assert_eq!(restored.to_records().collect::<Vec<_>>(), records());
    for number in 30..60 {
        let command = Command::RecordIssuance(issuance(number, "service-3", START.plus(HOUR)));
        let outcome = propose(&mut state, START.plus(HOUR), command.clone());
        assert_eq!(outcome, propose(&mut restored, START.plus(HOUR), command));
    }
    for stamp in [START.plus(DAY), START.plus(DAY + HOUR), START.plus(DAY * 400)] {
        propose(&mut state, stamp, Command::SetHalt { halted: false });
        propose(&mut restored, stamp, Command::SetHalt { halted: false });
        assert_eq!(restored.to_records().collect::<Vec<_>>(), state.to_records().collect::<Vec<_>>());
    }
    assert_eq!((state.issuances().unexpired(), state.issuances().current()), (0, 0));
}

#[test]
fn a_state_that_has_not_begun_is_restored() {
    let state = State::default();
    assert_eq!(State::from_records(state.to_records()).unwrap().to_records().count(), 1);
}

#[test]
fn the_head_comes_first_and_once() {
    assert_eq!(error_of(Vec::new()), BadRecords::NoHead);
    assert_eq!(error_of(records().split_off(1)), BadRecords::NoHead);
    let mut twice = records();
    twice.push(twice[0].clone());
    assert_eq!(error_of(twice), BadRecords::SecondHead);
}

#[test]
fn any_record_twice_is_an_error() {
    for place in 1..records().len() {
        let mut doubled = records();
        doubled.push(doubled[place].clone());
        let error = error_of(doubled);
        let is_named = match &error {
            BadRecords::Twice { .. } | BadRecords::Issuance(BadIssuance::OutOfOrder { .. }) => true,
            BadRecords::Contradiction { what, .. } => what.starts_with("root"),
            _ => false,
        };
        assert!(is_named, "{place}: {error}");
    }
}

#[test]
fn counters_at_their_end_are_no_head() {
    let edits: [fn(&mut StateHead); 4] = [
        |head| head.next_node = NodeId(u64::MAX),
        |head| head.mesh_activation = u64::MAX,
        |head| head.server_activation = u64::MAX,
        |head| head.issuance_length = u64::MAX,
    ];
    for edit in edits {
        let error = error_after(|record| {
            if let StateRecord::Head(head) = record {
                edit(head)
            }
        });
        assert!(matches!(error, BadRecords::Contradiction { .. }), "{error}");
    }
}

#[test]
fn an_id_that_could_be_given_again_is_refused() {
    let error = error_after(|record| {
        if let StateRecord::Head(head) = record {
            head.next_node = NodeId(3)
        }
    });
    assert_eq!(error.to_string(), "server 3 cannot be: the next id is 3");
    let error = error_after(|record| {
        if let StateRecord::RemovedMember(removed) = record {
            removed.node = NodeId(2);
        }
    });
    assert_eq!(error.to_string(), "the removed server 2 cannot be: it is a member");
}

#[test]
fn two_active_roots_are_refused() {
    let mut records = records();
    let root = full().roots(Ca::Mesh).active().cloned().unwrap();
    let mut second = Root::clone(&root);
    second.made.id = key_id("x");
    records.push(StateRecord::Root(Ca::Mesh, Arc::new(second)));
    assert!(error_of(records).to_string().ends_with("cannot be: another root is active too"));
    let error = error_after(|record| {
        if let StateRecord::Root(Ca::Mesh, root) = record {
            Arc::make_mut(root).activation = 9;
        }
    });
    assert!(error.to_string().ends_with("cannot be: its activation 9 is after the last one, 1"));
    assert_eq!(root.phase, RootPhase::Active);
}

#[test]
fn records_without_a_datacenter_are_refused() {
    let records: Vec<_> = records().into_iter().filter(|record| !matches!(record, StateRecord::Cluster(_))).collect();
    assert_eq!(error_of(records).to_string(), "a state without a datacenter cannot be: it has records");
}

#[test]
fn a_changed_issuance_breaks_the_chain() {
    let broken = |error| matches!(error, BadIssuance::BrokenChain { .. });
    assert!(broken(error_after_issuance(1, |record| record.issuance.certificate = digest("x"))));
    assert!(broken(error_after_issuance(7, |record| record.issuance.holder = issuance(1, "x", START).holder)));
    assert!(broken(error_after_issuance(7, |record| record.index += 1)));
    assert!(broken(error_after_issuance(7, |record| record.recorded_at = START.plus(HOUR))));
    assert!(broken(error_after_issuance(7, |record| record.hash = Digest([7; 32]))));
    assert!(broken(error_after_issuance(40, |record| record.hash = Digest([7; 32]))));
    let error = error_after(|record| {
        if let StateRecord::Head(head) = record {
            head.issuance_head = Digest([7; 32])
        }
    });
    assert!(matches!(error, BadRecords::Issuance(BadIssuance::BrokenChain { sequence: 40, .. })));
}

#[test]
fn issuances_that_no_log_has_are_named() {
    let error = error_after(|record| {
        if let StateRecord::Head(head) = record {
            head.issuance_length = 39
        }
    });
    assert!(matches!(error, BadRecords::Issuance(_)), "{error}");
    let serial = issuance(0, "x", START).serial;
    let error = error_after_issuance(2, |record| record.issuance.serial = serial);
    assert_eq!(error, BadIssuance::SerialTwice { serial, sequence: 2, former: 1 });
    for (by, sequence) in [(1, 1), (0, 5), (41, 5), (4, 5)] {
        let error = error_after_issuance(sequence, |record| record.superseded_by = Some(by));
        assert_eq!(error, BadIssuance::BadSuccession { sequence, other: by });
    }
    // 34 and 41 would be of the same service: 33 is superseded by 40, and may not be current beside it.
    let error = error_after_issuance(33, |record| record.superseded_by = None);
    assert_eq!(error, BadIssuance::BadSuccession { sequence: 40, other: 33 });
}

proptest! {
    #[test]
    fn records_that_are_lost_doubled_or_moved_never_panic(
        moves in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..3), 1..6),
    ) {
        let mut records = records();
        for (from, to, what) in moves {
            let (from, to) = (from.index(records.len()), to.index(records.len()));
            match what {
                0 => drop(records.remove(from)),
                1 => records.insert(to, records[from].clone()),
                _ => records.swap(from, to),
            }
        }
        if let Ok(state) = State::from_records(records) {
            let again = State::from_records(state.to_records()).unwrap();
            prop_assert_eq!(again.to_records().collect::<Vec<_>>(), state.to_records().collect::<Vec<_>>());
        }
    }
}
