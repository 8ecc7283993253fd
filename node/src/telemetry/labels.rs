//! The labels of metrics. Every set of values is closed or bounded by the code that names them, never by what a client sends.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

macro_rules! label_values {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The value as text.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
                self.as_str().encode(encoder)
            }
        }
    };
}

label_values!(
    /// A port of a server.
    Port {
        /// 8300.
        Raft = "raft",
        /// 8503.
        Grpc = "grpc",
        /// 8302.
        Wan = "wan",
        /// 8501.
        Https = "https",
        /// 8500.
        Http = "http",
        /// Metrics and health.
        Metrics = "metrics",
    }
);

label_values!(
    /// What became of a request for a leaf.
    IssuanceOutcome {
        /// It is in the log, and was released.
        Recorded = "recorded",
        /// It was refused, before or by apply.
        Rejected = "rejected",
        /// Its deadline passed before an answer came: nothing was released.
        Unknown = "unknown",
    }
);

label_values!(
    /// The role of a server in Raft.
    RaftRole {
        /// It admits commands.
        Leader = "leader",
        /// It votes and follows.
        Follower = "follower",
        /// It asks for votes.
        Candidate = "candidate",
        /// It follows and does not vote.
        Learner = "learner",
    }
);

label_values!(
    /// What a watched certificate is.
    CertificateKind {
        /// A root of the mesh CA.
        Root = "root",
        /// A root of the server CA.
        ServerRoot = "server-root",
        /// A server's issuer.
        Issuer = "issuer",
        /// A server's own certificate.
        Server = "server",
    }
);

label_values!(
    /// A bounded queue.
    Queue {
        /// Signing jobs.
        Signing = "signing",
        /// Commands that wait for a batch.
        Proposals = "proposals",
        /// Entries that wait for the disk.
        Appends = "appends",
        /// Audit records that wait for the disk.
        Audit = "audit",
    }
);

label_values!(
    /// How a request for a kept leaf was answered.
    LeafRequest {
        /// By the leaf that was kept.
        Hit = "hit",
        /// A leaf had to be made.
        Miss = "miss",
    }
);

label_values!(
    /// What became of a renewal.
    RenewalOutcome {
        /// There is a newer leaf.
        Done = "done",
        /// There is none; it is tried again.
        Failed = "failed",
    }
);

label_values!(
    /// Why a leaf is kept no more.
    EvictionReason {
        /// There were too many.
        Full = "full",
        /// Nobody asked for it.
        Idle = "idle",
        /// Its token may not be the service any more.
        NotEntitled = "not_entitled",
    }
);

label_values!(
    /// What an agent follows.
    TopicKind {
        /// What a token may do.
        Token = "token",
        /// The intentions of a destination.
        Destination = "destination",
        /// The revoked leaves.
        Revoked = "revoked",
    }
);

label_values!(
    /// What was decided on a connection.
    Verdict {
        /// It may be.
        Allowed = "allowed",
        /// It may not.
        Denied = "denied",
    }
);

/// One label `result`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfLeafRequest {
    /// How it was answered.
    pub(super) result: LeafRequest,
}

/// One label `outcome`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfRenewal {
    /// The outcome.
    pub(super) outcome: RenewalOutcome,
}

/// One label `reason`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfEviction {
    /// Why.
    pub(super) reason: EvictionReason,
}

/// One label `kind`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfTopicKind {
    /// What is followed.
    pub(super) kind: TopicKind,
}

/// Labels `verdict` and `ground`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfDecision {
    /// What was decided.
    pub(super) verdict: Verdict,
    /// What it rests on, a constant of the code.
    pub(super) ground: &'static str,
}

/// One label `port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfPort {
    /// The port.
    pub(super) port: Port,
}

/// Labels `port` and `reason`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfPortAndReason {
    /// The port.
    pub(super) port: Port,
    /// The reason, a constant of the code.
    pub(super) reason: &'static str,
}

/// One label `reason`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfReason {
    /// The reason, a constant of the code.
    pub(super) reason: &'static str,
}

/// One label `outcome`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfOutcome {
    /// The outcome.
    pub(super) outcome: IssuanceOutcome,
}

/// One label `role`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfRole {
    /// The role.
    pub(super) role: RaftRole,
}

/// One label `queue`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfQueue {
    /// The queue.
    pub(super) queue: Queue,
}

/// One label `table`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfTable {
    /// The table of the primary.
    pub(super) table: &'static str,
}

/// One label `node`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfNode {
    /// The node id.
    pub(super) node: u64,
}

/// Labels `kind` and `id`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfCertificate {
    /// What it is.
    pub(super) kind: CertificateKind,
    /// Which.
    pub(super) id: String,
}
