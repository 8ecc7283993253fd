//! An agent's one connection to a server: it follows the bundle and the tokens on one stream, has leaves signed beside it, and goes to
//! another server when this one is silent, stops, or has lost its leader.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use carrack_authority::{id::Revision, intention::bounds::DESTINATION_BYTES_MAX, key::Der};
use carrack_proto::{
    agent::{
        FollowRequest, FollowResponse, Nothing, OwnCertificate, RenewRequest, Subscribe, agents_client::AgentsClient,
        follow_request, follow_response::Told, subscribe,
    },
    convert::agent::{bundle_from_wire, intentions_from_wire, revoked_from_wire, rights_from_wire},
};
use carrack_raft::ports::Entropy;
use futures::{Stream, StreamExt};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

use super::{
    directory::Contacts,
    followed::{Ask, Followed, Topic},
};
use crate::{
    network::Network,
    server::{
        grpc_client::{connect, reason, within},
        task::chain_of,
    },
    telemetry::metrics::Metrics,
    tls::{
        client::{ClientDialer, ServerRoots},
        clock::TlsClock,
        identity::ServerIdentity,
    },
};

/// A stream on which nothing came for this long is cut off somewhere: three times the servers' sign of life.
const SILENT_MAX: Duration = Duration::from_secs(10);
/// How often the connection is probed, and how long the server has to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long a server may take to open the stream.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// The first pause after every server was tried in vain; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// The longest such pause: when a server is back, agents are, this soon.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// Questions on their way to the server.
const ASKS_MAX: usize = 64;
/// The number of the bundle on every stream.
const BUNDLE: u32 = 1;
/// The longest message of a server: the intentions of the largest destination and those of every destination, twice each while a
/// secondary reads them anew. The rights of a token with as many policies as it may have are shorter.
pub(super) const ANSWER_BYTES_MAX: usize = 4 * DESTINATION_BYTES_MAX + 64 * 1024;
/// A server says about this often how far it is.
const BEHIND_FOR: Duration = Duration::from_secs(4);
/// How long a server may take to certify the agent.
const RENEWED_WITHIN: Duration = Duration::from_secs(20);

/// Where the servers are, the way to the one in use.
pub struct Link {
    network: Arc<dyn Network>,
    entropy: Arc<dyn Entropy>,
    clock: TlsClock,
    shown: Arc<ServerIdentity>,
    followed: Arc<Followed>,
    metrics: Arc<Metrics>,
    contacts: Mutex<Contacts>,
    current: watch::Sender<Option<Channel>>,
    /// Counts the agent's sleeps: the stream of before is left.
    slept: watch::Sender<u64>,
}

impl Link {
    pub(super) fn new(
        network: Arc<dyn Network>,
        entropy: Arc<dyn Entropy>,
        clock: TlsClock,
        shown: Arc<ServerIdentity>,
        followed: Arc<Followed>,
        metrics: Arc<Metrics>,
        contacts: Contacts,
    ) -> Self {
        let (contacts, current, slept) = (Mutex::new(contacts), watch::Sender::new(None), watch::Sender::new(0));
        Self { network, entropy, clock, shown, followed, metrics, contacts, current, slept }
    }

    /// Where the servers are, as they told last.
    pub fn contacts(&self) -> Contacts {
        self.contacts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The way to the server in use; waits a little while none is.
    pub(super) async fn channel(&self, within: Duration) -> Option<Channel> {
        let mut current = self.current.subscribe();
        let found = timeout(within, current.wait_for(Option::is_some)).await;
        found.ok()?.ok()?.clone()
    }

    /// The agent has slept: what it knows is fetched again, by a new stream.
    pub(super) fn sleep_is_over(&self) {
        self.followed.doubt();
        self.slept.send_modify(|count| *count += 1);
    }

    /// The agent's next certificate.
    pub(super) async fn renew(&self, csr: &Der) -> Result<OwnCertificate, Status> {
        let channel = self.channel(RENEWED_WITHIN).await;
        let channel = channel.ok_or_else(|| Status::unavailable("no server is reached"))?;
        let mut client = AgentsClient::new(channel);
        let request = RenewRequest { csr: csr.as_bytes().to_vec().into() };
        within(RENEWED_WITHIN, request, |request| async move { client.renew(request).await }).await
    }

    /// Follows a server, and another one when that is over, until the future is dropped.
    pub(super) async fn run(&self) {
        let mut pause = PAUSE_MIN;
        loop {
            let (mut troubles, mut behind) = (Vec::new(), Vec::new());
            let servers = self.in_random_order();
            for server in &servers {
                let began = Instant::now();
                let ended = match self.follow(server).await {
                    Ended::Behind(is_at) => {
                        behind.push(is_at);
                        let level = self.followed.newest();
                        Status::unavailable(format!(
                            "it is at revision {is_at}, and another server was at {level} before"
                        ))
                    }
                    Ended::By(status) => status,
                };
                self.current.send_replace(None);
                let reason = reason(&ended);
                tracing::info!(%server, %reason, "the server is followed no more");
                if ended.code() == Code::PermissionDenied || ended.code() == Code::Unauthenticated {
                    // It is no agent any more: what it knew was told to one.
                    self.followed.doubt();
                }
                troubles.push(format!("{server}: {reason}"));
                self.followed.lose(troubles.join("; "));
                if began.elapsed() > SILENT_MAX && behind.is_empty() {
                    (pause, troubles) = (PAUSE_MIN, Vec::new());
                }
            }
            if let Some(newest) = behind.iter().max().filter(|_| behind.len() == servers.len()) {
                let (level, newest) = (self.followed.newest(), *newest);
                tracing::warn!(%level, %newest, "every server is behind what others have told before: their state is an older one, and everything is asked for anew");
                self.followed.go_back_to(newest);
            }
            self.followed.lose(troubles.join("; "));
            sleep(self.spread(pause)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// A stream of one server, until it ends; why it did.
    async fn follow(&self, server: &str) -> Ended {
        let channel = match self.dial(server).await {
            Ok(channel) => channel,
            Err(status) => return Ended::By(status),
        };
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let mut client = AgentsClient::new(channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        let opened = timeout(OPEN_WITHIN, client.follow(ReceiverStream::new(asked))).await;
        let told = match opened {
            Ok(Ok(opened)) => opened.into_inner(),
            Ok(Err(status)) => return Ended::By(status),
            Err(_) => return Ended::By(Status::deadline_exceeded("it opened no stream in time")),
        };
        self.metrics.count_stream_opened();
        let mut session = Session {
            server,
            channel,
            link: self,
            asks,
            numbers: BTreeMap::new(),
            by_topic: BTreeMap::new(),
            next: BUNDLE,
            outgoing: VecDeque::new(),
        };
        match session.run(told).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn dial(&self, server: &str) -> Result<Channel, Status> {
        let roots = ServerRoots::from_bundle(&self.contacts().server_roots);
        let roots = roots.map_err(|error| Status::internal(chain_of(&error)))?;
        let dialer = ClientDialer::showing(self.network.clone(), roots, &self.clock, self.shown.clone());
        let address = server.to_owned();
        let dial = move || {
            let (dialer, address) = (dialer.clone(), address.clone());
            async move { dialer.dial(&address).await.map(|stream| Box::new(stream) as carrack_raft::ports::BoxedStream) }
        };
        let settings = |endpoint: Endpoint| {
            endpoint.http2_keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE).keep_alive_while_idle(true)
        };
        connect(settings, dial).await.map_err(|error| Status::unavailable(chain_of(&error)))
    }

    /// The servers, each time in another order: agents spread over them.
    fn in_random_order(&self) -> Vec<String> {
        let mut servers = self.contacts().servers;
        for place in (1..servers.len()).rev() {
            let mut random = [0; 4];
            self.entropy.fill(&mut random);
            let other = usize::try_from(u32::from_le_bytes(random)).unwrap_or_default() % (place + 1);
            servers.swap(place, other);
        }
        servers
    }

    /// A pause, spread over half of it: agents that lost their server together do not come back together.
    fn spread(&self, pause: Duration) -> Duration {
        let mut random = [0];
        self.entropy.fill(&mut random);
        pause / 2 + pause / 512 * u32::from(random[0])
    }
}

/// One stream.
struct Session<'a> {
    server: &'a str,
    channel: Channel,
    link: &'a Link,
    asks: mpsc::Sender<FollowRequest>,
    numbers: BTreeMap<u32, Topic>,
    by_topic: BTreeMap<Topic, u32>,
    next: u32,
    /// What is to be sent. It is sent beside what is read: a server that waits for its answers to be read reads nothing more itself.
    outgoing: VecDeque<follow_request::Ask>,
}

/// Why a stream is over.
enum Ended {
    /// Its server is behind what others have told; how far it is.
    Behind(Revision),
    /// Something else.
    By(Status),
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Self::By(status)
    }
}

impl Session<'_> {
    async fn run(&mut self, mut told: Streaming<FollowResponse>) -> Result<Infallible, Ended> {
        let followed = &self.link.followed;
        let mut slept = self.link.slept.subscribe();
        wait_until_level(&mut told, followed.newest(), self.server).await?;
        let bundle = Subscribe { number: BUNDLE, what: Some(subscribe::What::Bundle(Nothing {})) };
        self.outgoing.push_back(follow_request::Ask::Subscribe(bundle));
        followed.ask_all();
        let asks = self.asks.clone();
        let (mut heard_at, mut sent_at) = (Instant::now(), Instant::now());
        loop {
            while self.outgoing.is_empty()
                && let Some(ask) = followed.next_ask()
            {
                self.put(ask)?;
            }
            let is_asking = !self.outgoing.is_empty();
            if !is_asking {
                sent_at = Instant::now();
            }
            tokio::select! {
                // What was on its way during a sleep is of before it: the sleep is looked at first.
                biased;
                // Its sender is this link's own.
                _ = slept.changed() => return Err(Status::aborted("the agent has slept, and asks anew").into()),
                response = next_of(&mut told, heard_at + SILENT_MAX) => {
                    heard_at = Instant::now();
                    self.take(response?)?;
                }
                place = asks.reserve(), if is_asking => {
                    let place = place.map_err(|_| Status::unavailable("it has closed the stream"))?;
                    place.send(FollowRequest { ask: self.outgoing.pop_front() });
                    sent_at = Instant::now();
                }
                () = sleep_until(sent_at + SILENT_MAX), if is_asking => {
                    return Err(Status::deadline_exceeded("it takes no more questions").into());
                }
                () = followed.asked(), if !is_asking => {}
            }
        }
    }

    fn put(&mut self, ask: Ask) -> Result<(), Status> {
        match ask {
            Ask::Follow(topic, secret) => {
                self.leave(&topic);
                self.next = self.next.checked_add(1).ok_or_else(|| Status::aborted("every number was used"))?;
                let number = self.next;
                let what = match (&topic, secret) {
                    (Topic::Token(_), secret) => {
                        subscribe::What::Token(secret.unwrap_or_default().as_bytes().to_vec().into())
                    }
                    (Topic::Destination(name), _) => subscribe::What::Destination(name.to_string()),
                    (Topic::Revoked, _) => subscribe::What::Revoked(Nothing {}),
                };
                self.numbers.insert(number, topic.clone());
                self.by_topic.insert(topic, number);
                let subscribe = Subscribe { number, what: Some(what) };
                self.outgoing.push_back(follow_request::Ask::Subscribe(subscribe));
            }
            Ask::Leave(topic) => self.leave(&topic),
        }
        Ok(())
    }

    fn leave(&mut self, topic: &Topic) {
        if let Some(number) = self.by_topic.remove(topic) {
            self.numbers.remove(&number);
            self.outgoing.push_back(follow_request::Ask::Leave(number));
        }
    }

    fn take(&mut self, response: FollowResponse) -> Result<(), Status> {
        let unreadable = |error: &dyn std::error::Error| Status::internal(chain_of(error));
        let followed = self.link.followed.clone();
        let revision = Revision(response.revision);
        followed.hear(self.server, revision);
        let Some(told) = response.told else { return Ok(()) };
        let topic = self.numbers.get(&response.number).cloned();
        match (told, topic) {
            (Told::Alive(_), _) => {}
            (Told::Bundle(bundle), _) => {
                let bundle = bundle_from_wire(bundle).map_err(|error| unreadable(&error))?;
                let contacts = Contacts { servers: bundle.servers.clone(), server_roots: bundle.server_roots.clone() };
                if followed.told_bundle(revision, bundle) {
                    *self.link.contacts.lock().unwrap_or_else(PoisonError::into_inner) = contacts;
                    self.outgoing.push_front(follow_request::Ask::HasBundle(revision.0));
                    // Only now: leaves are asked of a server that has told what they are under.
                    self.link.current.send_replace(Some(self.channel.clone()));
                }
            }
            // Of something that was left meanwhile.
            (_, None) => {}
            (Told::Rights(rights), Some(topic)) => {
                followed.told_rights(&topic, rights_from_wire(rights).map_err(|error| unreadable(&error))?);
            }
            (Told::Intentions(told), Some(topic)) => {
                followed.told_intentions(&topic, intentions_from_wire(&told).map_err(|error| unreadable(&error))?);
            }
            (Told::Revoked(told), Some(topic)) => {
                followed.told_revoked(&topic, revoked_from_wire(&told).map_err(|error| unreadable(&error))?);
            }
            (Told::NoToken(_), Some(topic)) => {
                self.end(response.number, &topic);
                followed.told_nobody(&topic);
            }
            (Told::Refused(reason), Some(topic)) => {
                self.end(response.number, &topic);
                followed.told_refused(&topic, reason);
            }
            (Told::Unavailable(reason), Some(topic)) => {
                self.end(response.number, &topic);
                followed.told_unavailable(&topic, reason);
            }
        }
        Ok(())
    }

    /// The server follows it no more by itself.
    fn end(&mut self, number: u32, topic: &Topic) {
        self.numbers.remove(&number);
        self.by_topic.remove(topic);
    }
}

/// A server that is behind what others have told is not followed: an intention, or a right, that it knows may have been taken back. Each
/// says at once how far it is, and every few seconds.
async fn wait_until_level(
    told: &mut (impl Stream<Item = Result<FollowResponse, Status>> + Unpin),
    level: Revision,
    server: &str,
) -> Result<(), Ended> {
    let until = Instant::now() + SILENT_MAX;
    loop {
        let is_at = Revision(next_of(told, until).await?.revision);
        if is_at >= level {
            return Ok(());
        }
        tracing::debug!(%server, %is_at, %level, "a server is behind what others have told");
        // It tells again after some seconds; one that has not caught up by then is left.
        if Instant::now() + BEHIND_FOR > until {
            return Err(Ended::Behind(is_at));
        }
    }
}

async fn next_of(
    told: &mut (impl Stream<Item = Result<FollowResponse, Status>> + Unpin),
    until: Instant,
) -> Result<FollowResponse, Status> {
    let silent = || Status::deadline_exceeded(format!("nothing to use came for {} s", SILENT_MAX.as_secs()));
    let message = timeout_at(until, told.next()).await.map_err(|_| silent())?;
    message.ok_or_else(|| Status::unavailable("it has ended the stream"))?
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::stream;
    use tokio::time::sleep;

    use super::*;

    /// A server that says every three seconds how far it is.
    fn telling(revisions: &[u64]) -> impl Stream<Item = Result<FollowResponse, Status>> + Unpin {
        let all = revisions.iter().copied().enumerate();
        Box::pin(stream::iter(all).then(|(place, revision)| async move {
            if place > 0 {
                sleep(Duration::from_secs(3)).await;
            }
            Ok(FollowResponse { number: 0, revision, told: Some(Told::Alive(Nothing {})) })
        }))
    }

    async fn wait(revisions: &[u64]) -> Result<(), Ended> {
        wait_until_level(&mut telling(revisions), Revision(10), "a:8503").await
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_is_followed_when_it_is_as_far_as_what_others_have_told() {
        let began = Instant::now();
        assert!(wait(&[10]).await.is_ok() && wait(&[12]).await.is_ok());
        assert!(began.elapsed() < Duration::from_millis(1), "at once");
        assert!(wait(&[4, 9, 11]).await.is_ok(), "it has caught up");
        assert!(matches!(wait(&[4, 5, 6, 7, 8, 9, 10]).await, Err(Ended::Behind(Revision(7)))), "it takes too long");
        assert!(
            matches!(wait(&[4]).await, Err(Ended::By(status)) if status.code() == Code::Unavailable),
            "it has ended"
        );
    }
}
