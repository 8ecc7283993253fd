//! Intentions in the state: rows that do not touch each other, destinations as a whole, and who is woken by what.

use std::collections::BTreeSet;

use carrack_authority::{
    Command, Entry, Outcome, Proposal, Rejection, State, WatchKey,
    id::{NodeId, Revision},
    intention::{
        Action, DefaultPolicy, Effect, Intention,
        bounds::{DESCRIPTION_BYTES_MAX, DESTINATION_BYTES_MAX, PERMISSIONS_MAX, SERVICE_INTENTIONS_BYTES_MAX},
        decide,
        permission::{JwtProvider, JwtRequirement},
    },
    state::StateRecord,
};
use uuid::Uuid;

use crate::{transcript::Transcript, world::*};

fn allow(source: &str, destination: &str) -> Intention {
    intention(source, destination, Action::Allow)
}

fn deny(source: &str, destination: &str) -> Intention {
    intention(source, destination, Action::Deny)
}

fn described(text: &str, intention: Intention) -> Intention {
    Intention { description: text.into(), ..intention }
}

fn delete(source: &str, destination: &str) -> Command {
    Command::DeleteIntention { destination: party(destination), source: party(source) }
}

fn put_all(expected: Option<u64>, destination: &str, intentions: &[Intention]) -> Command {
    let (expected, destination) = (expected.map(Revision), party(destination));
    Command::PutServiceIntentions { expected, destination, intentions: intentions.to_vec() }
}

fn delete_all(expected: Option<u64>, destination: &str) -> Command {
    Command::DeleteServiceIntentions { expected: expected.map(Revision), destination: party(destination) }
}

fn legacy(number: u128, intention: Intention) -> Intention {
    Intention { legacy_id: Some(Uuid::from_u128(number)), ..intention }
}

fn rows(state: &State, destination: &str) -> Vec<String> {
    state.intentions().of_destination(&party(destination)).map(|row| row.to_string()).collect()
}

/// Proposals that share an entry.
fn together(state: &mut State, commands: impl IntoIterator<Item = Command>) -> Vec<Outcome> {
    let proposals = commands.into_iter().map(|command| Proposal { proposer: NodeId(1), command });
    let entry = Entry { stamp: START, proposals: proposals.collect() };
    state.apply(state.index() + 1, &entry).outcomes
}

/// What one command woke.
fn woken(state: &mut State, command: Command) -> BTreeSet<WatchKey> {
    let entry = Entry { stamp: START, proposals: vec![Proposal { proposer: NodeId(1), command }] };
    let applied = state.apply(state.index() + 1, &entry);
    assert_eq!(applied.outcomes, [Outcome::Done]);
    applied.touched
}

#[test]
fn a_story_of_rows_and_of_whole_destinations() {
    let mut story = Transcript::new(State::default());
    story.step("begin", Command::Bootstrap(Box::new(bootstrap())));

    story.title("row by row");
    story.step("web => db, which should exist", put_intention(1, allow("web", "db")));
    story.step("web => db", put_intention(0, allow("web", "db")));
    story.step("the same", put_intention(0, allow("web", "db")));
    story.step("it denies, as it was never seen", put_intention(0, deny("web", "db")));
    story.step("it denies", put_intention(3, deny("web", "db")));
    story.step("api => db, which knows nothing of web", put_intention(0, allow("api", "db")));
    story.step("* => *", put_intention(0, deny("*", "*")));
    let empty = Intention { effect: Effect::Permissions(Vec::new()), ..allow("x", "db") };
    story.step("neither an action nor permissions", put_intention(0, empty));
    let effect = Effect::Permissions(vec![permission(Action::Allow, "/")]);
    story.step("permissions for every destination", put_intention(0, Intention { effect, ..allow("x", "*") }));
    let long = described(&"x".repeat(DESCRIPTION_BYTES_MAX + 1), allow("x", "db"));
    story.step("a description of 513 bytes", put_intention(0, long));
    story.step("with an ID", put_intention(0, legacy(7, allow("x", "cache"))));
    story.step("another with that ID", put_intention(0, legacy(7, allow("y", "cache"))));
    story.step("x => cache goes", delete("x", "cache"));
    story.step("it is gone", delete("x", "cache"));

    story.title("a whole destination");
    story.step("nothing", put_all(None, "db", &[]));
    story.step("one of another destination", put_all(None, "db", &[allow("web", "cache")]));
    story.step("one twice", put_all(None, "db", &[allow("web", "db"), deny("web", "db")]));
    story.step("as it was before api came", put_all(Some(5), "db", &[allow("web", "db")]));
    story.step(
        "web allowed, api as it is, * denied",
        put_all(Some(7), "db", &[allow("web", "db"), allow("api", "db"), deny("*", "db")]),
    );
    story.step(
        "the same, whatever was there",
        put_all(None, "db", &[deny("*", "db"), allow("api", "db"), allow("web", "db")]),
    );
    assert_eq!(
        rows(&story.state, "db"),
        [
            "default/api => default/db (Precedence: 9, Action: ALLOW)",
            "default/web => default/db (Precedence: 9, Action: ALLOW)",
            "default/* => default/db (Precedence: 8, Action: DENY)",
        ]
    );
    story.step("only web", put_all(None, "db", &[allow("web", "db")]));
    story.step("deleted as it was before", delete_all(Some(20), "db"));
    story.step("deleted", delete_all(Some(22), "db"));
    story.step("deleted again", delete_all(None, "db"));
    story.step("made anew where there is none", put_all(Some(0), "db", &[allow("web", "db")]));
    story.check("intentions");
}

#[test]
fn times_and_revisions_are_those_of_the_row() {
    let mut state = issuing();
    let find = |state: &State| state.intentions().exact(&party("db"), &party("web")).unwrap().clone();
    propose(&mut state, START, put_intention(0, allow("web", "db"))).accepted().unwrap();
    let first = find(&state);
    propose(&mut state, START.plus(HOUR), put_intention(0, allow("api", "db"))).accepted().unwrap();
    assert_eq!(find(&state), first, "another source changes nothing");
    propose(&mut state, START.plus(HOUR), put_intention(first.modified.0, deny("web", "db"))).accepted().unwrap();
    let second = find(&state);
    assert_eq!((second.created, second.created_at), (first.created, START));
    assert_eq!((second.modified, second.updated_at), (Revision(state.index()), START.plus(HOUR)));
    propose(&mut state, START.plus(DAY), put_all(None, "db", &[deny("web", "db")])).accepted().unwrap();
    assert_eq!(find(&state), second, "a whole destination changes only what is otherwise");
    let decision = |state: &State, source: &str| {
        let rows: Vec<_> = state.intentions().about(&name(source), &name("db")).cloned().collect();
        let default = DefaultPolicy::Acl(Action::Deny);
        decide(rows.iter().map(|row| &**row), &name(source), &name("db"), None, default).reason()
    };
    assert_eq!(
        decision(&state, "web"),
        "Matched L4 intention: default/web => default/db (Precedence: 9, Action: DENY)"
    );
    assert_eq!(decision(&state, "api"), "Default behavior configured by ACLs");
}

#[test]
fn a_row_that_comes_by_itself_takes_over_what_its_destination_wants_of_jwts() {
    let mut state = issuing();
    let provider = JwtProvider { name: "okta".into(), claims: Vec::new() };
    let jwt = Some(JwtRequirement { providers: vec![provider] });
    let entry = Intention { jwt: jwt.clone(), ..allow("web", "db") };
    propose(&mut state, START, put_all(None, "db", &[entry])).accepted().unwrap();
    let expected = state.index();
    for (expected, row) in [(0, allow("api", "db")), (expected, deny("web", "db"))] {
        propose(&mut state, START, put_intention(expected, row)).accepted().unwrap();
    }
    assert!(state.intentions().of_destination(&party("db")).all(|row| row.jwt == jwt));
    let (allowed, whole) = (allow("web", "db"), state.index());
    propose(&mut state, START, put_all(Some(whole), "db", &[allowed])).accepted().unwrap();
    assert!(state.intentions().of_destination(&party("db")).all(|row| row.jwt.is_none()));
}

#[test]
fn writers_of_different_sources_never_collide() {
    let mut state = issuing();
    let commands = (0..500).map(|number| put_intention(0, allow(&format!("service-{number}"), "db")));
    assert!(together(&mut state, commands).iter().all(|outcome| *outcome == Outcome::Done));
    let seen = state.index();
    let again = (0..500).map(|number| put_intention(seen, deny(&format!("service-{number}"), "db")));
    assert!(together(&mut state, again).iter().all(|outcome| *outcome == Outcome::Done));
    assert_eq!(state.intentions().count(), 500);
}

#[test]
fn a_write_wakes_those_of_its_destination_and_nobody_else() {
    let mut state = issuing();
    for destination in ["db", "cache"] {
        propose(&mut state, START, put_intention(0, allow("web", destination))).accepted().unwrap();
    }
    let [db, cache] = ["db", "cache"].map(|destination| WatchKey::intentions_matching(&name(destination)));
    let revisions = |state: &State| ["db", "cache", "none"].map(|service| state.match_revision(&name(service)));
    let before = revisions(&state);
    let touched = woken(&mut state, put_intention(0, allow("api", "db")));
    assert!(db.iter().any(|key| touched.contains(key)) && !cache.iter().any(|key| touched.contains(key)));
    assert_eq!(revisions(&state), [Revision(state.index()), before[1], before[2]]);
    let touched = woken(&mut state, put_intention(0, deny("*", "*")));
    assert!([db, cache].iter().all(|keys| keys.iter().any(|key| touched.contains(key))), "one for all wakes all");
    assert_eq!(revisions(&state), [Revision(state.index()); 3]);
    for command in [delete("web", "db"), delete("api", "db")] {
        let before = revisions(&state);
        let touched = woken(&mut state, command);
        assert!(db.iter().any(|key| touched.contains(key)) && !cache.iter().any(|key| touched.contains(key)));
        assert_eq!(revisions(&state)[..2], [Revision(state.index()), before[1]], "also the last one");
    }
    assert_eq!(state.destination_revision(&party("db")), Revision(0));
    let unchanged = propose(&mut state, START, put_intention(0, allow("web", "cache")));
    assert_eq!(unchanged, Outcome::Done);
    assert!(state.match_revision(&name("cache")) < Revision(state.index()));
}

/// Also of names that are never used again: nothing stays of them but the last changes, which are bounded.
#[test]
fn destinations_that_come_and_go_leave_nothing_behind() {
    let mut state = issuing();
    let rest = |state: &State| state.to_records().filter(|it| !matches!(it, StateRecord::Changed(..))).count();
    propose(&mut state, START, put_intention(0, allow("web", "first"))).accepted().unwrap();
    propose(&mut state, START, delete("web", "first")).accepted().unwrap();
    let before = rest(&state);
    for number in 0..100 {
        let destination = format!("service-{number}");
        let outcomes =
            together(&mut state, [put_intention(0, allow("web", &destination)), delete("web", &destination)]);
        assert_eq!(outcomes, [Outcome::Done, Outcome::Done]);
        assert_eq!(state.match_revision(&name(&destination)), Revision(state.index()));
    }
    assert_eq!(rest(&state), before);
}

#[test]
fn what_an_entry_wrote_and_deleted_is_not_made_anew_in_it() {
    let is_conflict = |outcome: &Outcome| matches!(outcome, Outcome::Rejected(Rejection::Conflict { .. }));
    let mut state = issuing();
    let first = put_intention(0, allow("web", "db"));
    let outcomes = together(&mut state, [first.clone(), delete("web", "db"), put_intention(0, deny("web", "db"))]);
    assert!(outcomes[1] == Outcome::Done && is_conflict(&outcomes[2]), "{outcomes:?}");
    let whole = put_all(None, "db", &[deny("web", "db")]);
    let outcomes = together(&mut state, [first.clone(), delete_all(None, "db"), whole.clone()]);
    assert!(is_conflict(&outcomes[2]), "{outcomes:?}");
    assert!(rows(&state, "db").is_empty());
    let outcomes = together(&mut state, [first, whole.clone()]);
    assert!(is_conflict(&outcomes[1]), "one that nobody has seen yet is not overwritten: {outcomes:?}");
    let outcomes = together(&mut state, [delete("web", "db"), whole]);
    assert_eq!(outcomes, [Outcome::Done, Outcome::Done], "one of an earlier entry may be replaced");
}

#[test]
fn what_is_too_large_is_refused_and_10_000_sources_come_row_by_row() {
    let mut state = issuing();
    let refused = |outcome: Outcome| outcome.accepted().unwrap_err().to_string();
    let effect = Effect::Permissions(vec![permission(Action::Deny, "/"); PERMISSIONS_MAX + 1]);
    let many = refused(propose(&mut state, START, put_intention(0, Intention { effect, ..allow("web", "db") })));
    assert!(many.contains("permissions: 65, at most 64 are allowed"), "{many}");
    let all: Vec<_> = (0..10_000).map(|number| allow(&format!("service-{number}"), "db")).collect();
    let whole = refused(propose(&mut state, START, put_all(None, "db", &all)));
    assert!(whole.contains(&format!("more than {SERVICE_INTENTIONS_BYTES_MAX}")), "{whole}");
    for part in all.chunks(1000) {
        let outcomes = together(&mut state, part.iter().map(|row| put_intention(0, row.clone())));
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Done));
    }
    assert_eq!(state.intentions().of_destination(&party("db")).count(), 10_000);
    assert_eq!(propose(&mut state, START, put_all(None, "db", &all[..1000])), Outcome::Done);
    assert_eq!(state.intentions().count(), 1000);
}

/// Agents are told everything about a destination in one message, which has a bound.
#[test]
fn a_destination_takes_rows_up_to_its_bytes_and_room_comes_back() {
    let mut state = State::default();
    assert_eq!(propose(&mut state, START, Command::Bootstrap(Box::new(bootstrap()))), Outcome::Done);
    let row = |number: usize| {
        let meta = (0..60).map(|pair| (format!("key-{pair}"), "v".repeat(500))).collect();
        Intention { meta, ..allow(&format!("web-{number}"), "db") }
    };
    let bytes = row(0).bytes();
    let fit = DESTINATION_BYTES_MAX / (bytes + "000".len());
    let rows = (100..100 + fit).map(|number| put_intention(0, row(number)));
    for row in rows {
        assert_eq!(together(&mut state, [row]), [Outcome::Done]);
    }
    let full = Outcome::Rejected(Rejection::LimitReached {
        what: "bytes of the intentions of one destination".into(),
        limit: DESTINATION_BYTES_MAX as u64,
    });
    assert_eq!(
        together(&mut state, [put_intention(0, row(99_999)), put_intention(0, allow("x", "other"))]),
        [full, Outcome::Done]
    );
    assert_eq!(together(&mut state, [delete("web-100", "db")]), [Outcome::Done]);
    assert_eq!(together(&mut state, [put_intention(0, row(999))]), [Outcome::Done]);
    let sum = state.intentions().of_destination(&party("db")).map(|row| row.bytes()).sum::<usize>();
    assert_eq!(state.intentions().bytes_of_destination(&party("db")), sum);
}
