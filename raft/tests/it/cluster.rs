//! The harness: each server has its own runtime, so that killing one leaves nothing of it running, and its own wall clock.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use carrack_authority::{
    ca_config::CaConfig,
    command::{Bootstrap, Command},
    id::{FeatureLevel, KeyId, NodeId, StoreId},
    key::{Der, KeyKind},
    member::{Addresses, Member},
    root::NewRoot,
    spiffe::Name,
    time::Timestamp,
};
use carrack_raft::{
    Directory, Leadership, OpenError, PeerServer, Proposed, Replica, ReplicaOptions, ReplicaPorts, Tuning,
    engine::SledEngine,
    ports::{BoxedStream, Dialer, Entropy, NamedThreads, PeerDirectory, Refusal, WallClock, Workers},
};
use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    time::Instant,
};
use tonic::transport::server::Connected;
use uuid::Uuid;

pub(crate) const CLUSTER: Uuid = Uuid::from_u128(0xca55_ac4e);
const START: u64 = 1_800_000_000_000;

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

pub(crate) fn store(node: u64) -> StoreId {
    StoreId([u8::try_from(node).unwrap(); 16])
}

/// What all servers of a test know of each other.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) addresses: Mutex<BTreeMap<u64, SocketAddr>>,
    /// Stores other than the usual ones.
    pub(crate) stores: Mutex<BTreeMap<u64, StoreId>>,
}

struct View(Arc<World>);

impl PeerDirectory for View {
    fn check(&self, node: NodeId, found: StoreId, cluster: Uuid) -> Result<(), Refusal> {
        let expected = self.0.stores.lock().unwrap().get(&node.0).copied().unwrap_or(store(node.0));
        if cluster != CLUSTER {
            return Err(Refusal::OtherCluster { found: cluster, expected: CLUSTER });
        }
        if found == expected { Ok(()) } else { Err(Refusal::OtherStore { node, found, expected }) }
    }

    fn address(&self, node: NodeId) -> Option<String> {
        self.0.addresses.lock().unwrap().get(&node.0).map(ToString::to_string)
    }
}

/// Plain TCP; the first eight bytes say who calls, as a certificate would.
pub(crate) struct PlainDialer {
    pub(crate) me: u64,
}

impl Dialer for PlainDialer {
    fn dial(&self, _node: NodeId, address: &str) -> BoxFuture<'static, io::Result<BoxedStream>> {
        let (me, address) = (self.me, address.to_owned());
        Box::pin(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            stream.write_u64(me).await?;
            Ok(Box::new(stream) as BoxedStream)
        })
    }
}

struct Accepted {
    stream: TcpStream,
    peer: PeerServer,
}

impl Connected for Accepted {
    type ConnectInfo = PeerServer;

    fn connect_info(&self) -> PeerServer {
        self.peer
    }
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

async fn serve(listener: TcpListener, replica: Replica) {
    let incoming = async_stream::stream! {
        loop {
            let (mut stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            if let Ok(node) = stream.read_u64().await {
                yield Ok::<_, io::Error>(Accepted { stream, peer: PeerServer { node: NodeId(node) } });
            }
        }
    };
    let server = tonic::transport::Server::builder().add_service(replica.service());
    server.serve_with_incoming(Box::pin(incoming)).await.unwrap();
}

/// A wall clock that a test can set wrong: real time runs, from where the test says.
#[derive(Clone)]
pub(crate) struct SkewedClock {
    started: Instant,
    skew_ms: Arc<AtomicI64>,
}

impl SkewedClock {
    pub(crate) fn skew(&self, skew: i64) {
        self.skew_ms.store(skew, Ordering::Relaxed);
    }

    pub(crate) fn right(&self) -> Timestamp {
        Timestamp(START).plus(self.started.elapsed())
    }
}

impl WallClock for SkewedClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.right().0.saturating_add_signed(self.skew_ms.load(Ordering::Relaxed)))
    }
}

struct Numbers(AtomicU64);

impl Entropy for Numbers {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(u8::try_from(self.0.fetch_add(1, Ordering::Relaxed) % 256).unwrap());
    }
}

/// Threads that a test can wait for.
#[derive(Clone, Default)]
struct CountedThreads(Arc<(Mutex<usize>, Condvar)>);

impl Workers for CountedThreads {
    fn run(&self, name: &str, work: BoxFuture<'static, ()>) -> io::Result<()> {
        *self.0.0.lock().unwrap() += 1;
        let threads = self.clone();
        NamedThreads.run(
            name,
            Box::pin(async move {
                work.await;
                *threads.0.0.lock().unwrap() -= 1;
                threads.0.1.notify_all();
            }),
        )
    }
}

impl CountedThreads {
    fn wait(&self) {
        drop(self.0.1.wait_while(self.0.0.lock().unwrap(), |count| *count > 0).unwrap());
    }
}

/// A runtime that ends with everything in it, wherever it is dropped.
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn new() -> Self {
        Self(Some(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()))
    }

    async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.0.as_ref().unwrap().spawn(work).await.unwrap()
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

pub(crate) struct Server {
    pub(crate) replica: Replica,
    runtime: OwnRuntime,
    threads: CountedThreads,
}

pub(crate) struct Cluster {
    pub(crate) place: tempfile::TempDir,
    pub(crate) world: Arc<World>,
    pub(crate) clocks: BTreeMap<u64, SkewedClock>,
    pub(crate) servers: BTreeMap<u64, Server>,
    pub(crate) tuning: Tuning,
}

pub(crate) fn quick() -> Tuning {
    Tuning {
        heartbeat: Duration::from_millis(100),
        election_min: Duration::from_millis(500),
        election_max: Duration::from_millis(1000),
        ..Tuning::default()
    }
}

impl Cluster {
    pub(crate) fn new(tuning: Tuning) -> Self {
        let started = Instant::now();
        let clock = |node| (node, SkewedClock { started, skew_ms: Arc::default() });
        Self {
            place: tempfile::tempdir().unwrap(),
            world: Arc::default(),
            clocks: (1..=5).map(clock).collect(),
            servers: BTreeMap::new(),
            tuning,
        }
    }

    /// Servers 1 to `count`, all voters, bootstrapped.
    pub(crate) async fn formed(count: u64, tuning: Tuning) -> Self {
        let mut cluster = Self::new(tuning);
        cluster.start(1).await;
        let address = cluster.address(1);
        cluster.replica(1).initialize(&address).await.unwrap();
        for node in 2..=count {
            cluster.start(node).await;
            cluster.join(node).await;
        }
        let leader = cluster.leader().await;
        cluster.replica(leader).propose(bootstrap(), soon()).await.unwrap();
        cluster
    }

    /// Adds a running server as a voter.
    pub(crate) async fn join(&self, node: u64) {
        let leader = self.leader().await;
        let leader = self.replica(leader);
        let id = leader.subscribe().borrow().membership.id;
        leader.add_learner(NodeId(node), &self.address(node), id, soon()).await.unwrap();
        let mut leadership = leader.subscribe();
        let added = leadership.wait_for(|now| now.membership.learners.contains(&NodeId(node))).await.unwrap();
        let id = added.membership.id;
        drop(added);
        leader.promote(NodeId(node), id, soon()).await.unwrap();
    }

    pub(crate) fn directory(&self, node: u64) -> PathBuf {
        self.place.path().join(node.to_string())
    }

    pub(crate) fn address(&self, node: u64) -> String {
        self.world.addresses.lock().unwrap()[&node].to_string()
    }

    pub(crate) fn replica(&self, node: u64) -> Replica {
        self.servers[&node].replica.clone()
    }

    pub(crate) async fn start(&mut self, node: u64) {
        self.try_start(node).await.unwrap();
    }

    pub(crate) async fn try_start(&mut self, node: u64) -> Result<(), OpenError> {
        let runtime = OwnRuntime::new();
        let threads = CountedThreads::default();
        let (options, ports) = (self.options(node), self.ports(node, threads.clone()));
        let opened = runtime.run(Replica::open(options, ports)).await;
        let replica = match opened {
            Ok(replica) => replica,
            Err(error) => {
                drop(runtime);
                threads.wait();
                return Err(error);
            }
        };
        let listener = runtime.run(TcpListener::bind("127.0.0.1:0")).await.unwrap();
        self.world.addresses.lock().unwrap().insert(node, listener.local_addr().unwrap());
        let serving = serve(listener, replica.clone());
        runtime.run(async { drop(tokio::spawn(serving)) }).await;
        self.servers.insert(node, Server { replica, runtime, threads });
        Ok(())
    }

    fn options(&self, node: u64) -> ReplicaOptions {
        let may_create = !self.directory(node).exists();
        let tuning = self.tuning.clone();
        ReplicaOptions { node: NodeId(node), store: store(node), cluster: CLUSTER, may_create, tuning }
    }

    fn ports(&self, node: u64, threads: CountedThreads) -> ReplicaPorts {
        let directory = self.directory(node);
        let log = directory.join("log");
        ReplicaPorts {
            files: Arc::new(Directory::open(directory).unwrap()),
            engine: Box::new(move || Ok(Box::new(SledEngine::open(&log)?))),
            workers: Arc::new(threads),
            dialer: Arc::new(PlainDialer { me: node }),
            directory: Arc::new(View(self.world.clone())),
            wall_clock: Arc::new(self.clocks[&node].clone()),
            entropy: Arc::new(Numbers(AtomicU64::new(node))),
            fatal: Arc::new(|reason| panic!("{reason}")),
            observer: None,
        }
    }

    /// Ends a server without telling it.
    pub(crate) fn kill(&mut self, node: u64) {
        let Server { replica, runtime, threads } = self.servers.remove(&node).unwrap();
        drop((runtime, replica));
        threads.wait();
    }

    /// Ends a server cleanly.
    pub(crate) async fn stop(&mut self, node: u64) {
        let Server { replica, runtime, threads } = self.servers.remove(&node).unwrap();
        let stopping = replica.clone();
        runtime.run(async move { stopping.shutdown().await }).await;
        drop((runtime, replica));
        threads.wait();
    }

    /// The server that leads and admits commands, when there is one.
    pub(crate) async fn leader(&self) -> u64 {
        let ready = self.servers.iter().map(|(node, server)| {
            let mut leadership = server.replica.subscribe();
            Box::pin(async move {
                leadership.wait_for(Leadership::is_ready_leader).await.unwrap();
                *node
            })
        });
        let first = futures::future::select_all(ready);
        tokio::time::timeout(Duration::from_secs(30), first).await.expect("a leader within 30 s").0
    }

    /// Waits until every server has applied this entry.
    pub(crate) async fn all_apply(&self, index: u64) {
        for (node, server) in &self.servers {
            let applied = server.replica.wait_index(index, soon()).await;
            assert!(applied.is_some(), "server {node}: {:?}", server.replica.status());
        }
    }

    pub(crate) async fn halt(&self, node: u64, halted: bool) -> Proposed {
        self.replica(node).propose(Command::SetHalt { halted }, soon()).await.unwrap()
    }
}

pub(crate) fn announce(node: u64) -> Command {
    let addresses = Addresses { raft: format!("127.0.0.1:{node}"), grpc: "127.0.0.1:2".to_owned(), wan: None };
    Command::AnnounceServer { node: NodeId(node), addresses, supports: FeatureLevel(1) }
}

fn bootstrap() -> Command {
    let member = Member {
        node: NodeId(1),
        name: Name::parse("node", "a").unwrap(),
        store: store(1),
        addresses: Addresses { raft: "127.0.0.1:1".to_owned(), grpc: "127.0.0.1:2".to_owned(), wan: None },
        sealing_recipient: "age1a".to_owned(),
        supports: FeatureLevel(1),
        certificate: None,
        former_key: None,
        request: None,
        is_leaving: false,
        admitted_at: Timestamp(0),
        created: Default::default(),
        modified: Default::default(),
    };
    let server_root = NewRoot {
        id: KeyId([1; 20]),
        provider: "builtin".to_owned(),
        certificate: Der::from(vec![1, 2, 3]),
        chain: Vec::new(),
        key_kind: KeyKind::EcP256,
        not_before: Timestamp(0),
        not_after: Timestamp(u64::MAX / 2),
        sealed_key: None,
    };
    Command::Bootstrap(Box::new(Bootstrap {
        cluster: CLUSTER,
        datacenter: Name::parse("datacenter", "dc1").unwrap(),
        trust_domain: "example.org".parse().unwrap(),
        feature_level: FeatureLevel(1),
        recovery: None,
        member,
        server_root,
        config: CaConfig::default(),
    }))
}
