//! py-consul 1.8.0, unmodified, from the first token on, and beside an agent.

use carrack_tests::{
    agent::Agent,
    cluster::Cluster,
    foreign::Python,
    server::{Server, Start},
};

#[test]
fn py_consul_bootstraps_makes_tokens_policies_and_intentions_gets_leaves_and_waits_for_changes() {
    let python = Python::with_clients().expect("the clients can be installed");
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let mut server = Server::new("a", directory.path());
    server.flags.push("--without-recovery".into());
    server.start(Start::Bootstrap);
    server.wait_until_ready();
    let (port, raft) = (server.http.port().to_string(), server.raft.to_string());
    let secret = python
        .run(concat!(include_str!("py_consul_common.py"), include_str!("py_consul.py")), &["127.0.0.1", &port, &raft])
        .unwrap();
    let status = server.status(&secret).expect("the token that py-consul made is good");
    assert_eq!(status["Leader"]["NodeName"], "a", "{status}");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn py_consul_gets_roots_leaves_and_verdicts_from_an_agent() {
    let python = Python::with_clients().expect("the clients can be installed");
    let cluster = Cluster::form(1);
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let made = ["token", "agent", "--node", "n1", "--format", "json"];
    let made = cluster.any().command(&cluster.token, &made).run().expect_json();
    let mut agent = Agent::new("n1", directory.path());
    agent.start(made["Token"].as_str());
    agent.wait_until_ready();
    let (agent_port, server_port) = (agent.http.port().to_string(), cluster.any().http.port().to_string());
    let arguments = ["127.0.0.1", &agent_port, &server_port, &cluster.token];
    assert_eq!(
        python
            .run(concat!(include_str!("py_consul_common.py"), include_str!("py_consul_agent.py")), &arguments)
            .unwrap(),
        "good"
    );
    assert!(!agent.log().contains("panicked"), "{}", agent.log());
}
