//! State machine safety (Raft thesis, section 3.6.3): no two servers apply different entries at an index, and what an entry leads
//! to is the same everywhere. The first server that applies an entry decides what the others are compared with.

use std::collections::BTreeMap;

use super::seen::{Applied, DIGEST_BYTES};
use crate::world::shared::Shared;

/// The invariant's name.
const NAME: &str = "state_machine_safety";

/// The digests of everything that was ever applied.
#[derive(Default)]
pub(super) struct Ledger {
    entries: BTreeMap<u64, [u8; DIGEST_BYTES]>,
}

impl Ledger {
    /// Compares an entry with what others have applied there; whether nobody has.
    pub(super) fn judge(&mut self, shared: &Shared, applied: &Applied) -> bool {
        match self.entries.get(&applied.index) {
            Some(digest) => {
                if *digest != applied.digest {
                    let text =
                        format!("{} applies another entry {} than others, or otherwise", applied.host, applied.index);
                    shared.violate(NAME, text);
                }
                false
            }
            None => {
                if let Some((last, _)) = self.entries.last_key_value().filter(|(last, _)| **last > applied.index) {
                    let text = format!(
                        "{} applies entry {}, which nobody had when {last} was applied",
                        applied.host, applied.index
                    );
                    shared.violate(NAME, text);
                }
                self.entries.insert(applied.index, applied.digest);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{Trial, applied};

    #[test]
    fn equal_entries_are_decided_once() {
        let (trial, mut ledger) = (Trial::new(), Ledger::default());
        assert!(ledger.judge(&trial.shared, &applied("a", 1, &[], &[])));
        assert!(!ledger.judge(&trial.shared, &applied("b", 1, &[], &[])));
        assert!(ledger.judge(&trial.shared, &applied("b", 3, &[], &[])));
        trial.expect_good();
    }

    #[test]
    fn an_entry_that_is_decided_otherwise_is_found() {
        let (trial, mut ledger) = (Trial::new(), Ledger::default());
        ledger.judge(&trial.shared, &applied("a", 1, &[], &[]));
        ledger.judge(&trial.shared, &applied("b", 1, &[], &[carrack_authority::Outcome::Done]));
        trial.expect_broken(NAME);
    }

    #[test]
    fn an_entry_that_comes_late_is_found() {
        let (trial, mut ledger) = (Trial::new(), Ledger::default());
        ledger.judge(&trial.shared, &applied("a", 5, &[], &[]));
        ledger.judge(&trial.shared, &applied("a", 4, &[], &[]));
        trial.expect_broken(NAME);
    }
}
