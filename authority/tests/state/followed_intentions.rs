//! How the primary's intentions are followed: who is woken by it in a secondary, and what a deletion of thousands does to a reading.

use carrack_authority::{
    Command, Entry, Outcome, Proposal, State, WatchKey,
    federation::{Change, Next, Table, next},
    id::NodeId,
    intention::{Action, Intention},
};

use crate::{
    federation::{admit_dc2, expect_equal, follow, follow_all, secondary},
    world::*,
};

/// More than a change may hold, and fewer than are remembered.
const MANY: usize = 12_000;

fn allow(source: &str, destination: &str) -> Intention {
    intention(source, destination, Action::Allow)
}

/// Puts rows, 250 an entry.
fn put_rows(state: &mut State, rows: impl Iterator<Item = Intention>) {
    let rows: Vec<Intention> = rows.collect();
    for part in rows.chunks(250) {
        let command = |row: &Intention| put_intention(0, row.clone());
        let proposal = |row: &Intention| Proposal { proposer: NodeId(1), command: command(row) };
        let entry = Entry { stamp: START, proposals: part.iter().map(proposal).collect() };
        let applied = state.apply(state.index() + 1, &entry);
        assert!(applied.outcomes.iter().all(|outcome| *outcome == Outcome::Done));
    }
}

fn delete_all(state: &mut State, destination: &str) {
    let delete = Command::DeleteServiceIntentions { expected: None, destination: party(destination) };
    assert_eq!(propose(state, START, delete), Outcome::Done);
}

fn is_reading(secondary: &State) -> bool {
    secondary.progress(Table::Intentions).cursor.reading.is_some()
}

#[test]
fn a_change_wakes_in_a_secondary_those_of_its_destination_and_nobody_else() {
    let (mut primary, mut secondary) = (issuing(), secondary());
    admit_dc2(&mut primary);
    put_rows(&mut primary, ["db", "cache", "x"].into_iter().map(|destination| allow("web", destination)));
    follow_all(&primary, &mut secondary);
    let revision = |state: &State, service: &str| state.match_revision(&name(service)).0;
    let before = ["db", "cache", "x"].map(|service| revision(&secondary, service));
    put_rows(&mut primary, std::iter::once(allow("api", "db")));
    delete_all(&mut primary, "x");
    follow_all(&primary, &mut secondary);
    let after = ["db", "cache", "x"].map(|service| revision(&secondary, service));
    assert!(after[0] > before[0] && after[1] == before[1] && after[2] > before[2], "{before:?} {after:?}");
    assert_eq!(secondary.destination_revision(&party("x")).0, 0);

    // The whole is read again, and is the same: nobody is woken.
    let Next { change, .. } =
        next(&primary, Table::Intentions, &carrack_authority::federation::Cursor::default()).unwrap();
    assert!(matches!(&change, Change::Intentions { page: Some(_), put, .. } if put.len() == 3));
    let seen = secondary.modified(&WatchKey::Intentions);
    let cursor = secondary.progress(Table::Intentions).cursor;
    let again = crate::federation::followed(Table::Intentions, cursor, cursor, change);
    assert_eq!(propose(&mut secondary, START, again), Outcome::Done);
    assert_eq!(secondary.modified(&WatchKey::Intentions), seen);
    let row = |state: &State| state.intentions().exact(&party("db"), &party("api")).unwrap().clone();
    assert_eq!(row(&primary).updated_at, row(&secondary).updated_at, "times are the primary's");
}

#[test]
fn a_deletion_of_thousands_while_a_table_is_read_fits_into_what_follows() {
    let mut primary = issuing();
    admit_dc2(&mut primary);
    for destination in ["a", "b"] {
        put_rows(&mut primary, (0..MANY).map(|number| allow(&format!("service-{number}"), destination)));
    }
    let mut secondary = secondary();
    // Nearly all of it is read, so that nearly all that is deleted is in the part that was read.
    while secondary.intentions().count() < 2 * MANY - 1000 {
        assert!(follow(&primary, &mut secondary, Table::Intentions));
    }
    assert!(is_reading(&secondary));
    delete_all(&mut primary, "a");
    let (mut changes, mut largest) = (0, 0);
    loop {
        let from = secondary.progress(Table::Intentions).cursor;
        let Some(Next { change, .. }) = next(&primary, Table::Intentions, &from) else { break };
        let Change::Intentions { put, deleted, .. } = &change else { panic!("{change:?}") };
        largest = largest.max(put.iter().map(Intention::bytes).sum::<usize>() + 24 * deleted.len());
        changes += 1;
        assert!(changes < 100, "it comes to an end");
        assert!(follow(&primary, &mut secondary, Table::Intentions));
    }
    assert!(largest <= 400 * 1024, "{largest} bytes in one command");
    follow_all(&primary, &mut secondary);
    expect_equal(&primary, &secondary);
    assert_eq!(secondary.intentions().count(), MANY);
}
