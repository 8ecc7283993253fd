//! When everything has come to rest nothing has piled up: no reader waits any more but those that clients left waiting, and the log
//! in memory is what snapshots let it be.

use super::{Invariant, Scene, view::View};
use crate::scenario::Scenario;

/// The invariant's name.
const NAME: &str = "no_queue_grows";
/// The readers of a server that its own tasks and the clients' last blocking queries make at most: 64, and one for each of the thirteen
/// tables that rotating, pruning, and a secondary's word on both wait for.
const WATCHERS_MAX: usize = 77;
/// The entries after a snapshot beyond its threshold: what is appended while it is written.
const SLACK_ENTRIES: u64 = 2000;

/// See the module.
pub(super) struct NoQueueGrows;

impl Invariant for NoQueueGrows {
    fn finished(&mut self, scene: &Scene<'_>) {
        for (host, view) in scene.views {
            if let Some(text) = piled_up(view, &scene.shared.scenario) {
                scene.shared.violate(NAME, format!("{host} has {text}"));
            }
        }
    }
}

fn piled_up(view: &View, scenario: &Scenario) -> Option<String> {
    if view.watchers > WATCHERS_MAX {
        return Some(format!("{} readers that wait", view.watchers));
    }
    let entries = view.last_log.unwrap_or(0).saturating_sub(view.purged.unwrap_or(0));
    let entries_max = scenario.raft.snapshot_threshold + scenario.raft.trailing_logs + SLACK_ENTRIES;
    (entries > entries_max).then(|| format!("{entries} entries in {} bytes of memory", view.log_bytes_in_memory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::follower;

    #[test]
    fn a_long_log_and_many_readers_are_found() {
        let scenario = Scenario::derive(1);
        assert_eq!(piled_up(&follower(1, 1, 100), &scenario), None);
        assert!(piled_up(&follower(1, 1, 10_000), &scenario).is_some());
        assert!(piled_up(&View { watchers: 1000, ..follower(1, 1, 1) }, &scenario).is_some());
    }
}
