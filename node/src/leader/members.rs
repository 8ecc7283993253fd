//! The Raft membership follows the recorded servers, one guarded change at a time.

use std::{sync::Arc, time::Duration};

use carrack_authority::{
    Command, WatchKey,
    plan::members::{MemberAction, RaftMembership, plan},
    root::Ca,
};
use carrack_raft::{AppliedState, MembershipId, Replica, Replication, Status};
use futures::future::{BoxFuture, FutureExt};
use tokio::time::Instant;

use super::propose;
use crate::server::task::{Runs, Step, StepError, Task};

/// How often the followers' lag is looked at while nothing else changes: nobody is told when a learner has caught up.
const LOOK_AT_LAG: Duration = Duration::from_millis(500);

/// A server that has answered nothing for so long is not there: a vote that it has would count, and it would not give it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

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
                    if !matches!(action, MemberAction::Hold { .. }) {
                        tracing::info!(?action, "changing the membership");
                    }
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
            MemberAction::Hold { node, quorum } => {
                return Err(format!(
                    "server {node} is to leave, but of the voters that would stay only {} answer and {} must: bring one of them back, or remove one that is lost",
                    quorum.answer, quorum.needed
                )
                .into());
            }
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

/// How many entries a server lacks that answers and has some: of another one nothing is known.
fn known_lag(replication: &Replication) -> Option<u64> {
    let is_there = replication.answered.is_some_and(|ago| ago <= ANSWERED_WITHIN);
    (is_there && replication.matched.is_some()).then_some(replication.behind)
}

fn membership(status: &Status) -> RaftMembership {
    let (leadership, view) = (&status.leadership, &status.leadership.membership);
    RaftMembership {
        leader: leadership.node,
        is_joint: view.is_joint,
        voters: view.voters.clone(),
        learners: view.learners.clone(),
        addresses: view.addresses.clone(),
        lag: status
            .replication
            .iter()
            .filter_map(|(node, replication)| Some((*node, known_lag(replication)?)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_server_that_never_answered_or_answers_no_more_nothing_is_known() {
        let known = |matched, answered: Option<u64>| {
            known_lag(&Replication { matched, behind: 3, answered: answered.map(Duration::from_millis) })
        };
        assert_eq!(known(Some(7), Some(100)), Some(3));
        assert_eq!(known(None, Some(100)), None, "an empty log of thirteen entries is not one that has caught up");
        assert_eq!(known(Some(7), None), None);
        assert_eq!(known(Some(7), Some(60_000)), None);
    }
}
