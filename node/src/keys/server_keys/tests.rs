//! Tests of `keys::server_keys`.

use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::keys::{aws_lc::AwsLcKeyMaker, sealing::AgeSealer, store::MemoryKeyStore};

fn keys() -> (Arc<MemoryKeyStore>, ServerKeys) {
    let store = Arc::new(MemoryKeyStore::default());
    (store.clone(), ServerKeys::new(store, Arc::new(AwsLcKeyMaker), Arc::new(AgeSealer)))
}

fn certificate(key: &SecretKey) -> String {
    let pair = KeyPair::try_from(key.expose_pkcs8()).unwrap();
    CertificateParams::new(vec!["server".to_owned()]).unwrap().self_signed(&pair).unwrap().pem()
}

fn id(key: &SecretKey) -> KeyId {
    AwsLcKeyMaker.signer(key).unwrap().public_key().id
}

#[test]
fn a_pending_server_key_becomes_active_with_its_certificate() {
    let (store, keys) = keys();
    assert!(keys.server().unwrap().is_none());
    let pending = keys.pending_server_key(KeyKind::EcP256).unwrap();
    assert_eq!(id(&keys.pending_server_key(KeyKind::EcP256).unwrap()), id(&pending), "asking again makes no new key");

    let chain = certificate(&pending);
    let active = keys.activate_server(&chain).unwrap();
    assert_eq!((id(&active.key), &active.chain_pem), (id(&pending), &chain));
    assert_eq!(store.list().unwrap(), [KeySlot::Server, KeySlot::ServerCertificate]);
    keys.activate_server(&chain).expect("repeating the step is success");
}

#[test]
fn a_renewal_that_crashed_between_certificate_and_key_is_finished_at_the_next_load() {
    let (store, keys) = keys();
    keys.activate_server(&certificate(&keys.pending_server_key(KeyKind::EcP256).unwrap())).unwrap();
    let next = keys.pending_server_key(KeyKind::EcP256).unwrap();
    store.write(KeySlot::ServerCertificate, certificate(&next).as_bytes()).unwrap();

    assert_eq!(id(&keys.server().unwrap().unwrap().key), id(&next));
    assert_eq!(store.read(KeySlot::ServerPending).unwrap(), None);
}

#[test]
fn a_certificate_for_another_key_is_refused_and_changes_nothing() {
    let (store, keys) = keys();
    keys.pending_server_key(KeyKind::EcP256).unwrap();
    let other = AwsLcKeyMaker.make(KeyKind::EcP256).unwrap();
    let refused = keys.activate_server(&certificate(&other));
    assert!(matches!(refused, Err(ServerKeysError::NoKeyForCertificate)));
    assert_eq!(store.list().unwrap(), [KeySlot::ServerPending]);
    store.write(KeySlot::ServerCertificate, b"no certificate").unwrap();
    assert!(matches!(keys.server(), Err(ServerKeysError::BadCertificate)));
}

#[test]
fn an_issuer_key_is_active_once_its_certificate_is_there_and_goes_when_it_is_retired() {
    let (_, keys) = keys();
    let unknown = KeyId([1; 20]);
    let text = keys.activate_issuer(unknown).unwrap_err().to_string();
    assert!(text.ends_with("but the pending key is none"), "{text}");

    let pending = id(&keys.new_issuer_key(KeyKind::Ed25519).unwrap());
    assert!(matches!(keys.activate_issuer(unknown), Err(ServerKeysError::OtherIssuer { .. })));
    keys.activate_issuer(pending).unwrap();
    keys.activate_issuer(pending).expect("repeating the step is success");
    assert_eq!(keys.issuers().unwrap(), [pending]);
    keys.delete_issuer(pending).unwrap();
    assert!(keys.issuer(pending).unwrap().is_none());
}

#[test]
fn a_pending_server_key_is_kept_until_it_is_of_another_kind() {
    let (_, keys) = keys();
    let first = keys.pending_server_key(KeyKind::EcP256).unwrap();
    assert_eq!(id(&keys.pending_server_key(KeyKind::EcP256).unwrap()), id(&first));
    let second = keys.pending_server_key(KeyKind::EcP384).unwrap();
    assert_eq!(second.kind(), KeyKind::EcP384);
    assert_ne!(id(&first), id(&second));
}

#[test]
fn each_request_for_an_issuer_has_a_key_of_its_own() {
    let (_, keys) = keys();
    let first = id(&keys.new_issuer_key(KeyKind::EcP256).unwrap());
    let second = id(&keys.new_issuer_key(KeyKind::EcP256).unwrap());
    assert_ne!(first, second);
    assert_eq!(keys.held_issuers().unwrap(), std::collections::BTreeSet::from([second]));
}

#[test]
fn the_sealing_identity_is_made_once_and_kept_as_standard_text() {
    let (store, keys) = keys();
    let made = keys.sealing().unwrap();
    assert_eq!(keys.sealing().unwrap().recipient(), made.recipient());
    let file = store.read(KeySlot::Sealing).unwrap().unwrap();
    assert!(file.starts_with(b"AGE-SECRET-KEY-1") && file.ends_with(b"\n"));
}

#[test]
fn a_damaged_key_file_is_named_and_not_printed() {
    let (store, keys) = keys();
    store.write(KeySlot::IssuerPending, b"planted-secret").unwrap();
    let error = keys.held_issuers().unwrap_err();
    assert_eq!(error.to_string(), "the key in issuer.pending.key cannot be used");
    assert!(!format!("{error:?}").contains("planted-secret"));
    store.write(KeySlot::Sealing, b"planted-secret").unwrap();
    let error = keys.sealing().unwrap_err();
    assert_eq!(error.to_string(), "the key in sealing.key cannot be used");
    assert!(!format!("{error:?} {error}").contains("planted-secret"));
}
