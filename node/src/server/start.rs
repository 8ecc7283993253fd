//! From a configuration and a data directory to a running server.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, atomic::AtomicBool},
};

use carrack_authority::{
    State,
    federation::Datacenter,
    id::StoreId,
    intention::{Action, DefaultPolicy},
    member::Addresses,
    planted::{self, Bug},
    spiffe::TrustDomain,
};
use carrack_federation::secondary::SecondaryStatus;
use carrack_raft::{InitializeError, OpenError, Replica, ReplicaOptions, ReplicaPorts, Tuning, ports::WallClock};
use tokio::sync::watch;
use uuid::{Builder, Uuid};

use super::{
    Server, Stop, Tasks,
    acknowledge::acknowledge_bundles,
    agents::{self, ToldToAll},
    begin::{BeginTask, Beginning, FIRST_NODE},
    context::{Context, ServerIdentityInfo},
    datacenters::{OtherDatacenters, WanCalls},
    desk::IssuingDesk,
    federation_token::FederationTokenText,
    join::{JoinError, join},
    join_primary::{FirstContact, JoinPrimaryError, JoinPrimaryTask},
    join_token::JoinTokenText,
    listeners::{Bound, ListenError},
    observe::observe,
    own_issuer::OwnIssuerTask,
    own_record::OwnRecordTask,
    ports::ServerPorts,
    secondary::follow_primary,
    task::{StepError, Task, Troubles, run},
    token_text::BadToken,
    topics::Topics,
    transport::Transport,
    wan::{ProviderSigner, ReplicaLog, ToPrimary, WanChannels},
};
use crate::{
    api::wan::{WanParts, WanService},
    config::{Config, Recovery},
    data_directory::{Contents, DataDirectory, DataDirectoryError, NodeIdentity},
    keys::{pool::SigningPool, server_keys::ServerKeys, store::KeyStoreError},
    leader::{
        initialize::InitializeTask,
        members::MembersTask,
        prune::PruneTask,
        rotate::RotateTask,
        seal::SealTask,
        sign::{SERVER_CERTIFICATE_TTL, SignTask},
    },
    provider::{BuiltinProvider, Providers},
    telemetry::metrics::Metrics,
    tls::clock::TlsClock,
};

/// How a server starts.
#[derive(Debug)]
pub enum Start {
    /// It creates its datacenter.
    Bootstrap,
    /// It creates its datacenter as a secondary of the primary that made the token.
    BootstrapSecondary(FederationTokenText),
    /// It joins with a token.
    Join(JoinTokenText),
    /// It goes on with what its data directory holds.
    Again,
}

/// A server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    Data(#[from] DataDirectoryError),
    /// The key store.
    #[error("the key store of the data directory {path} cannot be opened", path = path.display())]
    Keys {
        /// The data directory.
        path: PathBuf,
        /// Why.
        source: KeyStoreError,
    },
    /// The data directory belongs to a server, and this command would make another one.
    #[error(
        "the data directory {path} holds server {name} of datacenter {datacenter} already: start it without {flag}",
        path = path.display()
    )]
    HasServer {
        /// Where it is.
        path: PathBuf,
        /// Its name.
        name: String,
        /// Its datacenter.
        datacenter: String,
        /// The flag that does not fit.
        flag: &'static str,
    },
    /// The configuration names another server.
    #[error(
        "the configuration is for server `{configured}`, but the data directory holds `{found}`: set {key} to `{found}`, or choose another data directory"
    )]
    OtherServer {
        /// What differs.
        key: &'static str,
        /// What is configured.
        configured: String,
        /// What is stored.
        found: String,
    },
    /// The recovery choice is missing.
    #[error(
        "a datacenter is created with `--recovery-recipient age1...`, the public key with which you can open the root key when all servers are lost, or with an explicit `--without-recovery`"
    )]
    NoRecoveryChoice,
    /// The join failed.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The primary could not be joined.
    #[error(transparent)]
    JoinPrimary(#[from] JoinPrimaryError),
    /// The log or the state cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A port cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The log could not begin.
    #[error(transparent)]
    Initialize(#[from] InitializeError),
    /// This server's own keys or certificates.
    #[error("this server's own keys and certificates cannot be used")]
    Own(#[source] StepError),
}

pub(super) async fn start(config: Config, start: Start, ports: ServerPorts) -> Result<Server, StartError> {
    let data = Arc::new(DataDirectory::new(&config.data_dir, (ports.place)(&config.data_dir)?));
    let store = data.keys().map_err(|source| StartError::Keys { path: data.root().into(), source })?;
    let keys = ServerKeys::new(store, ports.key_maker.clone(), ports.sealer.clone());
    let parts = Parts { config, ports, keys: Arc::new(keys) };
    let identity = parts.identity(&data, start).await?;
    parts.check_identity(&identity)?;
    parts.run(data, identity).await
}

/// What a server's edges hear of while it runs.
struct Lasting {
    secondary: watch::Receiver<Option<SecondaryStatus>>,
    told: watch::Receiver<Arc<ToldToAll>>,
    stopped: watch::Receiver<bool>,
}

/// What a server is put together from.
struct Parts {
    config: Config,
    ports: ServerPorts,
    keys: Arc<ServerKeys>,
}

impl Parts {
    async fn identity(&self, data: &DataDirectory, start: Start) -> Result<NodeIdentity, StartError> {
        match (data.contents()?, start) {
            (Contents::Initialised(_), Start::Again) => Ok(data.server()?),
            (Contents::Initialised(identity), Start::Bootstrap | Start::BootstrapSecondary(_)) => {
                Err(self.has_server(&identity, "--bootstrap"))
            }
            (Contents::Initialised(identity), Start::Join(_)) => Err(self.has_server(&identity, "--join")),
            // Says what is wrong: there is nothing, or half of something.
            (_, Start::Again) => Ok(data.server()?),
            (_, Start::Bootstrap) => {
                // Left over by a try to begin as a secondary.
                self.keys.forget_federation_token().map_err(|error| StartError::Own(error.into()))?;
                self.new_datacenter(data, None)
            }
            (_, Start::BootstrapSecondary(token)) => {
                self.check_federation_token(&token)?;
                self.first_contact(token.clone()).welcome().await?;
                let kept = self.keys.keep_federation_token(&token.expose_text());
                kept.map_err(|error| StartError::Own(error.into()))?;
                self.new_datacenter(data, Some(&token.trust_domain))
            }
            (_, Start::Join(token)) => self.join(data, &token).await,
        }
    }

    fn check_federation_token(&self, token: &FederationTokenText) -> Result<(), JoinPrimaryError> {
        let Config { datacenter, trust_domain, listen, .. } = &self.config;
        if token.datacenter != *datacenter {
            let (token, datacenter) = (token.datacenter.clone(), datacenter.clone());
            return Err(JoinPrimaryError::OtherDatacenter { token, datacenter });
        }
        if let Some(configured) = trust_domain.as_ref().filter(|configured| **configured != token.trust_domain) {
            let (primary, configured) = (token.trust_domain.clone(), configured.clone());
            return Err(JoinPrimaryError::OtherTrustDomain { primary, configured });
        }
        if listen.wan.is_none() {
            return Err(JoinPrimaryError::NoWan);
        }
        Ok(())
    }

    fn first_contact(&self, token: FederationTokenText) -> FirstContact {
        let wall_clock = self.ports.wall_clock.clone();
        let clock = TlsClock::new(move || wall_clock.now());
        FirstContact { token, network: self.ports.network.clone(), clock }
    }

    /// The primary, while this server's datacenter has not been admitted: asked again at each start, because nothing but the token is
    /// kept before the datacenter begins.
    async fn primary(&self, state: &State) -> Result<Option<Datacenter>, StartError> {
        if state.cluster().is_some() {
            return Ok(None);
        }
        let text = self.keys.federation_token().map_err(|error| StartError::Own(error.into()))?;
        let Some(text) = text else { return Ok(None) };
        let token = text.parse().map_err(|error: BadToken| StartError::Own(error.into()))?;
        Ok(Some(self.first_contact(token).welcome().await?))
    }

    fn new_datacenter(&self, data: &DataDirectory, primary: Option<&TrustDomain>) -> Result<NodeIdentity, StartError> {
        if self.config.recovery.is_none() {
            return Err(StartError::NoRecoveryChoice);
        }
        let cluster = self.random_uuid();
        let primary = primary.filter(|_| !planted::is(Bug::OwnTrustDomain));
        let trust_domain = match primary.or(self.config.trust_domain.as_ref()) {
            Some(trust_domain) => trust_domain.clone(),
            None => format!("{cluster}.carrack").parse().expect("a UUID in lower case and a suffix are a trust domain"),
        };
        Ok(NodeIdentity {
            cluster,
            datacenter: self.config.datacenter.clone(),
            trust_domain,
            node: FIRST_NODE,
            name: self.config.node_name.clone(),
            store: data.new_store(|| self.random_store())?,
        })
    }

    async fn join(&self, data: &DataDirectory, token: &JoinTokenText) -> Result<NodeIdentity, StartError> {
        let (name, datacenter) = (&self.config.node_name, &self.config.datacenter);
        if token.node_name != *name || token.datacenter != *datacenter {
            return Err(StartError::Join(JoinError::OtherServer {
                token: token.node_name.clone(),
                token_datacenter: token.datacenter.clone(),
                name: name.clone(),
                datacenter: datacenter.clone(),
            }));
        }
        let store = data.new_store(|| self.random_store())?;
        let wall_clock = self.ports.wall_clock.clone();
        let clock = TlsClock::new(move || wall_clock.now());
        Ok(join(token, &self.addresses(), store, &self.keys, &self.ports.network, &clock).await?)
    }

    fn check_identity(&self, identity: &NodeIdentity) -> Result<(), StartError> {
        for (key, configured, found) in [
            ("node_name", &self.config.node_name, &identity.name),
            ("datacenter", &self.config.datacenter, &identity.datacenter),
        ] {
            if configured != found {
                let (configured, found) = (configured.to_string(), found.to_string());
                return Err(StartError::OtherServer { key, configured, found });
            }
        }
        Ok(())
    }

    /// Shows the certificate, opens the log, listens, and starts the tasks.
    async fn run(self, data: Arc<DataDirectory>, identity: NodeIdentity) -> Result<Server, StartError> {
        let bound = Bound::bind(&*self.ports.network, &self.config.listen).await?;
        let is_first = data.contents()? != Contents::Initialised(Box::new(identity.clone()));
        let credential = self.keys.server().map_err(|error| StartError::Own(error.into()))?;
        let taps = self.ports.taps.clone();
        let transport = Transport::new(identity.clone(), credential.as_ref(), data.clone(), taps);
        let transport = transport.map_err(StartError::Own)?;
        let transport = Arc::new(transport);
        let metrics = Arc::new(Metrics::new());
        let clock = LateClock::new(self.ports.wall_clock.clone());
        let replica = self.open_replica(is_first, &data, &identity, &transport, &metrics, &clock.tls()).await?;
        clock.follow(replica.clone());
        data.write_identity(&identity)?;
        transport.follow(&replica.state().state).map_err(StartError::Own)?;
        let primary = self.primary(&replica.state().state).await?;
        let (secondary, seen) = watch::channel(None);
        let dialer = transport.wan_dialer(self.ports.network.clone(), &clock.tls(), &metrics);
        let channels = Arc::new(WanChannels::new(dialer));
        let others = Arc::new(WanCalls { replica: replica.clone(), channels: channels.clone() });
        let stop = Stop { all_but_raft: watch::Sender::new(false), raft_port: watch::Sender::new(false) };
        let stopped = stop.all_but_raft.subscribe();
        let (told, to_all) = watch::channel(Arc::default());
        let lasting = Lasting { secondary: seen, told: to_all, stopped: stopped.clone() };
        let context = self.context(&identity, replica, &metrics, lasting, others);
        let mut tasks = Tasks::default();
        let log = Arc::new(ReplicaLog::new(context.replica.clone(), context.presence.clone()));
        let builtin = context.builtin.clone();
        let signer = ProviderSigner { providers: context.providers.clone(), entropy: self.ports.entropy.clone() };
        let (signer, shares, stops) = (Arc::new(signer), Arc::default(), stopped.clone());
        let wan = WanService::new(WanParts { log: log.clone(), signer, shares, stopped: stops });
        bound.serve(&context, &transport, &clock.tls(), wan, &stop, &mut tasks);
        if identity.node == FIRST_NODE && !context.replica.is_initialized().await? {
            context.replica.initialize(&self.config.advertise.raft.to_string()).await?;
        }
        let beginning = self.beginning(primary);
        let mut all = self.tasks(&identity, &context, &transport, &builtin, beginning);
        all.extend(self.join_primary_task(&clock.tls())?);
        for task in all {
            tasks.all_but_raft.spawn(run(task, context.replica.clone(), context.troubles.clone(), stopped.clone()));
        }
        let to_primary = Arc::new(ToPrimary(channels));
        let following = follow_primary(context.replica.clone(), log, to_primary, secondary, stopped.clone());
        tasks.all_but_raft.spawn(following);
        tasks.all_but_raft.spawn(agents::tell(context.replica.clone(), context.default_policy, told, stopped.clone()));
        tasks.all_but_raft.spawn(acknowledge_bundles(context.clone(), is_first));
        tasks.all_but_raft.spawn(context.topics.clone().run(stopped.clone()));
        tasks.all_but_raft.spawn(observe(context.clone(), stopped));
        Ok(Server { context, config: self.config, stop, tasks: Mutex::new(tasks), _data: data })
    }

    async fn open_replica(
        &self,
        may_create: bool,
        data: &DataDirectory,
        identity: &NodeIdentity,
        transport: &Arc<Transport>,
        metrics: &Arc<Metrics>,
        clock: &TlsClock,
    ) -> Result<Replica, StartError> {
        let raft = &self.config.raft;
        let options = ReplicaOptions {
            node: identity.node,
            cluster: identity.cluster,
            store: identity.store,
            may_create,
            tuning: Tuning {
                heartbeat: raft.heartbeat_interval,
                election_min: raft.election_timeout_min,
                election_max: raft.election_timeout_max,
                entries_per_snapshot: raft.snapshot_threshold,
                entries_kept: raft.trailing_logs,
                ..Tuning::default()
            },
        };
        let ports = ReplicaPorts {
            engine: data.log(),
            files: data.snapshots()?,
            workers: self.ports.workers.clone(),
            dialer: Arc::new(transport.dialer(self.ports.network.clone(), clock, metrics)),
            directory: transport.peers.clone(),
            wall_clock: self.ports.wall_clock.clone(),
            entropy: self.ports.entropy.clone(),
            fatal: self.ports.fatal.clone(),
            observer: self.ports.observer.clone(),
        };
        Ok(Replica::open(options, ports).await?)
    }

    fn context(
        &self,
        identity: &NodeIdentity,
        replica: Replica,
        metrics: &Arc<Metrics>,
        lasting: Lasting,
        others: Arc<dyn OtherDatacenters>,
    ) -> Arc<Context> {
        let Lasting { secondary, told, stopped } = lasting;
        let desk = IssuingDesk::new(
            identity.node,
            replica.clone(),
            SigningPool::new(self.ports.executor.clone()),
            self.ports.entropy.clone(),
            metrics.clone(),
            self.config.acl.token_staleness_max,
            self.config.halt_staleness_max,
        );
        let topics = Arc::new(Topics::new(replica.clone(), self.config.acl.token_staleness_max));
        let builtin = self.builtin();
        Arc::new(Context {
            replica,
            entropy: self.ports.entropy.clone(),
            key_maker: self.ports.key_maker.clone(),
            providers: Providers::new(builtin.clone(), &self.ports.providers),
            builtin,
            metrics: metrics.clone(),
            desk: Arc::new(desk),
            identity: ServerIdentityInfo {
                cluster: identity.cluster,
                datacenter: identity.datacenter.clone(),
                trust_domain: identity.trust_domain.clone(),
                node: identity.node,
                name: identity.name.clone(),
            },
            troubles: Troubles::default(),
            others,
            secondary,
            told,
            topics,
            agents: Arc::default(),
            stopped,
            token_staleness_max: self.config.acl.token_staleness_max,
            halt_staleness_max: self.config.halt_staleness_max,
            // ACLs deny what no rule names.
            default_policy: self
                .config
                .default_intention_policy
                .map_or(DefaultPolicy::Acl(Action::Deny), DefaultPolicy::Intentions),
            presence: Arc::default(),
            has_caught_up: AtomicBool::new(false),
        })
    }

    fn builtin(&self) -> Arc<BuiltinProvider> {
        let (ports, keys) = (&self.ports, self.keys.clone());
        let (maker, sealer, entropy) = (ports.key_maker.clone(), ports.sealer.clone(), ports.entropy.clone());
        Arc::new(BuiltinProvider::new(maker, sealer, keys, entropy))
    }

    fn tasks(
        &self,
        identity: &NodeIdentity,
        context: &Context,
        transport: &Arc<Transport>,
        builtin: &Arc<BuiltinProvider>,
        beginning: Option<Beginning>,
    ) -> Vec<Arc<dyn Task>> {
        let replica = &context.replica;
        let (entropy, keys) = (self.ports.entropy.clone(), self.keys.clone());
        vec![
            Arc::new(BeginTask {
                identity: identity.clone(),
                beginning,
                replica: replica.clone(),
                builtin: builtin.clone(),
                keys: keys.clone(),
                entropy: entropy.clone(),
            }),
            Arc::new(InitializeTask { replica: replica.clone(), providers: context.providers.clone() }),
            Arc::new(SignTask {
                replica: replica.clone(),
                entropy,
                builtin: builtin.clone(),
                providers: context.providers.clone(),
                server_certificate_ttl: SERVER_CERTIFICATE_TTL,
            }),
            Arc::new(SealTask { replica: replica.clone(), builtin: builtin.clone() }),
            Arc::new(RotateTask {
                replica: replica.clone(),
                providers: context.providers.clone(),
                entropy: self.ports.entropy.clone(),
                presence: context.presence.clone(),
            }),
            Arc::new(PruneTask { replica: replica.clone() }),
            Arc::new(MembersTask { replica: replica.clone() }),
            Arc::new(OwnRecordTask {
                node: identity.node,
                addresses: self.addresses(),
                replica: replica.clone(),
                keys: keys.clone(),
                transport: transport.clone(),
            }),
            Arc::new(OwnIssuerTask { node: identity.node, replica: replica.clone(), keys, desk: context.desk.clone() }),
        ]
    }

    /// While this server keeps a federation token: its datacenter is not admitted yet.
    fn join_primary_task(&self, clock: &TlsClock) -> Result<Option<Arc<dyn Task>>, StartError> {
        let token = self.keys.federation_token().map_err(|error| StartError::Own(error.into()))?;
        let (keys, network, clock) = (self.keys.clone(), self.ports.network.clone(), clock.clone());
        Ok(token.map(|_| Arc::new(JoinPrimaryTask { keys, network, clock }) as Arc<dyn Task>))
    }

    fn beginning(&self, primary: Option<Datacenter>) -> Option<Beginning> {
        let recovery = match self.config.recovery.as_ref()? {
            Recovery::Recipient(recipient) => Some(recipient.clone()),
            Recovery::Without => None,
        };
        let (addresses, config) = (self.addresses(), self.config.ca);
        let server_certificate_ttl = SERVER_CERTIFICATE_TTL;
        Some(Beginning { addresses, recovery, config, server_certificate_ttl, primary })
    }

    fn addresses(&self) -> Addresses {
        let advertise = &self.config.advertise;
        let wan = advertise.wan.as_ref().map(ToString::to_string);
        Addresses { raft: advertise.raft.to_string(), grpc: advertise.grpc.to_string(), wan }
    }

    fn has_server(&self, identity: &NodeIdentity, flag: &'static str) -> StartError {
        let (name, datacenter) = (identity.name.to_string(), identity.datacenter.to_string());
        StartError::HasServer { path: self.config.data_dir.clone(), name, datacenter, flag }
    }

    fn random_uuid(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.ports.entropy.fill(&mut bytes);
        Builder::from_random_bytes(bytes).into_uuid()
    }

    fn random_store(&self) -> StoreId {
        let mut bytes = [0; 16];
        self.ports.entropy.fill(&mut bytes);
        StoreId(bytes)
    }
}

/// The time by which certificates of peers are judged: the log's, and the machine's where that is ahead. A server that was off for
/// long has an old log time until it hears from the others, and must not refuse their newer certificates before that.
#[derive(Clone)]
struct LateClock {
    wall_clock: Arc<dyn WallClock>,
    replica: Arc<OnceLock<Replica>>,
}

impl LateClock {
    fn new(wall_clock: Arc<dyn WallClock>) -> Self {
        Self { wall_clock, replica: Arc::default() }
    }

    /// Looks at the log from now on.
    fn follow(&self, replica: Replica) {
        // It is followed once: a second replica would be another server.
        drop(self.replica.set(replica));
    }

    fn tls(&self) -> TlsClock {
        let clock = self.clone();
        TlsClock::new(move || {
            let wall = clock.wall_clock.now();
            clock.replica.get().map_or(wall, |replica| replica.log_time().max(wall))
        })
    }
}
