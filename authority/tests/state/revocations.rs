//! Revoked leaves in the state: in the primary for every datacenter, until their end, and never taken back before it.

use carrack_authority::{
    Command, Outcome, Rejection, State, WatchKey, federation::Table, id::Serial, state::StateRecord, time::Timestamp,
};

use crate::{
    federation::{admit_dc2, follow, follow_all, secondary},
    world::*,
};

fn revoke(number: u64, until: Timestamp, reason: &str) -> Command {
    Command::RevokeLeaf { serial: serial(number), until, reason: reason.into() }
}

fn until_of(state: &State, number: u64) -> Option<Timestamp> {
    let serial: Serial = serial(number);
    state.revocations().of_serial(&serial).map(|found| found.until)
}

#[test]
fn a_revoked_leaf_is_so_until_its_end_and_its_end_never_comes_nearer() {
    let mut state = issuing();
    for wrong in [START, START.minus(HOUR), START.plus(DAY * 400)] {
        let refused = propose(&mut state, START, revoke(1, wrong, "")).accepted().unwrap_err();
        assert!(matches!(refused, Rejection::Invalid { .. }), "{refused}");
    }
    let long = propose(&mut state, START, revoke(1, START.plus(DAY), &"x".repeat(1000))).accepted();
    assert!(matches!(long, Err(Rejection::Invalid { .. })), "{long:?}");
    assert_eq!(propose(&mut state, START, revoke(1, START.plus(DAY), "lost")), Outcome::Done);
    let seen = state.modified(&WatchKey::Revocations);
    assert_eq!(propose(&mut state, START, revoke(1, START.plus(DAY), "lost")), Outcome::Done);
    assert_eq!(state.modified(&WatchKey::Revocations), seen, "nothing new");
    assert_eq!(propose(&mut state, START, revoke(1, START.plus(HOUR), "found again")), Outcome::Done);
    assert_eq!(until_of(&state, 1), Some(START.plus(DAY)), "it is not taken back");
    let records: Vec<StateRecord> = state.to_records().collect();
    let restored = State::from_records(records.clone()).unwrap();
    assert_eq!((restored.to_records().collect::<Vec<_>>(), until_of(&restored, 1)), (records, until_of(&state, 1)));
    propose(&mut state, START.plus(DAY + HOUR), Command::SetHalt { halted: false }).accepted().unwrap();
    assert_eq!((until_of(&state, 1), state.revocations().count()), (None, 0), "it has ended by itself");
}

#[test]
fn every_datacenter_hears_of_it_and_only_the_primary_may_say_it() {
    let (mut primary, mut dc2) = (issuing(), secondary());
    admit_dc2(&mut primary);
    follow_all(&primary, &mut dc2);
    let refused = propose(&mut dc2, START, revoke(1, START.plus(DAY), "")).accepted();
    assert!(matches!(refused, Err(Rejection::InSecondary { .. })), "{refused:?}");
    for (number, days) in (1..=20).zip(1..) {
        propose(&mut primary, START, revoke(number, START.plus(DAY * days), "lost")).accepted().unwrap();
    }
    while follow(&primary, &mut dc2, Table::Revocations) {}
    assert_eq!(
        (1..=20).map(|number| until_of(&dc2, number)).collect::<Vec<_>>(),
        (1..=20).map(|number| until_of(&primary, number)).collect::<Vec<_>>()
    );
    let later = START.plus(DAY * 10 + HOUR);
    for state in [&mut primary, &mut dc2] {
        propose(state, later, Command::SetHalt { halted: false }).accepted().unwrap();
        assert_eq!(state.revocations().count(), 10, "each forgets by its own time");
    }
    assert!(!follow(&primary, &mut dc2, Table::Revocations), "and nobody says so to anybody");
}
