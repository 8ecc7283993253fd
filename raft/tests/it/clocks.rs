//! The log's time follows the lower median of the servers' clocks.

use std::time::Duration;

use carrack_authority::time::Timestamp;
use carrack_raft::Tuning;

use crate::cluster::{Cluster, quick};

const HOUR_MS: i64 = 3_600_000;

fn distance(one: Timestamp, other: Timestamp) -> Duration {
    one.since(other).max(other.since(one))
}

async fn check_time(cluster: &Cluster) {
    let leader = cluster.leader().await;
    let proposed = cluster.halt(leader, true).await;
    cluster.all_apply(proposed.index).await;
    for (node, server) in &cluster.servers {
        let (log, right) = (server.replica.log_time(), cluster.clocks[&1].right());
        assert!(distance(log, right) < Duration::from_secs(4), "server {node}: {log} instead of {right}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_s_wrong_clock_moves_nothing_whoever_leads() {
    for skew in [HOUR_MS, -HOUR_MS] {
        let mut cluster = Cluster::formed(3, quick()).await;
        let wrong = cluster.leader().await;
        cluster.clocks[&wrong].skew(skew);
        check_time(&cluster).await;
        // The wrong one is asked too, and may lead again.
        cluster.kill(wrong);
        cluster.start(wrong).await;
        check_time(&cluster).await;
        let leader = cluster.leader().await;
        if leader != wrong {
            let deadline = crate::cluster::soon();
            let to = carrack_authority::id::NodeId(wrong);
            cluster.replica(leader).transfer_leadership(to, deadline).await.unwrap();
        }
        check_time(&cluster).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_s_time_never_goes_back_with_another_leader_s_clock() {
    let mut cluster = Cluster::formed(3, quick()).await;
    let before = cluster.replica(1).state().state.now();
    for clock in cluster.clocks.values() {
        clock.skew(-HOUR_MS);
    }
    let leader = cluster.leader().await;
    cluster.kill(leader);
    cluster.start(leader).await;
    let leader = cluster.leader().await;
    let proposed = cluster.halt(leader, true).await;
    cluster.all_apply(proposed.index).await;
    assert!(cluster.replica(leader).state().state.now() >= before);
}

#[tokio::test(flavor = "multi_thread")]
async fn time_goes_on_when_nothing_is_proposed() {
    let cluster = Cluster::formed(1, quick()).await;
    let before = cluster.replica(1).state();
    let next = cluster.replica(1).wait_index(before.index + 1, crate::cluster::soon()).await.unwrap();
    let moved = next.state.now().since(before.state.now());
    assert!((Duration::from_secs(9)..Duration::from_secs(14)).contains(&moved), "{moved:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_stamps_are_not_those_of_a_majority_hands_over() {
    let second = Duration::from_secs(1);
    let tuning = Tuning { clock_asked_every: second / 4, clock_handed_over_after: second, ..quick() };
    let cluster = Cluster::formed(3, tuning).await;
    let leader = cluster.leader().await;
    let mut leadership = cluster.replica(leader).subscribe();
    for (node, clock) in &cluster.clocks {
        if *node != leader {
            clock.skew(HOUR_MS);
        }
    }
    let other = leadership.wait_for(|now| now.leader.is_some_and(|node| node.0 != leader));
    tokio::time::timeout(20 * second, other).await.unwrap().unwrap();
    let next = cluster.leader().await;
    cluster.halt(next, true).await;
    let ahead = cluster.replica(next).log_time().since(cluster.clocks[&leader].right());
    assert!(ahead > Duration::from_secs(3590), "{ahead:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_server_whose_clock_was_set_begins_anew() {
    let second = Duration::from_secs(1);
    let tuning = Tuning { clock_asked_every: second / 4, clock_handed_over_after: second, ..quick() };
    let cluster = Cluster::formed(1, tuning).await;
    cluster.clocks[&1].skew(HOUR_MS);
    let replica = cluster.replica(1);
    let moved = async {
        while replica.log_time().since(cluster.clocks[&1].right()) < Duration::from_secs(3590) {
            cluster.halt(1, true).await;
        }
    };
    tokio::time::timeout(20 * second, moved).await.unwrap();
}
