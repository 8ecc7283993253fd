//! Lets rcgen encode, and our [`Signer`] sign. rcgen's own error has no room for the reason, so it is kept beside it.
//!
//! Names of other certificates are put in byte by byte: rcgen cannot write every name that a company's CA has (an attribute that
//! is there twice, as `DC=example, DC=com`), and verifiers that compare bytes find no path with a name that was written anew.

use std::cell::RefCell;

use rcgen::{CertificateParams, PublicKeyData, SignatureAlgorithm, SigningKey};

use super::der::{self, DerError, Reader, tag};
use crate::{
    key::{Der, KeyKind, PublicKey, Signer, SignerError},
    planted::{self, Bug},
};

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
    /// What the encoder wrote is not what X.509 says.
    #[error("the encoder wrote what cannot be read: {0}")]
    Encoded(#[from] DerError),
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

/// The names of a certificate, where they are another certificate's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names<'a> {
    /// The subject of the one that signs.
    pub(crate) issuer: &'a Der,
    /// The subject, unless the template has it.
    pub(crate) subject: Option<&'a Der>,
}

/// Signs a certificate by a template. `params` tell what the encoder is to know of the issuer, beside its name.
pub(crate) fn sign_certificate(
    template: &CertificateParams,
    key: &PublicKey,
    params: &CertificateParams,
    names: Names<'_>,
    signer: &dyn Signer,
) -> Result<Vec<u8>, SigningError> {
    let is_misnamed = names.subject.is_some() && planted::is(Bug::BridgeByWrongAlgorithm);
    let unsigned = Unsigned(if is_misnamed { key } else { signer.public_key() });
    let encoder = rcgen::Issuer::from_params(params, &unsigned);
    let encoded = template.signed_by(&SubjectKey(key), &encoder);
    let encoded = encoded.map_err(|error| SigningError::Encoder { reason: error.to_string() })?;
    let mut parts = Reader::single(encoded.der(), tag::SEQUENCE, "certificate")?.inside();
    let to_be_signed = with_names(parts.expect(tag::SEQUENCE, "signed part")?.inside(), names)?;
    let algorithm = parts.expect(tag::SEQUENCE, "signature algorithm")?.whole;
    let signature = signer.sign(&to_be_signed)?;
    let signature = der::write(tag::BIT_STRING, &[&[0], &signature]);
    Ok(der::write(tag::SEQUENCE, &[&to_be_signed, algorithm, &signature]))
}

/// The fields of a TBSCertificate (RFC 5280 section 4.1) with these names among them.
fn with_names(mut fields: Reader<'_>, names: Names<'_>) -> Result<Vec<u8>, DerError> {
    let mut parts = Vec::with_capacity(TBS_FIELDS);
    while !fields.is_empty() {
        let field = fields.any()?.whole;
        parts.push(match (parts.len(), names.subject) {
            (ISSUER_PLACE, _) => names.issuer.as_bytes(),
            (SUBJECT_PLACE, Some(subject)) => subject.as_bytes(),
            _ => field,
        });
    }
    Ok(der::write(tag::SEQUENCE, &parts))
}

/// Version, serial number, algorithm, issuer, validity, subject, key, extensions.
const TBS_FIELDS: usize = 8;
const ISSUER_PLACE: usize = 3;
const SUBJECT_PLACE: usize = 5;

/// The key that will sign, for an encoder whose certificate is signed afterwards.
struct Unsigned<'a>(&'a PublicKey);

impl PublicKeyData for Unsigned<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.subject_public_key()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        algorithm_of(self.0.kind)
    }
}

impl SigningKey for Unsigned<'_> {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Vec::new())
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
