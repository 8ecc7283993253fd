//! Verifies signatures of requests and certificates by an allow-list for each kind of key.

use rustls_pki_types::SignatureVerificationAlgorithm;
use webpki::aws_lc_rs as algorithms;

use super::public_key::algorithm_text;
use crate::key::{KeyKind, PublicKey};

/// Why a signature is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The algorithm is unknown, weak, or belongs to another kind of key.
    #[error("the signature algorithm {found} is not accepted for an {kind} key; accepted are {}", accepted(*kind))]
    UnsuitedAlgorithm {
        /// The kind of the key.
        kind: KeyKind,
        /// The algorithm.
        found: String,
    },
    /// The signature was not made by this key over these bytes.
    #[error("the signature was not made with the private key of the {kind} key {key}")]
    Wrong {
        /// The kind of the key.
        kind: KeyKind,
        /// The key.
        key: crate::id::KeyId,
    },
}

/// Every algorithm by which certificates here may be signed.
pub(crate) static ALL: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P256_SHA512,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ECDSA_P384_SHA512,
    algorithms::ED25519,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// Checks that `signature` over `message` was made with the private key of `key`; `algorithm` is the content of the
/// AlgorithmIdentifier that came with it.
pub(crate) fn verify(
    key: &PublicKey,
    algorithm: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    let suited = ALL.iter().filter(|candidate| suits(**candidate, key.kind));
    let found = suited.into_iter().find(|candidate| candidate.signature_alg_id().as_ref() == algorithm);
    let Some(verifier) = found else {
        return Err(SignatureError::UnsuitedAlgorithm { kind: key.kind, found: algorithm_text(algorithm) });
    };
    verifier
        .verify_signature(key.subject_public_key(), message, signature)
        .map_err(|_| SignatureError::Wrong { kind: key.kind, key: key.id })
}

/// Whether some key may sign certificates by this algorithm; `algorithm` is the content of an AlgorithmIdentifier.
pub(crate) fn is_accepted(algorithm: &[u8]) -> bool {
    ALL.iter().any(|accepted| accepted.signature_alg_id().as_ref() == algorithm)
}

fn suits(algorithm: &dyn SignatureVerificationAlgorithm, kind: KeyKind) -> bool {
    use rustls_pki_types::alg_id;
    let key_algorithm = match kind {
        KeyKind::EcP256 => alg_id::ECDSA_P256,
        KeyKind::EcP384 => alg_id::ECDSA_P384,
        KeyKind::Ed25519 => alg_id::ED25519,
        KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => alg_id::RSA_ENCRYPTION,
    };
    algorithm.public_key_alg_id() == key_algorithm
}

const fn accepted(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::EcP256 | KeyKind::EcP384 => "ECDSA with SHA-256, SHA-384 or SHA-512",
        KeyKind::Ed25519 => "Ed25519",
        KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => {
            "RSA PKCS#1 v1.5 and RSA-PSS with SHA-256, SHA-384 or SHA-512"
        }
    }
}
