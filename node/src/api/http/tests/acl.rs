//! Tokens and policies as Consul's clients write and read them.

use std::time::Duration;

use serde_json::{Value, json};

use super::datacenter::Datacenter;

const SECRET: &str = "6f1f9f34-8a52-4c0b-9c5e-2f6a3c1d7e90";
const ABSENT: &str = "11111111-2222-3333-4444-555555555555";

#[tokio::test(flavor = "multi_thread")]
async fn the_first_token_is_made_once_with_the_secret_that_was_asked_for() {
    let datacenter = Datacenter::begin_without_tokens().await;
    let path = "/v1/acl/bootstrap";
    let short = datacenter.put(path).json(&json!({ "BootstrapSecret": "password" })).expect(400).await;
    assert!(!short.text.contains("password"), "{}", short.text);
    let made = datacenter.put(path).json(&json!({ "BootstrapSecret": SECRET })).expect(200).await;
    assert_eq!(made.header("cache-control"), "no-store");
    let made = made.json();
    assert_eq!(
        (&made["SecretID"], &made["Description"]),
        (&json!(SECRET), &json!("Bootstrap Token (Global Management)"))
    );
    assert_eq!(made["Policies"][0]["Name"], "global-management");
    let again = datacenter.put(path).expect(403).await;
    let text = format!("Permission denied: ACL bootstrap no longer allowed (reset index: {})", made["CreateIndex"]);
    assert_eq!((again.text.as_str(), again.header("x-carrack-error-code")), (text.as_str(), "acl_bootstrapped"));
    let own = datacenter.get("/v1/acl/token/self").token(SECRET).ok().await;
    assert_eq!((&own["AccessorID"], own.get("SecretID")), (&made["AccessorID"], None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_made_read_changed_cloned_and_deleted() {
    let datacenter = Datacenter::begin().await;
    let body = json!({
        "AccessorID": ABSENT, "SecretID": SECRET, "Description": "for web", "Local": true, "ExpirationTTL": "2h",
        "ServiceIdentities": [{ "ServiceName": "web", "Datacenters": ["dc1"] }],
        "Policies": [{ "Name": "global-management" }], "Roles": [], "CreateTime": "0001-01-01T00:00:00Z", "Hash": null,
    });
    let made = datacenter.put("/v1/acl/token").managed().json(&body).ok().await;
    assert_eq!(
        (&made["AccessorID"], &made["SecretID"], &made["Local"]),
        (&json!(ABSENT), &json!(SECRET), &json!(true))
    );
    let path = format!("/v1/acl/token/{ABSENT}");
    let read = datacenter.get(&path).managed().expect(200).await;
    assert!(!read.text.contains(SECRET), "{}", read.text);
    let read = read.json();
    assert_eq!((&read["Hash"], &read["ExpirationTime"]), (&made["Hash"], &made["ExpirationTime"]));
    assert_eq!(read["ServiceIdentities"], json!([{ "ServiceName": "web", "Datacenters": ["dc1"] }]));

    let mut change = read.clone();
    change["Description"] = json!("changed");
    change["Policies"] = json!([]);
    let changed = datacenter.put(&path).managed().json(&change).ok().await;
    assert_eq!(
        (&changed["Description"], changed.get("Policies"), changed.get("SecretID")),
        (&json!("changed"), None, None)
    );
    for (field, value) in [
        ("Local", json!(false)),
        ("SecretID", json!(ABSENT)),
        ("ExpirationTTL", json!("9h")),
        ("AccessorID", json!(SECRET)),
    ] {
        let mut other = change.clone();
        other[field] = value;
        other.as_object_mut().unwrap().retain(|name, _| field != "ExpirationTTL" || name != "ExpirationTime");
        datacenter.put(&path).managed().json(&other).expect(400).await;
    }

    let clone = datacenter.put(&format!("{path}/clone")).managed().json(&json!({ "Description": "two" })).ok().await;
    assert_eq!((&clone["Description"], &clone["ExpirationTime"]), (&json!("two"), &read["ExpirationTime"]));
    assert_ne!((&clone["AccessorID"], &clone["SecretID"]), (&made["AccessorID"], &made["SecretID"]));
    datacenter.get("/v1/acl/token/self").token(clone["SecretID"].as_str().unwrap()).ok().await;

    assert_eq!(datacenter.delete(&path).managed().ok().await, json!(true));
    assert_eq!(datacenter.delete(&path).managed().ok().await, json!(true));
    let gone = datacenter.get(&path).managed().expect(404).await;
    assert!(gone.text.starts_with("ACL not found"), "{}", gone.text);
    assert_eq!(datacenter.get("/v1/acl/token/self").token(SECRET).expect(403).await.text, "ACL not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_listed_and_found_by_policy_and_service() {
    let datacenter = Datacenter::begin().await;
    let (_, accessor) = datacenter.service_token("web").await;
    let all = datacenter.get("/v1/acl/tokens").managed().expect(200).await;
    assert_eq!(all.header("x-consul-results-filtered-by-acls"), "false");
    assert_eq!(all.json().as_array().unwrap().len(), 3, "anonymous, bootstrap, web");
    let accessors = |list: Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|token| token["AccessorID"].as_str().unwrap().to_owned()).collect()
    };
    let of_service = datacenter.get("/v1/acl/tokens?servicename=web").managed().ok().await;
    assert_eq!(accessors(of_service), [accessor]);
    let of_policy = datacenter.get("/v1/acl/tokens?policy=00000000-0000-0000-0000-000000000001").managed().ok().await;
    assert_eq!(accessors(of_policy).len(), 1);
    datacenter.get("/v1/acl/tokens?role=a").managed().expect(501).await;
    let anonymous = datacenter.get("/v1/acl/token/00000000-0000-0000-0000-000000000002").managed().ok().await;
    assert_eq!(anonymous["Description"], "Anonymous Token");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_token_is_refused_with_its_reason() {
    let datacenter = Datacenter::begin().await;
    for (body, status, text) in [
        (json!({ "SecretID": "secret" }), 400, "Invalid Token: SecretID is not a UUID"),
        (json!({ "SecretID": "<hidden>" }), 400, "Invalid Token: SecretID is not a UUID"),
        (json!({ "AccessorID": "00000000-0000-0000-0000-000000000009" }), 400, "Invalid Token: UUIDs with the prefix"),
        (json!({ "Policies": [{ "Name": "absent" }] }), 400, "No such ACL policy with name"),
        (json!({ "Policies": [{ "ID": ABSENT }] }), 400, "No such ACL policy with ID"),
        (json!({ "ServiceIdentities": [{ "ServiceName": "we b" }] }), 400, "service"),
        (json!({ "ServiceIdentities": [{ "ServiceName": "../web" }] }), 400, "service"),
        (json!({ "ServiceIdentities": [{}] }), 400, "Service identity is missing the service name"),
        (json!({ "ExpirationTTL": "10s" }), 400, "expiration time cannot be less than 1m0s in the future"),
        (json!({ "ExpirationTTL": "1h", "ExpirationTime": "2100-01-01T00:00:00Z" }), 400, "Expiration TTL and"),
        (json!({ "ExpirationTime": "2001-01-01T00:00:00Z" }), 400, "expiration time cannot be less"),
        (json!({ "ExpirationTime": "tomorrow" }), 400, "ExpirationTime is not a time"),
        (json!({ "Roles": [{ "Name": "a" }] }), 501, "the token has `Roles`"),
        (
            json!({ "NodeIdentities": [{ "NodeName": "a", "Datacenter": "dc1" }] }),
            501,
            "the token has `NodeIdentities`",
        ),
        (json!({ "Namespace": "team" }), 501, "the token has `Namespace`"),
        (json!({ "Polices": [] }), 400, "Request decode failed: the token has the unknown field `Polices`"),
        (json!({ "Description": "a".repeat(513) }), 400, "token description"),
        (json!([]), 400, "Request decode failed: the token must be an object"),
    ] {
        let refused = datacenter.put("/v1/acl/token").managed().json(&body).expect(status).await;
        assert!(refused.text.starts_with(text), "{body}: {}", refused.text);
        assert_eq!(refused.header("content-type"), "text/plain; charset=utf-8");
    }
    datacenter.put("/v1/acl/token").managed().body("{\"Description\":").expect(400).await;
    let count = datacenter.get("/v1/acl/tokens").managed().ok().await.as_array().unwrap().len();
    assert_eq!(count, 2, "anonymous and bootstrap: nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tokens_never_share_an_accessor_or_a_secret() {
    let datacenter = Datacenter::begin().await;
    let body = json!({ "AccessorID": ABSENT, "SecretID": SECRET });
    datacenter.put("/v1/acl/token").managed().json(&body).ok().await;
    let other_secret = json!({ "AccessorID": ABSENT, "SecretID": "6f1f9f34-8a52-4c0b-9c5e-2f6a3c1d7e91" });
    let same = datacenter.put("/v1/acl/token").managed().json(&other_secret).expect(400).await;
    assert_eq!(same.text, "Invalid Token: AccessorID is already in use");
    let same = datacenter.put("/v1/acl/token").managed().json(&json!({ "SecretID": SECRET })).expect(400).await;
    assert_eq!(same.text, "Invalid Token: SecretID is already in use");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_not_delete_its_own_token_nor_the_built_in_ones() {
    let datacenter = Datacenter::begin().await;
    let own = datacenter.get("/v1/acl/token/self").managed().ok().await;
    let path = format!("/v1/acl/token/{}", own["AccessorID"].as_str().unwrap());
    datacenter.delete(&path).managed().expect(400).await;
    for reserved in [1, 2, 9] {
        let path = format!("/v1/acl/token/00000000-0000-0000-0000-00000000000{reserved}");
        datacenter.delete(&path).managed().expect(400).await;
    }
    let management = "/v1/acl/policy/00000000-0000-0000-0000-000000000001";
    datacenter.delete(management).managed().expect(400).await;
    let change = json!({ "Name": "global-management", "Rules": "" });
    datacenter.put(management).managed().json(&change).expect(400).await;
    assert_eq!(datacenter.get(management).managed().ok().await["Name"], "global-management");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_made_read_changed_and_deleted() {
    let datacenter = Datacenter::begin().await;
    let rules = "service \"web\" { policy = \"write\" }";
    // Consul's clients do not agree on the case of fields.
    let body = json!({ "name": "web", "Description": "one", "rules": rules, "Datacenters": ["dc1"] });
    let made = datacenter.put("/v1/acl/policy").managed().json(&body).ok().await;
    let path = format!("/v1/acl/policy/{}", made["ID"].as_str().unwrap());
    let read = datacenter.get(&path).managed().ok().await;
    assert_eq!(read, made);
    assert_eq!((&read["Rules"], &read["Datacenters"]), (&json!(rules), &json!(["dc1"])));
    assert_eq!(datacenter.get("/v1/acl/policy/name/web").managed().ok().await, made);
    let list = datacenter.get("/v1/acl/policies").managed().ok().await;
    assert_eq!((list[0]["Name"].as_str(), list[1].get("Rules")), (Some("global-management"), None));

    let same = datacenter.put("/v1/acl/policy").managed().json(&body).expect(400).await;
    assert_eq!(same.text, "Invalid Policy: A Policy with Name \"web\" already exists");
    let changed = json!({ "ID": made["ID"], "Name": "web2", "Rules": "", "Hash": made["Hash"] });
    let changed = datacenter.put(&path).managed().json(&changed).ok().await;
    assert_eq!((&changed["Name"], &changed["CreateIndex"]), (&json!("web2"), &made["CreateIndex"]));
    assert_ne!((&changed["Hash"], &changed["ModifyIndex"]), (&made["Hash"], &made["ModifyIndex"]));
    assert_eq!(datacenter.delete(&path).managed().ok().await, json!(true));
    datacenter.get(&path).managed().expect(404).await;
    datacenter.get("/v1/acl/policy/name/web2").managed().expect(404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_policy_is_refused_with_its_reason() {
    let datacenter = Datacenter::begin().await;
    for (body, text) in [
        (json!({ "Rules": "" }), "Invalid Policy: no Name is set"),
        (json!({ "Name": "a b" }), "Invalid Policy: invalid Policy name."),
        (json!({ "Name": "a", "Rules": "service \"web\" {" }), "Invalid Policy: "),
        (json!({ "Name": "a", "Rules": "service \"web\" { policy = \"all\" }" }), "Invalid Policy: "),
        (json!({ "ID": ABSENT, "Name": "a" }), "Cannot specify the ID when creating a new policy"),
        (json!({ "Name": "a", "Datacenters": ["d c"] }), "datacenter"),
    ] {
        let refused = datacenter.put("/v1/acl/policy").managed().json(&body).expect(400).await;
        assert!(refused.text.starts_with(text), "{body}: {}", refused.text);
    }
    datacenter.get("/v1/acl/policy/not-a-uuid").managed().expect(400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_come_from_policies_and_end_with_them() {
    let datacenter = Datacenter::begin().await;
    let secret = datacenter.token_with_rules("reader", "acl = \"read\"").await;
    datacenter.get("/v1/acl/policies").token(&secret).ok().await;
    let refused = datacenter.put("/v1/acl/token").token(&secret).json(&json!({})).expect(403).await;
    let accessor = datacenter.get("/v1/acl/token/self").token(&secret).ok().await["AccessorID"].clone();
    let sentence = format!(
        "Permission denied: token with AccessorID '{}' lacks permission 'acl:write'",
        accessor.as_str().unwrap()
    );
    assert_eq!(refused.text, sentence);
    let policy = datacenter.get("/v1/acl/policy/name/reader").managed().ok().await;
    datacenter.delete(&format!("/v1/acl/policy/{}", policy["ID"].as_str().unwrap())).managed().ok().await;
    datacenter.get("/v1/acl/policies").token(&secret).expect(403).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_query_ends_when_its_token_is_deleted() {
    let datacenter = Datacenter::begin().await;
    let secret = datacenter.token_with_rules("reader", "acl = \"read\"").await;
    let accessor = datacenter.get("/v1/acl/token/self").token(&secret).ok().await["AccessorID"].clone();
    let index = datacenter.get("/v1/acl/policies").token(&secret).expect(200).await.index();
    let path = format!("/v1/acl/policies?index={index}&wait=50s");
    let blocked = datacenter.get(&path).token(&secret).expect(403);
    let delete = async {
        datacenter.until(|datacenter| datacenter.server.context().replica.status().watchers > 0).await;
        datacenter.delete(&format!("/v1/acl/token/{}", accessor.as_str().unwrap())).managed().ok().await;
    };
    let (answered, ()) =
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(blocked, delete) }).await.unwrap();
    assert_eq!(answered.text, "ACL not found");
}
