//! Leaves for the workloads of this machine.

use std::time::Duration;

use carrack_authority::{
    id::Serial,
    x509::{CertificateFacts, pem},
};
use serde_json::{Value, json};

use super::{super::Listener, datacenter::Datacenter};

const PATH: &str = "/v1/agent/connect/ca/leaf/web";

fn facts(leaf: &Value) -> Vec<CertificateFacts> {
    let certificates = pem::decode_certificates(leaf["CertPEM"].as_str().unwrap()).unwrap();
    certificates.iter().map(|certificate| CertificateFacts::read(certificate.as_bytes()).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_comes_with_its_key_and_chain_and_then_from_the_cache() {
    let datacenter = Datacenter::begin().await;
    let (secret, _) = datacenter.service_token("web").await;
    let first = datacenter.get(PATH).token(&secret).expect(200).await;
    assert_eq!((first.header("x-cache"), first.header("cache-control")), ("MISS", "no-store"));
    let leaf = first.json();
    let uri = "spiffe://test.carrack/ns/default/dc/dc1/svc/web";
    assert_eq!((&leaf["Service"], &leaf["ServiceURI"]), (&json!("web"), &json!(uri)));
    assert_eq!(leaf["ModifyIndex"], json!(first.index()));
    let chain = facts(&leaf);
    assert_eq!((chain.len(), &chain[0].uris[..]), (2, &[uri.to_owned()][..]));
    assert_eq!(leaf["SerialNumber"], chain[0].serial.to_string());
    let key = datacenter.server.context().key_maker.import(leaf["PrivateKeyPEM"].as_str().unwrap()).unwrap();
    let signer = datacenter.server.context().key_maker.signer(&key).unwrap();
    assert_eq!(signer.public_key(), &chain[0].public_key);

    let again = datacenter.get(PATH).token(&secret).expect(200).await;
    assert_eq!((again.header("x-cache"), again.json()), ("HIT", leaf.clone()));
    assert!(!again.header("age").is_empty());
    let record = datacenter.server.context().replica.state();
    let serial: Serial = leaf["SerialNumber"].as_str().unwrap().parse().unwrap();
    let record = record.state.issuances().find(&serial).unwrap();
    assert_eq!(record.index, first.index());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_token_has_its_own_leaf_and_none_supersedes_another_s() {
    let datacenter = Datacenter::begin().await;
    let ((one, _), (two, _)) = (datacenter.service_token("web").await, datacenter.service_token("web").await);
    let first = datacenter.get(PATH).token(&one).ok().await;
    let second = datacenter.get(PATH).token(&two).ok().await;
    assert_ne!(first["SerialNumber"], second["SerialNumber"]);
    assert_ne!(first["PrivateKeyPEM"], second["PrivateKeyPEM"]);
    assert_eq!(datacenter.server.context().replica.state().state.issuances().current(), 2);
    assert_eq!(datacenter.get(PATH).token(&one).ok().await, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_given_to_this_machine_alone_whichever_port_is_asked() {
    let datacenter = Datacenter::begin().await;
    let (secret, _) = datacenter.service_token("web").await;
    for (peer, listener, status) in [
        (Some("127.0.0.1:9"), Listener::Https, 200),
        (Some("[::1]:9"), Listener::Https, 200),
        (Some("[::ffff:127.0.0.1]:9"), Listener::Https, 200),
        (Some("10.0.0.7:9"), Listener::Https, 403),
        (Some("[::ffff:10.0.0.7]:9"), Listener::Https, 403),
        (Some("10.0.0.7:9"), Listener::LoopbackHttp, 403),
        (None, Listener::Https, 403),
        (None, Listener::LoopbackHttp, 403),
    ] {
        let answered = datacenter.get(PATH).token(&secret).from(peer, listener).expect(status).await;
        assert_eq!(answered.text.contains("PRIVATE KEY"), status == 200, "{peer:?}");
    }
    datacenter.get("/v1/connect/ca/roots").from(Some("10.0.0.7:9"), Listener::Https).ok().await;
    datacenter.get("/v1/connect/ca/roots").from(Some("10.0.0.7:9"), Listener::LoopbackHttp).expect(403).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_needs_a_token_that_may_be_the_service() {
    let datacenter = Datacenter::begin().await;
    let (secret, accessor) = datacenter.service_token("api").await;
    let refused = datacenter.get(PATH).token(&secret).expect(403).await;
    let sentence =
        format!("Permission denied: token with AccessorID '{accessor}' lacks permission 'service:write' on \"web\"");
    assert_eq!(refused.text, sentence);
    let anonymous = datacenter.get(PATH).expect(403).await;
    assert_eq!(anonymous.text, "Permission denied: anonymous token lacks permission 'service:write' on \"web\"");
    for name in ["we%20b", "..%2Fweb", "web%00", "w%C3%A9b", "web%27", &"a".repeat(129)] {
        datacenter.get(&format!("/v1/agent/connect/ca/leaf/{name}")).managed().expect(400).await;
    }
    assert_eq!(datacenter.server.context().replica.state().state.issuances().length(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_token_gets_nothing_more_not_even_from_the_cache() {
    let datacenter = Datacenter::begin().await;
    let (secret, accessor) = datacenter.service_token("web").await;
    let first = datacenter.get(PATH).token(&secret).expect(200).await;
    let path = format!("{PATH}?index={}&wait=50s", first.index());
    let blocked = datacenter.get(&path).token(&secret).expect(403);
    let delete = async {
        datacenter.until(|datacenter| datacenter.server.context().replica.status().watchers > 0).await;
        datacenter.delete(&format!("/v1/acl/token/{accessor}")).managed().ok().await;
    };
    let (answered, ()) =
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(blocked, delete) }).await.unwrap();
    assert_eq!(answered.text, "ACL not found");
    datacenter.get(PATH).token(&secret).expect(403).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_stops_new_leaves_and_says_so() {
    let datacenter = Datacenter::begin().await;
    let (secret, _) = datacenter.service_token("web").await;
    datacenter.put("/v1/carrack/halt").managed().json(&json!({ "Halted": true })).ok().await;
    let refused = datacenter.get(PATH).token(&secret).expect(503).await;
    assert_eq!(refused.header("x-carrack-error-code"), "halted");
    let ready = datacenter.get("/readyz").expect(503).await;
    assert!(ready.text.contains("issuing is halted"), "{}", ready.text);
    datacenter.put("/v1/carrack/halt").managed().json(&json!({ "Halted": false })).ok().await;
    datacenter.get(PATH).token(&secret).ok().await;
    assert_eq!(datacenter.get("/readyz").expect(200).await.text, "ok\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_learn_the_datacenter_from_the_agent() {
    let datacenter = Datacenter::begin().await;
    let about = datacenter.get("/v1/agent/self").managed().ok().await;
    assert_eq!((&about["Config"]["Datacenter"], &about["Config"]["NodeName"]), (&json!("dc1"), &json!("a")));
    datacenter.get("/v1/agent/self").expect(403).await;
}
