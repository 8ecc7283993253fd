//! What may be said about the CA, what means a rotation, and what is refused.

use std::time::Duration;

use expect_test::expect;

use carrack_authority::ca_config::CaConfig;

use super::*;

fn wanted(config: &str) -> Result<CaConfig, HttpError> {
    let body = format!(r#"{{"Provider":"consul","Config":{config}}}"#);
    applied_to(&Wanted::read(body.as_bytes())?, &CaConfig::default())
}

fn applied_to(wanted: &Wanted, present: &CaConfig) -> Result<CaConfig, HttpError> {
    Ok(wanted.config_with(wanted.key(present.key_kind)?.kind()))
}

#[test]
fn the_configuration_is_shown_with_consuls_names_and_without_a_key() {
    let shown = serde_json::to_string_pretty(&shape(&StoredCaConfig::default(), None)).unwrap();
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
    let shown = serde_json::to_vec(&shape(&StoredCaConfig::default(), None)).unwrap();
    let read = applied_to(&Wanted::read(&shown).unwrap(), &CaConfig::default());
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
    let kept = applied_to(&Wanted::read(br#"{"Provider":"builtin","Config":{}}"#).unwrap(), &present);
    assert_eq!(kept, Ok(present));
}

#[test]
fn another_kind_of_key_is_another_root_and_what_was_read_is_none() {
    let key = |config: &str| {
        let body = format!(r#"{{"Provider":"consul","Config":{config}}}"#);
        Wanted::read(body.as_bytes()).unwrap().key(KeyKind::EcP256).unwrap()
    };
    assert_eq!(key("{}"), Key::Same(KeyKind::EcP256));
    assert_eq!(key(r#"{"PrivateKeyType":"ec","PrivateKeyBits":256}"#), Key::Same(KeyKind::EcP256));
    assert_eq!(key(r#"{"PrivateKeyType":"rsa"}"#), Key::Other(KeyKind::Rsa2048));
    assert_eq!(key(r#"{"PrivateKeyType":"ec","PrivateKeyBits":384}"#), Key::Other(KeyKind::EcP384));
}

#[test]
fn a_supplied_key_has_its_own_kind_and_what_was_read_says_nothing_against_it() {
    let beside = |config: &str| {
        let body = format!(r#"{{"Provider":"consul","Config":{config}}}"#);
        Wanted::read(body.as_bytes()).unwrap().key_beside(KeyKind::EcP256, KeyKind::Rsa4096)
    };
    let rsa = Ok(Key::Other(KeyKind::Rsa4096));
    assert_eq!(beside("{}"), rsa);
    assert_eq!(beside(r#"{"PrivateKeyType":"ec","PrivateKeyBits":256}"#), rsa, "as it was read");
    assert_eq!(beside(r#"{"PrivateKeyType":"rsa","PrivateKeyBits":4096}"#), rsa);
    let refused = beside(r#"{"PrivateKeyType":"rsa","PrivateKeyBits":2048}"#).unwrap_err().to_string();
    assert!(refused.contains("say rsa-2048") && refused.contains("of the kind rsa-4096"), "{refused}");
}

#[test]
fn a_supplied_root_is_read_shown_nowhere_and_not_passed_on() {
    let body = br#"{"Provider":"consul","Config":{"private_key":"-----BEGIN A SECRET","RootCert":"c"}}"#;
    let wanted = Wanted::read(body).unwrap();
    assert!(!format!("{wanted:?}").contains("SECRET"));
    assert_eq!(wanted.supplied, Some(("-----BEGIN A SECRET".to_owned().into(), "c".into())));
    let refused = passed_on(body).unwrap_err().to_string();
    assert!(refused.contains("is not passed on") && !refused.contains("SECRET"), "{refused}");
    let only_cert = br#"{"Provider":"consul","Config":{"RootCert":"c"}}"#;
    assert!(passed_on(only_cert).is_err());
    let empty = br#"{"Provider":"consul","Config":{"PrivateKey":"","RootCert":"","LeafCertTTL":"48h"}}"#;
    assert!(passed_on(empty).is_ok());
    // Of two of one name the last one counts; the first one goes nowhere either.
    let twice = br#"{"Provider":"consul","Config":{"PrivateKey":"A SECRET","PrivateKey":""}}"#;
    assert!(!String::from_utf8_lossy(&passed_on(twice).unwrap()).contains("SECRET"));
    assert!(passed_on(br#"{"Provider":"consul","Config":{"PrivateKey":7}}"#).is_err());
}

#[test]
fn a_rotation_period_that_is_absent_stays_and_zero_is_none() {
    let period = |config: &str| {
        let body = format!(r#"{{"Provider":"consul","Config":{config}}}"#);
        Wanted::read(body.as_bytes()).unwrap().rotation_period
    };
    for absent in ["{}", r#"{"RotationPeriod":""}"#, r#"{"RotationPeriod":null}"#] {
        assert_eq!(period(absent), None, "{absent}");
    }
    for none in [r#"{"RotationPeriod":"0s"}"#, r#"{"RotationPeriod":0}"#] {
        assert_eq!(period(none), Some(None), "{none}");
    }
    assert_eq!(period(r#"{"RotationPeriod":"2160h"}"#), Some(Some(Duration::from_secs(2160 * 3600))));
}

#[test]
fn the_bridge_is_forgone_where_consuls_clients_say_so() {
    for (body, without) in [
        (r#"{"Provider":"consul","Config":{}}"#, false),
        (r#"{"Provider":"consul","Config":{},"ForceWithoutCrossSigning":true}"#, true),
        (r#"{"Provider":"consul","Config":{"ForceWithoutCrossSigning":true}}"#, true),
    ] {
        assert_eq!(Wanted::read(body.as_bytes()).unwrap().without_cross_signing, without, "{body}");
    }
}

#[test]
fn providers_that_are_not_here_are_refused_as_not_implemented() {
    let vault = Wanted::read(br#"{"Provider":"vault","Config":{"Address":"http://a"}}"#);
    assert!(matches!(vault, Err(HttpError::NotImplemented(_))));
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
