//! The leader dies under load, again and again: no certificate that a client received is lost, and none is there twice.

use std::time::Duration;

use carrack_tests::{cluster::Cluster, issuance::IssuanceLog, load::Load, server::Start, wait};

const KILLS: usize = 20;
const CLIENTS: usize = 8;

#[test]
fn a_leader_that_is_killed_twenty_times_under_load_loses_no_certificate_and_doubles_none() {
    let mut cluster = Cluster::form(3);
    let load = Load::start(&cluster, CLIENTS);
    load.wait_for_one_after(wait::now());
    let mut gaps: Vec<Duration> = (0..KILLS).map(|_| kill_and_restart_the_leader(&mut cluster, &load)).collect();
    let received = load.stop();
    let logs = cluster.issuance_logs();
    for (log, server) in logs.iter().zip(&cluster.servers) {
        log.check_chain();
        let recorded = log.by_serial();
        for certificate in &received {
            let found = recorded.get(certificate.serial.as_str());
            assert_eq!(found, Some(&certificate.digest.as_str()), "{} on {}", certificate.serial, server.name);
        }
    }
    gaps.sort();
    tell(&received.len(), &logs[0], &gaps);
}

/// Gives the time from the kill to the first certificate that was asked for after it.
fn kill_and_restart_the_leader(cluster: &mut Cluster, load: &Load) -> Duration {
    let leader = cluster.leader();
    let killed_at = wait::now();
    cluster.server(&leader).kill();
    let gap = load.wait_for_one_after(killed_at);
    cluster.server(&leader).start(Start::Again);
    cluster.server(&leader).wait_until_ready();
    cluster.wait_until_caught_up();
    gap
}

#[expect(clippy::print_stdout, reason = "what was measured belongs to the test's output")]
fn tell(received: &usize, log: &IssuanceLog, gaps: &[Duration]) {
    let (median, longest) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
    println!("{received} certificates received, {} recorded, {KILLS} leaders killed", log.length);
    println!("from a kill to the next certificate: median {median:.1?}, longest {longest:.1?}");
}
