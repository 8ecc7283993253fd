//! At most one root of a CA is active, and another one becomes active by a committed compare-and-set alone, which named the one
//! before (the architecture's rotation; Consul's `CAServiceProvider` has the same rule in its state store). A secondary may hear of
//! several activations at once.

use carrack_authority::{
    Command, Outcome, WatchKey,
    federation::Change,
    id::KeyId,
    root::{Ca, Root, RootPhase},
};

use super::{Invariant, Scene, seen::Applied};

/// The invariant's name.
const NAME: &str = "exactly_one_active_root";

/// See the module.
pub(super) struct ExactlyOneActiveRoot;

impl Invariant for ExactlyOneActiveRoot {
    fn decided(&mut self, scene: &Scene<'_>, applied: &Applied) {
        for ca in [Ca::Mesh, Ca::Server] {
            if applied.after.modified(&WatchKey::Roots(ca)).0 != applied.index {
                continue;
            }
            let bundle = applied.after.roots(ca).bundle();
            let after = active(bundle.iter().map(|root| &**root));
            let before = applied.before.roots(ca).active().map(|root| root.made.id);
            if let Err(text) = judge(before, &after, &activations(applied, ca)) {
                scene.shared.violate(NAME, format!("entry {}, {ca:?}: {text}", applied.index));
            }
        }
    }
}

fn active<'a>(roots: impl Iterator<Item = &'a Root>) -> Vec<KeyId> {
    roots.filter(|root| root.phase == RootPhase::Active).map(|root| root.made.id).collect()
}

/// The one that was active before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Former {
    /// As the command names it.
    Named(Option<KeyId>),
    /// Whichever it was.
    Any,
}

/// The roots that this entry's accepted commands made active.
fn activations(applied: &Applied, ca: Ca) -> Vec<(KeyId, Former)> {
    let after = applied.after.roots(ca).active().map(|root| root.made.id);
    let accepted = applied.commands.proposals.iter().zip(&*applied.outcomes);
    let accepted = accepted.filter(|(_, outcome)| **outcome == Outcome::Done);
    let made = accepted.filter_map(|(proposal, _)| match &proposal.command {
        Command::ActivateRoot { ca: of, root, expected_active, .. } if *of == ca => {
            Some((*root, Former::Named(*expected_active)))
        }
        Command::Bootstrap(bootstrap) | Command::BootstrapSecondary { bootstrap, .. } if ca == Ca::Server => {
            Some((bootstrap.server_root.id, Former::Named(None)))
        }
        Command::FollowPrimary(followed) if ca == Ca::Mesh => match &followed.change {
            Change::Ca(table) | Change::CaAndSwitches(table, _) => {
                // It may have heard of an activation that it follows later, by a command of its own.
                active(table.roots.iter()).first().filter(|root| after == Some(**root)).map(|root| (*root, Former::Any))
            }
            _ => None,
        },
        Command::FollowActivation { .. } if ca == Ca::Mesh => after.map(|root| (root, Former::Any)),
        _ => None,
    });
    made.collect()
}

fn judge(before: Option<KeyId>, after: &[KeyId], made: &[(KeyId, Former)]) -> Result<(), String> {
    if after.len() > 1 {
        return Err(format!("the roots {after:?} are active together"));
    }
    let now = after.first().copied();
    let mut expected = before;
    for (root, former) in made {
        if let Former::Named(former) = former
            && expected != *former
            && expected != Some(*root)
        {
            return Err(format!("root {root} takes the place of {former:?}, but {expected:?} was active"));
        }
        expected = Some(*root);
    }
    if now == expected { Ok(()) } else { Err(format!("{before:?} was active, {now:?} is, without a command")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: KeyId = KeyId([1; 20]);
    const TWO: KeyId = KeyId([2; 20]);

    #[test]
    fn a_command_that_names_the_former_root_may_change_the_active_one() {
        judge(None, &[ONE], &[(ONE, Former::Named(None))]).unwrap();
        judge(Some(ONE), &[TWO], &[(TWO, Former::Named(Some(ONE)))]).unwrap();
        judge(Some(ONE), &[TWO], &[(TWO, Former::Any)]).unwrap();
        judge(Some(ONE), &[ONE], &[]).unwrap();
    }

    #[test]
    fn two_active_roots_a_wrong_former_one_and_a_change_without_a_command_are_found() {
        judge(Some(ONE), &[ONE, TWO], &[(TWO, Former::Named(Some(ONE)))]).unwrap_err();
        judge(Some(ONE), &[TWO], &[(TWO, Former::Named(None))]).unwrap_err();
        judge(Some(ONE), &[TWO], &[]).unwrap_err();
        judge(Some(ONE), &[], &[]).unwrap_err();
    }
}
