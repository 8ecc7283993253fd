//! Randomness from the seed: a stream for each purpose, so that more draws in one place change nothing in another.

use rand::{SeedableRng, rngs::StdRng};
use sha2::{Digest, Sha256};

/// A stream of random numbers.
pub type Stream = StdRng;

/// Where every stream of a run comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// The stream for a purpose, such as `disk of dc1/a`. The same seed and purpose give the same numbers.
    pub fn stream(self, purpose: &str) -> Stream {
        let mut hash = Sha256::new_with_prefix(self.0.to_le_bytes());
        hash.update(purpose.as_bytes());
        Stream::from_seed(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn streams_of_two_purposes_or_two_seeds_differ_and_the_same_one_repeats() {
        let first = |seed: u64, purpose: &str| Seed(seed).stream(purpose).next_u64();
        assert_eq!(first(1, "disk"), first(1, "disk"));
        assert_ne!(first(1, "disk"), first(1, "clock"));
        assert_ne!(first(1, "disk"), first(2, "disk"));
    }
}
