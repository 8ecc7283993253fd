//! Agents as their servers see them: they join with a token of their own, show their key, and follow what their workloads need. One
//! connection carries many such streams, of one agent; each counts when what is waited for has come.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Context;
use carrack::{
    keys::{aws_lc::AwsLcKeyMaker, secret::KeyMaker, server_keys::ServerCredential},
    network::Tcp,
    server::{agent_token::AgentTokenText, ports::MachineClock},
    tls::{
        client::{Alpn, ClientDialer, ServerRoots},
        clock::TlsClock,
        identity::ServerIdentity,
    },
};
use carrack_authority::{
    key::{Der, KeyKind},
    spiffe::{Identity, SpiffeId, SpiffePath},
    x509::{RequestedName, build_csr, pem},
};
use carrack_proto::agent::{
    FollowRequest, FollowResponse, JoinRequest, Nothing, Subscribe, agents_client::AgentsClient, follow_request::Ask,
    follow_response::Told, subscribe::What,
};
use carrack_raft::ports::WallClock;
use hyper_util::rt::TokioIo;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint, Uri},
};
use uuid::Uuid;

/// The longest message that an agent takes.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Requests of one stream on their way.
const ASKS_MAX: usize = 8;
/// The number of the bundle on each stream; what else is followed has the next ones.
const BUNDLE: u32 = 1;

/// What the streams have seen together.
#[derive(Default)]
pub(crate) struct Seen {
    awaited: Mutex<Awaited>,
    /// How many streams were told anything: that the server is there.
    open: AtomicUsize,
    /// How many were told everything that they follow.
    complete: AtomicUsize,
    /// Whether they may ask for it.
    may_ask: watch::Sender<bool>,
    /// How many have ended, which none should.
    ended: Mutex<Vec<String>>,
    changed: Notify,
}

/// What is waited for.
#[derive(Default)]
struct Awaited {
    number: u64,
    is_it: Option<IsIt>,
    arrived: Vec<Instant>,
}

/// Whether a message is the one that is waited for.
pub(crate) type IsIt = Arc<dyn Fn(&Told) -> bool + Send + Sync>;

impl Seen {
    /// From now on this is waited for.
    pub(crate) fn expect(&self, is_it: IsIt) {
        let mut awaited = self.awaited();
        awaited.number += 1;
        (awaited.is_it, awaited.arrived) = (Some(is_it), Vec::new());
    }

    /// When it came in each stream; ends when it has come in so many.
    pub(crate) async fn arrivals(&self, streams: usize) -> anyhow::Result<Vec<Instant>> {
        loop {
            let changed = self.changed.notified();
            self.check()?;
            let arrived = self.awaited().arrived.clone();
            if arrived.len() >= streams {
                return Ok(arrived);
            }
            changed.await;
        }
    }

    /// Ends when so many streams are open. None has asked for anything then.
    pub(crate) async fn open(&self, streams: usize) -> anyhow::Result<()> {
        self.reached(&self.open, streams).await
    }

    /// Lets the streams ask, and ends when so many were told everything that they follow.
    pub(crate) async fn complete(&self, streams: usize) -> anyhow::Result<()> {
        self.may_ask.send_replace(true);
        self.reached(&self.complete, streams).await
    }

    async fn reached(&self, count: &AtomicUsize, streams: usize) -> anyhow::Result<()> {
        loop {
            let changed = self.changed.notified();
            self.check()?;
            if count.load(Ordering::Relaxed) >= streams {
                return Ok(());
            }
            changed.await;
        }
    }

    fn count(&self, count: &AtomicUsize) {
        count.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
    }

    fn check(&self) -> anyhow::Result<()> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended
            .first()
            .map_or(Ok(()), |reason| Err(anyhow::anyhow!("{} streams ended, the first: {reason}", ended.len())))
    }

    fn awaited(&self) -> MutexGuard<'_, Awaited> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream was told something. `last`: the number of what it saw last.
    fn see(&self, told: &Told, last: &mut u64) {
        let mut awaited = self.awaited();
        let is_it = *last != awaited.number && awaited.is_it.as_ref().is_some_and(|is_it| is_it(told));
        if is_it {
            *last = awaited.number;
            awaited.arrived.push(Instant::now());
            drop(awaited);
            self.changed.notify_one();
        }
    }
}

/// Joins as the agent that the token is for; what it shows its servers from then on.
pub(crate) async fn join(address: &str, token: &AgentTokenText) -> anyhow::Result<ServerCredential> {
    let key = AwsLcKeyMaker.make(KeyKind::EcP256)?;
    let signer = AwsLcKeyMaker.signer(&key)?;
    let path = SpiffePath::Agent { datacenter: token.datacenter.clone(), node: token.node.clone() };
    let own = Identity::Spiffe(SpiffeId { trust_domain: token.trust_domain.clone(), path });
    let csr = build_csr(&*signer, &RequestedName::Leaf(&own))?;
    let dialer = ClientDialer::new(Arc::new(Tcp), ServerRoots::Pinned(token.pin), &clock(), Alpn::Http2);
    let request = JoinRequest {
        secret: token.secret.to_vec().into(),
        node_name: token.node.to_string(),
        csr: csr.as_bytes().to_vec().into(),
    };
    let answer = AgentsClient::new(channel(dialer, address).await?).join(request).await?.into_inner();
    let chain = std::iter::once(&answer.certificate).chain(&answer.chain).map(|der| Der::from(der.as_ref()));
    let chain: Vec<Der> = chain.collect();
    Ok(ServerCredential { key, chain_pem: pem::encode_certificates(chain.iter()) })
}

/// A connection that shows what an agent has.
pub(crate) async fn connect(
    address: &str,
    roots: ServerRoots,
    credential: &ServerCredential,
) -> anyhow::Result<Channel> {
    let shown = Arc::new(ServerIdentity::default());
    shown.show(credential)?;
    channel(ClientDialer::showing(Arc::new(Tcp), roots, &clock(), shown), address).await
}

async fn channel(dialer: ClientDialer, address: &str) -> anyhow::Result<Channel> {
    let address = address.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let (dialer, address) = (dialer.clone(), address.clone());
        async move { dialer.dial(&address).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("https://server.carrack.invalid");
    endpoint.connect_with_connector(connector).await.context("no connection to the server")
}

fn clock() -> TlsClock {
    TlsClock::new(|| MachineClock.now())
}

/// Follows the bundle, a token, destinations and revoked leaves, and confirms each bundle, until the stream ends.
pub(crate) async fn follow(channel: Channel, token: Uuid, destinations: Vec<String>, seen: Arc<Seen>) {
    let ended = match run(channel, token, destinations, &seen).await {
        Ok(()) => "the server has ended it".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    seen.ended.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
    seen.changed.notify_one();
}

async fn run(channel: Channel, token: Uuid, destinations: Vec<String>, seen: &Seen) -> anyhow::Result<()> {
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let mut client = AgentsClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut told = client.follow(ReceiverStream::new(asked)).await?.into_inner();
    next(&mut told).await?.context("the stream ended before anything was told")?;
    seen.count(&seen.open);
    seen.may_ask.subscribe().wait_for(|may_ask| *may_ask).await?;
    let mut followed = vec![What::Bundle(Nothing {}), What::Token(token.as_bytes().to_vec().into())];
    followed.extend(destinations.into_iter().map(What::Destination));
    followed.push(What::Revoked(Nothing {}));
    let (mut missing, mut last) = (BTreeSet::new(), 0);
    for (number, what) in (BUNDLE..).zip(followed) {
        missing.insert(number);
        ask(&asks, Ask::Subscribe(Subscribe { number, what: Some(what) })).await?;
    }
    while let Some(FollowResponse { number, revision, told: what }) = next(&mut told).await? {
        let Some(what) = what else { continue };
        match &what {
            Told::Refused(reason) => anyhow::bail!("something is refused: {reason}"),
            Told::Bundle(_) => ask(&asks, Ask::HasBundle(revision)).await?,
            _ => {}
        }
        seen.see(&what, &mut last);
        if missing.remove(&number) && missing.is_empty() {
            seen.count(&seen.complete);
        }
    }
    Ok(())
}

async fn next(told: &mut Streaming<FollowResponse>) -> anyhow::Result<Option<FollowResponse>> {
    Ok(told.message().await?)
}

async fn ask(asks: &mpsc::Sender<FollowRequest>, ask: Ask) -> anyhow::Result<()> {
    asks.send(FollowRequest { ask: Some(ask) }).await.context("the stream takes no more requests")
}
