//! A rotation goes on whatever falls between two of its steps, and whoever leads then: one is under way at a time, it takes its steps
//! in their order and each once, and it ends as the roots show it: finished, abandoned or rolled back. That each comes to an end is a
//! matter of liveness: at rest none is under way, in no datacenter.

use carrack_authority::{
    Command, Outcome, State,
    id::KeyId,
    root::Ca,
    rotation::{LastRotation, Rotation, RotationCause, RotationEnd},
};

use super::{Invariant, Scene, seen::Applied};
use crate::world::PRIMARY;

/// The invariant's name.
const NAME: &str = "rotation_resumes";

/// See the module.
pub(super) struct RotationResumes;

impl Invariant for RotationResumes {
    fn decided(&mut self, scene: &Scene<'_>, applied: &Applied) {
        let (before, after) = (&applied.before, &applied.after);
        // Of several such commands in one entry the state between them is not seen.
        if accepted(applied) > 1 {
            return;
        }
        let text = match scene.datacenter {
            PRIMARY => judge(&Seen::of(before), &Seen::of(after)).err(),
            _ => after.rotation().map(|rotation| format!("a secondary has the rotation {} of its own", rotation.id)),
        };
        if let Some(text) = text {
            scene.shared.violate(NAME, format!("entry {}: {text}", applied.index));
        }
    }
}

/// How many commands about rotations an entry carried out.
fn accepted(applied: &Applied) -> usize {
    let all = applied.commands.proposals.iter().zip(&*applied.outcomes);
    all.filter(|(proposal, outcome)| {
        !matches!(outcome, Outcome::Rejected(_))
            && match &proposal.command {
                Command::SetCaConfig { rotation, .. } => rotation.is_some(),
                command => is_about_rotations(command),
            }
    })
    .count()
}

const fn is_about_rotations(command: &Command) -> bool {
    matches!(
        command,
        Command::StartRotation(_)
            | Command::PublishRotationRoot { .. }
            | Command::BridgeRoot { .. }
            | Command::ControlRotation { .. }
            | Command::ActivateRoot { .. }
            | Command::FinishRotation { .. }
            | Command::RollBack { .. }
            | Command::PruneRoot { .. }
            | Command::RevokeRoot { .. }
    )
}

/// What a state says of its rotation.
#[derive(Clone, Debug, Default)]
struct Seen {
    rotation: Option<Rotation>,
    last: Option<LastRotation>,
    active: Option<KeyId>,
    bundle: Vec<KeyId>,
    /// Of these, those that the root before has signed a bridge to.
    bridged: Vec<KeyId>,
}

impl Seen {
    fn of(state: &State) -> Self {
        let roots = state.roots(Ca::Mesh);
        Self {
            rotation: state.rotation().map(|rotation| Rotation::clone(rotation)),
            last: state.last_rotation().map(|last| LastRotation::clone(last)),
            active: roots.active().map(|root| root.made.id),
            bundle: roots.bundle().iter().map(|root| root.made.id).collect(),
            bridged: roots.bundle().iter().filter(|root| root.bridge.is_some()).map(|root| root.made.id).collect(),
        }
    }
}

fn judge(before: &Seen, after: &Seen) -> Result<(), String> {
    match (&before.rotation, &after.rotation) {
        (None, None) => Ok(()),
        (None, Some(begun)) => begins(begun, before),
        (Some(one), Some(same)) if one.id == same.id => goes_on(one, same, after),
        (Some(one), Some(other)) => is_taken_back(one, other),
        (Some(ended), None) => ends(ended, before, after),
    }
}

/// It leads away from the root that was active.
fn begins(rotation: &Rotation, before: &Seen) -> Result<(), String> {
    let id = rotation.id;
    match before.active {
        Some(active) if active == rotation.former => Ok(()),
        active => Err(format!("rotation {id} leads away from {}, and {active:?} was active", rotation.former)),
    }
}

/// Its root is put into the bundle once, and activated once.
fn goes_on(before: &Rotation, after: &Rotation, seen: &Seen) -> Result<(), String> {
    let id = before.id;
    let is_same = (before.former, before.cause) == (after.former, after.cause);
    let has_its_root = before.root.is_none_or(|root| after.root == Some(root));
    let was_activated = before.activated_at.is_none_or(|at| after.activated_at == Some(at));
    let is_active = after.activated_at.is_none() || after.root == seen.active;
    let is_published = after.root.is_none_or(|root| seen.bundle.contains(&root));
    let is_new = before.activated_at.is_none() && after.activated_at.is_some();
    let has_bridge = || after.root.is_some_and(|root| seen.bridged.contains(&root));
    if is_new && after.is_bridged && !has_bridge() {
        return Err(format!("rotation {id} has activated {:?} without its bridge", after.root));
    }
    match (is_same && has_its_root, was_activated && is_active, is_published) {
        (true, true, true) => Ok(()),
        (false, _, _) => Err(format!("rotation {id} has become another one")),
        (_, false, _) => Err(format!("rotation {id} has activated {:?}, and {:?} is active", after.root, seen.active)),
        (_, _, false) => Err(format!("the root {:?} of rotation {id} is in no bundle", after.root)),
    }
}

/// The one that follows another without an end between them leads back.
fn is_taken_back(one: &Rotation, other: &Rotation) -> Result<(), String> {
    let leads_back = other.cause == RotationCause::RollBack
        && one.activated_at.is_some()
        && (other.root, Some(other.former)) == (Some(one.former), one.root);
    if leads_back { Ok(()) } else { Err(format!("rotation {} begins while {} is under way", other.id, one.id)) }
}

fn ends(rotation: &Rotation, before: &Seen, after: &Seen) -> Result<(), String> {
    let (id, active) = (rotation.id, after.active);
    let last = after.last.as_ref().filter(|last| last.rotation.id == id);
    match last.map(|last| last.end) {
        Some(RotationEnd::Finished | RotationEnd::RolledBack)
            if rotation.activated_at.is_some() && active == rotation.root =>
        {
            Ok(())
        }
        // The one before stays the last one where it can still be taken back.
        Some(RotationEnd::Abandoned) | None
            if rotation.activated_at.is_none()
                && active == before.active
                && rotation.root.is_none_or(|root| !after.bundle.contains(&root)) =>
        {
            Ok(())
        }
        end => Err(format!(
            "rotation {id} to {:?} has ended as {end:?}, {active:?} is active, {:?} known",
            rotation.root,
            { &after.bundle }
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use carrack_authority::{id::Revision, time::Timestamp};

    use super::*;

    const ONE: KeyId = KeyId([1; 20]);
    const TWO: KeyId = KeyId([2; 20]);

    fn rotation(id: u64, root: Option<KeyId>, activated_at: Option<u64>) -> Rotation {
        Rotation {
            id: Revision(id),
            cause: RotationCause::Operator,
            former: ONE,
            to_make: None,
            root,
            is_bridged: true,
            is_paused: false,
            is_forced: false,
            ack_timeout: Duration::from_secs(60),
            began_at: Timestamp(1),
            activated_at: activated_at.map(Timestamp),
            modified: Revision(id),
        }
    }

    fn seen(rotation: Option<Rotation>, active: KeyId, bundle: &[KeyId]) -> Seen {
        Seen { rotation, last: None, active: Some(active), bundle: bundle.to_vec(), bridged: bundle.to_vec() }
    }

    fn ended(mut seen: Seen, rotation: Rotation, end: RotationEnd) -> Seen {
        seen.last = Some(LastRotation { rotation, end, ended_at: Timestamp(9) });
        seen
    }

    #[test]
    fn every_step_in_its_order_is_good() {
        let none = seen(None, ONE, &[ONE]);
        let begun = seen(Some(rotation(5, None, None)), ONE, &[ONE]);
        let published = seen(Some(rotation(5, Some(TWO), None)), ONE, &[ONE, TWO]);
        let active = seen(Some(rotation(5, Some(TWO), Some(7))), TWO, &[ONE, TWO]);
        let finished = ended(seen(None, TWO, &[ONE, TWO]), rotation(5, Some(TWO), Some(7)), RotationEnd::Finished);
        let steps = [&none, &begun, &published, &active, &finished];
        for pair in steps.windows(2) {
            judge(pair[0], pair[1]).unwrap();
        }
        judge(&published, &none).unwrap();
        let back = Rotation { former: TWO, cause: RotationCause::RollBack, ..rotation(8, Some(ONE), None) };
        judge(&active, &seen(Some(back), TWO, &[ONE, TWO])).unwrap();
    }

    #[test]
    fn a_second_one_a_step_back_and_an_end_that_the_roots_do_not_show_are_found() {
        let published = seen(Some(rotation(5, Some(TWO), None)), ONE, &[ONE, TWO]);
        let active = seen(Some(rotation(5, Some(TWO), Some(7))), TWO, &[ONE, TWO]);
        judge(&seen(None, TWO, &[ONE, TWO]), &published).unwrap_err();
        judge(&published, &seen(Some(rotation(6, None, None)), ONE, &[ONE, TWO])).unwrap_err();
        judge(&active, &published).unwrap_err();
        judge(&published, &Seen { bridged: vec![ONE], ..active.clone() }).unwrap_err();
        judge(&published, &seen(Some(rotation(5, Some(TWO), None)), ONE, &[ONE])).unwrap_err();
        judge(&published, &seen(Some(rotation(5, Some(TWO), Some(7))), ONE, &[ONE, TWO])).unwrap_err();
        judge(&published, &seen(None, ONE, &[ONE, TWO])).unwrap_err();
        let of = |end| ended(seen(None, ONE, &[ONE, TWO]), rotation(5, Some(TWO), Some(7)), end);
        judge(&active, &of(RotationEnd::Finished)).unwrap_err();
        judge(&active, &of(RotationEnd::Abandoned)).unwrap_err();
        judge(&active, &seen(None, TWO, &[ONE, TWO])).unwrap_err();
    }
}
