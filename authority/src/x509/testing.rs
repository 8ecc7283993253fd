//! Keys of every kind for tests, made once; and DER by hand for what no encoder would write.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::{
    encoding::AsDer as _,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RsaKeyPair,
    },
};

use crate::key::{KeyKind, PublicKey, Signer, SignerError};

enum Pair {
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

/// A signer whose key lives in this test process.
pub(crate) struct TestSigner {
    public_key: PublicKey,
    pair: Pair,
    fails: bool,
}

impl TestSigner {
    /// A new key; RSA keys are slow to make, see [`key`].
    pub(crate) fn new(kind: KeyKind) -> Self {
        let (pair, spki) = match kind {
            KeyKind::EcP256 | KeyKind::EcP384 => {
                let is_p256 = kind == KeyKind::EcP256;
                let algorithm = if is_p256 { &ECDSA_P256_SHA256_ASN1_SIGNING } else { &ECDSA_P384_SHA384_ASN1_SIGNING };
                let pair = EcdsaKeyPair::generate(algorithm).unwrap();
                let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
                (Pair::Ec(pair), spki)
            }
            KeyKind::Ed25519 => {
                let pair = Ed25519KeyPair::generate().unwrap();
                let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
                (Pair::Ed25519(pair), spki)
            }
            KeyKind::Rsa2048 => rsa(KeySize::Rsa2048),
            KeyKind::Rsa3072 => rsa(KeySize::Rsa3072),
            KeyKind::Rsa4096 => rsa(KeySize::Rsa4096),
        };
        Self { public_key: PublicKey::from_spki(&spki).unwrap(), pair, fails: false }
    }

    /// A key whose keeper refuses to sign.
    pub(crate) fn failing() -> Self {
        Self { fails: true, ..Self::new(KeyKind::EcP256) }
    }
}

fn rsa(size: KeySize) -> (Pair, Vec<u8>) {
    let pair = RsaKeyPair::generate(size).unwrap();
    let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
    (Pair::Rsa(pair), spki)
}

impl Signer for TestSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        if self.fails {
            let PublicKey { kind, id, .. } = self.public_key;
            return Err(SignerError { kind, id, reason: "the token was pulled out".into() });
        }
        let random = SystemRandom::new();
        Ok(match &self.pair {
            Pair::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
        })
    }
}

/// A key of each kind that all tests share.
pub(crate) fn key(kind: KeyKind) -> Arc<TestSigner> {
    static KEYS: [OnceLock<Arc<TestSigner>>; 6] = [const { OnceLock::new() }; 6];
    let place = KeyKind::ALL.iter().position(|other| *other == kind).unwrap();
    KEYS[place].get_or_init(|| Arc::new(TestSigner::new(kind))).clone()
}

/// One element.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = match content.len() {
        short @ 0..0x80 => vec![u8::try_from(short).unwrap()],
        long @ 0..0x100 => vec![0x81, u8::try_from(long).unwrap()],
        long => [&[0x82][..], &u16::try_from(long).unwrap().to_be_bytes()].concat(),
    };
    [&[tag][..], &length, content].concat()
}

/// A SEQUENCE.
pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// An extension of `id-ce` (2.5.29).
pub(crate) fn extension(number: u8, is_critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if is_critical { &[1, 1, 0xff] } else { &[] };
    sequence(&[&[6, 3, 0x55, 0x1d, number], critical, &tlv(4, value)])
}

/// A subject alternative name extension of names that are tags and texts.
pub(crate) fn alternative_names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let names: Vec<u8> = names.iter().flat_map(|(number, text)| tlv(0x80 | number, text)).collect();
    extension(17, true, &tlv(0x30, &names))
}

/// The attribute that asks for extensions.
pub(crate) fn extension_request(extensions: &[&[u8]]) -> Vec<u8> {
    let identifier = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];
    sequence(&[&identifier, &tlv(0x31, &sequence(extensions))])
}

/// A request with these attributes, signed by the key; the algorithm is the one of P-256 keys.
pub(crate) fn request_with(signer: &dyn Signer, attributes: &[u8]) -> Vec<u8> {
    let spki = signer.public_key().spki.as_bytes();
    signed_request(signer, &sequence(&[&[2, 1, 0], &[0x30, 0], spki, &tlv(0xa0, attributes)]), ECDSA_SHA256)
}

/// The content of the AlgorithmIdentifier ecdsa-with-SHA256.
pub(crate) const ECDSA_SHA256: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];

/// Request information with a signature.
pub(crate) fn signed_request(signer: &dyn Signer, info: &[u8], algorithm: &[u8]) -> Vec<u8> {
    let signature = signer.sign(info).unwrap();
    sequence(&[info, &tlv(0x30, algorithm), &tlv(3, &[&[0][..], &signature].concat())])
}
