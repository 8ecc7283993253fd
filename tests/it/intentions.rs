//! Intentions in real datacenters: every server gives the same answer, the command line says why, and a secondary passes on what is
//! written and follows it.

use std::time::{Duration, Instant};

use carrack_tests::{
    cluster::Cluster,
    http::{Answer, Http},
    server::Server,
    wait,
    wan::Wan,
};
use serde_json::{Value, json};

/// A fresh secondary has this many intentions of the primary within [`FOLLOWED_WITHIN`].
const MANY: usize = 10_000;
const FOLLOWED_WITHIN: Duration = Duration::from_secs(5);
/// The sources of one config entry: the most plain ones that one command may bring are some more.
const SOURCES_OF_ONE: usize = 1000;

fn managed(server: &Server, token: &str) -> Http {
    server.client().with_token(token)
}

#[track_caller]
fn send(client: &Http, method: &str, path: &str, body: Option<&Value>, status: u16) -> Answer {
    let answer = client.send(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
    answer
}

fn exact(source: &str, destination: &str) -> String {
    format!("/v1/connect/intentions/exact?source={source}&destination={destination}")
}

#[track_caller]
fn intend(client: &Http, source: &str, destination: &str, body: &Value) {
    assert_eq!(send(client, "PUT", &exact(source, destination), Some(body), 200).body, "true");
}

#[track_caller]
fn is_allowed(client: &Http, source: &str, destination: &str) -> bool {
    let path = format!("/v1/connect/intentions/check?source={source}&destination={destination}");
    send(client, "GET", &path, None, 200).json()["Allowed"].as_bool().expect("it says so")
}

fn entry(destination: &str, sources: impl Iterator<Item = String>, action: &str) -> Value {
    let sources: Vec<Value> = sources.map(|name| json!({ "Name": name, "Action": action })).collect();
    json!({ "Kind": "service-intentions", "Name": destination, "Sources": sources })
}

#[test]
fn every_server_of_a_datacenter_has_the_same_intentions_and_says_the_same_of_them() {
    let cluster = Cluster::form(3);
    let clients: Vec<Http> = cluster.servers.iter().map(|server| managed(server, &cluster.token)).collect();
    let [first, second, third] = clients.as_slice() else { panic!("there are three servers") };
    precedence_decides(&clients);
    requests_are_not_connections(&clients);
    let draft = json!({ "SourceName": "old", "DestinationName": "db", "Action": "deny" });
    let made = send(first, "POST", "/v1/connect/intentions", Some(&draft), 200).json();
    let path = format!("/v1/connect/intentions/{}", made["ID"].as_str().expect("an ID"));
    assert_eq!(send(second, "GET", &path, None, 200).json()["SourceName"], "old");
    assert_eq!(send(third, "DELETE", &path, None, 200).body, "true");
    what_is_wrong_is_told_alike(&clients);
    whoever_compares_loses_to_whoever_was_there(first, second);
    the_command_line_makes_and_explains(&cluster);
    for server in &cluster.servers {
        assert!(!server.log().contains("panicked"), "{}", server.log());
    }
}

/// Consul's table: exact before `*`, the destination before the source.
fn precedence_decides(clients: &[Http]) {
    let rows = [
        ("*", "*", "allow"),
        ("web", "*", "deny"),
        ("*", "db", "allow"),
        ("web", "db", "deny"),
        ("api", "db", "allow"),
    ];
    for (place, (source, destination, action)) in rows.into_iter().enumerate() {
        intend(&clients[place % clients.len()], source, destination, &json!({ "Action": action }));
    }
    for client in clients {
        for (source, destination, expected) in
            [("web", "db", false), ("api", "db", true), ("x", "db", true), ("web", "x", false), ("x", "y", true)]
        {
            assert_eq!(is_allowed(client, source, destination), expected, "{source} => {destination}");
        }
        let matched = send(client, "GET", "/v1/connect/intentions/match?by=destination&name=db", None, 200).json();
        let rows = matched["db"].as_array().expect("a list");
        let precedences: Vec<_> = rows.iter().map(|row| row["Precedence"].as_u64().unwrap_or_default()).collect();
        assert_eq!(precedences, [9, 9, 8, 6, 5], "{matched}");
        let sources: Vec<_> = rows.iter().map(|row| row["SourceName"].as_str().unwrap_or_default()).collect();
        assert_eq!(sources, ["api", "web", "*", "web", "*"], "{matched}");
    }
}

fn requests_are_not_connections(clients: &[Http]) {
    let permissions = json!([{ "Action": "allow", "HTTP": { "PathPrefix": "/v1" } }]);
    intend(&clients[0], "web", "admin", &json!({ "Permissions": permissions }));
    for client in clients {
        assert!(!is_allowed(client, "web", "admin"), "there is no request to look at");
    }
}

fn what_is_wrong_is_told_alike(clients: &[Http]) {
    let any = json!({ "Kind": "service-intentions", "Name": "*", "Sources": [{
        "Name": "web", "Permissions": [{ "Action": "allow", "HTTP": { "PathExact": "/" } }]
    }]});
    let wrong = [
        ("PUT", exact("web", "db"), json!({ "Action": "maybe" }), 400),
        ("PUT", exact("w*", "db"), json!({ "Action": "allow" }), 400),
        ("PUT", "/v1/config".into(), any, 400),
        ("PUT", "/v1/config".into(), entry("db", std::iter::empty(), "allow"), 400),
        ("PUT", "/v1/config".into(), json!({ "Kind": "proxy-defaults", "Name": "global" }), 501),
        (
            "POST",
            "/v1/connect/intentions".into(),
            json!({ "SourceName": "web", "DestinationName": "db", "Action": "deny" }),
            409,
        ),
        ("GET", exact("nobody", "db"), Value::Null, 404),
        ("GET", "/v1/config/service-intentions/nothing".into(), Value::Null, 404),
        ("GET", "/v1/connect/intentions?filter=x".into(), Value::Null, 400),
        ("DELETE", "/v1/connect/intentions/0a0b0c0d-0000-4000-8000-000000000001".into(), Value::Null, 404),
    ];
    for (method, path, body, status) in wrong {
        let answers = clients.iter().map(|client| send(client, method, &path, Some(&body), status).body);
        let answers: Vec<String> = answers.collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{method} {path}: {answers:?}");
    }
}

fn whoever_compares_loses_to_whoever_was_there(first: &Http, second: &Http) {
    let path = "/v1/config/service-intentions/shared";
    let write = |client: &Http, index: u64, action: &str| {
        let body = entry("shared", std::iter::once("web".into()), action);
        send(client, "PUT", &format!("/v1/config?cas={index}"), Some(&body), 200).body
    };
    assert_eq!((write(first, 0, "allow"), write(second, 0, "deny")), ("true".into(), "false".into()));
    let index = send(second, "GET", path, None, 200).json()["ModifyIndex"].as_u64().expect("an index");
    assert_eq!((write(second, index, "deny"), write(first, index, "allow")), ("true".into(), "false".into()));
    assert_eq!(send(first, "DELETE", &format!("{path}?cas={index}"), None, 200).body, "false");
    assert_eq!(send(first, "DELETE", path, None, 200).body, "{}");
}

fn the_command_line_makes_and_explains(cluster: &Cluster) {
    let run = |arguments: &[&str]| cluster.any().carrack(&cluster.token, arguments).expect_output();
    let made = run(&["intention", "create", "--deny", "--description", "no reason", "x", "db"]);
    assert!(made.contains("no reason"), "{made}");
    assert_eq!(run(&["intention", "check", "x", "db"]), "x => db: denied\n");
    let explained = run(&["intention", "explain", "x", "db"]);
    assert!(
        explained.contains("Matched L4 intention: default/x => default/db (Precedence: 9, Action: DENY)"),
        "{explained}"
    );
    let beaten: Vec<&str> = explained.lines().skip_while(|line| *line != "It beats:").skip(2).collect();
    assert!(beaten[0].starts_with("*       db") && beaten[1].starts_with("*       *"), "{explained}");
    assert!(explained.ends_with("Without an intention: deny, as ACLs have it.\n"), "{explained}");
    let of_request = run(&["intention", "explain", "web", "admin", "--path", "/v1/x"]);
    assert!(of_request.contains("permission 1 of 1 fits first: allow"), "{of_request}");
    assert!(run(&["intention", "match", "db"]).contains("no reason"));
    assert!(run(&["intention", "match", "--source", "x"]).contains("no reason"));
    assert!(run(&["intention", "list"]).lines().count() > 6);
    assert_eq!(run(&["intention", "delete", "x", "db"]), "The intention x => db is deleted.\n");
    assert_eq!(run(&["intention", "check", "x", "db"]), "x => db: allowed\n");
}

#[test]
fn what_holds_without_an_intention_a_setting_says() {
    let cluster = Cluster::form_with(1, &["--default-intention-policy", "allow"]);
    let client = managed(cluster.any(), &cluster.token);
    assert!(is_allowed(&client, "web", "db"));
    intend(&client, "web", "*", &json!({ "Action": "deny" }));
    assert!(!is_allowed(&client, "web", "db"));
    let explained = cluster.any().carrack(&cluster.token, &["intention", "explain", "api", "db"]).expect_output();
    assert!(explained.contains("Default intention policy"), "{explained}");
    assert!(explained.ends_with("Without an intention: allow, by default_intention_policy.\n"), "{explained}");
}

#[test]
fn a_secondary_passes_on_what_is_written_follows_it_and_decides_without_the_primary() {
    let wan = Wan::new(Duration::from_millis(15));
    let primary = Cluster::form_primary(1, &wan);
    let secondary = Cluster::form_secondary(1, "dc2", &primary);
    let (here, there) = (managed(primary.any(), &primary.token), managed(secondary.any(), &primary.token));
    intend(&there, "web", "db", &json!({ "Action": "allow", "Description": "through dc2" }));
    for client in [&here, &there] {
        let read = send(client, "GET", &exact("web", "db"), None, 200).json();
        assert_eq!(read["Description"], "through dc2", "who writes through a secondary reads it there");
        assert!(is_allowed(client, "web", "db"));
    }
    let times = |client: &Http| send(client, "GET", &exact("web", "db"), None, 200).json()["UpdatedAt"].clone();
    assert_eq!(times(&here), times(&there));
    let index = send(&there, "GET", "/v1/config/service-intentions/db", None, 200).json()["ModifyIndex"].clone();
    let denied = entry("db", std::iter::once("web".into()), "deny");
    let refused = send(&there, "PUT", &format!("/v1/config?cas={index}"), Some(&denied), 400);
    assert!(refused.body.contains("write it with `?dc=dc1`, or leave cas out"), "{}", refused.body);
    let of_primary =
        send(&there, "GET", "/v1/config/service-intentions/db?dc=dc1", None, 200).json()["ModifyIndex"].clone();
    let compared = send(&there, "PUT", &format!("/v1/config?dc=dc1&cas={of_primary}"), Some(&denied), 200);
    assert_eq!(compared.body, "true");
    assert!(!is_allowed(&there, "web", "db"), "who writes through a secondary reads it there");
    let draft = json!({ "SourceName": "old", "DestinationName": "db", "Action": "allow" });
    let made = send(&there, "POST", "/v1/connect/intentions", Some(&draft), 200).json();
    let path = format!("/v1/connect/intentions/{}", made["ID"].as_str().expect("an ID"));
    assert!(is_allowed(&there, "old", "db"));
    assert_eq!(send(&there, "DELETE", &path, None, 200).body, "true");
    assert!(!is_allowed(&there, "old", "db"));
    a_write_elsewhere_wakes_nobody_here(&here, &there);

    wan.cut();
    wait::until("writes to fail", || {
        let body = json!({ "Action": "allow" });
        let answer = there.send("PUT", &exact("web", "db"), Some(&body))?;
        wait::holds(answer.status == 503, || format!("{}: {}", answer.status, answer.body))
    });
    assert!(!is_allowed(&there, "web", "db"), "the secondary decides with what it has");
    intend(&here, "web", "db", &json!({ "Action": "allow" }));
    wan.heal();
    wait::until("the change to come", || wait::holds(is_allowed(&there, "web", "db"), || "it is denied".into()));
}

/// A query in the secondary about one destination sleeps through the write of another in the primary.
fn a_write_elsewhere_wakes_nobody_here(here: &Http, there: &Http) {
    let path = "/v1/connect/intentions/match?by=destination&name=db";
    let index = |answer: &Answer| answer.header("x-consul-index").expect("an index").to_owned();
    let before = send(there, "GET", path, None, 200);
    let blocked = format!("{path}&wait=3s&index={}", index(&before));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| send(there, "GET", &blocked, None, 200));
        intend(here, "web", "elsewhere", &json!({ "Action": "deny" }));
        wait::until("the other one to be there", || {
            let answer = there.send("GET", &exact("web", "elsewhere"), None)?;
            wait::holds(answer.status == 200, || answer.body)
        });
        let answer = waiting.join().expect("an answer comes");
        assert_eq!((index(&answer), answer.body), (index(&before), before.body.clone()));
    });
}

#[test]
fn a_fresh_secondary_has_ten_thousand_intentions_within_seconds() {
    let wan = Wan::new(Duration::from_millis(15));
    let primary = Cluster::form_primary(1, &wan);
    let here = managed(primary.any(), &primary.token);
    for destination in 0..MANY / SOURCES_OF_ONE {
        let sources = (0..SOURCES_OF_ONE).map(|number| format!("service-{number}"));
        let body = entry(&format!("destination-{destination}"), sources, "allow");
        assert_eq!(send(&here, "PUT", "/v1/config", Some(&body), 200).body, "true");
    }
    let secondary = Cluster::form_secondary(1, "dc2", &primary);
    // From when the secondary has the operator's token, which comes on a stream of its own beside that of the intentions.
    let begin = wait::now();
    let there = managed(secondary.any(), &primary.token);
    let count =
        |client: &Http| client.read("/v1/connect/intentions?stale").map(|all| all.as_array().map_or(0, Vec::len));
    wait::until("every intention", || {
        count(&there).and_then(|count| wait::holds(count == MANY, || format!("{count} are there")))
    });
    assert!(begin.elapsed() < FOLLOWED_WITHIN, "{MANY} intentions took {:?}", begin.elapsed());
    println!("{MANY} intentions were there {:?} after the first token", begin.elapsed());
    let rows = |client: &Http| {
        let all = client.read("/v1/connect/intentions").expect("all of them");
        let bare = |row: &Value| (row["SourceName"].clone(), row["DestinationName"].clone(), row["UpdatedAt"].clone());
        all.as_array().map_or_else(Vec::new, |rows| rows.iter().map(bare).collect::<Vec<_>>())
    };
    assert!(rows(&here) == rows(&there), "both have the same");
    let took = a_change_takes(&here, &there);
    println!("a change was there after {took:?}");
}

/// How long a change needs from one datacenter to the other, beside thousands that do not change.
fn a_change_takes(here: &Http, there: &Http) -> Duration {
    let begin: Instant = wait::now();
    intend(here, "service-1", "destination-1", &json!({ "Action": "deny" }));
    wait::until("the change", || {
        let is_denied = !is_allowed(there, "service-1", "destination-1");
        wait::holds(is_denied, || "it is allowed".into())
    });
    begin.elapsed()
}

/// Consul's `authorize`, with what Consul leaves out: the trust domain and revoked leaves (its `TODO`).
#[test]
fn a_connection_is_authorized_by_intentions_its_trust_domain_and_a_serial_that_is_not_revoked() {
    let cluster = Cluster::form(1);
    let client = managed(cluster.any(), &cluster.token);
    intend(&client, "web", "db", &json!({ "Action": "allow" }));
    let leaf = send(&client, "GET", "/v1/agent/connect/ca/leaf/web", None, 200).json();
    let (uri, serial) = (leaf["ServiceURI"].clone(), leaf["SerialNumber"].clone());
    let ask = |body: Value| {
        let answer = send(&client, "POST", "/v1/agent/connect/authorize", Some(&body), 200).json();
        let reason = answer["Reason"].as_str().expect("a reason").to_owned();
        (answer["Authorized"].as_bool().expect("it says so"), reason)
    };
    let question = json!({ "Target": "db", "ClientCertURI": uri, "ClientCertSerial": serial });
    let with = |name: &str, value: Value| {
        let mut question = question.clone();
        question[name] = value;
        question
    };
    let reason = "Matched L4 intention: default/web => default/db (Precedence: 9, Action: ALLOW)";
    assert_eq!(ask(question.clone()), (true, reason.to_owned()));
    assert_eq!(ask(with("ClientCert", leaf["CertPEM"].clone())), (true, reason.to_owned()));
    let (is_allowed, why) = ask(with("Target", json!("cache")));
    assert_eq!((is_allowed, why.as_str()), (false, "Default behavior configured by ACLs"));
    let (is_allowed, why) = ask(with("ClientCertURI", json!("spiffe://x.consul/ns/default/dc/dc1/svc/web")));
    assert!(!is_allowed && why.contains("trust domain x.consul"), "{why}");
    let mut other = with("ClientCert", leaf["CertPEM"].clone());
    other["ClientCertSerial"] = json!("33:9b");
    let (is_allowed, why) = ask(other);
    assert!(!is_allowed && why.contains("not the ClientCertSerial"), "{why}");
    for (wrong, said) in [
        (json!({ "ClientCertURI": "spiffe://a/b" }), "Target service must be specified"),
        (with("ClientCertURI", json!("web")), "ClientCertURI is not a valid identity"),
        (with("ClientCert", json!("no certificate")), "ClientCert does not begin with a certificate"),
        (with("ClientCertSerial", json!("zz")), "a serial number is 1 to 20 pairs"),
        (with("Namespace", json!("other")), "Namespace must be `default`"),
    ] {
        let refused = send(&client, "POST", "/v1/agent/connect/authorize", Some(&wrong), 400);
        assert!(refused.body.contains(said), "{}", refused.body);
    }

    let listed = cluster.any().carrack(&cluster.token, &["leaf", "list", "--service", "web", "--format", "json"]);
    assert_eq!(listed.expect_json()[0]["SerialNumber"], serial);
    let serial = serial.as_str().expect("a serial");
    let revoked = cluster.any().carrack(&cluster.token, &["leaf", "revoke", serial, "--reason", "lost laptop"]);
    assert!(revoked.expect_output().contains("is revoked"));
    let (is_allowed, why) = ask(question.clone());
    assert!(!is_allowed && why.ends_with("is revoked: lost laptop"), "{why}");
    assert_eq!(
        ask(json!({ "Target": "db", "ClientCertURI": uri })),
        (true, reason.to_owned()),
        "no serial, no revocation"
    );
    let (is_allowed, why) = ask(json!({ "Target": "db", "ClientCertURI": uri, "ClientCert": leaf["CertPEM"] }));
    assert!(!is_allowed && why.contains("is revoked"), "its certificate has one: {why}");
    let shown = cluster.any().carrack(&cluster.token, &["leaf", "revoked", "--format", "json"]).expect_json();
    assert_eq!((shown[0]["Reason"].as_str(), shown[0]["SerialNumber"].as_str()), (Some("lost laptop"), Some(serial)));
    let unknown = cluster.any().carrack(&cluster.token, &["leaf", "revoke", "33:9b"]);
    assert!(unknown.errors.contains("no unexpired leaf with this serial"), "{}", unknown.errors);
}
