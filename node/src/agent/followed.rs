//! What an agent knows: the bundle, and what tokens may do, as its servers told it last. It is kept current while a server is there, and
//! goes on being true, as far as anybody here can know, while none is.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use carrack_authority::{
    acl::{AccessorId, token::secret_digest},
    id::{Digest, Revision},
    key::Der,
    root::Root,
    time::Timestamp,
};
use carrack_proto::convert::agent::{BundleTold, RightsTold};
use carrack_raft::ports::WallClock;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};
use uuid::Uuid;

/// The most tokens that are known at a time: each has workloads on this host.
pub const TOKENS_MAX: usize = 4_000;
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

/// What is known of a token.
#[derive(Clone, Debug)]
enum Known {
    /// A server is asked.
    Asked,
    /// What it may do.
    Rights(Arc<RightsTold>),
    /// It is nobody's.
    Nobody,
    /// A server cannot or will not say.
    Refused(String),
}

/// Why nothing is known of a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RightsError {
    /// It is nobody's.
    #[error("ACL not found")]
    Nobody,
    /// A server refuses to judge it.
    #[error("{0}")]
    Refused(String),
    /// No server has said anything in time.
    #[error("no server has answered in time what this token may do: {0}")]
    NoAnswer(String),
}

struct TokenSlot {
    secret: Uuid,
    known: watch::Sender<Known>,
    /// Its public id, once it was told.
    accessor: Option<AccessorId>,
    used: u64,
    used_at: Instant,
}

#[derive(Default)]
struct Tokens {
    slots: BTreeMap<Digest, TokenSlot>,
    by_accessor: BTreeMap<AccessorId, Digest>,
    by_use: BTreeMap<u64, Digest>,
    uses: u64,
    /// What the servers are to be asked next.
    asks: VecDeque<Ask>,
}

/// Something that the servers are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// What this token may do, from now on.
    Follow(Digest, Uuid),
    /// No more of it.
    Leave(Digest),
}

/// What one agent knows.
pub struct Followed {
    bundle: watch::Sender<Option<Arc<HeldBundle>>>,
    tokens: Mutex<Tokens>,
    asked: Notify,
    /// Whether the bundle was told since this agent started or slept: nothing is served before.
    is_fresh: AtomicBool,
    /// When a server was heard last, and what the last trouble with them was.
    heard: watch::Sender<Heard>,
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
            tokens: Mutex::default(),
            asked: Notify::new(),
            is_fresh: AtomicBool::new(false),
            heard: watch::Sender::new(Heard::default()),
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

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Why nothing may be served now, if so.
    pub fn not_fresh(&self) -> Option<String> {
        if self.is_fresh.load(Ordering::Acquire) {
            return None;
        }
        let trouble = self.heard().trouble.unwrap_or_else(|| "none has been asked yet".into());
        Some(format!(
            "this agent has just started, or has slept, and serves nothing before a server has told it the bundle; the servers: {trouble}"
        ))
    }

    /// What a token may do: at once if it is known, else as soon as a server has said.
    pub async fn rights(&self, secret: Uuid, deadline: Instant) -> Result<Arc<RightsTold>, RightsError> {
        let digest = secret_digest(&secret);
        let mut known = self.look_at(digest, secret);
        loop {
            let now = known.borrow_and_update().clone();
            match now {
                Known::Rights(rights) if rights.expires_at.is_none_or(|end| self.now() < end) => return Ok(rights),
                Known::Rights(_) | Known::Nobody => {
                    self.forget(&digest);
                    return Err(RightsError::Nobody);
                }
                Known::Refused(reason) => {
                    self.forget(&digest);
                    return Err(RightsError::Refused(reason));
                }
                Known::Asked => {}
            }
            match timeout_at(deadline, known.changed()).await {
                Ok(Ok(())) => {}
                // It made room for another one meanwhile, or nobody has answered.
                Ok(Err(_)) | Err(_) => {
                    self.forget_unanswered(&digest);
                    let trouble = self.heard().trouble.unwrap_or_else(|| "they are silent".into());
                    return Err(RightsError::NoAnswer(trouble));
                }
            }
        }
    }

    /// Waits until what a token may do is told anew, or it is known no more.
    pub async fn rights_change(&self, secret: Uuid) {
        let digest = secret_digest(&secret);
        let known = self.lock().slots.get(&digest).map(|slot| slot.known.subscribe());
        if let Some(mut known) = known {
            // An error means that it is known no more, which is a change too.
            drop(known.changed().await);
        }
    }

    /// The secret and the rights of a token that is known.
    pub fn of_accessor(&self, accessor: AccessorId) -> Option<(Uuid, Arc<RightsTold>)> {
        let tokens = self.lock();
        let slot = tokens.slots.get(tokens.by_accessor.get(&accessor)?)?;
        let rights = match &*slot.known.borrow() {
            Known::Rights(rights) => rights.clone(),
            _ => return None,
        };
        rights.expires_at.is_none_or(|end| self.now() < end).then_some((slot.secret, rights))
    }

    /// How many tokens are known.
    pub fn token_count(&self) -> usize {
        self.lock().by_accessor.len()
    }

    fn look_at(&self, digest: Digest, secret: Uuid) -> watch::Receiver<Known> {
        let now = Instant::now();
        let mut tokens = self.lock();
        tokens.uses += 1;
        let used = tokens.uses;
        if let Some(slot) = tokens.slots.get_mut(&digest) {
            let former = std::mem::replace(&mut slot.used, used);
            slot.used_at = now;
            let known = slot.known.subscribe();
            tokens.by_use.remove(&former);
            tokens.by_use.insert(used, digest);
            return known;
        }
        if tokens.slots.len() >= TOKENS_MAX
            && let Some(oldest) = tokens.by_use.first_key_value().map(|(_, digest)| *digest)
        {
            tokens.leave(&oldest);
        }
        let known = watch::Sender::new(Known::Asked);
        let receiver = known.subscribe();
        tokens.slots.insert(digest, TokenSlot { secret, known, accessor: None, used, used_at: now });
        tokens.by_use.insert(used, digest);
        tokens.asks.push_back(Ask::Follow(digest, secret));
        drop(tokens);
        self.asked.notify_one();
        receiver
    }

    fn forget(&self, digest: &Digest) {
        self.lock().leave(digest);
        self.asked.notify_one();
    }

    fn forget_unanswered(&self, digest: &Digest) {
        let mut tokens = self.lock();
        if tokens.slots.get(digest).is_some_and(|slot| matches!(*slot.known.borrow(), Known::Asked)) {
            tokens.leave(digest);
        }
    }

    /// Follows no more what nobody asks for.
    pub(super) fn leave_idle(&self) {
        let now = Instant::now();
        let mut tokens = self.lock();
        let idle = tokens.slots.iter().filter(|(_, slot)| now.duration_since(slot.used_at) >= IDLE_MAX);
        let idle: Vec<Digest> = idle.map(|(digest, _)| *digest).collect();
        for digest in &idle {
            tokens.leave(digest);
        }
    }

    /// A stream to a server begins: everything is asked anew.
    pub(super) fn ask_all(&self) {
        let mut tokens = self.lock();
        tokens.asks = tokens.slots.iter().map(|(digest, slot)| Ask::Follow(*digest, slot.secret)).collect();
    }

    /// What the server is asked next.
    pub(super) fn next_ask(&self) -> Option<Ask> {
        self.lock().asks.pop_front()
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
    pub(super) fn told_rights(&self, digest: &Digest, rights: RightsTold) {
        let mut tokens = self.lock();
        let Tokens { slots, by_accessor, .. } = &mut *tokens;
        if let Some(slot) = slots.get_mut(digest) {
            slot.accessor = Some(rights.accessor);
            by_accessor.insert(rights.accessor, *digest);
            slot.known.send_replace(Known::Rights(Arc::new(rights)));
        }
    }

    /// A server told that a token is nobody's: whatever it could do has ended.
    pub(super) fn told_nobody(&self, digest: &Digest) {
        self.tell_end(digest, Known::Nobody);
    }

    /// A server refused to judge a token.
    pub(super) fn told_refused(&self, digest: &Digest, reason: String) {
        self.tell_end(digest, Known::Refused(reason));
    }

    fn tell_end(&self, digest: &Digest, end: Known) {
        let mut tokens = self.lock();
        if let Some(slot) = tokens.slots.get(digest) {
            slot.known.send_replace(end);
        }
        tokens.remove(digest);
    }

    /// A server was heard.
    pub(super) fn hear(&self, server: &str) {
        let at = Some(Instant::now());
        self.heard.send_replace(Heard { at, server: Some(server.to_owned()), trouble: None });
    }

    /// None is.
    pub(super) fn lose(&self, trouble: String) {
        self.heard.send_modify(|heard| {
            heard.server = None;
            heard.trouble = Some(trouble);
        });
    }

    /// This agent has slept, or is none any more: what it knows is not served before a server has told it again.
    pub(super) fn doubt(&self) {
        self.is_fresh.store(false, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Tokens> {
        // A panic in between leaves at worst a token out of the order of use.
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tokens {
    fn leave(&mut self, digest: &Digest) {
        if self.remove(digest) {
            self.asks.push_back(Ask::Leave(*digest));
        }
    }

    fn remove(&mut self, digest: &Digest) -> bool {
        let Some(slot) = self.slots.remove(digest) else { return false };
        self.by_use.remove(&slot.used);
        if let Some(accessor) = slot.accessor {
            self.by_accessor.remove(&accessor);
        }
        true
    }
}

#[cfg(test)]
mod tests;
