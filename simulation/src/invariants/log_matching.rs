//! Log matching (Raft thesis, section 3.5): two logs that have an entry of the same term, leader and index have the same entry
//! there, and the same before it. By induction it is enough that the entry just before has the same term and leader.

use std::collections::BTreeMap;

use super::{Invariant, Scene, stores::Reign};
use crate::disk::DiskEvent;

/// The invariant's name.
const NAME: &str = "log_matching";

/// See the module.
#[derive(Default)]
pub(super) struct LogMatching {
    entries: BTreeMap<(u64, Reign), First>,
}

/// An entry as it was seen first.
struct First {
    host: String,
    checksum: u32,
    former: Option<Reign>,
}

impl Invariant for LogMatching {
    fn disk(&mut self, scene: &Scene<'_>, host: &str, event: &DiskEvent) {
        let DiskEvent::Appended { index, .. } = event else { return };
        let Some(store) = scene.stores.of(host) else { return };
        let Some(entry) = store.entries.get(index) else { return };
        let former = index.checked_sub(1).and_then(|former| store.reign(former));
        let Some(first) = self.entries.get_mut(&(*index, entry.reign)) else {
            let first = First { host: host.to_owned(), checksum: entry.checksum, former };
            self.entries.insert((*index, entry.reign), first);
            return;
        };
        if first.checksum != entry.checksum {
            let text = format!("entry {index} of {:?} differs between {} and {host}", entry.reign, first.host);
            scene.shared.violate(NAME, text);
        }
        match (first.former, former) {
            (Some(one), Some(other)) if one != other => {
                let text = format!(
                    "entry {index} of {:?} follows one of {one:?} on {} and one of {other:?} on {host}",
                    entry.reign, first.host
                );
                scene.shared.violate(NAME, text);
            }
            (None, Some(_)) => first.former = former,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{Trial, append, reign};

    type Content = (u64, Reign, u64);

    fn logs(logs: &[(&str, &[Content])]) -> Trial {
        let (mut trial, mut invariant) = (Trial::new(), LogMatching::default());
        for (host, entries) in logs {
            for (index, reign, content) in *entries {
                trial.disk(&mut invariant, host, &append(*index, *reign, *content));
            }
        }
        trial
    }

    #[test]
    fn equal_entries_and_entries_of_different_leaders_match() {
        let one = [(0, reign(1, 1), 7), (1, reign(2, 1), 8)];
        let other = [(0, reign(1, 1), 7), (1, reign(2, 2), 9)];
        logs(&[("a", &one), ("b", &one), ("c", &other)]).expect_good();
    }

    #[test]
    fn an_entry_with_another_content_is_found() {
        logs(&[("a", &[(0, reign(1, 1), 7)]), ("b", &[(0, reign(1, 1), 8)])]).expect_broken(NAME);
    }

    #[test]
    fn an_entry_after_another_one_is_found() {
        let one = [(0, reign(1, 1), 7), (1, reign(2, 1), 8)];
        let other = [(0, reign(1, 2), 7), (1, reign(2, 1), 8)];
        logs(&[("a", &one), ("b", &other)]).expect_broken(NAME);
    }
}
