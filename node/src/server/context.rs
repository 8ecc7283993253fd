//! What the edges of one server share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use carrack_authority::{
    id::NodeId,
    intention::DefaultPolicy,
    spiffe::{Name, TrustDomain},
};
use carrack_federation::secondary::SecondaryStatus;
use carrack_raft::{ReadError, Replica, ports::Entropy};
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use super::{
    agents::{ConnectedAgents, ToldToAll},
    datacenters::OtherDatacenters,
    desk::IssuingDesk,
    presence::Presence,
    task::Troubles,
    topics::Topics,
};
use crate::{
    keys::secret::KeyMaker,
    provider::{BuiltinProvider, Providers},
    telemetry::metrics::Metrics,
};

/// Who this server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerIdentityInfo {
    /// The cluster's id.
    pub cluster: Uuid,
    /// The datacenter.
    pub datacenter: Name,
    /// The name space of every identity.
    pub trust_domain: TrustDomain,
    /// This server's id.
    pub node: NodeId,
    /// This server's name.
    pub name: Name,
}

/// What the edges of one server share.
pub struct Context {
    /// The replicated state, and the way to change it.
    pub replica: Replica,
    /// Random bytes.
    pub entropy: Arc<dyn Entropy>,
    /// Makes the keys of leaves that this server keeps for local clients.
    pub key_maker: Arc<dyn KeyMaker>,
    /// The `builtin` CA provider: takes a root that an operator brings.
    pub builtin: Arc<BuiltinProvider>,
    /// All CA providers.
    pub providers: Providers,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where leaves are issued.
    pub desk: Arc<IssuingDesk>,
    /// Who this server is.
    pub identity: ServerIdentityInfo,
    /// What goes wrong now.
    pub troubles: Troubles,
    /// The way to other datacenters.
    pub others: Arc<dyn OtherDatacenters>,
    /// In a secondary, while this server leads: how its dealings with the primary stand.
    pub secondary: watch::Receiver<Option<SecondaryStatus>>,
    /// What agents are told.
    pub told: watch::Receiver<Arc<ToldToAll>>,
    /// What they follow beside that.
    pub topics: Arc<Topics>,
    /// The agents that hold streams of this server's.
    pub agents: Arc<ConnectedAgents>,
    /// Turns true when the server stops: what lasts ends then.
    pub stopped: watch::Receiver<bool>,
    /// In a secondary: how long tokens of all datacenters are honoured after the primary was heard; `None`: always.
    pub token_staleness_max: Option<Duration>,
    /// In a secondary: how long it issues after the primary, which may have halted it, was heard; `None`: always.
    pub halt_staleness_max: Option<Duration>,
    /// What holds between services that no intention is about.
    pub default_policy: DefaultPolicy,
    /// Which servers have not answered this one for a while, when it leads.
    pub(crate) presence: Arc<Presence>,
    /// Whether it has caught up since it started.
    pub has_caught_up: AtomicBool,
}

impl Context {
    /// Waits, once in the life of this process, until it knows what was decided before it started, and what time it is. What it knew when
    /// it stopped decides on no connection and is told to no agent: meanwhile something was denied, and certificates have ended.
    pub async fn catch_up(&self, deadline: Instant) -> Result<(), ReadError> {
        if !self.has_caught_up.load(Ordering::Acquire) {
            self.replica.read_linearizable(deadline).await?;
            self.has_caught_up.store(true, Ordering::Release);
        }
        Ok(())
    }
}
