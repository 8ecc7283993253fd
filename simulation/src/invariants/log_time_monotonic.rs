//! The log's time never goes backwards, and while no lower median of a majority's clocks is ahead of the true time, neither is it
//! (the leader's clock, `carrack_raft`). A new leader takes its first stamp when it may not have applied
//! the end of its log: that stamp may be before the last one, which the state then keeps, and is on an entry without commands. Every
//! stamp of a command is as new as the log. How far stamps are behind the true time depends on how long an entry was on its way,
//! and is not bounded here.

use super::{Invariant, Scene, seen::Applied};
use crate::world::clock::WorldClock;

/// The invariant's name.
const NAME: &str = "log_time_monotonic";
/// How far a clock is ahead that is still right. Clocks are moved by seconds, or drift.
const RIGHT_MS: i64 = 500;
/// How far stamps may be ahead of the true time while a majority is right: the error of right clocks, and the way of the answers.
const AHEAD_MS_MAX: u64 = 1500;
/// How far the stamp of a command may be before that of the entry before it: two that were stamped in the other order.
const BACK_MS_MAX: u64 = 50;
/// How long the leader's clock may still count what it was told by a majority that was wrong: it slews by a second in twenty.
const FORGOTTEN_AFTER_MICROS: u64 = 600 * 1_000_000;

/// See the module.
#[derive(Default)]
pub(super) struct LogTimeMonotonic {
    last_wrong_at: Option<u64>,
}

impl Invariant for LogTimeMonotonic {
    fn decided(&mut self, scene: &Scene<'_>, applied: &Applied) {
        let (before, stamp) = (applied.before.now(), applied.commands.stamp);
        let is_back = !applied.commands.proposals.is_empty() && stamp.0 + BACK_MS_MAX < before.0;
        if is_back || applied.after.now() < before.max(stamp) {
            let (index, after) = (applied.index, applied.after.now());
            let text = format!("entry {index} with the stamp {stamp} leads from the time {before} to {after}");
            scene.shared.violate(NAME, text);
        }
        let clock: &WorldClock = &scene.shared.clock;
        let was_wrong = self.last_wrong_at.is_some_and(|at| clock.micros() < at + FORGOTTEN_AFTER_MICROS);
        if !was_wrong && stamp.0 > clock.now().0 + AHEAD_MS_MAX {
            let text = format!("entry {} has the stamp {stamp}, it is {}", applied.index, clock.now());
            scene.shared.violate(NAME, text);
        }
    }

    fn stepped(&mut self, scene: &Scene<'_>) {
        let members = scene.shared.members(scene.datacenter);
        let ahead = members.iter().filter(|server| server.clock.ahead() > RIGHT_MS).count();
        // As few as a majority may answer a new leader. The lower median is right while it is among those that are not ahead.
        let answers = members.len() / 2 + 1;
        if ahead >= answers - (answers - 1) / 2 {
            self.last_wrong_at = Some(scene.shared.clock.micros());
        }
    }
}

#[cfg(test)]
mod tests {
    use carrack_authority::{Command, Outcome, time::Timestamp};

    use super::*;
    use crate::{
        invariants::testing::{Trial, applied, stamped},
        world::clock::BEGIN,
    };

    fn decide(before: u64, stamp: u64, after: u64) -> Trial {
        decide_of(&[Command::SetHalt { halted: true }], before, stamp, after)
    }

    fn decide_of(commands: &[Command], before: u64, stamp: u64, after: u64) -> Trial {
        let (trial, mut invariant) = (Trial::new(), LogTimeMonotonic::default());
        let mut entry = applied("a", 7, commands, &[Outcome::Done]);
        (entry.before, entry.after) = (stamped(6, before), stamped(7, after));
        std::sync::Arc::make_mut(&mut entry.commands).stamp = Timestamp(stamp);
        invariant.decided(&trial.scene(), &entry);
        trial
    }

    #[test]
    fn time_that_goes_on_or_stands_still_is_good() {
        decide(5, 5, 5).expect_good();
        decide(5, 4, 5).expect_good();
        decide(5, BEGIN.0 + 1000, BEGIN.0 + 1000).expect_good();
        decide_of(&[], 6000, 999, 6000).expect_good();
    }

    #[test]
    fn time_that_goes_back_or_is_ahead_of_the_true_time_is_found() {
        decide(5, 5, 4).expect_broken(NAME);
        decide(6000, 999, 6000).expect_broken(NAME);
        decide(5, BEGIN.0 + AHEAD_MS_MAX + 1, BEGIN.0 + AHEAD_MS_MAX + 1).expect_broken(NAME);
    }
}
