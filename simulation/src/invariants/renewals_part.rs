//! Leaves that were made together are renewed apart: each agent plans the renewal of a leaf at 45 to 55 % of its life, and those of one
//! world are not all planned at the same part of it (a herd that comes back every half life would never end).

use std::collections::BTreeSet;

use carrack::agent::leaf_cache::Listed;

use super::{Invariant, Scene};
use crate::world::agent::Knows;

/// The invariant's name.
const NAME: &str = "renewals_part";
/// Parts of a life, in thousands.
const WHOLE: u128 = 1000;
/// The first and the last part at which a leaf is renewed, with what whole seconds add.
const WINDOW: std::ops::RangeInclusive<u128> = 449..=551;
/// So many leaves are planned at one part of their lives by chance in no batch of seeds: each part has one chance in a hundred.
const LOCKSTEP_MIN: usize = 5;

/// See the module.
pub(super) struct RenewalsPart;

impl Invariant for RenewalsPart {
    fn finished(&mut self, scene: &Scene<'_>) {
        let knows: Vec<Knows> = scene.shared.agents.values().filter_map(|agent| agent.knows()).collect();
        let parts: Vec<u128> = knows.iter().flat_map(planned).collect();
        if let Some(text) = judge(&parts) {
            scene.shared.violate(NAME, text);
        }
    }
}

/// When an agent renews its leaves, those apart that could not be renewed, and those that its servers tell it to renew, or have told it: a
/// root that was left may be active again since.
fn planned(knows: &Knows) -> Vec<u128> {
    let bundle = knows.followed.bundle();
    let is_leaving = |leaf: &Listed| bundle.as_ref().is_some_and(|it| it.told.leaving.contains_key(&leaf.leaf.issuer));
    let leaves = knows.leaves.list();
    leaves.iter().filter(|leaf| leaf.failures == 0 && !leaf.is_told && !is_leaving(leaf)).map(part).collect()
}

fn part(listed: &Listed) -> u128 {
    let leaf = &listed.leaf;
    let life = leaf.not_after.since(leaf.not_before).as_millis();
    listed.renew_at.since(leaf.not_before).as_millis() * WHOLE / life.max(1)
}

fn judge(parts: &[u128]) -> Option<String> {
    if let Some(wrong) = parts.iter().find(|part| !WINDOW.contains(part)) {
        return Some(format!("a leaf is to be renewed at {wrong} thousandths of its life"));
    }
    let different: BTreeSet<&u128> = parts.iter().collect();
    (parts.len() >= LOCKSTEP_MIN && different.len() == 1)
        .then(|| format!("{} leaves are to be renewed at {} thousandths of their lives", parts.len(), parts[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewals_in_the_window_and_apart_are_good_and_others_are_found() {
        assert_eq!(judge(&[450, 500, 550, 500, 500]), None);
        assert_eq!(judge(&[500; LOCKSTEP_MIN - 1]), None);
        assert!(judge(&[500; LOCKSTEP_MIN]).is_some());
        assert!(judge(&[400]).is_some());
        assert!(judge(&[600]).is_some());
    }
}
