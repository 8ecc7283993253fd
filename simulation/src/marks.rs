//! Situations that a batch of seeds must hit: a simulator that never gets there proves nothing about them.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

macro_rules! marks {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A situation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Mark {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Mark {
            /// Every situation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// What it is called in a report.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

marks! {
    /// The datacenter has formed.
    Formed = "a datacenter has formed",
    /// Another server leads than at the beginning.
    LeaderChanged = "leadership has changed",
    /// Two servers believe to lead, of different terms.
    TwoLeaders = "two servers believe that they lead",
    /// A follower got a snapshot from the leader.
    SnapshotInstalled = "a snapshot was installed",
    /// The log was purged.
    Purged = "the log was purged",
    /// A server ended because a write of its log failed.
    FlushErrorEnds = "a failed flush ended a server",
    /// A server found that its log's end is gone, or that a value is damaged, and refused to start.
    DamageDetected = "damage was detected at start",
    /// A token was deleted between the authorisation and the commit of a leaf.
    TokenDeletedInFlight = "a token was deleted between authorisation and commit",
    /// A membership was changed while exactly a majority was running.
    MembershipAtTheEdge = "a membership changed at the edge of quorum",
    /// A request met the rate limit.
    RateLimited = "the rate limit was hit",
    /// Issuing was halted.
    Halted = "halt was used",
    /// A secondary heard of the primary's halt, or of its end, when it had been cut off.
    HaltHeardLate = "a secondary heard late of a halt",
    /// A secondary that had not heard the primary for longer than it may issue nothing said so.
    HaltUnknown = "a secondary that might be halted refused, and said why",
    /// A clock jump took the datacenter past the end of its server certificates, and it came back.
    SleptPastCertificates = "a sleep past the server certificates was recovered from",
    /// A linearizable read was refused, because leadership could not be confirmed.
    ReadRefused = "a read was refused for want of a confirmed leader",
    /// A server was added or removed under faults.
    MembersChanged = "the members changed",
    /// A server lost its disk and joined again under a new id.
    RejoinedUnderNewId = "a lost disk rejoined under a new id",
    /// A server with an old or empty disk was refused under its old id.
    OldIdRefused = "a lost disk was refused under its old id",
    /// Leadership was handed over on request.
    LeadershipTransferred = "leadership was transferred",
    /// The outcome of an operation is unknown to its client.
    OutcomeUnknown = "an outcome was unknown",
    /// A compare-and-set lost against another.
    CasLost = "a compare-and-set lost",
    /// A write of the CA configuration was compared with one that somebody else had replaced meanwhile.
    ConfigurationContended = "a write of the CA configuration came too late",
    /// A token of the primary came behind a local one of a secondary.
    TokenHidden = "a token of the primary waits behind a local one",
    /// A local token was shown in another datacenter, and refused.
    LocalTokenElsewhere = "a local token was refused elsewhere",
    /// A root was rotated.
    RootRotated = "a root was rotated",
    /// A root was activated that the former one had not signed a bridge to.
    RotatedWithoutBridge = "a root was rotated without a bridge",
    /// A root of another CA provider than the former one's was activated.
    ProviderChanged = "the CA provider was changed",
    /// A secondary followed an activation.
    ActivationFollowed = "a secondary followed an activation",
    /// The leader changed while a rotation was under way.
    LeaderChangedInRotation = "leadership changed in a rotation",
    /// A rotation was taken back before it had activated its root.
    RotationAbandoned = "a rotation was abandoned",
    /// A rotation was taken back after that.
    RotationRolledBack = "an activation was rolled back",
    /// A retired root left the bundle.
    RootPruned = "a root was pruned",
    /// A second rotation was refused.
    SecondRotationRefused = "a second rotation was refused",
    /// An issuer was renewed.
    IssuerRenewed = "an issuer was renewed",
    /// A server certificate was renewed.
    ServerCertificateRenewed = "a server certificate was renewed",
    /// A certificate request that must not be signed was refused.
    BadCsrRefused = "a bad CSR was refused",
    /// Who is no server was refused on the Raft port, in the handshake.
    RaftPortRefused = "an attacker was refused on the Raft port",
    /// Who is no server of another datacenter was refused on the WAN port, in the handshake.
    WanPortRefused = "an attacker was refused on the WAN port",
    /// A join with a token that does not entitle to it was refused.
    JoinRefused = "a wrong join was refused",
    /// A secondary issued while every server of the primary was gone.
    IssuedWithoutPrimary = "a secondary issued without the primary",
    /// A secondary whose issuers had ended while the primary was gone said so.
    RefusedWithoutPrimary = "a secondary without live issuers refused, and said why",
    /// A server of a secondary whose issuer had ended got another one.
    IssuerAfterOutage = "an ended issuer of a secondary was replaced",
    /// The primary's leader fell as soon as an issuer of another datacenter was recorded.
    FellWhileSigning = "the primary's leader fell between an issuer's record and its answer",
    /// A token was deleted in the primary while a secondary was cut off, and the secondary heard of it later.
    DeletionHeardLate = "a secondary heard late of a token's deletion",
    /// A secondary read a table of the primary as a whole after the first time.
    ReadAnew = "a secondary read a table as a whole again",
    /// An agent went to another server.
    AgentChangedServer = "an agent changed its server",
    /// An agent answered from memory while it followed no server.
    AgentServedAlone = "an agent answered while no server was there",
    /// An agent got a new leaf after the one before had ended.
    AgentOutlivedLeaf = "an agent came back after its leaf had ended",
    /// An agent denied what it had allowed.
    DenyReachedAgent = "a deny reached an agent",
    /// An agent denied a revoked leaf.
    RevokedAtAgent = "a revoked leaf was refused by an agent",
    /// A blocking query at an agent ended because its token was deleted.
    DeletedTokenAtAgent = "a deleted token ended a blocking query at an agent",
    /// Everybody on an agent's host asked at once, and most got their leaves.
    HerdAtAgent = "a herd asked an agent that had come back",
}

/// Which situations a run has hit.
#[derive(Debug, Default)]
pub struct Marks(Mutex<BTreeSet<Mark>>);

impl Marks {
    /// Notes a situation; whether it is the first time.
    pub fn hit(&self, mark: Mark) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(mark)
    }

    /// Every situation that was hit.
    pub fn all(&self) -> BTreeSet<Mark> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
