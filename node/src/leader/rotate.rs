//! The rotation of the mesh CA's root, one step at a time: the new root is made, published and bridged, and activated when everybody who
//! can be reached has it. In a secondary: issuing follows the primary's activation when its own agents and servers are ready.

use std::{sync::Arc, time::Duration};

use carrack_authority::{
    Command, State, WatchKey,
    id::{KeyId, Revision, Serial},
    key::KeyKind,
    plan::rotate::{Rotate, due, follow, rotate},
    root::Ca,
    rotation::RotationRequest,
};
use carrack_raft::{AppliedState, Replica, ports::Entropy};
use futures::future::{BoxFuture, FutureExt};

use super::propose;
use crate::{
    provider::{BridgeToSign, Providers, RootRequest, SealTo},
    server::{
        presence::Presence,
        task::{Runs, Step, StepError, Task},
    },
};

/// The name of this task in status.
pub const ROTATE: &str = "rotate the root";

/// How often it is looked again at who answers: nobody is told when a server has been silent for long enough.
const LOOK_AT_SILENCE: Duration = Duration::from_secs(5);

/// Takes the steps of a rotation.
pub(crate) struct RotateTask {
    pub(crate) replica: Replica,
    pub(crate) providers: Providers,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) presence: Arc<Presence>,
}

impl Task for RotateTask {
    fn name(&self) -> &'static str {
        ROTATE
    }

    fn runs(&self) -> Runs {
        Runs::OnLeader
    }

    fn watches(&self) -> &'static [WatchKey] {
        &[
            WatchKey::Rotation,
            WatchKey::Roots(Ca::Mesh),
            WatchKey::Issuers,
            WatchKey::Acknowledgements,
            WatchKey::Members,
            WatchKey::Datacenters,
        ]
    }

    fn step(&self, observed: Arc<AppliedState>) -> BoxFuture<'_, Result<Step, StepError>> {
        async move {
            let (state, absent) = (&observed.state, self.presence.absent(&self.replica));
            if let Some(activation) = follow(state, &absent) {
                propose(&self.replica, Command::FollowActivation { activation }).await?;
                tracing::info!(activation, "issuing goes on under the root that the primary has activated");
                return Ok(Step::Acted);
            }
            let now = self.replica.log_time();
            if let Some(request) = due(state, now) {
                self.expect_bridge(state, &request)?;
                let why = request.cause.as_str();
                propose(&self.replica, Command::StartRotation(Box::new(request))).await?;
                tracing::info!(why, "a rotation begins by itself");
                return Ok(Step::Acted);
            }
            match rotate(state, now, &absent).step {
                Some(step) => self.take(state, step).await.map(|()| Step::Acted),
                None => Ok(Step::Idle(LOOK_AT_SILENCE)),
            }
        }
        .boxed()
    }
}

impl RotateTask {
    /// Without a bridge verifiers fail: only an operator decides to leave a provider that cannot cross-sign.
    fn expect_bridge(&self, state: &State, request: &RotationRequest) -> Result<(), StepError> {
        let active = state.roots(Ca::Mesh).active().ok_or("there is no active root")?;
        if !request.is_bridged || self.providers.of(active)?.can_cross_sign() {
            return Ok(());
        }
        let why = request.cause.as_str();
        Err(format!(
            "a rotation is due ({why}), but the CA provider `{}` cannot cross-sign the next root: `carrack ca rotate --without-cross-signing` \
             begins it all the same, `carrack ca schedule` changes when one is due",
            active.made.provider
        )
        .into())
    }

    async fn take(&self, state: &State, step: Rotate) -> Result<(), StepError> {
        match step {
            Rotate::MakeRoot { rotation, expected, provider, key_kind } => {
                self.make_root(state, rotation, expected, &provider, key_kind).await
            }
            Rotate::Bridge { root, expected, signed_by } => self.bridge(state, root, expected, signed_by).await,
            Rotate::Activate { root, expected, expected_active } => {
                let command = Command::ActivateRoot { ca: Ca::Mesh, root, expected, expected_active };
                propose(&self.replica, command).await?;
                tracing::info!(%root, "leaves are issued under another root");
                Ok(())
            }
            Rotate::Finish { rotation, expected } => {
                propose(&self.replica, Command::FinishRotation { rotation, expected }).await?;
                tracing::info!(%rotation, "the rotation is over: the former root drains");
                Ok(())
            }
        }
    }

    async fn make_root(
        &self,
        state: &State,
        rotation: Revision,
        expected: Revision,
        provider: &str,
        key_kind: KeyKind,
    ) -> Result<(), StepError> {
        let provider = self.providers.named(provider).map_err(|error| {
            format!(
                "rotation {rotation} wants a root of another CA provider: {error}; `carrack ca rollback` takes it back"
            )
        })?;
        let cluster = state.cluster().ok_or("the datacenter has not begun")?;
        let request = RootRequest {
            trust_domain: cluster.trust_domain.clone(),
            key_kind,
            now: self.replica.log_time(),
            ttl: state.ca_config().config.root_ttl,
            seal_to: SealTo { slots: state.sealing_slots(), recovery: cluster.recovery.clone() },
        };
        let root = Box::new(provider.make_root(request).await?);
        let id = root.id;
        propose(&self.replica, Command::PublishRotationRoot { rotation, expected, root }).await?;
        tracing::info!(%rotation, root = %id, "the new root is in the bundle");
        Ok(())
    }

    async fn bridge(&self, state: &State, root: KeyId, expected: Revision, signed_by: KeyId) -> Result<(), StepError> {
        let roots = state.roots(Ca::Mesh);
        let gone = "a root has left the bundle since it was observed";
        let (former, new) = (roots.find(&signed_by).ok_or(gone)?, roots.find(&root).ok_or(gone)?);
        let cluster = state.cluster().ok_or("the datacenter has not begun")?;
        let mut serial = [0; 20];
        self.entropy.fill(&mut serial);
        let wanted = BridgeToSign {
            next_root: new.made.certificate.clone(),
            trust_domain: cluster.trust_domain.clone(),
            now: self.replica.log_time(),
            serial: Serial::from_random(serial),
        };
        let bridge = Box::new(self.providers.of(former)?.cross_sign(former, wanted).await?);
        propose(&self.replica, Command::BridgeRoot { root, expected, bridge }).await?;
        tracing::info!(%root, %signed_by, "the new root has a bridge from the former one");
        Ok(())
    }
}
