//! What is told to the invariants: what servers apply and install, what clients ask and get. It is kept until the driver's next
//! look, so that no invariant runs inside of a host.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use carrack::telemetry::labels::Port;
use carrack_authority::{State, acl::AccessorId, command::Entry, id::Serial, key::Der, outcome::Outcome};
use carrack_proto::stored::{self, Kind, Schema};
use carrack_raft::ports::ApplyObserver;
use sha2::{Digest, Sha256};

use crate::{
    trace::{Detail, Kind as Event},
    world::shared::Shared,
};

/// The bytes of a digest of an entry that are kept: two different entries have the same by chance in no run.
pub const DIGEST_BYTES: usize = 16;

/// An entry that a server applied.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The server's host.
    pub host: Arc<str>,
    /// The entry's index.
    pub index: u64,
    /// What it says.
    pub commands: Arc<Entry>,
    /// What it led to.
    pub outcomes: Arc<[Outcome]>,
    /// Of what it says and what it led to.
    pub digest: [u8; DIGEST_BYTES],
    /// The state before.
    pub before: State,
    /// The state after.
    pub after: State,
}

/// A state that a server took from a snapshot.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The server's host.
    pub host: Arc<str>,
    /// The last entry in it.
    pub index: u64,
    /// The state.
    pub state: State,
    /// Whether it is the state that the process began with.
    pub is_start: bool,
}

/// A question about a connection between two services.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// Who reaches.
    pub source: String,
    /// Who is reached.
    pub destination: String,
    /// The serial of the certificate of who reaches, if it was named.
    pub serial: Option<Serial>,
}

/// What a client did or learnt.
#[derive(Clone, Debug)]
pub enum Told {
    /// It got an answer.
    Answered {
        /// Who asked.
        what: String,
        /// The body.
        body: Bytes,
    },
    /// It is about to ask for a leaf of this identity.
    LeafAsked {
        /// The identity.
        identity: String,
    },
    /// It received a leaf that it had asked for at this simulated microsecond.
    LeafReceived {
        /// The number of the datacenter that it asked.
        datacenter: usize,
        /// The identity that it asked for.
        identity: String,
        /// The leaf.
        certificate: Der,
        /// When it asked.
        asked_at: u64,
    },
    /// An agent gave it a leaf that nobody had received before.
    LeafOfAgent {
        /// The number of the agent's datacenter.
        datacenter: usize,
        /// The identity that it asked for.
        identity: String,
        /// The leaf.
        certificate: Der,
    },
    /// An agent gave it a good answer.
    Served {
        /// The number of the agent's datacenter.
        datacenter: usize,
        /// The agent's host.
        agent: String,
        /// What it asked for.
        what: String,
        /// The token that it showed, if that is one of those that are deleted.
        token: Option<AccessorId>,
        /// When it asked.
        asked_at: u64,
    },
    /// A server or an agent has answered whether a connection may be.
    Authorized {
        /// The number of its datacenter.
        datacenter: usize,
        /// Its host.
        host: String,
        /// What was asked.
        question: Question,
        /// The answer.
        is_allowed: bool,
        /// Why, in its words.
        reason: String,
        /// When it was asked.
        asked_at: u64,
    },
    /// A blocking query about the intentions of a destination came back.
    Woken {
        /// The number of the server's datacenter.
        datacenter: usize,
        /// The server's host.
        host: String,
        /// The destination.
        destination: String,
        /// The index that it named.
        after: u64,
        /// The index of the answer.
        index: u64,
    },
    /// It learnt the secret of a token, in the secret's text form and as its bytes.
    SecretLearnt {
        /// What it is.
        what: String,
        /// Its bytes.
        bytes: Vec<u8>,
        /// How it is written.
        text: String,
    },
    /// Issuing was halted or resumed, and the operator has the answer.
    HaltAcknowledged {
        /// In this datacenter.
        datacenter: usize,
        /// Whether it is halted.
        is_halted: bool,
    },
    /// The operator is about to ask for the end of a halt.
    ResumeAsked {
        /// In this datacenter.
        datacenter: usize,
    },
}

impl Told {
    /// The datacenter that it is about; `None`: all of them.
    pub const fn datacenter(&self) -> Option<usize> {
        match self {
            Self::LeafReceived { datacenter, .. }
            | Self::LeafOfAgent { datacenter, .. }
            | Self::Served { datacenter, .. }
            | Self::Authorized { datacenter, .. }
            | Self::Woken { datacenter, .. }
            | Self::HaltAcknowledged { datacenter, .. }
            | Self::ResumeAsked { datacenter } => Some(*datacenter),
            Self::Answered { .. } | Self::LeafAsked { .. } | Self::SecretLearnt { .. } => None,
        }
    }

    /// The secret of a token, in the form of a UUID.
    pub fn secret(what: &str, text: &str) -> Self {
        let bytes = uuid::Uuid::parse_str(text).map(|secret| secret.as_bytes().to_vec());
        // Anything else would be found as its text alone.
        let bytes = bytes.unwrap_or_else(|_| text.as_bytes().to_vec());
        Self::SecretLearnt { what: what.into(), bytes, text: text.into() }
    }
}

/// What a server says to another one inside of TLS.
#[derive(Clone, Debug)]
pub struct Said {
    /// The server's host.
    pub host: Arc<str>,
    /// The port that it is said on, whoever opened the connection.
    pub port: Port,
    /// What is said, after the end of what was said before.
    pub bytes: Bytes,
}

/// Everything that is told.
#[derive(Clone, Debug)]
pub enum Seen {
    /// See [`Applied`].
    Applied(Box<Applied>),
    /// See [`Installed`].
    Installed(Box<Installed>),
    /// See [`Told`].
    Told(Told),
    /// See [`Said`].
    Said(Said),
}

/// The digest of an entry and of what it led to.
pub fn digest_of(commands: &Entry, outcomes: &[Outcome]) -> [u8; DIGEST_BYTES] {
    let bytes = stored::encode(Kind::Commands, Schema::FIRST, &(commands, outcomes));
    let hash = Sha256::digest(bytes.expect("an entry that was in a log has a stored form"));
    *hash.first_chunk().expect("the digest is longer")
}

/// Sees what one process of a server applies.
pub struct Observer {
    host: Arc<str>,
    shared: Arc<Shared>,
    last: Mutex<State>,
    has_begun: AtomicBool,
}

impl Observer {
    /// The observer of one process of a server.
    pub fn new(host: &str, shared: Arc<Shared>) -> Self {
        Self { host: host.into(), shared, last: Mutex::default(), has_begun: AtomicBool::new(false) }
    }

    fn moves_to(&self, state: &State) -> State {
        std::mem::replace(&mut *self.last.lock().unwrap_or_else(PoisonError::into_inner), state.clone())
    }
}

impl ApplyObserver for Observer {
    fn applied(&self, index: u64, commands: &Entry, outcomes: &[Outcome], after: &State) {
        self.shared.counts().applied += 1;
        self.shared.spring_trap(&self.host, commands);
        let digest = digest_of(commands, outcomes);
        let short: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!("{index}: {} outcomes, {short}", outcomes.len());
        self.shared.note_detail(&self.host, Event::Applied, Detail::Index(index), text);
        self.shared.saw(Seen::Applied(Box::new(Applied {
            host: self.host.clone(),
            index,
            commands: Arc::new(commands.clone()),
            outcomes: outcomes.into(),
            digest,
            before: self.moves_to(after),
            after: after.clone(),
        })));
    }

    fn installed(&self, index: u64, state: &State) {
        let is_start = !self.has_begun.swap(true, Ordering::Relaxed);
        let how = if is_start { "starts" } else { "goes on from a snapshot" };
        self.shared.note(&self.host, Event::Applied, format!("{how} at {index}"));
        self.moves_to(state);
        let (host, state) = (self.host.clone(), state.clone());
        self.shared.saw(Seen::Installed(Box::new(Installed { host, index, state, is_start })));
    }
}
