//! What agents follow beside the bundle. Each topic is looked up once for all streams of this server that follow it, when something in it
//! has changed, and rings their bells. So a stream costs no waiter of the replica's, and a change one look, however many follow it.

mod following;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use carrack_authority::{
    State, WatchKey,
    acl::AccessorId,
    id::{Digest, Revision},
    spiffe::Name,
};
use carrack_proto::{
    agent::{Nothing, follow_response::Told},
    convert::agent::{RightsTold, intentions_to_wire, revoked_to_wire, rights_to_wire},
};
use carrack_raft::{Changed, Replica};
use tokio::{sync::watch, time::sleep};
use uuid::Uuid;

use self::following::Bell;
pub use self::following::{Following, TooMuchFollowed};

/// How often a secondary looks whether what it knows of tokens has grown too old.
const LOOK_AT_TOKENS_EVERY: Duration = Duration::from_secs(3);

/// What is followed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Whether this key is an agent's.
    Agent(Digest),
    /// What the token of this secret may do.
    Token(Digest),
    /// The intentions that a connection to this service may meet.
    Destination(Name),
    /// The revoked leaves.
    Revoked,
}

/// What was found of a topic, for all who follow it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The revision of the state that it was found in.
    pub revision: u64,
    /// What is told.
    pub told: Told,
}

impl Found {
    /// Whether there is nothing to follow: it is nobody's, or may not be told.
    pub fn is_end(&self) -> bool {
        matches!(self.told, Told::NoToken(_) | Told::Refused(_) | Told::Unavailable(_))
    }
}

/// The topics of one server.
pub struct Topics {
    replica: Replica,
    token_staleness_max: Option<Duration>,
    board: Mutex<Board>,
}

#[derive(Default)]
struct Board {
    feeds: BTreeMap<Arc<Topic>, Feed>,
    by_key: BTreeMap<WatchKey, BTreeSet<Arc<Topic>>>,
    followed: usize,
    streams: u64,
}

/// One topic that is followed.
struct Feed {
    found: Arc<Found>,
    /// The revision of the state in which it was looked for last.
    looked_at: u64,
    /// What it changes with.
    keys: Vec<WatchKey>,
    /// By stream and number.
    followers: BTreeMap<(u64, u32), Arc<Bell>>,
}

impl Topics {
    /// Nothing is followed yet.
    pub fn new(replica: Replica, token_staleness_max: Option<Duration>) -> Self {
        Self { replica, token_staleness_max, board: Mutex::default() }
    }

    /// How much all streams follow together.
    pub fn followed(&self) -> usize {
        self.lock().followed
    }

    /// Looks at what changes, until `stopped` turns true.
    pub async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let work = async {
            let mut changes = self.replica.changes();
            // Whoever came before was not told of what has changed since.
            self.look_at(|_| true).await;
            loop {
                tokio::select! {
                    changed = changes.next() => match changed {
                        Some(Changed::Keys(keys)) => self.look_at_keys(&keys).await,
                        Some(Changed::Everything) => self.look_at(|_| true).await,
                        None => return,
                    },
                    // In a secondary, what is known of tokens grows old while the primary is not heard.
                    () = sleep(LOOK_AT_TOKENS_EVERY), if self.token_staleness_max.is_some() => {
                        self.look_at(|topic| matches!(topic, Topic::Token(_))).await;
                    }
                }
            }
        };
        tokio::select! {
            () = work => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    }

    async fn look_at_keys(&self, keys: &BTreeSet<WatchKey>) {
        let touched = {
            let board = self.lock();
            keys.iter().filter_map(|key| board.by_key.get(key)).flatten().cloned().collect()
        };
        self.look_at_these(touched).await;
    }

    async fn look_at(&self, is_asked: impl Fn(&Topic) -> bool) {
        let asked = self.lock().feeds.keys().filter(|topic| is_asked(topic)).cloned().collect();
        self.look_at_these(asked).await;
    }

    async fn look_at_these(&self, topics: BTreeSet<Arc<Topic>>) {
        for topic in topics {
            if let Some(feed) = self.lock().feeds.get_mut(&topic) {
                self.look(&topic, feed);
            }
            // Of a change that is everybody's, thousands are rung: others have work too.
            tokio::task::consume_budget().await;
        }
    }

    /// Looks for something that is followed, and rings if it is another now. Under the board's lock, so that no state is looked at after
    /// a newer one.
    fn look(&self, topic: &Topic, feed: &mut Feed) {
        let state = self.replica.state().state.clone();
        if feed.is_current(topic, &state) {
            return;
        }
        feed.looked_at = state.index();
        let told = self.told(&state, topic);
        if told != feed.found.told {
            feed.found = Arc::new(Found { revision: state.index(), told });
            feed.ring();
        }
    }

    fn first_look(&self, topic: &Topic) -> Feed {
        let state = self.replica.state().state.clone();
        let told = self.told(&state, topic);
        let keys = match topic {
            Topic::Agent(key) => vec![WatchKey::Agent(*key)],
            Topic::Token(_) => {
                accessor_of(&told).map_or_else(Vec::new, |it| vec![WatchKey::Token(it), WatchKey::Policies])
            }
            Topic::Destination(name) => WatchKey::intentions_matching(name).to_vec(),
            Topic::Revoked => vec![WatchKey::Revocations],
        };
        let found = Arc::new(Found { revision: state.index(), told });
        Feed { found, looked_at: state.index(), keys, followers: BTreeMap::new() }
    }

    /// What is to be told in this state.
    fn told(&self, state: &State, topic: &Topic) -> Told {
        match topic {
            Topic::Agent(key) if state.agent_of_key(key).is_some() => Told::Alive(Nothing {}),
            Topic::Agent(_) => Told::NoToken(Nothing {}),
            Topic::Token(secret) => self.rights(state, secret),
            Topic::Destination(name) => {
                let intentions = state.intentions().matching_destination(name);
                Told::Intentions(intentions_to_wire(intentions.map(|intention| &**intention)))
            }
            Topic::Revoked => {
                Told::Revoked(revoked_to_wire(state.revocations().all().map(|revocation| &revocation.serial)))
            }
        }
    }

    /// What a token may do in this state.
    fn rights(&self, state: &State, secret: &Digest) -> Told {
        let now = self.replica.log_time();
        let Some(token) = state.acl().token_of_secret(secret, now) else { return Told::NoToken(Nothing {}) };
        if state.is_stale(token, now, self.token_staleness_max) {
            return Told::Refused(super::desk::TOKEN_IS_STALE.into());
        }
        Told::Rights(rights_to_wire(&RightsTold {
            accessor: token.accessor,
            expires_at: token.expires_at,
            modified: token.modified,
            authorizer: state.authorizer(token),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        // A panic in between leaves at worst a topic that nobody follows.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board {
    /// The one copy of a topic.
    fn known(&self, topic: Topic) -> Arc<Topic> {
        self.feeds.get_key_value(&topic).map_or_else(|| Arc::new(topic), |(known, _)| known.clone())
    }

    /// Keeps a feed for as long as it is followed.
    fn keep(&mut self, topic: Arc<Topic>, feed: Feed) {
        for key in &feed.keys {
            if !feed.followers.is_empty() {
                self.by_key.entry(*key).or_default().insert(topic.clone());
            } else if let Some(topics) = self.by_key.get_mut(key) {
                topics.remove(&topic);
                if topics.is_empty() {
                    self.by_key.remove(key);
                }
            }
        }
        if !feed.followers.is_empty() {
            self.feeds.insert(topic, feed);
        }
    }

    fn leave(&mut self, topic: &Arc<Topic>, place: (u64, u32)) {
        let Some(mut feed) = self.feeds.remove(topic) else { return };
        if feed.followers.remove(&place).is_some() {
            self.followed -= 1;
        }
        self.keep(topic.clone(), feed);
    }
}

impl Feed {
    /// Whether nothing that it changes with has changed since it was looked at. What a token may do changes with time too.
    fn is_current(&self, topic: &Topic, state: &State) -> bool {
        let is_changed = || self.keys.iter().any(|key| state.modified(key) > Revision(self.looked_at));
        !matches!(topic, Topic::Token(_)) && !is_changed()
    }

    fn ring(&self) {
        for ((_, number), bell) in &self.followers {
            bell.ring(*number, self.found.clone());
        }
    }
}

/// Whose rights were told.
fn accessor_of(told: &Told) -> Option<AccessorId> {
    match told {
        Told::Rights(rights) => Uuid::from_slice(&rights.accessor).ok().map(AccessorId),
        _ => None,
    }
}
