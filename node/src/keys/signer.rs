//! Signs with a private key held in this process's memory.

use std::fmt;

use aws_lc_rs::{rand::SystemRandom, signature::RSA_PKCS1_SHA256};
use carrack_authority::key::{PublicKey, Signer, SignerError};

use super::{
    aws_lc::KeyPair,
    secret::{KeyError, SecretKey},
};

/// A signer whose key is in memory: ECDSA P-256 with SHA-256, P-384 with SHA-384, Ed25519, RSA PKCS#1 v1.5 with SHA-256.
pub struct SoftwareSigner {
    pair: KeyPair,
    public_key: PublicKey,
    random: SystemRandom,
}

impl SoftwareSigner {
    /// The signer of `key`.
    pub fn new(key: &SecretKey) -> Result<Self, KeyError> {
        let kind = key.kind();
        let pair = KeyPair::from_pkcs8(kind, key.expose_pkcs8()).ok_or(KeyError::Damaged { kind })?;
        let public_key = pair.spki().and_then(|spki| PublicKey::from_spki(&spki).ok());
        let public_key = public_key.filter(|found| found.kind == kind).ok_or(KeyError::Damaged { kind })?;
        Ok(Self { pair, public_key, random: SystemRandom::new() })
    }

    fn refusal(&self) -> SignerError {
        let reason = "the cryptographic library refused".into();
        SignerError { kind: self.public_key.kind, id: self.public_key.id, reason }
    }
}

impl Signer for SoftwareSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        match &self.pair {
            KeyPair::Ec(_, pair) => pair.sign(&self.random, message).map(|signature| signature.as_ref().to_vec()).ok(),
            KeyPair::Ed25519(pair) => pair.try_sign(message).map(|signature| signature.as_ref().to_vec()).ok(),
            KeyPair::Rsa(_, pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &self.random, message, &mut signature).map(|()| signature).ok()
            }
        }
        .ok_or_else(|| self.refusal())
    }
}

impl fmt::Debug for SoftwareSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SoftwareSigner({} {}, ...)", self.public_key.kind, self.public_key.id)
    }
}

#[cfg(test)]
mod tests;
