//! Which leaves are to be renewed although they have not ended, and within which time.

use std::time::Duration;

use carrack_authority::{
    Command, Outcome, State,
    ca_config::CaConfig,
    issuance::Issuance,
    plan::{
        reissue::{leaving, leaving_within},
        rotate::compromised,
    },
    root::Ca,
    rotation::{RotationCause, RotationRequest},
};

use crate::{
    rotations::{done, refused},
    world::*,
};

/// So many leaves in use, and the root above them is left.
fn rotated(leaves: u64) -> State {
    let mut state = issuing();
    for number in 0..leaves {
        let record = issuance(number, &format!("service-{number}"), START);
        let recorded = propose(&mut state, START, Command::RecordIssuance(record));
        assert_eq!(recorded, Outcome::Recorded { sequence: number + 1 });
    }
    assert!(leaving(&state).is_empty(), "nothing is left yet");
    rotate_to(&mut state, "root 2", "issuer 2");
    state
}

fn with_rate(mut state: State, csr_max_per_second: u32) -> State {
    let config = CaConfig { csr_max_per_second, ..state.ca_config().config };
    let expected = state.ca_config().modified;
    done(&mut state, Command::SetCaConfig { expected, config, rotation_period: None, rotation: None });
    state
}

#[test]
fn what_is_under_a_retired_root_is_renewed_within_the_time_that_all_of_it_takes() {
    let state = rotated(50);
    let former = state.issuers().find(|issuer| issuer.root == key_id("root 1")).unwrap().id;
    let new = state.issuers().find(|issuer| issuer.root == key_id("root 2")).unwrap().id;
    let milliseconds = |state: &State| leaving_within(state, &former).map(|within| within.as_millis());
    assert_eq!(milliseconds(&state), Some(50), "1,000 each second");
    assert_eq!((leaving_within(&state, &new), leaving(&state).len()), (None, 1));
    for (rate, within) in [(0, 50), (100, 625), (1, 50_000), (1_000_000, 50)] {
        assert_eq!(milliseconds(&with_rate(state.clone(), rate)), Some(within), "CSRMaxPerSecond = {rate}");
    }
    let mut tainted = state;
    done(&mut tainted, Command::TaintRoot { root: key_id("root 1"), reason: String::new() });
    assert_eq!(leaving_within(&tainted, &former), Some(Duration::ZERO), "it is not to be relied on");
    let id = tainted.last_rotation().unwrap().rotation.id;
    done(&mut tainted, Command::RollBack { rotation: id });
    assert_eq!(leaving_within(&tainted, &former), None, "it is no more retired");
}

/// A server of the primary had the root's key: nothing leads from that root to the next one, and it goes as soon as it can.
#[test]
fn a_compromised_root_leaves_the_bundle_when_no_leaf_in_use_is_under_it() {
    let mut state = issuing();
    let record = |number, state: &mut State| {
        let recorded = propose(state, START, Command::RecordIssuance(issuance(number, "service", START)));
        assert!(matches!(recorded, Outcome::Recorded { .. }));
    };
    record(0, &mut state);
    let request = RotationRequest { cause: RotationCause::Compromise, is_bridged: false, ..rotation_from("root 1") };
    done(&mut state, Command::StartRotation(Box::new(request)));
    let command = publish_rotation_root(&state, "root 2");
    done(&mut state, command);
    issuer_under(&mut state, "root 2", "issuer 2");
    assert!(state.tainted(&key_id("root 1")).is_none(), "leaves are issued under it");
    let command = activate(&state, "root 2");
    done(&mut state, command);
    let former = state.issuers().find(|issuer| issuer.root == key_id("root 1")).unwrap().id;
    assert_eq!(leaving_within(&state, &former), Some(Duration::ZERO), "not paced");
    assert!(state.roots(Ca::Mesh).active().unwrap().bridge.is_none());
    assert_eq!(compromised(&state), (vec![], true), "a leaf in use is under it");
    let forget = |is_forced| Command::RevokeRoot { root: key_id("root 1"), reason: String::new(), is_forced };
    assert!(refused(&mut state, forget(false)).contains("1 leaves under it are in use"));
    // The same service has another one.
    let issuer = state.issuers().find(|issuer| issuer.root == key_id("root 2")).unwrap().id;
    let next = Issuance { issuer, ..issuance(1, "service", START) };
    assert!(matches!(propose(&mut state, START, Command::RecordIssuance(next)), Outcome::Recorded { .. }));
    assert_eq!(compromised(&state), (vec![key_id("root 1")], false), "although the one before has not ended");
    done(&mut state, forget(false));
    assert_eq!((state.roots(Ca::Mesh).bundle().len(), compromised(&state)), (1, (vec![], false)));
}
