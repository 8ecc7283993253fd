//! Changes of the CA configuration that mean another root.

use std::time::Duration;

use carrack_authority::{
    Command, State,
    id::Revision,
    key::KeyKind,
    plan::rotate::due,
    root::{Ca, Root},
    rotation::{ACK_TIMEOUT, RotationCause, RotationControl, RotationRequest, WantedRoot},
    time::Timestamp,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{super::rotation::is_bridged, datacenter::Datacenter};
use crate::keys::{aws_lc::AwsLcKeyMaker, secret::KeyMaker};

const PATH: &str = "/v1/connect/ca/configuration";

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_means_another_root_begins_a_rotation_and_answers_when_that_has_activated() {
    let datacenter = Datacenter::begin().await;
    let put = async |config: Value| {
        let body = json!({ "Provider": "consul", "Config": config });
        datacenter.put(PATH).managed().json(&body).expect(200).await
    };
    let active = async || {
        let roots = datacenter.get("/v1/connect/ca/roots").ok().await;
        let root = roots["Roots"].as_array().unwrap().iter().find(|root| root["Active"] == true).unwrap().clone();
        (root["ID"].clone(), root["PrivateKeyType"].clone())
    };
    let first = active().await;
    let rotated = put(json!({ "PrivateKeyType": "rsa", "PrivateKeyBits": 2048, "RotationPeriod": "2160h" })).await;
    assert!(rotated.header("x-carrack-rotation").parse::<u64>().unwrap() > 0);
    let second = active().await;
    assert!(second.0 != first.0 && second.1 == "rsa", "{second:?}");
    let shown = datacenter.get(PATH).managed().ok().await;
    assert_eq!(
        (&shown["Config"]["PrivateKeyType"], &shown["Config"]["RotationPeriod"]),
        (&json!("rsa"), &json!("2160h"))
    );
    assert_eq!(put(shown["Config"].clone()).await.header("x-carrack-rotation"), "", "as it was read");
    assert_eq!(active().await, second);

    // The operator's own key, for which a root is made.
    wait_until_over(&datacenter).await;
    let key = AwsLcKeyMaker.make(KeyKind::EcP384).unwrap();
    let own = json!({ "PrivateKey": *key.to_pem(), "RotationPeriod": "0s" });
    let rotated = put(own.clone()).await;
    let id: u64 = rotated.header("x-carrack-rotation").parse().unwrap();
    let third = active().await;
    assert!(third.0 != second.0 && third.1 == "ec", "{third:?}");
    let read = datacenter.get(PATH).managed().expect(200).await;
    assert!(!read.text.contains("PRIVATE KEY"), "{}", read.text);
    let config = &read.json()["Config"];
    assert_eq!((&config["PrivateKeyBits"], &config["RotationPeriod"]), (&json!(384), &Value::Null));
    assert_eq!(put(own).await.header("x-carrack-rotation"), "", "it is there already");
    let status = datacenter.get("/v1/carrack/ca").managed().ok().await;
    let rotation = if status["Rotation"].is_null() { &status["LastRotation"] } else { &status["Rotation"] };
    assert_eq!((&rotation["ID"], &rotation["Cause"]), (&json!(id), &json!("the CA configuration changed")));

    // What is refused changes nothing, and nothing of a key is repeated.
    wait_until_over(&datacenter).await;
    let before = datacenter.get(PATH).managed().expect(200).await;
    for (config, words) in [
        (json!({ "RootCert": "-----BEGIN CERTIFICATE-----" }), "must provide a private key"),
        (json!({ "PrivateKey": "/etc/root.key" }), "is not a key"),
        (json!({ "PrivateKey": *key.to_pem(), "RootCert": "no certificate" }), "certificate"),
        (json!({ "RotationPeriod": "1h" }), "a RotationPeriod of 3600 s"),
        (json!({ "PrivateKeyType": "rsa", "LeafCertTTL": "1m" }), "leaf cert TTL"),
    ] {
        let body = json!({ "Provider": "consul", "Config": config });
        let refused = datacenter.put(PATH).managed().json(&body).expect(400).await;
        assert!(refused.text.contains(words) && !refused.text.contains("root.key"), "{}", refused.text);
    }
    let after = datacenter.get(PATH).managed().expect(200).await;
    assert_eq!((before.index(), before.text), (after.index(), after.text));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_wanted_by_its_name_and_one_that_signs_no_bridge_is_left_only_when_that_is_said() {
    let datacenter = Datacenter::begin().await;
    let before = state(&datacenter).index();
    let body = json!({ "Provider": "vault" });
    let refused = datacenter.put("/v1/carrack/ca/rotation").managed().json(&body).expect(400).await;
    assert!(
        refused.text.contains("Provider: this server has no CA provider `vault`, it has `builtin`"),
        "{}",
        refused.text
    );
    assert_eq!(state(&datacenter).rotation(), None, "since {before}");

    let mut root = Root::clone(state(&datacenter).roots(Ca::Mesh).active().unwrap());
    let (providers, now) = (&datacenter.server.context().providers, root.made.not_before);
    let bridged = |root: &Root, now, may_be_without| is_bridged(root, providers, now, may_be_without, "FLAG");
    assert_eq!(bridged(&root, now, false), Ok(true));
    root.made.provider = "elsewhere".into();
    let refused = bridged(&root, now, false).unwrap_err().to_string();
    assert!(refused.contains("the CA provider `elsewhere`") && refused.contains("FLAG goes on"), "{refused}");
    assert_eq!(bridged(&root, now, true), Ok(false));
    assert_eq!(bridged(&root, root.made.not_after, false), Ok(false), "nothing leads from a root that has ended");
}

async fn wait_until_over(datacenter: &Datacenter) {
    datacenter.until(|datacenter| datacenter.server.context().replica.state().state.rotation().is_none()).await;
}

fn state(datacenter: &Datacenter) -> State {
    datacenter.server.context().replica.state().state.clone()
}

async fn propose(datacenter: &Datacenter, command: Command) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(10);
    let proposed = datacenter.server.context().replica.propose(command, deadline).await.unwrap();
    proposed.outcome.accepted().unwrap();
    proposed.index
}

/// A rotation as a change of the configuration begins it, that stands still before it activates.
async fn begin_paused(datacenter: &Datacenter, key_kind: KeyKind) -> Revision {
    let active = state(datacenter).roots(Ca::Mesh).active().unwrap().made.clone();
    let request = RotationRequest {
        cause: RotationCause::Configuration,
        expected_active: active.id,
        wanted: WantedRoot::Made { provider: active.provider, key_kind },
        is_bridged: true,
        pauses_before_activation: true,
        ack_timeout: ACK_TIMEOUT,
    };
    Revision(propose(datacenter, Command::StartRotation(Box::new(request))).await)
}

/// For so long a request that waits is seen to.
const STILL: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread")]
async fn the_same_change_once_more_waits_for_its_rotation_and_hears_how_that_ends() {
    let datacenter = Datacenter::begin().await;
    for (kind, bits, goes_on) in [(KeyKind::EcP384, 384, true), (KeyKind::EcP256, 256, false)] {
        wait_until_over(&datacenter).await;
        let rotation = begin_paused(&datacenter, kind).await;
        let body = json!({ "Provider": "consul", "Config": { "PrivateKeyType": "ec", "PrivateKeyBits": bits } });
        let again = datacenter.put(PATH).managed().json(&body);
        let status = if goes_on { 200 } else { 409 };
        let mut again = Box::pin(again.expect(status));
        assert!(timeout(STILL, &mut again).await.is_err(), "it waits");
        let control = RotationControl::Resume;
        let command = match goes_on {
            true => Command::ControlRotation { rotation, control },
            false => Command::RollBack { rotation },
        };
        propose(&datacenter, command).await;
        let answered = again.await;
        if goes_on {
            assert_eq!(answered.header("x-carrack-rotation"), rotation.0.to_string());
        } else {
            // The one before stays the last one that can be taken back; this one has ended all the same.
            assert!(answered.text.contains("was taken back before it activated its root"), "{}", answered.text);
            let shown = datacenter.get(PATH).managed().ok().await;
            assert_eq!(shown["Config"]["PrivateKeyBits"], 384, "the former one's again");
        }
    }
}

/// A CA of a company, and one for the mesh that it has signed directly: as PEM, the key and the certificates.
fn company() -> (String, String) {
    let params = |common_name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.key_identifier_method = KeyIdMethod::PreSpecified(common_name.bytes().cycle().take(20).collect());
        let now = carrack_raft::ports::WallClock::now(&crate::server::ports::MachineClock);
        params.not_before = now.minus(Duration::from_secs(86_400)).to_date_time().unwrap();
        params.not_after = now.plus(Duration::from_secs(3000 * 86_400)).to_date_time().unwrap();
        params.use_authority_key_identifier_extension = true;
        params
    };
    let (top, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let (top_params, mesh) = (params("Example Root"), params("Example Mesh CA"));
    let root = top_params.self_signed(&top).unwrap().pem();
    let mesh = mesh.signed_by(&key, &Issuer::from_params(&top_params, &top)).unwrap().pem();
    (key.serialize_pem(), format!("{mesh}{root}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_a_company_has_signed_is_not_rotated_away_from_by_itself() {
    let datacenter = Datacenter::begin().await;
    let put = async |config: &Value, status| {
        let body = json!({ "Provider": "consul", "Config": config });
        datacenter.put(PATH).managed().json(&body).expect(status).await
    };
    let late = |state: &State| -> Timestamp { state.now().plus(Duration::from_secs(2000 * 86_400)) };
    put(&json!({ "RotationPeriod": "2160h" }), 200).await;
    let before = state(&datacenter);
    assert_eq!(due(&before, late(&before)).map(|it| it.cause), Some(RotationCause::Schedule), "the provider's own");
    let (key, certificates) = company();
    let own = json!({ "PrivateKey": key, "RootCert": certificates });
    assert_ne!(put(&own, 200).await.header("x-carrack-rotation"), "");
    wait_until_over(&datacenter).await;
    let after = state(&datacenter);
    assert!(
        after.roots(Ca::Mesh).active().unwrap().made.chain.is_empty(),
        "nothing but the company's root is above it"
    );
    assert_eq!((after.rotation_period(), due(&after, late(&after))), (before.rotation_period(), None));

    assert_eq!(put(&own, 200).await.header("x-carrack-rotation"), "", "it is there");
    // A leaf under it lives on, and so it stays in the bundle when it is left.
    datacenter.get("/v1/agent/connect/ca/leaf/web").managed().expect(200).await;
    put(&json!({ "PrivateKeyType": "rsa", "PrivateKeyBits": 2048 }), 200).await;
    wait_until_over(&datacenter).await;
    let refused = put(&own, 409).await;
    assert!(refused.text.contains("it is a root that was left, and drains"), "{}", refused.text);
}
