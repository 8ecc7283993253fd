//! The holes of others (security.md section 2) that concern this edge, each asked for.

use carrack_authority::acl::token::secret_digest;
use serde_json::json;
use uuid::Uuid;

use super::{
    super::{
        access::Right,
        body::{BODY_BYTES_MAX, POLICY_BODY_BYTES_MAX},
        routes::{ROUTES, Route},
    },
    datacenter::{Answered, Datacenter},
};

fn concrete(route: &Route) -> String {
    let path =
        route.path.replace("{service}", "web").replace("{name}", "global-management").replace("{member}", "absent");
    path.replace("{accessor}", "11111111-2222-3333-4444-555555555555")
        .replace("{id}", "11111111-2222-3333-4444-555555555555")
}

fn method(route: &Route) -> &'static str {
    match route.method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        other => panic!("{other} is not a method of the table"),
    }
}

/// CVE-2020-7955: endpoints without authorisation.
#[tokio::test(flavor = "multi_thread")]
async fn every_route_refuses_whoever_lacks_its_right() {
    let datacenter = Datacenter::begin().await;
    let weak = datacenter.put("/v1/acl/token").managed().json(&json!({})).ok().await["SecretID"].clone();
    let weak = weak.as_str().unwrap();
    let unknown = "99999999-8888-7777-6666-555555555555";
    for route in ROUTES {
        let ask = || datacenter.ask(method(route), &concrete(route));
        let (anonymous, weak, unknown) =
            (ask().send().await, ask().token(weak).send().await, ask().token(unknown).send().await);
        let what = format!("{} {}", route.method, route.path);
        match route.right {
            Right::Public => assert_ne!(unknown.text, "ACL not found", "{what}"),
            right => {
                assert_eq!((anonymous.status.as_u16(), unknown.status.as_u16()), (403, 403), "{what}");
                assert!(anonymous.text.starts_with("Permission denied: anonymous token"), "{what}: {}", anonymous.text);
                assert_eq!(unknown.text, "ACL not found", "{what}");
                assert_eq!(weak.status.as_u16() == 403, right != Right::AnyToken, "{what}: {}", weak.text);
            }
        }
    }
    let public: Vec<&str> =
        ROUTES.iter().filter(|route| route.right == Right::Public).map(|route| route.path).collect();
    let expected = [
        "/v1/connect/ca/roots",
        "/v1/agent/connect/ca/roots",
        "/v1/acl/bootstrap",
        "/v1/status/leader",
        "/v1/status/peers",
        "/metrics",
        "/livez",
        "/readyz",
    ];
    assert_eq!(public, expected, "a new public route is a decision");
}

/// CVE-2019-8336: a redaction marker became a secret.
#[tokio::test(flavor = "multi_thread")]
async fn markers_empty_secrets_and_digests_are_nobody_s_token() {
    let datacenter = Datacenter::begin().await;
    let digest = secret_digest(&Uuid::try_parse(&datacenter.management).unwrap());
    let beginning = Uuid::from_slice(&digest.0[..16]).unwrap().to_string();
    let path = "/v1/acl/tokens";
    for secret in
        ["<hidden>", "anonymous", "00000000-0000-0000-0000-000000000000", &digest.to_string(), &beginning, " ", "null"]
    {
        assert_eq!(datacenter.get(path).token(secret).expect(403).await.text, "ACL not found", "{secret}");
        let of_bearer = datacenter.get(path).header("authorization", &format!("Bearer {secret}")).expect(403).await;
        assert!(!of_bearer.text.contains(secret) || secret == " " || secret == "anonymous", "{secret}");
    }
    assert!(datacenter.get(path).token("").expect(403).await.text.starts_with("Permission denied: anonymous token"));
    datacenter.get(path).header("authorization", &format!("bearer {}", datacenter.management)).ok().await;
    datacenter.get(&format!("{path}?token={}", datacenter.management)).ok().await;
}

/// CVE-2020-7219 and others: work before limits.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_bounded_before_they_are_parsed() {
    let datacenter = Datacenter::begin().await;
    let large = vec![b'['; BODY_BYTES_MAX + 1];
    let refused = datacenter.put("/v1/acl/token").managed().body(large.clone()).expect(413).await;
    assert_eq!(refused.header("x-carrack-error-code"), "body_too_large");
    // Without a token nothing of it is read.
    datacenter.put("/v1/acl/token").body(large).expect(403).await;
    let rules = "# \n".repeat(20_000);
    let policy = json!({ "Name": "long", "Rules": rules }).to_string();
    assert!(policy.len() > BODY_BYTES_MAX);
    datacenter.put("/v1/acl/policy").managed().body(policy).ok().await;
    datacenter.put("/v1/acl/policy").managed().body(vec![b' '; POLICY_BODY_BYTES_MAX + 1]).expect(413).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_methods_and_consuls_other_routes_are_told_apart() {
    let datacenter = Datacenter::begin().await;
    let unknown = datacenter.get("/v1/nothing").expect(404).await;
    assert_eq!(unknown.text, "Invalid URL path: not a recognized HTTP API endpoint");
    let catalog = datacenter.get("/v1/catalog/services").managed().expect(404).await;
    assert!(catalog.text.contains("the service catalog"), "{}", catalog.text);
    assert_eq!(catalog.header("x-carrack-error-code"), "not_offered");
    for (verb, path, allowed) in [
        ("POST", "/v1/connect/ca/roots", "GET"),
        ("HEAD", "/v1/connect/ca/roots", "GET"),
        ("DELETE", "/v1/connect/ca/configuration", "GET, PUT"),
        ("GET", "/v1/acl/bootstrap", "PUT"),
        ("POST", "/v1/acl/token/11111111-2222-3333-4444-555555555555", "GET, PUT, DELETE"),
    ] {
        let refused = datacenter.ask(verb, path).managed().expect(405).await;
        assert_eq!(refused.header("allow"), allowed, "{verb} {path}");
    }
    datacenter.get("/v1/acl/policy/name/%ff").managed().expect(400).await;
}

/// DNS rebinding: a page in a browser reaches loopback under its own name.
#[tokio::test(flavor = "multi_thread")]
async fn web_pages_may_not_write() {
    let datacenter = Datacenter::begin_without_tokens().await;
    let refused = datacenter.put("/v1/acl/bootstrap").header("origin", "http://page.example:8500").expect(403).await;
    assert!(!refused.text.contains("SecretID"));
    datacenter.put("/v1/acl/bootstrap").ok().await;
}

/// CVE-2020-28053, CVE-2022-38149: keys and secrets in answers and errors.
#[tokio::test(flavor = "multi_thread")]
async fn no_answer_holds_a_secret_or_a_key_except_the_one_that_made_it() {
    let datacenter = Datacenter::begin().await;
    let (secret, accessor) = datacenter.service_token("web").await;
    let leaf = datacenter.get("/v1/agent/connect/ca/leaf/web").token(&secret).ok().await;
    let key = leaf["PrivateKeyPEM"].as_str().unwrap().lines().nth(1).unwrap().to_owned();
    let digest = secret_digest(&Uuid::try_parse(&secret).unwrap()).to_string();
    let assert_clean = |what: &str, answered: &Answered| {
        for planted in [&secret, &datacenter.management, &key, &digest] {
            assert!(!answered.text.contains(planted.as_str()), "{what}: {}", answered.text);
            let headers = format!("{:?}", answered.headers);
            assert!(!headers.contains(planted.as_str()), "{what}: {headers}");
        }
        assert!(!answered.text.contains("PRIVATE KEY"), "{what}: {}", answered.text);
    };
    for route in ROUTES.iter().filter(|route| route.right != Right::ServiceWrite) {
        let path = concrete(route).replace("11111111-2222-3333-4444-555555555555", &accessor);
        if method(route) == "GET" {
            assert_clean(&path, &datacenter.get(&path).managed().send().await);
        }
        // Secrets where none belongs: in the path, in fields, in broken bodies.
        let in_path = format!("{path}/{secret}");
        assert_clean(&in_path, &datacenter.ask(method(route), &in_path).managed().send().await);
        for body in
            [json!({ "Config": secret, "Name": 1, "Csr": secret }).to_string(), format!("{{\"SecretID\":\"{secret}\"")]
        {
            let answered = datacenter.ask(method(route), &concrete(route)).managed().body(body).send().await;
            assert_clean(&path, &answered);
        }
    }
    let pasted = datacenter.get(&format!("/v1/acl/token/{secret}x")).managed().expect(400).await;
    assert_clean("a secret as accessor", &pasted);
}
