//! The keys of the state machine (openraft's own simulation, invariant "state machine keys"): what a state says about itself fits
//! the entries that it was made of. Its index is the entry's, no table was changed by a later entry, none loses its last change.

use carrack_authority::{WatchKey, root::Ca};

use super::{
    Invariant, Scene,
    seen::{Applied, Installed},
    view::View,
};

/// The invariant's name.
const NAME: &str = "state_machine_keys";
/// The tables of a state.
const TABLES: [WatchKey; 20] = [
    WatchKey::Cluster,
    WatchKey::Members,
    WatchKey::JoinTokens,
    WatchKey::Roots(Ca::Mesh),
    WatchKey::Roots(Ca::Server),
    WatchKey::Issuers,
    WatchKey::CaConfig,
    WatchKey::Issuances,
    WatchKey::Tokens,
    WatchKey::Policies,
    WatchKey::Datacenters,
    WatchKey::FederationTokens,
    WatchKey::RemoteIssuers,
    WatchKey::Followed,
    WatchKey::Agents,
    WatchKey::AgentTokens,
    WatchKey::Intentions,
    WatchKey::Revocations,
    WatchKey::Acknowledgements,
    WatchKey::RevokedIssuers,
];

/// See the module.
pub(super) struct StateMachineKeys;

impl Invariant for StateMachineKeys {
    fn decided(&mut self, scene: &Scene<'_>, applied: &Applied) {
        let (index, before, after) = (applied.index, &applied.before, &applied.after);
        if after.index() != index || before.index() >= index {
            let text = format!("entry {index} leads from the state of {} to that of {}", before.index(), after.index());
            scene.shared.violate(NAME, text);
        }
        for key in TABLES {
            let (was, is) = (before.modified(&key).0, after.modified(&key).0);
            if is != was && is != index {
                scene.shared.violate(NAME, format!("entry {index}: {key:?} was changed at {was}, and now at {is}"));
            }
        }
        if applied.outcomes.len() != applied.commands.proposals.len() {
            scene.shared.violate(NAME, format!("entry {index}: {} outcomes", applied.outcomes.len()));
        }
    }

    fn installed(&mut self, scene: &Scene<'_>, installed: &Installed) {
        let (index, state) = (installed.index, &installed.state);
        if state.index() > index || TABLES.iter().any(|key| state.modified(key).0 > index) {
            let text = format!("{} installs a snapshot of {index} with later changes", installed.host);
            scene.shared.violate(NAME, text);
        }
    }

    fn looked(&mut self, scene: &Scene<'_>, host: &str, view: &View) {
        if view.state.index() > view.applied {
            let text = format!("{host} shows the state of {} as that of {}", view.state.index(), view.applied);
            scene.shared.violate(NAME, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{Trial, applied, stamped};

    #[test]
    fn a_state_that_follows_its_entries_is_good() {
        let trial = Trial::new();
        let mut entry = applied("a", 7, &[], &[]);
        entry.after = stamped(7, 1);
        StateMachineKeys.decided(&trial.scene(), &entry);
        trial.expect_good();
    }

    #[test]
    fn a_state_of_another_entry_is_found() {
        let trial = Trial::new();
        let mut entry = applied("a", 7, &[], &[]);
        entry.after = stamped(6, 1);
        StateMachineKeys.decided(&trial.scene(), &entry);
        trial.expect_broken(NAME);
    }

    #[test]
    fn a_snapshot_with_later_changes_is_found() {
        let trial = Trial::new();
        let installed = Installed { host: "a".into(), index: 6, state: stamped(7, 1), is_start: false };
        StateMachineKeys.installed(&trial.scene(), &installed);
        trial.expect_broken(NAME);
    }
}
