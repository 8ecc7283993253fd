//! A simulated server: its disk and its clock, which outlive its processes, and the software of its host.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use carrack::{
    config::Config,
    data_directory::{Contents, DataDirectory, Place},
    keys::pool::Inline,
    server::{
        Server as Node, ServerPorts, Start, context::Context, federation_token::FederationTokenText,
        join_token::JoinTokenText,
    },
    tls::tap::Taps,
};
use carrack_authority::id::NodeId;
use carrack_proto::stored::{
    self, Kind as StoredKind,
    v1::{HighWater, LogId},
};
use carrack_raft::{
    engine::Slot,
    ports::{Fatal, Workers},
};
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::{clock::HostClock, network::SimulatedNetwork, place::DiskPlace, shared::Shared};
use crate::{
    crypto::{
        entropy::{ProcessStart, SeededEntropy},
        failing::{FailingKeyMaker, FailingSwitch},
        keys::SeededKeyMaker,
        outside::OutsideProvider,
        registry::KeyRegistry,
        sealer::SeededSealer,
    },
    disk::Disk,
    invariants::{
        Observer,
        seen::{Said, Seen},
    },
    trace::{Detail, Kind, Life},
};

/// A server that may run.
pub struct Server {
    /// The number of its datacenter.
    pub datacenter: usize,
    /// Its name in the datacenter.
    pub name: String,
    /// Its host.
    pub host: String,
    /// Its disk.
    pub disk: Disk,
    /// Its clock.
    pub clock: HostClock,
    /// Whether its keys sign.
    pub signing: FailingSwitch,
    config: Config,
    process: Mutex<Process>,
}

/// What a server's process is doing.
#[derive(Default)]
struct Process {
    first_start: Option<FirstStart>,
    starts: u32,
    context: Option<Arc<Context>>,
    stop: Option<oneshot::Sender<()>>,
    work: Option<mpsc::Sender<Work>>,
    phase: Phase,
    node: Option<NodeId>,
    standing: Standing,
}

/// What the world knows of a server, whether it runs or not.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// The operator has made it a member and has not removed it.
    belongs: bool,
    /// A fault has damaged its disk.
    is_damaged: bool,
    /// It has lost what it had promised to keep: it must not serve under its id.
    is_forgetful: bool,
    /// The operator is about to join it again.
    is_rejoining: bool,
    /// By how much the world had slept when its join token was made.
    slept_before_join: Duration,
    /// It is one of those that are healed at the end.
    is_core: bool,
}

/// How a server begins that has no data yet.
#[derive(Clone, Debug)]
enum FirstStart {
    Bootstrap,
    BootstrapSecondary(FederationTokenText),
    Join(JoinTokenText),
}

/// Something to be done inside of a server's process.
type Work = Box<dyn FnOnce(Arc<Context>) -> BoxFuture<'static, ()> + Send>;

/// How an operation that a fault hits says so.
const DISK_FAILS: [&str; 2] = ["the disk fails to", "no room for"];

/// The longest secret in its longest form, as a list of decimal numbers.
const SPLIT_BYTES_MAX: usize = 1024;

/// The most work that waits to be done inside of one server.
const WORK_MAX: usize = 256;

/// Where a process is in its life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// There is none.
    #[default]
    Off,
    /// It starts.
    Starting,
    /// It serves.
    Running,
    /// It refused to start, for this reason.
    Refused(String),
    /// It ended itself, for this reason.
    Fatal(String),
}

impl Server {
    /// A server that has never run.
    pub fn new(datacenter: usize, name: &str, host: &str, disk: Disk, clock: HostClock, config: Config) -> Self {
        Self {
            datacenter,
            name: name.into(),
            host: host.into(),
            disk,
            clock,
            signing: FailingSwitch::default(),
            config,
            process: Mutex::default(),
        }
    }

    /// Lets the first start create the datacenter.
    pub fn will_bootstrap(&self) {
        let mut process = self.process();
        process.first_start = Some(FirstStart::Bootstrap);
        process.standing.belongs = true;
    }

    /// Lets the first start create a secondary, which joins the primary with this token.
    pub fn will_join_primary(&self, token: FederationTokenText) {
        let mut process = self.process();
        process.first_start = Some(FirstStart::BootstrapSecondary(token));
        process.standing.belongs = true;
    }

    /// Lets the next start without data join with this token. `slept`: by how much the world had slept before it was asked for.
    pub fn will_join(&self, token: JoinTokenText, slept: Duration) {
        let mut process = self.process();
        process.first_start = Some(FirstStart::Join(token));
        process.phase = Phase::Off;
        process.standing = Standing {
            belongs: true,
            is_core: process.standing.is_core,
            slept_before_join: slept,
            ..Standing::default()
        };
    }

    /// The operator removes it.
    pub fn leaves(&self) {
        self.process().standing.belongs = false;
    }

    /// Whether the operator has made it a member and has not removed it.
    pub fn belongs(&self) -> bool {
        self.process().standing.belongs
    }

    /// Whether a fault has damaged its disk since it joined.
    pub fn is_damaged(&self) -> bool {
        self.process().standing.is_damaged
    }

    /// Notes that a fault has damaged its disk.
    pub fn set_damaged(&self, is_damaged: bool) {
        self.process().standing.is_damaged = is_damaged;
    }

    /// Notes that it has lost entries which it had promised to keep.
    pub fn set_forgetful(&self) {
        self.process().standing.is_forgetful = true;
    }

    /// Whether the operator is about to join it again.
    pub fn is_rejoining(&self) -> bool {
        self.process().standing.is_rejoining
    }

    /// Notes that the operator is about to join it again, or has given it up.
    pub fn set_rejoining(&self, is_rejoining: bool) {
        self.process().standing.is_rejoining = is_rejoining;
    }

    /// Whether it is one of those that are healed at the end.
    pub fn is_core(&self) -> bool {
        self.process().standing.is_core
    }

    /// Makes it one of those that are healed at the end.
    pub fn set_core(&self, is_core: bool) {
        self.process().standing.is_core = is_core;
    }

    /// Its id, when it last ran.
    pub fn node(&self) -> Option<NodeId> {
        self.process().node
    }

    /// Whether the refusal may be over at the next try: nobody answered its join, or its disk failed while it was opened.
    pub fn may_try_again(&self, reason: &str) -> bool {
        if DISK_FAILS.iter().any(|fails| reason.contains(fails)) {
            return true;
        }
        !self.has_identity()
            && matches!(self.process().phase, Phase::Refused(_))
            && matches!(self.process().first_start, Some(FirstStart::Join(_)))
            && !self.is_damaged()
    }

    /// Whether the world has slept since its join token was made.
    pub fn has_slept_since_join(&self) -> bool {
        self.clock.skipped() > self.process().standing.slept_before_join
    }

    /// Whether its log, with what was purged of it, ends before the index that its high-water file promises.
    pub fn log_is_behind_high_water(&self) -> bool {
        let found = self.disk.view().durable;
        let file = found.files.get("snapshots").and_then(|files| files.get("high-water"));
        let promised: Option<HighWater> = file.and_then(|bytes| stored::decode(StoredKind::HighWater, bytes).ok());
        let purged = found.slots.get(&Slot::Purged).and_then(|bytes| stored::decode(StoredKind::Purged, bytes).ok());
        let last = found.log.keys().next_back().copied().max(purged.map(|purged: LogId| purged.index));
        promised.is_none_or(|promised| last < promised.last_index)
    }

    /// What the running server shares with its edges.
    pub fn context(&self) -> Option<Arc<Context>> {
        self.process().context.clone()
    }

    /// Where its process is in its life.
    pub fn phase(&self) -> Phase {
        self.process().phase.clone()
    }

    /// Whether a process serves or starts.
    pub fn is_up(&self) -> bool {
        matches!(self.phase(), Phase::Starting | Phase::Running)
    }

    /// How often it was started.
    pub fn starts(&self) -> u32 {
        self.process().starts
    }

    /// Does something inside of the server's process, on its time; `None` if there is none, or if it ended meanwhile.
    pub async fn execute<T, F>(&self, work: F) -> Option<T>
    where
        T: Send + 'static,
        F: FnOnce(Arc<Context>) -> BoxFuture<'static, T> + Send + 'static,
    {
        let (reply, replied) = oneshot::channel();
        let work: Work = Box::new(move |context| {
            let working = work(context);
            // Whoever asked may have given up.
            Box::pin(async move { drop(reply.send(working.await)) })
        });
        let queue = self.process().work.clone()?;
        queue.try_send(work).ok()?;
        drop(queue);
        replied.await.ok()
    }

    /// Tells the process to end cleanly; whether there is one that serves.
    pub fn stop(&self) -> bool {
        let stop = self.process().stop.take();
        stop.is_some_and(|stop| stop.send(()).is_ok())
    }

    /// Forgets the process: it was killed.
    pub(super) fn killed(&self) {
        let mut process = self.process();
        (process.context, process.stop, process.work) = (None, None, None);
        if !matches!(process.phase, Phase::Refused(_) | Phase::Fatal(_)) {
            process.phase = Phase::Off;
        }
    }

    /// Notes that a process begins: its host is about to be started.
    pub(super) fn starting(&self) {
        let mut process = self.process();
        process.starts += 1;
        process.phase = Phase::Starting;
    }

    /// Whether its data directory is that of a server.
    pub fn has_identity(&self) -> bool {
        let place: Arc<dyn Place> = Arc::new(DiskPlace(self.disk.clone()));
        let contents = DataDirectory::new(Path::new("/"), place).contents();
        matches!(contents, Ok(Contents::Initialised(_)))
    }

    /// The software of its host: one process of the server, from its start to its end.
    pub(super) async fn run(
        self: Arc<Self>,
        shared: Arc<Shared>,
        keys: KeyRegistry,
        outside: Arc<OutsideProvider>,
    ) -> turmoil::Result {
        if self.phase() != Phase::Starting {
            return Ok(());
        }
        let start = match (self.has_identity(), self.process().first_start.clone()) {
            (true, _) | (_, None) => Start::Again,
            (false, Some(FirstStart::Bootstrap)) => Start::Bootstrap,
            (false, Some(FirstStart::BootstrapSecondary(token))) => Start::BootstrapSecondary(token),
            (false, Some(FirstStart::Join(token))) => Start::Join(token),
        };
        let how = match &start {
            Start::Again => "again",
            Start::Bootstrap => "bootstrap",
            Start::BootstrapSecondary(_) => "bootstrap as a secondary",
            Start::Join(_) => "join",
        };
        shared.note_detail(
            &self.host,
            Kind::Process,
            Detail::Life(Life::Starting),
            format!("starts ({how}), start {}", self.starts()),
        );
        let ports = self.ports(&shared, keys, outside);
        match Node::start(self.config.clone(), start, ports).await {
            Ok(node) => self.serve(&shared, node).await,
            Err(error) => self.refuse(&shared, &error),
        }
        Ok(())
    }

    async fn serve(&self, shared: &Shared, node: Node) {
        let (stop, stopped) = oneshot::channel();
        let (work, mut waiting) = mpsc::channel::<Work>(WORK_MAX);
        let context = node.context().clone();
        let worker = tokio::spawn(async move {
            while let Some(work) = waiting.recv().await {
                tokio::spawn(work(context.clone()));
            }
        });
        {
            let mut process = self.process();
            process.context = Some(node.context().clone());
            process.stop = Some(stop);
            process.work = Some(work);
            process.phase = Phase::Running;
            // Only a server that never was one creates the datacenter: an empty disk later is a lost one.
            process.first_start = process.first_start.take().filter(|start| matches!(start, FirstStart::Join(_)));
            process.node = Some(node.context().identity.node);
        }
        if self.process().standing.is_forgetful {
            let text = format!("{} serves, although its log has lost its end", self.host);
            shared.violate("lost_data_is_refused", text);
        }
        let serves = format!("serves as server {}", node.context().identity.node);
        shared.note_detail(&self.host, Kind::Process, Detail::Life(Life::Serving), serves);
        if stopped.await.is_err() {
            // The sender is dropped with the process only.
            return std::future::pending().await;
        }
        {
            let mut process = self.process();
            (process.context, process.work) = (None, None);
        }
        node.stop().await;
        worker.abort();
        self.process().phase = Phase::Off;
        shared.note_detail(&self.host, Kind::Process, Detail::Life(Life::Gone), "has stopped cleanly");
    }

    fn refuse(&self, shared: &Shared, error: &dyn std::error::Error) {
        let reason = chain(error);
        shared.note_detail(
            &self.host,
            Kind::Process,
            Detail::Life(Life::Refused),
            format!("refuses to start: {reason}"),
        );
        self.process().phase = Phase::Refused(reason);
    }

    fn ports(self: &Arc<Self>, shared: &Arc<Shared>, keys: KeyRegistry, outside: Arc<OutsideProvider>) -> ServerPorts {
        let start = ProcessStart::new(self.host.as_str(), self.starts().into());
        let (disk, dying) = (self.disk.clone(), (self.clone(), shared.clone()));
        let fatal: Fatal = Arc::new(move |reason| dying.0.die(&dying.1, reason));
        ServerPorts {
            wall_clock: Arc::new(self.clock.clone()),
            entropy: Arc::new(SeededEntropy::new(shared.seed, &start)),
            key_maker: Arc::new(FailingKeyMaker::new(
                SeededKeyMaker::new(shared.seed, &start, keys.clone()),
                self.signing.clone(),
            )),
            sealer: Arc::new(SeededSealer::new(shared.seed, &start, keys)),
            executor: Arc::new(Inline),
            providers: vec![outside],
            network: Arc::new(SimulatedNetwork),
            place: Arc::new(move |_| Ok(Arc::new(DiskPlace(disk.clone())) as Arc<dyn Place>)),
            workers: Arc::new(TaskWorkers),
            fatal,
            observer: Some(Arc::new(Observer::new(self.host.as_str(), shared.clone()))),
            taps: Some(taps(&self.host, shared)),
        }
    }

    /// The process ends itself: nothing more reaches its disk, and the driver ends its host after this step.
    fn die(&self, shared: &Shared, reason: &str) {
        self.disk.kill();
        shared.note_detail(&self.host, Kind::Process, Detail::Life(Life::Gone), format!("ends itself: {reason}"));
        self.process().phase = Phase::Fatal(reason.into());
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows what the server says to others to the invariants.
fn taps(host: &str, shared: &Arc<Shared>) -> Taps {
    let (host, shared): (Arc<str>, _) = (host.into(), shared.clone());
    Arc::new(move |port| {
        let (host, shared, mut said) = (host.clone(), shared.clone(), Vec::new());
        Box::new(move |bytes| {
            said.extend_from_slice(bytes);
            let bytes = Bytes::copy_from_slice(&said);
            shared.saw(Seen::Said(Said { host: host.clone(), port, bytes }));
            // What is split between two writes is whole with the end of the first.
            said.drain(..said.len().saturating_sub(SPLIT_BYTES_MAX));
        })
    })
}

/// Work beside the async tasks is a task like any other here: it only ever waits for channels and for the disk.
struct TaskWorkers;

impl Workers for TaskWorkers {
    fn run(&self, _name: &str, work: BoxFuture<'static, ()>) -> std::io::Result<()> {
        tokio::spawn(work);
        Ok(())
    }
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
