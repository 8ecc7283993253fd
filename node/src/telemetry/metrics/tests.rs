//! Tests of `telemetry::metrics`.

use super::*;
use crate::telemetry::labels::CertificateKind;

fn text(metrics: &Metrics, second: u64) -> String {
    metrics.encode(Timestamp::from_seconds(second)).unwrap()
}

fn assert_line(text: &str, line: &str) {
    assert!(text.lines().any(|found| found == line), "`{line}` is not in\n{text}");
}

#[test]
fn what_is_counted_is_shown_in_the_open_metrics_format() {
    let metrics = Metrics::new();
    metrics.count_issuance(IssuanceOutcome::Recorded);
    metrics.count_issuance(IssuanceOutcome::Rejected);
    metrics.count_rejection("halted");
    metrics.observe_sign(Duration::from_micros(80));
    metrics.connections(Port::Raft).inc();
    metrics.count_refused_handshake(Port::Raft, "not_a_server");
    metrics.show_queue(Queue::Signing, 12);
    let text = text(&metrics, 0);
    assert_line(&text, r#"carrack_issuances_total{outcome="recorded"} 1"#);
    assert_line(&text, r#"carrack_issuances_total{outcome="rejected"} 1"#);
    assert_line(&text, r#"carrack_issuances_total{outcome="unknown"} 0"#);
    assert_line(&text, r#"carrack_issuance_rejections_total{reason="halted"} 1"#);
    assert_line(&text, r#"carrack_sign_seconds_bucket{le="0.0001"} 1"#);
    assert_line(&text, r#"carrack_connections{port="raft"} 1"#);
    assert_line(&text, r#"carrack_handshakes_refused_total{port="raft",reason="not_a_server"} 1"#);
    assert_line(&text, r#"carrack_queue_depth{queue="signing"} 12"#);
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn the_place_in_the_log_replaces_the_former_one() {
    let metrics = Metrics::new();
    let mut reading = RaftReading {
        role: RaftRole::Leader,
        term: 3,
        last_log_index: 12,
        committed_index: 11,
        applied_index: 10,
        snapshot_index: 0,
        lags: vec![(NodeId(2), 4)],
    };
    metrics.show_raft(&reading);
    assert_line(&text(&metrics, 0), r#"carrack_raft_replication_lag_entries{node="2"} 4"#);
    reading = RaftReading { role: RaftRole::Follower, lags: Vec::new(), ..reading };
    metrics.show_raft(&reading);
    let text = text(&metrics, 0);
    assert_line(&text, r#"carrack_raft_role{role="leader"} 0"#);
    assert_line(&text, r#"carrack_raft_role{role="follower"} 1"#);
    assert_line(&text, "carrack_raft_applied_index 10");
    assert!(!text.contains("carrack_raft_replication_lag_entries{"), "a follower knows no lags");
}

#[test]
fn the_end_of_each_watched_certificate_is_shown_as_of_the_reading() {
    let metrics = Metrics::new();
    let root = WatchedCertificate {
        kind: CertificateKind::ServerRoot,
        id: "ab:cd".into(),
        server: None,
        not_before: Timestamp::EPOCH,
        not_after: Timestamp::from_seconds(5000),
    };
    metrics.watch_certificates(vec![root]);
    let early = text(&metrics, 4000);
    assert_line(&early, r#"carrack_certificate_expiry_timestamp_seconds{kind="server-root",id="ab:cd"} 5000"#);
    assert_line(&early, r#"carrack_certificate_expiry_remaining_seconds{kind="server-root",id="ab:cd"} 1000"#);
    let late = text(&metrics, 5001);
    assert_line(&late, r#"carrack_certificate_expiry_remaining_seconds{kind="server-root",id="ab:cd"} -1"#);
    metrics.watch_certificates(Vec::new());
    assert!(!text(&metrics, 5001).contains("ab:cd"), "a pruned root is shown no more");
}

#[test]
fn two_servers_in_one_process_count_apart() {
    let (one, other) = (Metrics::new(), Metrics::new());
    one.count_expired_peer();
    assert_eq!((one.expired_peers(), other.expired_peers()), (1, 0));
}
