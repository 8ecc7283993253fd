//! Keys that sign nothing for a while, as those in a device that is gone.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use carrack::keys::secret::{KeyError, KeyMaker, SecretKey};
use carrack_authority::key::{KeyKind, PublicKey, Signer, SignerError};

/// Whether the keys of a server fail. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct FailingSwitch(Arc<AtomicBool>);

impl FailingSwitch {
    /// Lets them fail, or sign again.
    pub fn fail(&self, fails: bool) {
        self.0.store(fails, Ordering::Relaxed);
    }

    fn fails(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A key maker whose signers may fail.
pub struct FailingKeyMaker<M> {
    maker: M,
    switch: FailingSwitch,
}

impl<M> FailingKeyMaker<M> {
    /// The keys of `maker`, which fail while the switch is on.
    pub fn new(maker: M, switch: FailingSwitch) -> Self {
        Self { maker, switch }
    }
}

impl<M: KeyMaker> KeyMaker for FailingKeyMaker<M> {
    fn make(&self, kind: KeyKind) -> Result<SecretKey, KeyError> {
        self.maker.make(kind)
    }

    fn import(&self, pem: &str) -> Result<SecretKey, KeyError> {
        self.maker.import(pem)
    }

    fn signer(&self, key: &SecretKey) -> Result<Arc<dyn Signer>, KeyError> {
        let signer = self.maker.signer(key)?;
        Ok(Arc::new(FailingSigner { signer, switch: self.switch.clone() }))
    }
}

struct FailingSigner {
    signer: Arc<dyn Signer>,
    switch: FailingSwitch,
}

impl Signer for FailingSigner {
    fn public_key(&self) -> &PublicKey {
        self.signer.public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        if self.switch.fails() {
            let PublicKey { kind, id, .. } = *self.signer.public_key();
            return Err(SignerError { kind, id, reason: "the device that holds the key does not answer".into() });
        }
        self.signer.sign(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crypto::{entropy::ProcessStart, keys::SeededKeyMaker, registry::KeyRegistry},
        random::Seed,
    };

    #[test]
    fn a_key_fails_while_the_switch_is_on_and_signs_again_after() {
        let switch = FailingSwitch::default();
        let maker = SeededKeyMaker::new(Seed(1), &ProcessStart::new("a", 1), KeyRegistry::default());
        let maker = FailingKeyMaker::new(maker, switch.clone());
        let signer = maker.signer(&maker.make(KeyKind::EcP256).unwrap()).unwrap();
        let before = signer.sign(b"x").unwrap();
        switch.fail(true);
        assert!(signer.sign(b"x").unwrap_err().to_string().contains("does not answer"));
        switch.fail(false);
        assert_eq!(signer.sign(b"x").unwrap(), before);
    }
}
