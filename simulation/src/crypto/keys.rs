//! The key maker of simulated servers: keys from the seed, signatures without chance, each key noted for the invariant that
//! keys stay at home. Keys and signatures have the real ones' formats, and aws-lc reads and verifies them.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    signature::Ed25519KeyPair,
};
use carrack::keys::{
    aws_lc::AwsLcKeyMaker,
    secret::{KeyError, KeyMaker, SecretKey},
    signer::SoftwareSigner,
};
use carrack_authority::key::{KeyKind, Signer};
use carrack_raft::ports::Entropy as _;
use zeroize::Zeroizing;

use super::{
    curves::{CurveSigner, SCALAR_BYTES_MAX, key_of_scalar, scalar_bytes},
    entropy::{ProcessStart, SeededEntropy},
    registry::{Home, KeyRegistry, Secret},
    rsa_pool,
};
use crate::random::Seed;

/// Makes the keys of one process.
pub struct SeededKeyMaker {
    entropy: SeededEntropy,
    owner: Home,
    registry: KeyRegistry,
}

impl SeededKeyMaker {
    /// The key maker of `process`; its keys are noted in `registry` as its host's.
    pub fn new(seed: Seed, process: &ProcessStart, registry: KeyRegistry) -> Self {
        let entropy = SeededEntropy::for_purpose(seed, "keys", process);
        Self { entropy, owner: Home::Host(process.host.as_str().into()), registry }
    }

    fn make_on_curve(&self, kind: KeyKind) -> SecretKey {
        let mut room = Zeroizing::new([0; SCALAR_BYTES_MAX]);
        let scalar = &mut room[..scalar_bytes(kind)];
        loop {
            // One in 2^32 drawn scalars is not below the order of P-256, fewer of P-384.
            self.entropy.fill(scalar);
            if let Some(key) = key_of_scalar(kind, scalar) {
                self.registry.note(&self.owner, kind, [Secret::new("scalar", scalar)]);
                return key;
            }
        }
    }

    fn make_ed25519(&self) -> Option<SecretKey> {
        let seed = Zeroizing::new(self.entropy.bytes::<32>());
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).ok()?;
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der().ok()?;
        self.registry.note(&self.owner, KeyKind::Ed25519, [Secret::new("seed", &*seed)]);
        Some(SecretKey::from_checked_pkcs8(KeyKind::Ed25519, Zeroizing::new(pkcs8.as_ref().to_vec())))
    }

    fn choose_rsa(&self, kind: KeyKind) -> Result<SecretKey, KeyError> {
        let [drawn] = self.entropy.bytes();
        let key = rsa_pool::choose(kind, drawn)?;
        let secrets = rsa_pool::secrets(&key).ok_or(KeyError::Damaged { kind })?;
        self.registry.note(&Home::Pool, kind, secrets.map(|(what, bytes)| Secret::new(what, &bytes)));
        Ok(key)
    }
}

impl KeyMaker for SeededKeyMaker {
    fn make(&self, kind: KeyKind) -> Result<SecretKey, KeyError> {
        match kind {
            KeyKind::EcP256 | KeyKind::EcP384 => Ok(self.make_on_curve(kind)),
            KeyKind::Ed25519 => self.make_ed25519().ok_or(KeyError::NotMade { kind }),
            KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => self.choose_rsa(kind),
        }
    }

    fn import(&self, pem: &str) -> Result<SecretKey, KeyError> {
        AwsLcKeyMaker.import(pem)
    }

    fn signer(&self, key: &SecretKey) -> Result<Arc<dyn Signer>, KeyError> {
        let real = SoftwareSigner::new(key)?;
        if !matches!(key.kind(), KeyKind::EcP256 | KeyKind::EcP384) {
            // Ed25519 (RFC 8032) and RSA PKCS#1 v1.5 have no random input; RSA's blinding leaves no trace in the signature.
            return Ok(Arc::new(real));
        }
        Ok(Arc::new(CurveSigner::new(key, real.public_key().clone())?))
    }
}

impl fmt::Debug for SeededKeyMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeededKeyMaker(of {}, ...)", self.owner)
    }
}

#[cfg(test)]
mod tests;
