//! Sealed keys follow the servers: a new one gets its slot before it is promoted, a removed one loses it.

use std::sync::Arc;

use carrack_authority::{
    Command, State, WatchKey,
    plan::{
        renew::LOOK_AGAIN,
        seal::{Reseal, plan},
    },
    root::Ca,
};
use carrack_raft::{AppliedState, Replica};
use futures::future::{BoxFuture, FutureExt};

use super::propose;
use crate::{
    provider::{BuiltinProvider, SealTo},
    server::task::{Runs, Step, StepError, Task},
};

/// Keeps every sealed key openable by each server, and by no other.
pub(crate) struct SealTask {
    pub(crate) replica: Replica,
    pub(crate) builtin: Arc<BuiltinProvider>,
}

impl Task for SealTask {
    fn name(&self) -> &'static str {
        "seal root keys"
    }

    fn runs(&self) -> Runs {
        Runs::OnLeader
    }

    fn watches(&self) -> &'static [WatchKey] {
        &[WatchKey::Members, WatchKey::Roots(Ca::Mesh), WatchKey::Roots(Ca::Server)]
    }

    fn step(&self, observed: Arc<AppliedState>) -> BoxFuture<'_, Result<Step, StepError>> {
        async move {
            let reseals = plan(&observed.state);
            if reseals.is_empty() {
                return Ok(Step::Idle(LOOK_AGAIN));
            }
            for reseal in reseals {
                self.reseal(&observed.state, reseal).await?;
            }
            Ok(Step::Acted)
        }
        .boxed()
    }
}

impl SealTask {
    async fn reseal(&self, state: &State, reseal: Reseal) -> Result<(), StepError> {
        let root = state.roots(reseal.ca).find(&reseal.root).ok_or("the root has gone since it was observed")?;
        let sealed = self.builtin.reseal(root, &SealTo { slots: reseal.slots, recovery: reseal.recovery })?;
        let command = Command::ResealRoot { ca: reseal.ca, root: reseal.root, expected: reseal.expected, sealed };
        propose(&self.replica, command).await?;
        Ok(())
    }
}
