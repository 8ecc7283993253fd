//! Bugs on purpose, one at a time: the simulator arms each and must find it. Without the feature `planted` nothing of them is
//! compiled, and with it nothing but the simulator's own command can arm one.

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
}

/// Whether this bug is there.
#[cfg(not(feature = "planted"))]
pub const fn is(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use armed::{arm, is};

#[cfg(feature = "planted")]
mod armed {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Bug;

    const NONE: u8 = u8::MAX;
    static ARMED: AtomicU8 = AtomicU8::new(NONE);

    /// Whether this bug is there.
    pub fn is(bug: Bug) -> bool {
        ARMED.load(Ordering::Relaxed) == bug as u8
    }

    /// Puts this bug into every part of this process.
    pub fn arm(bug: Bug) {
        ARMED.store(bug as u8, Ordering::Relaxed);
    }
}
