//! Servers that end at any moment, and stores that lost something.

use std::time::Duration;

use carrack_authority::{command::Command, id::NodeId, outcome::Outcome};
use carrack_raft::{HighWaterError, LogError, MembershipError, OpenError};
use tokio::time::Instant;

use crate::cluster::{Cluster, announce, quick, soon};

#[tokio::test(flavor = "multi_thread")]
async fn the_others_go_on_when_the_leader_is_killed_and_it_comes_back() {
    let mut cluster = Cluster::formed(3, quick()).await;
    for round in 0..3 {
        let leader = cluster.leader().await;
        cluster.kill(leader);
        let next = cluster.leader().await;
        let proposed = cluster.halt(next, round % 2 == 0).await;
        cluster.start(leader).await;
        cluster.all_apply(proposed.index).await;
        let back = cluster.replica(leader).state();
        assert_eq!(back.state.cluster().unwrap().is_halted, round % 2 == 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_all_servers_were_killed_at_once() {
    let mut cluster = Cluster::formed(3, quick()).await;
    let proposed = cluster.halt(2, true).await;
    for node in 1..=3 {
        cluster.kill(node);
    }
    for node in 1..=3 {
        cluster.start(node).await;
    }
    cluster.all_apply(proposed.index).await;
    let leader = cluster.leader().await;
    let read = cluster.replica(leader).read_linearizable(soon()).await.unwrap();
    assert!(read.state.cluster().unwrap().is_halted);
    assert_eq!(cluster.halt(1, false).await.outcome, Outcome::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_safe_command_gets_its_outcome_through_a_leader_s_death() {
    let mut cluster = Cluster::formed(3, quick()).await;
    let leader = cluster.leader().await;
    let followers: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut proposals = Vec::new();
    for number in 0..200 {
        let replica = cluster.replica(followers[number % 2]);
        let node = replica.node().0;
        proposals.push(tokio::spawn(async move { replica.propose(announce(node), deadline).await }));
        if number == 100 {
            cluster.kill(leader);
        }
    }
    for proposal in proposals {
        let proposed = proposal.await.unwrap().unwrap();
        assert!(!matches!(proposed.outcome, Outcome::Rejected(carrack_authority::outcome::Rejection::NotBootstrapped)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_caller_of_an_unsafe_command_hears_its_outcome_or_that_it_is_unknown() {
    let mut cluster = Cluster::formed(3, quick()).await;
    let leader = cluster.leader().await;
    let follower = (1..=3).find(|node| *node != leader).unwrap();
    let mut proposals = Vec::new();
    for number in 0..60 {
        let replica = cluster.replica(follower);
        proposals.push(tokio::spawn(async move {
            replica.propose(Command::SetHalt { halted: number % 2 == 0 }, soon()).await
        }));
        if number == 30 {
            cluster.kill(leader);
        }
    }
    for proposal in proposals {
        match proposal.await.unwrap() {
            Ok(proposed) => assert_eq!(proposed.outcome, Outcome::Done),
            Err(error) => assert_eq!(error, carrack_raft::ProposeError::OutcomeUnknown),
        }
    }
    let next = cluster.leader().await;
    cluster.halt(next, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_a_lost_end_is_refused_and_its_server_rejoins_under_a_new_id() {
    let mut cluster = Cluster::formed(3, quick()).await;
    let leader = cluster.leader().await;
    let lost = (1..=3).find(|node| *node != leader).unwrap();
    cluster.halt(leader, true).await;
    cluster.stop(lost).await;
    std::fs::remove_dir_all(cluster.directory(lost).join("log")).unwrap();
    let error = cluster.try_start(lost).await.unwrap_err();
    assert!(matches!(error, OpenError::Log(LogError::HighWater(HighWaterError::LogLost { .. }))), "{error}");
    assert!(error.to_string().contains("carrack server --join"), "{error}");
    std::fs::remove_dir_all(cluster.directory(lost)).unwrap();
    std::fs::create_dir(cluster.directory(lost)).unwrap();
    let error = cluster.try_start(lost).await.unwrap_err();
    assert!(matches!(error, OpenError::Log(LogError::HighWater(HighWaterError::LogLost { .. }))), "{error}");

    let replica = cluster.replica(leader);
    let id = replica.subscribe().borrow().membership.id;
    replica.remove(NodeId(lost), id, soon()).await.unwrap();
    assert_eq!(replica.remove(NodeId(lost), id, soon()).await, Err(MembershipError::Changed));
    cluster.start(4).await;
    cluster.join(4).await;
    let proposed = cluster.halt(4, false).await;
    cluster.all_apply(proposed.index).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_leader_hands_over_and_a_guard_that_is_old_changes_nothing() {
    let cluster = Cluster::formed(3, quick()).await;
    let leader = cluster.leader().await;
    let replica = cluster.replica(leader);
    let id = replica.subscribe().borrow().membership.id;
    replica.set_address(NodeId(2), "127.0.0.1:65000", id, soon()).await.unwrap();
    assert_eq!(replica.promote(NodeId(2), id, soon()).await, Err(MembershipError::Changed));
    let id = replica.subscribe().borrow().membership.id;
    replica.remove(NodeId(leader), id, soon()).await.unwrap();
    let other = cluster.replica(if leader == 1 { 2 } else { 1 });
    let mut leadership = other.subscribe();
    let gone = leadership.wait_for(|now| {
        now.leader.is_some_and(|node| node.0 != leader) && !now.membership.voters.contains(&NodeId(leader))
    });
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap().unwrap();
    other.propose(announce(other.node().0), soon()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_can_be_handed_to_a_named_voter() {
    let cluster = Cluster::formed(3, quick()).await;
    let leader = cluster.leader().await;
    let to = leader % 3 + 1;
    cluster.replica(leader).transfer_leadership(NodeId(to), soon()).await.unwrap();
    let mut leadership = cluster.replica(to).subscribe();
    let ready = leadership.wait_for(carrack_raft::Leadership::is_ready_leader);
    tokio::time::timeout(Duration::from_secs(20), ready).await.unwrap().unwrap();
}
