//! Consul's HTTP API as its clients know it, on a datacenter of three real servers: forms, headers, blocking queries,
//! consistency, and what still answers without a quorum.

use carrack_authority::x509::{CertificateFacts, pem};
use carrack_tests::{
    cluster::Cluster,
    http::{Answer, Http},
    wait,
};
use serde_json::{Value, json};

#[test]
fn consuls_routes_answer_with_consuls_forms_on_every_server() {
    let mut cluster = Cluster::form(3);
    roots_have_one_form_everywhere(&cluster);
    servers_are_told_alike(&cluster);
    a_leaf_comes_with_its_key_and_is_kept(&cluster);
    the_configuration_is_read_and_put_back(&cluster);
    queries_block_until_something_changes(&cluster);
    parameters_mean_what_they_mean_in_consul(&cluster);
    without_a_quorum_what_needs_none_still_answers(&mut cluster);
}

fn managed(cluster: &Cluster, position: usize) -> Http {
    cluster.servers[position].client().with_token(&cluster.token)
}

fn get(client: &Http, path: &str, status: u16) -> Answer {
    let answer = client.send("GET", path, None).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(answer.status, status, "{path}: {}", answer.body);
    answer
}

fn index(answer: &Answer) -> u64 {
    answer.header("x-consul-index").and_then(|index| index.parse().ok()).expect("the answer has an index")
}

fn roots_have_one_form_everywhere(cluster: &Cluster) {
    let mut seen = Vec::new();
    for server in &cluster.servers {
        let client = server.client();
        let answer = get(&client, "/v1/connect/ca/roots", 200);
        for (name, value) in [
            ("content-type", "application/json"),
            ("x-consul-knownleader", "true"),
            ("x-consul-lastcontact", "0"),
            ("x-consul-effective-consistency", "leader"),
            ("x-consul-default-acl-policy", "deny"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{name} of {}", server.name);
        }
        let roots = answer.json();
        let bundle = get(&client, "/v1/connect/ca/roots?pem=true", 200);
        assert_eq!(bundle.header("content-type"), Some("application/pem-certificate-chain"));
        // Consul's bundles had no newline at the end, and the next file began on the same line.
        assert!(bundle.body.starts_with("-----BEGIN CERTIFICATE-----\n"), "{}", bundle.body);
        assert!(bundle.body.ends_with("\n-----END CERTIFICATE-----\n"), "{}", bundle.body);
        assert_eq!(bundle.body, roots["Roots"][0]["RootCert"].as_str().expect("a root has its certificate"));
        assert_eq!(get(&client, "/v1/connect/ca/roots?pem=0", 200).json(), roots);
        let of_agent = get(&client, "/v1/agent/connect/ca/roots", 200);
        assert_eq!((of_agent.json(), of_agent.header("x-cache")), (roots.clone(), Some("HIT")));
        assert!(of_agent.header("age").is_some());
        seen.push((index(&answer), roots));
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "every server tells the same roots under the same index: {seen:?}");
    let root = &seen[0].1["Roots"][0];
    assert_eq!(root["ID"], seen[0].1["ActiveRootID"]);
    assert_eq!((&root["PrivateKeyType"], &root["PrivateKeyBits"]), (&json!("ec"), &json!(256)));
}

fn servers_are_told_alike(cluster: &Cluster) {
    let leader = cluster.leader();
    let leading = cluster.servers.iter().find(|server| server.name == leader).expect("it is one of them");
    let mut expected: Vec<String> = cluster.servers.iter().map(|server| server.raft.to_string()).collect();
    expected.sort();
    for (position, server) in cluster.servers.iter().enumerate() {
        let client = server.client();
        assert_eq!(get(&client, "/v1/status/leader", 200).json(), json!(leading.raft.to_string()));
        let peers: Vec<String> = serde_json::from_value(get(&client, "/v1/status/peers", 200).json()).expect("a list");
        let mut peers = peers;
        peers.sort();
        assert_eq!(peers, expected);
        let raft = get(&managed(cluster, position), "/v1/operator/raft/configuration", 200).json();
        let members = raft["Servers"].as_array().expect("it lists servers");
        assert!(raft["Index"].as_u64().is_some_and(|index| index > 0), "{raft}");
        assert_eq!(members.len(), 3, "{raft}");
        for member in members {
            assert_eq!((&member["Voter"], &member["ProtocolVersion"]), (&json!(true), &json!("3")));
            assert_eq!(member["Leader"], json!(member["Node"] == *leader), "{member}");
        }
        let own = get(&managed(cluster, position), "/v1/agent/self", 200).json();
        assert_eq!((&own["Config"]["Datacenter"], &own["Config"]["NodeName"]), (&json!("dc1"), &json!(server.name)));
    }
}

fn a_leaf_comes_with_its_key_and_is_kept(cluster: &Cluster) {
    let client = managed(cluster, 1);
    let path = "/v1/agent/connect/ca/leaf/web";
    let answer = get(&client, path, 200);
    assert_eq!((answer.header("x-cache"), answer.header("cache-control")), (Some("MISS"), Some("no-store")));
    let leaf = answer.json();
    let fields: Vec<&str> = leaf.as_object().expect("an object").keys().map(String::as_str).collect();
    let expected = [
        "CertPEM",
        "CreateIndex",
        "ModifyIndex",
        "PrivateKeyPEM",
        "SerialNumber",
        "Service",
        "ServiceURI",
        "ValidAfter",
        "ValidBefore",
    ];
    assert_eq!(fields, expected);
    assert_eq!(leaf["ModifyIndex"], json!(index(&answer)));
    let certificates = pem::decode_certificates(leaf["CertPEM"].as_str().expect("text")).expect("certificates");
    assert_eq!(certificates.len(), 2, "the leaf and its issuer, no root");
    let facts = CertificateFacts::read(certificates[0].as_bytes()).expect("the leaf can be read");
    let key = rcgen::KeyPair::from_pem(leaf["PrivateKeyPEM"].as_str().expect("text")).expect("the key can be read");
    assert_eq!(facts.public_key.spki.as_bytes(), rcgen::PublicKeyData::subject_public_key_info(&key));
    assert_eq!(leaf["SerialNumber"], json!(facts.serial.to_string()));
    assert!(leaf["ServiceURI"].as_str().is_some_and(|uri| uri.ends_with("/ns/default/dc/dc1/svc/web")), "{leaf}");

    let kept = get(&client, path, 200);
    assert_eq!((kept.json(), kept.header("x-cache")), (leaf.clone(), Some("HIT")));
    assert!(kept.header("age").is_some());
    let start = wait::now();
    let blocked = get(&client, &format!("{path}?index={}&wait=1s", index(&answer)), 200);
    assert!(start.elapsed().as_secs() >= 1, "{:?}", start.elapsed());
    assert_eq!((blocked.json(), index(&blocked)), (leaf.clone(), index(&answer)));
    let behind = get(&client, &format!("{path}?index={}&wait=15s", index(&answer) - 1), 200);
    assert_eq!(behind.json(), leaf);
    // Each server keeps leaves of its own, with keys that never left it; the log gives them growing indexes.
    let other = get(&managed(cluster, 2), path, 200);
    assert_ne!(other.json()["SerialNumber"], leaf["SerialNumber"]);
    assert!(index(&other) > index(&answer));
    let other_token = json!({ "ServiceIdentities": [{ "ServiceName": "web" }] });
    let made = client.send("PUT", "/v1/acl/token", Some(&other_token)).expect("an answer comes").json();
    let of_other = cluster.servers[1].client().with_token(made["SecretID"].as_str().expect("a secret"));
    assert_ne!(get(&of_other, path, 200).json()["SerialNumber"], leaf["SerialNumber"], "no token sees another's key");
}

fn the_configuration_is_read_and_put_back(cluster: &Cluster) {
    let path = "/v1/connect/ca/configuration";
    let put = |position: usize, body: &Value| {
        managed(cluster, position).send("PUT", path, Some(body)).expect("an answer comes")
    };
    let before = get(&managed(cluster, 0), path, 200).json();
    assert_eq!(before["Provider"], "consul");
    for (key, value) in [
        ("LeafCertTTL", json!("72h")),
        ("IntermediateCertTTL", json!("8760h")),
        ("RootCertTTL", json!("87600h")),
        ("PrivateKeyType", json!("ec")),
        ("PrivateKeyBits", json!(256)),
        ("CSRMaxPerSecond", json!(0)),
        ("CSRMaxConcurrent", json!(0)),
    ] {
        assert_eq!(before["Config"][key], value, "{key}");
    }
    // What was read can be put back as it is, through any server, and changes nothing.
    let same = put(1, &before);
    assert_eq!((same.status, &*same.body), (200, ""));
    assert_eq!(get(&managed(cluster, 2), path, 200).json(), before);
    // As Consul's command line and Terraform write it.
    let changed = json!({ "Provider": "consul", "Config": { "leaf_cert_ttl": "36h0m0s", "rotation_period": "" } });
    assert_eq!(put(2, &changed).status, 200);
    let after = get(&managed(cluster, 0), path, 200);
    assert_eq!(after.json()["Config"]["LeafCertTTL"], "36h");
    assert!(after.json()["ModifyIndex"].as_u64() > before["ModifyIndex"].as_u64());
    assert_eq!(json!(index(&after)), after.json()["ModifyIndex"]);
    let mut services = 0..;
    wait::until("the new life", || {
        let service = services.next().unwrap_or_default();
        let leaf = managed(cluster, 1).read(&format!("/v1/agent/connect/ca/leaf/life-{service}"))?;
        let certificates = pem::decode_certificates(leaf["CertPEM"].as_str().unwrap_or_default());
        let certificates = certificates.map_err(|error| error.to_string())?;
        let facts = CertificateFacts::read(certificates[0].as_bytes()).map_err(|error| error.to_string())?;
        let hours = facts.not_after.since(facts.not_before).as_secs().div_ceil(3600);
        wait::holds((36..=37).contains(&hours), || format!("{hours} h"))
    });
    let refusals = [
        (json!({ "Provider": "vault", "Config": {} }), 501),
        (json!({ "Provider": "consul", "Config": { "PrivateKey": "-----BEGIN", "RootCert": "-----BEGIN" } }), 400),
        (json!({ "Provider": "consul", "Config": { "RotationPeriod": "36h" } }), 400),
        (json!({ "Provider": "consul", "Config": { "PrivateKeyType": "ec", "PrivateKeyBits": 521 } }), 400),
        (json!({ "Provider": "consul", "Config": {}, "State": { "a": "b" } }), 400),
    ];
    for (body, status) in refusals {
        for position in 0..3 {
            let answer = put(position, &body);
            assert_eq!(answer.status, status, "{body}: {}", answer.body);
        }
    }
    assert_eq!(get(&managed(cluster, 0), path, 200).json(), after.json(), "a refusal changes nothing");
    let stale = put(0, &before);
    assert_eq!(stale.status, 409, "with the index of an older one: {}", stale.body);
    let mut back = before.clone();
    back["ModifyIndex"] = after.json()["ModifyIndex"].clone();
    assert_eq!(put(0, &back).status, 200);
    assert_eq!(get(&managed(cluster, 1), path, 200).json()["Config"], before["Config"]);
}

fn queries_block_until_something_changes(cluster: &Cluster) {
    let before = get(&managed(cluster, 1), "/v1/acl/policies", 200);
    let path = format!("/v1/acl/policies?wait=15s&index={}", index(&before));
    let start = wait::now();
    let woken = std::thread::scope(|scope| {
        let clients: Vec<Http> = (0..3).map(|position| managed(cluster, position)).collect();
        let waiting: Vec<_> = clients
            .into_iter()
            .map(|client| {
                let path = &path;
                scope.spawn(move || get(&client, path, 200))
            })
            .collect();
        let body = json!({ "Name": "wakes", "Rules": "" });
        let made = managed(cluster, 2).send("PUT", "/v1/acl/policy", Some(&body)).expect("an answer comes");
        assert_eq!(made.status, 200, "{}", made.body);
        waiting.into_iter().map(|query| query.join().expect("an answer comes")).collect::<Vec<_>>()
    });
    assert!(start.elapsed().as_secs() < 14, "the queries did not wake: {:?}", start.elapsed());
    for answer in woken {
        assert!(index(&answer) > index(&before));
        let names = answer.json();
        let names: Vec<&str> = names.as_array().into_iter().flatten().filter_map(|row| row["Name"].as_str()).collect();
        assert!(names.contains(&"wakes"), "{names:?}");
    }
    // An index from a future that never comes: the wait ends, and the answer says the true one.
    let future = get(&managed(cluster, 0), "/v1/acl/policies?wait=1s&index=18446744073709551615", 200);
    assert!(index(&future) > index(&before) && index(&future) < 1_000_000);
}

fn parameters_mean_what_they_mean_in_consul(cluster: &Cluster) {
    for position in 0..3 {
        let client = managed(cluster, position);
        for (query, told) in [("stale", "stale"), ("consistent", "consistent"), ("", "leader"), ("dc=dc1", "leader")] {
            let answer = get(&client, &format!("/v1/connect/ca/roots?{query}"), 200);
            assert_eq!(answer.header("x-consul-effective-consistency"), Some(told), "{query}");
            assert_eq!(answer.header("x-consul-knownleader"), Some("true"), "{query}");
            assert!(answer.header("x-consul-lastcontact").is_some_and(|age| age.parse::<u64>().is_ok()), "{query}");
        }
        let refused = get(&client, "/v1/connect/ca/roots?stale&consistent", 400);
        assert!(refused.body.starts_with("Cannot specify ?stale with ?consistent"), "{}", refused.body);
        let pretty = get(&client, "/v1/connect/ca/roots?pretty", 200);
        assert!(pretty.body.starts_with("{\n    \""), "{}", pretty.body);
        get(&client, "/v1/connect/ca/roots?dc=elsewhere", 500);
    }
    let client = cluster.servers[0].client();
    get(&client, &format!("/v1/acl/tokens?token={}", cluster.token), 200);
    get(&client, "/v1/acl/tokens?token=", 403);
}

/// Monitoring that needs what it watches is blind when it matters.
fn without_a_quorum_what_needs_none_still_answers(cluster: &mut Cluster) {
    let kept = get(&managed(cluster, 0), "/v1/agent/connect/ca/leaf/kept", 200).json();
    for position in [1, 2] {
        cluster.servers[position].kill();
    }
    let client = managed(cluster, 0);
    wait::until("the leader to be missed", || {
        let status = client.read("/v1/carrack/status")?;
        wait::holds(status["Leader"].is_null(), || status["Leader"].to_string())
    });
    std::thread::scope(|scope| {
        // What waits for a leader waits beside the rest.
        let read = scope.spawn(|| get(&client, "/v1/connect/ca/roots", 503));
        let unrecorded = scope.spawn(|| get(&client, "/v1/agent/connect/ca/leaf/new", 503));
        let stale = get(&client, "/v1/connect/ca/roots?stale", 200);
        assert_eq!(stale.header("x-consul-knownleader"), Some("false"));
        assert_eq!(stale.header("x-consul-effective-consistency"), Some("stale"));
        assert_eq!(get(&client, "/v1/agent/connect/ca/roots", 200).json(), stale.json());
        assert_eq!(get(&client, "/v1/status/leader", 200).json(), json!(""));
        get(&client, "/livez", 200);
        get(&client, "/metrics", 200);
        assert!(get(&client, "/readyz", 503).body.contains("no leader is known"));
        assert_eq!(get(&client, "/v1/agent/connect/ca/leaf/kept", 200).json(), kept, "what is kept is served");
        let refused = read.join().expect("an answer comes");
        assert_eq!((&*refused.body, refused.header("retry-after")), ("No cluster leader", Some("1")));
        let unrecorded = unrecorded.join().expect("an answer comes");
        assert!(!unrecorded.body.contains("BEGIN"), "a leaf without a record was released: {}", unrecorded.body);
        assert!(unrecorded.header("retry-after").is_some(), "{:?}", unrecorded.headers);
    });
}
