//! A leader that was paused, or cut off, and was replaced meanwhile has no effect when it goes on: what a leader alone decides is
//! decided by the one whose term it is, and accepted only while what it was derived from is as it was (the architecture's third rule of
//! the house).

use carrack_authority::{Command, Outcome, State, id::Revision};

use super::{Invariant, Scene, seen::Applied};

/// The invariant's name.
const NAME: &str = "stale_leader_harmless";

/// See the module.
pub(super) struct StaleLeaderHarmless;

impl Invariant for StaleLeaderHarmless {
    fn decided(&mut self, scene: &Scene<'_>, applied: &Applied) {
        let reign = scene.stores.of(&applied.host).and_then(|store| store.reign(applied.index));
        let mut is_untouched = true;
        for (proposal, outcome) in applied.commands.proposals.iter().zip(&*applied.outcomes) {
            let command = &proposal.command;
            if matches!(outcome, Outcome::Rejected(_)) {
                continue;
            }
            if let Some(reign) = reign.filter(|reign| reign.leader != proposal.proposer.0)
                && !command.is_forwardable()
            {
                let (by, leader) = (proposal.proposer, reign.leader);
                let text = format!("entry {}: server {by} decided what server {leader} leads", applied.index);
                scene.shared.violate(NAME, text);
            }
            if is_untouched && let Some((expected, read)) = derived_from(command) {
                let (before, after) = (read(command, &applied.before), read(command, &applied.after));
                if before != Some(expected) && before != after {
                    let text = format!("entry {}: derived from {expected}, and {before:?} was there", applied.index);
                    scene.shared.violate(NAME, text);
                }
            }
            // What else an entry changed before is not seen from outside of it.
            is_untouched &= matches!(command, Command::RecordIssuance(_));
        }
    }
}

/// The revision of what a command is about.
type Read = fn(&Command, &State) -> Option<Revision>;

/// What a leader's command was derived from, and how that is found in a state.
fn derived_from(command: &Command) -> Option<(Revision, Read)> {
    let root: Read = |command, state| match command {
        Command::ActivateRoot { ca, root, .. } | Command::ResealRoot { ca, root, .. } => {
            state.roots(*ca).find(root).map(|root| root.modified)
        }
        Command::BridgeRoot { root, .. } | Command::PruneRoot { root, .. } => {
            state.roots(carrack_authority::root::Ca::Mesh).find(root).map(|root| root.modified)
        }
        _ => None,
    };
    let rotation: Read = |_, state| state.rotation().map(|rotation| rotation.modified);
    let removed: Read = |command, state| match command {
        Command::RemoveServer { node, .. } => state.member(*node).map(|member| member.modified),
        _ => None,
    };
    Some(match command {
        Command::ActivateRoot { expected, .. }
        | Command::ResealRoot { expected, .. }
        | Command::BridgeRoot { expected, .. }
        | Command::PruneRoot { expected, .. } => (*expected, root),
        Command::PublishRotationRoot { expected, .. } | Command::FinishRotation { expected, .. } => {
            (*expected, rotation)
        }
        Command::RemoveServer { expected, .. } => (*expected, removed),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use carrack_authority::{
        id::{KeyId, NodeId},
        root::RootPhase,
    };

    use super::*;
    use crate::invariants::testing::{
        Trial, append, applied, identity, reign,
        roots::{root, state},
    };

    const ONE: KeyId = KeyId([1; 20]);
    const TWO: KeyId = KeyId([2; 20]);

    /// A root that was read at a revision is pruned by the entry 7, of the term that server 1 leads.
    fn pruned(expected: u64, proposer: u64, outcome: Outcome) -> Trial {
        let (mut trial, mut invariant) = (Trial::new(), StaleLeaderHarmless);
        trial.disk(&mut invariant, "a", &identity(1));
        trial.disk(&mut invariant, "a", &append(7, reign(3, 1), 7));
        let command = Command::PruneRoot { root: ONE, expected: Revision(expected) };
        let mut entry = applied("a", 7, &[command], &[outcome]);
        let mut commands = (*entry.commands).clone();
        commands.proposals.iter_mut().for_each(|proposal| proposal.proposer = NodeId(proposer));
        entry.commands = commands.into();
        let active = || root(TWO, RootPhase::Active, 2, 4);
        entry.before = state([root(ONE, RootPhase::Retired, 1, 3), active()], Vec::new());
        entry.after = state([root(KeyId([3; 20]), RootPhase::Retired, 1, 3), active()], Vec::new());
        invariant.decided(&trial.scene(), &entry);
        trial
    }

    #[test]
    fn what_the_leader_decides_from_what_is_there_is_good_and_so_is_a_refusal() {
        pruned(3, 1, Outcome::Done).expect_good();
        let refused = carrack_authority::Rejection::Halted;
        pruned(2, 2, Outcome::Rejected(refused)).expect_good();
    }

    #[test]
    fn a_decision_from_what_was_there_before_and_one_of_another_server_are_found() {
        pruned(2, 1, Outcome::Done).expect_broken(NAME);
        pruned(3, 2, Outcome::Done).expect_broken(NAME);
    }
}
