//! Tests of `crypto::keys` with `crypto::registry`.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
};

use super::*;
use crate::crypto::registry::{Finding, Form};

fn maker(seed: u64, host: &str, start: u64) -> (SeededKeyMaker, KeyRegistry) {
    let registry = KeyRegistry::default();
    (SeededKeyMaker::new(Seed(seed), &ProcessStart::new(host, start), registry.clone()), registry)
}

fn keys_and_signatures(seed: u64, host: &str, start: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (maker, _) = maker(seed, host, start);
    let made = KeyKind::ALL.into_iter().map(|kind| {
        let key = maker.make(kind).unwrap();
        let signer = maker.signer(&key).unwrap();
        assert_eq!(signer.sign(b"message").unwrap(), signer.sign(b"message").unwrap(), "{kind}");
        (key.expose_pkcs8().to_vec(), signer.sign(b"message").unwrap())
    });
    made.collect()
}

fn owners(found: &[Finding]) -> Vec<String> {
    found.iter().map(|finding| finding.owner.to_string()).collect()
}

#[test]
fn the_same_seed_makes_the_same_keys_and_signatures() {
    assert_eq!(keys_and_signatures(1, "a", 1), keys_and_signatures(1, "a", 1));
}

#[test]
fn other_seeds_hosts_and_starts_make_other_keys() {
    let first = keys_and_signatures(1, "a", 1);
    for other in [keys_and_signatures(2, "a", 1), keys_and_signatures(1, "b", 1), keys_and_signatures(1, "a", 2)] {
        for position in 0..3 {
            assert_ne!(first[position], other[position], "{}", KeyKind::ALL[position]);
        }
    }
}

#[test]
fn aws_lc_verifies_the_signatures_of_every_kind() {
    let (maker, _) = maker(1, "a", 1);
    for kind in KeyKind::ALL {
        let key = maker.make(kind).unwrap();
        let signer = maker.signer(&key).unwrap();
        assert_eq!((key.kind(), signer.public_key().kind), (kind, kind));
        let spki = signer.public_key().spki.as_bytes();
        let signature = signer.sign(b"message").unwrap();
        let verify = |message: &[u8]| aws_lc_verify(kind, spki, message, &signature);
        assert!(verify(b"message"), "{kind}");
        assert!(!verify(b"other message"), "{kind}");
    }
}

fn aws_lc_verify(kind: KeyKind, spki: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let parsed = match kind {
        KeyKind::EcP256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, spki),
        KeyKind::EcP384 => ParsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, spki),
        KeyKind::Ed25519 => ParsedPublicKey::new(&ED25519, spki),
        KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => {
            ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, spki)
        }
    };
    parsed.unwrap().verify_sig(message, signature).is_ok()
}

#[test]
fn the_real_key_maker_reads_the_keys_and_an_imported_key_signs() {
    let (maker, _) = maker(1, "a", 1);
    for kind in KeyKind::ALL {
        let real = AwsLcKeyMaker.import(&maker.make(kind).unwrap().to_pem()).unwrap();
        assert_eq!(real.kind(), kind);
        let imported = maker.import(&AwsLcKeyMaker.make(kind).unwrap().to_pem()).unwrap();
        let signer = maker.signer(&imported).unwrap();
        assert_eq!(signer.public_key(), AwsLcKeyMaker.signer(&imported).unwrap().public_key());
        assert_eq!(signer.sign(b"message").unwrap(), signer.sign(b"message").unwrap());
    }
    assert_eq!(maker.import("no key").unwrap_err(), KeyError::NoPem);
}

#[test]
fn a_damaged_key_has_no_signer() {
    let (maker, _) = maker(1, "a", 1);
    for kind in KeyKind::ALL {
        let damaged = SecretKey::from_checked_pkcs8(kind, Zeroizing::new(vec![0x30, 0]));
        assert_eq!(maker.signer(&damaged).err(), Some(KeyError::Damaged { kind }));
    }
}

#[test]
fn a_made_key_is_found_in_der_in_pem_and_in_json_and_nothing_is_found_in_public_bytes() {
    let (maker, registry) = maker(1, "dc1/a", 1);
    for kind in KeyKind::ALL {
        let key = maker.make(kind).unwrap();
        let pem = key.to_pem();
        let json = serde_json::json!({ "key": pem.as_str() }).to_string();
        let debug = format!("{:?}", key.expose_pkcs8());
        let owner = if matches!(kind.consul_type(), "rsa") { "the pool of RSA keys" } else { "dc1/a" };
        for text in [key.expose_pkcs8(), pem.as_bytes(), json.as_bytes(), debug.as_bytes()] {
            let found = registry.search(text);
            assert!(!found.is_empty() && owners(&found).iter().all(|found| found == owner), "{kind}: {found:?}");
        }
        let signer = maker.signer(&key).unwrap();
        assert_eq!(registry.search(signer.public_key().spki.as_bytes()), [], "{kind}");
        assert_eq!(registry.search(&signer.sign(b"message").unwrap()), [], "{kind}");
    }
    assert_eq!(registry.count(), 3 + 3 * 3, "one secret of each drawn key, three of each RSA key");
    assert_eq!(format!("{:?}", registry.needles()[0]), "Needle(scalar of ec-p256 of dc1/a, ...)");
}

#[test]
fn a_file_may_have_the_keys_of_its_host_and_of_the_pool() {
    let registry = KeyRegistry::default();
    let maker = |host: &str| SeededKeyMaker::new(Seed(1), &ProcessStart::new(host, 1), registry.clone());
    let own = maker("a").make(KeyKind::EcP256).unwrap();
    let shared = maker("a").make(KeyKind::Rsa2048).unwrap();
    for key in [&own, &shared] {
        assert_eq!(registry.search_strangers(key.to_pem().as_bytes(), "a"), []);
    }
    assert_eq!(registry.search_strangers(shared.expose_pkcs8(), "b"), []);
    let found = registry.search_strangers(own.expose_pkcs8(), "b");
    assert_eq!(owners(&found), ["a"]);
    assert_eq!((found[0].form, &*found[0].what), (Form::Raw, "scalar of ec-p256"));
    assert!(found[0].to_string().starts_with("the scalar of ec-p256 of a, as Raw at byte "));
}
