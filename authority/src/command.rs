//! What enters the log. A command carries facts that its proposer extracted: nothing here is parsed when it is applied.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    acl::{AccessorId, Policy, PolicyId, Token},
    agent::{AgentToken, LaggingAgents},
    ca_config::CaConfig,
    federation::{AdmitDatacenter, Datacenter, DatacenterFacts, FederationToken, Followed, KnownServers, RemoteIssuer},
    id::{Digest, FeatureLevel, KeyId, NodeId, Revision, Serial},
    intention::{Intention, Party},
    issuance::Issuance,
    issuer::{IssuerRequest, SignedIssuer},
    member::{Addresses, AdmitServer, JoinToken, Member, ServerCertificate, ServerCertificateRequest},
    root::{Bridge, Ca, NewRoot, SealedKey},
    rotation::{RotationControl, RotationRequest, Standing},
    spiffe::{Name, TrustDomain},
    time::Timestamp,
};

/// The most proposals in one entry: an entry is one value in the log and one message to each follower.
pub const PROPOSALS_PER_ENTRY_MAX: usize = 1024;

/// One entry of the log: proposals that are decided one after the other, each with its own outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The leader's time at admission.
    pub stamp: Timestamp,
    /// What was proposed; empty: the entry only carries its stamp.
    pub proposals: Vec<Proposal>,
}

/// A command and the server that proposed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The server: for a forwarded command that of the TLS peer, set by the receiver.
    pub proposer: NodeId,
    /// What it proposes.
    pub command: Command,
}

/// How a datacenter begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// The id of this replicated cluster.
    pub cluster: Uuid,
    /// The datacenter's name.
    pub datacenter: Name,
    /// The name space of every identity.
    pub trust_domain: TrustDomain,
    /// The level of the first server.
    pub feature_level: FeatureLevel,
    /// The operator's recovery recipient, which every root key is sealed to as well.
    pub recovery: Option<String>,
    /// The first server, with its certificate.
    pub member: Member,
    /// The root of the server CA.
    pub server_root: NewRoot,
    /// The CA configuration; in a secondary it holds until the primary's has come.
    pub config: CaConfig,
}

/// Everything that can be asked of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Begins the datacenter.
    Bootstrap(Box<Bootstrap>),
    /// Raises the feature level by one command of the leader's, when every member supports it.
    RaiseFeatureLevel {
        /// The level before.
        expected: FeatureLevel,
        /// The level after.
        level: FeatureLevel,
    },
    /// Makes a join token.
    CreateJoinToken(JoinToken),
    /// Admits a server that showed a join token.
    AdmitServer(Box<AdmitServer>),
    /// A server tells where it is and what it understands.
    AnnounceServer {
        /// The server; only itself may say it.
        node: NodeId,
        /// Where it is reached.
        addresses: Addresses,
        /// The highest feature level that it understands.
        supports: FeatureLevel,
    },
    /// A server asks for a new server certificate.
    RequestServerCertificate {
        /// The server; only itself may ask.
        node: NodeId,
        /// What it asks for; its revision is set by apply.
        request: ServerCertificateRequest,
    },
    /// The leader answers such a request.
    RecordServerCertificate {
        /// The server that asked.
        node: NodeId,
        /// The request that is answered.
        expected: Revision,
        /// The certificate.
        certificate: ServerCertificate,
    },
    /// An operator asks for a server's removal.
    RequestRemoval {
        /// The server.
        node: NodeId,
    },
    /// The leader removes a server that no Raft membership contains any more.
    RemoveServer {
        /// The server.
        node: NodeId,
        /// Its record, as the leader saw it.
        expected: Revision,
    },
    /// Puts a root into a bundle, as prepared.
    PublishRoot {
        /// Which CA.
        ca: Ca,
        /// The root.
        root: NewRoot,
    },
    /// Makes a prepared root the active one, and the one before it retired.
    ActivateRoot {
        /// Which CA.
        ca: Ca,
        /// The root.
        root: KeyId,
        /// Its record, as the leader saw it.
        expected: Revision,
        /// The root that was active then.
        expected_active: Option<KeyId>,
    },
    /// Replaces the sealed key of a root by one for other servers.
    ResealRoot {
        /// Which CA.
        ca: Ca,
        /// The root.
        root: KeyId,
        /// Its record, as the leader saw it.
        expected: Revision,
        /// The key, sealed to exactly the recorded servers.
        sealed: SealedKey,
    },
    /// A server asks for an issuer; its request's revision is set by apply.
    RequestIssuer(IssuerRequest),
    /// The leader answers such a request.
    RecordIssuer(SignedIssuer),
    /// A server asks for a signed leaf to be recorded, so that it may be released.
    RecordIssuance(Issuance),
    /// Stops or resumes recording.
    SetHalt {
        /// Whether nothing shall be recorded.
        halted: bool,
    },
    /// Replaces the CA configuration, and begins the rotation that it means, or neither.
    SetCaConfig {
        /// The configuration before.
        expected: Revision,
        /// The values.
        config: CaConfig,
        /// `RotationPeriod`; `None`: an operator begins each rotation.
        rotation_period: Option<Duration>,
        /// The rotation to the root that is wanted with it, whose kind of key is that of the values.
        rotation: Option<Box<RotationRequest>>,
    },
    /// Makes the first management token, once; or again with the reset index that the refusal named.
    BootstrapAcl {
        /// The token.
        token: Token,
        /// The index of the bootstrap that an operator with access to a server's disk allowed to repeat.
        reset: Option<u64>,
    },
    /// Makes or changes a token.
    PutToken {
        /// The token before; zero: it must not exist.
        expected: Revision,
        /// The token; its times and revisions are set by apply.
        token: Token,
    },
    /// Deletes a token.
    DeleteToken {
        /// The token.
        accessor: AccessorId,
    },
    /// Makes or changes a policy.
    PutPolicy {
        /// The policy before; zero: it must not exist.
        expected: Revision,
        /// The policy; its revisions are set by apply.
        policy: Policy,
    },
    /// Deletes a policy. Tokens keep their links to it, which allow nothing any more.
    DeletePolicy {
        /// The policy.
        policy: PolicyId,
    },
    /// Begins the datacenter as a secondary.
    BootstrapSecondary {
        /// Its beginning; the trust domain is the primary's.
        bootstrap: Box<Bootstrap>,
        /// The primary.
        primary: Box<Datacenter>,
    },
    /// Makes a token with which another datacenter joins.
    CreateFederationToken(FederationToken),
    /// Admits a datacenter that showed a federation token.
    AdmitDatacenter(Box<AdmitDatacenter>),
    /// Another datacenter tells where it is and how its servers are known; the receiving server knows that it is that one.
    AnnounceDatacenter(Box<DatacenterFacts>),
    /// Forgets another datacenter: its servers are let in no more.
    RemoveDatacenter {
        /// Its name.
        name: Name,
    },
    /// Records an issuer that was signed for a server of another datacenter, so that it may be released.
    RecordRemoteIssuer(Box<RemoteIssuer>),
    /// The leader of a secondary takes over what it heard of the primary.
    FollowPrimary(Box<Followed>),
    /// Another datacenter tells which servers it has: those that it removed are let in no more.
    AnnounceServersOf {
        /// The datacenter; the receiving server knows that it is that one.
        datacenter: Name,
        /// Its cluster.
        cluster: Uuid,
        /// Its servers.
        servers: KnownServers,
    },
    /// Makes an agent token.
    CreateAgentToken(AgentToken),
    /// Admits an agent that showed an agent token.
    AdmitAgent {
        /// The digest of the token's secret.
        secret: Digest,
        /// The name of its host.
        node: Name,
        /// SHA-256 of the SubjectPublicKeyInfo of its key.
        public_key: Digest,
    },
    /// Removes an agent: its key is nobody's then.
    RemoveAgent {
        /// Its name.
        node: Name,
        /// Its record, as it was seen.
        expected: Revision,
    },
    /// Makes or changes an intention. It touches no other one, also not of the same destination, whose JWT requirement it takes over.
    PutIntention {
        /// The intention before; zero: it must not exist.
        expected: Revision,
        /// The intention; its times and revisions are set by apply.
        intention: Box<Intention>,
    },
    /// Deletes an intention.
    DeleteIntention {
        /// Its destination.
        destination: Party,
        /// Its source.
        source: Party,
    },
    /// Makes these the intentions of a destination: those of other sources are deleted.
    PutServiceIntentions {
        /// The destination's revision before, zero: it must have none; `None`: whatever is there.
        expected: Option<Revision>,
        /// The destination.
        destination: Party,
        /// All of them, at least one; their times and revisions are set by apply.
        intentions: Vec<Intention>,
    },
    /// Deletes every intention of a destination.
    DeleteServiceIntentions {
        /// The destination's revision before; `None`: whatever is there.
        expected: Option<Revision>,
        /// The destination.
        destination: Party,
    },
    /// Revokes a leaf until its end; in the primary, for every datacenter.
    RevokeLeaf {
        /// Its serial.
        serial: Serial,
        /// When it ends.
        until: Timestamp,
        /// Why, for people.
        reason: String,
    },
    /// A server tells what its agents have in use: once for each bundle, never once for each agent.
    AcknowledgeBundle {
        /// The server; only itself may say it.
        node: NodeId,
        /// The newest bundle that all of its agents have.
        bundle: Revision,
        /// Those that have not the newest one, after a while.
        lagging: LaggingAgents,
    },
    /// Revokes an issuer until its end; in the primary, for every datacenter. Its server makes another one.
    RevokeIssuer {
        /// The issuer.
        issuer: KeyId,
        /// Why, for people.
        reason: String,
        /// Whether also while leaves under it are in use.
        is_forced: bool,
    },
    /// Begins a rotation of the mesh CA's root.
    StartRotation(Box<RotationRequest>),
    /// Puts the root of a rotation into the bundle, as prepared.
    PublishRotationRoot {
        /// The rotation.
        rotation: Revision,
        /// The rotation, as the leader saw it.
        expected: Revision,
        /// The root.
        root: Box<NewRoot>,
    },
    /// Records the bridge from the active root to a prepared one.
    BridgeRoot {
        /// The prepared root.
        root: KeyId,
        /// Its record, as the leader saw it.
        expected: Revision,
        /// The bridge.
        bridge: Box<Bridge>,
    },
    /// An operator pauses, resumes or forces a rotation.
    ControlRotation {
        /// The rotation.
        rotation: Revision,
        /// What to do.
        control: RotationControl,
    },
    /// Takes a rotation back: before it activates its root that is dropped, after it the former root becomes active again.
    RollBack {
        /// The rotation, as the operator saw it: the one under way, or the last one.
        rotation: Revision,
    },
    /// Ends a rotation: every datacenter that can be reached issues under its root.
    FinishRotation {
        /// The rotation.
        rotation: Revision,
        /// The rotation, as the leader saw it.
        expected: Revision,
    },
    /// Takes a retired root out of the bundle: nothing depends on it.
    PruneRoot {
        /// The root.
        root: KeyId,
        /// Its record, as the leader saw it.
        expected: Revision,
    },
    /// Marks a retired root as not to be relied on.
    TaintRoot {
        /// The root.
        root: KeyId,
        /// Why, for people.
        reason: String,
    },
    /// Takes a retired root out of the bundle although leaves under it have not ended.
    RevokeRoot {
        /// The root.
        root: KeyId,
        /// Why, for people.
        reason: String,
        /// Whether also while leaves under it are in use.
        is_forced: bool,
    },
    /// In a secondary: issuing goes on under the root that the primary has activated.
    FollowActivation {
        /// The number of the activation.
        activation: u64,
    },
    /// Sets how often the root is rotated by itself.
    SetRotationPeriod {
        /// The time from one activation to the next rotation; `None`: an operator begins each.
        period: Option<Duration>,
    },
    /// Another datacenter tells where it is with the roots; the receiving server knows that it is that one.
    AnnounceStanding {
        /// The datacenter.
        datacenter: Name,
        /// Its cluster.
        cluster: Uuid,
        /// Where it is.
        standing: Box<Standing>,
    },
}

impl Command {
    /// Whether a server may propose it through another one. The rest is the leader's own.
    pub const fn is_forwardable(&self) -> bool {
        match self {
            Self::CreateJoinToken(_)
            | Self::AdmitServer(_)
            | Self::AnnounceServer { .. }
            | Self::RequestServerCertificate { .. }
            | Self::RequestRemoval { .. }
            | Self::RequestIssuer(_)
            | Self::RecordIssuance(_)
            | Self::SetHalt { .. }
            | Self::SetCaConfig { .. }
            | Self::BootstrapAcl { .. }
            | Self::PutToken { .. }
            | Self::DeleteToken { .. }
            | Self::PutPolicy { .. }
            | Self::DeletePolicy { .. }
            | Self::CreateFederationToken(_)
            | Self::AdmitDatacenter(_)
            | Self::AnnounceDatacenter(_)
            | Self::AnnounceServersOf { .. }
            | Self::RemoveDatacenter { .. }
            | Self::RecordRemoteIssuer(_)
            | Self::RevokeLeaf { .. }
            | Self::CreateAgentToken(_)
            | Self::AdmitAgent { .. }
            | Self::RemoveAgent { .. }
            | Self::PutIntention { .. }
            | Self::DeleteIntention { .. }
            | Self::PutServiceIntentions { .. }
            | Self::DeleteServiceIntentions { .. }
            | Self::AcknowledgeBundle { .. }
            | Self::RevokeIssuer { .. }
            | Self::StartRotation(_)
            | Self::ControlRotation { .. }
            | Self::RollBack { .. }
            | Self::TaintRoot { .. }
            | Self::RevokeRoot { .. }
            | Self::SetRotationPeriod { .. }
            | Self::AnnounceStanding { .. } => true,
            Self::Bootstrap(_)
            | Self::RaiseFeatureLevel { .. }
            | Self::RecordServerCertificate { .. }
            | Self::RemoveServer { .. }
            | Self::PublishRoot { .. }
            | Self::ActivateRoot { .. }
            | Self::ResealRoot { .. }
            | Self::RecordIssuer(_)
            | Self::BootstrapSecondary { .. }
            | Self::PublishRotationRoot { .. }
            | Self::BridgeRoot { .. }
            | Self::FinishRotation { .. }
            | Self::PruneRoot { .. }
            | Self::FollowActivation { .. }
            | Self::FollowPrimary(_) => false,
        }
    }

    /// Whether proposing it again after an unknown outcome cannot do anything twice.
    pub const fn retry_is_safe(&self) -> bool {
        matches!(
            self,
            Self::RecordIssuance(_)
                | Self::AdmitServer(_)
                | Self::AnnounceServer { .. }
                | Self::AdmitDatacenter(_)
                | Self::AnnounceDatacenter(_)
                | Self::AnnounceServersOf { .. }
                | Self::RecordRemoteIssuer(_)
                | Self::AdmitAgent { .. }
                | Self::RevokeLeaf { .. }
                | Self::RevokeIssuer { .. }
                | Self::ControlRotation { .. }
                | Self::TaintRoot { .. }
                | Self::SetRotationPeriod { .. }
                | Self::AnnounceStanding { .. }
        )
    }
}
