//! No private key and no token secret outside the key files: not in logs, snapshots, identity files, log lines, metrics or
//! answers. The root key is looked for as well: the test opens it with a server's sealing key, as only that server could.

mod needles;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
};

use carrack::{
    api::http::routes::ROUTES,
    keys::sealing::{AgeSealer, Sealer},
    server::join_token::JoinTokenText,
};
use carrack_tests::{
    cluster::Cluster,
    csr::{CsrKey, San, pem},
    grpc::Signer,
    http::Http,
    server::{Server, Start},
    wait,
};
use serde_json::{Value, json};
use uuid::Uuid;

use needles::Needles;

/// From each server: enough entries for a snapshot at the least threshold that can be set.
const LEAVES: usize = 35;
/// As much as possible. What is left out writes tens of megabytes, and sees neither tokens nor keys.
const LOGGED: &str = "trace,h2=debug,openraft=info,sled=info";
/// What age's files begin with: the sealed root keys are found by it.
const AGE_HEADER: &[u8] = b"age-encryption.org/v1";
/// A prefix of lengths in the store: bincode's fixed-width integers.
const LENGTH_BYTES: usize = 8;

#[test]
fn no_secret_is_anywhere_but_in_its_key_file_and_the_answer_that_made_it() {
    let mut cluster = Cluster::form_with(3, &["--raft-snapshot-threshold", "100", "--log-level", LOGGED]);
    let mut needles = Needles::of_any_key();
    needles.add_uuid("the management token", &cluster.token);
    add_join_tokens(&cluster, &mut needles);
    let accessor = make_tokens(&cluster, &mut needles);
    misplace_secrets(&cluster, &mut needles);
    issue(&cluster, &mut needles);
    wait_for_snapshots(&cluster);
    for server in &mut cluster.servers {
        assert!(server.stop().success(), "{}", server.log_tail());
        // A running server takes files away that its snapshots have made needless.
        add_keys(&server.data_directory(), &mut needles);
        server.start(Start::Again);
    }
    cluster.wait_until_all_issue();
    assert_the_configuration_has_no_key(&cluster);
    for server in &cluster.servers {
        assert_answers_are_clean(&cluster, server.client(), &accessor, &needles);
    }
    for server in &mut cluster.servers {
        server.kill();
    }
    for server in &cluster.servers {
        assert_files_are_clean(&server.data_directory(), &needles);
        let found = needles.found_in(&fs::read(server.log_file()).expect("the log lines are there"));
        assert_eq!(found, Vec::<&str>::new(), "in the log lines of {}", server.name);
    }
}

fn add_join_tokens(cluster: &Cluster, needles: &mut Needles) {
    let unused = cluster.join_token("unused");
    for text in cluster.join_tokens.iter().chain([&unused]) {
        needles.add_text("a join token", text);
        let token: JoinTokenText = text.parse().expect("it is a join token");
        needles.add_bytes("the secret of a join token", &*token.secret);
    }
    assert_eq!(cluster.join_tokens.len(), 2);
}

/// Tokens whose secrets the test chose, made on each server; gives the accessor of one.
fn make_tokens(cluster: &Cluster, needles: &mut Needles) -> String {
    let mut accessor = String::new();
    for (number, server) in (0..9_u128).zip(cluster.servers.iter().cycle()) {
        let secret = Uuid::from_u128(0x5ec2_e700_4000_8000_9abc_def0_1234_5600 + number * 0x1_0101).to_string();
        needles.add_uuid("a token's secret", &secret);
        let body = json!({
            "SecretID": secret,
            "Description": format!("number {number}"),
            "ServiceIdentities": [{ "ServiceName": format!("web-{number}") }],
        });
        let client = server.client().with_token(&cluster.token);
        let made = client.send("PUT", "/v1/acl/token", Some(&body)).expect("an answer comes");
        assert_eq!((made.status, made.header("cache-control")), (200, Some("no-store")), "{}", made.body);
        assert_eq!(made.json()["SecretID"], *secret);
        accessor = made.json()["AccessorID"].as_str().expect("a token has an accessor").to_owned();
        let changed = json!({ "SecretID": secret, "Description": "changed" });
        let changed =
            client.send("PUT", &format!("/v1/acl/token/{accessor}"), Some(&changed)).expect("an answer comes");
        assert_eq!(changed.status, 200, "{}", changed.body);
        assert!(changed.json()["SecretID"].as_str().is_none_or(str::is_empty), "{}", changed.body);
        let own = server.client().with_token(&secret).read("/v1/acl/token/self").expect("the token is good here");
        assert!(own["SecretID"].as_str().is_none_or(str::is_empty), "{own}");
    }
    accessor
}

/// Secrets where they do not belong: people paste them.
fn misplace_secrets(cluster: &Cluster, needles: &mut Needles) {
    let client = cluster.any().client().with_token(&cluster.token);
    let secret = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
    needles.add_uuid("a misplaced secret", secret);
    for path in [
        format!("/v1/acl/token/{secret}"),
        format!("/v1/acl/policy/{secret}"),
        format!("/v1/carrack/members/{secret}"),
        format!("/v1/kv/{secret}"),
        format!("/v1/connect/ca/roots?token={secret}"),
        format!("/v1/acl/tokens?token={secret}"),
        format!("/v1/acl/tokens?policy={secret}"),
    ] {
        let answer = client.send("GET", &path, None).expect("an answer comes");
        assert_ne!(answer.status, 500, "{path}: {}", answer.body);
        assert_eq!(needles.found_in(answer.body.as_bytes()), Vec::<&str>::new(), "{path}: {}", answer.body);
    }
    let (_, key) = key_and_request(cluster, "planted");
    needles.add_key("the key of a configuration", key.as_bytes());
    let body = json!({ "Provider": "consul", "Config": { "PrivateKey": key, "RootCert": "x" } });
    let refused = client.send("PUT", "/v1/connect/ca/configuration", Some(&body)).expect("an answer comes");
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert_eq!(needles.found_in(refused.body.as_bytes()), Vec::<&str>::new(), "{}", refused.body);
    // The key of a root that is taken is sealed, and is nowhere else either.
    let body = json!({ "Provider": "consul", "Config": { "PrivateKey": key } });
    let taken = client.send("PUT", "/v1/connect/ca/configuration", Some(&body)).expect("an answer comes");
    assert_eq!((taken.status, taken.header("x-carrack-rotation").is_some()), (200, true), "{}", taken.body);
    let body = json!({ "Csr": key });
    let refused = client.send("PUT", "/v1/carrack/sign", Some(&body)).expect("an answer comes");
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert_eq!(needles.found_in(refused.body.as_bytes()), Vec::<&str>::new(), "{}", refused.body);
}

/// A key of the server's making, from the one answer that may hold one, and a request for the same service.
fn key_and_request(cluster: &Cluster, service: &str) -> (Vec<u8>, String) {
    let client = cluster.any().client().with_token(&cluster.token);
    let leaf = client.read(&format!("/v1/agent/connect/ca/leaf/{service}")).expect("a leaf is issued");
    let key = leaf["PrivateKeyPEM"].as_str().expect("a leaf comes with its key").to_owned();
    let id = leaf["ServiceURI"].as_str().expect("a leaf has its identity").to_owned();
    (CsrKey::make().request(&[San::Uri(&id)]), key)
}

/// Leaves with keys that the servers made, and with keys of the test's own.
fn issue(cluster: &Cluster, needles: &mut Needles) {
    let leaves = thread::scope(|scope| {
        let of_server = |server: &'_ Server| {
            let client = server.client().with_token(&cluster.token);
            let leaf = |number| client.read(&format!("/v1/agent/connect/ca/leaf/web-{number}"));
            (0..LEAVES).map(|number| leaf(number).expect("a leaf is issued")).collect::<Vec<_>>()
        };
        let servers = cluster.servers.iter();
        let tasks: Vec<_> = servers.map(|server| scope.spawn(move || of_server(server))).collect();
        tasks.into_iter().flat_map(|task| task.join().expect("every server issues")).collect::<Vec<_>>()
    });
    for leaf in leaves {
        needles.add_key("a leaf's key", leaf["PrivateKeyPEM"].as_str().expect("it has its key").as_bytes());
    }
    let (csr, _) = key_and_request(cluster, "own");
    let client = cluster.any().client().with_token(&cluster.token);
    let signed = client.send("PUT", "/v1/carrack/sign", Some(&json!({ "Csr": pem(&csr) }))).expect("an answer comes");
    assert_eq!(signed.status, 200, "{}", signed.body);
    for server in &cluster.servers {
        let signer = Signer::of(server).expect("the gRPC port answers");
        signer.sign(&cluster.token, &csr).expect("a leaf is issued");
    }
}

fn wait_for_snapshots(cluster: &Cluster) {
    for server in &cluster.servers {
        wait::until(&format!("a snapshot on {}", server.name), || {
            let index = server.status(&cluster.token)?["SnapshotIndex"].as_u64().unwrap_or_default();
            wait::holds(index > 0, || index.to_string())
        });
    }
}

/// CVE-2020-28053.
fn assert_the_configuration_has_no_key(cluster: &Cluster) {
    let read = cluster.any().client().with_token(&cluster.token).read("/v1/connect/ca/configuration");
    let read = read.expect("the configuration is read");
    assert!(read["Config"].is_object(), "{read}");
    assert_eq!((&read["Config"]["PrivateKey"], &read["Config"]["RootCert"]), (&Value::Null, &Value::Null));
}

/// The keys of one server, and the root keys, which only its sealing key opens.
fn add_keys(data: &Path, needles: &mut Needles) {
    let keys = data.join("keys");
    let sealing = fs::read_to_string(keys.join("sealing.key")).expect("a server has a sealing key");
    needles.add_age_identity("a sealing key", sealing.trim());
    let mut issuers = 0;
    for path in files(&keys).iter().filter(|path| path.extension().is_some_and(|end| end == "key")) {
        let name = path.file_name().and_then(|name| name.to_str()).expect("keys have names");
        if name != "sealing.key" {
            needles.add_key(name, &fs::read(path).expect("the test may read its keys"));
            issuers += usize::from(name.starts_with("issuer-"));
        }
    }
    assert!(issuers > 0, "a server has an issuer key");
    let identity = AgeSealer.read_identity(sealing.trim()).expect("the sealing key is whole");
    let mut opened = 0;
    for sealed in sealed_keys(data) {
        // Earlier versions of a sealed key are not for servers that joined later.
        if let Ok(key) = AgeSealer.unseal(&sealed, &identity) {
            needles.add_key("a root key", &key);
            opened += 1;
        }
    }
    assert!(opened > 0, "the root keys are sealed to every server");
}

/// The sealed keys in a server's log and snapshots.
fn sealed_keys(data: &Path) -> Vec<Vec<u8>> {
    let mut sealed = Vec::new();
    for path in files(data) {
        let bytes = fs::read(&path).expect("the test may read it");
        for (position, window) in bytes.windows(AGE_HEADER.len()).enumerate() {
            if window != AGE_HEADER || position < LENGTH_BYTES {
                continue;
            }
            let length = bytes[position - LENGTH_BYTES..position].try_into().expect("it has its length");
            let end = usize::try_from(u64::from_le_bytes(length)).ok().and_then(|length| position.checked_add(length));
            sealed.extend(end.and_then(|end| bytes.get(position..end)).map(<[u8]>::to_vec));
        }
    }
    sealed
}

/// Every route that is read, with the token that may read everything.
fn assert_answers_are_clean(cluster: &Cluster, client: Http, accessor: &str, needles: &Needles) {
    let management = client.with_token(&cluster.token);
    let (mut read, id) = (0, make_intentions(&management));
    for route in ROUTES.iter().filter(|route| route.method == "GET" && !route.path.ends_with("/leaf/{service}")) {
        let path = route.path.replace("{accessor}", accessor).replace("{name}", "global-management");
        let path = path.replace("/intentions/{id}", &format!("/intentions/{id}"));
        let path = path.replace("{id}", "00000000-0000-0000-0000-000000000001");
        let path = match path.rsplit('/').next() {
            Some("match") => format!("{path}?by=destination&name=db"),
            Some("check" | "exact" | "explain") => format!("{path}?source=web&destination=db"),
            _ => path,
        };
        assert!(!path.contains('{'), "{path}: say what stands for its variable part");
        for query in ["", "pretty", "stale", "pem=true"] {
            let query = format!("{}{query}", if path.contains('?') { '&' } else { '?' });
            let answer = management.send("GET", &format!("{path}{query}"), None).expect("an answer comes");
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            let whole = format!("{:?}\n{}", answer.headers, answer.body);
            assert_eq!(needles.found_in(whole.as_bytes()), Vec::<&str>::new(), "{path}{query}");
            read += 1;
        }
    }
    assert!(read > 50, "only {read} answers");
}

/// One of each kind, so that each route finds one; the id of one that Consul's deprecated API makes.
fn make_intentions(management: &Http) -> String {
    let send = |method: &str, path: &str, body: Value| {
        let answer = management.send(method, path, Some(&body)).expect("an answer comes");
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
        answer.json()
    };
    let (allow, sources) = (json!({ "Action": "allow" }), json!([{ "Name": "web", "Action": "deny" }]));
    send("PUT", "/v1/connect/intentions/exact?source=web&destination=db", allow);
    send("PUT", "/v1/config", json!({ "Kind": "service-intentions", "Name": "global-management", "Sources": sources }));
    // Once for each server that is asked.
    send("DELETE", "/v1/connect/intentions/exact?source=api&destination=db", Value::Null);
    let draft = json!({ "SourceName": "api", "DestinationName": "db", "Action": "deny" });
    send("POST", "/v1/connect/intentions", draft)["ID"].as_str().expect("an ID").to_owned()
}

/// Every file outside of `keys` is free of secrets, and nobody else reaches any of them.
fn assert_files_are_clean(data: &Path, needles: &Needles) {
    let keys = data.join("keys");
    let mut searched = Vec::new();
    for path in files(data) {
        let mode = fs::metadata(&path).expect("it is there").permissions().mode() & 0o7777;
        if path.starts_with(&keys) {
            assert_eq!(mode, 0o600, "{}", path.display());
            continue;
        }
        assert_eq!(mode & 0o022, 0, "{}: others may write", path.display());
        let found = needles.found_in(&fs::read(&path).expect("the test may read it"));
        assert_eq!(found, Vec::<&str>::new(), "in {}", path.display());
        searched.push(path);
    }
    for part in ["log", "snapshots", "identity.toml", "server-ca.pem"] {
        let is_searched = searched.iter().any(|path| path.starts_with(data.join(part)));
        assert!(is_searched, "nothing of {part} in {searched:?}");
    }
    for directory in [data, &keys] {
        let mode = fs::metadata(directory).expect("it is there").permissions().mode() & 0o7777;
        assert_eq!(mode, 0o700, "{}", directory.display());
    }
}

/// Every file below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory can be listed") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
