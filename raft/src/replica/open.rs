//! Opening a replica: everything on disk is verified, then openraft and the tasks around it start.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use carrack_authority::id::{NodeId, StoreId};
use openraft::async_runtime::WatchReceiver;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use uuid::Uuid;

use super::{Core, Raft, Replica, SILENT_AFTER_MIN};
use crate::{
    high_water::INDEX_AGE_MAX,
    leader_clock::{ClockStatus, ClockTask, LeaderClock},
    log_store::{LogError, LogPorts, LogStore, OpenEngine, Owner},
    network::{Heard, Identity, Links, Network},
    ports::{ApplyObserver, Dialer, Entropy, Fatal, Files, PeerDirectory, WallClock, Workers},
    proposer::{Dispatcher, Proposer},
    reads::{ReadTask, Reader},
    runtime,
    snapshot::{SnapshotError, Snapshots},
    state_machine::StateMachine,
    status::{Leadership, leadership_of},
    tuning::Tuning,
};

/// The snapshots that are received at once: each is held in memory. A second one may begin while the first one's sender is not yet
/// known to be gone.
const RECEIVED_AT_ONCE_MAX: usize = 2;

/// Which replica is opened.
#[derive(Clone, Debug)]
pub struct ReplicaOptions {
    /// The server's id, given once and never again.
    pub node: NodeId,
    /// The store's id, drawn before the server was admitted, and recorded for it.
    pub store: StoreId,
    /// The cluster that the server belongs to.
    pub cluster: Uuid,
    /// Whether the store may be missing: only before the server has ever run under this id. A store that is lost later is refused.
    pub may_create: bool,
    /// Times and sizes.
    pub tuning: Tuning,
}

/// What a replica needs from outside.
pub struct ReplicaPorts {
    /// Opens the log's engine.
    pub engine: OpenEngine,
    /// The high-water file and the snapshots.
    pub files: Arc<dyn Files>,
    /// Work beside the async tasks.
    pub workers: Arc<dyn Workers>,
    /// Connections to the other servers.
    pub dialer: Arc<dyn Dialer>,
    /// What is recorded of the other servers.
    pub directory: Arc<dyn PeerDirectory>,
    /// The machine's clock.
    pub wall_clock: Arc<dyn WallClock>,
    /// Randomness for election timeouts.
    pub entropy: Arc<dyn Entropy>,
    /// What happens when the store cannot be trusted any more.
    pub fatal: Fatal,
    /// Who looks on when entries are applied.
    pub observer: Option<Arc<dyn ApplyObserver>>,
}

/// Why a replica does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The newest snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The times do not fit together.
    #[error("the times of consensus do not fit together: {reason}")]
    Tuning {
        /// What does not fit.
        reason: String,
    },
    /// openraft does not start.
    #[error("the replica does not start: {reason}")]
    Start {
        /// What it says.
        reason: String,
    },
}

impl Replica {
    /// Opens the store, verifies all of it, and takes part in the cluster.
    pub async fn open(options: ReplicaOptions, ports: ReplicaPorts) -> Result<Self, OpenError> {
        let mut seed = [0; 8];
        ports.entropy.fill(&mut seed);
        runtime::seed(u64::from_le_bytes(seed));
        let config = options.tuning.config().map_err(|error| OpenError::Tuning { reason: error.to_string() })?;
        let config = Arc::new(config);
        let ReplicaOptions { node, store, cluster, may_create, tuning } = options;
        let (files, workers, fatal) = (ports.files, ports.workers, ports.fatal);
        let log_ports =
            LogPorts { engine: ports.engine, files: files.clone(), workers: workers.clone(), fatal: fatal.clone() };
        let log = LogStore::open(Owner { node, store, may_create }, log_ports).await?;
        let (snapshots, loaded) = Snapshots::open(files, workers).await?;
        check_snapshot(&log, loaded.as_ref().and_then(|(meta, _)| meta.last_log_id).map(|last| last.index))?;
        let machine = StateMachine::new(loaded, snapshots.clone(), ports.observer, fatal.clone());
        let published = machine.published();
        let identity = Identity { node, store, cluster };
        let links = Arc::new(Links::new(identity, ports.dialer, ports.directory.clone(), tuning.links()));
        let network = Network { links: links.clone(), snapshots: snapshots.clone() };
        let raft = Raft::new(node.0, config, network, log.clone(), machine).await;
        let raft = raft.map_err(|error| OpenError::Start { reason: error.to_string() })?;

        let clock = Arc::new(LeaderClock::new());
        let first = leadership_of(&raft.metrics().borrow_watched(), ClockStatus::default());
        let (leadership, follow) = watch::channel(first);
        let (proposer, queue) = Proposer::new();
        let (reader, readings) = Reader::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_leadership(raft.clone(), clock.status(), leadership, fatal.clone()));
        tasks.spawn(keep_house(raft.clone(), log.clone(), tuning.snapshot_at_bytes));
        let dispatcher = Dispatcher {
            queue,
            raft: raft.clone(),
            links: links.clone(),
            clock: clock.clone(),
            published: published.clone(),
            leadership: follow.clone(),
            limits: tuning.in_flight(),
        };
        tasks.spawn(dispatcher.run());
        let read_task =
            ReadTask { queue: readings, raft: raft.clone(), links: links.clone(), leadership: follow.clone() };
        tasks.spawn(read_task.run());
        let clock_task = ClockTask {
            me: node,
            clock: clock.clone(),
            raft: raft.clone(),
            links,
            wall_clock: ports.wall_clock.clone(),
            published: published.clone(),
            leadership: follow.clone(),
            ask_every: tuning.clock_asked_every,
            lead_at_least: tuning.clock_handed_over_after,
        };
        tasks.spawn(clock_task.run());
        let core = Core {
            raft,
            snapshots,
            wall_clock: ports.wall_clock,
            identity,
            log,
            published,
            proposer,
            reader,
            leadership: follow,
            directory: ports.directory,
            fatal,
            receiving: Semaphore::new(RECEIVED_AT_ONCE_MAX),
            heard: Heard::default(),
            silent_after: SILENT_AFTER_MIN.max(tuning.election_max * 2),
            tasks: Mutex::new(tasks),
        };
        Ok(Self { core: Arc::new(core) })
    }
}

fn check_snapshot(log: &LogStore, snapshot: Option<u64>) -> Result<(), SnapshotError> {
    match log.purged().map(|purged| purged.index) {
        Some(purged) if snapshot.is_none_or(|snapshot| snapshot < purged) => {
            Err(SnapshotError::Missing { purged, snapshot })
        }
        _ => Ok(()),
    }
}

/// How long the end of consensus is looked at before the process ends for it.
const END_PAUSE: Duration = Duration::from_millis(100);

/// Publishes who leads, whenever openraft or the clock change their mind.
async fn watch_leadership(
    raft: Raft,
    mut clock: watch::Receiver<ClockStatus>,
    leadership: watch::Sender<Leadership>,
    fatal: Fatal,
) {
    let mut metrics = raft.metrics();
    loop {
        let seen = metrics.borrow_watched().clone();
        let now = leadership_of(&seen, *clock.borrow_and_update());
        leadership.send_if_modified(|current| {
            let is_changed = *current != now;
            if is_changed {
                *current = now;
            }
            is_changed
        });
        match seen.running_state {
            Ok(()) | Err(openraft::errors::Fatal::Stopped) => {}
            // A server without consensus would answer nobody and look alive. A runtime that is being dropped takes openraft's tasks one
            // by one, which looks the same: during the pause it takes this one too.
            Err(failure) => {
                sleep(END_PAUSE).await;
                return fatal(&format!("consensus has ended: {failure}"));
            }
        }
        let is_end = tokio::select! {
            biased;
            changed = metrics.changed() => changed.is_err(),
            changed = clock.changed() => changed.is_err(),
        };
        if is_end {
            return;
        }
    }
}

/// Keeps the high-water file young and the log in memory small.
async fn keep_house(raft: Raft, log: LogStore, snapshot_at_bytes: usize) {
    // Half of what is allowed, so that a late tick is not too late.
    let mut ticks = interval(INDEX_AGE_MAX / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked_at_index = None;
    loop {
        ticks.tick().await;
        log.tick();
        let snapshot = raft.metrics().borrow_watched().snapshot.map(|last| last.index);
        if log.window_bytes() > snapshot_at_bytes && asked_at_index != Some(snapshot) {
            asked_at_index = Some(snapshot);
            if raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
    }
}
