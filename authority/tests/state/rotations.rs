//! Rotations: each command in each phase, what the plan does next, and how a secondary follows.

use std::collections::BTreeSet;

use carrack_authority::{
    Command, Outcome, Rejection, State,
    agent::LaggingAgents,
    federation::{Change, Cursor, Followed, Table, next},
    id::{NodeId, Revision},
    issuer::SignedIssuer,
    member::ServerCertificate,
    plan::renew::{OwnIssuer, own_issuers, to_ask},
    plan::rotate::{Lacks, LacksHere, Rotate, Waits, due, follow, follow_waits, prune, rotate},
    root::{Ca, RootPhase},
    rotation::{
        CLOCK_SKEW, RETIRED_MAX, RotationCause, RotationControl, RotationEnd, RotationRequest, Standing, WantedRoot,
    },
    state::Depends,
    time::Timestamp,
};
use uuid::Uuid;

use crate::{
    federation::{SECONDARY, admit_dc2, secondary},
    transcript::Transcript,
    world::*,
};

fn nobody() -> BTreeSet<NodeId> {
    BTreeSet::new()
}

pub(crate) fn done(state: &mut State, command: Command) {
    let now = state.now();
    assert_eq!(propose(state, now, command.clone()), Outcome::Done, "{command:?}");
}

pub(crate) fn refused(state: &mut State, command: Command) -> String {
    let now = state.now();
    let before: Vec<_> = state.to_records().skip(1).collect();
    let Outcome::Rejected(rejection) = propose(state, now, command.clone()) else { panic!("{command:?} was taken") };
    assert_eq!(state.to_records().skip(1).collect::<Vec<_>>(), before);
    rejection.to_string()
}

fn acknowledge(state: &mut State) {
    let bundle = state.bundle_revision();
    done(state, Command::AcknowledgeBundle { node: NodeId(1), bundle, lagging: LaggingAgents::default() });
}

fn phases(state: &State) -> Vec<(&'static str, u64)> {
    state.roots(Ca::Mesh).bundle().iter().map(|root| (root.phase.as_str(), root.activation)).collect()
}

/// A rotation begins, and its root has its bridge.
fn prepare(state: &mut State) {
    done(state, start_rotation("root 1"));
    for step in [publish_rotation_root, bridge_to] {
        let command = step(state, "root 2");
        done(state, command);
    }
}

/// What the plan would do now, as a command where it needs nobody else's key.
fn planned(state: &State) -> Option<Command> {
    Some(match rotate(state, state.now(), &nobody()).step? {
        Rotate::MakeRoot { .. } => publish_rotation_root(state, "root 2"),
        Rotate::Bridge { .. } => bridge_to(state, "root 2"),
        Rotate::Activate { root, expected, expected_active } => {
            Command::ActivateRoot { ca: Ca::Mesh, root, expected, expected_active }
        }
        Rotate::Finish { rotation, expected } => Command::FinishRotation { rotation, expected },
    })
}

#[test]
fn a_rotation_goes_through_its_phases_and_each_refusal_says_why() {
    let mut story = Transcript::new(issuing());
    let publish = |story: &Transcript, root: &str| publish_rotation_root(&story.state, root);
    story.title("it begins");
    let rotation = |root: &str| Command::StartRotation(Box::new(rotation_from(root)));
    story.step("away from a root that is not active", rotation("root 9"));
    story.step("while halted: halt", Command::SetHalt { halted: true });
    story.step("while halted", rotation("root 1"));
    story.step("resume", Command::SetHalt { halted: false });
    let too_long = RotationRequest { ack_timeout: DAY * 366, ..rotation_from("root 1") };
    story.step("with a patience of 366 days", Command::StartRotation(Box::new(too_long)));
    story.step("well", rotation("root 1"));
    story.step("a second one", rotation("root 1"));
    let id = story.state.rotation().unwrap().id;

    story.title("its root is published");
    let (expected, root) = (Revision(1), Box::new(new_root("root 2", START, Some(sealed(&[(1, "a")])))));
    story.step("as it was before", Command::PublishRotationRoot { rotation: id, expected, root: root.clone() });
    story.step("of another rotation", Command::PublishRotationRoot { rotation: Revision(3), expected, root });
    story.step("root 1 again", publish(&story, "root 1"));
    story.step("well", publish(&story, "root 2"));
    let duplicate = Command::PublishRotationRoot {
        rotation: id,
        expected,
        root: Box::new(new_root("root 2", START.minus(HOUR), Some(sealed(&[(1, "a")])))),
    };
    story.step("again", duplicate);
    story.step("beside the rotation", Command::PublishRoot { ca: Ca::Mesh, root: new_root("root 3", START, None) });

    story.title("it gets its bridge");
    story.step("activation before", activate(&story.state, "root 2"));
    let Command::BridgeRoot { root, expected, bridge } = bridge_to(&story.state, "root 2") else { unreachable!() };
    let spoiled = |edit: fn(&mut carrack_authority::root::Bridge)| {
        let mut bridge = bridge.clone();
        edit(&mut bridge);
        Command::BridgeRoot { root, expected, bridge }
    };
    story.step("that ends in an hour", spoiled(|bridge| bridge.not_after = START.plus(HOUR)));
    story.step("that outlives the roots", spoiled(|bridge| bridge.not_after = START.plus(DAY * 3651)));
    story.step("by the new root itself", spoiled(|bridge| bridge.signed_by = key_id("root 2")));
    story.step("well", bridge_to(&story.state, "root 2"));

    story.title("it is paused and goes on");
    let control = |rotation, control| Command::ControlRotation { rotation, control };
    story.step("another one is paused", control(Revision(2), RotationControl::Pause));
    story.step("pause", control(id, RotationControl::Pause));
    story.step("activation", activate(&story.state, "root 2"));
    story.step("resume", control(id, RotationControl::Resume));
    let expected = story.state.rotation().unwrap().modified;
    story.step("the end, too early", Command::FinishRotation { rotation: id, expected });
    story.step("activation", activate(&story.state, "root 2"));
    story.step("pause, too late", control(id, RotationControl::Pause));
    let expected = story.state.rotation().unwrap().modified;
    story.step("the end", Command::FinishRotation { rotation: id, expected });

    story.title("what is left");
    let (root, reason) = (key_id("root 2"), "stolen".to_owned());
    story.step("the active root is tainted", Command::TaintRoot { root, reason: reason.clone() });
    story.step("the active root is revoked", Command::RevokeRoot { root, reason: reason.clone(), is_forced: true });
    story.step("root 1 is tainted", Command::TaintRoot { root: key_id("root 1"), reason });
    let expected = story.state.roots(Ca::Mesh).find(&key_id("root 1")).unwrap().modified;
    story.step("root 1 is pruned", Command::PruneRoot { root: key_id("root 1"), expected });
    story.step("the roll back, too late", Command::RollBack { rotation: id });
    story.show();
    story.check("rotation");
}

#[test]
fn the_plan_waits_for_evidence_and_goes_through_to_the_end() {
    let mut state = issuing();
    assert_eq!(rotate(&state, state.now(), &nobody()), carrack_authority::plan::rotate::Next::default());
    done(&mut state, start_rotation("root 1"));
    let mut steps = Vec::new();
    while let Some(command) = planned(&state) {
        steps.push(format!("{command:?}").chars().take_while(|letter| letter.is_alphanumeric()).collect::<String>());
        done(&mut state, command);
    }
    assert_eq!(steps, ["PublishRotationRoot", "BridgeRoot"]);
    let waits = rotate(&state, state.now(), &nobody()).waits;
    let servers = vec![name("a")];
    let agents = LacksHere::Agents { servers: servers.clone(), lagging: 0, named: Vec::new() };
    assert_eq!(waits, [agents, LacksHere::Issuers { servers: servers.clone() }].map(Waits::Here));
    acknowledge(&mut state);
    assert_eq!(rotate(&state, state.now(), &nobody()).waits, [Waits::Here(LacksHere::Issuers { servers })]);
    issuer_under(&mut state, "root 2", "issuer 2");
    assert!(matches!(rotate(&state, state.now(), &nobody()).step, Some(Rotate::Activate { .. })));
    while let Some(command) = planned(&state) {
        done(&mut state, command);
    }
    assert_eq!(phases(&state), [("active", 2), ("retired", 1)]);
    assert_eq!(state.last_rotation().unwrap().end, RotationEnd::Finished);
    assert_eq!(state.rotation(), None);
}

#[test]
fn a_server_that_is_away_is_not_waited_for_and_force_waives_agents_alone() {
    let mut state = issuing();
    done(&mut state, Command::CreateJoinToken(join_token("b", START.plus(HOUR))));
    let admitted = propose(&mut state, START, Command::AdmitServer(Box::new(admit("b"))));
    let Outcome::Admitted { node } = admitted else { panic!("{admitted:?}") };
    let (not_before, not_after) = (START, START.plus(DAY));
    let (certificate, public_key, root) = (der("b"), digest("key b"), key_id("server root"));
    let certificate = ServerCertificate { certificate, public_key, root, not_before, not_after };
    let expected = state.member(node).unwrap().request.as_ref().unwrap().revision;
    done(&mut state, Command::RecordServerCertificate { node, expected, certificate });
    prepare(&mut state);
    acknowledge(&mut state);
    issuer_under(&mut state, "root 2", "issuer 2");
    let waits = rotate(&state, state.now(), &nobody()).waits;
    assert_eq!(waits.len(), 2, "{waits:?}");
    assert!(rotate(&state, state.now(), &[node].into()).waits.is_empty());
    let rotation = state.rotation().unwrap().id;
    done(&mut state, Command::ControlRotation { rotation, control: RotationControl::Force });
    let waits = rotate(&state, state.now(), &nobody()).waits;
    assert_eq!(
        waits,
        [Waits::Here(LacksHere::Issuers { servers: vec![name("b")] })],
        "without an issuer it could not issue"
    );
}

fn standing(activation: u64, edit: impl FnOnce(&mut Standing), of: &State) -> Command {
    let mut standing = of.own_standing(|_| false);
    standing.activation = activation;
    edit(&mut standing);
    Command::AnnounceStanding { datacenter: name("dc2"), cluster: SECONDARY, standing: Box::new(standing) }
}

#[test]
fn other_datacenters_are_waited_for_until_an_operator_decides() {
    let mut state = issuing();
    admit_dc2(&mut state);
    prepare(&mut state);
    acknowledge(&mut state);
    issuer_under(&mut state, "root 2", "issuer 2");
    let lacks = |state: &State| match &*rotate(state, state.now(), &nobody()).waits {
        [Waits::Datacenter { lacks, .. }] => Some(*lacks),
        [] => None,
        waits => panic!("{waits:?}"),
    };
    assert_eq!(lacks(&state), Some(Lacks::Root), "it has said nothing");
    let told = standing(1, |it| it.roots.retain(|root| root.root == key_id("root 1")), &state);
    done(&mut state, told);
    assert_eq!(lacks(&state), Some(Lacks::Root));
    let told = standing(1, |it| it.roots.iter_mut().for_each(|root| root.is_acknowledged = false), &state);
    done(&mut state, told);
    assert_eq!(lacks(&state), Some(Lacks::Agents));
    let told = standing(1, |it| it.roots.iter_mut().for_each(|root| root.has_issuers = false), &state);
    done(&mut state, told);
    assert_eq!(lacks(&state), Some(Lacks::Issuers));
    let late = state.now().plus(DAY);
    assert!(rotate(&state, late, &nobody()).waits.contains(&Waits::Decision));
    let told = standing(1, |_| {}, &state);
    done(&mut state, told);
    assert_eq!(lacks(&state), None);
    let command = activate(&state, "root 2");
    done(&mut state, command);
    assert_eq!(lacks(&state), Some(Lacks::Activation));
    let unheard = state.now().plus(carrack_authority::rotation::UNHEARD_AFTER);
    assert!(matches!(rotate(&state, unheard, &nobody()).step, Some(Rotate::Finish { .. })), "it cannot be reached");
    let told = standing(9, |_| {}, &state);
    assert!(refused(&mut state, told).contains("the last activation is 2"));
    let told = standing(2, |_| {}, &state);
    done(&mut state, told);
    assert_eq!(lacks(&state), None);
    let told = standing(1, |_| {}, &state);
    assert!(refused(&mut state, told).contains("revision 1 was expected, it has 2"), "it was long on its way");
}

#[test]
fn a_retired_root_stays_until_nothing_anywhere_depends_on_it() {
    let mut state = issuing();
    admit_dc2(&mut state);
    let leaf = Command::RecordIssuance(issuance(1, "web", START));
    assert!(matches!(propose(&mut state, START, leaf), Outcome::Recorded { .. }));
    rotate_to(&mut state, "root 2", "issuer 2");
    let root = |state: &State| state.roots(Ca::Mesh).find(&key_id("root 1")).unwrap().clone();
    let until = START.plus(DAY).plus(CLOCK_SKEW);
    let depends = state.depends_on(&root(&state), state.now());
    assert_eq!(depends, [Depends::Leaves { datacenter: None, unexpired: 1, until }]);
    assert_eq!(prune(&state, state.now()), (Vec::new(), Some(until)));

    let told = standing(2, |it| it.roots.iter_mut().for_each(|root| root.last_not_after = START.plus(DAY * 2)), &state);
    done(&mut state, told);
    propose(&mut state, until.plus(HOUR), Command::SetHalt { halted: false });
    let depends = state.depends_on(&root(&state), state.now());
    assert!(matches!(&*depends, [Depends::Leaves { datacenter: Some(dc2), .. }] if *dc2 == name("dc2")), "{depends:?}");
    let command = Command::PruneRoot { root: key_id("root 1"), expected: root(&state).modified };
    assert!(refused(&mut state, command.clone()).contains("something depends on it"));

    propose(&mut state, START.plus(DAY * 2 + HOUR), Command::SetHalt { halted: false });
    assert_eq!(prune(&state, state.now()).0.len(), 1);
    done(&mut state, command);
    assert_eq!(phases(&state), [("active", 2)]);
    assert!(state.issuers().all(|issuer| issuer.root == key_id("root 2")), "its issuers are forgotten");
    assert_eq!(state.fence_of(&key_id("root 1")), None);
}

#[test]
fn a_datacenter_that_says_nothing_holds_a_root_for_as_long_as_its_issuers_live() {
    let mut state = issuing();
    admit_dc2(&mut state);
    let known = carrack_authority::federation::KnownServers { present: vec![NodeId(1)], next: NodeId(2) };
    done(&mut state, Command::AnnounceServersOf { datacenter: name("dc2"), cluster: SECONDARY, servers: known });
    let end = START.plus(DAY * 30);
    let issuer = carrack_authority::federation::RemoteIssuer {
        id: key_id("dc2's"),
        datacenter: name("dc2"),
        node: NodeId(1),
        root: key_id("root 1"),
        certificate: der("dc2's"),
        not_before: START,
        not_after: end,
        created: Revision(0),
    };
    done(&mut state, Command::RecordRemoteIssuer(Box::new(issuer)));
    rotate_to(&mut state, "root 2", "issuer 2");
    let root = state.roots(Ca::Mesh).find(&key_id("root 1")).unwrap().clone();
    let told = standing(1, |_| {}, &state);
    done(&mut state, told);
    let (datacenter, until) = (name("dc2"), end.plus(CLOCK_SKEW));
    let depends = state.depends_on(&root, state.now());
    assert_eq!(depends, [Depends::NoFence { datacenter, until }], "its word is of the activation before");
    assert_eq!(state.depends_on(&root, until), depends);
    assert_eq!(state.depends_on(&root, until.plus(HOUR)), []);
}

#[test]
fn a_rotation_is_rolled_back_before_and_after_it_activates() {
    let mut state = issuing();
    done(&mut state, start_rotation("root 1"));
    let command = publish_rotation_root(&state, "root 2");
    done(&mut state, command);
    issuer_under(&mut state, "root 2", "issuer 2");
    let id = state.rotation().unwrap().id;
    done(&mut state, Command::RollBack { rotation: id });
    assert_eq!((phases(&state), state.rotation()), (vec![("active", 1)], None));
    assert_eq!(state.issuers().count(), 1, "the issuer under the root that is gone is forgotten");
    assert_eq!(state.last_rotation().unwrap().end, RotationEnd::Abandoned);

    rotate_to(&mut state, "root 3", "issuer 3");
    let id = state.last_rotation().unwrap().rotation.id;
    done(&mut state, Command::RollBack { rotation: id });
    let root = state.roots(Ca::Mesh).find(&key_id("root 1")).unwrap().clone();
    assert_eq!((root.phase, root.activation), (RootPhase::Prepared, 1));
    assert!(refused(&mut state, Command::RollBack { rotation: id }).contains("the rotation under way"));
    // Its issuers and its place in every bundle are still there.
    let mut again = state.clone();
    acknowledge(&mut state);
    while let Some(command) = planned(&state) {
        done(&mut state, command);
    }
    assert_eq!(phases(&state), [("active", 3), ("retired", 2)]);
    assert_eq!(state.last_rotation().unwrap().end, RotationEnd::RolledBack);

    let id = again.rotation().unwrap().id;
    done(&mut again, Command::RollBack { rotation: id });
    assert_eq!(again.rotation().unwrap().id, id, "a second word to take it back changes nothing");
}

#[test]
fn an_abandoned_rotation_leaves_the_one_before_to_be_taken_back_and_ends_the_schedule() {
    let mut state = issuing();
    rotate_to(&mut state, "root 2", "issuer 2");
    let first = state.last_rotation().unwrap().rotation.id;
    let period = Some(DAY * 90);
    done(&mut state, Command::SetRotationPeriod { period });
    assert_eq!(due(&state, START.plus(DAY * 89)), None);
    let request = due(&state, START.plus(DAY * 90)).unwrap();
    assert_eq!((request.cause, request.expected_active), (RotationCause::Schedule, key_id("root 2")));
    let near_its_end = START.plus(DAY * 3000);
    done(&mut state, Command::SetRotationPeriod { period: Some(DAY * 3600) });
    assert_eq!(due(&state, near_its_end).map(|request| request.cause), Some(RotationCause::Expiry));
    done(&mut state, Command::StartRotation(Box::new(request)));
    let scheduled = state.rotation().unwrap().id;
    done(&mut state, Command::RollBack { rotation: scheduled });
    assert_eq!((state.rotation_period(), due(&state, near_its_end)), (None, None));
    assert_eq!(state.last_rotation().unwrap().rotation.id, first);
    done(&mut state, Command::RollBack { rotation: first });
    assert_eq!(state.rotation().unwrap().root, Some(key_id("root 1")));
}

#[test]
fn a_secondary_that_has_not_followed_goes_on_through_a_roll_back_in_the_primary() {
    let mut primary = issuing();
    let mut secondary = secondary();
    hear(&mut secondary, &primary);
    rotate_to(&mut primary, "root 2", "issuer 2");
    hear(&mut secondary, &primary);
    let id = primary.last_rotation().unwrap().rotation.id;
    done(&mut primary, Command::RollBack { rotation: id });
    hear(&mut secondary, &primary);
    assert_eq!(phases(&secondary), [("active", 1), ("prepared", 0)], "its active root is prepared in the primary");
    acknowledge(&mut primary);
    while let Some(command) = planned(&primary) {
        done(&mut primary, command);
    }
    hear(&mut secondary, &primary);
    assert_eq!(phases(&secondary), [("active", 3), ("retired", 2)]);
    assert_eq!(secondary.heard_activation(), None);
}

#[test]
fn a_rotation_gives_up_waiting_for_those_who_are_slow_to_follow() {
    let mut state = issuing();
    admit_dc2(&mut state);
    done(&mut state, start_rotation("root 1"));
    for step in [publish_rotation_root, bridge_to, activate] {
        let command = step(&state, "root 2");
        done(&mut state, command);
    }
    let told = standing(1, |_| {}, &state);
    done(&mut state, told);
    assert_eq!(rotate(&state, state.now(), &nobody()).step, None);
    let late = state.now().plus(DAY);
    let told = standing(1, |it| it.lagging = 1, &state);
    assert_eq!(propose(&mut state, late, told), Outcome::Done);
    assert!(matches!(rotate(&state, late, &nobody()).step, Some(Rotate::Finish { .. })));
}

#[test]
fn only_so_many_roots_drain() {
    let mut state = issuing();
    for number in 0..RETIRED_MAX {
        rotate_to(&mut state, &format!("root {}", number + 2), &format!("issuer {number}"));
        let later = state.now().plus(HOUR / 60);
        propose(&mut state, later, Command::SetHalt { halted: false });
    }
    let active = state.roots(Ca::Mesh).active().unwrap().made.id;
    let request = RotationRequest { expected_active: active, ..rotation_from("") };
    let refused = refused(&mut state, Command::StartRotation(Box::new(request)));
    assert!(refused.contains(&key_id("root 1").to_string()), "{refused}");
}

#[test]
fn a_root_of_the_operators_own_is_published_as_the_rotation_begins() {
    let mut state = issuing();
    let own = || Box::new(new_root("own", START.minus(HOUR), Some(sealed(&[(1, "a")]))));
    let begin = |wanted| Command::StartRotation(Box::new(RotationRequest { wanted, ..rotation_from("root 1") }));
    let stranger = Box::new(new_root("own", START, Some(sealed(&[(1, "a"), (2, "b")]))));
    assert!(refused(&mut state, begin(WantedRoot::Supplied(stranger))).contains("other recipients"));
    done(&mut state, begin(WantedRoot::Supplied(own())));
    assert_eq!(phases(&state), [("active", 1), ("prepared", 0)]);
    assert!(matches!(rotate(&state, state.now(), &nobody()).step, Some(Rotate::Bridge { .. })));
}

/// Lets a secondary hear all of the primary's roots.
fn hear(secondary: &mut State, primary: &State) {
    let from = secondary.progress(Table::Ca).cursor;
    let Some(next) = next(primary, Table::Ca, &from) else { return };
    let (primary, to): (Uuid, Cursor) = (primary.cluster().unwrap().id, next.to);
    let heard = Followed { primary, table: Table::Ca, from, to, change: next.change, is_all: true };
    done(secondary, Command::FollowPrimary(Box::new(heard)));
}

#[test]
fn a_secondary_flips_when_its_own_agents_and_servers_can_and_not_before() {
    let mut primary = issuing();
    let mut secondary = secondary();
    hear(&mut secondary, &primary);
    assert_eq!(phases(&secondary), [("active", 1)], "there is nobody who would have to learn of it");
    rotate_to(&mut primary, "root 2", "issuer 2");
    hear(&mut secondary, &primary);
    assert_eq!(phases(&secondary), [("active", 1), ("prepared", 0)]);
    assert_eq!(follow(&secondary, &nobody()), None);
    let servers: Vec<_> = secondary.members().map(|member| member.name.clone()).collect();
    let agents = LacksHere::Agents { servers: servers.clone(), lagging: 0, named: Vec::new() };
    assert_eq!(follow_waits(&secondary, &nobody()), [agents, LacksHere::Issuers { servers }]);
    let restored = State::from_records(secondary.to_records()).unwrap();
    assert_eq!(restored.heard_activation(), secondary.heard_activation());
    acknowledge(&mut secondary);
    issuer_under(&mut secondary, "root 2", "own issuer");
    assert_eq!(follow(&secondary, &nobody()), Some(2));
    assert_eq!(follow_waits(&secondary, &nobody()), []);
    assert!(refused(&mut secondary, Command::FollowActivation { activation: 3 }).contains("the activation to follow"));
    done(&mut secondary, Command::FollowActivation { activation: 2 });
    done(&mut secondary, Command::FollowActivation { activation: 2 });
    assert_eq!(phases(&secondary), [("active", 2), ("retired", 1)]);
    assert!(secondary.fence_of(&key_id("root 1")).is_some_and(|fence| fence.activation == 2));

    // It is away for a roll back and the next rotation.
    let id = primary.last_rotation().unwrap().rotation.id;
    done(&mut primary, Command::RollBack { rotation: id });
    acknowledge(&mut primary);
    while let Some(command) = planned(&primary) {
        done(&mut primary, command);
    }
    rotate_to(&mut primary, "root 3", "issuer 3");
    hear(&mut secondary, &primary);
    assert_eq!(phases(&secondary), [("active", 2), ("retired", 1), ("prepared", 0)]);
    acknowledge(&mut secondary);
    issuer_under(&mut secondary, "root 3", "own issuer 3");
    done(&mut secondary, Command::FollowActivation { activation: 4 });
    assert_eq!(secondary.roots(Ca::Mesh).activation(), 4);
}

/// Its issuers have ended, as the primary knows: the root that was active there has left the bundle while it was away.
#[test]
fn a_secondary_whose_root_was_pruned_meanwhile_goes_on_under_the_active_one_at_once() {
    for knows_of_it in [false, true] {
        let mut primary = issuing();
        let mut secondary = secondary();
        hear(&mut secondary, &primary);
        rotate_to(&mut primary, "root 2", "issuer 2");
        if knows_of_it {
            hear(&mut secondary, &primary);
            assert_eq!(phases(&secondary), [("active", 1), ("prepared", 0)]);
        }
        let pruned = primary.roots(Ca::Mesh).find(&key_id("root 1")).unwrap().modified;
        done(&mut primary, Command::PruneRoot { root: key_id("root 1"), expected: pruned });
        hear(&mut secondary, &primary);
        assert_eq!((phases(&secondary), secondary.heard_activation()), (vec![("active", 2)], None));
    }
}

#[test]
fn a_secondary_is_halted_with_the_primary_and_by_itself() {
    let mut primary = issuing();
    let mut secondary = secondary();
    hear(&mut secondary, &primary);
    done(&mut primary, Command::SetHalt { halted: true });
    hear(&mut secondary, &primary);
    assert!(secondary.is_halted() && secondary.is_primary_halted());
    done(&mut secondary, Command::SetHalt { halted: true });
    done(&mut primary, Command::SetHalt { halted: false });
    hear(&mut secondary, &primary);
    assert!(secondary.is_halted(), "its own switch is still set");
    done(&mut secondary, Command::SetHalt { halted: false });
    assert!(!secondary.is_halted());
    assert!(matches!(next(&primary, Table::Ca, &Cursor::default()).unwrap().change, Change::CaAndSwitches(..)));
}

#[test]
fn a_root_is_revoked_when_nothing_current_is_under_it_or_by_force() {
    let mut state = issuing();
    let leaf = Command::RecordIssuance(issuance(1, "web", START));
    assert!(matches!(propose(&mut state, START, leaf), Outcome::Recorded { .. }));
    rotate_to(&mut state, "root 2", "issuer 2");
    let revoke = |is_forced| Command::RevokeRoot { root: key_id("root 1"), reason: "stolen".into(), is_forced };
    let why = refused(&mut state, revoke(false));
    assert!(why.contains("1 leaves under it are in use, of spiffe://example.org/ns/default/dc/dc1/svc/web"), "{why}");
    let renewed = carrack_authority::issuance::Issuance { issuer: key_id("issuer 2"), ..issuance(2, "web", START) };
    let mut drained = state.clone();
    assert!(matches!(propose(&mut drained, START, Command::RecordIssuance(renewed)), Outcome::Recorded { .. }));
    done(&mut drained, revoke(false));
    done(&mut state, revoke(true));
    assert_eq!((phases(&state), phases(&drained)), (vec![("active", 2)], vec![("active", 2)]));
    assert!(matches!(
        propose(&mut state, Timestamp::EPOCH, revoke(true)),
        Outcome::Rejected(Rejection::NotFound { .. })
    ));
}

#[test]
fn a_server_asks_for_one_issuer_at_a_time_and_under_no_root_that_is_left() {
    let mut primary = issuing();
    let mut secondary = secondary();
    hear(&mut secondary, &primary);
    done(&mut primary, start_rotation("root 1"));
    let command = publish_rotation_root(&primary, "root 2");
    done(&mut primary, command);
    hear(&mut secondary, &primary);
    let own = |state: &State| own_issuers(state, NodeId(1), state.now(), |_| true);
    assert_eq!(to_ask(&own(&secondary)), Some(key_id("root 1")), "the active one first");
    done(&mut secondary, Command::RequestIssuer(issuer_request(1, "root 1", "k1")));
    assert_eq!(to_ask(&own(&secondary)), None, "another request would take its place");
    let signed = SignedIssuer { certificate: der("k1"), ..signed_issuer(1, secondary.index(), START.minus(HOUR)) };
    done(&mut secondary, Command::RecordIssuer(signed));
    assert_eq!(to_ask(&own(&secondary)), Some(key_id("root 2")));
    for step in [bridge_to, activate] {
        let command = step(&primary, "root 2");
        done(&mut primary, command);
    }
    hear(&mut secondary, &primary);
    let late = START.plus(DAY * 300);
    let own = own_issuers(&secondary, NodeId(1), late, |_| true);
    assert_eq!(own, [OwnIssuer::Ask { root: key_id("root 2") }], "the primary signs nothing more under root 1");
}
