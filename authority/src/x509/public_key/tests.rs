//! Which public keys are read, and which are refused before anything is computed with them.

use super::*;
use crate::key::Signer as _;
use crate::x509::testing::{self, sequence, tlv};

const RSA: &[u8] = &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];

fn info(algorithm: &[u8], bits: &[u8]) -> Vec<u8> {
    sequence(&[algorithm, &tlv(3, &[&[0][..], bits].concat())])
}

fn ec(curve: &[u8], point_bytes: usize) -> Vec<u8> {
    let algorithm = sequence(&[&[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1], &tlv(6, curve)]);
    info(&algorithm, &[&[4][..], &vec![7; point_bytes - 1]].concat())
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    info(RSA, &sequence(&[&tlv(2, modulus), &tlv(2, exponent)]))
}

fn modulus(bits: usize) -> Vec<u8> {
    [&[0, 0x80][..], &vec![1; bits / 8 - 1]].concat()
}

#[test]
fn every_accepted_kind_is_read_and_named_by_rfc_7093() {
    for kind in KeyKind::ALL {
        let signer = testing::key(kind);
        let key = signer.public_key();
        assert_eq!(key.kind, kind);
        assert_eq!(PublicKey::from_spki(key.spki.as_bytes()).as_ref(), Ok(key));
        assert_eq!(key.id.0, Sha256::digest(key.subject_public_key())[..20]);
        let (_, other) = x509_parser::prelude::SubjectPublicKeyInfo::from_der(key.spki.as_bytes()).unwrap();
        assert_eq!(other.subject_public_key.data, key.subject_public_key());
    }
}

use x509_parser::prelude::FromDer as _;

#[test]
fn other_curves_and_algorithms_are_refused_with_the_list_of_accepted_ones() {
    let p224 = ec(&[0x2b, 0x81, 4, 0, 33], 57);
    let p521 = ec(&[0x2b, 0x81, 4, 0, 35], 133);
    let secp256k1 = ec(&[0x2b, 0x81, 4, 0, 10], 65);
    let ed448 = info(&sequence(&[&[6, 3, 0x2b, 101, 113]]), &[7; 57]);
    let pss_key = info(&sequence(&[&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10]]), &[7; 9]);
    for refused in [p224, p521, secp256k1, ed448, pss_key] {
        let error = PublicKey::from_spki(&refused).unwrap_err();
        assert!(matches!(error, PublicKeyError::NotAccepted { .. }), "{error}");
        assert!(error.to_string().contains(ACCEPTED_KEYS), "{error}");
    }
    let error = PublicKey::from_spki(&ec(&[0x2b, 0x81, 4, 0, 33], 57)).unwrap_err();
    assert!(error.to_string().contains("1.2.840.10045.2.1 with parameter 1.3.132.0.33"), "{error}");
}

#[test]
fn rsa_keys_have_2048_3072_or_4096_bits() {
    for bits in [2048, 3072, 4096] {
        assert!(PublicKey::from_spki(&rsa(&modulus(bits), &[1, 0, 1])).is_ok(), "{bits}");
    }
    for bits in [512, 1024, 2040, 2056, 4104, 8192, 16384] {
        let error = PublicKey::from_spki(&rsa(&modulus(bits), &[1, 0, 1])).unwrap_err();
        assert_eq!(error, PublicKeyError::RsaSize { bits });
    }
    let almost = [&[0x7f][..], &[0xff; 255]].concat();
    assert_eq!(PublicKey::from_spki(&rsa(&almost, &[3])), Err(PublicKeyError::RsaSize { bits: 2047 }));
}

#[test]
fn an_even_modulus_and_a_bad_exponent_are_refused() {
    let mut even = modulus(2048);
    *even.last_mut().unwrap() = 2;
    assert_eq!(PublicKey::from_spki(&rsa(&even, &[3])), Err(PublicKeyError::RsaEvenModulus));
    for exponent in [&[0][..], &[1], &[2], &[1, 0, 0], &[1, 0, 0, 0, 1], &[1; 9]] {
        let error = PublicKey::from_spki(&rsa(&modulus(2048), exponent)).unwrap_err();
        assert!(matches!(error, PublicKeyError::RsaExponent { .. }), "{exponent:?}: {error}");
    }
    assert!(PublicKey::from_spki(&rsa(&modulus(2048), &[3])).is_ok());
    assert!(PublicKey::from_spki(&rsa(&modulus(2048), &[0, 0xff, 0xff, 0xff, 0xff])).is_ok());
}

#[test]
fn a_key_has_one_encoding() {
    let spki = testing::key(KeyKind::EcP256).public_key().spki.as_bytes().to_vec();
    let trailing = [&spki[..], &[0]].concat();
    assert!(PublicKey::from_spki(&trailing).is_err());
    assert!(PublicKey::from_spki(&spki[..spki.len() - 1]).is_err());
    assert!(PublicKey::from_spki(&[]).is_err());
    let no_null = info(&sequence(&[&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1]]), &[1]);
    assert!(matches!(PublicKey::from_spki(&no_null), Err(PublicKeyError::NotAccepted { .. })));
    let padded = rsa(&[&[0][..], &modulus(2048)].concat(), &[3]);
    assert!(matches!(PublicKey::from_spki(&padded), Err(PublicKeyError::Malformed(_))), "a modulus has no extra zero");
    let mut compressed = ec(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7], 33);
    let point = compressed.len() - 33;
    compressed[point] = 2;
    assert!(matches!(PublicKey::from_spki(&compressed), Err(PublicKeyError::EcPoint { .. })));
}
