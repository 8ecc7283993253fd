//! Bugs on purpose, one at a time: the simulator arms each and must find it. Bounds, too, which it makes so small that its short
//! worlds reach them. Without the feature `planted` nothing of either is compiled, and with it nothing but the simulator's own command
//! can arm one.

macro_rules! bugs {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A bug on purpose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Bug {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Bug {
            /// Every bug.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name on the simulator's command line and in its table.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

bugs! {
    /// Serials are the time.
    PredictableSerials = "predictable-serials",
    /// A leaf may outlive its issuer.
    LeafOutlivesIssuer = "leaf-outlives-issuer",
    /// A server never asks for a new issuer while it has one.
    IssuerNeverRenewed = "issuer-never-renewed",
    /// PEM blocks end without a newline.
    PemWithoutNewline = "pem-without-newline",
    /// Of two URIs in a request the first one counts.
    SecondUriIgnored = "second-uri-ignored",
    /// The signature of a request is not looked at.
    RequestSignatureIgnored = "request-signature-ignored",
    /// A sync that fails is taken for one that succeeded.
    FailedFlushIgnored = "failed-flush-ignored",
    /// Entries are acknowledged before they are durable.
    AcknowledgedBeforeSync = "acknowledged-before-sync",
    /// A vote is not written down.
    VoteNotWritten = "vote-not-written",
    /// A linearizable read answers what this server has applied.
    ReadWithoutLeader = "read-without-leader",
    /// A store that has forgotten something starts under its old id.
    LostStoreAccepted = "lost-store-accepted",
    /// Apply walks through a hash map.
    HashOrderInApply = "hash-order-in-apply",
    /// A proposal that is tried again makes a second record.
    RetryRecordsTwice = "retry-records-twice",
    /// Issuing goes on after `halt`.
    HaltIgnored = "halt-ignored",
    /// A refused command has changed the state before it was refused.
    RejectedCommandWrites = "rejected-command-writes",
    /// A root allows one CA below it: a bridge above an issuer would not fit.
    RootPathLength = "root-path-length",
    /// A snapshot leaves out the revision of the CA configuration.
    SnapshotWithoutRevision = "snapshot-without-revision",
    /// The right to a leaf is not looked at again when it is recorded.
    GrantNotCheckedAtCommit = "grant-not-checked-at-commit",
    /// A follower's answers carry an older index.
    IndexGoesBackwards = "index-goes-backwards",
    /// The latest of all clocks counts, not the median.
    LatestClockCounts = "latest-clock-counts",
    /// A new leader's clock begins behind the end of its log.
    ClockBehindLog = "clock-behind-log",
    /// A new server gets no slot of the sealed keys, and is promoted.
    SlotForgotten = "slot-forgotten",
    /// A join token is not used up.
    JoinTokenReusable = "join-token-reusable",
    /// A deleted token is not forgotten.
    DeletedTokenLives = "deleted-token-lives",
    /// A secondary has a trust domain of its own, and takes over the primary's roots all the same.
    OwnTrustDomain = "own-trust-domain",
    /// What the primary did not sign is not asked for again.
    RefusalTakenForSuccess = "refusal-taken-for-success",
    /// A new issuer key takes the place of the one that signs, before it has a certificate.
    OldKeyOverwritten = "old-key-overwritten",
    /// A root's id is compared with an issuer's.
    RootComparedWithIssuer = "root-compared-with-issuer",
    /// An issuer of another datacenter is released before it is recorded.
    IssuerBeforeRecord = "issuer-before-record",
    /// A secondary takes over what is new, and not what is deleted.
    DeletionNotFollowed = "deletion-not-followed",
    /// A secondary honours the primary's tokens whatever time it has not heard of them.
    StaleTokenHonoured = "stale-token-honoured",
    /// A secondary goes on issuing whatever time it has not heard whether the primary has halted it.
    HaltStalenessIgnored = "halt-staleness-ignored",
    /// Of what is not remembered any more it is said that nothing has changed.
    GapNotRead = "gap-not-read",
    /// A secondary gives its issuer up when the primary cannot be reached.
    IssuerNeedsPrimary = "issuer-needs-primary",
    /// A secondary does not hear which servers the others have.
    ServersNotFollowed = "servers-not-followed",
    /// A primary's token is honoured although a local one has its id or its secret.
    HiddenTokenHonoured = "hidden-token-honoured",
    /// The CA configuration is replaced whichever one its writer has read.
    ConfigurationNotCompared = "configuration-not-compared",
    /// A local token is told to the other datacenters.
    LocalTokenTold = "local-token-told",
    /// A root's key stands in clear beside its certificate.
    KeyBesideRoot = "key-beside-root",
    /// An agent serves a leaf from its memory also when it has ended.
    EndedLeafServed = "ended-leaf-served",
    /// An agent goes by what a token could do after it was deleted.
    VerdictOutlivesToken = "verdict-outlives-token",
    /// An agent's answers carry an older index while it follows no server.
    AgentIndexGoesBackwards = "agent-index-goes-backwards",
    /// A write of an intention wakes the watchers of every destination.
    OneWakeUpForAll = "one-wake-up-for-all",
    /// Leaves are renewed at half of their lives to the second.
    RenewalsInLockstep = "renewals-in-lockstep",
    /// A root is activated before every agent has it in its bundle.
    ActivatedUnacknowledged = "activated-unacknowledged",
    /// A retired root leaves the bundle an hour later, whatever depends on it.
    PrunedByTimer = "pruned-by-timer",
    /// A retired root leaves the bundle although a datacenter has not said that it issues nothing more under it.
    PrunedWithoutFence = "pruned-without-fence",
    /// A root counts as one that nothing depends on when no leaf under it is current.
    DrainTakenForEnd = "drain-taken-for-end",
    /// A bridge ends before the leaves that it is for.
    BridgeTooShort = "bridge-too-short",
    /// A bridge names the algorithm of the key that it certifies, not of the one that signs it.
    BridgeByWrongAlgorithm = "bridge-by-wrong-algorithm",
    /// A rotation begins while another one is under way.
    SecondRotationAccepted = "second-rotation-accepted",
}

/// A bound that the simulator may lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bound {
    /// The records of one change of a followed table.
    FollowedRecords,
    /// The changes of a followed table that are remembered.
    RememberedChanges,
}

/// The bound as it is now. `usual`: what it is outside of the simulator.
#[cfg(not(feature = "planted"))]
pub const fn bound(_bound: Bound, usual: usize) -> usize {
    usual
}

/// Whether this bug is there.
#[cfg(not(feature = "planted"))]
pub const fn is(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use armed::{arm, bound, is, lower};

#[cfg(feature = "planted")]
mod armed {
    use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

    use super::{Bound, Bug};

    const NONE: u8 = u8::MAX;
    static ARMED: AtomicU8 = AtomicU8::new(NONE);
    /// By bound; zero: the usual.
    static LOWERED: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

    /// Whether this bug is there.
    pub fn is(bug: Bug) -> bool {
        ARMED.load(Ordering::Relaxed) == bug as u8
    }

    /// The bound as it is now.
    pub fn bound(bound: Bound, usual: usize) -> usize {
        match LOWERED[bound as usize].load(Ordering::Relaxed) {
            0 => usual,
            lowered => lowered.min(usual),
        }
    }

    /// Lowers a bound in every part of this process.
    pub fn lower(bound: Bound, to: usize) {
        LOWERED[bound as usize].store(to, Ordering::Relaxed);
    }

    /// Puts this bug into every part of this process.
    pub fn arm(bug: Bug) {
        ARMED.store(bug as u8, Ordering::Relaxed);
    }
}
