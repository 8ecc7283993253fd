//! After a halt is committed nothing is recorded until it is lifted, and a client that asks after the operator has the answer gets
//! nothing (the security page's emergency stop). A retry of what was recorded before is no new record.

use std::collections::BTreeSet;

use carrack_authority::{Command, Outcome, id::Serial};

use super::{
    Invariant, Scene,
    seen::{Applied, Told},
};

/// The invariant's name.
const NAME: &str = "halt_halts";

/// See the module.
#[derive(Default)]
pub(super) struct HaltHalts {
    is_halted: bool,
    recorded: BTreeSet<Serial>,
    /// Since when a client that asks must get nothing.
    acknowledged_at: Option<u64>,
}

impl Invariant for HaltHalts {
    fn decided(&mut self, scene: &Scene<'_>, applied: &Applied) {
        for (proposal, outcome) in applied.commands.proposals.iter().zip(&*applied.outcomes) {
            match (&proposal.command, outcome) {
                (Command::SetHalt { halted }, Outcome::Done) => self.is_halted = *halted,
                (Command::RecordIssuance(issuance), Outcome::Recorded { .. })
                    if self.recorded.insert(issuance.serial) && self.is_halted =>
                {
                    let text = format!("entry {} records the leaf {}", applied.index, issuance.serial);
                    scene.shared.violate(NAME, text);
                }
                (Command::RecordIssuer(signed), Outcome::Done) if self.is_halted => {
                    let known = applied.before.issuers().any(|issuer| issuer.certificate == signed.certificate);
                    if !known {
                        let text = format!("entry {} records an issuer of server {}", applied.index, signed.node);
                        scene.shared.violate(NAME, text);
                    }
                }
                _ => {}
            }
        }
        if applied.after.cluster().is_some_and(|cluster| cluster.is_halted != self.is_halted) {
            scene.shared.violate(NAME, format!("after entry {} the state is not as halted as decided", applied.index));
        }
    }

    fn told(&mut self, scene: &Scene<'_>, told: &Told) {
        match told {
            Told::HaltAcknowledged { is_halted, .. } => {
                self.acknowledged_at = is_halted.then(|| scene.shared.clock.micros());
            }
            Told::ResumeAsked { .. } => self.acknowledged_at = None,
            Told::LeafReceived { identity, asked_at, .. } if self.acknowledged_at.is_some_and(|at| at < *asked_at) => {
                let text = format!("a leaf of {identity} was received that was asked for during a halt");
                scene.shared.violate(NAME, text);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{Trial, applied, issuance, received};

    fn decide(entries: &[(Command, Outcome)]) -> (Trial, HaltHalts) {
        let (trial, mut invariant) = (Trial::new(), HaltHalts::default());
        for (index, (command, outcome)) in entries.iter().enumerate() {
            let entry = applied("a", index as u64, std::slice::from_ref(command), std::slice::from_ref(outcome));
            invariant.decided(&trial.scene(), &entry);
        }
        (trial, invariant)
    }

    fn record(serial: u8) -> (Command, Outcome) {
        (Command::RecordIssuance(issuance(serial)), Outcome::Recorded { sequence: serial.into() })
    }

    fn halt(halted: bool) -> (Command, Outcome) {
        (Command::SetHalt { halted }, Outcome::Done)
    }

    #[test]
    fn a_record_before_and_after_a_halt_and_a_retry_in_it_are_good() {
        decide(&[record(1), halt(true), record(1), halt(false), record(2)]).0.expect_good();
    }

    #[test]
    fn a_record_in_a_halt_is_found() {
        decide(&[record(1), halt(true), record(2)]).0.expect_broken(NAME);
    }

    #[test]
    fn a_leaf_that_was_asked_for_in_a_halt_is_found() {
        let (trial, mut invariant) = decide(&[halt(true)]);
        invariant.told(&trial.scene(), &Told::HaltAcknowledged { datacenter: 0, is_halted: true });
        invariant.told(&trial.scene(), &received(0));
        trial.expect_good();
        invariant.told(&trial.scene(), &received(1));
        trial.expect_broken(NAME);
    }
}
