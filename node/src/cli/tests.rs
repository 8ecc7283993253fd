//! Commands against a server that answers from a list, and what a person reads of it.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::Request, http::StatusCode, response::IntoResponse};
use expect_test::expect;
use serde_json::{Value, json};

use super::*;

/// A request as the server saw it: method and path with query, token, body.
type Seen = (String, Option<String>, Value);

/// A server on loopback that answers from a list and remembers what it was asked.
struct Canned {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Canned {
    fn start(answers: Vec<(&'static str, u16, String)>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        listener.set_nonblocking(true).expect("a listener");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answers) = (seen.clone(), Arc::new(answers));
        let answer = move |request: Request| {
            let (log, answers) = (log.clone(), answers.clone());
            async move { respond(request, &log, &answers).await }
        };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                axum::serve(listener, Router::new().fallback(answer)).await.expect("it serves");
            });
        });
        Self { address, seen }
    }

    fn run(&self, arguments: &[&str]) -> (ExitCode, String, String) {
        let all = ["carrack", "--http-addr", &self.address].into_iter().chain(arguments.iter().copied());
        let environment = [("CONSUL_HTTP_TOKEN".to_owned(), "secret".to_owned())].into();
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let code = super::run(all.map(OsString::from), &environment, &mut output, &mut errors);
        let text = |bytes| String::from_utf8(bytes).expect("it is text").replace(&self.address, "http://server");
        (code, text(output), text(errors))
    }

    /// Runs a command that ends well, and gives its output.
    fn output(&self, arguments: &[&str]) -> String {
        let (code, output, errors) = self.run(arguments);
        assert_eq!((code, errors.as_str()), (ExitCode::SUCCESS, ""), "{arguments:?}");
        output
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("nobody panicked").drain(..).collect()
    }
}

async fn respond(
    request: Request,
    log: &Mutex<Vec<Seen>>,
    answers: &[(&'static str, u16, String)],
) -> impl IntoResponse + use<> {
    let what = format!("{} {}", request.method(), request.uri());
    let token = request.headers().get("x-consul-token").map(|token| token.to_str().expect("text").to_owned());
    let body: Bytes = axum::body::to_bytes(request.into_body(), 1 << 20).await.expect("a body");
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    log.lock().expect("nobody panicked").push((what.clone(), token, body));
    match answers.iter().find(|(asked, ..)| *asked == what) {
        Some((_, status, text)) => (StatusCode::from_u16(*status).expect("a status"), text.clone()),
        None => (StatusCode::NOT_FOUND, format!("no answer for {what}")),
    }
}

fn member(name: &str, id: u64, role: &str) -> Value {
    json!({
        "NodeId": id, "NodeName": name, "RaftAddress": format!("10.0.0.{id}:8300"), "Role": role, "Voter": true,
        "Leaving": false, "FeatureLevel": 1, "CertificateExpiry": "2027-01-01T00:00:00Z", "Reachable": true,
        "ReplicationLag": 0,
    })
}

fn status() -> Value {
    json!({
        "Datacenter": "dc1", "TrustDomain": "example.org", "ClusterId": "c", "NodeId": 2, "NodeName": "b",
        "Role": "follower", "Term": 3, "Leader": { "NodeId": 1, "NodeName": "a" }, "LastLogIndex": 12,
        "CommittedIndex": 12, "AppliedIndex": 11, "SnapshotIndex": 0, "FeatureLevel": 1,
        "LogTime": "2026-11-01T00:00:00Z", "ClockReady": true, "Halted": false, "IssuanceCount": 5,
        "IssuanceHead": "ab", "IssuanceLive": 4, "CurrentLeaves": 3,
        "Members": [member("a", 1, "leader"), member("b", 2, "follower")],
        "Ca": {
            "Initialized": true, "ActiveRootId": "aa:bb", "LastError": null,
            "Roots": [{ "Id": "aa:bb", "Phase": "active", "NotAfter": "2036-11-01T00:00:00Z" }],
            "Issuers": [{ "Id": "cc:dd", "NodeName": "a", "RootId": "aa:bb", "NotAfter": "2027-11-01T00:00:00Z", "Phase": "active" }],
        },
        "Problems": ["c does not answer"],
    })
}

#[test]
fn status_shows_leader_log_servers_ca_and_problems() {
    let server = Canned::start(vec![("GET /v1/carrack/status", 200, status().to_string())]);
    expect![[r#"
        Datacenter     dc1
        Trust domain   example.org
        Leader         a (id 1)
        Asked server   b (id 2, follower)
        Term           3
        Log            last 12, committed 12, applied 11, snapshot 0
        Log time       2026-11-01T00:00:00Z
        Issuing        on
        Leaves         5 recorded, 4 unexpired, 3 current
        Issuance head  ab

        Node  Id  Raft address   Role      Voter  Reachable  Lag  Certificate until
        a     1   10.0.0.1:8300  leader    yes    yes        0    2027-01-01T00:00:00Z
        b     2   10.0.0.2:8300  follower  yes    yes        0    2027-01-01T00:00:00Z

        CA      Id     Phase   Server  Valid until
        root    aa:bb  active  -       2036-11-01T00:00:00Z
        issuer  cc:dd  active  a       2027-11-01T00:00:00Z

        problem: c does not answer
    "#]]
    .assert_eq(&server.output(&["status"]));
    let printed: Value = serde_json::from_str(&server.output(&["status", "--format", "json"])).expect("JSON");
    assert_eq!(printed, status(), "JSON is the server's own");
    assert_eq!(server.seen()[0].1.as_deref(), Some("secret"));
}

#[test]
fn members_are_listed_and_removed_by_an_escaped_name() {
    let list = json!([member("a", 1, "leader")]).to_string();
    let answers =
        vec![("GET /v1/carrack/members", 200, list), ("DELETE /v1/carrack/members/a%2Fb", 200, "true".into())];
    let server = Canned::start(answers);
    assert!(server.output(&["members", "list"]).contains("10.0.0.1:8300"));
    assert!(server.output(&["members", "remove", "a/b"]).contains("never used again"));
}

#[test]
fn a_join_token_is_printed_with_the_command_to_run() {
    let answer = json!({ "Token": "T", "NodeName": "b", "ExpiresAt": "soon", "Command": "carrack server --join T" });
    let server = Canned::start(vec![("PUT /v1/carrack/join-token", 200, answer.to_string())]);
    expect![[r#"
        A join token for b, good once, until soon:

        T

        On the new server, with its own data directory:

        carrack server --join T
    "#]]
    .assert_eq(&server.output(&["token", "join", "--node", "b", "--ttl", "30m"]));
    assert_eq!(server.seen()[0].2, json!({ "NodeName": "b", "TTL": "30m" }));
}

#[test]
fn a_secondary_says_what_it_waits_for_and_who_knows_better() {
    let following = json!({ "Activation": 4, "RootID": "bb", "Waits": ["agents of a do not have the new root yet: 1 lag, web-1 among them"] });
    let status = json!({
        "Datacenter": "dc2", "Primary": "dc1", "Halted": false, "Rotation": null, "LastRotation": null, "RotationPeriod": null,
        "Following": following, "Leader": "b", "Roots": [], "Datacenters": [],
    });
    let server = Canned::start(vec![("GET /v1/carrack/ca", 200, status.to_string())]);
    expect![[r#"
        Roots are rotated in the primary datacenter dc1.
        dc1 has activated bb (activation 4), under which nothing is issued here yet.
          waiting: agents of a do not have the new root yet: 1 lag, web-1 among them
          Servers that do not answer are not waited for: b, which leads, knows which.
    "#]]
    .assert_eq(&server.output(&["ca", "status"]));
}

#[test]
fn the_ca_configuration_is_changed_as_a_whole() {
    let configuration = json!({
        "Provider": "builtin", "Config": { "LeafCertTTL": "72h", "PrivateKeyBits": 256 }, "CreateIndex": 1, "ModifyIndex": 2,
    });
    let rotation = json!({
        "ID": 7, "Cause": "the CA configuration changed", "Phase": "activating", "FormerRootID": "a", "RootID": "b", "BeganAt": "now",
        "EndedAt": null, "Waits": [],
    });
    let status = json!({
        "Datacenter": "dc1", "Primary": "dc1", "Halted": false, "Rotation": rotation, "LastRotation": null, "RotationPeriod": null,
        "Roots": [], "Datacenters": [],
    });
    let answers = vec![
        ("GET /v1/connect/ca/configuration", 200, configuration.to_string()),
        ("PUT /v1/connect/ca/configuration", 200, String::new()),
        ("GET /v1/carrack/ca", 200, status.to_string()),
        ("PUT /v1/carrack/halt", 200, "true".into()),
    ];
    let server = Canned::start(answers);
    expect![[r#"
        Key             Value
        Provider        builtin
        LeafCertTTL     72h
        PrivateKeyBits  256
    "#]]
    .assert_eq(&server.output(&["ca", "config"]));
    let shown = server.output(&["ca", "config", "LeafCertTTL=24h", "PrivateKeyBits=384"]);
    assert!(shown.contains("Rotation 7 is under way (the CA configuration changed)"), "{shown}");
    let written = |config: Value| {
        let written = json!({ "Provider": "builtin", "Config": config });
        server.seen().iter().any(|(what, _, body)| what.starts_with("PUT") && *body == written)
    };
    assert!(written(json!({ "LeafCertTTL": "24h", "PrivateKeyBits": 384 })));
    // A kind of key as it was read would undo a rotation that began meanwhile.
    server.output(&["ca", "config", "LeafCertTTL=48h"]);
    assert!(written(json!({ "LeafCertTTL": "48h" })));
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("root.key");
    std::fs::write(&file, "a key\n").expect("it is written");
    server.output(&["ca", "config", &format!("PrivateKey=@{}", file.display())]);
    assert!(written(json!({ "LeafCertTTL": "72h", "PrivateKey": "a key\n" })));
    for (change, words) in [
        ("PrivateKey=-----BEGIN PRIVATE KEY-----", "is seen by everybody on this machine"),
        ("PrivateKeyType=ed25519", "Envoy refuses it"),
        ("RootCert=@no/such.pem", "cannot read no/such.pem"),
    ] {
        let (code, _, errors) = server.run(&["ca", "config", change]);
        assert!(code != ExitCode::SUCCESS && errors.contains(words) && !errors.contains("BEGIN"), "{errors}");
        assert!(server.seen().iter().all(|(what, _, _)| what.starts_with("GET")), "nothing is written: {change}");
    }
    server.output(&["ca", "config", "PrivateKeyType=ed25519", "--yes"]);
    assert!(written(json!({ "LeafCertTTL": "72h", "PrivateKeyType": "ed25519" })));
    assert!(server.output(&["ca", "halt"]).contains("halted"));
    assert_eq!(server.seen()[0].2, json!({ "Halted": true }));
}

#[test]
fn a_plan_of_a_rotation_says_what_each_step_needs_and_changes_nothing() {
    let root = json!({
        "ID": "aa:bb", "Phase": "active", "Since": "2026-01-02T00:00:00Z", "KeyType": "ec-p256", "NotAfter": "2036-01-01T00:00:00Z",
        "Bridge": null, "Tainted": null, "Waits": [], "Leaves": [
            { "Datacenter": "dc1", "Current": 10_000, "Unexpired": 12_000, "LastNotAfter": null },
            { "Datacenter": "dc2", "Current": 40, "Unexpired": 40, "LastNotAfter": null },
        ],
    });
    let datacenter =
        |name: &str| json!({ "Name": name, "Halted": false, "LaggingAgents": 0, "AbsentServers": 0, "HeardAt": null });
    let status = json!({
        "Datacenter": "dc1", "Primary": "dc1", "Halted": false, "Rotation": null, "LastRotation": null, "RotationPeriod": null,
        "Roots": [root], "Datacenters": [datacenter("dc1"), datacenter("dc2")],
    });
    let server = Canned::start(vec![
        ("GET /v1/carrack/ca", 200, status.to_string()),
        ("GET /v1/carrack/members", 200, json!([{}, {}, {}]).to_string()),
        ("GET /v1/connect/ca/configuration", 200, json!({ "Config": { "CSRMaxPerSecond": 50 } }).to_string()),
    ]);
    expect![[r#"
        From root aa:bb:
          1. A new root with rsa-2048 is made and published in dc1, dc2.
          2. The former root cross-signs it: a leaf is served with its issuer and that bridge, 3 certificates, while it lasts.
          3. Every agent that answers takes it into its bundle by itself, and its server says so; nobody else has to reload.
             Verifiers without an agent have the bridge alone: those that have not fetched the bundle since 2026-01-02T00:00:00Z fail from step 5 on.
          4. 3 servers here, and those of each other datacenter, send a CSR each for an issuer under it, with a key of that kind too.
          5. It becomes active in the primary, and in each other datacenter when that is ready.
          6. Leaves that are in use are issued anew, each at a moment of its own:
               dc1: 10000 within about 250 s (40 a second)
               dc2: 40 within about 1 s (40 a second)
          7. The former root leaves the bundle when the last leaf under it has ended; `carrack ca rollback` works until then.
    "#]].assert_eq(&server.output(&["ca", "rotate", "--plan", "--key-type", "rsa-2048"]));
    assert!(server.output(&["ca", "rotate", "--plan", "--without-cross-signing"]).contains("No bridge"));
    assert!(server.seen().iter().all(|(what, _, _)| what.starts_with("GET")));
}

#[test]
fn a_watch_says_at_its_end_how_handshakes_went_and_of_whom_nothing_is_heard() {
    let status = json!({
        "Datacenter": "dc1", "Primary": "dc1", "Halted": false, "Rotation": null, "LastRotation": null, "RotationPeriod": null,
        "Roots": [], "Datacenters": [],
    });
    let server = Canned::start(vec![
        ("GET /v1/carrack/ca", 200, status.to_string()),
        ("GET /v1/agent/connect/ca/leaf/web?wait=60s", 403, "Permission denied".into()),
    ]);
    let probes = [format!("web@{}", server.address), format!("api@{}", server.address)];
    let watch = ["ca", "status", "--watch", "--probe", &probes[0], "--probe", &probes[1]];
    let shown = server.output(&watch);
    for part in [
        "all 0 leaves in use are under the active root\n",
        "\nhandshakes: 0 in all, 0 failed\n  no handshakes of web@http://server: ",
        "with status 403: Permission denied\n",
        "\n  no handshakes of api@http://server: ",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let of_program = server.output(&[&watch[..], &["--format", "json"]].concat());
    let of_program: Value = serde_json::from_str(&of_program).expect("one answer in JSON");
    assert_eq!((&of_program["Primary"], &of_program["Handshakes"]["Succeeded"]), (&json!("dc1"), &json!(0)));
    assert_eq!(of_program["Handshakes"]["Troubles"].as_array().map(Vec::len), Some(2), "{of_program}");
    assert!(!server.output(&["ca", "status", "--watch"]).contains("handshakes"));

    server.seen();
    let (code, _, errors) = server.run(&["ca", "rotate", "--watch", "--probe", &probes[0]]);
    assert!(code == ExitCode::from(2) && errors.contains("alone has nobody to connect to"), "{errors}");
    assert_eq!(server.seen().len(), 0, "nothing is changed before");
}

#[test]
fn a_token_is_made_with_policies_and_services_and_its_secret_is_shown() {
    let answer = json!({
        "AccessorID": "A", "SecretID": "S", "Description": "d", "Policies": [{ "ID": "1", "Name": "p" }],
        "ServiceIdentities": [{ "ServiceName": "web", "Datacenters": ["dc1"] }], "ExpirationTime": null,
    });
    let server = Canned::start(vec![("PUT /v1/acl/token", 200, answer.to_string())]);
    let arguments = ["acl", "token", "create", "--policy", "p", "--service-identity", "web:dc1", "--ttl", "1h"];
    let printed = server.output(&arguments);
    assert!(printed.contains("SecretID     S") && printed.contains("web in dc1"), "{printed}");
    let body = json!({
        "Description": "", "Policies": [{ "Name": "p" }], "Local": false, "ExpirationTTL": "1h",
        "ServiceIdentities": [{ "ServiceName": "web", "Datacenters": ["dc1"] }],
    });
    assert_eq!(server.seen()[0].2, body);
}

#[test]
fn a_policy_is_deleted_by_its_name() {
    let answers = vec![
        ("GET /v1/acl/policy/name/web", 200, json!({ "ID": "77", "Name": "web" }).to_string()),
        ("DELETE /v1/acl/policy/77", 200, "true".into()),
    ];
    let server = Canned::start(answers);
    assert_eq!(server.output(&["acl", "policy", "delete", "web"]), "The policy web is deleted.\n");
}

#[test]
fn the_issuance_log_is_read_to_its_end() {
    let page = json!({ "Head": "00", "Length": 0, "Records": [] }).to_string();
    let server = Canned::start(vec![("GET /v1/carrack/issuance?after=3&limit=1000", 200, page)]);
    assert_eq!(server.output(&["issuance", "export", "--after", "3"]), "");
}

#[test]
fn a_refusal_says_what_why_and_what_next_with_exit_code_1() {
    let server = Canned::start(vec![("GET /v1/acl/tokens", 403, "Permission denied: \u{1b}[2J\n".into())]);
    let (code, output, errors) = server.run(&["acl", "token", "list"]);
    assert_eq!((code, output.as_str()), (ExitCode::from(1), ""));
    expect![[r#"
        error: the server at http://server refused GET /v1/acl/tokens with status 403: Permission denied:  [2J
          next: give a token that may do this with --token or CARRACK_TOKEN
    "#]]
    .assert_eq(&errors);
}

#[test]
fn an_answer_of_something_else_is_no_panic() {
    let server = Canned::start(vec![("GET /v1/carrack/status", 200, "<html>".into())]);
    let (code, _, errors) = server.run(&["status"]);
    assert_eq!(code, ExitCode::from(1));
    assert!(errors.contains("is not understood\n  because: "), "{errors}");
}

#[test]
fn no_server_is_exit_code_1_and_wrong_use_is_2() {
    let nobody = Canned { address: "http://127.0.0.1:1".into(), seen: Arc::default() };
    let (code, _, errors) = nobody.run(&["status"]);
    assert_eq!(code, ExitCode::from(1));
    assert!(
        errors.starts_with("error: no answer from the server at http://server to GET /v1/carrack/status"),
        "{errors}"
    );
    for wrong in [&["stattus"][..], &["leaf", "get", "a/b"], &["ca", "config", "novalue"], &["token", "join"], &[]] {
        assert_eq!(nobody.run(wrong).0, ExitCode::from(2), "{wrong:?}");
    }
    let far = Canned { address: "http://10.0.0.1:8500".into(), seen: Arc::default() };
    assert_eq!(far.run(&["status"]).0, ExitCode::from(2));
    assert_eq!(nobody.run(&["--help"]).0, ExitCode::SUCCESS);
}

#[test]
fn every_argument_of_every_command_is_consistent() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
    // `server` and `dev` have arguments of their own.
    server::ServerArgs::augment(clap::Command::new("server")).debug_assert();
}

trait Augment {
    fn augment(command: clap::Command) -> clap::Command;
}

impl<T: clap::Args> Augment for T {
    fn augment(command: clap::Command) -> clap::Command {
        T::augment_args(command)
    }
}

#[test]
fn a_leaf_for_another_key_is_not_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("web");
    // The answer's leaf is for another key: nothing may be written.
    let pair = rcgen::KeyPair::generate().expect("a key");
    let pem = rcgen::CertificateParams::default().self_signed(&pair).expect("a certificate").pem();
    let signed = json!({
        "SerialNumber": "01", "CertPEM": pem, "ChainPEM": pem, "RootsPEM": pem,
        "SpiffeID": "spiffe://example.org/ns/default/dc/dc1/svc/web", "ValidAfter": "", "ValidBefore": "",
    });
    let roots = json!({ "ActiveRootID": "a", "TrustDomain": "example.org" });
    let answers = vec![
        ("GET /v1/connect/ca/roots", 200, roots.to_string()),
        ("GET /v1/agent/self", 200, json!({ "Config": { "Datacenter": "dc1" } }).to_string()),
        ("PUT /v1/carrack/sign", 200, signed.to_string()),
    ];
    let server = Canned::start(answers);
    let (code, _, errors) = server.run(&["leaf", "get", "web", "--out", out.to_str().expect("text")]);
    assert_eq!(code, ExitCode::from(1));
    assert!(errors.contains("the leaf is for another key"), "{errors}");
    assert!(!out.exists());
    let csr = server.seen().pop().expect("it was asked").2["Csr"].as_str().expect("a CSR").to_owned();
    assert!(csr.starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
}

fn intention(source: &str, destination: &str, action: &str, precedence: u8) -> Value {
    json!({
        "SourceNS": "default", "SourceName": source, "DestinationNS": "default", "DestinationName": destination,
        "SourceType": "consul", "Action": action, "Precedence": precedence, "CreateIndex": 7, "ModifyIndex": 8,
    })
}

#[test]
fn an_intention_is_made_by_its_names_and_shown() {
    let exact = "/v1/connect/intentions/exact?source=%2A&destination=db";
    let read = "GET /v1/connect/intentions/exact?source=*&destination=db";
    let (put, delete) = (format!("PUT {exact}").leak(), format!("DELETE {exact}").leak());
    let server = Canned::start(vec![
        (put, 200, "true".into()),
        (read, 200, intention("*", "db", "deny", 8).to_string()),
        (delete, 200, "true".into()),
    ]);
    expect![[r#"
        Source  Destination  Says  Precedence  Description
        *       db           deny  8           -
    "#]]
    .assert_eq(&server.output(&["intention", "create", "--deny", "*", "db"]));
    assert_eq!(server.seen()[0].2, json!({ "Action": "deny", "Description": "" }));
    assert_eq!(server.output(&["intention", "delete", "*", "db"]), "The intention * => db is deleted.\n");
    let (code, _, errors) = server.run(&["intention", "create", "*", "db"]);
    assert_eq!(code, ExitCode::from(2));
    assert!(errors.contains("--allow|--deny|--permissions"), "{errors}");
}

#[test]
fn an_explanation_names_what_decides_and_what_it_beats() {
    let explained = json!({
        "Allowed": false, "Reason": "Matched L7 intention: default/web => default/db (Precedence: 9, Permissions: 2)",
        "Detail": "permission 2 of 2 fits first: deny", "Intention": intention("web", "db", "", 9),
        "Beaten": [intention("*", "db", "allow", 8), intention("*", "*", "deny", 5)],
        "Default": "deny", "DefaultFrom": "acl",
    });
    let plain = json!({
        "Allowed": true, "Reason": "Default intention policy", "Detail": "", "Intention": null, "Beaten": [],
        "Default": "allow", "DefaultFrom": "default_intention_policy",
    });
    let server = Canned::start(vec![
        (
            "GET /v1/carrack/intention/explain?source=web&destination=db&path=%2Fadmin&method=PUT&header=X%3A+1",
            200,
            explained.to_string(),
        ),
        ("GET /v1/carrack/intention/explain?source=web&destination=x", 200, plain.to_string()),
    ]);
    let arguments = ["intention", "explain", "web", "db", "--path", "/admin", "--method", "PUT", "--header", "X: 1"];
    expect![[r#"
        web => db: denied
        Matched L7 intention: default/web => default/db (Precedence: 9, Permissions: 2)
        permission 2 of 2 fits first: deny

        It beats:
        Source  Destination  Says   Precedence  Description
        *       db           allow  8           -
        *       *            deny   5           -
        Without an intention: deny, as ACLs have it.
    "#]]
    .assert_eq(&server.output(&arguments));
    expect![[r#"
        web => x: allowed
        Default intention policy

        No intention is about both.
        Without an intention: allow, by default_intention_policy.
    "#]]
    .assert_eq(&server.output(&["intention", "explain", "web", "x"]));
}
