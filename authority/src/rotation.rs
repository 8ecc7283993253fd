//! The rotation of the mesh CA's root: what is wanted, how far it is, and what each datacenter has said of itself. One at a time, from the
//! moment it begins until every datacenter that can be reached issues under the new root; what is left of the former one drains behind it.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::{KeyId, Revision},
    key::KeyKind,
    root::{NewRoot, ROOTS_MAX},
    time::Timestamp,
};

/// The most retired roots: with the active one and a prepared one they are all that a bundle may have.
pub const RETIRED_MAX: usize = ROOTS_MAX - 2;
/// How long a rotation waits for those that do not answer before it says that an operator has to decide.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// The longest such wait: after it most issuers of a datacenter that is cut off have ended anyway.
pub const ACK_TIMEOUT_MAX: Duration = Duration::from_secs(365 * 86_400);
/// A datacenter that has not been heard for so long is not waited for with what only the reachable ones must do: it tells something every
/// [`STANDING_TOLD_EVERY`].
pub const UNHEARD_AFTER: Duration = Duration::from_secs(60);
/// How often a datacenter tells how far it is although nothing has changed: it is how the primary knows that it can be reached.
pub const STANDING_TOLD_EVERY: Duration = Duration::from_secs(20);
/// How far the clocks of datacenters and verifiers may be apart: a root stays in the bundle for so long after the last leaf under it.
pub const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// A schedule leaves each rotation the time to drain before the next one: this many lives of a leaf.
pub const ROTATION_PERIOD_LEAVES_MIN: u32 = 3;
/// The longest schedule: longer than any root lives it would never be.
pub const ROTATION_PERIOD_MAX: Duration = crate::ca_config::ROOT_TTL_MAX;
/// A root that has lived through so many percent of its life is rotated away from, where rotations are scheduled.
pub const EXPIRY_PERCENT: u32 = 80;

/// Why a rotation began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RotationCause {
    /// An operator asked for it.
    Operator,
    /// The CA configuration was changed in a way that needs another root.
    Configuration,
    /// `RotationPeriod` has passed.
    Schedule,
    /// The active root is near its end.
    Expiry,
    /// The latest activation is taken back.
    RollBack,
    /// A server is in other hands: the former root leaves the bundle as soon as no leaf in use is under it.
    Compromise,
}

impl RotationCause {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "an operator asked for it",
            Self::Configuration => "the CA configuration changed",
            Self::Schedule => "RotationPeriod has passed",
            Self::Expiry => "the active root nears its end",
            Self::RollBack => "the latest activation is rolled back",
            Self::Compromise => "a server is compromised",
        }
    }
}

/// The root that a rotation leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WantedRoot {
    /// The CA provider makes one.
    Made {
        /// The provider.
        provider: String,
        /// The kind of its key.
        key_kind: KeyKind,
    },
    /// The operator's own: its key is sealed.
    Supplied(Box<NewRoot>),
}

impl WantedRoot {
    /// The kind of its key.
    pub fn key_kind(&self) -> KeyKind {
        match self {
            Self::Made { key_kind, .. } => *key_kind,
            Self::Supplied(made) => made.key_kind,
        }
    }
}

/// What is asked for when a rotation begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationRequest {
    /// Why.
    pub cause: RotationCause,
    /// The root that is active, as it was seen: another one since is another decision.
    pub expected_active: KeyId,
    /// The new one.
    pub wanted: WantedRoot,
    /// Whether the former root signs a bridge to the new one.
    pub is_bridged: bool,
    /// Whether it stops before it activates, until it is resumed.
    pub pauses_before_activation: bool,
    /// How long it waits for those that do not answer before it says that an operator has to decide.
    pub ack_timeout: Duration,
}

/// A rotation under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// The entry that began it: its number for operators.
    pub id: Revision,
    /// Why it began.
    pub cause: RotationCause,
    /// The root that was active then.
    pub former: KeyId,
    /// The root to make; `None`: it is there.
    pub to_make: Option<(String, KeyKind)>,
    /// The root that becomes active, once it is in the bundle.
    pub root: Option<KeyId>,
    /// Whether the new root must have a bridge.
    pub is_bridged: bool,
    /// Whether it stands still before it activates.
    pub is_paused: bool,
    /// Whether an operator has said not to wait for those that do not answer.
    pub is_forced: bool,
    /// How long it waits for those before it says that an operator has to decide.
    pub ack_timeout: Duration,
    /// When it began.
    pub began_at: Timestamp,
    /// When the new root became active in the primary.
    pub activated_at: Option<Timestamp>,
    /// The entry that changed it last.
    pub modified: Revision,
}

/// How a rotation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RotationEnd {
    /// Every datacenter that could be reached issues under the new root.
    Finished,
    /// It was rolled back before it had activated anything.
    Abandoned,
    /// It was rolled back after it had.
    RolledBack,
}

impl fmt::Display for RotationEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Finished => "finished",
            Self::Abandoned => "abandoned",
            Self::RolledBack => "rolled back",
        })
    }
}

/// The rotation before: what can be rolled back, and what `ca status` shows of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRotation {
    /// As it was when it ended.
    pub rotation: Rotation,
    /// How it ended.
    pub end: RotationEnd,
    /// When.
    pub ended_at: Timestamp,
}

/// What an operator does to a rotation under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RotationControl {
    /// It stands still before it activates.
    Pause,
    /// It goes on.
    Resume,
    /// It goes on without those that do not answer.
    Force,
}

/// What a retired root leaves in a datacenter: set when issuing flips away from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The root.
    pub root: KeyId,
    /// The activation after which nothing is issued under it.
    pub activation: u64,
    /// The end of the last leaf under it; zero: there was none.
    pub last_not_after: Timestamp,
}

/// A mark on a retired root: it is not to be relied on. Agents leave a retired root in any case, and a tainted one at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaintedRoot {
    /// The root.
    pub root: KeyId,
    /// Why, for people.
    pub reason: String,
    /// When it was tainted: set by apply.
    pub tainted_at: Timestamp,
    /// Whether its key is in other hands: it leaves the bundle as soon as no leaf in use is under it, although leaves that were left have
    /// not ended.
    pub is_compromised: bool,
}

/// Where a datacenter is with one root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootStanding {
    /// The root.
    pub root: KeyId,
    /// Whether it is in the bundle of every agent there that answers.
    pub is_acknowledged: bool,
    /// Whether every server there that answers has an issuer under it.
    pub has_issuers: bool,
    /// How many leaves under it have no newer one.
    pub current: u64,
    /// How many leaves under it have not ended.
    pub unexpired: u64,
    /// The end of the last leaf under it; zero: there is none.
    pub last_not_after: Timestamp,
}

/// Where a datacenter is: its own word, from its committed state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The last activation that it has followed: it issues under the root of that one.
    pub activation: u64,
    /// Whether it records nothing.
    pub is_halted: bool,
    /// Its roots.
    pub roots: Vec<RootStanding>,
    /// Its servers that have not answered their leader for a while, and are not waited for.
    pub absent: u64,
    /// The agents there that lag, by their servers' words.
    pub lagging: u64,
}

impl Standing {
    /// Where it is with a root; `None`: it does not have it.
    pub fn of_root(&self, root: &KeyId) -> Option<&RootStanding> {
        self.roots.iter().find(|standing| standing.root == *root)
    }

    /// Whether it differs in what others wait for, and not only in how many leaves are left.
    pub fn differs_in_kind(&self, other: &Self) -> bool {
        let kind = |standing: &Self| {
            let roots = standing.roots.iter();
            let roots =
                roots.map(|it| (it.root, it.is_acknowledged, it.has_issuers, it.current == 0, it.unexpired == 0));
            (standing.activation, standing.is_halted, standing.absent, roots.collect::<Vec<_>>())
        };
        kind(self) != kind(other)
    }
}

/// What another datacenter has said last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeardStanding {
    /// Its word.
    pub standing: Standing,
    /// When it came.
    pub heard_at: Timestamp,
}

/// In a secondary: what the primary has activated, and this datacenter does not issue under yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeardActivation {
    /// Its number.
    pub activation: u64,
    /// The root.
    pub root: KeyId,
}
