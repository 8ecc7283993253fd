//! Commands and reads from any server.

use std::time::Duration;

use carrack_authority::{
    command::Command,
    id::{FeatureLevel, NodeId, Revision},
    outcome::{Outcome, Rejection, WatchKey},
};
use carrack_raft::{ProposeError, ReadError};
use tokio::time::Instant;

use crate::cluster::{Cluster, announce, quick, soon};

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_decide_what_any_of_them_proposes() {
    let cluster = Cluster::formed(3, quick()).await;
    let mut last = 0;
    for node in 1..=3 {
        let proposed = cluster.halt(node, node % 2 == 0).await;
        assert_eq!(proposed.outcome, Outcome::Done);
        assert!(proposed.index > last);
        last = proposed.index;
    }
    cluster.all_apply(last).await;
    for node in 1..=3 {
        assert!(!cluster.replica(node).state().state.cluster().unwrap().is_halted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_command_carries_its_server_s_id_and_the_leader_s_own_stay_there() {
    let cluster = Cluster::formed(3, quick()).await;
    let leader = cluster.leader().await;
    let follower = cluster.replica(if leader == 3 { 2 } else { 3 });
    let (me, other) = (follower.node(), NodeId(1));
    let about_another = follower.propose(announce(1), soon()).await.unwrap().outcome;
    if me != other {
        assert_eq!(about_another, Outcome::Rejected(Rejection::WrongProposer { node: other, proposer: me }));
    }
    let raise = Command::RaiseFeatureLevel { expected: FeatureLevel(1), level: FeatureLevel(1) };
    assert_eq!(follower.propose(raise.clone(), soon()).await, Err(ProposeError::NotLeader));
    assert_eq!(cluster.replica(leader).propose(raise, soon()).await.unwrap().outcome, Outcome::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_proposals_from_everywhere_each_get_their_own_outcome() {
    let cluster = Cluster::formed(3, quick()).await;
    let before = cluster.replica(1).status().last_log.unwrap();
    let proposed = (0..600).map(|number| {
        let replica = cluster.replica(number % 3 + 1);
        async move {
            let about = number % 3 + 1 + number % 2;
            (replica.node().0, about, replica.propose(announce(about), soon()).await.unwrap())
        }
    });
    let proposed = futures::future::join_all(proposed).await;
    for (from, about, proposed) in &proposed {
        let wrong = matches!(proposed.outcome, Outcome::Rejected(Rejection::WrongProposer { .. }));
        assert_eq!(wrong, from != about, "{from} about {about}: {proposed:?}");
    }
    let entries = cluster.replica(1).status().last_log.unwrap() - before;
    assert!(entries < 300, "600 proposals in {entries} entries");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linearizable_read_sees_what_was_acknowledged_elsewhere() {
    let cluster = Cluster::formed(3, quick()).await;
    for turn in 0..30 {
        let halted = turn % 2 == 0;
        cluster.halt(turn % 3 + 1, halted).await;
        let read = cluster.replica((turn + 1) % 3 + 1).read_linearizable(soon()).await.unwrap();
        assert_eq!(read.state.cluster().unwrap().is_halted, halted, "turn {turn}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_s_watcher_is_woken_by_its_key_only() {
    let cluster = Cluster::formed(3, quick()).await;
    let watcher = cluster.replica(2);
    let seen = watcher.read_linearizable(soon()).await.unwrap();
    let (halt, roots) = (seen.state.modified(&WatchKey::Cluster), WatchKey::CaConfig);
    let woken = watcher.wait_for(WatchKey::Cluster, halt, soon());
    let quiet = watcher.wait_for(roots, seen.state.modified(&roots), Instant::now() + Duration::from_millis(300));
    let (proposed, woken, quiet) = futures::join!(cluster.halt(1, true), woken, quiet);
    assert_eq!(woken.unwrap().state.modified(&WatchKey::Cluster), Revision(proposed.index));
    assert_eq!(quiet.unwrap().state.modified(&roots), seen.state.modified(&roots));
    assert_eq!(watcher.status().watchers, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_decided_and_nothing_read() {
    let mut cluster = Cluster::formed(3, quick()).await;
    // A server that has just begun to vote may not have applied the beginning yet.
    cluster.replica(3).wait_for(WatchKey::Cluster, Revision(0), soon()).await.unwrap();
    cluster.kill(1);
    cluster.kill(2);
    let alone = cluster.replica(3);
    let deadline = || Instant::now() + Duration::from_millis(1500);
    let refused = alone.propose(Command::SetHalt { halted: true }, deadline()).await.unwrap_err();
    assert!(matches!(refused, ProposeError::NoLeader | ProposeError::OutcomeUnknown), "{refused}");
    assert_eq!(alone.read_linearizable(deadline()).await.err(), Some(ReadError::NoLeader));
    assert!(!alone.state().state.cluster().unwrap().is_halted);
}
