//! Every private key of a run and whose it is, so that the invariant `keys_stay_home` can search for its bytes in packets,
//! files and log lines.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use super::search::Form;
use super::search::{Index, Searched};

/// The most secrets of one run: the virtual year's fifteen servers and its leaves make some ten thousand keys, and 100 MB
/// of index are affordable.
const SECRETS_MAX: usize = 100_000;

/// Where a secret may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Home {
    /// With one host: in its memory, and in those of its files that are for keys.
    Host(Arc<str>),
    /// With every host that has drawn it from the pool of RSA keys; still in no packet and no log line.
    Pool,
}

impl Home {
    /// Whether the secret may be with `host`.
    pub fn admits(&self, host: &str) -> bool {
        match self {
            Self::Host(owner) => &**owner == host,
            Self::Pool => true,
        }
    }
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => f.write_str(host),
            Self::Pool => f.write_str("the pool of RSA keys"),
        }
    }
}

/// A secret to note.
pub struct Secret {
    what: &'static str,
    searched: Searched,
}

impl Secret {
    /// A secret number or seed, named by what it is.
    pub fn new(what: &'static str, bytes: &[u8]) -> Self {
        Self { what, searched: Searched { bytes: bytes.to_vec(), text: None } }
    }

    /// Adds the secret's own text form, which is searched in upper and in lower case.
    pub fn with_text(self, text: &str) -> Self {
        let searched = Searched { text: Some(text.to_owned()), ..self.searched };
        Self { searched, ..self }
    }
}

/// A secret that was noted.
#[derive(Clone, PartialEq, Eq)]
pub struct Needle {
    /// Whose it is.
    pub owner: Home,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it is, such as `scalar of ec-p256`.
    pub what: Arc<str>,
}

impl fmt::Debug for Needle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Needle({} of {}, ...)", self.what, self.owner)
    }
}

/// A secret that was found where the search looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whose it is.
    pub owner: Home,
    /// What it is, such as `scalar of ec-p256`.
    pub what: Arc<str>,
    /// How it is written there.
    pub form: Form,
    /// Where, from the beginning of what was searched.
    pub offset: usize,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} of {}, as {:?} at byte {}", self.what, self.owner, self.form, self.offset)
    }
}

/// The private keys of a run, shared by every key maker and the invariants.
#[derive(Clone, Default)]
pub struct KeyRegistry(Arc<Mutex<Notes>>);

#[derive(Default)]
struct Notes {
    index: Index,
    labels: Vec<(Home, Arc<str>)>,
    known: BTreeSet<Vec<u8>>,
}

impl KeyRegistry {
    /// Notes the secrets of a key of `owner`. What is known already, as a key of the pool may be, keeps its owner.
    pub fn note(&self, owner: &Home, key: impl fmt::Display, secrets: impl IntoIterator<Item = Secret>) {
        let mut notes = self.lock();
        for secret in secrets {
            if notes.known.insert(secret.searched.bytes.clone()) {
                assert!(notes.labels.len() < SECRETS_MAX, "one run made more than {SECRETS_MAX} secrets");
                notes.labels.push((owner.clone(), format!("{} of {key}", secret.what).into()));
                notes.index.insert(secret.searched);
            }
        }
    }

    /// How many secrets there are.
    pub fn count(&self) -> usize {
        self.lock().index.len()
    }

    /// Every secret.
    pub fn needles(&self) -> Vec<Needle> {
        let notes = self.lock();
        let labels = notes.labels.iter().enumerate();
        labels
            .map(|(secret, (owner, what))| Needle {
                owner: owner.clone(),
                bytes: notes.index.bytes(secret).to_vec(),
                what: what.clone(),
            })
            .collect()
    }

    /// The secrets in `haystack`, each once, a bounded number: what a packet, a snapshot or a log line must not have.
    pub fn search(&self, haystack: &[u8]) -> Vec<Finding> {
        let notes = self.lock();
        let hits = notes.index.search(haystack).into_iter();
        hits.map(|hit| {
            let (owner, what) = notes.labels[hit.secret].clone();
            Finding { owner, what, form: hit.form, offset: hit.offset }
        })
        .collect()
    }

    /// The secrets in `haystack` that may not be with `host`: what no file of `host` may have.
    pub fn search_strangers(&self, haystack: &[u8], host: &str) -> Vec<Finding> {
        let mut found = self.search(haystack);
        found.retain(|finding| !finding.owner.admits(host));
        found
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        // A server that panics in the simulation must not blind the search for what it has let out.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for KeyRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRegistry({} secrets, ...)", self.count())
    }
}
