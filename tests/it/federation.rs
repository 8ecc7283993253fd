//! Two datacenters over a slow line that is cut: a secondary joins, lives through the outage, and catches up; no key crosses the line.

use std::{fs, path::Path, time::Duration};

use carrack::{
    keys::{aws_lc::AwsLcKeyMaker, secret::KeyMaker, server_keys::ServerCredential},
    tls::workload::{Workload, shake_hands},
};
use carrack_authority::{federation::Table, time::Timestamp};
use carrack_tests::{
    cluster::Cluster,
    command::Ended,
    http::{Answer, runtime},
    leaf::LeafFiles,
    server::{Server, Start},
    wait,
    wan::Wan,
};
use serde_json::{Value, json};

/// What a message takes on the way: datacenters of one continent.
const DELAY: Duration = Duration::from_millis(15);
/// A shorter text than this is found in any stream by chance.
const KEY_PART_BYTES: usize = 16;

/// A service of one datacenter, with a leaf that `carrack leaf get` wrote.
fn service(cluster: &Cluster, name: &str, directory: &Path) -> Workload {
    let made = LeafFiles::make(cluster, name, directory);
    let text = |file: &str| fs::read_to_string(file).expect("the file was written");
    let key = AwsLcKeyMaker.import(&text(&made.key)).expect("the key is PEM");
    let credential = ServerCredential { key, chain_pem: text(&made.leaf) };
    let trust_domain = trust_domain(cluster).parse().expect("a trust domain");
    Workload::new(credential, &text(&made.roots), trust_domain).expect("the roots are PEM")
}

fn trust_domain(cluster: &Cluster) -> String {
    let status = wait::until("a status", || cluster.any().status(&cluster.token));
    status["TrustDomain"].as_str().expect("a trust domain").to_owned()
}

/// Each of two services is client and server of the other.
#[track_caller]
fn assert_they_connect(one: &Workload, other: &Workload, datacenters: [&str; 2]) {
    #[expect(clippy::disallowed_methods, reason = "real certificates are valid in real time")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    let now = Timestamp::EPOCH.plus(now);
    for (server, client, [of_server, of_client]) in
        [(one, other, datacenters), (other, one, [datacenters[1], datacenters[0]])]
    {
        let (seen_by_server, seen_by_client) =
            runtime().block_on(shake_hands(server, client, now)).expect("they connect");
        assert_eq!(seen_by_server.id.datacenter().as_str(), of_client);
        assert_eq!(seen_by_client.id.datacenter().as_str(), of_server);
    }
}

fn federation(server: &Server, token: &str) -> Result<Value, String> {
    server.client().with_token(token).read("/v1/carrack/federation?stale")
}

/// Waits until the secondary's leader hears the primary on every stream.
#[track_caller]
fn wait_until_followed(secondary: &Cluster) {
    wait::until("every stream to be open", || {
        let leader = secondary.leader();
        let leader = secondary.servers.iter().find(|server| server.name == leader).ok_or("no leader")?;
        let federation = federation(leader, &secondary.token)?;
        let streams = federation["Secondary"]["Streams"].as_array().ok_or("no streams are shown")?;
        let is_open = |stream: &Value| stream["Open"] == true && stream["Lag"] == 0 && stream["Trouble"].is_null();
        wait::holds(streams.len() == Table::ALL.len() && streams.iter().all(is_open), || format!("{streams:?}"))
    });
}

/// How often a server of the cluster began to read a table of the primary as a whole.
fn whole_readings(cluster: &Cluster) -> usize {
    cluster.servers.iter().map(|server| server.log().matches("is read as a whole").count()).sum()
}

fn make_token(server: &Server, token: &str, body: &Value) -> Answer {
    let answer = server.client().with_token(token).send("PUT", "/v1/acl/token", Some(body));
    answer.expect("an answer")
}

fn knows(server: &Server, secret: &str) -> Result<bool, String> {
    let answer = server.client().with_token(secret).send("GET", "/v1/acl/token/self?stale", None)?;
    match answer.status {
        200 => Ok(true),
        403 => Ok(false),
        status => Err(format!("{status} {}", answer.body)),
    }
}

#[test]
fn a_secondary_lives_through_an_outage_of_the_primary_and_catches_up() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let wan = Wan::new(DELAY);
    let mut primary = Cluster::form_primary(3, &wan);
    let mut secondary = Cluster::form_secondary(3, "dc2", &primary);
    wait_until_followed(&secondary);
    assert_eq!(trust_domain(&primary), trust_domain(&secondary));
    let (web, api) = (service(&primary, "web", directory.path()), service(&secondary, "api", directory.path()));
    assert_they_connect(&web, &api, ["dc1", "dc2"]);
    let doomed = make_token(primary.any(), &primary.token, &json!({"Description": "doomed"})).json();
    let secret = doomed["SecretID"].as_str().expect("a secret").to_owned();
    secondary.wait_until_known(&secret);

    // The outage: the line is cut, the primary does not answer anybody, and every server of the secondary restarts.
    wan.cut();
    primary.servers.iter_mut().for_each(Server::pause);
    let readings = whole_readings(&secondary);
    for server in &mut secondary.servers {
        server.kill();
    }
    for server in &mut secondary.servers {
        server.start(Start::Again);
    }
    for server in &mut secondary.servers {
        server.wait_until_ready();
    }
    let during = service(&secondary, "during", directory.path());
    assert_they_connect(&web, &during, ["dc1", "dc2"]);
    let status = secondary.any().carrack(&secondary.token, &["status"]).expect_output();
    assert!(status.contains("can issue without the primary dc1 for 364 d"), "{status}");
    assert!(status.contains("tokens of all datacenters are honoured without it: unlimited"), "{status}");
    wait::until("a follower to name who knows more", || {
        let (leader, followers) = (secondary.leader(), secondary.followers());
        let follower = secondary.servers.iter().find(|server| server.name == followers[0]).ok_or("it is gone")?;
        let named = federation(follower, &secondary.token)?["Secondary"]["Leader"].clone();
        wait::holds(named == leader.as_str(), || format!("{named}, not {leader}"))
    });
    let local = make_token(secondary.any(), &secondary.token, &json!({"Local": true}));
    assert_eq!(local.status, 200, "{}", local.body);
    let own = local.json()["SecretID"].as_str().expect("a secret").to_owned();
    let alone = json!({"Description": "by a local token", "Local": false});
    let refused = make_token(secondary.any(), &own, &alone);
    assert_eq!(refused.status, 403, "a local token's secret stays here: {}", refused.body);
    let global = make_token(secondary.any(), &secondary.token, &json!({}));
    assert_eq!(global.status, 503, "{}", global.body);
    assert!(global.body.contains("`dc1` cannot be reached"), "{}", global.body);

    // The primary goes on behind the cut.
    primary.servers.iter_mut().for_each(Server::resume);
    let accessor = doomed["AccessorID"].as_str().expect("an accessor");
    primary.wait_until_all_issue();
    let client = primary.any().client().with_token(&primary.token);
    let deleted = wait::until("the deletion", || client.send("DELETE", &format!("/v1/acl/token/{accessor}"), None));
    assert_eq!(deleted.status, 200, "{}", deleted.body);
    let made = make_token(primary.any(), &primary.token, &json!({"Description": "made meanwhile"})).json();
    for server in &secondary.servers {
        assert_eq!(knows(server, &secret), Ok(true), "{} cannot know of the deletion", server.name);
    }

    wan.heal();
    wait_until_followed(&secondary);
    secondary.wait_until_known(made["SecretID"].as_str().expect("a secret"));
    for server in &secondary.servers {
        wait::until("the deletion to come", || {
            knows(server, &secret).and_then(|is_known| wait::holds(!is_known, || "it is known still".into()))
        });
    }
    assert_eq!(whole_readings(&secondary), readings, "the streams went on from where they were");
    let after = service(&primary, "after", directory.path());
    assert_they_connect(&after, &during, ["dc1", "dc2"]);
    assert_no_key_was_carried(&wan, &[&primary, &secondary]);
}

/// The line is encrypted: that nothing of a key is in it says that nothing goes around the encryption.
#[track_caller]
fn assert_no_key_was_carried(wan: &Wan, clusters: &[&Cluster]) {
    let carried = wan.carried();
    assert!(carried.len() > 10_000, "only {} bytes were carried", carried.len());
    let mut keys = 0;
    for server in clusters.iter().flat_map(|cluster| &cluster.servers) {
        for file in fs::read_dir(server.data_directory().join("keys")).expect("the keys are there") {
            let path = file.expect("a file").path();
            let text = fs::read_to_string(&path).expect("keys are text");
            if !text.contains("PRIVATE KEY") {
                continue;
            }
            keys += 1;
            for line in text.lines().filter(|line| !line.starts_with('-') && line.len() >= KEY_PART_BYTES) {
                let is_in = carried.windows(line.len()).any(|window| window == line.as_bytes());
                assert!(!is_in, "a part of {} crossed the line", path.display());
            }
        }
    }
    assert!(keys >= 12, "each of six servers has a server key and an issuer key, {keys} were found");
}

#[test]
fn an_issuer_is_signed_although_the_primarys_leader_is_killed_meanwhile() {
    let wan = Wan::new(DELAY);
    let mut primary = Cluster::form_primary(3, &wan);
    let mut secondary = Cluster::form_secondary(1, "dc2", &primary);
    for name in ["b", "c"] {
        let leader = primary.leader();
        secondary.start_joining(name);
        primary.server(&leader).kill();
        let client = secondary.servers[0].client().with_token(&secondary.token);
        let read = client.send("GET", "/v1/acl/policies?dc=dc1&stale", None).expect("an answer");
        assert_eq!(read.status, 200, "another server answers a read: {}", read.body);
        secondary.wait_until_voting(name);
        secondary.wait_until_all_issue();
        primary.server(&leader).start(Start::Again);
        primary.server(&leader).wait_until_ready();
    }
    let federation = wait::until("the datacenters", || federation(primary.any(), &primary.token));
    let dc2 = &federation["Datacenters"][0];
    assert_eq!((&dc2["Name"], dc2["Issuers"].as_u64()), (&json!("dc2"), Some(3)), "one of each server: {dc2}");
}

#[track_caller]
fn assert_refused(ended: &Ended, reason: &str) {
    assert_eq!(ended.code, Some(1), "{}", ended.errors);
    assert!(ended.errors.contains(reason), "{}", ended.errors);
}

#[test]
fn a_wrong_join_is_refused_with_its_reason_and_leaves_nothing_behind() {
    let wan = Wan::new(Duration::ZERO);
    let primary = Cluster::form_primary(1, &wan);
    let used = primary.federation_token("dc2");
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let mut second = Server::new("x", directory.path());
    second.flags = ["--datacenter", "dc2", "--without-recovery"].map(str::to_owned).into();
    second.start(Start::BootstrapSecondary(&used));
    second.wait_until_ready();
    wait::until("dc2 to be admitted", || {
        let federation = federation(primary.any(), &primary.token)?;
        let known = federation["Datacenters"].as_array().map_or(0, Vec::len);
        wait::holds(known == 1, || federation.to_string())
    });
    wait::until("dc2 to know the token", || {
        knows(&second, &primary.token).and_then(|knows| wait::holds(knows, || "it does not yet".into()))
    });
    let of_secondary = second.carrack(&primary.token, &["federation", "token", "--datacenter", "dc4"]);
    assert_refused(&of_secondary, "can be changed in the primary datacenter `dc1` alone");
    for taken in ["dc1", "dc2"] {
        let refused = primary.any().carrack(&primary.token, &["federation", "token", "--datacenter", taken]);
        assert_refused(&refused, &format!("a datacenter named `{taken}` exists already"));
    }
    let fresh = primary.federation_token("dc3");
    let cases = [
        (&used, "dc2", "", "it was used already, by the cluster"),
        (&fresh, "dc4", "", "the federation token is for the datacenter `dc3`, but this one is `dc4`"),
        (&fresh, "dc3", "evil.example", "but the configuration says `evil.example`"),
    ];
    for (number, (token, datacenter, trust_domain, reason)) in cases.into_iter().enumerate() {
        let mut server = Server::new(&format!("y{number}"), directory.path());
        server.flags = ["--datacenter", datacenter, "--without-recovery"].map(str::to_owned).into();
        if !trust_domain.is_empty() {
            server.flags.extend(["--trust-domain".into(), trust_domain.into()]);
        }
        server.start(Start::BootstrapSecondary(token));
        assert_eq!(server.wait_for_end().code(), Some(1), "{}", server.log_tail());
        assert!(server.log().contains(reason), "{}", server.log_tail());
        assert!(!server.data_directory().join("identity.toml").exists(), "half a server is left behind");
    }
    // The token that was good all the time still is.
    let mut third = Server::new("z", directory.path());
    third.flags = ["--datacenter", "dc3", "--without-recovery"].map(str::to_owned).into();
    third.start(Start::BootstrapSecondary(&fresh));
    third.wait_until_ready();
    wait::until("the operator's token to be there", || federation(&third, &primary.token));
    primary.any().carrack(&primary.token, &["federation", "remove", "dc3"]).expect_output();
    wait::until("dc3 to be let in no more", || {
        let federation = federation(&third, &primary.token)?;
        let trouble = federation["Secondary"]["Streams"][0]["Trouble"].as_str().unwrap_or_default().to_owned();
        wait::holds(!trouble.is_empty(), || federation.to_string())
    });
}

/// CVE-2020-13170 (Consul): a local token was good in another datacenter.
#[test]
fn any_server_answers_for_any_datacenter_and_writes_for_all_of_them() {
    let wan = Wan::new(DELAY);
    let primary = Cluster::form_primary(1, &wan);
    let secondary = Cluster::form_secondary(1, "dc2", &primary);
    wait_until_followed(&secondary);
    let (here, there) = (primary.any().client(), secondary.any().client());
    let local = make_token(secondary.any(), &secondary.token, &json!({"Local": true})).json();
    let local = local["SecretID"].as_str().expect("a secret");
    let send = |client: &carrack_tests::http::Http, token: &str, method: &str, path: &str| {
        client.with_token(token).send(method, path, None).expect("an answer")
    };
    let own = send(&here, local, "GET", "/v1/acl/token/self?dc=dc2");
    assert_eq!((own.status, own.json()["Local"] == true), (200, true), "dc2 knows its own token: {}", own.body);
    let unknown = send(&here, local, "GET", "/v1/acl/token/self");
    assert_eq!((unknown.status, unknown.body.as_str()), (403, "ACL not found"));
    let about = send(&there, &primary.token, "GET", "/v1/carrack/status?dc=dc1");
    assert_eq!(about.json()["Datacenter"], "dc1");
    let index = send(&there, &primary.token, "GET", "/v1/acl/policies?dc=dc1");
    let index_there = send(&here, &primary.token, "GET", "/v1/acl/policies");
    assert_eq!(index.header("x-consul-index"), index_there.header("x-consul-index"), "the index is that of dc1");
    let nowhere = send(&here, &primary.token, "GET", "/v1/acl/tokens?dc=dc9");
    assert_eq!(nowhere.status, 500);
    assert_eq!(nowhere.body, "No path to datacenter `dc9`; known are dc1, dc2");

    let policy = json!({"Name": "readers", "Rules": "operator = \"read\""});
    let made = there.with_token(&primary.token).send("PUT", "/v1/acl/policy", Some(&policy)).expect("an answer");
    assert_eq!(made.status, 200, "{}", made.body);
    let read = send(&there, &primary.token, "GET", "/v1/acl/policy/name/readers");
    assert_eq!(read.status, 200, "who writes through a secondary reads it there: {}", read.body);
    let index = send(&there, &primary.token, "GET", "/v1/acl/policies?dc=dc1");
    let index_there = send(&here, &primary.token, "GET", "/v1/acl/policies");
    assert_eq!(index.header("x-consul-index"), index_there.header("x-consul-index"), "also after a change");
    let unknown = "/v1/acl/token/00000000-0000-4000-8000-000000000009";
    for (path, token) in [(unknown, &*primary.token), ("/v1/acl/token/x", &*primary.token), ("/v1/acl/tokens", "")] {
        let (direct, passed) = (send(&here, token, "GET", path), send(&there, token, "GET", &format!("{path}?dc=dc1")));
        let told = |answer: &Answer| (answer.status, answer.header("x-carrack-error-code").map(str::to_owned));
        assert_eq!((told(&direct), &direct.body), (told(&passed), &passed.body), "{path}");
    }
    let token = json!({"Policies": [{"Name": "readers"}]});
    let made = make_token(secondary.any(), &secondary.token, &token).json();
    let secret = made["SecretID"].as_str().expect("a secret");
    assert_eq!(knows(secondary.any(), secret), Ok(true));
    assert_eq!(knows(primary.any(), secret), Ok(true));
    let accessor = made["AccessorID"].as_str().expect("an accessor");
    let deleted = send(&there, &primary.token, "DELETE", &format!("/v1/acl/token/{accessor}"));
    assert_eq!(deleted.status, 200, "{}", deleted.body);
    assert_eq!(knows(secondary.any(), secret), Ok(false), "who deletes through a secondary sees it there");
}

#[test]
fn a_primary_that_is_stopped_does_not_wait_for_its_followers() {
    let wan = Wan::new(Duration::ZERO);
    let mut primary = Cluster::form_primary(1, &wan);
    let secondary = Cluster::form_secondary(1, "dc2", &primary);
    wait_until_followed(&secondary);
    let server = &mut primary.servers[0];
    assert_eq!(server.stop().code(), Some(0), "{}", server.log_tail());
    assert!(!server.log().contains("did not end within"), "{}", server.log_tail());
    wait::until("the reason", || {
        let federation = federation(secondary.any(), &secondary.token)?;
        let trouble = federation["Secondary"]["Streams"][0]["Trouble"].as_str().unwrap_or_default().to_owned();
        wait::holds(trouble.contains("`dc1` cannot be reached"), || federation.to_string())
    });
}

/// How a server has the other datacenter answer a request.
fn ask_elsewhere(server: &Server, token: &str, datacenter: &str) -> Answer {
    let path = format!("/v1/carrack/status?dc={datacenter}");
    server.client().with_token(token).send("GET", &path, None).expect("an answer")
}

#[test]
fn a_server_that_was_removed_is_refused_by_the_other_datacenter_although_its_certificate_lasts() {
    let wan = Wan::new(DELAY);
    let primary = Cluster::form_primary(3, &wan);
    let secondary = Cluster::form_secondary(3, "dc2", &primary);
    wait_until_followed(&secondary);
    for (of, other, elsewhere) in [(&primary, &secondary, "dc2"), (&secondary, &primary, "dc1")] {
        let [removed, stays] = [0, 1].map(|place| of.followers()[place].clone());
        let [removed, stays] =
            [removed, stays].map(|name| of.servers.iter().find(|server| server.name == name).expect("it is there"));
        assert_eq!(ask_elsewhere(removed, &of.token, elsewhere).status, 200, "while it is a server");
        stays.carrack(&of.token, &["members", "remove", &removed.name]).expect_output();
        wait::until("the removed server to be refused", || {
            let answer = ask_elsewhere(removed, &of.token, elsewhere);
            wait::holds(answer.status == 503, || format!("{}: {}", answer.status, answer.body))?;
            // Its connection was cut; now it dials anew.
            let is_told = other.servers.iter().any(|server| server.log().contains("was removed from its datacenter"));
            wait::holds(is_told, || format!("no server tells why: {}", answer.body))
        });
        assert_eq!(ask_elsewhere(stays, &of.token, elsewhere).status, 200, "the others are let in");
    }
}

#[test]
fn a_local_token_goes_on_although_the_primary_makes_another_with_its_id() {
    let wan = Wan::new(DELAY);
    let primary = Cluster::form_primary(1, &wan);
    let secondary = Cluster::form_secondary(1, "dc2", &primary);
    let accessor = "6a1253d2-1785-24fd-91c2-f8e78c745511";
    let local = json!({"AccessorID": accessor, "Local": true});
    let local = make_token(secondary.any(), &secondary.token, &local).json();
    let local = local["SecretID"].as_str().expect("a secret");
    let global = make_token(primary.any(), &primary.token, &json!({"AccessorID": accessor})).json();
    let global = global["SecretID"].as_str().expect("a secret");
    wait::until("the secondary to tell of it", || {
        let status = secondary.any().status(&secondary.token)?;
        wait::holds(status["Problems"].to_string().contains(accessor), || status["Problems"].to_string())
    });
    assert_eq!(knows(secondary.any(), local), Ok(true));
    assert_eq!((knows(secondary.any(), global), knows(primary.any(), global)), (Ok(false), Ok(true)));
    let client = secondary.any().client().with_token(&secondary.token);
    let deleted = client.send("DELETE", &format!("/v1/acl/token/{accessor}"), None).expect("an answer");
    assert_eq!(deleted.status, 200, "{}", deleted.body);
    assert_eq!((knows(secondary.any(), local), knows(secondary.any(), global)), (Ok(false), Ok(true)));
    let status = secondary.any().status(&secondary.token).expect("a status");
    assert!(!status["Problems"].to_string().contains(accessor), "{}", status["Problems"]);
}

#[test]
fn a_primary_that_cannot_be_reached_is_one_trouble_with_the_tables_named() {
    let wan = Wan::new(DELAY);
    let primary = Cluster::form_primary(1, &wan);
    let secondary = Cluster::form_secondary(1, "dc2", &primary);
    wait_until_followed(&secondary);
    wan.cut();
    let tables = Table::ALL.map(|table| format!("`{table}`")).join(", ");
    let all = &format!("tables of the primary are not followed: {tables}: datacenter `dc1` cannot be reached");
    wait::until("one trouble", || {
        let status = secondary.any().status(&secondary.token)?;
        let problems = status["Problems"].as_array().ok_or("no problems are shown")?;
        let about = problems.iter().filter_map(Value::as_str).filter(|text| text.contains("tables of the primary"));
        let about: Vec<&str> = about.collect();
        wait::holds(matches!(about[..], [one] if one.starts_with(all.as_str())), || format!("{problems:?}"))
    });
}

#[test]
fn the_configuration_is_compared_in_the_log_that_it_is_written_in() {
    let wan = Wan::new(DELAY);
    let primary = Cluster::form_primary(1, &wan);
    let secondary = Cluster::form_secondary(1, "dc2", &primary);
    wait_until_followed(&secondary);
    let path = "/v1/connect/ca/configuration";
    let client = secondary.any().client().with_token(&secondary.token);
    let put = |path: &str, index: &Value, life: &str| {
        let body = json!({"Provider": "consul", "Config": {"LeafCertTTL": life}, "ModifyIndex": index});
        client.send("PUT", path, Some(&body)).expect("an answer")
    };
    let life = |path: &str| client.read(path).expect("the configuration")["Config"]["LeafCertTTL"].clone();
    let here = client.read(path).expect("the configuration");
    let refused = put(path, &here["ModifyIndex"], "48h");
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(refused.body.contains("with `?dc=dc1`, or leave ModifyIndex out"), "{}", refused.body);
    assert_eq!(life(path), "72h");

    let there = format!("{path}?dc=dc1");
    let read = client.read(&there).expect("the configuration of the primary");
    let written = put(&there, &read["ModifyIndex"], "48h");
    assert_eq!(written.status, 200, "{}", written.body);
    assert_eq!(life(path), "48h", "who writes it through a secondary reads it there");
    let late = put(&there, &read["ModifyIndex"], "24h");
    assert_eq!(late.status, 409, "{}", late.body);
    assert_eq!(put(path, &json!(0), "36h").status, 200, "without an index whichever is there is replaced");
    assert_eq!(life(path), "36h");
}
