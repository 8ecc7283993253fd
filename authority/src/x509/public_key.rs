//! Reads public keys by an allow-list, before anything is computed with them (Go's CVE-2023-29409: size before signature).

use rustls_pki_types::{AlgorithmIdentifier, alg_id};
use sha2::{Digest as _, Sha256};

use super::der::{DerError, Reader, oid_text, tag};
use crate::{
    id::KeyId,
    key::{Der, KeyKind, PublicKey},
};

/// The keys that are accepted, for messages.
pub const ACCEPTED_KEYS: &str = "EC P-256, EC P-384, Ed25519, and RSA with 2048, 3072 or 4096 bits";
/// The largest public exponent of an RSA key: 2^32. Larger ones only make verifying slow, and libraries refuse them.
pub const RSA_EXPONENT_MAX: u64 = 1 << 32;

/// Why a public key is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// The bytes are no SubjectPublicKeyInfo.
    #[error("the public key cannot be read")]
    Malformed(#[from] DerError),
    /// Another algorithm, curve or encoding.
    #[error("public keys of the algorithm {found} are not accepted; accepted are {ACCEPTED_KEYS}")]
    NotAccepted {
        /// The algorithm, with its curve if it has one.
        found: String,
    },
    /// An RSA key of another size.
    #[error("an RSA key with {bits} bits is not accepted; accepted are {ACCEPTED_KEYS}")]
    RsaSize {
        /// The size of its modulus.
        bits: usize,
    },
    /// The modulus of an RSA key is even, so that it is no product of two primes.
    #[error("the modulus of the RSA key is even; accepted are {ACCEPTED_KEYS} with an odd modulus")]
    RsaEvenModulus,
    /// The exponent of an RSA key is even, below 3 or above 2^32.
    #[error("the public exponent of the RSA key is {found}; accepted are odd ones from 3 to {RSA_EXPONENT_MAX}")]
    RsaExponent {
        /// The exponent, or its size.
        found: String,
    },
    /// An EC point that is compressed or has the wrong length.
    #[error(
        "the point of the {kind} key has {bytes} bytes; only the uncompressed form with {expected} bytes is accepted"
    )]
    EcPoint {
        /// The kind of the key.
        kind: KeyKind,
        /// The length of the point.
        bytes: usize,
        /// The length that it should have.
        expected: usize,
    },
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7) if its key is of an accepted kind, in the one encoding that
    /// its specification gives it.
    pub fn from_spki(spki: &[u8]) -> Result<Self, PublicKeyError> {
        let (algorithm, bits) = split(spki)?;
        let kind = kind_of(algorithm, bits)?;
        let digest: [u8; 32] = Sha256::digest(bits).into();
        let id = KeyId(*digest.first_chunk().expect("SHA-256 has more than 20 bytes"));
        Ok(Self { kind, spki: Der::from(spki), id })
    }

    /// The content of the subjectPublicKey bit string: what signature algorithms take as the key.
    pub fn subject_public_key(&self) -> &[u8] {
        let (_, bits) = split(self.spki.as_bytes()).expect("it was read when the key was made");
        bits
    }
}

fn split(spki: &[u8]) -> Result<(&[u8], &[u8]), DerError> {
    let mut inside = Reader::single(spki, tag::SEQUENCE, "public key")?.inside();
    let algorithm = inside.expect(tag::SEQUENCE, "algorithm of the public key")?.content;
    let bits = inside.expect(tag::BIT_STRING, "bits of the public key")?.bit_octets("bits of the public key")?;
    inside.finish("public key")?;
    Ok((algorithm, bits))
}

fn kind_of(algorithm: &[u8], bits: &[u8]) -> Result<KeyKind, PublicKeyError> {
    let is = |accepted: AlgorithmIdentifier| algorithm == accepted.as_ref();
    if is(alg_id::ECDSA_P256) {
        check_point(KeyKind::EcP256, bits, 65)
    } else if is(alg_id::ECDSA_P384) {
        check_point(KeyKind::EcP384, bits, 97)
    } else if is(alg_id::ED25519) && bits.len() == 32 {
        Ok(KeyKind::Ed25519)
    } else if is(alg_id::RSA_ENCRYPTION) {
        check_rsa(bits)
    } else {
        Err(PublicKeyError::NotAccepted { found: algorithm_text(algorithm) })
    }
}

fn check_point(kind: KeyKind, bits: &[u8], expected: usize) -> Result<KeyKind, PublicKeyError> {
    let is_uncompressed = bits.first() == Some(&4) && bits.len() == expected;
    if is_uncompressed { Ok(kind) } else { Err(PublicKeyError::EcPoint { kind, bytes: bits.len(), expected }) }
}

fn check_rsa(bits: &[u8]) -> Result<KeyKind, PublicKeyError> {
    let mut inside = Reader::single(bits, tag::SEQUENCE, "RSA key")?.inside();
    let modulus = inside.expect(tag::INTEGER, "RSA modulus")?.unsigned("RSA modulus")?;
    let exponent = inside.expect(tag::INTEGER, "RSA exponent")?.unsigned("RSA exponent")?;
    inside.finish("RSA key")?;
    let kind = match bit_length(modulus) {
        2048 => KeyKind::Rsa2048,
        3072 => KeyKind::Rsa3072,
        4096 => KeyKind::Rsa4096,
        bits => return Err(PublicKeyError::RsaSize { bits }),
    };
    if is_even(modulus) {
        return Err(PublicKeyError::RsaEvenModulus);
    }
    check_exponent(exponent)?;
    Ok(kind)
}

fn check_exponent(exponent: &[u8]) -> Result<(), PublicKeyError> {
    if exponent.len() > 8 {
        return Err(PublicKeyError::RsaExponent { found: format!("{} bits long", bit_length(exponent)) });
    }
    let value = exponent.iter().fold(0_u64, |value, octet| value << 8 | u64::from(*octet));
    if value % 2 == 1 && (3..=RSA_EXPONENT_MAX).contains(&value) {
        return Ok(());
    }
    Err(PublicKeyError::RsaExponent { found: value.to_string() })
}

fn bit_length(octets: &[u8]) -> usize {
    octets.first().map_or(0, |first| octets.len() * 8 - usize::try_from(first.leading_zeros()).unwrap_or(0))
}

fn is_even(octets: &[u8]) -> bool {
    octets.last().is_none_or(|last| last % 2 == 0)
}

/// The object identifiers of an AlgorithmIdentifier's content: the algorithm and, for EC keys, the curve.
pub(crate) fn algorithm_text(content: &[u8]) -> String {
    let mut reader = Reader::new(content);
    let mut identifiers = Vec::new();
    while let Ok(Some(element)) = reader.optional(tag::OBJECT_IDENTIFIER) {
        identifiers.push(oid_text(element.content));
    }
    if identifiers.is_empty() { "malformed".into() } else { identifiers.join(" with parameter ") }
}

#[cfg(test)]
mod tests;
