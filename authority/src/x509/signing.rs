//! Lets rcgen encode, and our [`Signer`] sign. rcgen's own error has no room for the reason, so it is kept beside it.

use std::cell::RefCell;

use rcgen::{PublicKeyData, SignatureAlgorithm, SigningKey};

use crate::key::{KeyKind, PublicKey, Signer, SignerError};

/// Why nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// The key's keeper refused.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The encoder refused what it was given.
    #[error("the encoder refused: {reason}")]
    Encoder {
        /// What it said.
        reason: String,
    },
}

/// A signer as rcgen sees it, for one signature.
pub(crate) struct SigningAdapter<'a> {
    signer: &'a dyn Signer,
    failure: RefCell<Option<SignerError>>,
}

impl<'a> SigningAdapter<'a> {
    pub(crate) const fn new(signer: &'a dyn Signer) -> Self {
        Self { signer, failure: RefCell::new(None) }
    }

    /// The signer's error, if that was the cause.
    pub(crate) fn explain(&self, error: &rcgen::Error) -> SigningError {
        match self.failure.take() {
            Some(failure) => SigningError::Signer(failure),
            None => SigningError::Encoder { reason: error.to_string() },
        }
    }
}

impl PublicKeyData for SigningAdapter<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.signer.public_key().subject_public_key()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        algorithm_of(self.signer.public_key().kind)
    }
}

impl SigningKey for SigningAdapter<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.signer.sign(message).map_err(|failure| {
            self.failure.replace(Some(failure));
            rcgen::Error::RemoteKeyError
        })
    }
}

/// A public key as rcgen sees it, by the kind that was read from its own SubjectPublicKeyInfo.
pub(crate) struct SubjectKey<'a>(pub(crate) &'a PublicKey);

impl PublicKeyData for SubjectKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.subject_public_key()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        algorithm_of(self.0.kind)
    }
}

fn algorithm_of(kind: KeyKind) -> &'static SignatureAlgorithm {
    match kind {
        KeyKind::EcP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        KeyKind::EcP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        KeyKind::Ed25519 => &rcgen::PKCS_ED25519,
        KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => &rcgen::PKCS_RSA_SHA256,
    }
}
