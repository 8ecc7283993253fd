//! A write wakes those alone whom it is about: a blocking query about the intentions of a destination comes back with a newer index only
//! if something of that destination, or of `*`, was written since. Destinations without intentions share the revision at which the last
//! one lost its own.

use std::collections::{BTreeMap, BTreeSet};

use carrack_authority::{State, intention::Party};

use super::{
    Invariant, Scene,
    seen::{Applied, Told},
};

/// The invariant's name.
const NAME: &str = "wakes_its_own";
const ANY: &str = "*";

/// See the module.
#[derive(Default)]
pub(super) struct WakesItsOwn {
    /// The destinations that an entry wrote, and whether it left one without any.
    written: BTreeMap<u64, (BTreeSet<String>, bool)>,
}

impl Invariant for WakesItsOwn {
    fn decided(&mut self, _scene: &Scene<'_>, applied: &Applied) {
        let written = differing(&applied.before, &applied.after);
        if !written.is_empty() {
            let has = |name: &String| {
                Party::parse("destination", name).is_ok_and(|it| applied.after.intentions().has_destination(&it))
            };
            let is_one_empty = !written.iter().all(has);
            self.written.insert(applied.index, (written, is_one_empty));
        }
    }

    fn told(&mut self, scene: &Scene<'_>, told: &Told) {
        let Told::Woken { host, destination, after, index, .. } = told else { return };
        if *after == 0 || index <= after {
            return;
        }
        let mut since = self.written.range(after + 1..=*index);
        let is_about = |(_, (written, is_one_empty)): (&u64, &(BTreeSet<String>, bool))| {
            *is_one_empty || written.contains(destination) || written.contains(ANY)
        };
        if !since.any(is_about) {
            let text = format!(
                "a query about the intentions of {destination} on {host} came back with index {index} after {after}: nothing of it was written"
            );
            scene.shared.violate(NAME, text);
        }
    }
}

/// The destinations of which a row is not the same in both.
fn differing(before: &State, after: &State) -> BTreeSet<String> {
    let rows =
        |state: &State| -> BTreeMap<_, _> { state.intentions().all().map(|row| (row.key(), row.clone())).collect() };
    let (before, after) = (rows(before), rows(after));
    let keys = before.keys().chain(after.keys());
    let changed = keys.filter(|key| before.get(*key) != after.get(*key));
    changed.filter_map(|key| Some(after.get(key).or(before.get(key))?.destination.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::Trial;

    fn woken(invariant: &mut WakesItsOwn, after: u64, index: u64) -> Trial {
        let trial = Trial::new();
        let (host, destination) = ("a".into(), "db".into());
        invariant.told(&trial.scene(), &Told::Woken { datacenter: 0, host, destination, after, index });
        trial
    }

    #[test]
    fn a_query_that_comes_back_for_a_write_of_another_destination_is_found() {
        let own = |name: &str| (BTreeSet::from([name.to_owned()]), false);
        let mut invariant = WakesItsOwn { written: BTreeMap::from([(5, own("db")), (6, own("web")), (7, own("*"))]) };
        woken(&mut invariant, 4, 5).expect_good();
        woken(&mut invariant, 6, 7).expect_good();
        woken(&mut invariant, 6, 6).expect_good();
        woken(&mut invariant, 5, 6).expect_broken(NAME);
    }
}
