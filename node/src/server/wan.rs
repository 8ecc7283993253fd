//! What the federation needs of this server: its replicated log, its CA provider, and the way to other datacenters' servers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use carrack_authority::{
    Command, Outcome, State, WatchKey,
    federation::{Cursor, Datacenter, Table},
    id::{NodeId, Revision, Serial},
    key::Der,
    root::Root,
    rotation::Standing,
    spiffe::Name,
    time::Timestamp,
    x509::authority::SignedCertificate,
};
use carrack_federation::{
    Announcement, Following, FromPrimary, Heard, IssuerSigner, Log, LogError, WanError,
    ports::{IssuerAsked, IssuerToSign},
};
use carrack_proto::{
    convert::wan::{
        cursor_to_wire, der_from_wire, der_to_wire, heard_from_wire, rotation::standing_to_wire, servers_to_wire,
        table_to_wire,
    },
    wan::{AnnounceRequest, FollowRequest, SignIssuerRequest, wan_client::WanClient},
};
use carrack_raft::{Replica, ports::Entropy};
use futures::{
    StreamExt,
    future::{BoxFuture, FutureExt, select_all},
    stream::FuturesUnordered,
};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use super::{
    grpc_client::{connect, reason, within},
    presence::Presence,
    task::chain_of,
};
use crate::{api::wan::MESSAGE_BYTES_MAX, provider, tls::wan_dialer::WanDialer};

/// How often a connection to another datacenter is probed, and how long it has to answer: a half-open one is found by it, and clients
/// wait for nothing no longer than for both.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// How long reaching any server of another datacenter may take: longer than a lost SYN, and not so long that clients wait for nothing.
const REACH_WITHIN: Duration = Duration::from_secs(4);
/// How long it is believed that nobody there answers: a herd of clients does not dial for each of them.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long the primary may take to open a stream.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// How long another datacenter may take to answer a request that is no stream.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// The replicated log of this datacenter.
pub(crate) struct ReplicaLog {
    replica: Replica,
    presence: Arc<Presence>,
}

impl ReplicaLog {
    pub(crate) const fn new(replica: Replica, presence: Arc<Presence>) -> Self {
        Self { replica, presence }
    }
}

impl Log for ReplicaLog {
    fn state(&self) -> State {
        self.replica.state().state.clone()
    }

    fn log_time(&self) -> Timestamp {
        self.replica.log_time()
    }

    fn confirmed(&self, within: Duration) -> BoxFuture<'_, Result<State, LogError>> {
        async move {
            let read = self.replica.read_linearizable(Instant::now() + within).await;
            read.map(|applied| applied.state.clone()).map_err(|error| LogError(error.to_string()))
        }
        .boxed()
    }

    fn changed(&self, after: Vec<(WatchKey, Revision)>, deadline: Instant) -> BoxFuture<'_, ()> {
        async move {
            let changes = after.into_iter().map(|(key, revision)| {
                async move {
                    if let Err(error) = self.replica.wait_for(key, revision, deadline).await {
                        tracing::debug!(%error, "a change is not waited for");
                        sleep_until(deadline).await;
                    }
                }
                .boxed()
            });
            let mut waits: Vec<BoxFuture<'_, ()>> = changes.collect();
            waits.push(sleep_until(deadline).boxed());
            select_all(waits).await;
        }
        .boxed()
    }

    fn applied(&self, index: u64, deadline: Instant) -> BoxFuture<'_, bool> {
        async move { self.replica.wait_index(index, deadline).await.is_some() }.boxed()
    }

    fn absent(&self) -> BTreeSet<NodeId> {
        self.presence.absent(&self.replica)
    }

    fn propose(&self, command: Command, within: Duration) -> BoxFuture<'_, Result<Outcome, LogError>> {
        async move {
            let deadline = Instant::now() + within;
            let proposed =
                self.replica.propose(command, deadline).await.map_err(|error| LogError(error.to_string()))?;
            self.replica.wait_index(proposed.index, deadline).await;
            Ok(proposed.outcome)
        }
        .boxed()
    }
}

/// Signs issuers of other datacenters with the CA provider.
pub(crate) struct ProviderSigner {
    pub(crate) providers: provider::Providers,
    pub(crate) entropy: Arc<dyn Entropy>,
}

impl IssuerSigner for ProviderSigner {
    fn sign<'a>(&'a self, root: &'a Root, issuer: IssuerToSign) -> BoxFuture<'a, Result<SignedCertificate, String>> {
        async move {
            let mut serial = [0; 20];
            self.entropy.fill(&mut serial);
            let IssuerToSign { csr, datacenter, server, now, ttl } = issuer;
            let serial = Serial::from_random(serial);
            let to_sign = provider::IssuerToSign { csr, datacenter, server, now, ttl, serial };
            let provider = self.providers.of(root).map_err(|error| chain_of(&error))?;
            provider.sign_issuer(root, to_sign).await.map_err(|error| chain_of(&error))
        }
        .boxed()
    }
}

/// Connections to servers of other datacenters: one at a time for each, to whichever of them answers.
pub(crate) struct WanChannels {
    dialer: WanDialer,
    ways: Mutex<BTreeMap<Name, Way>>,
}

/// The way to one datacenter.
#[derive(Default)]
struct Way {
    /// The server that is spoken to, by its address.
    open: Option<(String, Channel)>,
    /// The address that failed last: the others are tried before it.
    failed: Option<String>,
    /// Until when nobody is dialled again, because nobody answered just now, and why.
    unreachable: Option<(Instant, String)>,
    /// Held while its servers are dialled: who wants to speak to them meanwhile waits for what comes of it.
    dialling: Arc<tokio::sync::Mutex<()>>,
}

/// A server of another datacenter.
pub(crate) struct Reached {
    pub(crate) channel: Channel,
    pub(crate) datacenter: Name,
    address: String,
}

impl Reached {
    fn wan(&self) -> WanClient<Channel> {
        let client = WanClient::new(self.channel.clone());
        client.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

impl WanChannels {
    pub(crate) fn new(dialer: WanDialer) -> Self {
        Self { dialer, ways: Mutex::default() }
    }

    /// The server in use, or of the next that can be reached.
    pub(crate) async fn reach(&self, datacenter: &Datacenter) -> Result<Reached, WanError> {
        let (address, channel) = self.channel(datacenter).await?;
        Ok(Reached { channel, datacenter: datacenter.name.clone(), address })
    }

    async fn channel(&self, datacenter: &Datacenter) -> Result<(String, Channel), WanError> {
        if let Some(known) = self.known(datacenter) {
            return known;
        }
        let name = &datacenter.name;
        let dialling = self.lock().entry(name.clone()).or_default().dialling.clone();
        let _turn = dialling.lock().await;
        if let Some(known) = self.known(datacenter) {
            return known;
        }
        let (first, last) = self.in_turn(datacenter);
        let mut tried = Vec::new();
        for addresses in [first, last] {
            match timeout(REACH_WITHIN, self.race(name, &addresses)).await {
                Ok(Ok((address, channel))) => {
                    let mut ways = self.lock();
                    let way = ways.entry(name.clone()).or_default();
                    (way.open, way.failed, way.unreachable) = (Some((address.clone(), channel.clone())), None, None);
                    return Ok((address, channel));
                }
                Ok(Err(mut failures)) => tried.append(&mut failures),
                Err(_) => {
                    tried.push(format!("{}: no answer within {} s", addresses.join(", "), REACH_WITHIN.as_secs()))
                }
            }
        }
        let reason = if tried.is_empty() { "it has told no address of a server".into() } else { tried.join("; ") };
        self.lock().entry(name.clone()).or_default().unreachable = Some((Instant::now() + ASK_AGAIN, reason.clone()));
        Err(WanError::Unreachable { datacenter: name.clone(), reason })
    }

    /// The server in use, or why none can be reached, if that is known.
    fn known(&self, datacenter: &Datacenter) -> Option<Result<(String, Channel), WanError>> {
        let ways = self.lock();
        let way = ways.get(&datacenter.name)?;
        if let Some(open) = way.open.clone().filter(|(address, _)| datacenter.wan_addresses.contains(address)) {
            return Some(Ok(open));
        }
        let (_, reason) = way.unreachable.clone().filter(|(until, _)| Instant::now() < *until)?;
        Some(Err(WanError::Unreachable { datacenter: datacenter.name.clone(), reason }))
    }

    /// Dials all of them at once; the first that answers is taken. The error has what happened to each.
    async fn race(&self, datacenter: &Name, addresses: &[String]) -> Result<(String, Channel), Vec<String>> {
        let dialing = addresses.iter().map(|address| async move { (address, self.connect(datacenter, address).await) });
        let mut dialing: FuturesUnordered<_> = dialing.collect();
        let mut failures = Vec::new();
        while let Some((address, connected)) = dialing.next().await {
            match connected {
                Ok(channel) => return Ok((address.clone(), channel)),
                Err(error) => failures.push(format!("{address}: {}", chain_of(&error))),
            }
        }
        // In whichever order they failed, the same trouble is the same text.
        failures.sort();
        Err(failures)
    }

    /// The addresses, and apart from them the one that failed last.
    fn in_turn(&self, datacenter: &Datacenter) -> (Vec<String>, Vec<String>) {
        let failed = self.lock().get(&datacenter.name).and_then(|way| way.failed.clone());
        datacenter.wan_addresses.iter().cloned().partition(|address| Some(address) != failed.as_ref())
    }

    async fn connect(&self, datacenter: &Name, address: &str) -> Result<Channel, tonic::transport::Error> {
        let (dialer, name, address) = (self.dialer.clone(), datacenter.clone(), address.to_owned());
        let dial = move || {
            let (dialer, name, address) = (dialer.clone(), name.clone(), address.clone());
            async move { dialer.connect(&name, &address).await }
        };
        let settings = |endpoint: Endpoint| {
            endpoint.http2_keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE).keep_alive_while_idle(true)
        };
        connect(settings, dial).await
    }

    /// What a failed request says; after a failure of the connection or of the server, the next request goes to another server.
    pub(crate) fn failed(&self, reached: &Reached, status: &Status) -> WanError {
        let refusals = [
            Code::PermissionDenied,
            Code::InvalidArgument,
            Code::FailedPrecondition,
            Code::AlreadyExists,
            Code::NotFound,
            Code::Unauthenticated,
            Code::Unimplemented,
            Code::OutOfRange,
        ];
        let datacenter = reached.datacenter.clone();
        if refusals.contains(&status.code()) {
            return WanError::Refused { datacenter, reason: status.message().into() };
        }
        if status.code() == Code::ResourceExhausted {
            return WanError::Busy { datacenter, reason: status.message().into() };
        }
        self.leave(&datacenter, &reached.address);
        WanError::Unreachable { datacenter, reason: reason(status) }
    }

    /// Speaks to another server of a datacenter next, if it is this one that is spoken to.
    fn leave(&self, datacenter: &Name, address: &str) {
        let mut ways = self.lock();
        let way = ways.entry(datacenter.clone()).or_default();
        if way.open.as_ref().is_some_and(|(open, _)| address == open) {
            let failed = way.open.take().map(|(open, _)| open);
            way.failed = failed;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Name, Way>> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way from this datacenter to the primary.
pub(crate) struct ToPrimary(pub(crate) Arc<WanChannels>);

impl FromPrimary for ToPrimary {
    fn follow<'a>(
        &'a self,
        primary: &'a Datacenter,
        table: Table,
        from: Cursor,
    ) -> BoxFuture<'a, Result<Following, WanError>> {
        async move {
            let reached = self.0.reach(primary).await?;
            let request = FollowRequest { table: table_to_wire(table).into(), from: Some(cursor_to_wire(&from)) };
            let opened = timeout(OPEN_WITHIN, async { reached.wan().follow(request).await }).await;
            let opened = opened.unwrap_or_else(|_| {
                let reason = format!("no stream was opened within {} s", OPEN_WITHIN.as_secs());
                Err(Status::deadline_exceeded(reason))
            });
            let opened = opened.map_err(|status| self.0.failed(&reached, &status))?;
            let (channels, server) = (self.0.clone(), reached.address.clone());
            let heard = opened.into_inner().map(move |item| {
                let response = item.map_err(|status| channels.failed(&reached, &status))?;
                let unreadable = |error: &dyn std::error::Error| WanError::Unreadable {
                    datacenter: reached.datacenter.clone(),
                    reason: error.to_string(),
                };
                let (change, to, is_all, primary_revision) =
                    heard_from_wire(response).map_err(|error| unreadable(&error))?;
                Ok(Heard { change, to, is_all, primary_revision })
            });
            Ok(Following { server, heard: heard.boxed() })
        }
        .boxed()
    }

    fn distrust(&self, primary: &Datacenter, server: &str) {
        self.0.leave(&primary.name, server);
    }

    fn sign_issuer<'a>(&'a self, primary: &'a Datacenter, asked: IssuerAsked) -> BoxFuture<'a, Result<Der, WanError>> {
        async move {
            let reached = self.0.reach(primary).await?;
            let request = SignIssuerRequest {
                node_id: asked.node.0,
                node_name: asked.node_name.to_string(),
                root: asked.root.0.to_vec().into(),
                csr: der_to_wire(&asked.csr),
            };
            let mut client = reached.wan();
            let signed =
                within(ANSWER_WITHIN, request, |request| async move { client.sign_issuer(request).await }).await;
            let signed = signed.map_err(|status| self.0.failed(&reached, &status))?;
            Ok(der_from_wire(&signed.certificate))
        }
        .boxed()
    }

    fn announce<'a>(&'a self, primary: &'a Datacenter, told: Announcement) -> BoxFuture<'a, Result<(), WanError>> {
        async move {
            let reached = self.0.reach(primary).await?;
            let request = AnnounceRequest {
                server_roots: told.facts.server_roots.iter().map(der_to_wire).collect(),
                wan_addresses: told.facts.wan_addresses,
                servers: Some(servers_to_wire(&told.servers)),
            };
            let mut client = reached.wan();
            let told = within(ANSWER_WITHIN, request, |request| async move { client.announce(request).await }).await;
            told.map(drop).map_err(|status| self.0.failed(&reached, &status))
        }
        .boxed()
    }

    fn stand<'a>(&'a self, primary: &'a Datacenter, standing: Standing) -> BoxFuture<'a, Result<(), WanError>> {
        async move {
            let reached = self.0.reach(primary).await?;
            let mut client = reached.wan();
            let request = standing_to_wire(&standing);
            let told = within(ANSWER_WITHIN, request, |request| async move { client.stand(request).await }).await;
            told.map(drop).map_err(|status| self.0.failed(&reached, &status))
        }
        .boxed()
    }
}
