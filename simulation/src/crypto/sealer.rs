//! The sealer of simulated servers: identities and files in the age format with randomness from the seed. Reading needs no
//! randomness: it is the real sealer's.

use std::fmt;

use carrack::keys::sealing::{
    AgeSealer, Recipient, SEALED_BYTES_MAX, SealError, Sealer, SealingIdentity, check_sealable,
};
use zeroize::Zeroizing;

use super::{
    age_file::{self, CHUNK_BYTES},
    entropy::{ProcessStart, SeededEntropy},
    registry::{Home, KeyRegistry, Secret},
};
use crate::random::Seed;

const _: () = assert!(SEALED_BYTES_MAX <= CHUNK_BYTES, "one chunk of the age format takes whatever is sealed");

/// Seals for one process.
pub struct SeededSealer {
    entropy: SeededEntropy,
    owner: Home,
    registry: KeyRegistry,
}

impl SeededSealer {
    /// The sealer of `process`; its identities are noted in `registry` as its host's.
    pub fn new(seed: Seed, process: &ProcessStart, registry: KeyRegistry) -> Self {
        let entropy = SeededEntropy::for_purpose(seed, "sealing", process);
        Self { entropy, owner: Home::Host(process.host.as_str().into()), registry }
    }
}

impl Sealer for SeededSealer {
    fn generate(&self) -> Result<SealingIdentity, SealError> {
        let private = Zeroizing::new(self.entropy.bytes::<32>());
        let (text, prefix) = age_file::identity_text(&private);
        self.registry.note(&self.owner, "age identity", [Secret::new("key", &*private).with_text(&text[prefix..])]);
        AgeSealer.read_identity(&text)
    }

    fn read_identity(&self, text: &str) -> Result<SealingIdentity, SealError> {
        AgeSealer.read_identity(text)
    }

    fn seal(&self, plaintext: &[u8], recipients: &[Recipient]) -> Result<Vec<u8>, SealError> {
        check_sealable(plaintext, recipients)?;
        let points = recipients.iter().map(|recipient| age_file::recipient_point(recipient.as_str()));
        let points: Vec<[u8; 32]> = points.collect::<Result<_, _>>().map_err(|_| SealError::NotSealed)?;
        age_file::encrypt(plaintext, &points, &self.entropy).map_err(|_| SealError::NotSealed)
    }

    fn unseal(&self, sealed: &[u8], identity: &SealingIdentity) -> Result<Zeroizing<Vec<u8>>, SealError> {
        AgeSealer.unseal(sealed, identity)
    }
}

impl fmt::Debug for SeededSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeededSealer(of {}, ...)", self.owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(seed: u64, host: &str) -> SeededSealer {
        SeededSealer::new(Seed(seed), &ProcessStart::new(host, 1), KeyRegistry::default())
    }

    #[test]
    fn the_real_sealer_reads_what_is_sealed_here_and_the_other_way_round() {
        let sealer = sealer(1, "a");
        let (server, recovery) = (sealer.generate().unwrap(), AgeSealer.generate().unwrap());
        let recipients = [server.recipient().clone(), recovery.recipient().clone()];
        for plaintext in [&b""[..], b"root key", &vec![3; SEALED_BYTES_MAX / 2]] {
            let here = sealer.seal(plaintext, &recipients).unwrap();
            let there = AgeSealer.seal(plaintext, &recipients).unwrap();
            for identity in [&server, &recovery] {
                assert_eq!(AgeSealer.unseal(&here, identity).unwrap().as_slice(), plaintext);
                assert_eq!(sealer.unseal(&there, identity).unwrap().as_slice(), plaintext);
            }
        }
    }

    #[test]
    fn whoever_is_no_recipient_opens_nothing() {
        let [first, second, third] = ["a", "b", "c"].map(|host| sealer(1, host).generate().unwrap());
        let recipients = [first.recipient().clone(), second.recipient().clone()];
        let sealed = sealer(1, "d").seal(b"root key", &recipients).unwrap();
        for identity in [&first, &second] {
            assert_eq!(sealer(1, "e").unseal(&sealed, identity).unwrap().as_slice(), b"root key");
        }
        let refused = sealer(1, "c").unseal(&sealed, &third).unwrap_err();
        assert_eq!(refused, SealError::NotForUs(third.recipient().clone()));
    }

    #[test]
    fn the_same_seed_makes_the_same_identities_and_files() {
        let run = |seed, host: &str| {
            let sealer = sealer(seed, host);
            let identity = sealer.generate().unwrap();
            let sealed = sealer.seal(b"root key", std::slice::from_ref(identity.recipient())).unwrap();
            (identity.expose_text().to_owned(), sealed)
        };
        assert_eq!(run(1, "a"), run(1, "a"));
        for other in [run(2, "a"), run(1, "b")] {
            assert_ne!(run(1, "a").0, other.0);
            assert_ne!(run(1, "a").1, other.1);
        }
    }

    #[test]
    fn what_the_real_sealer_refuses_is_refused_with_the_same_words() {
        let sealer = sealer(1, "a");
        let one = sealer.generate().unwrap().recipient().clone();
        let many = vec![one.clone(); 33];
        let large = vec![0; SEALED_BYTES_MAX + 1];
        let cases: [(&[u8], &[Recipient]); 4] =
            [(b"x", &[]), (b"x", &[one.clone(), one.clone()]), (b"x", &many), (&large, &many[..1])];
        for (plaintext, recipients) in cases {
            assert_eq!(sealer.seal(plaintext, recipients), AgeSealer.seal(plaintext, recipients));
            assert!(sealer.seal(plaintext, recipients).is_err());
        }
        assert_eq!(sealer.read_identity("age1").unwrap_err(), SealError::BadIdentity);
    }

    #[test]
    fn an_identity_is_noted_and_found_in_its_text_but_not_in_what_was_sealed_to_it() {
        let registry = KeyRegistry::default();
        let sealer = SeededSealer::new(Seed(1), &ProcessStart::new("a", 1), registry.clone());
        let identity = sealer.generate().unwrap();
        for text in [identity.expose_text().to_owned(), identity.expose_text().to_lowercase()] {
            assert_eq!(registry.search(text.as_bytes()).len(), 1);
        }
        let sealed = sealer.seal(b"root key", std::slice::from_ref(identity.recipient())).unwrap();
        for public in [&sealed[..], identity.recipient().as_str().as_bytes(), format!("{identity:?}").as_bytes()] {
            assert_eq!(registry.search(public), []);
        }
    }
}
