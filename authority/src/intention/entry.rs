//! One intention: what holds between one source and one destination. Rows are kept per source, so that a write touches one of them.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::permission::{JwtRequirement, Permission};
use crate::{
    id::Revision,
    spiffe::{DEFAULT_NAMESPACE, Name, SpiffeError},
    time::Timestamp,
};

/// What stands for every service.
pub(super) const WILDCARD: &str = "*";

/// One end of an intention. Services come before the wildcard, so that rows in this order are in the order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Party {
    /// This service.
    Service(Name),
    /// Every service: `*`.
    Any,
}

impl Party {
    /// Reads a service's name or `*`; `what` says in errors what was named.
    pub fn parse(what: &str, text: &str) -> Result<Self, SpiffeError> {
        if text == WILDCARD { Ok(Self::Any) } else { Name::parse(what, text).map(Self::Service) }
    }

    /// Its name, or `*`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Service(name) => name.as_str(),
            Self::Any => WILDCARD,
        }
    }

    /// Whether the service is meant.
    pub fn contains(&self, service: &Name) -> bool {
        match self {
            Self::Service(name) => name == service,
            Self::Any => true,
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an intention or a permission says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// It must not be.
    Deny,
    /// It may be.
    Allow,
}

impl Action {
    /// Consul's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Allow => "allow",
        }
    }

    /// Consul's word in reasons.
    pub(super) const fn as_capitals(self) -> &'static str {
        match self {
            Self::Deny => "DENY",
            Self::Allow => "ALLOW",
        }
    }

    /// Whether it is `allow`.
    pub const fn is_allow(self) -> bool {
        matches!(self, Self::Allow)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What holds between source and destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// For every connection.
    Action(Action),
    /// For each HTTP request what the first permission that fits it says. Never empty.
    Permissions(Vec<Permission>),
}

/// What an intention is called where only a key of fixed size fits: in histories, and in cursors of those who follow the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IntentionKey(pub Uuid);

impl IntentionKey {
    /// The key of the row of this destination and source.
    pub fn of(destination: &Party, source: &Party) -> Self {
        Self(tagged(b"carrack intention v1\0", &[destination.as_str(), source.as_str()]))
    }
}

/// What a destination is called where only a key of fixed size fits: in [`WatchKey::IntentionsOf`](crate::WatchKey). Two
/// destinations with one key would be woken together, and nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DestinationKey(pub Uuid);

impl DestinationKey {
    /// The key of this destination.
    pub fn of(destination: &Name) -> Self {
        Self(tagged(b"carrack intention destination v1\0", &[destination.as_str()]))
    }
}

/// The first half of SHA-256 over a domain tag and names, none of which contains a zero byte.
fn tagged(tag: &[u8], names: &[&str]) -> Uuid {
    let mut hash = Sha256::new().chain_update(tag);
    for name in names {
        hash = hash.chain_update(name).chain_update([0]);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    Uuid::from_bytes(half)
}

/// An intention: one source of one destination. There is at most one for both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intention {
    /// Who is reached.
    pub destination: Party,
    /// Who reaches.
    pub source: Party,
    /// What holds.
    pub effect: Effect,
    /// What a request's JWT must say, whatever it allows. It is the same in each row of a destination.
    pub jwt: Option<JwtRequirement>,
    /// What it is for.
    pub description: String,
    /// Whatever its writer wants to find again. That of a config entry stands in each of its rows.
    pub meta: BTreeMap<String, String>,
    /// The id of one that was made by Consul's deprecated API.
    pub legacy_id: Option<Uuid>,
    /// When it was made: set by apply.
    pub created_at: Timestamp,
    /// When it was changed last: set by apply.
    pub updated_at: Timestamp,
    /// The entry that made it.
    pub created: Revision,
    /// The entry that changed it last.
    pub modified: Revision,
}

impl Intention {
    /// Its key.
    pub fn key(&self) -> IntentionKey {
        IntentionKey::of(&self.destination, &self.source)
    }

    /// Its permissions; none: it is an action.
    pub fn permissions(&self) -> &[Permission] {
        match &self.effect {
            Effect::Action(_) => &[],
            Effect::Permissions(permissions) => permissions,
        }
    }

    /// Whether it decides by the request, which a connection alone does not show.
    pub const fn is_l7(&self) -> bool {
        matches!(self.effect, Effect::Permissions(_)) || self.jwt.is_some()
    }

    /// Whether it is about this source and this destination.
    pub fn is_about(&self, source: &Name, destination: &Name) -> bool {
        self.source.contains(source) && self.destination.contains(destination)
    }
}

/// As Consul writes it in reasons.
impl fmt::Display for Intention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, destination, precedence) = (&self.source, &self.destination, self.precedence());
        write!(f, "{DEFAULT_NAMESPACE}/{source} => {DEFAULT_NAMESPACE}/{destination} (")?;
        if let Some(id) = self.legacy_id {
            write!(f, "ID: {id}, ")?;
        }
        write!(f, "Precedence: {precedence}, ")?;
        match &self.effect {
            Effect::Action(action) => write!(f, "Action: {})", action.as_capitals()),
            Effect::Permissions(permissions) => write!(f, "Permissions: {})", permissions.len()),
        }
    }
}
