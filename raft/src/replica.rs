//! The only face of this crate: one server's copy of the datacenter's log and state. Nothing of openraft shows through it.

mod open;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use carrack_authority::{
    command::Command,
    id::{NodeId, Revision},
    outcome::WatchKey,
    time::Timestamp,
};
use carrack_proto::raft::raft_server::RaftServer;
use openraft::{BasicNode, Instant as _, ReadPolicy, async_runtime::WatchReceiver};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, timeout_at},
};

pub use self::open::{OpenError, ReplicaOptions, ReplicaPorts};
use crate::{
    applied::{AppliedState, Published},
    changes::Changes,
    log_store::LogStore,
    membership::{self, MembershipError},
    network::{Heard, Identity, RpcService},
    ports::{Fatal, PeerDirectory, WallClock},
    proposer::{ProposeError, Proposed, Proposer},
    reads::{ReadError, Reader},
    snapshot::Snapshots,
    state_machine::StateMachine,
    status::{Leadership, MembershipId, MembershipView, Metrics, Role, Status, leadership_of, replication_of},
    type_config::TypeConfig,
    watch::TooManyWatchers,
};

/// After this time leadership is offered again: longer than an election on a busy machine.
const TRANSFER_AGAIN: Duration = Duration::from_secs(3);
/// A leader is not called silent before this: a busy machine pauses for a second.
const SILENT_AFTER_MIN: Duration = Duration::from_secs(2);

/// openraft with our types.
pub(crate) type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// What every part of a replica shares.
pub(crate) struct Core {
    pub(crate) raft: Raft,
    pub(crate) snapshots: Snapshots,
    pub(crate) wall_clock: Arc<dyn WallClock>,
    identity: Identity,
    log: LogStore,
    published: Arc<Published>,
    proposer: Proposer,
    reader: Reader,
    leadership: watch::Receiver<Leadership>,
    directory: Arc<dyn PeerDirectory>,
    pub(crate) fatal: Fatal,
    pub(crate) receiving: Semaphore,
    pub(crate) heard: Heard,
    /// A leader that was not heard for so long leads nobody here.
    silent_after: Duration,
    /// Dropping it ends every task.
    tasks: Mutex<JoinSet<()>>,
}

/// One server's copy of the log and the state. Clones share it.
#[derive(Clone)]
pub struct Replica {
    core: Arc<Core>,
}

/// Why a cluster was not begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitializeError {
    /// This server belongs to a cluster already.
    #[error("this server belongs to a cluster already: {reason}")]
    NotAllowed {
        /// What openraft says.
        reason: String,
    },
    /// This server stops.
    #[error("this server is stopping")]
    Stopped,
}

impl Replica {
    /// Begins a cluster of this server alone. A second call is refused.
    pub async fn initialize(&self, address: &str) -> Result<(), InitializeError> {
        use openraft::errors::RaftError;
        let members = BTreeMap::from([(self.node().0, BasicNode { addr: address.to_owned() })]);
        self.core.raft.initialize(members).await.map_err(|error| match error {
            RaftError::APIError(error) => InitializeError::NotAllowed { reason: error.to_string() },
            RaftError::Fatal(_) => InitializeError::Stopped,
        })
    }

    /// Whether this server belongs to a cluster, or has ever heard from one.
    pub async fn is_initialized(&self) -> Result<bool, InitializeError> {
        self.core.raft.is_initialized().await.map_err(|_| InitializeError::Stopped)
    }

    /// Proposes a command from this server, wherever the leader is, and waits for its outcome.
    pub async fn propose(&self, command: Command, deadline: Instant) -> Result<Proposed, ProposeError> {
        self.core.proposer.propose(command, self.node(), false, deadline).await
    }

    /// The last published state. It is consistent in itself, and may be behind.
    pub fn state(&self) -> Arc<AppliedState> {
        self.core.published.current()
    }

    /// The log's time now.
    pub fn log_time(&self) -> Timestamp {
        self.state().log_time()
    }

    /// A state that is at least as new as every outcome that anybody had before the call, and knows what time it is.
    pub async fn read_linearizable(&self, deadline: Instant) -> Result<Arc<AppliedState>, ReadError> {
        self.core.reader.read(&self.core.published, deadline).await
    }

    /// Waits until `key` has changed after `after`; at the deadline the state is as it is.
    pub async fn wait_for(
        &self,
        key: WatchKey,
        after: Revision,
        deadline: Instant,
    ) -> Result<Arc<AppliedState>, TooManyWatchers> {
        self.core.published.wait_key(key, after, deadline).await
    }

    /// Tells what changes in the state from now on: for whoever follows more of it than one waiter each should be.
    pub fn changes(&self) -> Changes {
        self.core.published.changes()
    }

    /// Waits until entry `index` is applied here; `None` at the deadline.
    pub async fn wait_index(&self, index: u64, deadline: Instant) -> Option<Arc<AppliedState>> {
        self.core.published.wait_index(index, deadline).await
    }

    /// This server's id.
    pub fn node(&self) -> NodeId {
        self.core.identity.node
    }

    /// Who leads, who belongs to the cluster, and each change of that.
    pub fn subscribe(&self) -> watch::Receiver<Leadership> {
        self.core.leadership.clone()
    }

    /// The leader, unless it has fallen silent; on the leader itself, unless a majority has.
    pub fn heard_leader(&self) -> Option<NodeId> {
        self.core.heard_leader(&self.core.raft.metrics().borrow_watched())
    }

    /// Everything about this replica, now.
    pub fn status(&self) -> Status {
        self.core.status()
    }

    /// The service for the Raft port. Each request's extensions must hold the connection's [`crate::PeerServer`].
    pub fn service(&self) -> RaftServer<RpcService> {
        RpcService::server(self.core.clone(), self.core.directory.clone())
    }

    /// Adds a server that takes entries and has no vote; success too if it is one at this address.
    pub async fn add_learner(
        &self,
        node: NodeId,
        address: &str,
        expected: MembershipId,
        deadline: Instant,
    ) -> Result<(), MembershipError> {
        let view = self.membership(expected)?;
        self.change(membership::add_learner(&view, node, address.to_owned())?, expected, deadline).await
    }

    /// Gives a learner a vote; success too if it has one.
    pub async fn promote(
        &self,
        node: NodeId,
        expected: MembershipId,
        deadline: Instant,
    ) -> Result<(), MembershipError> {
        self.change(membership::promote(&self.membership(expected)?, node)?, expected, deadline).await
    }

    /// Removes a voter or learner; success too if there is no such member.
    pub async fn remove(&self, node: NodeId, expected: MembershipId, deadline: Instant) -> Result<(), MembershipError> {
        self.change(membership::remove(&self.membership(expected)?, node)?, expected, deadline).await
    }

    /// Finishes a change of voters that a leader began and did not end; success too if there is none.
    pub async fn finish_joint(&self, expected: MembershipId, deadline: Instant) -> Result<(), MembershipError> {
        self.change(membership::finish_joint(&self.membership(expected)?), expected, deadline).await
    }

    /// Changes where a member is reached.
    pub async fn set_address(
        &self,
        node: NodeId,
        address: &str,
        expected: MembershipId,
        deadline: Instant,
    ) -> Result<(), MembershipError> {
        let view = self.membership(expected)?;
        self.change(membership::set_address(&view, node, address.to_owned())?, expected, deadline).await
    }

    /// Hands leadership to a voter, and waits until another server leads.
    pub async fn transfer_leadership(&self, to: NodeId, deadline: Instant) -> Result<(), MembershipError> {
        let mut leadership = self.subscribe();
        loop {
            let now = leadership.borrow_and_update().clone();
            if now.role != Role::Leader {
                return Err(MembershipError::NotLeader { leader: now.leader });
            }
            if !now.membership.voters.contains(&to) {
                return Err(MembershipError::Refused { reason: format!("server {to} has no vote") });
            }
            if to == self.node() {
                return Ok(());
            }
            self.core.raft.trigger().transfer_leader(to.0).await.map_err(|_| MembershipError::Stopped)?;
            let gone = leadership.wait_for(|now| now.leader.is_some_and(|leader| leader != self.node()));
            match timeout_at(deadline.min(Instant::now() + TRANSFER_AGAIN), gone).await {
                Ok(gone) => return gone.map(drop).map_err(|_| MembershipError::Stopped),
                Err(_) if Instant::now() >= deadline => return Err(MembershipError::OutcomeUnknown),
                // The message was lost, or this server lost and regained leadership meanwhile.
                Err(_) => {}
            }
        }
    }

    /// Makes a snapshot soon.
    pub async fn snapshot_now(&self) -> Result<(), MembershipError> {
        self.core.raft.trigger().snapshot().await.map_err(|_| MembershipError::Stopped)
    }

    /// Stops cleanly: nothing is lost, and the high-water file is current. Proposals that wait are told.
    pub async fn shutdown(&self) {
        if let Err(error) = self.core.raft.shutdown().await {
            tracing::warn!(%error, "openraft ended badly");
        }
        let mut tasks = std::mem::take(&mut *self.core.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.shutdown().await;
        self.core.log.stop().await;
    }

    fn membership(&self, expected: MembershipId) -> Result<MembershipView, MembershipError> {
        let metrics = self.core.raft.metrics().borrow_watched().clone();
        let leadership = leadership_of(&metrics, self.core.leadership.borrow().clock);
        if leadership.role != Role::Leader {
            return Err(MembershipError::NotLeader { leader: leadership.leader });
        }
        if leadership.membership.id == expected { Ok(leadership.membership) } else { Err(MembershipError::Changed) }
    }

    async fn change(
        &self,
        change: Option<openraft::ChangeMembers<u64, BasicNode>>,
        expected: MembershipId,
        deadline: Instant,
    ) -> Result<(), MembershipError> {
        match change {
            Some(change) => membership::change(&self.core.raft, change, expected, deadline).await,
            None => Ok(()),
        }
    }
}

impl Core {
    /// Proposes a command that `peer` forwarded.
    pub(crate) async fn propose_forwarded(
        &self,
        peer: NodeId,
        command: Command,
        deadline: Instant,
    ) -> Result<Proposed, ProposeError> {
        self.proposer.propose(command, peer, true, deadline).await
    }

    /// Waits until the replica is shut down.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut leadership = self.leadership.clone();
        async move { while leadership.changed().await.is_ok() {} }
    }

    /// An index to read at, if this server leads and its clock has begun.
    pub(crate) async fn local_read_index(&self) -> Option<u64> {
        if !self.leadership.borrow().is_ready_leader() {
            return None;
        }
        read_index(&self.raft).await
    }

    /// The leader, unless it has fallen silent; on the leader itself, unless a majority has.
    fn heard_leader(&self, metrics: &Metrics) -> Option<NodeId> {
        let leader = metrics.current_leader.map(NodeId)?;
        let silence = match leader.0 == metrics.id {
            true if metrics.membership_config.membership().voter_ids().count() == 1 => Some(Duration::ZERO),
            true => metrics.last_quorum_acked.map(|at| at.elapsed()),
            false => self.heard.since(leader),
        };
        silence.is_some_and(|silence| silence < self.silent_after).then_some(leader)
    }

    fn status(&self) -> Status {
        let metrics: Metrics = self.raft.metrics().borrow_watched().clone();
        let index = |id: &Option<crate::type_config::LogId>| id.as_ref().map(|id| id.index);
        let applied = self.published.current().index;
        // The metrics may be a moment older: what is applied is in the log, and committed.
        let at_least_applied = |found: Option<u64>| found.max(Some(applied).filter(|applied| *applied > 0));
        Status {
            leadership: leadership_of(&metrics, self.leadership.borrow().clock),
            last_log: at_least_applied(metrics.last_log_index),
            committed: at_least_applied(index(&metrics.local_committed)),
            applied,
            snapshot: index(&metrics.snapshot),
            purged: index(&metrics.purged),
            replication: replication_of(&metrics),
            heard_leader: self.heard_leader(&metrics),
            log_bytes_on_disk: self.log.size_on_disk(),
            log_bytes_in_memory: self.log.window_bytes(),
            watchers: self.published.watchers(),
            failure: metrics.running_state.err().map(|fatal| fatal.to_string()),
        }
    }
}

/// Lets a majority confirm that this server leads; the index that a read must then have applied.
pub(crate) async fn read_index(raft: &Raft) -> Option<u64> {
    let read = raft.get_read_linearizer(ReadPolicy::ReadIndex).await;
    let read = read.inspect_err(|error| tracing::debug!(%error, "leadership is not confirmed"));
    read.ok().map(|read| read.read_log_id().index())
}
