//! What a rotation leaves behind goes when nothing depends on it: after a thousand of them the state is as large as after ten.

use std::time::Duration;

use carrack_authority::{
    Command, Outcome, State, issuance::Issuance, issuer::IssuerPhase, plan::rotate::prune, root::Ca,
    rotation::RETIRED_MAX, time::Timestamp,
};

use crate::{rotations::done, world::*};

/// A leaf under the root that was rotated to last.
fn issue(state: &mut State, number: u64) {
    let active = state.roots(Ca::Mesh).active().unwrap().made.id;
    let live = state.issuers().find(|issuer| issuer.root == active && issuer.phase == IssuerPhase::Live).unwrap().id;
    let now = state.now();
    let record = Issuance { issuer: live, ..issuance(number, &format!("service-{}", number % 3), now) };
    let recorded = propose(state, now, Command::RecordIssuance(record));
    assert!(matches!(recorded, Outcome::Recorded { .. }), "{recorded:?}");
}

/// What nothing depends on any more leaves the bundle, as the leader has it.
fn prune_all(state: &mut State) {
    for root in prune(state, state.now()).0 {
        done(state, Command::PruneRoot { root: root.root, expected: root.expected });
    }
}

fn retired(state: &State) -> usize {
    state.roots(Ca::Mesh).bundle().len() - 1
}

/// The time passes, as the leader's clock tells it.
fn wait(state: &mut State, time: Duration) {
    let now: Timestamp = state.now().plus(time);
    assert_eq!(propose(state, now, Command::SetHalt { halted: false }), Outcome::Done);
}

#[test]
fn a_thousand_rotations_leave_no_more_behind_than_ten() {
    let mut state = issuing();
    let (mut sizes, mut most) = (Vec::new(), 0);
    for number in 2..1002_u64 {
        rotate_to(&mut state, &format!("root {number}"), &format!("issuer {number}"));
        issue(&mut state, number);
        wait(&mut state, Duration::from_secs(3600));
        prune_all(&mut state);
        while retired(&state) == RETIRED_MAX {
            wait(&mut state, Duration::from_secs(3600));
            prune_all(&mut state);
        }
        most = most.max(retired(&state));
        if [12, 1001].contains(&number) {
            wait(&mut state, DAY * 2);
            prune_all(&mut state);
            sizes.push((retired(&state), state.to_records().count()));
        }
    }
    assert!(most < RETIRED_MAX, "{most}");
    assert_eq!(state.roots(Ca::Mesh).activation(), 1001);
    assert_eq!(sizes, [sizes[0]; 2], "retired roots and records after ten rotations, and after a thousand");
    assert_eq!(sizes[0].0, 0);
}
