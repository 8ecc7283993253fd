//! Random bytes from the seed. Each start of a process has its own stream: a server that restarts repeats no number.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use carrack_raft::ports::Entropy;
use rand::Rng as _;

use crate::random::{Seed, Stream};

/// One start of the process of one host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessStart {
    /// The host, such as `dc1/a`.
    pub host: String,
    /// Which start it is, counted by whoever starts hosts.
    pub number: u64,
}

impl ProcessStart {
    /// Start `number` of `host`.
    pub fn new(host: impl Into<String>, number: u64) -> Self {
        Self { host: host.into(), number }
    }
}

impl fmt::Display for ProcessStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, start {}", self.host, self.number)
    }
}

/// The entropy port of one process.
pub struct SeededEntropy(Mutex<Stream>);

impl SeededEntropy {
    /// The stream `entropy of {process}`.
    pub fn new(seed: Seed, process: &ProcessStart) -> Self {
        Self::for_purpose(seed, "entropy", process)
    }

    /// The stream `{purpose} of {process}`: keys and sealing draw from their own, so that one more random number of the
    /// servers changes no key.
    pub(super) fn for_purpose(seed: Seed, purpose: &str, process: &ProcessStart) -> Self {
        Self(Mutex::new(seed.stream(&format!("{purpose} of {process}"))))
    }

    /// The next bytes.
    pub(super) fn bytes<const LENGTH: usize>(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        self.fill(&mut bytes);
        bytes
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        // A panic elsewhere cannot have left the stream half changed: drawing is all that happens under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
    }
}

impl fmt::Debug for SeededEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeededEntropy(...)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_draws_the_same_bytes_again_and_others_or_after_a_restart_different_ones() {
        let first = |seed, host: &str, number| {
            let entropy = SeededEntropy::new(Seed(seed), &ProcessStart::new(host, number));
            entropy.bytes::<16>()
        };
        assert_eq!(first(1, "a", 1), first(1, "a", 1));
        for other in [first(2, "a", 1), first(1, "b", 1), first(1, "a", 2)] {
            assert_ne!(first(1, "a", 1), other);
        }
    }

    #[test]
    fn a_stream_does_not_repeat_itself() {
        let entropy = SeededEntropy::new(Seed(1), &ProcessStart::new("a", 1));
        assert_ne!(entropy.bytes::<16>(), entropy.bytes::<16>());
    }
}
