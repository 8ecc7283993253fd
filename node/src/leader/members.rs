//! The Raft membership follows the recorded servers, one guarded change at a time.

use std::{sync::Arc, time::Duration};

use carrack_authority::{
    Command, WatchKey,
    plan::members::{MemberAction, RaftMembership, plan},
    root::Ca,
};
use carrack_raft::{AppliedState, MembershipId, Replica, Status};
use futures::future::{BoxFuture, FutureExt};
use tokio::time::Instant;

use super::propose;
use crate::server::task::{Runs, Step, StepError, Task};

/// How often the followers' lag is looked at while nothing else changes: nobody is told when a learner has caught up.
const LOOK_AT_LAG: Duration = Duration::from_millis(500);

/// How long one change of the membership may take.
const CHANGE_WITHIN: Duration = Duration::from_secs(10);

/// Keeps the Raft membership equal to the recorded servers.
pub(crate) struct MembersTask {
    pub(crate) replica: Replica,
}

impl Task for MembersTask {
    fn name(&self) -> &'static str {
        "members"
    }

    fn runs(&self) -> Runs {
        Runs::OnLeader
    }

    fn watches(&self) -> &'static [WatchKey] {
        &[WatchKey::Members, WatchKey::Roots(Ca::Mesh), WatchKey::Roots(Ca::Server)]
    }

    fn step(&self, observed: Arc<AppliedState>) -> BoxFuture<'_, Result<Step, StepError>> {
        async move {
            let status = self.replica.status();
            match plan(&observed.state, &membership(&status)) {
                None => Ok(Step::Idle(LOOK_AT_LAG)),
                Some(action) => {
                    tracing::info!(?action, "changing the membership");
                    self.act(action, status.leadership.membership.id).await?;
                    Ok(Step::Acted)
                }
            }
        }
        .boxed()
    }
}

impl MembersTask {
    async fn act(&self, action: MemberAction, seen: MembershipId) -> Result<(), StepError> {
        let deadline = Instant::now() + CHANGE_WITHIN;
        match action {
            MemberAction::FinishJoint => self.replica.finish_joint(seen, deadline).await?,
            MemberAction::AddLearner { node, address } => {
                self.replica.add_learner(node, &address, seen, deadline).await?
            }
            MemberAction::Promote { node } => self.replica.promote(node, seen, deadline).await?,
            MemberAction::SetAddress { node, address } => {
                self.replica.set_address(node, &address, seen, deadline).await?
            }
            MemberAction::TransferLeadership { to } => self.replica.transfer_leadership(to, deadline).await?,
            MemberAction::RemoveFromRaft { node } => self.replica.remove(node, seen, deadline).await?,
            MemberAction::RemoveServer { node, expected } => {
                drop(propose(&self.replica, Command::RemoveServer { node, expected }).await?);
            }
            MemberAction::RaiseFeatureLevel { expected, level } => {
                drop(propose(&self.replica, Command::RaiseFeatureLevel { expected, level }).await?);
            }
        }
        Ok(())
    }
}

fn membership(status: &Status) -> RaftMembership {
    let (leadership, view) = (&status.leadership, &status.leadership.membership);
    RaftMembership {
        leader: leadership.node,
        is_joint: view.is_joint,
        voters: view.voters.clone(),
        learners: view.learners.clone(),
        addresses: view.addresses.clone(),
        lag: status.replication.iter().map(|(node, replication)| (*node, replication.behind)).collect(),
    }
}
