//! Every server that may come to lead can open the roots' keys: each voter, of a joint configuration those of both sets, has a slot
//! of every sealed key (the architecture's sealing: a server is promoted only after the keys were sealed to it).

use std::collections::{BTreeMap, BTreeSet};

use carrack_authority::{
    WatchKey,
    id::NodeId,
    root::{Ca, SealedKey},
};

use super::{Invariant, Scene, view::View};

/// The invariant's name.
const NAME: &str = "every_voter_can_unseal";

/// See the module.
#[derive(Default)]
pub(super) struct EveryVoterCanUnseal {
    /// What was checked last on each host: the voters and the revisions of the roots.
    checked: BTreeMap<String, (BTreeSet<u64>, u64, u64)>,
}

impl Invariant for EveryVoterCanUnseal {
    fn looked(&mut self, scene: &Scene<'_>, host: &str, view: &View) {
        if !view.leads() {
            return;
        }
        let revision = |ca| view.state.modified(&WatchKey::Roots(ca)).0;
        let now = (view.voters.clone(), revision(Ca::Mesh), revision(Ca::Server));
        if self.checked.get(host) == Some(&now) {
            return;
        }
        for ca in [Ca::Mesh, Ca::Server] {
            for root in view.state.roots(ca).bundle() {
                let lacking = root.made.sealed_key.as_ref().map(|key| lacking(&view.voters, key)).unwrap_or_default();
                if !lacking.is_empty() {
                    let text =
                        format!("{ca:?} root {} is not sealed to the voters {lacking:?} of {host}", root.made.id);
                    scene.shared.violate(NAME, text);
                }
            }
        }
        self.checked.insert(host.to_owned(), now);
    }
}

fn lacking(voters: &BTreeSet<u64>, key: &SealedKey) -> Vec<u64> {
    voters.iter().copied().filter(|voter| !key.has_slot(NodeId(*voter))).collect()
}

#[cfg(test)]
mod tests {
    use carrack_authority::key::Der;

    use super::*;

    #[test]
    fn a_voter_without_a_slot_is_found_and_a_slot_without_a_voter_is_none() {
        let slots = [1, 2, 3].map(|node| (NodeId(node), String::new()));
        let key = SealedKey { ciphertext: Der::from(&b"key"[..]), slots: slots.to_vec(), recovery: None };
        assert!(lacking(&BTreeSet::from([1, 2]), &key).is_empty());
        assert_eq!(lacking(&BTreeSet::from([1, 2, 4]), &key), [4]);
    }
}
