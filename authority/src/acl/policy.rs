//! Policies: named sets of rules. The HCL text is opaque here; its rules are facts that the proposer extracted.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{acl::rules::Rule, id::Revision, spiffe::Name};

/// The most policies of a datacenter.
pub const POLICIES_MAX: usize = 10_000;
/// The longest HCL text.
pub const RULES_BYTES_MAX: usize = 64 * 1024;
/// The longest name.
pub const POLICY_NAME_BYTES_MAX: usize = 128;
/// The longest description.
pub const DESCRIPTION_BYTES_MAX: usize = 512;

/// The id of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PolicyId(pub Uuid);

impl PolicyId {
    /// `global-management`, which allows everything and exists from the start (Consul's id).
    pub const GLOBAL_MANAGEMENT: Self = Self(Uuid::from_u128(1));

    /// Whether the id is in the range that Consul reserves.
    pub const fn is_reserved(self) -> bool {
        self.0.as_u128() < 256
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A named set of rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Its id.
    pub id: PolicyId,
    /// Its name, unique.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The HCL text, as it was written.
    pub source: String,
    /// What the text says.
    pub rules: Arc<[Rule]>,
    /// The datacenters where it holds; empty: all.
    pub datacenters: Vec<Name>,
    /// The entry that made it.
    pub created: Revision,
    /// The entry that changed it last.
    pub modified: Revision,
}
