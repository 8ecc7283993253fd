//! Roots and their life: prepared, active, retired, pruned. The mesh CA and the server CA are two sets of the same shape.

use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::{
    id::{KeyId, NodeId, Revision},
    key::{Der, KeyKind},
    time::Timestamp,
};

/// The most roots of a set that are not pruned: one active, one prepared, and the retired ones that still drain.
pub const ROOTS_MAX: usize = 10;

/// The longest name of a CA provider.
pub const PROVIDER_BYTES_MAX: usize = 64;
/// The most certificates above a root that are served with it.
pub const ROOT_CHAIN_MAX: usize = 4;
/// The largest sealed key: an RSA 4096 key has less than 3 KiB, and each of the few slots some hundred bytes.
pub const SEALED_KEY_BYTES_MAX: usize = 64 * 1024;

/// Which of the two CAs a root belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Ca {
    /// The mesh CA: issuers and leaves.
    Mesh,
    /// The server CA of this datacenter: transport between its servers.
    Server,
}

/// The life of a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RootPhase {
    /// In the bundle; signs issuers, but no leaf is issued under it.
    Prepared,
    /// In the bundle; leaves are issued under it. At most one of a set.
    Active,
    /// In the bundle; signs nothing more.
    Retired,
}

impl RootPhase {
    /// The phase in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Retired => "retired",
        }
    }
}

/// A private key sealed to servers and to the operator's recovery recipient (age format).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedKey {
    /// The age file.
    pub ciphertext: Der,
    /// Each server that can open it, with the recipient it was sealed to, in ascending order of the ids.
    pub slots: Vec<(NodeId, String)>,
    /// The operator's recovery recipient, if there is one.
    pub recovery: Option<String>,
}

impl SealedKey {
    /// Whether the server has a slot.
    pub fn has_slot(&self, node: NodeId) -> bool {
        self.slots.iter().any(|(slot, _)| *slot == node)
    }
}

/// A root's cross-signed certificate by the root before it: it leads verifiers that know only that one to this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// The certificate.
    pub certificate: Der,
    /// The root that signed it.
    pub signed_by: KeyId,
    /// Its first second.
    pub not_before: Timestamp,
    /// Its last second.
    pub not_after: Timestamp,
}

/// A root as its provider made it, before it is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRoot {
    /// Its subject key identifier.
    pub id: KeyId,
    /// The CA provider that holds its key.
    pub provider: String,
    /// The certificate: self-signed, or an intermediate of the operator's own root.
    pub certificate: Der,
    /// The certificates above it that are served with it, the nearest first; empty when it is self-signed.
    pub chain: Vec<Der>,
    /// The kind of its key.
    pub key_kind: KeyKind,
    /// Its first second.
    pub not_before: Timestamp,
    /// Its last second.
    pub not_after: Timestamp,
    /// Its key, where the provider keeps it in the state.
    pub sealed_key: Option<SealedKey>,
}

/// A trust anchor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// What its provider made.
    pub made: NewRoot,
    /// Where it is in its life.
    pub phase: RootPhase,
    /// The number of its last activation; zero before the first.
    pub activation: u64,
    /// The cross-signed certificate by the root before it.
    pub bridge: Option<Bridge>,
    /// When it entered its phase.
    pub phase_since: Timestamp,
    /// The entry that published it.
    pub created: Revision,
    /// The entry that changed it last.
    pub modified: Revision,
}

/// The roots of one CA.
#[derive(Clone, Debug, Default)]
pub struct RootSet {
    pub(crate) roots: OrdMap<KeyId, Arc<Root>>,
    /// The number of the last activation; it only grows.
    pub(crate) activation: u64,
}

impl RootSet {
    /// The root under which leaves are issued.
    pub fn active(&self) -> Option<&Arc<Root>> {
        self.roots.values().find(|root| root.phase == RootPhase::Active)
    }

    /// One root.
    pub fn find(&self, id: &KeyId) -> Option<&Arc<Root>> {
        self.roots.get(id)
    }

    /// The bundle: every root that is not pruned, the active one first, then by the entry that published them.
    pub fn bundle(&self) -> Vec<Arc<Root>> {
        let mut roots: Vec<_> = self.roots.values().cloned().collect();
        roots.sort_by_key(|root| (root.phase != RootPhase::Active, root.created, root.made.id));
        roots
    }

    /// The number of the last activation.
    pub const fn activation(&self) -> u64 {
        self.activation
    }
}
