//! One request on its way through a handler: what it says, and the version of the state that it is answered from. Every
//! version that a handler sees was checked for the caller's token and right, also after a blocking query woke up.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{body::Bytes, response::Response};
use carrack_authority::{
    Command, Outcome, State, WatchKey,
    acl::Token,
    id::Revision,
    planted::{self, Bug},
    spiffe::Name,
    time::Timestamp,
};
use carrack_raft::{AppliedState, ProposeError, Proposed, ReadError, TooManyWatchers};
use futures::future::select_all;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    Edge,
    access::Caller,
    answer::{Answer, Freshness},
    error::{HttpError, RETRY_AFTER},
    parameters::{Consistency, Parameters, WAIT_DEFAULT},
    routes::Route,
};

/// How long a read waits for a leader's confirmation: Consul's `rpc_hold_timeout`.
const READ_WITHIN: Duration = Duration::from_secs(7);
/// How long a write waits for its outcome: as above.
const WRITE_WITHIN: Duration = Duration::from_secs(7);
/// A blocking query's wait is lengthened by up to this part of it, so that queries that began together part.
const WAIT_JITTER_PART: u32 = 16;

/// A request that was admitted to its route.
pub struct Call {
    /// The server's edge.
    pub edge: Arc<Edge>,
    /// Which route.
    pub route: &'static Route,
    /// Who is at the other end of the connection, if it is known.
    pub peer: Option<SocketAddr>,
    /// What the request says beside path and body.
    pub parameters: Parameters,
    /// The last variable part of the path, decoded.
    pub variable: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// One version of the state, and the caller as he stands in it.
pub struct View {
    /// The version.
    pub applied: Arc<AppliedState>,
    /// Who asks.
    pub caller: Caller,
    /// How fresh it is.
    pub freshness: Freshness,
}

impl View {
    /// The state.
    pub fn state(&self) -> &State {
        &self.applied.state
    }

    /// The caller's token.
    pub fn token(&self) -> Result<&Arc<Token>, HttpError> {
        self.caller.token()
    }
}

impl Call {
    /// The variable part of the path.
    pub fn variable(&self) -> &str {
        self.variable.as_deref().unwrap_or_default()
    }

    /// The variable part of the path as a name.
    pub fn name(&self, what: &str) -> Result<Name, HttpError> {
        Name::parse(what, self.variable()).map_err(|error| HttpError::BadRequest(error.to_string()))
    }

    /// The log's time.
    pub fn now(&self) -> Timestamp {
        self.edge.context.replica.log_time()
    }

    /// A version of the state as fresh as the request asks for.
    pub async fn view(&self) -> Result<View, HttpError> {
        self.view_as(self.parameters.consistency).await
    }

    /// The state as this server has applied it: needs no quorum.
    pub fn local_view(&self) -> Result<View, HttpError> {
        let view = self.checked(self.edge.context.replica.state(), Consistency::Stale)?;
        self.parameters.take_staleness(view.freshness.staleness(), || "no leader is heard".into())?;
        Ok(view)
    }

    /// The committed state, whatever the request asks for: what a write is decided on.
    pub async fn committed_view(&self) -> Result<View, HttpError> {
        let consistency = match self.parameters.consistency {
            Consistency::Stale => Consistency::Default,
            consistency => consistency,
        };
        self.view_as(consistency).await
    }

    async fn view_as(&self, consistency: Consistency) -> Result<View, HttpError> {
        let replica = &self.edge.context.replica;
        if consistency == Consistency::Stale {
            // A leader writes at least its clock every 10 s: what was applied last tells how old the state may be.
            let applied = replica.state();
            let age = applied.published_at.elapsed();
            if self.parameters.max_stale.is_none_or(|most| age <= most) {
                return self.checked(applied, consistency);
            }
        }
        let applied = replica.read_linearizable(Instant::now() + READ_WITHIN).await.map_err(of_read)?;
        let consistency = if consistency == Consistency::Stale { Consistency::Default } else { consistency };
        self.checked(applied, consistency)
    }

    fn checked(&self, applied: Arc<AppliedState>, consistency: Consistency) -> Result<View, HttpError> {
        let caller =
            self.route.right.check(&self.parameters, self.variable.as_deref(), &applied.state, self.edge.moment())?;
        let freshness = self.freshness(&applied, consistency);
        Ok(View { applied, caller, freshness })
    }

    fn freshness(&self, applied: &AppliedState, consistency: Consistency) -> Freshness {
        if consistency != Consistency::Stale {
            return Freshness { consistency, is_leader_known: true, last_contact: Duration::ZERO };
        }
        let is_leader_known = self.edge.context.replica.heard_leader().is_some();
        Freshness { consistency, is_leader_known, last_contact: applied.published_at.elapsed() }
    }

    /// Answers from a table: at once, or with an index when the table changed after it, or when the wait is over.
    pub async fn read<T: Serialize>(
        &self,
        key: WatchKey,
        shape: impl Fn(&View) -> Result<T, HttpError>,
    ) -> Result<Response, HttpError> {
        let (view, index) = self.watched(key).await?;
        let answer = self.json(&shape(&view)?)?.with_index(index).with_freshness(view.freshness);
        Ok(answer.into_response())
    }

    /// The view that answers a request about a table, and the table's index in it.
    pub async fn watched(&self, key: WatchKey) -> Result<(View, u64), HttpError> {
        self.watched_any(&[key]).await
    }

    /// The same about several tables: a change in any of them is one.
    pub async fn watched_any(&self, keys: &[WatchKey]) -> Result<(View, u64), HttpError> {
        let deadline = Instant::now() + self.wait();
        loop {
            let view = self.view().await?;
            if let Some(index) = self.index_to_answer(&view, keys, deadline) {
                return Ok((view, index));
            }
            let Some(applied) = self.sleep_until_change(&view, keys, deadline).await? else { continue };
            // What this server has applied is committed: a change in it needs no leader's word again, from each of a herd.
            let view = self.checked(applied, view.freshness.consistency)?;
            let index = last_change(view.state(), keys);
            if index > self.parameters.index {
                return Ok((view, index));
            }
        }
    }

    fn index_to_answer(&self, view: &View, keys: &[WatchKey], deadline: Instant) -> Option<u64> {
        let mut index = last_change(view.state(), keys).max(1);
        if planted::is(Bug::IndexGoesBackwards) && !self.edge.context.replica.subscribe().borrow().is_ready_leader() {
            index /= 2;
        }
        let is_new = self.parameters.index == 0 || index > self.parameters.index;
        (is_new || Instant::now() >= deadline).then_some(index)
    }

    /// Sleeps until one of the tables changes, and answers the version in which it did; or until the caller's token changes.
    async fn sleep_until_change(
        &self,
        view: &View,
        keys: &[WatchKey],
        deadline: Instant,
    ) -> Result<Option<Arc<AppliedState>>, HttpError> {
        let after = Revision(self.parameters.index);
        let waits = keys.iter().map(|key| Box::pin(self.edge.context.replica.wait_for(*key, after, deadline)));
        tokio::select! {
            (changed, ..) = select_all(waits) => changed.map(Some).map_err(of_wait),
            changed = self.token_changed(view, deadline) => changed.map(|()| None),
        }
    }

    /// Sleeps until the caller's token changes or ends; for ever if he has none.
    pub async fn token_changed(&self, view: &View, deadline: Instant) -> Result<(), HttpError> {
        let Caller::Token(token) = &view.caller else { return std::future::pending().await };
        self.wait_for(WatchKey::Token(token.accessor), token.modified, deadline).await
    }

    /// Sleeps until a table has changed after a revision, or until the deadline.
    pub async fn wait_for(&self, key: WatchKey, after: Revision, deadline: Instant) -> Result<(), HttpError> {
        let changed = self.edge.context.replica.wait_for(key, after, deadline).await;
        changed.map(drop).map_err(of_wait)
    }

    /// How long this request may wait, with its jitter.
    pub fn wait(&self) -> Duration {
        let wait = self.parameters.wait.filter(|wait| !wait.is_zero()).unwrap_or(WAIT_DEFAULT);
        let mut random = [0; 2];
        self.edge.context.entropy.fill(&mut random);
        wait + wait / WAIT_JITTER_PART / u32::from(u16::MAX) * u32::from(u16::from_be_bytes(random))
    }

    /// Proposes a command and waits for its outcome, and until this server has applied it.
    pub async fn propose(&self, command: Command) -> Result<Proposed, HttpError> {
        let replica = &self.edge.context.replica;
        let deadline = Instant::now() + WRITE_WITHIN;
        let proposed = replica.propose(command, deadline).await.map_err(of_proposal)?;
        if let Outcome::Rejected(rejection) = proposed.outcome {
            return Err(rejection.into());
        }
        Ok(proposed)
    }

    /// The state after a write of this request; `None` if this server has not seen it in time.
    pub async fn state_after(&self, index: u64) -> Option<Arc<AppliedState>> {
        self.edge.context.replica.wait_index(index, Instant::now() + READ_WITHIN).await
    }

    /// A value as JSON, indented if the request asks for it.
    pub fn json<T: Serialize>(&self, value: &T) -> Result<Answer, HttpError> {
        Answer::json(value, self.parameters.is_pretty)
    }

    /// The answer `true`.
    pub fn yes(&self) -> Result<Response, HttpError> {
        Ok(self.json(&true)?.into_response())
    }
}

/// The entry that changed one of the tables last.
fn last_change(state: &State, keys: &[WatchKey]) -> u64 {
    keys.iter().map(|key| state.modified(key).0).max().unwrap_or_default()
}

pub(super) fn of_read(error: ReadError) -> HttpError {
    match error {
        ReadError::NoLeader => HttpError::NoLeader,
        ReadError::Lagging { .. } => HttpError::Unavailable(error.to_string()),
        ReadError::Overloaded => HttpError::RateLimited { retry_after: RETRY_AFTER },
        ReadError::Stopped => stopping(),
    }
}

/// What the log refused, as HTTP has it.
pub(super) fn of_proposal(error: ProposeError) -> HttpError {
    match error {
        ProposeError::NoLeader => HttpError::NoLeader,
        ProposeError::OutcomeUnknown => HttpError::OutcomeUnknown("the leader did not answer in time".into()),
        ProposeError::Overloaded => HttpError::RateLimited { retry_after: RETRY_AFTER },
        ProposeError::TooLarge { .. } => HttpError::BadRequest(error.to_string()),
        ProposeError::NotLeader => HttpError::Internal(error.to_string()),
        ProposeError::Stopped => stopping(),
    }
}

fn of_wait(_: TooManyWatchers) -> HttpError {
    HttpError::RateLimited { retry_after: RETRY_AFTER }
}

fn stopping() -> HttpError {
    HttpError::Unavailable("this server is stopping; ask another one".into())
}
