//! What an agent knows: the bundle, and what tokens may do, as its servers told it last. It is kept current while a server is there, and
//! goes on being true, as far as anybody here can know, while none is.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use carrack_authority::{
    acl::{AccessorId, token::secret_digest},
    id::{Digest, Revision, Serial},
    intention::{Intention, IntentionsBySource},
    key::Der,
    planted::{self, Bug},
    root::Root,
    spiffe::Name,
    time::Timestamp,
};
use carrack_proto::convert::agent::{BundleTold, RightsTold};
use carrack_raft::ports::WallClock;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use crate::telemetry::labels::TopicKind;

/// The most tokens and destinations that are known at a time, at about 2 KiB each: those of as many services as have leaves here, and some
/// more. A server lets one agent follow a little more.
pub const TOPICS_MAX: usize = 24_000;
/// An agent that was stopped or suspended for longer than this fetches the bundle before it serves: the servers did not wait for it.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// What nobody has asked for in this time is followed no more: as Consul's agents.
const IDLE_MAX: Duration = Duration::from_secs(72 * 3600);

/// The bundle, as it was told.
#[derive(Debug)]
pub struct HeldBundle {
    /// The revision of its last change.
    pub revision: Revision,
    /// What was told.
    pub told: BundleTold,
}

impl HeldBundle {
    /// The roots.
    pub fn roots(&self) -> &[Root] {
        &self.told.roots
    }

    /// The certificates of the roots.
    pub fn anchors(&self) -> Vec<&Der> {
        self.told.roots.iter().map(|root| &root.made.certificate).collect()
    }
}

/// What an agent may know, beside the bundle.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// What the token of this secret may do.
    Token(Digest),
    /// The intentions that a connection to this service may meet.
    Destination(Name),
    /// The revoked leaves.
    Revoked,
}

/// What is known of a topic.
#[derive(Clone, Debug)]
enum Known {
    /// A server is asked.
    Asked,
    /// What a token may do.
    Rights(Arc<RightsTold>),
    /// The intentions of a destination.
    Intentions(Arc<IntentionsBySource>),
    /// The serials of revoked leaves.
    Revoked(Arc<BTreeSet<Serial>>),
    /// It is nobody's.
    Nobody,
    /// A server will not say.
    Refused(String),
    /// A server cannot say now.
    Unavailable(String),
}

impl Known {
    /// Whether a server has told it.
    const fn is_told(&self) -> bool {
        matches!(self, Self::Rights(_) | Self::Intentions(_) | Self::Revoked(_))
    }
}

/// Why nothing is known of something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownError {
    /// The token is nobody's.
    #[error("ACL not found")]
    Nobody,
    /// A server refuses to say.
    #[error("{0}")]
    Refused(String),
    /// A server cannot say now.
    #[error("the server that this agent follows cannot say what is to be known for this: {0}")]
    Unavailable(String),
    /// No server has said anything in time.
    #[error("no server has said in time what is to be known for this: {0}")]
    NoAnswer(String),
}

struct Slot {
    /// Of a token: its secret.
    secret: Option<Uuid>,
    known: watch::Sender<Known>,
    /// Whether it was told before this agent slept, and not since.
    is_doubted: bool,
    /// Of a token: its public id, once it was told.
    accessor: Option<AccessorId>,
    used: u64,
    used_at: Instant,
}

#[derive(Default)]
struct Topics {
    slots: BTreeMap<Topic, Slot>,
    by_accessor: BTreeMap<AccessorId, Topic>,
    by_use: BTreeMap<u64, Topic>,
    uses: u64,
    /// What the server is to be asked next; `None`: no server is followed, and whichever comes next is asked for everything.
    asks: Option<VecDeque<Ask>>,
}

/// Something that the servers are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// To tell this from now on; of a token, with its secret.
    Follow(Topic, Option<Uuid>),
    /// No more of it.
    Leave(Topic),
}

/// What one agent knows.
pub struct Followed {
    bundle: watch::Sender<Option<Arc<HeldBundle>>>,
    topics: Mutex<Topics>,
    asked: Notify,
    /// Whether the bundle was told since this agent started or slept: nothing is served before.
    is_fresh: AtomicBool,
    /// When it was seen last that this agent does not sleep, in milliseconds since 1970; zero: nobody looks.
    awake_at: AtomicU64,
    /// When a server was heard last, and what the last trouble with them was.
    heard: watch::Sender<Heard>,
    /// The newest revision of which a server has told.
    newest: AtomicU64,
    clock: Arc<dyn WallClock>,
}

/// How the servers were heard.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// When one was heard last.
    pub at: Option<Instant>,
    /// The one that is spoken to now.
    pub server: Option<String>,
    /// Why none is, or was not at the last try.
    pub trouble: Option<String>,
}

impl Followed {
    /// Nothing is known yet.
    pub fn new(clock: Arc<dyn WallClock>) -> Self {
        Self {
            bundle: watch::Sender::new(None),
            topics: Mutex::default(),
            asked: Notify::new(),
            is_fresh: AtomicBool::new(false),
            awake_at: AtomicU64::new(0),
            heard: watch::Sender::new(Heard::default()),
            newest: AtomicU64::new(0),
            clock,
        }
    }

    /// The bundle.
    pub fn bundle(&self) -> Option<Arc<HeldBundle>> {
        self.bundle.borrow().clone()
    }

    /// Tells of each new bundle.
    pub fn bundles(&self) -> watch::Receiver<Option<Arc<HeldBundle>>> {
        self.bundle.subscribe()
    }

    /// How the servers are heard.
    pub fn heard(&self) -> Heard {
        self.heard.borrow().clone()
    }

    /// For how long what is known here may have changed unheard: not at all while a server is followed, else since its last word.
    pub fn staleness(&self) -> Duration {
        let heard = self.heard.borrow();
        match (&heard.server, heard.at) {
            (Some(_), _) | (None, None) => Duration::ZERO,
            (None, Some(at)) => at.elapsed(),
        }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Why nothing may be served now, if so.
    pub fn not_fresh(&self) -> Option<String> {
        if self.is_fresh.load(Ordering::Acquire) && !self.has_slept() {
            return None;
        }
        let trouble = self.heard().trouble.unwrap_or_else(|| "none has been asked yet".into());
        Some(format!(
            "this agent has just started, or has slept, and serves nothing before a server has told it the bundle; the servers: {trouble}"
        ))
    }

    /// Whether more time has passed than a sleep may take since it was looked last. Requests are the first to ask after one.
    fn has_slept(&self) -> bool {
        match self.awake_at.load(Ordering::Acquire) {
            0 => false,
            awake_at => self.now().since(Timestamp(awake_at)) > SLEEP_MAX,
        }
    }

    /// This agent is awake; whether it has slept for too long before.
    pub(super) fn is_awake(&self) -> bool {
        let has_slept = self.has_slept();
        if has_slept {
            self.doubt();
        }
        self.awake_at.store(self.now().0.max(1), Ordering::Release);
        has_slept
    }

    /// What a token may do: at once if it is known, else as soon as a server has said.
    pub async fn rights(&self, secret: Uuid, deadline: Instant) -> Result<Arc<RightsTold>, UnknownError> {
        let topic = Topic::Token(secret_digest(&secret));
        match self.know(&topic, Some(secret), deadline).await? {
            Known::Rights(rights) if rights.expires_at.is_none_or(|end| self.now() < end) => Ok(rights),
            _ => {
                self.lock().leave(&topic);
                self.asked.notify_one();
                Err(UnknownError::Nobody)
            }
        }
    }

    /// The intentions that a connection to a service may meet.
    pub async fn intentions(&self, target: &Name, deadline: Instant) -> Result<Arc<IntentionsBySource>, UnknownError> {
        match self.know(&Topic::Destination(target.clone()), None, deadline).await? {
            Known::Intentions(intentions) => Ok(intentions),
            other => Err(UnknownError::Refused(format!("a server told {other:?} of a destination"))),
        }
    }

    /// The serials of the revoked leaves.
    pub async fn revoked(&self, deadline: Instant) -> Result<Arc<BTreeSet<Serial>>, UnknownError> {
        match self.know(&Topic::Revoked, None, deadline).await? {
            Known::Revoked(revoked) => Ok(revoked),
            other => Err(UnknownError::Refused(format!("a server told {other:?} of revoked leaves"))),
        }
    }

    async fn know(&self, topic: &Topic, secret: Option<Uuid>, deadline: Instant) -> Result<Known, UnknownError> {
        let mut known = self.look_at(topic, secret);
        // Who goes away before a server has answered leaves no question behind, unless another one waits for the same.
        let _unanswered = Waiting { followed: self, topic };
        loop {
            known.mark_unchanged();
            // In this order: what is told in between is looked at, and what is told later wakes.
            let is_doubted = self.is_doubted(topic);
            let now = known.borrow().clone();
            match now {
                // It is kept no more: who asks after this has asked a server anew.
                Known::Nobody => return Err(UnknownError::Nobody),
                Known::Refused(reason) => return Err(UnknownError::Refused(reason)),
                Known::Unavailable(reason) => return Err(UnknownError::Unavailable(reason)),
                known if known.is_told() && !is_doubted => return Ok(known),
                _ => {}
            }
            match timeout_at(deadline, known.changed()).await {
                Ok(Ok(())) => {}
                // It made room for another one meanwhile, or nobody has answered.
                Ok(Err(_)) | Err(_) => {
                    let trouble = self.heard().trouble.unwrap_or_else(|| "they are silent".into());
                    return Err(UnknownError::NoAnswer(trouble));
                }
            }
        }
    }

    /// Waits until what a token may do is told anew, or it is known no more.
    pub async fn rights_change(&self, secret: Uuid) {
        let topic = Topic::Token(secret_digest(&secret));
        let known = self.lock().slots.get(&topic).map(|slot| slot.known.subscribe());
        if let Some(mut known) = known {
            // An error means that it is known no more, which is a change too.
            drop(known.changed().await);
        }
    }

    /// The secret and the rights of a token that is known.
    pub fn of_accessor(&self, accessor: AccessorId) -> Option<(Uuid, Arc<RightsTold>)> {
        let topics = self.lock();
        let slot = topics.slots.get(topics.by_accessor.get(&accessor)?)?;
        let rights = match &*slot.known.borrow() {
            Known::Rights(rights) => rights.clone(),
            _ => return None,
        };
        let secret = slot.secret?;
        rights.expires_at.is_none_or(|end| self.now() < end).then_some((secret, rights))
    }

    /// How many tokens are known.
    pub fn token_count(&self) -> usize {
        self.lock().by_accessor.len()
    }

    /// What is followed, by its kind.
    pub fn topic_counts(&self) -> [(TopicKind, usize); 3] {
        let topics = self.lock();
        let count = |is_one: fn(&Topic) -> bool| topics.slots.keys().filter(|topic| is_one(topic)).count();
        [
            (TopicKind::Token, count(|topic| matches!(topic, Topic::Token(_)))),
            (TopicKind::Destination, count(|topic| matches!(topic, Topic::Destination(_)))),
            (TopicKind::Revoked, count(|topic| matches!(topic, Topic::Revoked))),
        ]
    }

    fn look_at(&self, topic: &Topic, secret: Option<Uuid>) -> watch::Receiver<Known> {
        let now = Instant::now();
        let mut topics = self.lock();
        topics.uses += 1;
        let used = topics.uses;
        if let Some(slot) = topics.slots.get_mut(topic) {
            let former = std::mem::replace(&mut slot.used, used);
            slot.used_at = now;
            let known = slot.known.subscribe();
            topics.by_use.remove(&former);
            topics.by_use.insert(used, topic.clone());
            return known;
        }
        if topics.slots.len() >= TOPICS_MAX
            && let Some(oldest) = topics.by_use.first_key_value().map(|(_, topic)| topic.clone())
        {
            topics.leave(&oldest);
        }
        let known = watch::Sender::new(Known::Asked);
        let receiver = known.subscribe();
        topics
            .slots
            .insert(topic.clone(), Slot { secret, known, is_doubted: false, accessor: None, used, used_at: now });
        topics.by_use.insert(used, topic.clone());
        topics.ask(Ask::Follow(topic.clone(), secret));
        drop(topics);
        self.asked.notify_one();
        receiver
    }

    /// The last one who waits for an answer goes.
    fn forget_unanswered(&self, topic: &Topic) {
        let mut topics = self.lock();
        let is_last = |slot: &Slot| matches!(*slot.known.borrow(), Known::Asked) && slot.known.receiver_count() <= 1;
        if topics.slots.get(topic).is_some_and(is_last) {
            topics.leave(topic);
        }
    }

    /// Follows no more what nobody asks for.
    pub(super) fn leave_idle(&self) {
        let now = Instant::now();
        let mut topics = self.lock();
        let idle = topics.slots.iter().filter(|(_, slot)| now.duration_since(slot.used_at) >= IDLE_MAX);
        let idle: Vec<Topic> = idle.map(|(topic, _)| topic.clone()).collect();
        for topic in &idle {
            topics.leave(topic);
        }
    }

    /// A stream to a server begins: everything is asked anew.
    pub(super) fn ask_all(&self) {
        let mut topics = self.lock();
        let all = topics.slots.iter().map(|(topic, slot)| Ask::Follow(topic.clone(), slot.secret)).collect();
        topics.asks = Some(all);
    }

    /// What the server is asked next.
    pub(super) fn next_ask(&self) -> Option<Ask> {
        self.lock().asks.as_mut()?.pop_front()
    }

    /// Ends when there may be something to ask.
    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// A server told the bundle. An older one than is here is of a server that is behind: it is not taken.
    pub(super) fn told_bundle(&self, revision: Revision, told: BundleTold) -> bool {
        let taken = self.bundle.send_if_modified(|held| {
            let is_older = held.as_ref().is_some_and(|held| held.revision > revision);
            if !is_older {
                *held = Some(Arc::new(HeldBundle { revision, told }));
            }
            !is_older
        });
        if taken {
            self.is_fresh.store(true, Ordering::Release);
        }
        taken
    }

    /// A server told what a token may do.
    pub(super) fn told_rights(&self, topic: &Topic, rights: RightsTold) {
        let mut topics = self.lock();
        let Topics { slots, by_accessor, .. } = &mut *topics;
        if let Some(slot) = slots.get_mut(topic) {
            slot.accessor = Some(rights.accessor);
            by_accessor.insert(rights.accessor, topic.clone());
            slot.is_doubted = false;
            slot.known.send_replace(Known::Rights(Arc::new(rights)));
        }
    }

    /// A server told the intentions of a destination.
    pub(super) fn told_intentions(&self, topic: &Topic, intentions: Vec<Intention>) {
        self.tell(topic, Known::Intentions(Arc::new(IntentionsBySource::new(intentions))));
    }

    /// A server told which leaves are revoked.
    pub(super) fn told_revoked(&self, topic: &Topic, revoked: BTreeSet<Serial>) {
        self.tell(topic, Known::Revoked(Arc::new(revoked)));
    }

    /// A server told that a token is nobody's: whatever it could do has ended.
    pub(super) fn told_nobody(&self, topic: &Topic) {
        if planted::is(Bug::VerdictOutlivesToken) && self.knows_rights(topic) {
            return;
        }
        self.tell_end(topic, Known::Nobody);
    }

    /// A server refused to tell something.
    pub(super) fn told_refused(&self, topic: &Topic, reason: String) {
        self.tell_end(topic, Known::Refused(reason));
    }

    /// A server cannot tell something now: what is not followed decides nothing.
    pub(super) fn told_unavailable(&self, topic: &Topic, reason: String) {
        self.tell_end(topic, Known::Unavailable(reason));
    }

    /// Every server is behind what others have told before: the datacenter was set up anew, or one told what never was. What is known is
    /// told again before it decides.
    pub(super) fn go_back_to(&self, revision: Revision) {
        self.newest.store(revision.0, Ordering::Release);
        self.bundle.send_modify(|held| {
            // Whatever comes next is newer.
            *held = held
                .as_ref()
                .map(|held| Arc::new(HeldBundle { revision: Revision::default(), told: held.told.clone() }));
        });
        self.doubt();
    }

    fn knows_rights(&self, topic: &Topic) -> bool {
        self.lock().slots.get(topic).is_some_and(|slot| matches!(*slot.known.borrow(), Known::Rights(_)))
    }

    fn tell(&self, topic: &Topic, known: Known) {
        if let Some(slot) = self.lock().slots.get_mut(topic) {
            slot.is_doubted = false;
            slot.known.send_replace(known);
        }
    }

    fn tell_end(&self, topic: &Topic, end: Known) {
        let mut topics = self.lock();
        if let Some(slot) = topics.slots.get(topic) {
            slot.known.send_replace(end);
        }
        topics.remove(topic);
    }

    /// The newest revision of which a server has told: what another one tells of an older state may have been taken back since.
    pub(super) fn newest(&self) -> Revision {
        Revision(self.newest.load(Ordering::Acquire))
    }

    /// A server was heard, in this state.
    pub(super) fn hear(&self, server: &str, revision: Revision) {
        self.newest.fetch_max(revision.0, Ordering::AcqRel);
        let at = Some(Instant::now());
        self.heard.send_replace(Heard { at, server: Some(server.to_owned()), trouble: None });
    }

    /// None is.
    pub(super) fn lose(&self, trouble: String) {
        self.lock().asks = None;
        self.heard.send_modify(|heard| {
            heard.server = None;
            heard.trouble = Some(trouble);
        });
    }

    /// This agent has slept, or is none any more: what it knows is not served before a server has told it again.
    pub(super) fn doubt(&self) {
        self.is_fresh.store(false, Ordering::Release);
        // The bundle comes first: what else was known decides nothing until it is told again, too.
        self.lock().slots.values_mut().for_each(|slot| slot.is_doubted = true);
    }

    /// Whether what is known of a topic was not told since this agent slept, or is kept no more.
    fn is_doubted(&self, topic: &Topic) -> bool {
        self.lock().slots.get(topic).is_none_or(|slot| slot.is_doubted)
    }

    fn lock(&self) -> MutexGuard<'_, Topics> {
        // A panic in between leaves at worst a token out of the order of use.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits for what a server tells of a topic.
struct Waiting<'a> {
    followed: &'a Followed,
    topic: &'a Topic,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.followed.forget_unanswered(self.topic);
    }
}

impl Topics {
    fn leave(&mut self, topic: &Topic) {
        if self.remove(topic) {
            self.ask(Ask::Leave(topic.clone()));
        }
    }

    fn ask(&mut self, ask: Ask) {
        if let Some(asks) = &mut self.asks {
            asks.push_back(ask);
        }
    }

    fn remove(&mut self, topic: &Topic) -> bool {
        let Some(slot) = self.slots.remove(topic) else { return false };
        self.by_use.remove(&slot.used);
        // A token that was made anew under the same id has taken its place there.
        if let Some(accessor) = slot.accessor
            && self.by_accessor.get(&accessor) == Some(topic)
        {
            self.by_accessor.remove(&accessor);
        }
        true
    }
}

#[cfg(test)]
mod tests;
