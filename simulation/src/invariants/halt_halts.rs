//! After a halt is committed nothing is recorded until it is lifted, and a client that asks after the operator has the answer gets
//! nothing (the security page's emergency stop). A retry of what was recorded before is no new record. In a secondary the primary's halt
//! holds from the entry on that tells of it; and what has not heard the primary for longer than `ca.halt_staleness_max`, and the time that
//! an issuance may take, records no leaf. What was heard is of that time: a halt of [`LATE_MICROS`] before is in it. An issuer needs no
//! bound: it is recorded in the primary before it is anywhere else (`secondary_is_honest`), and there in no halt.

use std::collections::{BTreeMap, BTreeSet};

use carrack::server::desk::ISSUE_WITHIN;
use carrack_authority::{
    Command, Outcome,
    federation::{Change, Followed, Table},
    id::{Revision, Serial},
    issuance::Issuance,
    time::Timestamp,
};

use super::{
    Invariant, Scene,
    seen::{Applied, Told},
};
use crate::{
    marks::Mark,
    world::{PRIMARY, datacenter_name},
};

/// The invariant's name.
const NAME: &str = "halt_halts";
/// How old that may be which a secondary takes for the present state of the primary: it is held back on the way, and waits for what was
/// heard before it to be committed.
const LATE_MICROS: u64 = 30_000_000;
/// A secondary that hears of a halt so much later was cut off.
const CUT_OFF_MICROS: u64 = 5_000_000;

/// See the module.
#[derive(Default)]
pub(super) struct HaltHalts {
    datacenters: BTreeMap<usize, Datacenter>,
    /// The halts of the primary: at which revision, and when.
    halts: BTreeMap<Revision, Moment>,
    recorded: BTreeSet<Serial>,
}

/// What one datacenter has decided and heard.
#[derive(Default)]
struct Datacenter {
    is_halted: bool,
    /// In a secondary: whether it was told that the primary has halted it.
    is_primary_halted: bool,
    /// In a secondary: up to which revision it was told of halts.
    told: Revision,
    /// In a secondary: the log's time at which the primary was heard last.
    heard_at: Timestamp,
    /// Since when a client that asks must get nothing.
    acknowledged_at: Option<u64>,
}

/// A moment by both clocks of the world.
#[derive(Clone, Copy)]
struct Moment {
    micros: u64,
    time: Timestamp,
}

impl Invariant for HaltHalts {
    fn decided(&mut self, scene: &Scene<'_>, applied: &Applied) {
        for (proposal, outcome) in applied.commands.proposals.iter().zip(&*applied.outcomes) {
            if let Err(text) = self.judge(scene, applied, &proposal.command, outcome) {
                let name = datacenter_name(scene.datacenter);
                scene.shared.violate(NAME, format!("{name}, entry {}: {text}", applied.index));
            }
        }
        let Some(cluster) = applied.after.cluster() else { return };
        let decided = self.datacenters.entry(scene.datacenter).or_default();
        let is_other =
            cluster.is_halted != decided.is_halted || applied.after.is_primary_halted() != decided.is_primary_halted;
        if is_other {
            scene.shared.violate(NAME, format!("after entry {} the state is not as halted as decided", applied.index));
        }
    }

    fn told(&mut self, scene: &Scene<'_>, told: &Told) {
        let datacenter = self.datacenters.entry(scene.datacenter).or_default();
        match told {
            Told::HaltAcknowledged { is_halted, .. } => {
                datacenter.acknowledged_at = is_halted.then(|| scene.shared.clock.micros());
            }
            Told::ResumeAsked { .. } => datacenter.acknowledged_at = None,
            Told::LeafReceived { identity, asked_at, .. }
                if datacenter.acknowledged_at.is_some_and(|at| at < *asked_at) =>
            {
                let text = format!("a leaf of {identity} was received that was asked for during a halt");
                scene.shared.violate(NAME, text);
            }
            _ => {}
        }
    }
}

impl HaltHalts {
    fn judge(
        &mut self,
        scene: &Scene<'_>,
        applied: &Applied,
        command: &Command,
        outcome: &Outcome,
    ) -> Result<(), String> {
        let decided = self.datacenters.entry(scene.datacenter).or_default();
        let is_halted = decided.is_halted || decided.is_primary_halted;
        match (command, outcome) {
            (Command::SetHalt { halted }, Outcome::Done) => {
                if scene.datacenter == PRIMARY && *halted && !decided.is_halted {
                    let moment = Moment { micros: scene.shared.clock.micros(), time: scene.shared.clock.now() };
                    self.halts.insert(Revision(applied.index), moment);
                }
                decided.is_halted = *halted;
                Ok(())
            }
            (Command::FollowPrimary(followed), Outcome::Done) if followed.table == Table::Ca => {
                self.follow(scene, applied, followed)
            }
            (Command::RecordIssuance(issuance), Outcome::Recorded { .. }) if self.recorded.insert(issuance.serial) => {
                if is_halted {
                    return Err(format!("the leaf {} is recorded in a halt", issuance.serial));
                }
                may_record(scene, applied, decided, issuance)
            }
            (Command::RecordIssuer(signed), Outcome::Done) if is_halted => {
                let known = applied.before.issuers().any(|issuer| issuer.certificate == signed.certificate);
                if known { Ok(()) } else { Err(format!("an issuer of server {} is recorded in a halt", signed.node)) }
            }
            (Command::RecordRemoteIssuer(issuer), Outcome::Done) if is_halted => {
                let known = applied.before.remote_issuer(&issuer.id).is_some();
                if known { Ok(()) } else { Err(format!("an issuer of {} is recorded in a halt", issuer.datacenter)) }
            }
            _ => Ok(()),
        }
    }

    /// Takes over what was heard of the primary, which is judged by both clocks: an entry may be committed long after it was stamped, and
    /// stamps may be ahead of the time.
    fn follow(&mut self, scene: &Scene<'_>, applied: &Applied, followed: &Followed) -> Result<(), String> {
        let (micros, heard_at) = (scene.shared.clock.micros(), applied.after.now());
        let decided = self.datacenters.entry(scene.datacenter).or_default();
        if let Change::CaAndSwitches(_, switches) = &followed.change {
            decided.is_primary_halted = switches.is_halted;
            let mut heard = self.halts.range(..=followed.to.revision).filter(|(at, _)| **at > decided.told);
            if heard.any(|(_, halt)| halt.micros + CUT_OFF_MICROS < micros) {
                scene.shared.mark(Mark::HaltHeardLate);
            }
        }
        decided.told = followed.to.revision;
        if !followed.is_all {
            return Ok(());
        }
        decided.heard_at = heard_at;
        let late = |halt: &Moment| {
            let by = std::time::Duration::from_micros(LATE_MICROS);
            halt.micros + LATE_MICROS < micros && halt.time.plus(by) < heard_at
        };
        let unheard = self.halts.iter().find(|(at, halt)| **at > followed.to.revision && late(halt));
        match unheard {
            None => Ok(()),
            Some((at, halt)) => Err(format!(
                "what is heard of the primary at {heard_at} is of {}, before its halt at {at}, which was at {}",
                followed.to.revision, halt.time
            )),
        }
    }
}

/// Whether a secondary has heard the primary recently enough to record a leaf that it may have forbidden.
fn may_record(scene: &Scene<'_>, applied: &Applied, decided: &Datacenter, issuance: &Issuance) -> Result<(), String> {
    let Some(most) = scene.shared.scenario.federation.halt_staleness_max else { return Ok(()) };
    let (now, heard_at) = (applied.after.now(), decided.heard_at);
    if scene.datacenter == PRIMARY || now <= heard_at.plus(most).plus(ISSUE_WITHIN) {
        return Ok(());
    }
    Err(format!(
        "the leaf {} is recorded at {now}, and whether that is halted was heard last at {heard_at}",
        issuance.serial
    ))
}

#[cfg(test)]
mod tests;
