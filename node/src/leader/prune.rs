//! A retired root leaves the bundle when nothing in any datacenter depends on it; its sealed key goes with it.

use std::{sync::Arc, time::Duration};

use carrack_authority::{
    Command, WatchKey,
    plan::{
        renew::LOOK_AGAIN,
        rotate::{Prune, compromised, prune},
    },
    root::Ca,
    rotation::RotationCause,
};
use carrack_raft::{AppliedState, Replica};
use futures::future::{BoxFuture, FutureExt};

use super::propose;
use crate::server::task::{Runs, Step, StepError, Task};

/// The shortest pause: what is waited for ends at a whole second.
const LOOK_SOON: Duration = Duration::from_secs(1);

/// Takes retired roots out of the bundle.
pub(crate) struct PruneTask {
    pub(crate) replica: Replica,
}

impl Task for PruneTask {
    fn name(&self) -> &'static str {
        "prune retired roots"
    }

    fn runs(&self) -> Runs {
        Runs::OnLeader
    }

    fn watches(&self) -> &'static [WatchKey] {
        &[WatchKey::Roots(Ca::Mesh), WatchKey::Rotation, WatchKey::Datacenters, WatchKey::Cluster]
    }

    fn step(&self, observed: Arc<AppliedState>) -> BoxFuture<'_, Result<Step, StepError>> {
        async move {
            let now = observed.state.now();
            let (prunes, look_again) = prune(&observed.state, now);
            for Prune { root, expected } in &prunes {
                propose(&self.replica, Command::PruneRoot { root: *root, expected: *expected }).await?;
                tracing::info!(%root, "nothing depends on the retired root any more: it has left the bundle");
            }
            let (drained, is_draining) = compromised(&observed.state);
            for root in &drained {
                let (root, reason) = (*root, RotationCause::Compromise.as_str().to_owned());
                propose(&self.replica, Command::RevokeRoot { root, reason, is_forced: false }).await?;
                tracing::warn!(%root, "no leaf in use is under the compromised root any more: it has left the bundle");
            }
            if is_draining {
                // Nobody is told when a leaf is issued anew.
                return Ok(Step::Idle(LOOK_SOON));
            }
            let pause = look_again.map_or(LOOK_AGAIN, |at| at.since(now).clamp(LOOK_SOON, LOOK_AGAIN));
            Ok(if prunes.is_empty() && drained.is_empty() { Step::Idle(pause) } else { Step::Acted })
        }
        .boxed()
    }
}
