//! Bodies that are no requests: every route that takes one says what is wrong with it, and reads no more than it needs.

use carrack::api::http::routes::{ROUTES, Route};
use carrack_tests::{http::Answer, raw};
use serde_json::{Value, json};

use super::{Victim, assert_refused};

/// Above every limit of a body.
const TOO_LONG: usize = 300 * 1024;

#[test]
fn a_body_that_is_no_request_is_refused_on_every_route_that_takes_one() {
    let mut victim = Victim::new();
    let accessor = victim.token_of("db")["AccessorID"].as_str().expect("a token has one").to_owned();
    let mut tried = 0;
    for route in ROUTES.iter().filter(|route| ["PUT", "POST"].contains(&route.method.as_str())) {
        let path = route.path.replace("{accessor}", &accessor).replace("{id}", &accessor);
        let path = path.replace("/exact", "/exact?source=web&destination=db");
        let line = format!("{} {path}", route.method);
        let ask = |body: &[u8]| {
            let length = body.len().to_string();
            let headers = [("X-Consul-Token", &*victim.cluster.token), ("Content-Length", &length)];
            raw::ask(victim.server().http, &line, &headers, body)
        };
        let deep = "[".repeat(30_000);
        let deep_objects = r#"{"a":"#.repeat(10_000);
        for (what, body, words) in [
            ("an unknown field", &br#"{"Nonsense": 1}"#[..], "unknown field `Nonsense`"),
            ("an unknown field that needs escaping", br#"{"a\"\n\u0000": 1}"#, "unknown field"),
            ("a cut object", br#"{"Description": "a"#, "the body is not JSON"),
            ("a list", b"[1]", "must be an object"),
            ("a text", br#""text""#, "must be an object"),
            ("two objects", b"{}{}", "the body is not JSON"),
            ("a field twice", br#"{"Name": "a", "name": "b"}"#, "twice"),
            ("XML", b"<a/>", "the body is not JSON"),
            ("NUL", b"\0\0\0\0", "the body is not JSON"),
            ("bytes that are no text", b"{\"Name\": \"\xff\xfe\"}", "the body is not JSON"),
            ("lists in lists", deep.as_bytes(), "the body is not JSON"),
            ("objects in objects", deep_objects.as_bytes(), "the body is not JSON"),
        ] {
            let (status, answer) = ask(body);
            assert_eq!(status, 400, "{line}, {what}: {answer}");
            assert!(answer.contains(words), "{line}, {what}: {answer}");
            tried += 1;
        }
        too_long(&victim, route, &line);
    }
    assert!(tried > 100, "{tried}");
    wrong_types(&victim);
    victim.assert_unharmed();
}

/// Announced or not, a body that is too long is not read.
fn too_long(victim: &Victim, route: &Route, line: &str) {
    assert!(route.body_bytes_max < TOO_LONG);
    let body = vec![b' '; TOO_LONG];
    let head = |length: &str| {
        let token = &victim.cluster.token;
        format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Consul-Token: {token}\r\n{length}\r\n\r\n")
    };
    let announced =
        raw::Raw::connect(victim.server().http).write(head(&format!("Content-Length: {TOO_LONG}"))).read_to_end();
    assert_eq!(raw::status(&announced), 413, "{line}: {announced}");
    assert!(announced.contains(&format!("max size: {} bytes", route.body_bytes_max)), "{announced}");
    let mut connection = raw::Raw::connect(victim.server().http);
    connection.write(head("Transfer-Encoding: chunked"));
    for part in body.chunks(1024) {
        connection.write("400\r\n").write(part).write("\r\n");
    }
    let streamed = connection.write("0\r\n\r\n").read_to_end();
    // Whoever goes on sending may find the connection reset before he reads the refusal.
    assert!(streamed.is_empty() || raw::status(&streamed) == 413, "{line}: {streamed}");
    let cut =
        raw::Raw::connect(victim.server().http).write(head("Content-Length: 50")).write("{").finish().read_to_end();
    assert!(cut.is_empty() || raw::status(&cut) == 400, "{line}: {cut}");
}

fn wrong_types(victim: &Victim) {
    let long = "a".repeat(40_000);
    let end = json!({ "ExpirationTTL": "1h", "ExpirationTime": "2040-01-01T00:00:00Z" });
    let configuration = |config: Value| json!({ "Provider": "consul", "Config": config });
    for (path, body, words) in [
        ("/v1/carrack/sign", json!({ "Csr": 7 }), "the field `Csr` of the request must be a string"),
        ("/v1/carrack/sign", json!({ "Csr": ["a"] }), "must be a string"),
        ("/v1/carrack/sign", json!({ "Csr": "a", "TTL": "soon" }), "a span of time"),
        ("/v1/carrack/sign", json!({ "Csr": "a", "TTL": "-5h" }), "a span of time"),
        ("/v1/carrack/halt", json!({}), "Halted is missing"),
        ("/v1/carrack/halt", json!({ "Halted": "yes" }), "true or false"),
        ("/v1/carrack/join-token", json!({ "NodeName": "d", "TTL": "99999h" }), ""),
        ("/v1/acl/token", json!({ "SecretID": "secret" }), "SecretID is not a UUID"),
        ("/v1/acl/token", json!({ "SecretID": "<hidden>" }), "SecretID is not a UUID"),
        ("/v1/acl/token", json!({ "AccessorID": "00000000-0000-0000-0000-000000000005" }), "reserved"),
        ("/v1/acl/token", json!({ "Policies": [{ "Name": "no-such" }] }), "No such ACL policy"),
        ("/v1/acl/token", json!({ "Policies": [7] }), "must be an object"),
        ("/v1/acl/token", json!({ "ExpirationTTL": "1s" }), "less than 1m"),
        ("/v1/acl/token", end, "cannot both be set"),
        ("/v1/acl/token", json!({ "Description": &long }), ""),
        ("/v1/acl/policy", json!({ "Name": "a", "Rules": "service {" }), "Invalid Policy"),
        ("/v1/acl/policy", json!({ "Name": "a", "Rules": "nonsense = \"x\"" }), "Invalid Policy"),
        ("/v1/connect/ca/configuration", configuration(json!({ "LeafCertTTL": "1m" })), "greater or equal than 1h0m0s"),
        ("/v1/connect/ca/configuration", configuration(json!({ "LeafCertTTL": "9000h" })), "less than 8760h"),
        ("/v1/connect/ca/configuration", configuration(json!({ "IntermediateCertTTL": "4h" })), "3 * LeafCertTTL"),
        ("/v1/connect/ca/configuration", configuration(json!({ "CSRMaxPerSecond": -1 })), "a whole number"),
        ("/v1/connect/ca/configuration", configuration(json!({ "PrivateKeyBits": 224 })), "ec"),
        ("/v1/connect/ca/configuration", json!({ "Provider": "nobody", "Config": {} }), "unknown CA provider"),
        ("/v1/connect/ca/configuration", json!({ "Config": {} }), "Provider is missing"),
        ("/v1/config", json!({ "Kind": "service-intentions", "Name": "db", "Sources": 7 }), "which is a sequence"),
        ("/v1/connect/intentions/exact?source=web&destination=db", json!({ "Permissions": [7] }), "of another type"),
        ("/v1/connect/intentions/exact?source=web&destination=db", json!({ "Action": 7 }), "must be a string"),
        ("/v1/connect/intentions/exact?source=web&destination=db", json!({ "Description": long }), "512"),
    ] {
        let answer = victim.management().send("PUT", path, Some(&body)).expect("an answer comes");
        assert_refused(&format!("{path} {body}"), &answer, 400, words);
    }
}

#[test]
fn a_wrong_method_is_told_the_right_ones() {
    let mut victim = Victim::new();
    let ask =
        |method: &str, path: &str| -> Answer { victim.management().send(method, path, None).expect("an answer comes") };
    for path in ROUTES.iter().map(|route| route.path) {
        let allowed: Vec<&str> =
            ROUTES.iter().filter(|route| route.path == path).map(|route| route.method.as_str()).collect();
        for method in ["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "BREW"] {
            if allowed.contains(&method) {
                continue;
            }
            let answer = ask(method, path);
            assert_refused(&format!("{method} {path}"), &answer, 405, "not allowed");
            assert_eq!(answer.header("allow"), Some(&*allowed.join(", ")), "{method} {path}");
        }
    }
    for (path, words) in [("/v1/kv/a", "the key/value store"), ("/v1/catalog/services", "the service catalog")] {
        assert_refused(path, &ask("GET", path), 404, words);
    }
    assert_refused("an unknown path", &ask("GET", "/v2/nothing"), 404, "Invalid URL path");
    victim.assert_unharmed();
}
