//! What may be said about the CA, what means a rotation, and what is refused.

use std::time::Duration;

use expect_test::expect;

use super::*;

fn wanted(config: &str) -> Result<CaConfig, HttpError> {
    let body = format!(r#"{{"Provider":"consul","Config":{config}}}"#);
    Wanted::read(body.as_bytes())?.applied_to(&CaConfig::default())
}

#[test]
fn the_configuration_is_shown_with_consuls_names_and_without_a_key() {
    let shown = serde_json::to_string_pretty(&shape(&StoredCaConfig::default())).unwrap();
    expect![[r#"
        {
          "Provider": "consul",
          "Config": {
            "CSRMaxConcurrent": 0,
            "CSRMaxPerSecond": 0,
            "IntermediateCertTTL": "8760h",
            "LeafCertTTL": "72h",
            "PrivateKeyBits": 256,
            "PrivateKeyType": "ec",
            "RootCertTTL": "87600h"
          },
          "State": null,
          "ForceWithoutCrossSigning": false,
          "CreateIndex": 0,
          "ModifyIndex": 0
        }"#]]
    .assert_eq(&shown);
}

#[test]
fn what_was_read_can_be_written_back() {
    let shown = serde_json::to_vec(&shape(&StoredCaConfig::default())).unwrap();
    let read = Wanted::read(&shown).unwrap().applied_to(&CaConfig::default());
    assert_eq!(read, Ok(CaConfig::default()));
}

#[test]
fn keys_are_replaced_and_absent_ones_take_their_defaults() {
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let config = wanted(r#"{"leaf_cert_ttl":"48h0m0s","CSRMaxPerSecond":"100"}"#).unwrap();
    assert_eq!((config.leaf_ttl, config.intermediate_ttl), (hours(48), hours(8760)));
    assert_eq!(config.csr_max_per_second, 100);
    assert_eq!(wanted("null"), Ok(CaConfig::default()));
    let present = CaConfig { key_kind: KeyKind::Rsa4096, ..CaConfig::default() };
    let kept = Wanted::read(br#"{"Provider":"builtin","Config":{}}"#).unwrap().applied_to(&present);
    assert_eq!(kept, Ok(present));
}

#[test]
fn what_means_a_new_root_is_refused_as_not_implemented() {
    for config in [
        r#"{"PrivateKeyType":"rsa"}"#,
        r#"{"PrivateKeyType":"ec","PrivateKeyBits":384}"#,
        r#"{"PrivateKey":"-----BEGIN EC PRIVATE KEY-----"}"#,
        r#"{"RootCert":"-----BEGIN CERTIFICATE-----"}"#,
        r#"{"RotationPeriod":"2160h"}"#,
    ] {
        let refusal = wanted(config).unwrap_err();
        assert!(matches!(&refusal, HttpError::NotImplemented(_)), "{config}: {refusal}");
        assert!(!refusal.to_string().contains("BEGIN"), "{refusal}");
    }
    let vault = Wanted::read(br#"{"Provider":"vault","Config":{"Address":"http://a"}}"#);
    assert!(matches!(vault, Err(HttpError::NotImplemented(_))));
    assert_eq!(wanted(r#"{"PrivateKey":"","RootCert":"","RotationPeriod":""}"#), Ok(CaConfig::default()));
}

#[test]
fn key_kinds_that_are_not_accepted_are_refused_with_the_list() {
    for config in
        [r#"{"PrivateKeyBits":224}"#, r#"{"PrivateKeyBits":521}"#, r#"{"PrivateKeyType":"dsa","PrivateKeyBits":1024}"#]
    {
        let refusal = wanted(config).unwrap_err().to_string();
        assert!(refusal.contains("accepted are ec 256, ec 384"), "{config}: {refusal}");
    }
}

#[test]
fn unknown_keys_and_changed_state_are_refused() {
    let refusal = wanted(r#"{"LeafTTL":"72h"}"#).unwrap_err().to_string();
    assert!(refusal.contains("unknown field `LeafTTL`; known are LeafCertTTL"), "{refusal}");
    let state = Wanted::read(br#"{"Provider":"consul","Config":{},"State":{"a":"b"}}"#).unwrap_err();
    assert!(state.to_string().starts_with("Provider State is read-only."));
    for absent in ["null", "{}"] {
        let body = format!(r#"{{"Provider":"consul","Config":{{}},"State":{absent}}}"#);
        assert!(Wanted::read(body.as_bytes()).is_ok());
    }
    assert!(matches!(Wanted::read(b"{}"), Err(HttpError::BadRequest(_))));
    assert!(matches!(Wanted::read(br#"{"Provider":"other"}"#), Err(HttpError::BadRequest(_))));
}
