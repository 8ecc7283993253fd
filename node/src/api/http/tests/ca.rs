//! The bundle and the CA configuration.

use std::time::Duration;

use carrack_authority::x509::{CertificateFacts, pem};
use serde_json::json;
use tokio::time::Instant;

use super::datacenter::Datacenter;

#[tokio::test(flavor = "multi_thread")]
async fn roots_are_public_and_have_consuls_form() {
    let datacenter = Datacenter::begin().await;
    let answered = datacenter.get("/v1/connect/ca/roots").expect(200).await;
    assert_eq!(answered.header("x-consul-knownleader"), "true");
    assert_eq!(answered.header("x-consul-effective-consistency"), "leader");
    assert_eq!(answered.header("x-consul-default-acl-policy"), "deny");
    assert!(answered.index() > 1);
    let roots = answered.json();
    assert_eq!(roots["TrustDomain"], "test.carrack");
    let root = &roots["Roots"][0];
    assert_eq!(root["ID"], roots["ActiveRootID"]);
    assert_eq!(
        (&root["Active"], &root["PrivateKeyType"], &root["PrivateKeyBits"]),
        (&json!(true), &json!("ec"), &json!(256))
    );
    assert_eq!(root["IntermediateCerts"], json!(null));
    let certificate = pem::decode_one(root["RootCert"].as_str().unwrap(), pem::CERTIFICATE, 16_384).unwrap();
    let facts = CertificateFacts::read(certificate.as_bytes()).unwrap();
    assert_eq!(root["SerialNumber"], json!(facts.serial.low_64_bits()));
    let fields: Vec<&str> = root.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "Active",
        "CreateIndex",
        "ExternalTrustDomain",
        "ID",
        "IntermediateCerts",
        "ModifyIndex",
        "Name",
        "NotAfter",
        "NotBefore",
        "PrivateKeyBits",
        "PrivateKeyType",
        "RootCert",
        "SerialNumber",
        "SigningKeyID",
    ];
    assert_eq!(fields, expected);

    let pem_answer = datacenter.get("/v1/connect/ca/roots?pem=true").expect(200).await;
    assert_eq!(pem_answer.header("content-type"), "application/pem-certificate-chain");
    assert_eq!(pem_answer.text, root["RootCert"].as_str().unwrap());
    assert!(pem_answer.text.ends_with("-----\n"));
    let of_agent = datacenter.get("/v1/agent/connect/ca/roots").expect(200).await;
    assert_eq!((of_agent.json(), of_agent.header("x-cache")), (roots, "HIT"));
    let pretty = datacenter.get("/v1/connect/ca/roots?pretty").expect(200).await;
    assert!(pretty.text.starts_with("{\n    \"ActiveRootID\""), "{}", pretty.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn consistency_modes_are_told_and_conflicts_refused() {
    let datacenter = Datacenter::begin().await;
    for (query, told) in
        [("stale", "stale"), ("consistent", "consistent"), ("max_stale=10s", "stale"), ("leader", "leader")]
    {
        let answered = datacenter.get(&format!("/v1/connect/ca/roots?{query}")).expect(200).await;
        assert_eq!(answered.header("x-consul-effective-consistency"), told, "{query}");
        assert_eq!(answered.header("x-consul-knownleader"), "true", "{query}");
    }
    let refused = datacenter.get("/v1/connect/ca/roots?stale&consistent").expect(400).await;
    assert_eq!(refused.text, "Cannot specify ?stale with ?consistent, conflicting semantics.");
    assert_eq!(refused.header("x-carrack-error-code"), "bad_request");
    let elsewhere = datacenter.get("/v1/connect/ca/roots?dc=other").expect(500).await;
    assert_eq!(elsewhere.text, "No path to datacenter `other`; known are dc1");
    let about_one_machine = datacenter.get("/v1/agent/connect/ca/roots?dc=other").expect(400).await;
    assert!(about_one_machine.text.contains("`other`"), "{}", about_one_machine.text);
    datacenter.get("/v1/connect/ca/roots?index=x").expect(400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_read_changed_and_its_bounds_hold() {
    let datacenter = Datacenter::begin().await;
    let path = "/v1/connect/ca/configuration";
    let before = datacenter.get(path).managed().expect(200).await;
    assert!(!before.text.contains("PrivateKey\""), "{}", before.text);
    let mut configuration = before.json();
    configuration["Config"]["LeafCertTTL"] = json!("48h");
    let changed = datacenter.put(path).managed().json(&configuration).expect(200).await;
    assert_eq!(changed.text, "");
    let after = datacenter.get(path).managed().expect(200).await;
    assert_eq!(after.json()["Config"]["LeafCertTTL"], "48h");
    assert!(after.index() > before.index());
    configuration["Config"]["LeafCertTTL"] = json!("5m");
    let refused = datacenter.put(path).managed().json(&configuration).expect(400).await;
    assert!(refused.text.starts_with("leaf cert TTL must be greater or equal than 1h0m0s"), "{}", refused.text);
    configuration["Config"] = json!({ "LeafCertTTTL": "48h" });
    let refused = datacenter.put(path).managed().json(&configuration).expect(400).await;
    assert_eq!(refused.header("x-carrack-error-code"), "unknown_field");
    assert_eq!(datacenter.get(path).managed().ok().await["Config"]["LeafCertTTL"], "48h");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_modify_index_the_configuration_is_replaced_only_as_it_was_read() {
    let datacenter = Datacenter::begin().await;
    let path = "/v1/connect/ca/configuration";
    let mut configuration = datacenter.get(path).managed().ok().await;
    configuration["Config"]["LeafCertTTL"] = json!("48h");
    datacenter.put(path).managed().json(&configuration).expect(200).await;
    configuration["Config"]["LeafCertTTL"] = json!("24h");
    let refused = datacenter.put(path).managed().json(&configuration).expect(409).await;
    assert!(refused.text.starts_with("CA configuration has changed: revision"), "{}", refused.text);
    assert_eq!(datacenter.get(path).managed().ok().await["Config"]["LeafCertTTL"], "48h");
    configuration["ModifyIndex"] = datacenter.get(path).managed().ok().await["ModifyIndex"].clone();
    datacenter.put(path).managed().json(&configuration).expect(200).await;
    configuration["Config"]["LeafCertTTL"] = json!("36h");
    configuration["ModifyIndex"] = json!(0);
    datacenter.put(path).managed().json(&configuration).expect(200).await;
    configuration["ModifyIndex"] = json!("soon");
    let refused = datacenter.put(path).managed().json(&configuration).expect(400).await;
    assert!(refused.text.contains("`ModifyIndex`"), "{}", refused.text);
    assert_eq!(datacenter.get(path).managed().ok().await["Config"]["LeafCertTTL"], "36h");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocking_query_answers_when_its_table_changes_and_not_before() {
    let datacenter = Datacenter::begin().await;
    let index = datacenter.get("/v1/acl/policies").managed().expect(200).await.index();
    let begin = Instant::now();
    let waited = datacenter.get(&format!("/v1/acl/policies?index={index}&wait=200ms")).managed().expect(200).await;
    assert_eq!(waited.index(), index);
    assert!(begin.elapsed() >= Duration::from_millis(200));
    let path = format!("/v1/acl/policies?index={index}&wait=60s");
    let blocked = datacenter.get(&path).managed().expect(200);
    let change = async {
        datacenter.until(|datacenter| datacenter.server.context().replica.status().watchers > 0).await;
        // A change of another table wakes nobody.
        datacenter.put("/v1/carrack/halt").managed().json(&json!({ "Halted": true })).ok().await;
        let policy = json!({ "Name": "new", "Rules": "operator = \"read\"" });
        datacenter.put("/v1/acl/policy").managed().json(&policy).ok().await;
    };
    let (answered, ()) = tokio::join!(blocked, change);
    assert!(answered.index() > index);
    assert!(answered.text.contains("\"new\""));
}
