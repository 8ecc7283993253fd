//! What apply answers: the same on every replica. A refusal is an answer, never an error.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    acl::AccessorId,
    ca_config::BadCaConfig,
    id::{Digest, FeatureLevel, KeyId, NodeId, Revision, Serial},
    intention::{DestinationKey, Party},
    root::Ca,
    spiffe::Name,
    time::Timestamp,
};

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It holds now; a duplicate of what already held is the same.
    Done,
    /// The leaf is recorded at this place of the issuance log, and may be released.
    Recorded {
        /// Its sequence.
        sequence: u64,
    },
    /// The server is admitted.
    Admitted {
        /// Its id.
        node: NodeId,
    },
    /// Nothing was changed.
    Rejected(Rejection),
}

impl Outcome {
    /// The outcome as a result.
    pub fn accepted(self) -> Result<Self, Rejection> {
        match self {
            Self::Rejected(rejection) => Err(rejection),
            accepted => Ok(accepted),
        }
    }
}

/// A table or record whose readers wait for its next change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WatchKey {
    /// The cluster itself: feature level, halt; and time, when it moves on by more than a minute at once.
    Cluster,
    /// The servers, their requests and certificates.
    Members,
    /// The join tokens.
    JoinTokens,
    /// The roots of a CA.
    Roots(Ca),
    /// The issuers and the requests for them.
    Issuers,
    /// The CA configuration.
    CaConfig,
    /// The issuance log.
    Issuances,
    /// All tokens.
    Tokens,
    /// One token: woken, but its revision is the token's own.
    Token(AccessorId),
    /// All policies.
    Policies,
    /// The other datacenters.
    Datacenters,
    /// The federation tokens.
    FederationTokens,
    /// The issuers that were signed for other datacenters.
    RemoteIssuers,
    /// How far the primary's tables are followed.
    Followed,
    /// The agents.
    Agents,
    /// One agent, by its key: woken when the key is no agent's any more, which is its last change.
    Agent(Digest),
    /// The agent tokens.
    AgentTokens,
    /// All intentions.
    Intentions,
    /// The intentions of one service as destination. It has a revision of its own while it has intentions, else that of
    /// [`WatchKey::IntentionsGone`].
    IntentionsOf(DestinationKey),
    /// The intentions of the destination `*`, which every destination may meet.
    IntentionsOfAny,
    /// Some destination lost its last intention. Nobody waits for it.
    IntentionsGone,
    /// The revoked leaves.
    Revocations,
    /// What servers said of the bundles that their agents have.
    Acknowledgements,
    /// The revoked issuers.
    RevokedIssuers,
    /// The rotation, and where the other datacenters are with it.
    Rotation,
}

impl WatchKey {
    /// The intentions of exactly this destination.
    pub fn intentions_of(destination: &Party) -> Self {
        match destination {
            Party::Service(name) => Self::IntentionsOf(DestinationKey::of(name)),
            Party::Any => Self::IntentionsOfAny,
        }
    }

    /// Those that a connection to this service may meet: whoever decides about it waits for both.
    pub fn intentions_matching(destination: &Name) -> [Self; 2] {
        [Self::IntentionsOf(DestinationKey::of(destination)), Self::IntentionsOfAny]
    }
}

/// What an entry did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// One outcome for each proposal, in their order.
    pub outcomes: Vec<Outcome>,
    /// What changed.
    pub touched: BTreeSet<WatchKey>,
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Rejection {
    /// The datacenter has not begun.
    #[error("this datacenter is not bootstrapped")]
    NotBootstrapped,
    /// The datacenter has begun already.
    #[error("this datacenter is bootstrapped already")]
    AlreadyBootstrapped,
    /// Somebody was faster.
    #[error("{what} has changed: revision {expected} was expected, it has {found}")]
    Conflict {
        /// The record or table.
        what: String,
        /// What the proposer had seen.
        expected: Revision,
        /// What is there.
        found: Revision,
    },
    /// The record is not there.
    #[error("{what} not found")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// The name or id is taken.
    #[error("{what} exists already")]
    AlreadyExists {
        /// What is there.
        what: String,
    },
    /// A bound would be exceeded.
    #[error("{what} would be more than {limit}")]
    LimitReached {
        /// What is bounded.
        what: String,
        /// The bound.
        limit: u64,
    },
    /// A value is out of its bounds.
    #[error("{what} is not acceptable: {reason}")]
    Invalid {
        /// The value.
        what: String,
        /// Why.
        reason: String,
    },
    /// The command is about one server and came from another.
    #[error("only server {node} may say this, it came from server {proposer}")]
    WrongProposer {
        /// The server that it is about.
        node: NodeId,
        /// The server that proposed it.
        proposer: NodeId,
    },
    /// The id or store was removed and never comes back.
    #[error(
        "server {node} was removed at {removed_at}: its id is never used again; join it anew with a fresh token and an empty data directory"
    )]
    Removed {
        /// The server.
        node: NodeId,
        /// When it was removed.
        removed_at: Timestamp,
    },
    /// A server understands less than the cluster uses.
    #[error(
        "{who} understands feature level {supports}, the cluster uses {level}: install a newer carrack there first"
    )]
    TooOld {
        /// The server.
        who: String,
        /// What it understands.
        supports: FeatureLevel,
        /// What is in use.
        level: FeatureLevel,
    },
    /// The join token is unknown, used by another server, for another name, or ended.
    #[error("the join token is refused: {reason}; make a new one with `carrack token join --node <name>`")]
    JoinTokenRefused {
        /// Why.
        reason: String,
    },
    /// A key is not sealed to exactly the recorded servers.
    #[error("the sealed key names other recipients than the recorded servers and the recovery recipient")]
    WrongRecipients,
    /// A root is in a phase in which that cannot happen.
    #[error("root {root} is {phase}: {reason}")]
    WrongPhase {
        /// The root.
        root: KeyId,
        /// Its phase.
        phase: String,
        /// What cannot happen.
        reason: String,
    },
    /// The CA configuration is out of its bounds.
    #[error(transparent)]
    BadCaConfig(BadCaConfig),
    /// The serial was recorded for another certificate.
    #[error("serial {serial} is recorded for another certificate")]
    SerialTaken {
        /// The serial.
        serial: Serial,
    },
    /// The forwarder has given up.
    #[error("the deadline {deadline} has passed, it is {now}")]
    DeadlinePassed {
        /// The deadline.
        deadline: Timestamp,
        /// The log's time.
        now: Timestamp,
    },
    /// Nothing is recorded.
    #[error("issuing is halted; an operator resumes it with `carrack ca unhalt`")]
    Halted,
    /// The issuer may not sign.
    #[error("issuer {issuer} may not sign: {reason}")]
    IssuerRefused {
        /// The issuer.
        issuer: KeyId,
        /// Why.
        reason: String,
    },
    /// The dates are outside of what the stamp, the TTL and the issuer allow.
    #[error("the certificate's dates {not_before} to {not_after} are refused: {reason}")]
    DatesRefused {
        /// The first second.
        not_before: Timestamp,
        /// The last second.
        not_after: Timestamp,
        /// Why.
        reason: String,
    },
    /// The grant does not hold for the identity.
    #[error("Permission denied: {reason}")]
    GrantRefused {
        /// Why.
        reason: String,
    },
    /// ACLs were bootstrapped before.
    #[error("Permission denied: ACL bootstrap no longer allowed (reset index: {reset_index})")]
    AclBootstrapped {
        /// The index to name in a reset.
        reset_index: u64,
    },
    /// A record that carrack itself keeps.
    #[error("{what} is built in and cannot be changed or deleted")]
    BuiltIn {
        /// The record.
        what: String,
    },
    /// What holds in every datacenter is written in the primary.
    #[error("{what} can be changed in the primary datacenter `{primary}` alone; this one is a secondary")]
    InSecondary {
        /// What was to be written.
        what: String,
        /// The primary.
        primary: Name,
    },
    /// The federation token is unknown, used by another datacenter, for another name, or ended.
    #[error(
        "the federation token is refused: {reason}; make a new one in the primary with `carrack federation token --datacenter <name>`"
    )]
    FederationTokenRefused {
        /// Why.
        reason: String,
    },
    /// An agent token does not let in.
    #[error("the agent token is refused: {reason}; make another one with `carrack token agent`")]
    AgentTokenRefused {
        /// Why.
        reason: String,
    },
}

impl Rejection {
    /// A stable name for metrics and machine-readable answers.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotBootstrapped => "not_bootstrapped",
            Self::AlreadyBootstrapped => "already_bootstrapped",
            Self::Conflict { .. } => "conflict",
            Self::NotFound { .. } => "not_found",
            Self::AlreadyExists { .. } => "already_exists",
            Self::LimitReached { .. } => "limit_reached",
            Self::Invalid { .. } => "invalid",
            Self::WrongProposer { .. } => "wrong_proposer",
            Self::Removed { .. } => "removed",
            Self::TooOld { .. } => "too_old",
            Self::JoinTokenRefused { .. } => "join_token_refused",
            Self::WrongRecipients => "wrong_recipients",
            Self::WrongPhase { .. } => "wrong_phase",
            Self::BadCaConfig(_) => "bad_ca_config",
            Self::SerialTaken { .. } => "serial_taken",
            Self::DeadlinePassed { .. } => "deadline_passed",
            Self::Halted => "halted",
            Self::IssuerRefused { .. } => "issuer_refused",
            Self::DatesRefused { .. } => "dates_refused",
            Self::GrantRefused { .. } => "grant_refused",
            Self::AclBootstrapped { .. } => "acl_bootstrapped",
            Self::BuiltIn { .. } => "built_in",
            Self::InSecondary { .. } => "in_secondary",
            Self::FederationTokenRefused { .. } => "federation_token_refused",
            Self::AgentTokenRefused { .. } => "agent_token_refused",
        }
    }
}
