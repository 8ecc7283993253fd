//! carrack's own routes, read with the types that the command line reads them with.

use carrack_authority::key::KeyKind;
use carrack_authority::{
    spiffe::{Identity, Name, SpiffeId},
    x509::{CertificateFacts, RequestedName, build_csr, pem},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{super::Listener, datacenter::Datacenter};
use crate::{cli::api, server::join_token::JoinTokenText};

fn typed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn csr(datacenter: &Datacenter, service: &str) -> String {
    let context = datacenter.server.context();
    let name = |text| Name::parse("name", text).unwrap();
    let id = SpiffeId::service(context.identity.trust_domain.clone(), name("dc1"), name(service));
    let key = context.key_maker.make(KeyKind::EcP256).unwrap();
    let signer = context.key_maker.signer(&key).unwrap();
    let csr = build_csr(&*signer, &RequestedName::Leaf(&Identity::Spiffe(id))).unwrap();
    pem::encode(pem::CERTIFICATE_REQUEST, &csr)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_tells_what_an_operator_looks_at_first() {
    let datacenter = Datacenter::begin().await;
    let answer = datacenter.get("/v1/carrack/status").managed().ok().await;
    let status: api::Status = typed(answer.clone());
    assert_eq!((status.datacenter.as_str(), status.trust_domain.as_str()), ("dc1", "test.carrack"));
    assert_eq!((status.role.as_str(), status.leader.unwrap().node_name.as_str()), ("leader", "a"));
    assert!(status.clock_ready && !status.halted && status.problems.is_empty(), "{answer}");
    assert!(status.applied_index > 0 && status.committed_index >= status.applied_index, "{answer}");
    let ca = status.ca.unwrap();
    assert!(ca.initialized && ca.last_error.is_none());
    assert_eq!((ca.roots[0].phase.as_str(), ca.issuers[0].phase.as_str()), ("active", "live"));
    assert_eq!(Some(&ca.roots[0].id), ca.active_root_id.as_ref());
    let fields: Vec<&str> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "AppliedIndex",
        "Bundle",
        "Ca",
        "ClockReady",
        "ClusterId",
        "CommittedIndex",
        "CurrentLeaves",
        "Datacenter",
        "FeatureLevel",
        "Halted",
        "IssuanceCount",
        "IssuanceHead",
        "IssuanceLive",
        "LastLogIndex",
        "Leader",
        "LogTime",
        "Members",
        "NodeId",
        "NodeName",
        "Problems",
        "Role",
        "Secondary",
        "SnapshotIndex",
        "Term",
        "TrustDomain",
    ];
    assert_eq!(fields, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_listed_and_the_last_one_stays() {
    let datacenter = Datacenter::begin().await;
    let members: Vec<api::Member> = typed(datacenter.get("/v1/carrack/members").managed().ok().await);
    let [member] = members.as_slice() else { panic!("{members:?}") };
    assert_eq!((member.node_name.as_str(), member.role.as_str(), member.voter), ("a", "leader", true));
    assert_eq!((member.reachable, member.replication_lag), (Some(true), Some(0)));
    assert!(member.certificate_expiry.is_some());
    let refused = datacenter.delete("/v1/carrack/members/a").managed().expect(400).await;
    assert!(refused.text.contains("last server"), "{}", refused.text);
    datacenter.delete("/v1/carrack/members/1").managed().expect(400).await;
    datacenter.delete("/v1/carrack/members/99").managed().expect(404).await;
    datacenter.delete("/v1/carrack/members/absent").managed().expect(404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consul_s_clients_find_leader_peers_and_configuration() {
    let datacenter = Datacenter::begin().await;
    let leader = datacenter.get("/v1/status/leader").ok().await;
    assert_eq!(datacenter.get("/v1/status/peers").ok().await, json!([leader]));
    let configuration = datacenter.get("/v1/operator/raft/configuration").managed().ok().await;
    let server = &configuration["Servers"][0];
    assert_eq!((&server["Node"], &server["Leader"], &server["Voter"]), (&json!("a"), &json!(true), &json!(true)));
    assert_eq!((&server["Address"], &server["ID"]), (&leader, &json!("1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_token_names_one_server_and_where_to_go() {
    let datacenter = Datacenter::begin().await;
    let path = "/v1/carrack/join-token";
    let made = datacenter.put(path).managed().json(&json!({ "NodeName": "b", "TTL": "30m" })).expect(200).await;
    assert_eq!(made.header("cache-control"), "no-store");
    let made: api::JoinToken = typed(made.json());
    let token: JoinTokenText = made.token.parse().unwrap();
    assert_eq!((token.node_name.as_str(), made.node_name.as_str(), token.addresses.len()), ("b", "b", 1));
    assert_eq!(made.command, format!("carrack server --join {}", made.token));
    for body in
        [json!({}), json!({ "NodeName": "b c" }), json!({ "NodeName": "c", "TTL": "9999h" }), json!({ "Node": "c" })]
    {
        datacenter.put(path).managed().json(&body).expect(400).await;
    }
    datacenter.put(path).managed().json(&json!({ "NodeName": "a" })).expect(409).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_csr_is_signed_for_a_token_that_may_be_what_it_names() {
    let datacenter = Datacenter::begin().await;
    let (secret, accessor) = datacenter.service_token("web").await;
    let body = json!({ "Csr": csr(&datacenter, "web"), "Slot": "one", "TTL": "2h" });
    let path = "/v1/carrack/sign";
    let far_away = Some("10.0.0.7:9");
    let signed = datacenter.put(path).token(&secret).from(far_away, Listener::Https).json(&body).ok().await;
    assert!(!signed.to_string().contains("PRIVATE KEY"));
    let signed: api::Signed = typed(signed);
    assert_eq!(signed.spiffe_id, "spiffe://test.carrack/ns/default/dc/dc1/svc/web");
    let leaf = pem::decode_one(&signed.cert_pem, pem::CERTIFICATE, 16_384).unwrap();
    let leaf = CertificateFacts::read(leaf.as_bytes()).unwrap();
    assert_eq!(signed.serial_number, leaf.serial.to_string());
    assert!(leaf.not_after.since(leaf.not_before).as_secs() <= 2 * 3600 + 60);
    assert_eq!(pem::decode_certificates(&signed.chain_pem).unwrap().len(), 1);
    assert_eq!(datacenter.get("/v1/connect/ca/roots?pem=1").expect(200).await.text, signed.roots_pem);

    let other = json!({ "Csr": csr(&datacenter, "api") });
    let refused = datacenter.put(path).token(&secret).json(&other).expect(403).await;
    let sentence =
        format!("Permission denied: token with AccessorID '{accessor}' lacks permission 'service:write' on \"api\"");
    assert_eq!(refused.text, sentence);
    for body in
        [json!({}), json!({ "Csr": "no pem" }), json!({ "Csr": signed.cert_pem }), json!({ "Csr": "a", "Sans": [] })]
    {
        datacenter.put(path).token(&secret).json(&body).expect(400).await;
    }
    datacenter.put(path).json(&body).expect(403).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_issuance_log_is_read_page_by_page_and_followed() {
    let datacenter = Datacenter::begin().await;
    let (secret, accessor) = datacenter.service_token("web").await;
    let sign = || async {
        let body = json!({ "Csr": csr(&datacenter, "web") });
        datacenter.put("/v1/carrack/sign").token(&secret).json(&body).ok().await
    };
    let mut serials = Vec::new();
    for _ in 0..3 {
        serials.push(sign().await["SerialNumber"].clone());
    }
    let answered = datacenter.get("/v1/carrack/issuance?limit=2").managed().expect(200).await;
    let page: api::IssuancePage = typed(answered.json());
    assert_eq!((page.length, page.records.len()), (3, 2));
    let record = &page.records[0];
    assert_eq!((&record["Sequence"], &record["Serial"]), (&json!(1), &serials[0]));
    assert_eq!(record["Grant"], format!("token {accessor}"));
    let expected = [
        "CertificateDigest",
        "Deadline",
        "Grant",
        "Hash",
        "Holder",
        "Identity",
        "Index",
        "Issuer",
        "NotAfter",
        "NotBefore",
        "PublicKeyDigest",
        "RecordedAt",
        "Sequence",
        "Serial",
    ];
    let fields: Vec<&str> = record.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, expected);
    let typed_record: api::IssuanceRecord = typed(record.clone());
    assert_eq!(typed_record.sequence, 1);
    // A reader who is behind gets the next page at once, though nothing has changed since his index.
    let path = format!("/v1/carrack/issuance?after=2&index={}&wait=50s", answered.index());
    let page: api::IssuancePage = typed(datacenter.get(&path).managed().ok().await);
    assert_eq!((&page.records[0]["Serial"], &page.records[0]["Hash"]), (&serials[2], &json!(page.head)));

    let path = format!("/v1/carrack/issuance?after=3&index={}&wait=50s", answered.index());
    let blocked = datacenter.get(&path).managed().ok();
    let next = async {
        datacenter.until(|datacenter| datacenter.server.context().replica.status().watchers > 0).await;
        sign().await["SerialNumber"].clone()
    };
    let (page, serial) = tokio::join!(blocked, next);
    assert_eq!(page["Records"][0]["Serial"], serial);
    datacenter.get("/v1/carrack/issuance?after=x").managed().expect(400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn monitoring_needs_no_token_and_has_its_own_listener() {
    let datacenter = Datacenter::begin().await;
    let anywhere = Some("10.0.0.7:9");
    for path in ["/livez", "/readyz", "/metrics"] {
        datacenter.get(path).from(anywhere, Listener::Monitoring).expect(200).await;
        datacenter.get(path).expect(200).await;
    }
    let metrics = datacenter.get("/metrics").expect(200).await;
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    assert!(metrics.text.contains("carrack_issuances_total"), "{}", metrics.text);
    datacenter.get("/v1/connect/ca/roots").from(anywhere, Listener::Monitoring).expect(404).await;
}
