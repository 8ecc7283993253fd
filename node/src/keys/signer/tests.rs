//! Tests of `keys::signer`.

use aws_lc_rs::{
    encoding::{AsDer, EcPrivateKeyRfc5915Der},
    signature::{self, EcdsaKeyPair, UnparsedPublicKey, VerificationAlgorithm},
};
use carrack_authority::key::KeyKind;

use sha2::{Digest as _, Sha256};

use super::*;
use crate::keys::{aws_lc::AwsLcKeyMaker, secret::KeyMaker};

fn verification(kind: KeyKind) -> &'static dyn VerificationAlgorithm {
    match kind {
        KeyKind::EcP256 => &signature::ECDSA_P256_SHA256_ASN1,
        KeyKind::EcP384 => &signature::ECDSA_P384_SHA384_ASN1,
        KeyKind::Ed25519 => &signature::ED25519,
        KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => &signature::RSA_PKCS1_2048_8192_SHA256,
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

#[test]
fn each_kind_signs_what_its_public_key_verifies() {
    for kind in KeyKind::ALL {
        let key = AwsLcKeyMaker.make(kind).unwrap();
        let signer = AwsLcKeyMaker.signer(&key).unwrap();
        let signed = signer.sign(b"to be signed").unwrap();

        let public = signer.public_key();
        assert_eq!(public.kind, kind);
        let (_, spki) = <x509_parser::x509::SubjectPublicKeyInfo<'_> as x509_parser::prelude::FromDer<_>>::from_der(
            public.spki.as_bytes(),
        )
        .unwrap();
        let bits: &[u8] = &spki.subject_public_key.data;
        UnparsedPublicKey::new(verification(kind), bits).verify(b"to be signed", &signed).unwrap();
        assert_eq!(public.id.0, Sha256::digest(bits)[..20], "the key id is RFC 7093's");
    }
}

#[test]
fn a_key_survives_its_own_pem() {
    for kind in KeyKind::ALL {
        let key = AwsLcKeyMaker.make(kind).unwrap();
        let pem = key.to_pem();
        assert!(pem.ends_with("-----END PRIVATE KEY-----\n"));
        assert!(pem.lines().all(|line| line.len() <= 64));
        let again = AwsLcKeyMaker.import(&pem).unwrap();
        assert_eq!(again.kind(), kind);
        assert_eq!(again.expose_pkcs8(), key.expose_pkcs8());
    }
}

#[test]
fn the_older_pem_forms_are_imported() {
    let id = |key: &SecretKey| AwsLcKeyMaker.signer(key).unwrap().public_key().id;
    for (kind, algorithm) in [
        (KeyKind::EcP256, &signature::ECDSA_P256_SHA256_ASN1_SIGNING),
        (KeyKind::EcP384, &signature::ECDSA_P384_SHA384_ASN1_SIGNING),
    ] {
        let key = AwsLcKeyMaker.make(kind).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.expose_pkcs8()).unwrap();
        let sec1 = AsDer::<EcPrivateKeyRfc5915Der<'_>>::as_der(&pair.private_key()).unwrap();
        assert_eq!(id(&AwsLcKeyMaker.import(&pem("EC PRIVATE KEY", sec1.as_ref())).unwrap()), id(&key));
    }
    let key = AwsLcKeyMaker.make(KeyKind::Rsa2048).unwrap();
    let pkcs1 = &key.expose_pkcs8()[RSA_2048_PKCS8_HEAD_BYTES..];
    assert_eq!(id(&AwsLcKeyMaker.import(&pem("RSA PRIVATE KEY", pkcs1)).unwrap()), id(&key));
}

/// Version, algorithm and the head of the octet string in which PKCS#8 wraps a PKCS#1 key.
const RSA_2048_PKCS8_HEAD_BYTES: usize = 26;

#[test]
fn what_is_no_accepted_key_is_refused_with_a_reason() {
    assert_eq!(AwsLcKeyMaker.import("nothing").unwrap_err(), KeyError::NoPem);
    let p521 = EcdsaKeyPair::generate(&signature::ECDSA_P521_SHA512_ASN1_SIGNING).unwrap().to_pkcs8v1().unwrap();
    assert_eq!(AwsLcKeyMaker.import(&pem("PRIVATE KEY", p521.as_ref())).unwrap_err(), KeyError::NotAccepted);
    assert_eq!(AwsLcKeyMaker.import(&pem("EC PRIVATE KEY", &[0x30, 0x00])).unwrap_err(), KeyError::NotAccepted);
    assert_eq!(AwsLcKeyMaker.import(RSA_1024).unwrap_err(), KeyError::NotAccepted);
    let large = " ".repeat(70_000);
    assert!(matches!(AwsLcKeyMaker.import(&large), Err(KeyError::TooLarge { bytes: 70_000, .. })));
}

/// Too short to be accepted; made for this test alone.
const RSA_1024: &str = "-----BEGIN PRIVATE KEY-----
MIICdwIBADANBgkqhkiG9w0BAQEFAASCAmEwggJdAgEAAoGBANNHf8+45zBmffE5
pX7SDO0tP56AR0vEpxWcIyIZfnAf4Zp26UMlmc9yWaIF9kunW7CAKqT2EIUCaCFE
M2xB87Ra0UXlHhroBm9o39ZxNjKVsurx3NJXA1hfIG8w+uInN05DEJyVXc8/Jhua
cL6eWmA80BF535Dqi77Cnb8i+YeLAgMBAAECgYB73ZErIQY5M/1mLRu/bDoz2rFP
pXknDJXAb5eRaEzeQ3KqckhzG1o/apTuDnzFAcsZgSp/J9urfyu5RRi4wTm0VEA2
u6BgDzAllyndvQn7OP2Ypbqr0zAftciV5TEoCVzyHb2fSae0pQNFkwrNbwN9ktSf
WRmfDSROec5Y3TMDIQJBAO2PfQI2gvwoTWduOWAjjr7Yi8qZeRcZ/RZm4peytyTA
21rdEPXb4PUmtarddNEJmECOSF2tJb+7l6ZY2MgwI4MCQQDjrchvMLNILGceB/K0
dgjeRRzqcvpHQR0X+jiRgYpPwi6pW+3CImkDkmdELX13i5H8zVFam6n6wGeDRXR9
U+VZAkEAnoVlUZi2hzUNkbtHphOUKV2uyp7m4reA3vYAtmGXPHtE5LknnCgBURVn
nIDydpsEce9/8qKb0fmIFIStA8i7qQJAXcLacRfgLQ/EI3ToeXLGciqKHu7crO1e
utob46gyOmhgaPRntHQRRRxMlKIbMljy9OXk4+iJFq+XsVKwB1C+eQJBANaMb7wh
sCxBYsqzktIPlUQWCZBYhKRkmPPbtaefTz5lO/zYGrgs+bOhTgSiU9YoEHnTpY4w
HqkuXxYK1R69BP0=
-----END PRIVATE KEY-----\n";

#[test]
fn keys_and_signers_print_no_key_bytes() {
    let key = AwsLcKeyMaker.make(KeyKind::EcP256).unwrap();
    let signer = SoftwareSigner::new(&key).unwrap();
    assert_eq!(format!("{key:?}"), "SecretKey(ec-p256, ...)");
    assert_eq!(format!("{signer:?}"), format!("SoftwareSigner(ec-p256 {}, ...)", signer.public_key().id));

    let broken = SecretKey::from_checked_pkcs8(KeyKind::EcP384, zeroize::Zeroizing::new(key.expose_pkcs8().to_vec()));
    let error = SoftwareSigner::new(&broken).unwrap_err();
    assert_eq!(error, KeyError::Damaged { kind: KeyKind::EcP384 });
}
