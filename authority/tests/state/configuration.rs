//! The CA configuration and the rotations that it means, and that begin by themselves.

use std::time::Duration;

use carrack_authority::{
    Command, State,
    ca_config::CaConfig,
    key::KeyKind,
    rotation::{RotationCause, RotationRequest, WantedRoot},
};

use crate::{
    rotations::{done, refused},
    world::*,
};

/// `PrivateKeyType` is the kind of the root that is active, or that is rotated to.
#[test]
fn the_configuration_and_the_rotation_that_it_means_come_together_or_not_at_all() {
    let mut state = issuing();
    let kind = |state: &State| state.ca_config().config.key_kind;
    let change = |state: &State, key_kind: KeyKind, request: Option<RotationRequest>, period: Option<Duration>| {
        let config = CaConfig { key_kind, leaf_ttl: HOUR * 2, ..state.ca_config().config };
        let (expected, rotation) = (state.ca_config().modified, request.map(Box::new));
        Command::SetCaConfig { expected, config, rotation_period: period, rotation }
    };
    let to = |root: &str, key_kind: KeyKind| {
        let wanted = WantedRoot::Made { provider: "builtin".into(), key_kind };
        Some(RotationRequest { cause: RotationCause::Configuration, wanted, ..rotation_from(root) })
    };
    let rsa = KeyKind::Rsa2048;
    for (command, why) in [
        (change(&state, rsa, None, None), "it has no rotation to a root of that kind"),
        (change(&state, rsa, to("root 1", KeyKind::EcP384), None), "it has no rotation to a root of that kind"),
        (change(&state, rsa, to("root 9", rsa), None), "the active root has changed"),
        (change(&state, rsa, to("root 1", rsa), Some(HOUR * 5)), "a RotationPeriod of 18000 s"),
    ] {
        let text = refused(&mut state, command);
        assert!(text.contains(why), "{text}");
    }
    let command = change(&state, rsa, to("root 1", rsa), Some(HOUR * 6));
    done(&mut state, command);
    let begun = state.rotation().unwrap().clone();
    assert_eq!(
        (kind(&state), state.rotation_period(), begun.to_make.clone()),
        (rsa, Some(HOUR * 6), Some(("builtin".into(), rsa)))
    );
    let another = change(&state, KeyKind::EcP384, to("root 1", KeyKind::EcP384), None);
    assert!(refused(&mut state, another).contains("the rotation"));

    done(&mut state, Command::RollBack { rotation: begun.id });
    let config = state.ca_config().config;
    assert_eq!((config.key_kind, config.leaf_ttl), (KeyKind::EcP256, HOUR * 2), "the key is the former one's");
    assert_eq!(state.rotation_period(), Some(HOUR * 6), "an operator began it");

    let request = RotationRequest { wanted: to("root 1", rsa).unwrap().wanted, ..rotation_from("root 1") };
    done(&mut state, Command::StartRotation(Box::new(request)));
    assert_eq!(kind(&state), rsa, "the next one by itself is of that kind too");
    for step in [publish_rotation_root, bridge_to] {
        let command = step(&state, "root 2");
        done(&mut state, command);
    }
    issuer_under(&mut state, "root 2", "issuer 2");
    let command = activate(&state, "root 2");
    done(&mut state, command);
    let id = state.rotation().unwrap().id;
    done(&mut state, Command::RollBack { rotation: id });
    assert_eq!(kind(&state), KeyKind::EcP256, "back to the root before");
}
