//! Datacenters of one trust domain: who they are to each other, and how the tables of the primary are followed by the others.

mod history;
mod read;
mod servers;

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::{
    history::History,
    read::{Next, next, table_keys},
    servers::{KnownServers, SERVERS_AT_ONCE_MAX},
};
use crate::{
    acl::{AccessorId, Policy, PolicyId, Token},
    ca_config::CaConfig,
    id::{Digest, KeyId, NodeId, Revision},
    intention::{Intention, IntentionKey},
    key::Der,
    member::MEMBERS_MAX,
    revocation::{Revocation, RevokedIssuer},
    root::Root,
    rotation::TaintedRoot,
    spiffe::{Name, TrustDomain},
    time::Timestamp,
};

/// The most other datacenters: each server of each of them may hold a connection to each server here.
pub const DATACENTERS_MAX: usize = 64;
/// The most addresses of one datacenter: one for each server.
pub const WAN_ADDRESSES_MAX: usize = MEMBERS_MAX;
/// The most bytes of the roots of one datacenter's server CA: six, of the kind that is made. All datacenters together are one change in a
/// follower's log, and must fit in it whatever one of them says of itself.
pub const SERVER_ROOTS_BYTES_MAX: usize = 4 * 1024;
/// The most federation tokens that are neither used nor expired: an operator makes one for each datacenter.
pub const FEDERATION_TOKENS_MAX: usize = 32;
/// How long a federation token may be good for: it is a secret that lies around.
pub const FEDERATION_TOKEN_TTL_MAX: Duration = Duration::from_secs(7 * 86_400);
/// The most unexpired issuers that were signed for one other datacenter. One that asks again and again uses up its own share, never the
/// others'.
pub const REMOTE_ISSUERS_MAX: usize = 256;
/// The most unexpired issuers that were signed for one server of another datacenter: one that asks again and again leaves the share of
/// each other server of its datacenter untouched.
pub const REMOTE_ISSUERS_PER_SERVER_MAX: usize = REMOTE_ISSUERS_MAX / MEMBERS_MAX;

/// Another datacenter of the trust domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Datacenter {
    /// Its name, unique in the trust domain.
    pub name: Name,
    /// The id of its cluster: a datacenter that is created anew under an old name is another one.
    pub cluster: Uuid,
    /// The bundle of its server CA, by which its servers are known.
    pub server_roots: Vec<Der>,
    /// Where its servers are reached from other datacenters, as `host:port`.
    pub wan_addresses: Vec<String>,
    /// Whether the root of the trust domain lives there.
    pub is_primary: bool,
    /// When it joined, or was first heard of here.
    pub joined_at: Timestamp,
    /// The entry that recorded it.
    pub created: Revision,
    /// The entry that changed it last.
    pub modified: Revision,
}

/// A datacenter and which servers it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownDatacenter {
    /// The datacenter.
    pub datacenter: Datacenter,
    /// Its servers; `None`: it has not told.
    pub servers: Option<KnownServers>,
}

/// A one-time token with which one named datacenter may join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FederationToken {
    /// SHA-256 of a domain tag and the secret.
    pub secret: Digest,
    /// The name that the joining datacenter must have.
    pub datacenter: Name,
    /// Until when it may be used, and its answer be asked for again.
    pub expires_at: Timestamp,
    /// The cluster that used it.
    pub consumed: Option<Uuid>,
    /// The entry that made it.
    pub created: Revision,
}

/// A datacenter that asks to be admitted, as the receiving server verified it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmitDatacenter {
    /// SHA-256 of a domain tag and the token's secret.
    pub secret: Digest,
    /// What it is called and how its servers are known.
    pub facts: DatacenterFacts,
}

/// What a datacenter says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatacenterFacts {
    /// Its name.
    pub name: Name,
    /// The id of its cluster.
    pub cluster: Uuid,
    /// The bundle of its server CA.
    pub server_roots: Vec<Der>,
    /// Where its servers are reached from other datacenters.
    pub wan_addresses: Vec<String>,
}

/// An issuer that the primary signed for a server of another datacenter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteIssuer {
    /// Its subject key identifier.
    pub id: KeyId,
    /// The datacenter of its server.
    pub datacenter: Name,
    /// The server, within its datacenter.
    pub node: NodeId,
    /// The root that signed it.
    pub root: KeyId,
    /// The certificate.
    pub certificate: Der,
    /// Its first second.
    pub not_before: Timestamp,
    /// Its last second.
    pub not_after: Timestamp,
    /// The entry that recorded it.
    pub created: Revision,
}

/// What of the primary the other datacenters follow; each has a stream of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Table {
    /// Roots and CA configuration.
    Ca,
    /// The datacenters.
    Datacenters,
    /// All policies.
    Policies,
    /// The tokens that hold in every datacenter.
    Tokens,
    /// All intentions.
    Intentions,
    /// The revoked leaves.
    Revocations,
    /// The revoked issuers.
    RevokedIssuers,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 7] = [
        Self::Ca,
        Self::Datacenters,
        Self::Policies,
        Self::Tokens,
        Self::Intentions,
        Self::Revocations,
        Self::RevokedIssuers,
    ];

    /// Its name in status and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ca => "ca",
            Self::Datacenters => "datacenters",
            Self::Policies => "policies",
            Self::Tokens => "tokens",
            Self::Intentions => "intentions",
            Self::Revocations => "revocations",
            Self::RevokedIssuers => "revoked-issuers",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far a table has been followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The revision of the primary up to which every change is here; zero: nothing is.
    pub revision: Revision,
    /// While the whole table is read: the revision at which that began. It is the next `revision` when the reading ends.
    pub reading: Option<Revision>,
    /// While the whole table is read: the last key that is here. Otherwise: of the changes of `revision`, those up to this key are
    /// here; `None`: all.
    pub after: Option<Uuid>,
}

/// A part of a whole table, in the order of its keys: of the keys in it, exactly the records that come with it are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The key before its first; `None`: it begins with the first key of all.
    pub after: Option<Uuid>,
    /// Its last key; `None`: it ends with the last key of all.
    pub upto: Option<Uuid>,
}

impl Page {
    /// Whether the key lies in it.
    pub fn contains(&self, key: Uuid) -> bool {
        self.after.is_none_or(|after| key > after) && self.upto.is_none_or(|upto| key <= upto)
    }
}

/// Roots and CA configuration, as the primary has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaTable {
    /// The name space that the roots vouch for.
    pub trust_domain: TrustDomain,
    /// The configuration.
    pub config: CaConfig,
    /// Every root that is not pruned, without sealed keys.
    pub roots: Vec<Root>,
    /// The number of the last activation.
    pub activation: u64,
}

/// What the primary has switched for every datacenter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switches {
    /// Whether nothing is recorded anywhere.
    pub is_halted: bool,
    /// The retired roots that are marked as not to be relied on.
    pub tainted: Vec<TaintedRoot>,
}

/// What changed in a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Nothing; the primary was heard.
    Nothing,
    /// All of it, without the switches: logs hold it from before they were told.
    Ca(Box<CaTable>),
    /// All of them, without their servers: logs hold it from before servers were told.
    Datacenters(Vec<Datacenter>),
    /// Some policies.
    Policies {
        /// The part of the whole that this is; `None`: single changes.
        page: Option<Page>,
        /// Made or changed.
        put: Vec<Policy>,
        /// Deleted.
        deleted: Vec<PolicyId>,
    },
    /// Some tokens.
    Tokens {
        /// The part of the whole that this is; `None`: single changes.
        page: Option<Page>,
        /// Made or changed.
        put: Vec<Token>,
        /// Deleted.
        deleted: Vec<AccessorId>,
    },
    /// All of them, each with its servers: there are few datacenters.
    DatacentersAndServers(Vec<KnownDatacenter>),
    /// Some intentions.
    Intentions {
        /// The part of the whole that this is; `None`: single changes.
        page: Option<Page>,
        /// Made or changed.
        put: Vec<Intention>,
        /// Deleted.
        deleted: Vec<IntentionKey>,
    },
    /// Some revoked leaves. None is ever taken back; they end by themselves.
    Revocations {
        /// The part of the whole that this is; `None`: single changes.
        page: Option<Page>,
        /// Revoked, or changed.
        put: Vec<Revocation>,
    },
    /// All revoked issuers: there are few. None is ever taken back; they end by themselves.
    RevokedIssuers(Vec<RevokedIssuer>),
    /// All of it: there are few roots.
    CaAndSwitches(Box<CaTable>, Switches),
}

/// What the leader of a secondary heard of the primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// The cluster that it was heard from.
    pub primary: Uuid,
    /// The table.
    pub table: Table,
    /// How far the table was followed before: another leader's progress since bounces the command.
    pub from: Cursor,
    /// How far it is followed then.
    pub to: Cursor,
    /// What changed.
    pub change: Change,
    /// Whether that was all that the primary had then.
    pub is_all: bool,
}

/// How far a table is followed, and when nothing of it was missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How far.
    pub cursor: Cursor,
    /// The log's time at which it was committed last that all of the table is here.
    pub heard_at: Timestamp,
}
