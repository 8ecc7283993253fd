//! Names that would need escaping are refused wherever they come in, by one grammar (CVE-2021-41803).

use carrack_tests::raw;
use serde_json::json;

use super::{Victim, assert_refused};

/// Names in a path, as they are written there, with the status and words of the refusal.
const IN_PATHS: &[(&str, u16, &str)] = &[
    ("we%22b", 400, "has the character '\"'"),
    ("we'b", 400, "has the character"),
    ("web%0aX-Injected:%20yes", 400, "has the character '\\n'"),
    ("web%0d%0a", 400, "has the character '\\r'"),
    ("web%00", 400, "has the character '\\0'"),
    ("we%2fb", 400, "has the character '/'"),
    ("we%5cb", 400, "has the character '\\\\'"),
    ("%2e%2e", 400, "must not be `.` or `..`"),
    ("..", 400, "must not be `.` or `..`"),
    (".", 400, "must not be `.` or `..`"),
    ("..%2fdb", 400, "has the character '/'"),
    ("w%D0%B5b", 400, "has the character"),
    ("we%EF%BC%8Fb", 400, "has the character"),
    ("web%E2%80%AEbd", 400, "has the character"),
    ("*", 400, "has the character '*'"),
    ("web%20or%201=1", 400, "has the character ' '"),
    ("$%7Bservice%7D", 400, "has the character '$'"),
    ("web;x=1", 400, "has the character ';'"),
    ("web:8080", 400, "has the character ':'"),
    ("%ff", 400, "the path cannot be decoded"),
    ("web/..", 404, "carrack does not offer"),
    ("web/../db", 404, "carrack does not offer"),
    ("web/", 404, "carrack does not offer"),
    ("", 404, "carrack does not offer"),
];

#[test]
fn names_that_need_escaping_get_nothing_on_any_route() {
    let mut victim = Victim::new();
    let (address, token) = (victim.server().http, victim.cluster.token.clone());
    let headers = [("X-Consul-Token", &*token)];
    let long = "a".repeat(129);
    let in_paths = IN_PATHS.iter().copied().chain([(&*long, 400, "at most 128")]);
    for (name, status, words) in in_paths {
        let line = format!("GET /v1/agent/connect/ca/leaf/{name}");
        let (found, answer) = raw::ask(address, &line, &headers, &[]);
        assert_eq!(found, status, "{name}: {answer}");
        assert!(answer.contains(words), "{name}: {answer}");
        assert!(!answer.to_lowercase().contains("\nx-injected"), "{name}: {answer}");
    }
    // What no path may hold at all never reaches a route.
    for line in ["GET /v1/agent/connect/ca/leaf/we\"b\u{1}", "GET /v1/agent/connect/ca/leaf/w\u{435}b"] {
        let (found, answer) = raw::ask(address, line, &headers, &[]);
        assert_eq!(found, 400, "{line}: {answer}");
    }
    in_bodies(&victim);
    for (path, status) in [
        ("/v1/acl/policy/name/..%2f", 404),
        ("/v1/acl/policy/name/%22", 404),
        ("/v1/acl/token/%00", 400),
        ("/v1/acl/tokens?policy=%22", 400),
        ("/v1/connect/ca/roots?dc=%22%0a", 500),
        ("/v1/connect/ca/roots?ns=%22%0a", 400),
        ("/v1/connect/ca/roots?index=x", 400),
        ("/v1/connect/ca/roots?index=-1", 400),
        ("/v1/connect/ca/roots?wait=%00", 400),
        ("/v1/connect/ca/roots?stale&consistent", 400),
    ] {
        let answer = victim.management().send("GET", path, None).expect("an answer comes");
        assert_refused(path, &answer, status, "");
    }
    let removed = victim.management().send("DELETE", "/v1/carrack/members/%22%0a", None).expect("an answer comes");
    assert_refused("an unknown member", &removed, 404, "no server has this name or id");
    victim.assert_unharmed();
}

fn in_bodies(victim: &Victim) {
    for name in ["we\"b", "we\nb", "web\0", "..", "a/b", "w\u{435}b", "", " ", &"a".repeat(129)] {
        let bodies = [
            ("/v1/acl/token", json!({ "ServiceIdentities": [{ "ServiceName": name }] })),
            ("/v1/acl/token", json!({ "ServiceIdentities": [{ "ServiceName": "web", "Datacenters": [name] }] })),
            ("/v1/acl/policy", json!({ "Name": name, "Rules": "" })),
            ("/v1/carrack/join-token", json!({ "NodeName": name })),
        ];
        for (path, body) in bodies {
            let answer = victim.management().send("PUT", path, Some(&body)).expect("an answer comes");
            assert_refused(&format!("{path} {name:?}"), &answer, 400, "");
        }
    }
    let rules = r#"service "web" { policy = "write" } service "${name}" { policy = "write" "#;
    let answer = victim.management().send("PUT", "/v1/acl/policy", Some(&json!({ "Name": "cut", "Rules": rules })));
    assert_refused("cut rules", &answer.expect("an answer comes"), 400, "Invalid Policy");
}
