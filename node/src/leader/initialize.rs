//! The first root of the mesh CA: made, sealed, published, activated. A failure never blocks leadership; it shows in status.

use std::sync::Arc;

use carrack_authority::{
    Command, State, WatchKey,
    plan::{
        initialize::{Initialize, plan},
        renew::LOOK_AGAIN,
    },
    root::Ca,
};
use carrack_raft::{AppliedState, Replica};
use futures::future::{BoxFuture, FutureExt};

use super::propose;
use crate::{
    provider::{Providers, RootRequest, SealTo, builtin::BUILTIN},
    server::task::{Runs, Step, StepError, Task},
};

/// The name of this task in status.
pub const INITIALIZE: &str = "initialize the CA";

/// Makes the CA exist.
pub(crate) struct InitializeTask {
    pub(crate) replica: Replica,
    pub(crate) providers: Providers,
}

impl Task for InitializeTask {
    fn name(&self) -> &'static str {
        INITIALIZE
    }

    fn runs(&self) -> Runs {
        Runs::OnLeader
    }

    fn watches(&self) -> &'static [WatchKey] {
        &[WatchKey::Roots(Ca::Mesh), WatchKey::Cluster]
    }

    fn step(&self, observed: Arc<AppliedState>) -> BoxFuture<'_, Result<Step, StepError>> {
        async move {
            match plan(&observed.state) {
                None => Ok(Step::Idle(LOOK_AGAIN)),
                Some(Initialize::MakeRoot) => self.make_root(&observed.state).await,
                Some(Initialize::Activate { root, expected }) => {
                    let command = Command::ActivateRoot { ca: Ca::Mesh, root, expected, expected_active: None };
                    propose(&self.replica, command).await?;
                    tracing::info!(%root, "the mesh CA has an active root");
                    Ok(Step::Acted)
                }
            }
        }
        .boxed()
    }
}

impl InitializeTask {
    async fn make_root(&self, state: &State) -> Result<Step, StepError> {
        let cluster = state.cluster().ok_or("the datacenter has not begun")?;
        let config = &state.ca_config().config;
        let request = RootRequest {
            trust_domain: cluster.trust_domain.clone(),
            key_kind: config.key_kind,
            now: self.replica.log_time(),
            ttl: config.root_ttl,
            seal_to: SealTo { slots: state.sealing_slots(), recovery: cluster.recovery.clone() },
        };
        let root = self.providers.named(BUILTIN)?.make_root(request).await?;
        propose(&self.replica, Command::PublishRoot { ca: Ca::Mesh, root }).await?;
        Ok(Step::Acted)
    }
}
