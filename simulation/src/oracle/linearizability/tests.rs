//! Tests of `oracle::linearizability`.

use super::*;
use crate::oracle::{
    correct_register::{Event, Shape, key, operations, run},
    history::{Action, Answer, Begun, Expected, Observed, Revision},
};

/// Operations of one register by hand.
#[derive(Default)]
struct Story(History);

impl Story {
    fn begin(&mut self, client: &str, action: Action, at: u64) -> Begun {
        self.0.begin(&client.into(), &key(), action, at)
    }

    fn end(&mut self, begun: &Begun, outcome: Outcome, at: u64) {
        self.0.finish(begun.id, outcome, at).unwrap();
    }

    /// An operation that nothing else overlaps.
    fn then(&mut self, client: &str, action: Action, outcome: Outcome) -> &mut Self {
        let at = self.0.count() as u64 * 10;
        let begun = self.begin(client, action, at);
        self.end(&begun, outcome, at + 5);
        self
    }

    fn check(&self) -> Result<(), Failure> {
        check(&self.0)
    }
}

const DONE: Outcome = Outcome::Ok(Answer::Done { revision: None });
const CONFLICT: Outcome = Outcome::Ok(Answer::Conflict);
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

fn explanation(story: &Story) -> Explanation {
    match story.check() {
        Err(Failure::NotLinearizable(explanation)) => *explanation,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_operation_after_the_other_passes() {
    let mut story = Story::default();
    story.then("a", Action::Read, ABSENT).then("a", write(1), DONE).then("b", Action::Read, found(1));
    story.then("b", replace(1, 2), DONE).then("a", replace(1, 3), CONFLICT).then("a", Action::Read, found(2));
    story.then("b", Action::Delete, DONE).then("a", Action::Read, ABSENT).then("a", Action::Delete, DONE);
    let create = Action::CompareAndSet { expected: Expected::Absent, new: Value(4) };
    story.then("a", create, DONE).then("b", Action::Read, found(4));
    assert_eq!(story.check(), Ok(()));
}

#[test]
fn a_stale_read_is_explained_by_the_longest_order_and_what_could_not_follow() {
    let mut story = Story::default();
    story.then("a", write(1), DONE).then("a", write(2), DONE).then("b", Action::Read, found(1));
    let explanation = explanation(&story);
    assert_eq!((explanation.prefix.len(), explanation.register), (2, Some(Value(2))));
    assert_eq!(explanation.stuck.len(), 1);
    let text = explanation.to_string();
    assert!(text.starts_with("register is not linearizable; the longest possible order has 2 operations:"), "{text}");
    assert!(text.contains("holds v2") && text.ends_with("b: read of register: v1"), "{text}");
}

#[test]
fn a_lost_update_a_phantom_and_a_resurrected_value_fail() {
    let mut lost = Story::default();
    lost.then("a", write(1), DONE).then("a", replace(1, 2), DONE).then("b", replace(1, 3), DONE);
    let mut phantom = Story::default();
    phantom.then("a", write(1), DONE).then("b", Action::Read, found(9));
    let mut resurrected = Story::default();
    resurrected.then("a", write(1), DONE).then("a", Action::Delete, DONE).then("b", Action::Read, found(1));
    let mut vanished = Story::default();
    vanished.then("a", write(1), DONE).then("b", Action::Read, ABSENT);
    let mut refused = Story::default();
    refused.then("a", write(1), Outcome::Refused).then("b", Action::Read, found(1));
    let mut needless = Story::default();
    needless.then("a", write(1), DONE).then("b", replace(1, 2), CONFLICT);
    for story in [lost, phantom, resurrected, vanished, refused, needless] {
        explanation(&story);
    }
}

#[test]
fn two_compare_and_sets_from_one_revision_are_not_both_done_even_at_once() {
    let mut story = Story::default();
    story.then("a", write(1), Outcome::Ok(Answer::Done { revision: Some(Revision(7)) }));
    let replace = |new| Action::CompareAndSet { expected: Expected::Revision(Revision(7)), new: Value(new) };
    let (first, second) = (story.begin("a", replace(2), 20), story.begin("b", replace(3), 20));
    story.end(&first, DONE, 30);
    let one = Story(story.0.clone());
    story.end(&second, DONE, 30);
    assert_eq!(one.check(), Ok(()));
    assert_eq!(explanation(&story).stuck.len(), 1);
}

#[test]
fn overlapping_operations_may_have_happened_in_either_order() {
    for seen in [1, 2] {
        let mut story = Story::default();
        let (first, second) = (story.begin("a", write(1), 0), story.begin("b", write(2), 5));
        let early = story.begin("c", Action::Read, 6);
        story.end(&early, ABSENT, 7);
        story.end(&first, DONE, 10);
        story.end(&second, DONE, 11);
        let late = story.begin("c", Action::Read, 20);
        story.end(&late, found(seen), 21);
        assert_eq!(story.check(), Ok(()));
    }
}

#[test]
fn an_unknown_write_takes_effect_late_or_never_but_not_before_it_began_and_not_twice() {
    let unknown = Outcome::Unknown;
    let mut late = Story::default();
    late.then("a", write(1), unknown).then("b", Action::Read, ABSENT).then("b", write(2), DONE);
    late.then("b", Action::Read, found(2)).then("b", Action::Read, found(1)).then("b", replace(1, 3), DONE);
    assert_eq!(late.check(), Ok(()));
    late.then("b", Action::Read, found(1));
    assert_eq!(explanation(&late).stuck.len(), 1);

    let mut early = Story::default();
    early.then("b", Action::Read, found(1)).then("a", write(1), unknown);
    explanation(&early);

    let mut never = Story::default();
    never.then("a", write(1), unknown).then("a", Action::Delete, unknown).then("a", replace(5, 6), unknown);
    never.then("b", Action::Read, ABSENT).then("b", Action::Read, ABSENT);
    assert_eq!(never.check(), Ok(()));
}

#[test]
fn unknown_operations_follow_on_each_other() {
    let mut story = Story::default();
    story.then("a", write(1), Outcome::Unknown).then("a", replace(1, 2), Outcome::Unknown);
    story.then("a", replace(2, 3), Outcome::Unknown).then("b", Action::Read, ABSENT);
    let mut broken = Story(story.0.clone());
    story.then("b", Action::Read, found(3)).then("b", replace(3, 4), DONE);
    assert_eq!(story.check(), Ok(()));
    broken.then("b", Action::Read, found(3)).then("b", Action::Read, found(1));
    explanation(&broken);
}

#[test]
fn a_conflict_can_be_explained_by_an_unknown_operation_once() {
    let create = |new| Action::CompareAndSet { expected: Expected::Absent, new: Value(new) };
    let mut story = Story::default();
    story.then("a", write(1), Outcome::Unknown).then("b", create(2), CONFLICT);
    assert_eq!(story.check(), Ok(()));
    story.then("b", Action::Delete, DONE).then("b", create(3), CONFLICT);
    explanation(&story);
}

#[test]
fn a_revision_that_nobody_saw_can_only_be_an_unseen_value_s() {
    let replace = Action::CompareAndSet { expected: Expected::Revision(Revision(8)), new: Value(5) };
    let mut possible = Story::default();
    possible.then("a", write(1), Outcome::Unknown).then("b", replace, DONE);
    assert_eq!(possible.check(), Ok(()));
    let mut impossible = Story::default();
    impossible.then("a", write(1), DONE).then("a", Action::Read, found_at(1, 7)).then("b", replace, DONE);
    explanation(&impossible);
}

#[test]
fn a_stale_read_may_be_stale() {
    let mut story = Story::default();
    story.then("a", write(1), DONE).then("a", write(2), DONE).then("b", Action::StaleRead, found(1));
    assert_eq!(story.check(), Ok(()));
}

#[test]
fn an_answer_to_another_question_is_a_failure() {
    let mut story = Story::default();
    story.then("a", write(1), CONFLICT);
    assert!(matches!(story.check(), Err(Failure::WrongAnswer(_))));
}

#[test]
fn a_history_without_a_quiescent_moment_is_too_long_at_a_limit_and_that_is_no_success() {
    let story = |is_unknown: bool| {
        let mut story = Story::default();
        story.then("a", Action::Delete, if is_unknown { Outcome::Unknown } else { DONE });
        for _ in 0..STRETCH_OPERATIONS_MAX {
            story.then("a", Action::Read, ABSENT);
        }
        story.check()
    };
    assert_eq!(story(false), Ok(()));
    assert_eq!(story(true), Err(Failure::TooLong { key: key(), operations: STRETCH_OPERATIONS_MAX + 1 }));
}

/// The shapes of the random histories.
fn shape(seed: u64, operations: usize) -> Shape {
    Shape {
        clients: 1 + usize::try_from(seed % 12).unwrap(),
        operations,
        unknown_percent: [0, 5, 30][usize::try_from(seed / 4 % 3).unwrap()],
        has_compare_and_set: seed.is_multiple_of(2),
        has_revisions: (seed / 2).is_multiple_of(2),
    }
}

#[test]
fn what_a_correct_register_answers_passes() {
    for seed in 0..150 {
        let events = run(seed, shape(seed, 300));
        assert_eq!(check_key(&key(), &operations(&events)), Ok(()), "{seed}");
    }
}

#[test]
fn two_thousand_operations_of_twelve_clients_pass() {
    for seed in [11, 23, 47, 59, 83, 95] {
        for has_compare_and_set in [false, true] {
            let shape = Shape { clients: 12, has_compare_and_set, ..shape(seed, 2_000) };
            assert_eq!(check_key(&key(), &operations(&run(seed, shape))), Ok(()), "{seed}");
        }
    }
}

/// Puts a value into the answer of a read that had certainly been replaced before the read began, if there is one.
pub(in crate::oracle) fn with_a_stale_read(events: &[Event]) -> Option<Vec<Event>> {
    let operations = operations(events);
    let done = |operation: &&Operation| matches!(operation.outcome, Outcome::Ok(Answer::Done { .. }));
    let reads = operations.iter().rev().skip(operations.len() / 4);
    for read in reads.filter(|read| matches!(read.outcome, Outcome::Ok(Answer::Read(_)))) {
        let replaced_by = operations.iter().rev().filter(done).find(|newer| newer.precedes(&read.begun));
        let Some(newer) = replaced_by else { continue };
        let is_older = |older: &&Operation| older.precedes(&newer.begun) && older.begun.action.value().is_some();
        let Some(older) = operations.iter().rev().filter(done).find(is_older) else { continue };
        let Outcome::Ok(Answer::Done { revision }) = older.outcome else { continue };
        let value = older.begun.action.value()?;
        let outcome = Outcome::Ok(Answer::Read(Some(Observed { value, revision })));
        let change = |event: &Event| match event {
            Event::End(operation) if operation == read => Event::End(Operation { outcome, ..operation.clone() }),
            event => event.clone(),
        };
        return Some(events.iter().map(change).collect());
    }
    None
}

#[test]
fn a_read_of_a_replaced_value_never_passes() {
    let mut changed_count = 0;
    for seed in 0..150 {
        let Some(changed) = with_a_stale_read(&run(seed, shape(seed, 300))) else { continue };
        changed_count += 1;
        let failure = check_key(&key(), &operations(&changed)).unwrap_err();
        assert!(matches!(failure, Failure::NotLinearizable(_)), "{seed}: {failure}");
    }
    assert!(changed_count > 140, "{changed_count}");
}

#[test]
fn the_failure_of_a_long_history_is_found_before_the_limit() {
    for seed in [11, 23, 47, 59] {
        for has_compare_and_set in [false, true] {
            let shape = Shape { clients: 12, has_compare_and_set, ..shape(seed, 2_000) };
            let changed = with_a_stale_read(&run(seed, shape)).unwrap();
            let failure = check_key(&key(), &operations(&changed)).unwrap_err();
            assert!(matches!(failure, Failure::NotLinearizable(_)), "{seed}: {failure}");
        }
    }
}
