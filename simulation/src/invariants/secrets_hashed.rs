//! No secret of a token or of a join token is in clear on a disk, in an entry of the log or in a snapshot (Consul's ACL tokens are;
//! ours are stored as digests, as OWASP's session guidance asks). A client learns a secret after it was logged, so that what is
//! written is searched a while later, and all disks at the end.

use std::collections::{BTreeSet, VecDeque};

use super::{
    Invariant, Scene,
    seen::Told,
    written::{Written, written},
};
use crate::{
    crypto::registry::{Home, KeyRegistry, Secret},
    disk::DiskEvent,
    world::shared::Shared,
};

/// The invariant's name.
const NAME: &str = "secrets_hashed";
/// How long after it was written something is searched: longer than any client waits for the answer with the secret.
const SEARCHED_AFTER_MICROS: u64 = 30 * 1_000_000;

/// See the module.
#[derive(Default)]
pub(super) struct SecretsHashed {
    secrets: KeyRegistry,
    waiting: VecDeque<(u64, Written)>,
    known: BTreeSet<(u32, usize)>,
}

impl Invariant for SecretsHashed {
    fn disk(&mut self, scene: &Scene<'_>, host: &str, event: &DiskEvent) {
        let Some(written) = written(host, event) else { return };
        if self.known.insert((crc32c::crc32c(&written.bytes), written.bytes.len())) {
            self.waiting.push_back((scene.shared.clock.micros(), written));
        }
    }

    fn told(&mut self, _scene: &Scene<'_>, told: &Told) {
        if let Told::SecretLearnt { what, bytes, text } = told {
            let secret = Secret::new("secret", bytes).with_text(text);
            self.secrets.note(&Home::Host("a client".into()), what, [secret]);
        }
    }

    fn stepped(&mut self, scene: &Scene<'_>) {
        let now = scene.shared.clock.micros();
        while let Some((_, written)) = self.waiting.pop_front_if(|(at, _)| *at + SEARCHED_AFTER_MICROS < now) {
            self.search(scene.shared, &written);
        }
    }

    fn finished(&mut self, scene: &Scene<'_>) {
        for (_, written) in std::mem::take(&mut self.waiting) {
            self.search(scene.shared, &written);
        }
    }
}

impl SecretsHashed {
    fn search(&self, shared: &Shared, written: &Written) {
        for finding in self.secrets.search(&written.bytes) {
            shared.violate(NAME, format!("{} has {finding}", written.what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{Trial, append, reign};

    const TEXT: &str = "8f246b77-f3e1-ff88-5b48-8ec93abf3e05";

    fn log(text: &str) -> Trial {
        let (mut trial, mut invariant) = (Trial::new(), SecretsHashed::default());
        let event = DiskEvent::Appended { index: 1, bytes: format!("an entry with {text}").into_bytes().into() };
        trial.disk(&mut invariant, "a", &event);
        trial.disk(&mut invariant, "a", &append(2, reign(1, 1), 5));
        let bytes = uuid::Uuid::parse_str(TEXT).unwrap().as_bytes().to_vec();
        invariant.told(&trial.scene(), &Told::SecretLearnt { what: "token".into(), bytes, text: TEXT.into() });
        invariant.stepped(&trial.scene());
        trial.expect_good();
        invariant.finished(&trial.scene());
        trial
    }

    #[test]
    fn a_secret_that_is_learnt_after_it_was_logged_is_found() {
        log(TEXT).expect_broken(NAME);
        log("8f246b77-0000-ff88-5b48-8ec93abf3e05").expect_good();
    }
}
