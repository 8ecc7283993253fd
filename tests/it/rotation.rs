//! The root is rotated under real servers and an agent: forth, back, with the leader killed in between, and across two datacenters. What
//! the agent serves verifies all the while, for whoever knows the former root alone, and for whoever knows the new one alone.

use carrack_authority::{
    key::Der,
    x509::{
        CertificateFacts,
        chain::{Usage, verify_chain},
        pem,
    },
};
use carrack_tests::{
    cluster::Cluster,
    http::Http,
    server::{Server, Start},
    wait,
    wan::Wan,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::agent::{ROOTS, agent, expect_leaf, get};

const BUNDLE: &str = "/v1/connect/ca/roots";
const STATUS: &str = "/v1/carrack/ca";

fn status(server: &Server, token: &str) -> Result<Value, String> {
    server.client().with_token(token).read(&format!("{STATUS}?stale"))
}

fn carrack(cluster: &Cluster, arguments: &[&str]) -> Value {
    cluster.any().command(&cluster.token, arguments).run().expect_json()
}

fn rotate(cluster: &Cluster, flags: &[&str]) -> u64 {
    let mut arguments = vec!["ca", "rotate", "--format", "json"];
    arguments.extend(flags);
    carrack(cluster, &arguments)["ID"].as_u64().expect("the id of a rotation")
}

/// Waits until the rotation is over, and answers how it ended.
#[track_caller]
fn wait_until_over(cluster: &Cluster, id: u64) -> String {
    wait::until("the rotation to be over", || {
        let status = status(cluster.any(), &cluster.token)?;
        let last = &status["LastRotation"];
        wait::holds(status["Rotation"].is_null() && last["ID"] == id, || status["Rotation"].to_string())?;
        Ok(last["Phase"].as_str().unwrap_or_default().to_owned())
    })
}

/// Waits until the rotation waits for something that is called so.
#[track_caller]
fn wait_for_wait(cluster: &Cluster, what: &str) {
    wait::until(what, || {
        let status = status(cluster.any(), &cluster.token)?;
        let waits = status["Rotation"]["Waits"].to_string();
        wait::holds(waits.contains(what), || format!("{} {waits}", status["Rotation"]["Phase"]))
    });
}

/// The roots of the bundle, by whether they are active.
fn roots(client: &Http, path: &str) -> Vec<(bool, Der)> {
    let bundle = get(client, path).json();
    let roots = bundle["Roots"].as_array().expect("roots").iter().map(|root| {
        let der = pem::decode_certificates(root["RootCert"].as_str().expect("PEM")).expect("PEM");
        (root["Active"] == true, der[0].clone())
    });
    roots.collect()
}

fn key_kind(root: &Der) -> String {
    CertificateFacts::read(root.as_bytes()).expect("a root").public_key.kind.to_string()
}

/// Whether a leaf, with the chain that it is served with, leads to this root alone.
fn leads_to(leaf: &Value, root: &Der) -> bool {
    let certificates = pem::decode_certificates(leaf["CertPEM"].as_str().expect("a chain")).expect("PEM");
    let chain: Vec<&[u8]> = certificates[1..].iter().map(|der| der.as_bytes()).collect();
    let now = carrack_raft::ports::WallClock::now(&carrack::server::ports::MachineClock);
    verify_chain(certificates[0].as_bytes(), &chain, &[root.as_bytes()], now, Usage::Server).is_ok()
}

/// Waits until the agent serves a leaf under the active root.
#[track_caller]
fn wait_for_leaf_under(client: &Http, service: &str, root: &Der) -> Value {
    let issued_under = |leaf: &Value| {
        let certificates = pem::decode_certificates(leaf["CertPEM"].as_str().expect("a chain")).expect("PEM");
        let issuer = CertificateFacts::read(certificates[1].as_bytes()).expect("an issuer");
        let root = CertificateFacts::read(root.as_bytes()).expect("a root");
        issuer.authority_key_id == root.key_id
    };
    wait::until("a leaf under the active root", || {
        let leaf = expect_leaf(client, service);
        wait::holds(issued_under(&leaf), || "it is under the former one".into())?;
        Ok(leaf)
    })
}

#[test]
fn a_root_is_rotated_and_rolled_back_and_every_leaf_verifies() {
    let mut cluster = Cluster::form(3);
    let directory = TempDir::new().expect("a temporary directory");
    let agent = agent(&cluster, "n1", &directory);
    let client = agent.client().with_token(&cluster.token);
    let first = expect_leaf(&client, "web");
    let [(true, former)] = &roots(&client, ROOTS)[..] else { panic!("one root") };

    // The rotation stops before it activates: nothing is issued under the new root, a second one is refused, and it can be taken back.
    let id = rotate(&cluster, &["--key-type", "ec-p384", "--pause-before", "activate"]);
    wait_for_wait(&cluster, "it is paused before it activates");
    let refused = cluster.any().command(&cluster.token, &["ca", "rotate"]).run();
    assert_eq!(refused.code, Some(1), "{}", refused.errors);
    assert!(refused.errors.contains(&format!("the rotation {id}, which began at")), "{}", refused.errors);
    assert_eq!(expect_leaf(&client, "web")["SerialNumber"], first["SerialNumber"]);
    let bundle = roots(&client, ROOTS);
    assert_eq!(bundle.iter().map(|(is_active, _)| *is_active).collect::<Vec<_>>(), [true, false]);
    carrack(&cluster, &["ca", "rollback", "--format", "json"]);
    assert_eq!(wait_until_over(&cluster, id), "abandoned");
    wait::until("the bundle of before", || {
        let count = roots(&client, ROOTS).len();
        wait::holds(count == 1, || format!("{count} roots"))
    });

    // It goes through, while the leader is killed.
    let id = rotate(&cluster, &["--key-type", "ec-p384", "--pause-before", "activate"]);
    wait_for_wait(&cluster, "it is paused before it activates");
    let leader = cluster.leader();
    cluster.server(&leader).kill();
    wait::until("another leader to let it go on", || {
        cluster.any().carrack(&cluster.token, &["ca", "resume"]).output_or_reason()
    });
    cluster.server(&leader).start(Start::Again);
    assert_eq!(wait_until_over(&cluster, id), "finished");
    let (_, new) = roots(&client, ROOTS).into_iter().find(|(is_active, _)| *is_active).expect("an active root");
    assert_eq!(key_kind(&new), "ec-p384");
    let second = wait_for_leaf_under(&client, "web", &new);
    assert!(leads_to(&second, &new) && leads_to(&second, former), "the bridge leads to the former root");
    assert!(leads_to(&first, former) && !leads_to(&first, &new));
    let text = cluster.any().carrack(&cluster.token, &["ca", "status"]).expect_output();
    for part in [&*format!("rotation {id} finished"), "active since", "retired since", "stays: "] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // It is taken back: the former root is active again, and what was issued in between still verifies.
    carrack(&cluster, &["ca", "rollback", "--format", "json"]);
    let back = wait_for_leaf_under(&client, "web", former);
    assert!(leads_to(&back, former));
    let bundle = roots(&client, ROOTS);
    assert!(bundle.iter().any(|(_, root)| leads_to(&second, root)));
    let log =
        cluster.any().client().with_token(&cluster.token).read(&format!("{STATUS}?consistent")).expect("a status");
    assert_eq!((&log["LastRotation"]["Phase"], &log["Activation"]), (&"rolled back".into(), &3.into()), "{log}");
}

/// Whoever has a server has its issuer's key and, in the primary, the root's.
#[test]
fn a_compromised_server_is_revoked_removed_and_its_root_leaves_the_bundle() {
    let cluster = Cluster::form(3);
    let directory = TempDir::new().expect("a temporary directory");
    let agent = agent(&cluster, "n1", &directory);
    let client = agent.client().with_token(&cluster.token);
    let before: Vec<Value> = (0..6).map(|number| expect_leaf(&client, &format!("service-{number}"))).collect();
    let [(true, former)] = &roots(&client, ROOTS)[..] else { panic!("one root") };
    let unknown = cluster.any().command(&cluster.token, &["ca", "revoke", "--server", "nobody"]).run();
    assert_eq!(unknown.code, Some(2), "{}", unknown.errors);
    assert!(unknown.errors.contains("has this name or id"), "{}", unknown.errors);
    let elsewhere = cluster.any().command(&cluster.token, &["ca", "revoke", "--server", "dc9/3"]).run();
    assert!(elsewhere.errors.contains("no datacenter `dc9` is known"), "{}", elsewhere.errors);

    let arguments = ["ca", "revoke", "--server", "b", "--reason", "stolen", "--format", "json"];
    let revoked = carrack(&cluster, &arguments);
    let id = revoked["Rotation"].as_u64().unwrap_or_else(|| panic!("a rotation begins: {revoked}"));
    let members = carrack(&cluster, &["members", "list", "--format", "json"]);
    assert!(members.as_array().is_some_and(|all| all.iter().all(|it| it["NodeName"] != "b")), "{members}");
    let issuers = carrack(&cluster, &["ca", "revoked", "--format", "json"]);
    assert_eq!(issuers[0]["Reason"], "stolen", "{issuers}");
    assert_eq!(wait_until_over(&cluster, id), "finished");
    wait::until("the bundle without the root of before", || {
        let bundle = roots(&client, ROOTS);
        wait::holds(bundle.len() == 1 && bundle[0].1 != *former, || format!("{} roots", bundle.len()))
    });
    let [(true, new)] = &roots(&client, ROOTS)[..] else { panic!("one root") };
    for (number, before) in before.iter().enumerate() {
        let leaf = expect_leaf(&client, &format!("service-{number}"));
        assert!(leads_to(&leaf, new) && !leads_to(&leaf, former), "nothing leads from the one that it had");
        assert!(!leads_to(before, new));
    }
    let again = carrack(&cluster, &["ca", "revoke", "--server", "dc1/2", "--format", "json"]);
    assert_eq!((&again["Rotation"], &again["IsMember"]), (&Value::Null, &false.into()), "{again}");
}

/// What its own operator has to do first is said, and nothing is rotated before.
#[test]
fn a_compromised_server_of_a_secondary_is_revoked_from_the_primary_by_its_id() {
    let wan = Wan::new(std::time::Duration::from_millis(5));
    let primary = Cluster::form_primary(1, &wan);
    let secondary = Cluster::form_secondary(2, "dc2", &primary);
    let client = secondary.any().client().with_token(&secondary.token);
    let [(true, former)] = &roots(&client, BUNDLE)[..] else { panic!("one root") };
    let revoke = |flags: &[&str]| {
        let arguments = [&["ca", "revoke", "--server", "dc2/2"][..], flags].concat();
        primary.any().command(&primary.token, &arguments).run()
    };
    let first = revoke(&[]).expect_output();
    assert!(first.contains("1 issuers of server 2 of dc2") && first.contains("carrack members remove 2"), "{first}");
    wait::until("the secondary to have heard of it", || {
        let revoked = client.read("/v1/carrack/issuer-revocations")?;
        wait::holds(revoked.as_array().is_some_and(|all| all.len() == 1), || revoked.to_string())
    });
    let again = revoke(&["--format", "json"]).expect_json();
    assert_eq!((&again["IsMember"], &again["Rotation"]), (&true.into(), &Value::Null), "{again}");

    carrack(&secondary, &["members", "remove", "b", "--format", "json"]);
    let id = wait::until("the primary to know that it is removed", || {
        let revoked = revoke(&["--format", "json"]).expect_json();
        revoked["Rotation"].as_u64().ok_or_else(|| revoked.to_string())
    });
    assert_eq!(wait_until_over(&primary, id), "finished");
    for cluster in [&primary, &secondary] {
        let client = cluster.any().client().with_token(&cluster.token);
        wait::until("the bundle without the root of before", || {
            let bundle = roots(&client, BUNDLE);
            wait::holds(bundle.len() == 1 && bundle[0].1 != *former, || format!("{} roots", bundle.len()))
        });
    }
}

#[test]
fn a_rotation_goes_through_two_datacenters() {
    let wan = Wan::new(std::time::Duration::from_millis(5));
    let primary = Cluster::form_primary(1, &wan);
    let secondary = Cluster::form_secondary(1, "dc2", &primary);
    let client = secondary.any().client().with_token(&secondary.token);
    let [(true, former)] = &roots(&client, BUNDLE)[..] else { panic!("one root") };
    let id = rotate(&primary, &["--key-type", "rsa-2048"]);
    assert_eq!(wait_until_over(&primary, id), "finished");
    wait::until("the secondary to issue under the new root", || {
        let status = status(secondary.any(), &secondary.token)?;
        wait::holds(status["Activation"] == 2, || status.to_string())
    });
    let bundle = roots(&client, BUNDLE);
    let (_, new) = bundle.iter().find(|(is_active, _)| *is_active).expect("an active root");
    assert_eq!(key_kind(new), "rsa-2048");
    let leaf = wait_for_leaf_under(&client, "web", new);
    assert!(leads_to(&leaf, new) && leads_to(&leaf, former));
    // The secondary's operator is told where roots are rotated, and may do it from there.
    let told = secondary.any().carrack(&secondary.token, &["ca", "status"]).expect_output();
    assert!(told.contains("Roots are rotated in the primary datacenter dc1"), "{told}");
    wait::until("the primary to know it", || {
        let status = status(primary.any(), &primary.token)?;
        let dc2 = status["Datacenters"].as_array().and_then(|all| all.iter().find(|it| it["Name"] == "dc2")).cloned();
        let dc2 = dc2.ok_or("dc2 is not shown")?;
        wait::holds(dc2["Activation"] == 2, || dc2.to_string())
    });
}
