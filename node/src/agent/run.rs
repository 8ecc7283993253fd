//! From a data directory and a token to a running agent, and its end.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use carrack_authority::spiffe::Name;
use carrack_raft::ports::{Entropy, WallClock};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    agent_source::AgentSource,
    directory::{AgentDirectory, AgentDirectoryError, AgentIdentity, Contacts},
    followed::Followed,
    join::{AgentJoinError, join},
    leaf_cache::LeafCache,
    link::Link,
    own::OwnCertificateTask,
};
use crate::{
    api::http::{
        host::{self, HostEdge},
        serve,
    },
    data_directory::{LocalDirectory, OpenPlace, Place},
    keys::{aws_lc::AwsLcKeyMaker, secret::KeyMaker},
    network::{Listen, Network, Tcp},
    server::{
        agent_token::AgentTokenText,
        ports::{MachineClock, MachineEntropy},
        task::chain_of,
    },
    telemetry::{labels::Port, metrics::Metrics},
    tls::{
        acceptor::{Acceptor, Limits},
        clock::TlsClock,
        identity::{IdentityError, ServerIdentity},
    },
};

/// How often it is looked whether this agent has slept, and for what nobody uses any more.
const TICK: Duration = Duration::from_secs(1);
/// How long the tasks of a stopping agent may take to end.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Accepted connections that wait to be served.
const ACCEPTED_MAX: usize = 64;

/// What an agent needs from the machine. The simulator has its own of each.
#[derive(Clone)]
pub struct AgentPorts {
    /// The machine's clock.
    pub wall_clock: Arc<dyn WallClock>,
    /// Random bytes.
    pub entropy: Arc<dyn Entropy>,
    /// Makes private keys.
    pub key_maker: Arc<dyn KeyMaker>,
    /// Connections.
    pub network: Arc<dyn Network>,
    /// Where the agent keeps its key.
    pub place: OpenPlace,
}

impl AgentPorts {
    /// Those of a real machine.
    pub fn of_machine() -> Self {
        Self {
            wall_clock: Arc::new(MachineClock),
            entropy: Arc::new(MachineEntropy),
            key_maker: Arc::new(AwsLcKeyMaker),
            network: Arc::new(Tcp),
            place: Arc::new(|path| Ok(Arc::new(LocalDirectory::open(path)?) as Arc<dyn Place>)),
        }
    }
}

/// How an agent runs.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// Where it keeps its key.
    pub data_dir: PathBuf,
    /// Where it answers the workloads of its host; loopback.
    pub http: SocketAddr,
    /// With what it joins, the first time.
    pub join: Option<AgentTokenText>,
}

/// An agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentStartError {
    /// Its directory.
    #[error(transparent)]
    Directory(#[from] AgentDirectoryError),
    /// The join.
    #[error(transparent)]
    Join(#[from] AgentJoinError),
    /// It has joined already, and a token was given.
    #[error("the data directory {path} holds the agent of {node} already: start it without --join, or join with an empty directory", path = path.display())]
    HasJoined {
        /// The directory.
        path: PathBuf,
        /// The name of its host.
        node: Name,
    },
    /// It has not joined, and no token was given.
    #[error("the data directory {path} holds no agent yet: make a token with `carrack token agent --node <name>`, and start with --join", path = path.display())]
    NotJoined {
        /// The directory.
        path: PathBuf,
    },
    /// Its certificate.
    #[error("the agent's own certificate cannot be shown")]
    Identity(#[from] IdentityError),
    /// The port.
    #[error("cannot listen on {address}: set --listen-http to another address, or stop what uses this one")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The port is for this machine alone.
    #[error("--listen-http {0} is not on loopback: the answers hold private keys, and are for this machine alone")]
    NotLoopback(SocketAddr),
}

/// A running agent.
pub struct Agent {
    identity: AgentIdentity,
    edge: Arc<HostEdge>,
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

impl Agent {
    /// Joins if it has not, and runs.
    pub async fn start(options: AgentOptions, ports: AgentPorts) -> Result<Self, AgentStartError> {
        if !options.http.ip().is_loopback() {
            return Err(AgentStartError::NotLoopback(options.http));
        }
        let directory = Arc::new(AgentDirectory::open(&options.data_dir, &ports.place)?);
        let wall_clock = ports.wall_clock.clone();
        let clock = TlsClock::new(move || wall_clock.now());
        let listener = ports.network.listen(options.http).await;
        let listener = listener.map_err(|source| AgentStartError::Listen { address: options.http, source })?;
        let (identity, contacts) = joined(&options, &directory, &ports, &clock).await?;
        let shown = Arc::new(ServerIdentity::default());
        shown.show(&directory.credential(&*ports.key_maker)?)?;
        let followed = Arc::new(Followed::new(ports.wall_clock.clone()));
        let metrics = Arc::new(Metrics::of_agent());
        let link = Link::new(
            ports.network.clone(),
            ports.entropy.clone(),
            clock,
            shown.clone(),
            followed.clone(),
            metrics.clone(),
            contacts.clone(),
        );
        let link = Arc::new(link);
        let source = AgentSource {
            identity: identity.clone(),
            followed: followed.clone(),
            link: link.clone(),
            key_maker: ports.key_maker.clone(),
            entropy: ports.entropy.clone(),
            issuers: Mutex::default(),
        };
        let leaves = Arc::new(LeafCache::new(Arc::new(source), metrics.clone()));
        let edge = Arc::new(HostEdge {
            identity: identity.clone(),
            followed: followed.clone(),
            leaves: leaves.clone(),
            metrics: metrics.clone(),
            entropy: ports.entropy.clone(),
        });
        let stop = watch::Sender::new(false);
        let own = OwnCertificateTask {
            identity: identity.clone(),
            directory: directory.clone(),
            shown,
            link: link.clone(),
            followed: followed.clone(),
            key_maker: ports.key_maker.clone(),
            entropy: ports.entropy.clone(),
        };
        let mut tasks = JoinSet::new();
        let work = {
            let (link, leaves, followed, identity) = (link.clone(), leaves, followed, identity.clone());
            async move {
                tokio::join!(
                    link.run(),
                    leaves.keep_fresh(),
                    own.run(),
                    watch_sleep(&link, &followed),
                    follow_bundles(&followed, &leaves, &directory, &identity, contacts),
                );
            }
        };
        tasks.spawn(until(stop.subscribe(), work));
        serve_http(&edge, listener, &metrics, &stop, &mut tasks);
        Ok(Self { identity, edge, stop, tasks: Mutex::new(tasks) })
    }

    /// Who it is.
    pub fn identity(&self) -> &AgentIdentity {
        &self.identity
    }

    /// What it knows of the bundle, tokens and intentions.
    pub fn followed(&self) -> &Arc<Followed> {
        &self.edge.followed
    }

    /// The leaves that it keeps.
    pub fn leaves(&self) -> &Arc<LeafCache> {
        &self.edge.leaves
    }

    /// What it answers from.
    pub fn edge(&self) -> &Arc<HostEdge> {
        &self.edge
    }

    /// Ends it.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = async { while tasks.join_next().await.is_some() {} };
        if timeout(STOP_WITHIN, ended).await.is_err() {
            tracing::warn!("the agent's tasks did not end in time");
        }
    }
}

async fn joined(
    options: &AgentOptions,
    directory: &AgentDirectory,
    ports: &AgentPorts,
    clock: &TlsClock,
) -> Result<(AgentIdentity, Contacts), AgentStartError> {
    let path = || options.data_dir.clone();
    match (directory.joined()?, &options.join) {
        (Some(joined), None) => Ok(joined),
        (Some((identity, _)), Some(_)) => Err(AgentStartError::HasJoined { path: path(), node: identity.node }),
        (None, None) => Err(AgentStartError::NotJoined { path: path() }),
        (None, Some(token)) => Ok(join(token, directory, &*ports.key_maker, &ports.network, clock).await?),
    }
}

fn serve_http(
    edge: &Arc<HostEdge>,
    listener: Box<dyn Listen>,
    metrics: &Arc<Metrics>,
    stop: &watch::Sender<bool>,
    tasks: &mut JoinSet<()>,
) {
    let acceptor = Acceptor::plain(Port::Http, Limits::LOOPBACK, metrics.clone());
    let (accepted, connections) = mpsc::channel(ACCEPTED_MAX);
    tasks.spawn(acceptor.run(listener, accepted));
    tasks.spawn(serve::serve(host::router(edge), ReceiverStream::new(connections), stop.subscribe()));
}

async fn until(mut stopped: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        // An error means that the agent itself is gone: that is an end too.
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
}

/// Notices by the clock that this process was stopped or its machine suspended.
async fn watch_sleep(link: &Link, followed: &Followed) {
    loop {
        if followed.is_awake() {
            tracing::warn!(
                "this agent has slept, or the clock was set forward: it fetches the bundle before it serves anything"
            );
            link.sleep_is_over();
        }
        followed.leave_idle();
        sleep(TICK).await;
    }
}

/// A new bundle: leaves move to its active root at once, and where the servers are is kept for the next start.
async fn follow_bundles(
    followed: &Followed,
    leaves: &LeafCache,
    directory: &AgentDirectory,
    identity: &AgentIdentity,
    mut kept: Contacts,
) {
    let mut bundles = followed.bundles();
    while bundles.changed().await.is_ok() {
        leaves.look_again();
        let Some(bundle) = bundles.borrow_and_update().clone() else { continue };
        let contacts =
            Contacts { servers: bundle.told.servers.clone(), server_roots: bundle.told.server_roots.clone() };
        if contacts == kept {
            continue;
        }
        match directory.keep(identity, &contacts) {
            Ok(()) => kept = contacts,
            // With a full disk, say: it goes on, and tries again with the next bundle.
            Err(error) => {
                tracing::warn!(error = %chain_of(&error), "where the servers are is not kept for the next start");
            }
        }
    }
}
