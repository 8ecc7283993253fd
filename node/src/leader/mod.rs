//! What the leader keeps true: the CA is initialised, requests are signed, roots rotate and are pruned, keys are sealed, servers come and go.
//! One file per reconciler; each observes, takes a pure plan of `authority`, and acts.

pub mod initialize;
pub(crate) mod members;
pub(crate) mod prune;
pub mod rotate;
pub(crate) mod seal;
pub mod sign;

use carrack_authority::{Command, Outcome};
use carrack_raft::Replica;
use tokio::time::Instant;

use crate::server::{PROPOSE_WITHIN, task::StepError};

/// Proposes what a plan decided. A refusal is an error: it shows in status, and the next look decides anew.
pub(crate) async fn propose(replica: &Replica, command: Command) -> Result<Outcome, StepError> {
    let proposed = replica.propose(command, Instant::now() + PROPOSE_WITHIN).await?;
    Ok(proposed.outcome.accepted()?)
}
