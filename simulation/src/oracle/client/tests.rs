//! Tests of `oracle::client`.

use super::*;
use crate::oracle::{
    correct_register::{Event, Shape, key, run},
    history::History,
    linearizability::tests::with_a_stale_read,
};

const DONE: Outcome = Outcome::Ok(Answer::Done { revision: None });
const ABSENT: Outcome = Outcome::Ok(Answer::Read(None));

fn found(value: u64) -> Outcome {
    Outcome::Ok(Answer::Read(Some(Observed { value: Value(value), revision: None })))
}

fn found_at(value: u64, revision: u64) -> Outcome {
    Outcome::Ok(Answer::Read(Some(Observed { value: Value(value), revision: Some(Revision(revision)) })))
}

fn write(value: u64) -> Action {
    Action::Write(Value(value))
}

fn replace(expected: u64, new: u64) -> Action {
    Action::CompareAndSet { expected: Expected::Value(Value(expected)), new: Value(new) }
}

/// A client, what it asks, and how that ends.
type Step = (&'static str, Action, Outcome);

/// Tells one operation after the other; the anomaly of the last one, and none before it.
fn last_of(steps: &[Step]) -> Option<Anomaly> {
    let (mut history, mut oracle) = (History::default(), ClientOracle::default());
    let mut last = None;
    for (position, (client, action, outcome)) in steps.iter().enumerate() {
        assert_eq!(last, None, "before step {position}");
        let begun = history.begin(&(*client).into(), &key(), *action, position as u64 * 10);
        last = oracle.begin(&begun).err();
        let operation = history.finish(begun.id, *outcome, position as u64 * 10 + 5).unwrap();
        last = last.or(oracle.finish(&operation).err());
    }
    last.map(|violation| violation.anomaly)
}

#[test]
fn each_anomaly_is_shown_by_the_operation_that_proves_it() {
    let read = Action::Read;
    let cases: &[(Anomaly, &[Step])] = &[
        (Anomaly::Phantom, &[("a", write(1), DONE), ("a", read, found(9))]),
        (Anomaly::Phantom, &[("a", Action::StaleRead, found(9))]),
        (Anomaly::RefusedEffect, &[("a", write(1), Outcome::Refused), ("b", read, found(1))]),
        (Anomaly::LostAcknowledgedWrite, &[("a", write(1), DONE), ("b", read, ABSENT)]),
        (Anomaly::LostAcknowledgedWrite, &[("a", write(1), DONE), ("a", write(2), DONE), ("b", read, found(1))]),
        (Anomaly::LostAcknowledgedWrite, &[("a", write(1), DONE), ("a", write(2), DONE), ("b", replace(1, 3), DONE)]),
        (Anomaly::LostObservedWrite, &[("a", write(1), Outcome::Unknown), ("b", read, found(1)), ("c", read, ABSENT)]),
        (Anomaly::ResurrectedDelete, &[("a", write(1), DONE), ("a", Action::Delete, DONE), ("b", read, found(1))]),
        (Anomaly::BackwardRead, &[("a", write(1), Outcome::Unknown), ("b", read, found(1)), ("b", read, ABSENT)]),
        (
            Anomaly::BackwardRead,
            &[
                ("a", write(1), Outcome::Unknown),
                ("a", write(2), Outcome::Unknown),
                ("b", read, found_at(2, 9)),
                ("b", read, found_at(1, 8)),
            ],
        ),
        (Anomaly::TwoWinners, &[("a", write(1), DONE), ("a", replace(1, 2), DONE), ("b", replace(1, 3), DONE)]),
        (Anomaly::RevisionChanged, &[("a", write(1), DONE), ("b", read, found_at(1, 7)), ("b", read, found_at(1, 8))]),
        (Anomaly::ValueWrittenTwice, &[("a", write(1), DONE), ("b", write(1), DONE)]),
    ];
    for (anomaly, steps) in cases {
        assert_eq!(last_of(steps), Some(*anomaly), "{steps:?}");
    }
}

#[test]
fn what_can_have_happened_is_no_anomaly() {
    let read = Action::Read;
    let unknown = Outcome::Unknown;
    let cases: &[&[Step]] = &[
        &[("a", write(1), unknown), ("a", write(2), DONE), ("b", read, found(2)), ("b", read, found(1))],
        &[("a", write(1), DONE), ("a", Action::Delete, unknown), ("b", read, found(1)), ("b", read, ABSENT)],
        &[("a", write(1), DONE), ("a", write(2), DONE), ("b", Action::StaleRead, found(1))],
        &[("a", write(1), DONE), ("a", Action::Delete, DONE), ("b", read, ABSENT), ("b", write(2), DONE)],
        &[("a", write(1), Outcome::Refused), ("b", read, ABSENT)],
        &[("a", write(1), DONE), ("b", replace(1, 2), Outcome::Ok(Answer::Conflict)), ("b", read, found(1))],
    ];
    for steps in cases {
        assert_eq!(last_of(steps), None, "{steps:?}");
    }
}

#[test]
fn a_write_that_was_found_and_then_refused_is_an_anomaly() {
    let (mut history, mut oracle) = (History::default(), ClientOracle::default());
    let writing = history.begin(&"a".into(), &key(), write(1), 0);
    oracle.begin(&writing).unwrap();
    let reading = history.begin(&"b".into(), &key(), Action::Read, 1);
    oracle.begin(&reading).unwrap();
    oracle.finish(&history.finish(reading.id, found(1), 2).unwrap()).unwrap();
    let violation = oracle.finish(&history.finish(writing.id, Outcome::Refused, 3).unwrap()).unwrap_err();
    assert_eq!(violation.anomaly, Anomaly::RefusedEffect);
    assert!(violation.to_string().contains("b: read of register: v1"), "{violation}");
}

fn first_violation(events: &[Event]) -> Option<Violation> {
    let mut oracle = ClientOracle::default();
    events.iter().find_map(|event| match event {
        Event::Begin(begun) => oracle.begin(begun).err(),
        Event::End(operation) => oracle.finish(operation).err(),
    })
}

#[test]
fn a_correct_register_shows_no_anomaly_and_a_read_of_a_replaced_value_is_one() {
    let mut changed_count = 0;
    for seed in 0..300_u64 {
        let shape = Shape {
            clients: 1 + usize::try_from(seed % 12).unwrap(),
            operations: 300,
            unknown_percent: [0, 10, 30][usize::try_from(seed / 4 % 3).unwrap()],
            has_compare_and_set: seed.is_multiple_of(2),
            has_revisions: (seed / 2).is_multiple_of(2),
        };
        let events = run(seed, shape);
        assert_eq!(first_violation(&events), None, "{seed}");
        let Some(changed) = with_a_stale_read(&events) else { continue };
        changed_count += 1;
        assert!(first_violation(&changed).is_some(), "{seed}");
    }
    assert!(changed_count > 280, "{changed_count}");
}
