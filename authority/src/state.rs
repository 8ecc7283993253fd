//! The state of a datacenter, and the one function that changes it. Every replica applies the same entries and holds the same state.

mod acknowledgements;
mod acl;
mod agents;
mod check;
mod cluster;
mod configuration;
mod federation;
mod follow;
mod intentions;
mod issuances;
mod issuers;
mod members;
mod records;
mod retired;
mod revocations;
mod revoked_issuers;
mod roots;
mod rotations;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::{
    records::{BadRecords, StateHead, StateRecord},
    retired::Depends,
};
use crate::{
    acl::{AccessorId, Acl, Token},
    agent::{Acknowledgement, Agent, AgentToken},
    ca_config::StoredCaConfig,
    command::{Command, Entry},
    federation::{Datacenter, FederationToken, History, KnownServers, Progress, RemoteIssuer, Table},
    id::{Digest, FeatureLevel, KeyId, NodeId, Revision},
    intention::Intentions,
    issuance::IssuanceLog,
    issuer::{Issuer, IssuerRequest},
    member::{JoinToken, Member, RemovedMember},
    outcome::{Applied, Outcome, Rejection, WatchKey},
    planted::{self, Bug},
    revocation::{Revocations, RevokedIssuers},
    root::{Ca, RootSet},
    rotation::{Fence, HeardActivation, HeardStanding, LastRotation, Rotation, TaintedRoot},
    spiffe::{Name, TrustDomain},
    time::Timestamp,
};

/// A leader commits a stamp at least every 10 s: when time moves on by more than this at once, the cluster was asleep, and whoever
/// waits for a renewal is woken.
const CLOCK_JUMP: Duration = Duration::from_secs(60);

/// What never changes of a datacenter, and its switches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// The id of this replicated cluster.
    pub id: Uuid,
    /// The datacenter's name.
    pub datacenter: Name,
    /// The name space of every identity.
    pub trust_domain: TrustDomain,
    /// The operator's recovery recipient.
    pub recovery: Option<String>,
    /// What the state and the stored bytes may contain.
    pub feature_level: FeatureLevel,
    /// Whether nothing is recorded.
    pub is_halted: bool,
}

/// The last changes of the tables that other datacenters follow record by record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histories {
    pub(crate) policies: History,
    pub(crate) tokens: History,
    pub(crate) intentions: History,
    pub(crate) revocations: History,
}

impl Histories {
    fn of_mut(&mut self, table: Table) -> Option<&mut History> {
        match table {
            Table::Policies => Some(&mut self.policies),
            Table::Tokens => Some(&mut self.tokens),
            Table::Intentions => Some(&mut self.intentions),
            Table::Revocations => Some(&mut self.revocations),
            Table::Ca | Table::Datacenters | Table::RevokedIssuers => None,
        }
    }

    fn all(&self) -> [(Table, &History); 4] {
        [
            (Table::Policies, &self.policies),
            (Table::Tokens, &self.tokens),
            (Table::Intentions, &self.intentions),
            (Table::Revocations, &self.revocations),
        ]
    }
}

/// The replicated state. Cloning is cheap: a clone is a consistent view that no later entry changes.
#[derive(Clone, Debug, Default)]
pub struct State {
    index: u64,
    now: Timestamp,
    cluster: Option<Arc<Cluster>>,
    next_node: u64,
    members: OrdMap<NodeId, Arc<Member>>,
    removed: OrdMap<NodeId, RemovedMember>,
    join_tokens: OrdMap<Digest, JoinToken>,
    mesh: RootSet,
    server: RootSet,
    issuers: OrdMap<KeyId, Arc<Issuer>>,
    issuer_requests: OrdMap<NodeId, Arc<IssuerRequest>>,
    config: StoredCaConfig,
    issuances: IssuanceLog,
    acl: Acl,
    /// In a secondary: the primary's tokens behind which a local one stands.
    hidden_tokens: OrdMap<AccessorId, Arc<Token>>,
    intentions: Intentions,
    revocations: Revocations,
    revoked_issuers: RevokedIssuers,
    /// In a secondary: the name of the primary.
    primary: Option<Name>,
    datacenters: OrdMap<Name, Arc<Datacenter>>,
    /// The servers of those of them that have told.
    servers_of: OrdMap<Name, KnownServers>,
    federation_tokens: OrdMap<Digest, FederationToken>,
    remote_issuers: OrdMap<KeyId, Arc<RemoteIssuer>>,
    followed: OrdMap<Table, Progress>,
    agents: OrdMap<Name, Arc<Agent>>,
    /// The names of the agents by their keys.
    agent_keys: OrdMap<Digest, Name>,
    agent_tokens: OrdMap<Digest, AgentToken>,
    acknowledgements: OrdMap<NodeId, Acknowledgement>,
    rotation: Option<Arc<Rotation>>,
    last_rotation: Option<Arc<LastRotation>>,
    /// How often the root is rotated by itself.
    rotation_period: Option<Duration>,
    /// What this datacenter left under its retired roots.
    fences: OrdMap<KeyId, Fence>,
    tainted: OrdMap<KeyId, TaintedRoot>,
    /// In the primary: what the others have said of where they are.
    standings: OrdMap<Name, Arc<HeardStanding>>,
    /// In a secondary: what it does not issue under yet.
    heard_activation: Option<HeardActivation>,
    /// In a secondary: whether the primary has halted every datacenter.
    is_primary_halted: bool,
    pub(crate) histories: Histories,
    modified: OrdMap<WatchKey, Revision>,
}

impl State {
    /// Applies one entry of the log: moves time on, drops what has ended, decides each proposal.
    pub fn apply(&mut self, index: u64, entry: &Entry) -> Applied {
        self.index = index;
        let has_jumped = self.cluster.is_some() && entry.stamp.since(self.now) > CLOCK_JUMP;
        self.now = self.now.max(entry.stamp);
        let mut change = Change { index, now: self.now, touched: BTreeSet::new(), unmade: BTreeSet::new() };
        if has_jumped {
            change.touch(WatchKey::Cluster);
        }
        self.expire(&mut change);
        let outcomes = entry.proposals.iter().map(|proposal| {
            let decided = self.decide(&mut change, proposal.proposer, &proposal.command);
            decided.unwrap_or_else(Outcome::Rejected)
        });
        let outcomes = outcomes.collect();
        self.show_hidden_tokens(&mut change);
        for key in &change.touched {
            // Those of destinations were set as they changed: some have ended.
            if !matches!(key, WatchKey::Token(_) | WatchKey::Agent(_) | WatchKey::IntentionsOf(_)) {
                self.modified.insert(*key, Revision(index.saturating_sub(hash_order(key))));
            }
        }
        Applied { outcomes, touched: change.touched }
    }

    fn decide(&mut self, change: &mut Change, proposer: NodeId, command: &Command) -> Result<Outcome, Rejection> {
        match command {
            Command::Bootstrap(bootstrap) => return self.bootstrap(change, bootstrap, None),
            Command::BootstrapSecondary { bootstrap, primary } => {
                return self.bootstrap(change, bootstrap, Some(primary));
            }
            _ => {}
        }
        if self.cluster.is_none() {
            return Err(Rejection::NotBootstrapped);
        }
        match command {
            Command::Bootstrap(_) | Command::BootstrapSecondary { .. } => Err(Rejection::AlreadyBootstrapped),
            Command::RaiseFeatureLevel { expected, level } => self.raise_feature_level(change, *expected, *level),
            Command::SetHalt { halted } => self.set_halt(change, *halted),
            Command::SetCaConfig { expected, config, rotation_period, rotation } => {
                self.set_ca_config(change, *expected, config, *rotation_period, rotation.as_deref())
            }
            Command::CreateJoinToken(token) => self.create_join_token(change, token),
            Command::AdmitServer(server) => self.admit_server(change, server),
            Command::AnnounceServer { node, addresses, supports } => {
                self.announce_server(change, proposer, *node, addresses, *supports)
            }
            Command::RequestServerCertificate { node, request } => {
                self.request_server_certificate(change, proposer, *node, request)
            }
            Command::RecordServerCertificate { node, expected, certificate } => {
                self.record_server_certificate(change, *node, *expected, certificate)
            }
            Command::RequestRemoval { node } => self.request_removal(change, *node),
            Command::RemoveServer { node, expected } => self.remove_server(change, *node, *expected),
            Command::PublishRoot { ca, root } => self.publish_root(change, *ca, root),
            Command::ActivateRoot { ca, root, expected, expected_active } => {
                self.activate_root(change, *ca, root, *expected, expected_active.as_ref())
            }
            Command::ResealRoot { ca, root, expected, sealed } => {
                self.reseal_root(change, *ca, root, *expected, sealed)
            }
            Command::RequestIssuer(request) => self.request_issuer(change, proposer, request),
            Command::RecordIssuer(signed) => self.record_issuer(change, signed),
            Command::RecordIssuance(issuance) => self.record_issuance(change, proposer, issuance),
            Command::BootstrapAcl { token, reset } => self.bootstrap_acl(change, token, *reset),
            Command::PutToken { expected, token } => self.put_token(change, *expected, token),
            Command::DeleteToken { accessor } => self.delete_token(change, *accessor),
            Command::PutPolicy { expected, policy } => self.put_policy(change, *expected, policy),
            Command::DeletePolicy { policy } => self.delete_policy(change, *policy),
            Command::CreateFederationToken(token) => self.create_federation_token(change, token),
            Command::AdmitDatacenter(admit) => self.admit_datacenter(change, admit),
            Command::AnnounceDatacenter(facts) => self.announce_datacenter(change, facts),
            Command::RemoveDatacenter { name } => self.remove_datacenter(change, name),
            Command::RecordRemoteIssuer(issuer) => self.record_remote_issuer(change, issuer),
            Command::FollowPrimary(followed) => self.follow_primary(change, followed),
            Command::AnnounceServersOf { datacenter, cluster, servers } => {
                self.announce_servers_of(change, datacenter, cluster, servers)
            }
            Command::RevokeLeaf { serial, until, reason } => self.revoke_leaf(change, serial, *until, reason),
            Command::CreateAgentToken(token) => self.create_agent_token(change, token),
            Command::AdmitAgent { secret, node, public_key } => self.admit_agent(change, secret, node, *public_key),
            Command::RemoveAgent { node, expected } => self.remove_agent(change, node, *expected),
            Command::PutIntention { expected, intention } => self.put_intention(change, *expected, intention),
            Command::DeleteIntention { destination, source } => self.delete_intention(change, destination, source),
            Command::PutServiceIntentions { expected, destination, intentions } => {
                self.put_service_intentions(change, *expected, destination, intentions)
            }
            Command::DeleteServiceIntentions { expected, destination } => {
                self.delete_service_intentions(change, *expected, destination)
            }
            Command::RevokeIssuer { issuer, reason, is_forced } => {
                self.revoke_issuer(change, issuer, reason, *is_forced)
            }
            Command::StartRotation(request) => self.start_rotation(change, request),
            Command::PublishRotationRoot { rotation, expected, root } => {
                self.publish_rotation_root(change, *rotation, *expected, root)
            }
            Command::BridgeRoot { root, expected, bridge } => self.bridge_root(change, root, *expected, bridge),
            Command::ControlRotation { rotation, control } => self.control_rotation(change, *rotation, *control),
            Command::RollBack { rotation } => self.roll_back(change, *rotation),
            Command::FinishRotation { rotation, expected } => self.finish_rotation(change, *rotation, *expected),
            Command::PruneRoot { root, expected } => self.prune_root(change, root, *expected),
            Command::TaintRoot { root, reason } => self.taint_root(change, root, reason),
            Command::RevokeRoot { root, reason, is_forced } => self.revoke_root(change, root, reason, *is_forced),
            Command::SetRotationPeriod { period } => self.set_rotation_period(change, *period),
            Command::FollowActivation { activation } => self.follow_activation(change, *activation),
            Command::AnnounceStanding { datacenter, cluster, standing } => {
                self.announce_standing(change, datacenter, cluster, standing)
            }
            Command::AcknowledgeBundle { node, bundle, lagging } => {
                self.acknowledge_bundle(change, proposer, *node, *bundle, lagging)
            }
        }
    }

    fn expire(&mut self, change: &mut Change) {
        if self.issuances.expire(self.now) {
            change.touch(WatchKey::Issuances);
        }
        for accessor in self.acl.expire(self.now) {
            change.touch(WatchKey::Tokens);
            change.touch(WatchKey::Token(accessor));
        }
        let now = self.now;
        let ended: Vec<Digest> =
            self.join_tokens.iter().filter(|(_, token)| token.expires_at < now).map(|(secret, _)| *secret).collect();
        for secret in ended {
            self.join_tokens.remove(&secret);
            change.touch(WatchKey::JoinTokens);
        }
        self.expire_issuers(change);
        self.expire_federation(change);
        self.expire_agent_tokens(change);
        self.expire_revocations(change);
        self.expire_revoked_issuers(change);
    }

    /// The index of the last applied entry.
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// The latest stamp: the time at which everything up to here was decided.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// The datacenter, once it has begun.
    pub const fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref()
    }

    /// The feature level in use; the lowest one before the datacenter has begun.
    pub fn feature_level(&self) -> FeatureLevel {
        self.cluster.as_ref().map_or(FeatureLevel(1), |cluster| cluster.feature_level)
    }

    /// One server.
    pub fn member(&self, node: NodeId) -> Option<&Arc<Member>> {
        self.members.get(&node)
    }

    /// Every server, by id.
    pub fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.values()
    }

    /// What stays of a removed server.
    pub fn removed_member(&self, node: NodeId) -> Option<&RemovedMember> {
        self.removed.get(&node)
    }

    /// What stays of every removed server.
    pub fn removed_members(&self) -> impl Iterator<Item = &RemovedMember> {
        self.removed.values()
    }

    /// The join token with this digest.
    pub fn join_token(&self, secret: &Digest) -> Option<&JoinToken> {
        self.join_tokens.get(secret)
    }

    /// The roots of a CA.
    pub const fn roots(&self, ca: Ca) -> &RootSet {
        match ca {
            Ca::Mesh => &self.mesh,
            Ca::Server => &self.server,
        }
    }

    const fn roots_mut(&mut self, ca: Ca) -> &mut RootSet {
        match ca {
            Ca::Mesh => &mut self.mesh,
            Ca::Server => &mut self.server,
        }
    }

    /// One issuer.
    pub fn issuer(&self, id: &KeyId) -> Option<&Arc<Issuer>> {
        self.issuers.get(id)
    }

    /// Every issuer that has not expired, by id.
    pub fn issuers(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        self.issuers.values()
    }

    /// The requests for issuers that are not answered, by server.
    pub fn issuer_requests(&self) -> impl Iterator<Item = &Arc<IssuerRequest>> {
        self.issuer_requests.values()
    }

    /// The CA configuration.
    pub const fn ca_config(&self) -> &StoredCaConfig {
        &self.config
    }

    /// The issuance log.
    pub const fn issuances(&self) -> &IssuanceLog {
        &self.issuances
    }

    /// Tokens and policies.
    pub const fn acl(&self) -> &Acl {
        &self.acl
    }

    /// The entry that changed a table last. A token's and an agent's own revision is in its record; destinations without intentions
    /// share one.
    pub fn modified(&self, key: &WatchKey) -> Revision {
        match key {
            WatchKey::Token(accessor) => {
                let token = self.acl.token(*accessor, Timestamp::EPOCH);
                token.map_or_else(|| self.modified(&WatchKey::Tokens), |token| token.modified)
            }
            WatchKey::Agent(public_key) => {
                let agent = self.agent_of_key(public_key);
                agent.map_or_else(|| self.modified(&WatchKey::Agents), |agent| agent.modified)
            }
            WatchKey::IntentionsOf(_) => {
                let own = self.modified.get(key).copied();
                own.unwrap_or_else(|| self.modified(&WatchKey::IntentionsGone))
            }
            key => self.modified.get(key).copied().unwrap_or_default(),
        }
    }
}

/// What one entry changes, as its commands are decided.
struct Change {
    index: u64,
    now: Timestamp,
    touched: BTreeSet<WatchKey>,
    /// The keys of records that this entry has written and deleted again.
    unmade: BTreeSet<Uuid>,
}

impl Change {
    /// Notes that a record is deleted which was written last at this revision.
    fn unmake(&mut self, key: Uuid, modified: Revision) {
        if modified == self.revision() {
            self.unmade.insert(key);
        }
    }

    /// Refuses to make a record anew in the entry that has written and deleted it: its revision would name two contents, and whoever
    /// compares with it would change the one for the other.
    fn check_made_once(&self, what: &str, key: Uuid) -> Result<(), Rejection> {
        if self.unmade.contains(&key) {
            return Err(self.written_here(what.to_owned()));
        }
        Ok(())
    }

    /// The refusal of what this very entry has written before: nobody has seen that yet.
    const fn written_here(&self, what: String) -> Rejection {
        Rejection::Conflict { what, expected: Revision(0), found: self.revision() }
    }

    fn touch(&mut self, key: WatchKey) {
        self.touched.insert(key);
    }

    /// Whether this entry has changed a table.
    fn has_touched(&self, key: &WatchKey) -> bool {
        self.touched.contains(key)
    }

    const fn revision(&self) -> Revision {
        Revision(self.index)
    }
}
/// Nothing, but for a planted bug: what a hash map's order, another one for each map, brings into the state.
fn hash_order(key: &WatchKey) -> u64 {
    use std::hash::BuildHasher;
    match planted::is(Bug::HashOrderInApply) {
        true => std::hash::RandomState::new().hash_one(key) % 2,
        false => 0,
    }
}
