//! The key maker of real servers: aws-lc's keys, with aws-lc's own randomness.

use std::sync::Arc;

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rsa,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        Ed25519KeyPair, KeyPair as _,
    },
};
use carrack_authority::key::{KeyKind, Signer};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use zeroize::{Zeroize, Zeroizing};

use super::{
    secret::{KeyError, KeyMaker, SecretKey},
    signer::SoftwareSigner,
};

/// The longest PEM text that is read as a key: an RSA 4096 key takes 3.3 KiB; some files put its certificate beside it.
pub const KEY_PEM_BYTES_MAX: usize = 64 * 1024;

/// Makes keys with aws-lc.
#[derive(Clone, Copy, Debug, Default)]
pub struct AwsLcKeyMaker;

impl KeyMaker for AwsLcKeyMaker {
    fn make(&self, kind: KeyKind) -> Result<SecretKey, KeyError> {
        let pair = KeyPair::generate(kind).ok_or(KeyError::NotMade { kind })?;
        pair.to_secret_key().ok_or(KeyError::NotMade { kind })
    }

    fn import(&self, pem: &str) -> Result<SecretKey, KeyError> {
        if pem.len() > KEY_PEM_BYTES_MAX {
            return Err(KeyError::TooLarge { bytes: pem.len(), bytes_max: KEY_PEM_BYTES_MAX });
        }
        let mut der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::NoPem)?;
        let pair = KeyPair::from_any_der(&der);
        der.zeroize();
        pair.and_then(|pair| pair.to_secret_key()).ok_or(KeyError::NotAccepted)
    }

    fn signer(&self, key: &SecretKey) -> Result<Arc<dyn Signer>, KeyError> {
        Ok(Arc::new(SoftwareSigner::new(key)?))
    }
}

/// An aws-lc key pair of an accepted kind.
pub(super) enum KeyPair {
    /// P-256 or P-384.
    Ec(KeyKind, EcdsaKeyPair),
    /// Ed25519.
    Ed25519(Ed25519KeyPair),
    /// RSA with a modulus of an accepted size.
    Rsa(KeyKind, rsa::KeyPair),
}

impl KeyPair {
    fn generate(kind: KeyKind) -> Option<Self> {
        Some(match kind {
            KeyKind::EcP256 => Self::Ec(kind, EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).ok()?),
            KeyKind::EcP384 => Self::Ec(kind, EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).ok()?),
            KeyKind::Ed25519 => Self::Ed25519(Ed25519KeyPair::generate().ok()?),
            KeyKind::Rsa2048 => Self::Rsa(kind, rsa::KeyPair::generate(rsa::KeySize::Rsa2048).ok()?),
            KeyKind::Rsa3072 => Self::Rsa(kind, rsa::KeyPair::generate(rsa::KeySize::Rsa3072).ok()?),
            KeyKind::Rsa4096 => Self::Rsa(kind, rsa::KeyPair::generate(rsa::KeySize::Rsa4096).ok()?),
        })
    }

    /// The key pair of PKCS#8 bytes whose kind is known.
    pub(super) fn from_pkcs8(kind: KeyKind, pkcs8: &[u8]) -> Option<Self> {
        match kind {
            KeyKind::EcP256 | KeyKind::EcP384 => {
                Some(Self::Ec(kind, EcdsaKeyPair::from_pkcs8(ec_algorithm(kind), pkcs8).ok()?))
            }
            KeyKind::Ed25519 => Some(Self::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8).ok()?)),
            KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => {
                Self::from_rsa(rsa::KeyPair::from_pkcs8(pkcs8).ok()?).filter(|pair| pair.kind() == kind)
            }
        }
    }

    fn from_any_der(der: &PrivateKeyDer<'_>) -> Option<Self> {
        match der {
            PrivateKeyDer::Pkcs8(key) => {
                KeyKind::ALL.into_iter().find_map(|kind| Self::from_pkcs8(kind, key.secret_pkcs8_der()))
            }
            PrivateKeyDer::Sec1(key) => [KeyKind::EcP256, KeyKind::EcP384].into_iter().find_map(|kind| {
                let pair = EcdsaKeyPair::from_private_key_der(ec_algorithm(kind), key.secret_sec1_der());
                Some(Self::Ec(kind, pair.ok()?))
            }),
            PrivateKeyDer::Pkcs1(key) => Self::from_rsa(rsa::KeyPair::from_der(key.secret_pkcs1_der()).ok()?),
            _ => None,
        }
    }

    fn from_rsa(pair: rsa::KeyPair) -> Option<Self> {
        let kind = match pair.public_modulus_len() {
            256 => KeyKind::Rsa2048,
            384 => KeyKind::Rsa3072,
            512 => KeyKind::Rsa4096,
            _ => return None,
        };
        Some(Self::Rsa(kind, pair))
    }

    /// The kind of the pair.
    pub(super) fn kind(&self) -> KeyKind {
        match self {
            Self::Ec(kind, _) | Self::Rsa(kind, _) => *kind,
            Self::Ed25519(_) => KeyKind::Ed25519,
        }
    }

    /// The SubjectPublicKeyInfo in DER.
    pub(super) fn spki(&self) -> Option<Vec<u8>> {
        let spki: PublicKeyX509Der<'_> = match self {
            Self::Ec(_, pair) => pair.public_key().as_der().ok()?,
            Self::Ed25519(pair) => pair.public_key().as_der().ok()?,
            Self::Rsa(_, pair) => pair.public_key().as_der().ok()?,
        };
        Some(spki.as_ref().to_vec())
    }

    fn to_secret_key(&self) -> Option<SecretKey> {
        let pkcs8 = match self {
            Self::Ec(_, pair) => Zeroizing::new(pair.to_pkcs8v1().ok()?.as_ref().to_vec()),
            Self::Ed25519(pair) => wiped(&AsDer::<Pkcs8V1Der<'_>>::as_der(pair).ok()?),
            Self::Rsa(_, pair) => wiped(&AsDer::<Pkcs8V1Der<'_>>::as_der(pair).ok()?),
        };
        Some(SecretKey::from_checked_pkcs8(self.kind(), pkcs8))
    }
}

fn wiped(der: &Pkcs8V1Der<'_>) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(der.as_ref().to_vec())
}

fn ec_algorithm(kind: KeyKind) -> &'static EcdsaSigningAlgorithm {
    if kind == KeyKind::EcP384 { &ECDSA_P384_SHA384_ASN1_SIGNING } else { &ECDSA_P256_SHA256_ASN1_SIGNING }
}
