//! Which servers another datacenter has, as far as it has told: enough to refuse a removed one for ever, in the room of a few numbers.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    id::NodeId,
    member::{FIRST_NODE_MAX, MEMBERS_MAX},
};

/// The servers of another datacenter. Ids are given in ascending order and never again, so that these few numbers say of every id
/// that was given whether its server was removed. A higher id is that of a server that joined since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownServers {
    /// The ids of those that it has, in ascending order.
    pub present: Vec<NodeId>,
    /// The id that its next server gets.
    pub next: NodeId,
}

impl KnownServers {
    /// Whether the server was removed there.
    pub fn is_removed(&self, node: NodeId) -> bool {
        node < self.next && !self.present.contains(&node)
    }

    /// What is known when this is heard as well. Who was removed once stays so, in whichever order the two were said.
    pub fn with(&self, heard: &Self) -> Self {
        let all: BTreeSet<NodeId> = self.present.iter().chain(&heard.present).copied().collect();
        let present = all.into_iter().filter(|node| !self.is_removed(*node) && !heard.is_removed(*node));
        Self { present: present.collect(), next: self.next.max(heard.next) }
    }

    /// Why no datacenter can have these servers, if so.
    pub(crate) fn fault(&self) -> Option<String> {
        let count = self.present.len();
        if count > MEMBERS_MAX {
            return Some(format!("there are {count} servers, at most {MEMBERS_MAX} are allowed"));
        }
        if !self.present.is_sorted_by(|one, next| one < next) {
            return Some("their ids are not in ascending order".into());
        }
        let last = self.present.last().copied().unwrap_or_default();
        let next = self.next;
        (last >= next || next.0 > NEXT_MAX).then(|| format!("the next id {next} is not above {last}, or is no id"))
    }
}

/// How many servers may have joined another datacenter between two of its announcements: it tells each change, and after a year behind a
/// broken WAN this is still more than any has replaced. A wrong number, once believed, would refuse every server to come as removed.
pub const SERVERS_AT_ONCE_MAX: u64 = 4_096;
/// The highest next id: no datacenter gets there by counting from its first.
const NEXT_MAX: u64 = 2 * FIRST_NODE_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(present: &[u64], next: u64) -> KnownServers {
        KnownServers { present: present.iter().copied().map(NodeId).collect(), next: NodeId(next) }
    }

    #[test]
    fn every_id_that_was_given_and_is_not_there_was_removed() {
        let known = servers(&[2, 4], 6);
        let removed: Vec<u64> = (0..9).filter(|node| known.is_removed(NodeId(*node))).collect();
        assert_eq!(removed, [0, 1, 3, 5]);
    }

    #[test]
    fn who_was_removed_once_stays_so_whichever_was_said_first() {
        let said = [servers(&[1, 2, 3], 4), servers(&[1, 3], 4), servers(&[3, 4, 5], 6), servers(&[5], 9)];
        for one in &said {
            for other in &said {
                let both = one.with(other);
                assert_eq!(both, other.with(one));
                assert_eq!(both.fault(), None);
                for node in (0..12).map(NodeId) {
                    assert_eq!(both.is_removed(node), one.is_removed(node) || other.is_removed(node), "{node}");
                }
            }
        }
    }

    #[test]
    fn what_no_datacenter_can_have_is_named() {
        assert_eq!(servers(&[], 1).fault(), None);
        let many: Vec<u64> = (1..=MEMBERS_MAX as u64 + 1).collect();
        for (wrong, reason) in [
            (servers(&many, 100), "at most 11"),
            (servers(&[2, 1], 3), "ascending"),
            (servers(&[1, 1], 3), "ascending"),
            (servers(&[1, 3], 3), "the next id 3 is not above 3"),
            (servers(&[], u64::MAX), "is no id"),
        ] {
            assert!(wrong.fault().is_some_and(|fault| fault.contains(reason)), "{wrong:?}");
        }
    }
}
