//! What this server tells agents, made once for all of their streams; and which agents hold one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use carrack_authority::{
    State, WatchKey,
    id::{Digest, Revision},
    intention::DefaultPolicy,
    plan::reissue::leaving,
    root::{Ca, Root},
    spiffe::Name,
};
use carrack_proto::{
    agent,
    convert::agent::{BundleTold, bundle_to_wire},
};
use carrack_raft::Replica;
use futures::future::select_all;
use tokio::{
    sync::{Notify, watch},
    time::{Duration, Instant},
};

/// How long it is waited for a change at once.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What every agent is told.
#[derive(Clone, Debug, Default)]
pub struct ToldToAll {
    /// The bundle, and the revision of the last change in it; `None`: this datacenter has not begun.
    pub bundle: Option<(Revision, Arc<agent::Bundle>)>,
}

/// The tables that it is made of.
const WATCHED: [WatchKey; 4] =
    [WatchKey::Roots(Ca::Mesh), WatchKey::Roots(Ca::Server), WatchKey::RevokedIssuers, WatchKey::Members];

/// Keeps what every agent is told current until `stopped` turns true.
pub(super) async fn tell(
    replica: Replica,
    default_policy: DefaultPolicy,
    told: watch::Sender<Arc<ToldToAll>>,
    mut stopped: watch::Receiver<bool>,
) {
    let work = async {
        loop {
            let state = replica.state().state.clone();
            publish(&told, &state, default_policy);
            let deadline = Instant::now() + LOOK_AGAIN;
            let changes = WATCHED.iter().map(|key| Box::pin(replica.wait_for(*key, state.modified(key), deadline)));
            if let (Err(error), ..) = select_all(changes).await {
                tracing::warn!(%error, "agents are told of changes late");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    };
    tokio::select! {
        () = work => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
}

fn publish(told: &watch::Sender<Arc<ToldToAll>>, state: &State, default_policy: DefaultPolicy) {
    let bundle = bundle(state, default_policy).map(|bundle| Arc::new(bundle_to_wire(&bundle)));
    let revision = WATCHED.iter().map(|key| state.modified(key)).max().unwrap_or_default();
    let bundle = bundle.map(|bundle| (revision, bundle));
    told.send_if_modified(|told| {
        // The revision is that of the tables, so that every server says the same of the same bundle: an agent that comes from another
        // server tells by it who is behind.
        let revision_of =
            |bundle: &Option<(Revision, Arc<agent::Bundle>)>| bundle.as_ref().map(|(revision, _)| *revision);
        let is_news = revision_of(&told.bundle) != revision_of(&bundle);
        if is_news {
            *told = Arc::new(ToldToAll { bundle });
        }
        is_news
    });
}

/// What verifiers trust, and where this datacenter's servers are; `None` before it has begun.
pub fn bundle(state: &State, default_policy: DefaultPolicy) -> Option<BundleTold> {
    let cluster = state.cluster()?;
    let bare = |root: &Arc<Root>| {
        let mut root = Root::clone(root);
        root.made.sealed_key = None;
        root
    };
    Some(BundleTold {
        default_policy,
        cluster: cluster.id,
        trust_domain: cluster.trust_domain.clone(),
        primary: state.primary().unwrap_or(&cluster.datacenter).clone(),
        roots: state.roots(Ca::Mesh).bundle().iter().map(bare).collect(),
        server_roots: state.roots(Ca::Server).bundle().iter().map(|root| root.made.certificate.clone()).collect(),
        servers: state.members().map(|member| member.addresses.grpc.clone()).collect(),
        revoked_issuers: state.revoked_issuers().clone(),
        leaving: leaving(state),
    })
}

/// An agent counts as live for this long after its stream has ended: it goes on with the bundle that it has.
pub const LIVE_AFTER: Duration = Duration::from_secs(60);

/// An agent that holds a stream of this server's, or held one a moment ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectedAgent {
    /// The name of its host.
    pub node: Name,
    /// The revision of the bundle that it has in use.
    pub has_bundle: Revision,
    /// Since when it holds a stream.
    pub since: Instant,
    streams: usize,
    /// When its last stream has ended.
    gone_at: Option<Instant>,
}

/// The agents that hold streams, by their keys.
#[derive(Debug, Default)]
pub struct ConnectedAgents {
    by_key: Mutex<BTreeMap<Digest, ConnectedAgent>>,
    /// One came or went, or has another bundle.
    changed: Notify,
    /// What all of them follow beside the bundle.
    topics: AtomicUsize,
}

impl ConnectedAgents {
    /// Those that hold a stream now, by their keys.
    pub fn by_key(&self) -> BTreeMap<Digest, ConnectedAgent> {
        let agents = self.lock();
        let connected = agents.iter().filter(|(_, agent)| agent.gone_at.is_none());
        connected.map(|(key, agent)| (*key, agent.clone())).collect()
    }

    /// Those that are live, by their keys; those that are so no more, or that nobody knows any more, are forgotten. With them comes the
    /// time until the next of them is forgotten.
    pub(super) fn live(&self, is_known: impl Fn(&Digest) -> bool) -> (Vec<ConnectedAgent>, Option<Duration>) {
        let mut agents = self.lock();
        agents.retain(|key, agent| agent.gone_at.is_none_or(|at| at.elapsed() < LIVE_AFTER && is_known(key)));
        let left = agents.values().filter_map(|agent| agent.gone_at.map(|at| LIVE_AFTER.saturating_sub(at.elapsed())));
        let left = left.min();
        (agents.values().cloned().collect(), left)
    }

    /// Ends when an agent has come or gone, or has another bundle; at once if one has since this ended last.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Notes a stream of an agent, for as long as the answer lives.
    pub fn enter(self: &Arc<Self>, public_key: Digest, node: &Name) -> AgentPresence {
        let mut agents = self.lock();
        let agent = agents.entry(public_key).or_insert_with(|| ConnectedAgent {
            node: node.clone(),
            has_bundle: Revision::default(),
            since: Instant::now(),
            streams: 0,
            gone_at: None,
        });
        agent.streams += 1;
        if agent.gone_at.take().is_some() {
            agent.since = Instant::now();
        }
        drop(agents);
        self.changed.notify_one();
        AgentPresence { agents: self.clone(), public_key, topics: AtomicUsize::new(0) }
    }

    /// How many streams are open.
    pub fn stream_count(&self) -> usize {
        self.lock().values().map(|agent| agent.streams).sum()
    }

    /// How much they follow beside the bundle.
    pub fn topic_count(&self) -> usize {
        self.topics.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, ConnectedAgent>> {
        // Each change is whole: a panic leaves nothing half done.
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream of an agent.
pub struct AgentPresence {
    agents: Arc<ConnectedAgents>,
    public_key: Digest,
    topics: AtomicUsize,
}

impl AgentPresence {
    /// The agent has this bundle in use.
    pub fn has_bundle(&self, revision: Revision) {
        if let Some(agent) = self.agents.lock().get_mut(&self.public_key) {
            agent.has_bundle = agent.has_bundle.max(revision);
        }
        self.agents.changed.notify_one();
    }

    /// The stream follows so much beside the bundle.
    pub fn follows(&self, topics: usize) {
        let former = self.topics.swap(topics, Ordering::Relaxed);
        self.agents.topics.fetch_add(topics, Ordering::Relaxed);
        self.agents.topics.fetch_sub(former, Ordering::Relaxed);
    }
}

impl Drop for AgentPresence {
    fn drop(&mut self) {
        self.follows(0);
        let mut agents = self.agents.lock();
        if let Some(agent) = agents.get_mut(&self.public_key) {
            agent.streams -= 1;
            if agent.streams == 0 {
                agent.gone_at = Some(Instant::now());
            }
        }
        drop(agents);
        self.agents.changed.notify_one();
    }
}
