//! What servers say of the bundles that their agents have: what apply takes, and when a server says it.

use std::time::Duration;

use carrack_authority::{
    Command, Outcome, Rejection, State, WatchKey,
    agent::{Acknowledgement, LAGGING_NAMED_MAX, LaggingAgents},
    id::{NodeId, Revision},
    plan::acknowledge::{Acknowledge, LAG_AFTER, REPORT_EVERY, Seen, SeenAgent, acknowledge},
    root::Ca,
    state::StateRecord,
};

use crate::world::*;

const NODE: NodeId = NodeId(1);

fn lagging(names: &[&str]) -> LaggingAgents {
    LaggingAgents { count: names.len() as u64, named: names.iter().map(|it| name(it)).collect() }
}

fn tell(state: &mut State, node: NodeId, bundle: Revision, lagging: LaggingAgents) -> Result<Outcome, Rejection> {
    propose(state, START, Command::AcknowledgeBundle { node, bundle, lagging }).accepted()
}

fn agent(of: &str, has: Revision, known_for: Duration) -> SeenAgent {
    SeenAgent { node: name(of), has, known_for }
}

fn seen(agents: Vec<SeenAgent>) -> Seen {
    Seen { agents, newest_for: LAG_AFTER * 2, ..Seen::default() }
}

fn told(bundle: Revision, names: &[&str]) -> Acknowledge {
    Acknowledge::Tell { bundle, lagging: lagging(names) }
}

#[test]
fn a_server_speaks_of_its_own_agents_of_known_bundles_and_takes_nothing_back() {
    let mut state = issuing();
    let newest = state.bundle_revision();
    assert_eq!(newest, state.modified(&WatchKey::Roots(Ca::Mesh)));
    let other = tell(&mut state, NodeId(2), newest, lagging(&[])).unwrap_err();
    assert!(matches!(other, Rejection::WrongProposer { .. }), "{other}");
    let future = tell(&mut state, NODE, Revision(newest.0 + 1), lagging(&[])).unwrap_err().to_string();
    assert!(future.contains(&format!("the newest one is {newest}")), "{future}");
    let many = LaggingAgents { count: 100, named: vec![name("n1"); LAGGING_NAMED_MAX + 1] };
    assert!(matches!(tell(&mut state, NODE, newest, many), Err(Rejection::Invalid { .. })));
    let miscounted = LaggingAgents { count: 0, named: vec![name("n1")] };
    assert!(matches!(tell(&mut state, NODE, newest, miscounted), Err(Rejection::Invalid { .. })));
    assert_eq!(state.acknowledgement(NODE), None);

    assert_eq!(tell(&mut state, NODE, Revision(2), lagging(&["n1"])), Ok(Outcome::Done));
    assert_eq!(tell(&mut state, NODE, newest, lagging(&[])), Ok(Outcome::Done));
    let late = tell(&mut state, NODE, Revision(2), lagging(&["n1"])).unwrap_err();
    assert!(matches!(late, Rejection::Conflict { .. }), "{late}");
    let seen = state.modified(&WatchKey::Acknowledgements);
    assert_eq!(tell(&mut state, NODE, newest, lagging(&[])), Ok(Outcome::Done), "again");
    assert_eq!(state.modified(&WatchKey::Acknowledgements), seen, "nothing new");
    assert_eq!(state.acknowledgement(NODE).map(|told| told.bundle), Some(newest));

    let copy = State::from_records(state.to_records()).unwrap();
    assert_eq!(copy.acknowledgement(NODE), state.acknowledgement(NODE));
    let of_nobody = state.to_records().map(|record| match record {
        StateRecord::Acknowledgement(told) => StateRecord::Acknowledgement(Acknowledgement { node: NodeId(9), ..told }),
        record => record,
    });
    let refused = State::from_records(of_nobody).unwrap_err().to_string();
    assert!(refused.contains("the acknowledgement of server 9") && refused.contains("no member"), "{refused}");
}

#[test]
fn a_server_tells_at_once_when_all_have_it_and_after_a_while_who_has_not() {
    let mut state = issuing();
    let (newest, old) = (state.bundle_revision(), Revision(1));
    let plan = |state: &State, seen: &Seen| acknowledge(state, NODE, seen);
    assert_eq!(acknowledge(&state, NodeId(7), &seen(vec![])), Acknowledge::Wait(None), "it was removed");
    assert_eq!(plan(&state, &seen(vec![])), told(newest, &[]), "nobody is behind");
    let all = vec![agent("n1", newest, LAG_AFTER), agent("n2", Revision(newest.0 + 5), Duration::ZERO)];
    assert_eq!(plan(&state, &seen(all.clone())), told(newest, &[]));

    // Who has just come, or could not have it yet, does not lag; but nothing is acknowledged without them.
    let second = Duration::from_secs(1);
    let fresh = seen(vec![agent("n1", old, second)]);
    assert_eq!(plan(&state, &fresh), Acknowledge::Wait(Some(LAG_AFTER - second)));
    let young = Seen { newest_for: second, ..seen(vec![agent("n1", old, LAG_AFTER * 9)]) };
    assert_eq!(plan(&state, &young), Acknowledge::Wait(Some(LAG_AFTER - second)));

    let one_lags = seen(vec![agent("n1", old, LAG_AFTER), agent("n2", newest, LAG_AFTER)]);
    assert_eq!(plan(&state, &one_lags), told(Revision(0), &["n1"]));
    tell(&mut state, NODE, Revision(0), lagging(&["n1"])).unwrap();
    assert_eq!(plan(&state, &one_lags), Acknowledge::Wait(None), "it is told");
    let two_lag = seen(vec![agent("n1", old, LAG_AFTER), agent("n2", old, LAG_AFTER)]);
    let again = Seen { reported: Some(second), ..two_lag.clone() };
    assert_eq!(plan(&state, &again), Acknowledge::Wait(Some(REPORT_EVERY - second)), "not too often");
    assert_eq!(plan(&state, &two_lag), told(Revision(0), &["n1", "n2"]));
    let done = Seen { reported: Some(second), ..seen(all) };
    assert_eq!(plan(&state, &done), told(newest, &[]), "the word that all have it never waits");

    // A process that has just started does not know who spoke to the one before.
    let restarted = Seen { unknown_for: second, reported: None, ..done.clone() };
    assert_eq!(plan(&state, &restarted), told(Revision(0), &[]), "those that lagged are gone");
    tell(&mut state, NODE, Revision(0), lagging(&[])).unwrap();
    assert_eq!(plan(&state, &restarted), Acknowledge::Wait(Some(second)));
    tell(&mut state, NODE, newest, lagging(&[])).unwrap();
    assert_eq!(plan(&state, &done), Acknowledge::Wait(None));

    let crowd = (0..100).map(|number| agent(&format!("n{number}"), old, LAG_AFTER)).collect();
    let Acknowledge::Tell { bundle, lagging } = plan(&state, &seen(crowd)) else { panic!("they lag") };
    assert_eq!((bundle, lagging.count, lagging.named.len()), (newest, 100, LAGGING_NAMED_MAX));
}
