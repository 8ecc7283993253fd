//! Which of several intentions comes first: Consul's table, for the one namespace that there is.

use std::cmp::Reverse;

use super::{Intention, Party};

/// The precedence of an intention: the more exact its destination, then its source, the higher.
const fn precedence(destination: &Party, source: &Party) -> u8 {
    match (destination, source) {
        (Party::Service(_), Party::Service(_)) => 9,
        (Party::Service(_), Party::Any) => 8,
        (Party::Any, Party::Service(_)) => 6,
        (Party::Any, Party::Any) => 5,
    }
}

impl Intention {
    /// Its precedence: the highest among those that are about source and destination decides.
    pub const fn precedence(&self) -> u8 {
        precedence(&self.destination, &self.source)
    }

    /// By this intentions are sorted: those of higher precedence first, then by the names of source and destination.
    pub fn order(&self) -> (Reverse<u8>, &str, &str) {
        (Reverse(self.precedence()), self.source.as_str(), self.destination.as_str())
    }
}
