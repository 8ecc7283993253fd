//! The whole datacenter stops, by a power failure or on request, and comes back with everything that it had.

use carrack_tests::{
    cluster::Cluster,
    http::Answer,
    issuance::IssuanceLog,
    load::{Load, Received, csr},
    ports::free_address,
    server::Start,
    wait,
};
use serde_json::{Value, json};

const CLIENTS: usize = 8;
/// Certificates that were received before the power fails.
const RECEIVED_BEFORE: usize = 100;

#[test]
fn a_datacenter_that_loses_power_under_load_and_one_that_is_stopped_come_back_with_everything() {
    let mut cluster = Cluster::form(3);
    let secret = make_policy_and_token(&cluster);
    let before = everything(&cluster);
    let load = Load::start(&cluster, CLIENTS);
    load.wait_for_count(RECEIVED_BEFORE);
    cluster.kill_all();
    let received = load.stop();

    start_all(&mut cluster);
    assert_eq!(everything(&cluster), before);
    expect_all_recorded(&cluster.issuance_logs(), &received);
    for position in 0..cluster.servers.len() {
        expect_issued(&cluster, position, &secret);
    }

    let logs = cluster.issuance_logs();
    for server in &mut cluster.servers {
        assert!(server.stop().success(), "{} did not stop well\n{}", server.name, server.log_tail());
    }
    start_all(&mut cluster);
    assert_eq!(everything(&cluster), before);
    assert!(cluster.issuance_logs() == logs, "a clean stop changed the issuance log");
    for position in 0..cluster.servers.len() {
        expect_issued(&cluster, position, &secret);
    }
}

#[test]
fn a_server_that_comes_back_at_other_addresses_is_found_there_whether_it_followed_or_led() {
    let mut cluster = Cluster::form(3);
    for name in [cluster.followers().remove(0), cluster.leader()] {
        cluster.server(&name).stop();
        // Another leader than the one that it remembers, which calls it at the old address.
        cluster.leader();
        let server = cluster.server(&name);
        (server.raft, server.grpc, server.http) = (free_address(), free_address(), free_address());
        let (raft, grpc) = (server.raft.to_string(), server.grpc.to_string());
        server.start(Start::Again);
        server.wait_until_ready();
        for asked in &cluster.servers {
            wait::until(&format!("{} to know where {name} is", asked.name), || {
                let members = asked.client().with_token(&cluster.token).read("/v1/carrack/members?stale")?;
                let members = members.as_array().ok_or("no members are shown")?;
                let member = members.iter().find(|member| member["NodeName"] == name.as_str());
                let member = member.ok_or_else(|| format!("{name} is no member"))?;
                let is_there = member["RaftAddress"] == raft.as_str() && member["GrpcAddress"] == grpc.as_str();
                wait::holds(is_there, || member.to_string())
            });
        }
        let issued = sign(&cluster, 0, &cluster.token);
        assert_eq!(issued.status, 200, "{}", issued.body);
        cluster.issuance_logs();
    }
}

fn start_all(cluster: &mut Cluster) {
    for server in &mut cluster.servers {
        server.start(Start::Again);
    }
    for server in &mut cluster.servers {
        server.wait_until_ready();
    }
    cluster.wait_until_caught_up();
}

/// Gives the secret of a token for the service `web` alone.
fn make_policy_and_token(cluster: &Cluster) -> String {
    let client = cluster.any().client().with_token(&cluster.token);
    let policy = json!({ "Name": "web", "Rules": "service \"web\" { policy = \"write\" }" });
    let made = client.send("PUT", "/v1/acl/policy", Some(&policy)).expect("an answer");
    assert_eq!(made.status, 200, "{}", made.body);
    let token = json!({ "Description": "of web", "Policies": [{ "Name": "web" }] });
    let made = client.send("PUT", "/v1/acl/token", Some(&token)).expect("an answer");
    assert_eq!(made.status, 200, "{}", made.body);
    cluster.wait_until_caught_up();
    made.json()["SecretID"].as_str().expect("a secret").to_owned()
}

/// What every server shows of its tokens, policies, roots and issuers.
fn everything(cluster: &Cluster) -> Vec<Vec<Value>> {
    let paths = ["/v1/acl/tokens?stale", "/v1/acl/policies?stale", "/v1/connect/ca/roots?stale"];
    let of = |position: usize| {
        let server = &cluster.servers[position];
        let client = server.client().with_token(&cluster.token);
        let read = |path: &&str| wait::until(path, || client.read(path));
        let status = wait::until("a status", || server.status(&cluster.token));
        let ids = json!([status["ClusterId"], status["NodeId"], status["TrustDomain"], status["Ca"]["Issuers"]]);
        paths.iter().map(read).chain([ids]).collect()
    };
    (0..cluster.servers.len()).map(of).collect()
}

fn expect_all_recorded(logs: &[IssuanceLog], received: &[Received]) {
    for log in logs {
        log.check_chain();
        let recorded = log.by_serial();
        for certificate in received {
            let found = recorded.get(certificate.serial.as_str());
            assert_eq!(found, Some(&certificate.digest.as_str()), "{}", certificate.serial);
        }
    }
}

fn sign(cluster: &Cluster, position: usize, secret: &str) -> Answer {
    let body = json!({ "Csr": csr(cluster, "web") });
    let client = cluster.servers[position].client().with_token(secret);
    client.send("PUT", "/v1/carrack/sign", Some(&body)).expect("an answer")
}

/// Each server issues with the key that it has had all along, at the first request.
fn expect_issued(cluster: &Cluster, position: usize, secret: &str) {
    let issued = sign(cluster, position, secret);
    assert_eq!(issued.status, 200, "{}: {}", cluster.servers[position].name, issued.body);
}
