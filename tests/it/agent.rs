//! The agent of a host beside a datacenter of real servers: it joins once, answers from memory, goes to another server, goes on without
//! any, and serves nothing that its servers have ended.

use std::{fs, thread};

use carrack_authority::x509::{
    chain::{Usage, verify_chain},
    pem,
};
use carrack_tests::{
    agent::Agent,
    cluster::Cluster,
    http::{Answer, Http},
    issuance::IssuanceLog,
    server::Start,
    wait,
};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const ROOTS: &str = "/v1/agent/connect/ca/roots";

pub(crate) fn agent_token(cluster: &Cluster, node: &str) -> String {
    let made = cluster
        .any()
        .command(&cluster.token, &["token", "agent", "--node", node, "--format", "json"])
        .run()
        .expect_json();
    made["Token"].as_str().expect("a token").to_owned()
}

pub(crate) fn leaf_path(service: &str) -> String {
    format!("/v1/agent/connect/ca/leaf/{service}")
}

pub(crate) fn get(client: &Http, path: &str) -> Answer {
    client.send("GET", path, None).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub(crate) fn expect_leaf(client: &Http, service: &str) -> Value {
    let answer = get(client, &leaf_path(service));
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

/// A started agent that serves.
pub(crate) fn agent(cluster: &Cluster, node: &str, directory: &TempDir) -> Agent {
    let mut agent = Agent::new(node, directory.path());
    agent.start(Some(&agent_token(cluster, node)));
    agent.wait_until_ready();
    agent
}

/// What a workload would verify: the leaf leads to the roots that the same agent gives, and is in the log for this agent.
fn expect_verified(client: &Http, leaf: &Value) {
    let certificates = pem::decode_certificates(leaf["CertPEM"].as_str().expect("a chain")).expect("PEM");
    let roots = get(client, "/v1/agent/connect/ca/roots?pem=true").body;
    let roots = pem::decode_certificates(&roots).expect("PEM");
    let chain: Vec<&[u8]> = certificates[1..].iter().map(|der| der.as_bytes()).collect();
    let anchors: Vec<&[u8]> = roots.iter().map(|der| der.as_bytes()).collect();
    let now = carrack::server::ports::MachineClock;
    let now = carrack_raft::ports::WallClock::now(&now);
    let named = verify_chain(certificates[0].as_bytes(), &chain, &anchors, now, Usage::Server).expect("it verifies");
    assert_eq!(leaf["ServiceURI"], named.to_string());
}

#[test]
fn an_agent_answers_from_memory_goes_to_another_server_and_on_without_any() {
    let mut cluster = Cluster::form(3);
    let directory = TempDir::new().expect("a temporary directory");
    let mut agent = agent(&cluster, "n1", &directory);
    let client = agent.client().with_token(&cluster.token);

    let first = expect_leaf(&client, "web");
    expect_verified(&client, &first);
    let again = get(&client, &leaf_path("web"));
    assert_eq!(
        (again.header("x-cache"), again.json()["SerialNumber"].clone()),
        (Some("HIT"), first["SerialNumber"].clone())
    );
    let log = IssuanceLog::of(cluster.any(), &cluster.token);
    assert!(log.by_serial().contains_key(first["SerialNumber"].as_str().expect("a serial")), "it is recorded");
    let shown = agent.command(&cluster.token, &["agent", "cache", "--format", "json"]).run().expect_json();
    assert_eq!((&shown["Leaves"][0]["Service"], &shown["Tokens"]), (&json!("web"), &json!(1)), "{shown}");
    let listed = cluster.any().command(&cluster.token, &["agent", "list", "--format", "json"]).run().expect_json();
    assert_eq!(listed[0]["NodeName"], "n1", "{listed}");

    // The server that it speaks to dies.
    let spoken_to = shown["Server"].as_str().expect("a server").to_owned();
    let dead = cluster.servers.iter_mut().find(|server| server.grpc.to_string() == spoken_to).expect("one of them");
    dead.kill();
    wait::until("a leaf by another server", || {
        let answer = client.send("GET", &leaf_path("api"), None)?;
        wait::holds(answer.status == 200, || answer.body.clone())
    });
    expect_verified(&client, &expect_leaf(&client, "api"));

    // All die.
    cluster.kill_all();
    assert_eq!(expect_leaf(&client, "web")["SerialNumber"], first["SerialNumber"]);
    assert_eq!(get(&client, ROOTS).status, 200);
    wait::until("the agent to say that no server is reached", || {
        let answer = client.send("GET", &leaf_path("other"), None)?;
        wait::holds(answer.status == 503 && answer.body.contains("no server is reached"), || answer.body.clone())
    });

    // It is started anew while nobody is there: what it had is gone with its memory, and it says why it serves nothing.
    assert!(agent.stop(), "it ends well");
    agent.start(None);
    wait::until("the agent to answer", || client.send("GET", "/livez", None).map(drop));
    for path in [ROOTS.to_owned(), leaf_path("web")] {
        let refused = get(&client, &path);
        assert_eq!(refused.status, 503, "{}", refused.body);
        assert!(refused.body.contains("this agent has just started, or has slept"), "{}", refused.body);
    }

    // They come back, and nobody does anything else.
    for server in &mut cluster.servers {
        server.start(Start::Again);
    }
    agent.wait_until_ready();
    wait::until("a leaf", || {
        let answer = client.send("GET", &leaf_path("web"), None)?;
        wait::holds(answer.status == 200, || answer.body.clone())
    });
    expect_verified(&client, &expect_leaf(&client, "web"));
}

/// CVE-2022-3867 (Nomad): a stream outlived its token.
#[test]
fn a_token_that_is_deleted_or_never_was_gets_nothing_from_an_agent() {
    let cluster = Cluster::form(1);
    let directory = TempDir::new().expect("a temporary directory");
    let agent = agent(&cluster, "n1", &directory);
    let server = cluster.any().client().with_token(&cluster.token);
    let body = json!({ "ServiceIdentities": [{ "ServiceName": "web" }] });
    let made = server.send("PUT", "/v1/acl/token", Some(&body)).expect("an answer").json();
    let client = agent.client().with_token(made["SecretID"].as_str().expect("a secret"));

    let leaf = expect_leaf(&client, "web");
    let denied = get(&client, &leaf_path("db"));
    assert_eq!(denied.status, 403, "{}", denied.body);
    assert!(denied.body.contains("lacks permission 'service:write' on \"db\""), "{}", denied.body);
    let unknown = agent.client().with_token("11111111-2222-3333-4444-555555555555");
    assert_eq!(
        (get(&unknown, &leaf_path("web")).status, get(&unknown, &leaf_path("web")).body.as_str()),
        (403, "ACL not found")
    );
    let anonymous = get(&agent.client(), &leaf_path("web"));
    assert_eq!(anonymous.status, 403, "{}", anonymous.body);
    assert_eq!(get(&agent.client(), ROOTS).status, 200, "roots are public");

    // Whoever waits for the next leaf hears of the deletion at once, and so does everybody else.
    let index = get(&client, &leaf_path("web")).header("x-consul-index").expect("an index").to_owned();
    let waiting = {
        let (client, path) = (client.clone(), format!("{}?index={index}&wait=5m", leaf_path("web")));
        thread::spawn(move || get(&client, &path))
    };
    let accessor = made["AccessorID"].as_str().expect("an id");
    let deleted = server.send("DELETE", &format!("/v1/acl/token/{accessor}"), None).expect("an answer");
    assert_eq!(deleted.status, 200, "{}", deleted.body);
    let woken = waiting.join().expect("it is answered");
    assert_eq!((woken.status, woken.body.as_str()), (403, "ACL not found"), "after {}", leaf["SerialNumber"]);
    assert_eq!(get(&client, &leaf_path("web")).status, 403);
}

#[test]
fn an_agent_token_is_good_once_and_a_removed_agent_serves_nothing_more() {
    let cluster = Cluster::form(1);
    let directory = TempDir::new().expect("a temporary directory");
    let token = agent_token(&cluster, "n1");
    let mut agent = Agent::new("n1", directory.path());
    agent.start(Some(&token));
    agent.wait_until_ready();
    let client = agent.client().with_token(&cluster.token);
    expect_leaf(&client, "web");

    let stranger = Agent::new("stranger", directory.path()).start_in_vain(Some(&token));
    assert_eq!(stranger.code, Some(1));
    assert!(stranger.errors.contains("used already, by an agent with another key"), "{}", stranger.errors);
    let nobody = Agent::new("nobody", directory.path()).start_in_vain(None);
    assert!(
        nobody.errors.contains("holds no agent yet") && nobody.errors.contains("carrack token agent"),
        "{}",
        nobody.errors
    );
    let damaged = Agent::new("damaged", directory.path()).start_in_vain(Some("carrack-agent-1.x"));
    assert_eq!(damaged.code, Some(2), "{}", damaged.errors);
    assert!(agent.stop());
    let twice = agent.start_in_vain(Some(&token));
    assert!(twice.errors.contains("holds the agent of n1 already: start it without --join"), "{}", twice.errors);
    agent.start(None);
    agent.wait_until_ready();

    let removed = cluster.any().command(&cluster.token, &["agent", "remove", "n1"]).run().expect_output();
    assert!(removed.contains("n1 is removed"), "{removed}");
    wait::until("the agent to serve nothing", || {
        let answer = client.send("GET", &leaf_path("web"), None)?;
        wait::holds(answer.status == 503 && answer.body.contains("this key is no agent's"), || answer.body.clone())
    });
    let unknown = cluster.any().carrack(&cluster.token, &["agent", "remove", "n1"]);
    assert!(unknown.errors.contains("no agent is named `n1`"), "{}", unknown.errors);

    // Its host joins anew.
    agent.kill();
    fs::remove_dir_all(agent.data_directory()).expect("its directory can be removed");
    agent.start(Some(&agent_token(&cluster, "n1")));
    agent.wait_until_ready();
    expect_leaf(&client, "web");
}

/// What the agent knows of intentions and of revoked leaves follows their changes, and goes on deciding when no server is there.
#[test]
fn an_agent_decides_on_connections_from_memory_and_hears_of_each_change() {
    let mut cluster = Cluster::form(1);
    let directory = TempDir::new().expect("a temporary directory");
    let agent = agent(&cluster, "n1", &directory);
    let client = agent.client().with_token(&cluster.token);
    let server = cluster.any().client().with_token(&cluster.token);
    let intend = |action: &str| {
        let path = "/v1/connect/intentions/exact?source=web&destination=db";
        let written = server.send("PUT", path, Some(&json!({ "Action": action }))).expect("an answer");
        assert_eq!(written.status, 200, "{}", written.body);
    };
    let leaf = expect_leaf(&client, "web");
    let question = json!({
        "Target": "db", "ClientCertURI": leaf["ServiceURI"], "ClientCertSerial": leaf["SerialNumber"],
    });
    let ask = || {
        let answer = client.send("POST", "/v1/agent/connect/authorize", Some(&question))?;
        wait::holds(answer.status == 200, || answer.body.clone())?;
        let answer = answer.json();
        Ok::<_, String>((answer["Authorized"] == true, answer["Reason"].as_str().unwrap_or_default().to_owned()))
    };
    let expect = |is_allowed: bool, reason: &str| {
        wait::until(reason, || {
            let (allowed, why) = ask()?;
            wait::holds(allowed == is_allowed && why.contains(reason), || format!("{allowed}: {why}"))
        });
    };
    assert_eq!(ask(), Ok((false, "Default behavior configured by ACLs".to_owned())));
    intend("allow");
    expect(true, "Matched L4 intention: default/web => default/db (Precedence: 9, Action: ALLOW)");
    intend("deny");
    expect(false, "Action: DENY");
    intend("allow");
    expect(true, "Action: ALLOW");

    cluster.servers[0].kill();
    expect(true, "Action: ALLOW");
    let answered = client.send("POST", "/v1/agent/connect/authorize", Some(&question)).expect("an answer");
    assert_eq!(answered.header("x-cache"), Some("HIT"));
    cluster.servers[0].start(Start::Again);
    cluster.servers[0].wait_until_ready();
    let serial = leaf["SerialNumber"].as_str().expect("a serial");
    let revoked = cluster.any().carrack(&cluster.token, &["leaf", "revoke", serial]);
    assert!(revoked.expect_output().contains("is revoked"));
    expect(false, "is revoked");
    let wrong = client.send("GET", "/v1/agent/connect/authorize", None).expect("an answer");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST, PUT")));
}

/// Servers say once of each bundle that all of their agents have it, and name those that have not.
#[test]
fn an_agent_that_does_not_take_a_new_bundle_over_is_named_until_it_does() {
    let mut cluster = Cluster::form(1);
    let directory = TempDir::new().expect("a temporary directory");
    let _awake = agent(&cluster, "n1", &directory);
    let mut asleep = agent(&cluster, "n2", &directory);
    let token = cluster.token.clone();
    let acknowledged = |cluster: &Cluster| {
        let bundle = cluster.any().status(&token)?["Bundle"].clone();
        let all = bundle["Servers"].as_array().cloned().unwrap_or_default();
        let is_done = !all.is_empty() && all.iter().all(|server| server["Acknowledged"] == bundle["Revision"]);
        wait::holds(is_done, || bundle.to_string()).map(|()| bundle["Revision"].as_u64().expect("a number"))
    };
    wait::until("the first bundle to be acknowledged", || acknowledged(&cluster).map(drop));
    let first = acknowledged(&cluster).expect("it is");

    // A second server: the keys of the roots are sealed anew, and the bundle says where it is.
    asleep.pause();
    cluster.add("b");
    cluster.wait_until_voting("b");
    wait::until("the sleeping agent to be named", || {
        let status = cluster.any().status(&token)?;
        let problems = status["Problems"].to_string();
        wait::holds(problems.contains("have not taken over bundle") && problems.contains(": n2;"), || {
            format!("{problems} {}", status["Bundle"])
        })
    });
    assert!(acknowledged(&cluster).is_err(), "not everybody has it");
    let shown = cluster.any().command(&token, &["status"]).run().expect_output();
    assert!(shown.contains("not yet acknowledged by the agents of"), "{shown}");

    asleep.resume();
    wait::until("the new bundle to be acknowledged", || acknowledged(&cluster).map(drop));
    assert!(acknowledged(&cluster).expect("it is") > first);
    let shown = cluster.any().command(&token, &["status"]).run().expect_output();
    assert!(shown.contains("every agent has it") && !shown.contains("have not taken over"), "{shown}");
}

/// A revoked issuer signs nothing more: its leaves are renewed under another one, and whoever shows one of it is denied.
#[test]
fn leaves_of_a_revoked_issuer_are_renewed_and_those_that_are_left_are_denied() {
    let cluster = Cluster::form(1);
    let directory = TempDir::new().expect("a temporary directory");
    let agent = agent(&cluster, "n1", &directory);
    let client = agent.client().with_token(&cluster.token);
    let server = cluster.any();
    server.command(&cluster.token, &["intention", "create", "--allow", "web", "db"]).run().expect_output();
    let before = expect_leaf(&client, "web");
    let ask = |leaf: &Value, is_shown: bool| {
        let mut question = json!({
            "Target": "db", "ClientCertURI": leaf["ServiceURI"], "ClientCertSerial": leaf["SerialNumber"],
        });
        if is_shown {
            question["ClientCert"] = leaf["CertPEM"].clone();
        }
        let answer = client.send("POST", "/v1/agent/connect/authorize", Some(&question)).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        (answer.json()["Authorized"] == true, answer.json()["Reason"].as_str().expect("a reason").to_owned())
    };
    assert!(ask(&before, false).0 && ask(&before, true).0);

    let status = server.status(&cluster.token).expect("a status");
    let issuer = status["Ca"]["Issuers"][0]["Id"].as_str().expect("an issuer").to_owned();
    let revoke = |more: &[&str]| {
        let arguments = [&["ca", "revoke", "--issuer", &issuer, "--reason", "lost disk"], more].concat();
        server.carrack(&cluster.token, &arguments)
    };
    let in_use = revoke(&[]);
    assert_eq!(in_use.code, Some(1));
    assert!(
        in_use.errors.contains("leaves under it are in use") && in_use.errors.contains("--force"),
        "{}",
        in_use.errors
    );
    assert!(revoke(&["--force"]).expect_output().contains("is revoked in every datacenter"));

    let after = wait::until("a leaf of another issuer", || {
        let leaf = client.send("GET", &leaf_path("web"), None)?;
        wait::holds(leaf.status == 200, || leaf.body.clone())?;
        let leaf = leaf.json();
        wait::holds(leaf["SerialNumber"] != before["SerialNumber"], || "the same leaf".into()).map(|()| leaf)
    });
    expect_verified(&client, &after);
    for (leaf, is_shown, is_allowed, reason) in [
        (&before, true, false, "it has issued the client's certificate"),
        (&before, false, false, "without ClientCert nothing shows"),
        (&after, false, false, "without ClientCert nothing shows"),
        (&after, true, true, "Action: ALLOW"),
    ] {
        let (allowed, why) = ask(leaf, is_shown);
        assert!(allowed == is_allowed && why.contains(reason), "{allowed}: {why}");
    }
    let on_server =
        json!({ "Target": "db", "ClientCertURI": after["ServiceURI"], "ClientCertSerial": after["SerialNumber"] });
    let on_server =
        server.client().with_token(&cluster.token).send("POST", "/v1/agent/connect/authorize", Some(&on_server));
    let on_server = on_server.expect("an answer").json();
    assert!(on_server["Reason"].as_str().is_some_and(|why| why.contains("is revoked: lost disk")), "{on_server}");
    let shown = server.command(&cluster.token, &["ca", "revoked"]).run().expect_output();
    assert!(shown.contains(&issuer) && shown.contains("lost disk"), "{shown}");
}

/// Nothing that still works stands under the issuer of a removed server for long.
#[test]
fn leaves_of_a_removed_server_are_renewed_by_the_others() {
    let mut cluster = Cluster::form(3);
    let directory = TempDir::new().expect("a temporary directory");
    let agent = agent(&cluster, "n1", &directory);
    let client = agent.client().with_token(&cluster.token);
    let services: Vec<String> = (0..8).map(|number| format!("service-{number}")).collect();
    let serials: Vec<Value> =
        services.iter().map(|service| expect_leaf(&client, service)["SerialNumber"].clone()).collect();
    let shown = agent.command(&cluster.token, &["agent", "cache", "--format", "json"]).run().expect_json();
    let spoken_to = shown["Server"].as_str().expect("a server").to_owned();
    let signer = cluster.servers.iter_mut().find(|server| server.grpc.to_string() == spoken_to).expect("one of them");
    signer.kill();
    let name = signer.name.clone();
    wait::until("the removal", || {
        cluster.any().carrack(&cluster.token, &["members", "remove", &name]).output_or_reason()
    });
    wait::until("a leaf to be renewed", || {
        let renewed = services
            .iter()
            .zip(&serials)
            .find(|(service, serial)| get(&client, &leaf_path(service)).json()["SerialNumber"] != **serial);
        wait::holds(renewed.is_some(), || agent.log())
    });
}
