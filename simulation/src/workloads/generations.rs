//! Which root came after which, and since which revision of each datacenter it is in the bundle. The bridge is one generation deep: a
//! verifier without an agent holds through one rotation after it has fetched its bundle, and through no second one. A root without a
//! bridge is good where it is in the bundle.

use std::collections::{BTreeMap, BTreeSet};

use carrack_authority::{
    State,
    id::{KeyId, Revision},
    root::Ca,
    rotation::{Rotation, RotationCause},
};

use crate::world::PRIMARY;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Generations {
    published: BTreeMap<(usize, KeyId), Revision>,
    former: BTreeMap<KeyId, KeyId>,
    without_bridge: BTreeSet<KeyId>,
}

impl Generations {
    /// Notes what an entry of a datacenter has changed.
    pub(crate) fn note(&mut self, datacenter: usize, before: &State, after: &State) {
        for root in after.roots(Ca::Mesh).bundle() {
            self.note_published(datacenter, root.made.id, root.created);
        }
        let active = |state: &State| state.roots(Ca::Mesh).active().map(|root| root.made.id);
        // A secondary may leave activations out.
        if let (PRIMARY, Some(former), Some(active)) = (datacenter, active(before), active(after))
            && former != active
        {
            self.note_activated(former, active);
            // As it was decided, not as it came about. A root that becomes active again keeps the bridge that it had.
            let is_decided = |rotation: &Rotation| !rotation.is_bridged && rotation.cause != RotationCause::RollBack;
            if after.rotation().is_some_and(|it| it.root == Some(active) && is_decided(it)) {
                self.without_bridge.insert(active);
            }
        }
    }

    /// Whether a root came without a bridge, and is in no bundle of this revision of a datacenter.
    pub(crate) fn is_unknown(&self, datacenter: usize, revision: Revision, root: &KeyId) -> bool {
        let published = self.published.get(&(datacenter, *root));
        self.without_bridge.contains(root) && published.is_none_or(|published| revision < *published)
    }

    fn note_published(&mut self, datacenter: usize, root: KeyId, created: Revision) {
        self.published.entry((datacenter, root)).or_insert(created);
    }

    fn note_activated(&mut self, former: KeyId, active: KeyId) {
        self.former.entry(active).or_insert(former);
    }

    /// Whether a bundle of this revision of a datacenter is from before the root above a leaf, and from before the one that signed the
    /// bridge to it, or, where none is served, from before the one that was active before it.
    pub(crate) fn is_too_old(
        &self,
        datacenter: usize,
        revision: Revision,
        root: &KeyId,
        bridged_from: Option<&KeyId>,
    ) -> bool {
        let is_before = |root: &KeyId| self.published.get(&(datacenter, *root)).is_some_and(|it| revision < *it);
        self.is_unknown(datacenter, revision, root)
            || (is_before(root) && bridged_from.or_else(|| self.former.get(root)).is_some_and(is_before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_holds_through_one_rotation_and_not_through_two() {
        let id = |number: u8| KeyId([number; 20]);
        let mut generations = Generations::default();
        for (root, created) in [(1, 2), (2, 5), (3, 8)] {
            generations.note_published(0, id(root), Revision(created));
        }
        generations.note_activated(id(1), id(2));
        generations.note_activated(id(2), id(3));
        for (revision, root, is_too_old) in [(2, 1, false), (2, 2, false), (2, 3, true), (5, 3, false), (9, 3, false)] {
            let found = generations.is_too_old(0, Revision(revision), &id(root), None);
            assert_eq!(found, is_too_old, "bundle of {revision}, root {root}");
        }
        assert!(!generations.is_too_old(1, Revision(0), &id(3), None), "of a datacenter of which nothing was noted");
        // After a roll back it has the bridge that it had.
        generations.note_activated(id(3), id(2));
        assert!(!generations.is_too_old(0, Revision(2), &id(2), Some(&id(1))));
        assert!(!generations.is_too_old(0, Revision(2), &id(2), None));
    }

    #[test]
    fn a_root_without_a_bridge_is_good_where_it_is_in_the_bundle() {
        let id = |number: u8| KeyId([number; 20]);
        let mut generations = Generations::default();
        generations.note_published(0, id(1), Revision(2));
        generations.note_published(0, id(2), Revision(5));
        generations.note_activated(id(1), id(2));
        assert!(!generations.is_too_old(0, Revision(2), &id(2), None), "it has a bridge");
        generations.without_bridge.insert(id(2));
        for (datacenter, revision, is_unknown) in [(0, 4, true), (0, 5, false), (1, 9, true)] {
            assert_eq!(generations.is_unknown(datacenter, Revision(revision), &id(2)), is_unknown);
            assert_eq!(generations.is_too_old(datacenter, Revision(revision), &id(2), None), is_unknown);
        }
    }
}
