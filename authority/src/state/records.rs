//! The state as a stream of records: the form in which snapshots hold it. Lookups are not in it; they are rebuilt.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Cluster, State};
use crate::{
    acl::{Policy, Token},
    agent::{Acknowledgement, Agent, AgentToken},
    ca_config::StoredCaConfig,
    federation::{Datacenter, FederationToken, KnownServers, Progress, RemoteIssuer, Table},
    id::{Digest, NodeId, Revision},
    intention::Intention,
    issuance::{BadIssuance, Holder, IssuanceLog, IssuanceRecord},
    issuer::{Issuer, IssuerRequest},
    member::{JoinToken, Member, RemovedMember},
    outcome::WatchKey,
    planted::{self, Bug},
    revocation::{Revocation, RevokedIssuer},
    root::{Ca, Root, RootPhase},
    rotation::{Fence, HeardActivation, HeardStanding, LastRotation, Rotation, TaintedRoot},
    spiffe::Name,
    time::Timestamp,
};

/// The highest counter that is taken from a snapshot: none gets there by counting, and one more always fits.
const COUNTER_MAX: u64 = u64::MAX / 2;

/// The numbers of a state that stand alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateHead {
    /// The index of the last applied entry.
    pub index: u64,
    /// The latest stamp.
    pub now: Timestamp,
    /// The id that the next admitted server gets.
    pub next_node: NodeId,
    /// The number of the mesh CA's last activation.
    pub mesh_activation: u64,
    /// The number of the server CA's last activation.
    pub server_activation: u64,
    /// The head of the issuance log.
    pub issuance_head: Digest,
    /// How many leaves were ever recorded.
    pub issuance_length: u64,
    /// The entry that made the first management token.
    pub acl_bootstrapped: Revision,
    /// The CA configuration.
    pub config: StoredCaConfig,
}

/// One record of a state. The first is always the head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateRecord {
    /// The numbers that stand alone.
    Head(StateHead),
    /// The datacenter.
    Cluster(Arc<Cluster>),
    /// A server.
    Member(Arc<Member>),
    /// What stays of a removed server.
    RemovedMember(RemovedMember),
    /// A join token.
    JoinToken(JoinToken),
    /// A root.
    Root(Ca, Arc<Root>),
    /// An issuer.
    Issuer(Arc<Issuer>),
    /// A request for an issuer.
    IssuerRequest(Arc<IssuerRequest>),
    /// A recorded leaf.
    Issuance(IssuanceRecord),
    /// A token.
    Token(Arc<Token>),
    /// A policy.
    Policy(Arc<Policy>),
    /// The entry that changed a table last.
    Modified(WatchKey, Revision),
    /// This datacenter is a secondary; the name of the primary.
    Primary(Name),
    /// Another datacenter.
    Datacenter(Arc<Datacenter>),
    /// A federation token.
    FederationToken(FederationToken),
    /// An issuer that was signed for another datacenter.
    RemoteIssuer(Arc<RemoteIssuer>),
    /// How far a table of the primary is followed.
    Followed(Table, Progress),
    /// The last change of a record that other datacenters follow.
    Changed(Table, Revision, Uuid),
    /// The last revision of which such a change is forgotten.
    Forgotten(Table, Revision),
    /// The servers of another datacenter.
    ServersOf(Name, KnownServers),
    /// A token of the primary behind which a local one stands.
    HiddenToken(Arc<Token>),
    /// An agent.
    Agent(Arc<Agent>),
    /// An agent token.
    AgentToken(AgentToken),
    /// An intention.
    Intention(Arc<Intention>),
    /// A revoked leaf.
    Revocation(Arc<Revocation>),
    /// What a server said of the bundles that its agents have.
    Acknowledgement(Acknowledgement),
    /// A revoked issuer.
    RevokedIssuer(Arc<RevokedIssuer>),
    /// The rotation under way.
    Rotation(Arc<Rotation>),
    /// The rotation before.
    LastRotation(Arc<LastRotation>),
    /// What was left under a root when issuing went away from it.
    Fence(Fence),
    /// A retired root that is marked as not to be relied on.
    TaintedRoot(TaintedRoot),
    /// What another datacenter has said of where it is.
    Standing(Name, Arc<HeardStanding>),
    /// An activation of the primary that this datacenter does not issue under yet.
    HeardActivation(HeardActivation),
    /// Whether the primary has halted every datacenter.
    PrimaryHalted(bool),
    /// How often the root is rotated by itself.
    RotationPeriod(Duration),
}

/// Records that are no state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecords {
    /// The first record is not the head, or there is none.
    #[error("the records do not begin with the head")]
    NoHead,
    /// A second head.
    #[error("there is a second head among the records")]
    SecondHead,
    /// Two records where there can be one.
    #[error("{what} is there twice")]
    Twice {
        /// What both are.
        what: String,
    },
    /// Two records that no state has together.
    #[error("{what} cannot be: {reason}")]
    Contradiction {
        /// The record.
        what: String,
        /// What speaks against it.
        reason: String,
    },
    /// A record that the issuance log cannot have.
    #[error(transparent)]
    Issuance(#[from] BadIssuance),
}

impl State {
    /// The state's records, the head first, each table in its own order: equal states give equal records.
    pub fn to_records(&self) -> impl Iterator<Item = StateRecord> + '_ {
        let head = std::iter::once(self.head_record());
        let roots = |ca: Ca| self.roots(ca).roots.values().map(move |root| StateRecord::Root(ca, root.clone()));
        head.chain(self.cluster.iter().cloned().map(StateRecord::Cluster))
            .chain(self.members.values().cloned().map(StateRecord::Member))
            .chain(self.removed.values().cloned().map(StateRecord::RemovedMember))
            .chain(self.join_tokens.values().cloned().map(StateRecord::JoinToken))
            .chain(roots(Ca::Mesh))
            .chain(roots(Ca::Server))
            .chain(self.issuers.values().cloned().map(StateRecord::Issuer))
            .chain(self.issuer_requests.values().cloned().map(StateRecord::IssuerRequest))
            .chain(self.issuances.after(0).cloned().map(StateRecord::Issuance))
            .chain(self.acl.policies().cloned().map(StateRecord::Policy))
            .chain(self.acl.tokens().cloned().map(StateRecord::Token))
            .chain(self.hidden_tokens.values().cloned().map(StateRecord::HiddenToken))
            .chain(self.modified.iter().map(|(key, revision)| StateRecord::Modified(*key, *revision)))
            .chain(self.primary.iter().cloned().map(StateRecord::Primary))
            .chain(self.datacenters.values().cloned().map(StateRecord::Datacenter))
            .chain(self.servers_of.iter().map(|(name, servers)| StateRecord::ServersOf(name.clone(), servers.clone())))
            .chain(self.federation_tokens.values().cloned().map(StateRecord::FederationToken))
            .chain(self.remote_issuers.values().cloned().map(StateRecord::RemoteIssuer))
            .chain(self.followed.iter().map(|(table, progress)| StateRecord::Followed(*table, *progress)))
            .chain(self.histories.all().into_iter().flat_map(|(table, history)| {
                let forgotten = StateRecord::Forgotten(table, history.forgotten());
                let changed = history.entries().map(move |(revision, key)| StateRecord::Changed(table, revision, key));
                std::iter::once(forgotten).filter(|_| history.forgotten() > Revision(0)).chain(changed)
            }))
            .chain(self.agents.values().cloned().map(StateRecord::Agent))
            .chain(self.agent_tokens.values().cloned().map(StateRecord::AgentToken))
            .chain(self.revocations.all().cloned().map(StateRecord::Revocation))
            .chain(self.intentions.all().cloned().map(StateRecord::Intention))
            .chain(self.acknowledgements.values().cloned().map(StateRecord::Acknowledgement))
            .chain(self.revoked_issuers.all().cloned().map(StateRecord::RevokedIssuer))
            .chain(self.rotation_records())
    }

    fn rotation_records(&self) -> impl Iterator<Item = StateRecord> + '_ {
        let standings = self.standings.iter().map(|(name, heard)| StateRecord::Standing(name.clone(), heard.clone()));
        let under_way = self.rotation.iter().cloned().map(StateRecord::Rotation);
        under_way
            .chain(self.last_rotation.iter().cloned().map(StateRecord::LastRotation))
            .chain(self.fences.values().copied().map(StateRecord::Fence))
            .chain(self.tainted.values().cloned().map(StateRecord::TaintedRoot))
            .chain(standings)
            .chain(self.heard_activation.map(StateRecord::HeardActivation))
            .chain(self.is_primary_halted.then_some(StateRecord::PrimaryHalted(true)))
            .chain(self.rotation_period.map(StateRecord::RotationPeriod))
    }

    /// The state that these records are of.
    pub fn from_records(records: impl IntoIterator<Item = StateRecord>) -> Result<Self, BadRecords> {
        let mut records = records.into_iter();
        let Some(StateRecord::Head(head)) = records.next() else { return Err(BadRecords::NoHead) };
        let counters = [head.next_node.0, head.mesh_activation, head.server_activation, head.issuance_length];
        if let Some(last) = counters.into_iter().find(|counter| *counter > COUNTER_MAX) {
            return Err(contradiction("the head", format!("its counter {last} is above {COUNTER_MAX}")));
        }
        let mut state = Self::from_head(&head);
        let mut holders = BTreeSet::new();
        for record in records {
            state.put_record(record, &mut holders)?;
        }
        if state.cluster.is_none() && state.to_records().nth(1).is_some() {
            return Err(contradiction("a state without a datacenter", "it has records"));
        }
        Ok(state)
    }

    fn head_record(&self) -> StateRecord {
        StateRecord::Head(StateHead {
            index: self.index,
            now: self.now,
            next_node: NodeId(self.next_node),
            mesh_activation: self.mesh.activation,
            server_activation: self.server.activation,
            issuance_head: self.issuances.head(),
            issuance_length: self.issuances.length(),
            acl_bootstrapped: self.acl.bootstrapped,
            config: self.config,
        })
    }

    fn from_head(head: &StateHead) -> Self {
        let mut state = Self {
            index: head.index,
            now: head.now,
            next_node: head.next_node.0,
            config: head.config,
            issuances: IssuanceLog::at(head.issuance_head, head.issuance_length),
            ..Self::default()
        };
        state.mesh.activation = head.mesh_activation;
        state.server.activation = head.server_activation;
        state.acl.bootstrapped = head.acl_bootstrapped;
        state
    }

    fn put_record(&mut self, record: StateRecord, holders: &mut BTreeSet<Arc<Holder>>) -> Result<(), BadRecords> {
        match record {
            StateRecord::Head(_) => Err(BadRecords::SecondHead),
            StateRecord::Cluster(cluster) => once("the datacenter", self.cluster.replace(cluster)),
            StateRecord::Member(member) => self.put_member(member),
            StateRecord::RemovedMember(removed) => self.put_removed_member(removed),
            StateRecord::JoinToken(token) => once("a join token", self.join_tokens.insert(token.secret, token)),
            StateRecord::Root(ca, root) => self.put_root_record(ca, root),
            StateRecord::Issuer(issuer) => once("an issuer", self.issuers.insert(issuer.id, issuer)),
            StateRecord::IssuerRequest(request) => {
                once("an issuer request", self.issuer_requests.insert(request.node, request))
            }
            StateRecord::Issuance(record) => Ok(self.issuances.restore(record, holders)?),
            StateRecord::Token(token) => self.put_token_record(token),
            StateRecord::Policy(policy) => self.put_policy_record(policy),
            StateRecord::Modified(WatchKey::CaConfig, _) if planted::is(Bug::SnapshotWithoutRevision) => Ok(()),
            StateRecord::Modified(key, revision) => once("a table's revision", self.modified.insert(key, revision)),
            StateRecord::Primary(primary) => once("the primary", self.primary.replace(primary)),
            StateRecord::Datacenter(other) => self.put_datacenter_record(other),
            StateRecord::FederationToken(token) => {
                once("a federation token", self.federation_tokens.insert(token.secret, token))
            }
            StateRecord::RemoteIssuer(issuer) => {
                once("an issuer of another datacenter", self.remote_issuers.insert(issuer.id, issuer))
            }
            StateRecord::Followed(table, progress) => once("a followed table", self.followed.insert(table, progress)),
            StateRecord::Changed(table, revision, key) => self.put_changed_record(table, revision, key),
            StateRecord::Forgotten(table, revision) => self.put_forgotten_record(table, revision),
            StateRecord::HiddenToken(token) => self.put_hidden_token_record(token),
            StateRecord::ServersOf(name, servers) => self.put_servers_record(name, servers),
            StateRecord::Agent(agent) => self.put_agent_record(agent),
            StateRecord::Revocation(revocation) => self.put_revocation_record(revocation),
            StateRecord::AgentToken(token) => once("an agent token", self.agent_tokens.insert(token.secret, token)),
            StateRecord::Intention(intention) => self.put_intention_record(intention),
            StateRecord::Acknowledgement(told) => self.put_acknowledgement_record(told),
            StateRecord::RevokedIssuer(revoked) => once("a revoked issuer", self.revoked_issuers.put(revoked)),
            StateRecord::Rotation(rotation) => once("the rotation", self.rotation.replace(rotation)),
            StateRecord::LastRotation(last) => once("the rotation before", self.last_rotation.replace(last)),
            StateRecord::Fence(fence) => once("a fence", self.fences.insert(fence.root, fence)),
            StateRecord::TaintedRoot(tainted) => once("a tainted root", self.tainted.insert(tainted.root, tainted)),
            StateRecord::Standing(name, heard) => self.put_standing_record(name, heard),
            StateRecord::HeardActivation(heard) => self.put_heard_activation_record(heard),
            StateRecord::RotationPeriod(period) => once("the RotationPeriod", self.rotation_period.replace(period)),
            StateRecord::PrimaryHalted(is_halted) => {
                self.is_primary_halted = is_halted;
                Ok(())
            }
        }
    }

    fn put_member(&mut self, member: Arc<Member>) -> Result<(), BadRecords> {
        self.check_given(member.node)?;
        if self.members.values().any(|other| other.name == member.name || other.store == member.store) {
            return Err(BadRecords::Twice { what: format!("the name or the store of server {}", member.node) });
        }
        once("a server", self.members.insert(member.node, member))
    }

    fn put_removed_member(&mut self, removed: RemovedMember) -> Result<(), BadRecords> {
        self.check_given(removed.node)?;
        if self.members.contains_key(&removed.node) {
            return Err(contradiction(format!("the removed server {}", removed.node), "it is a member"));
        }
        once("a removed server", self.removed.insert(removed.node, removed))
    }

    /// Ids are given in ascending order: none that is in use may be given again.
    fn check_given(&self, node: NodeId) -> Result<(), BadRecords> {
        if (1..self.next_node).contains(&node.0) {
            return Ok(());
        }
        Err(contradiction(format!("server {node}"), format!("the next id is {}", self.next_node)))
    }

    fn put_root_record(&mut self, ca: Ca, root: Arc<Root>) -> Result<(), BadRecords> {
        let set = self.roots_mut(ca);
        let (id, phase) = (root.made.id, root.phase);
        // A secondary may have missed a rotation that the next one has followed: then two are prepared.
        if phase == RootPhase::Active && set.active().is_some() {
            return Err(contradiction(format!("root {id}"), format!("another root is {} too", phase.as_str())));
        }
        if root.activation > set.activation {
            let reason = format!("its activation {} is after the last one, {}", root.activation, set.activation);
            return Err(contradiction(format!("root {id}"), reason));
        }
        once("a root", set.roots.insert(id, root))
    }

    fn put_datacenter_record(&mut self, other: Arc<Datacenter>) -> Result<(), BadRecords> {
        if self.datacenters.values().any(|known| known.cluster == other.cluster) {
            return Err(BadRecords::Twice { what: format!("the cluster of datacenter {}", other.name) });
        }
        once("a datacenter", self.datacenters.insert(other.name.clone(), other))
    }

    fn put_servers_record(&mut self, name: Name, servers: KnownServers) -> Result<(), BadRecords> {
        if !self.datacenters.contains_key(&name) {
            return Err(contradiction(format!("the servers of datacenter {name}"), "there is no such datacenter"));
        }
        once("the servers of a datacenter", self.servers_of.insert(name, servers))
    }

    fn put_revocation_record(&mut self, revocation: Arc<Revocation>) -> Result<(), BadRecords> {
        if self.revocations.of_key(revocation.key()).is_some() {
            return Err(BadRecords::Twice { what: format!("the revocation of {}", revocation.serial) });
        }
        self.revocations.put(revocation);
        Ok(())
    }

    fn put_agent_record(&mut self, agent: Arc<Agent>) -> Result<(), BadRecords> {
        once("the key of an agent", self.agent_keys.insert(agent.public_key, agent.node.clone()))?;
        once("an agent", self.agents.insert(agent.node.clone(), agent))
    }

    fn put_acknowledgement_record(&mut self, told: Acknowledgement) -> Result<(), BadRecords> {
        if !self.members.contains_key(&told.node) {
            return Err(contradiction(format!("the acknowledgement of server {}", told.node), "it is no member"));
        }
        once("the acknowledgement of a server", self.acknowledgements.insert(told.node, told))
    }

    fn put_standing_record(&mut self, name: Name, heard: Arc<HeardStanding>) -> Result<(), BadRecords> {
        if !self.datacenters.contains_key(&name) {
            return Err(contradiction(format!("where datacenter {name} is"), "there is no such datacenter"));
        }
        once("where a datacenter is", self.standings.insert(name, heard))
    }

    fn put_heard_activation_record(&mut self, heard: HeardActivation) -> Result<(), BadRecords> {
        if heard.activation <= self.mesh.activation || self.mesh.find(&heard.root).is_none() {
            let reason = format!("the last one here is {}, or its root is not there", self.mesh.activation);
            return Err(contradiction(format!("the activation {} that was heard of", heard.activation), reason));
        }
        once("an activation that was heard of", self.heard_activation.replace(heard))
    }

    fn put_changed_record(&mut self, table: Table, revision: Revision, key: Uuid) -> Result<(), BadRecords> {
        let index = self.index;
        let Some(history) = self.histories.of_mut(table) else { return Err(no_history(table)) };
        if history.contains(key) {
            return Err(BadRecords::Twice { what: format!("the last change of {key} in the table {table}") });
        }
        if revision < history.forgotten() || revision.0 > index {
            let reason = format!("it is not between the forgotten {} and the last index {index}", history.forgotten());
            return Err(contradiction(format!("the change {revision} in the table {table}"), reason));
        }
        history.note(revision, key);
        Ok(())
    }

    fn put_forgotten_record(&mut self, table: Table, revision: Revision) -> Result<(), BadRecords> {
        let Some(history) = self.histories.of_mut(table) else { return Err(no_history(table)) };
        if history.forgotten() > Revision(0) || history.entries().next().is_some() {
            return Err(BadRecords::Twice { what: format!("what is forgotten of the table {table}") });
        }
        history.set_forgotten(revision);
        Ok(())
    }

    fn put_token_record(&mut self, token: Arc<Token>) -> Result<(), BadRecords> {
        let accessor = token.accessor;
        if self.acl.token(accessor, Timestamp::EPOCH).is_some() || self.acl.is_secret_taken(&token.secret).is_some() {
            return Err(BadRecords::Twice { what: format!("the token {accessor} or its secret") });
        }
        self.acl.put_token(token);
        Ok(())
    }

    fn put_hidden_token_record(&mut self, token: Arc<Token>) -> Result<(), BadRecords> {
        if token.is_local {
            return Err(contradiction(format!("the hidden token {}", token.accessor), "it is a local one"));
        }
        once("a hidden token", self.hidden_tokens.insert(token.accessor, token))
    }

    fn put_intention_record(&mut self, intention: Arc<Intention>) -> Result<(), BadRecords> {
        let is_taken = intention.legacy_id.is_some_and(|id| self.intentions.of_legacy_id(id).is_some());
        if self.intentions.of_key(intention.key()).is_some() || is_taken {
            let (source, destination) = (&intention.source, &intention.destination);
            return Err(BadRecords::Twice { what: format!("the intention `{source}` => `{destination}` or its ID") });
        }
        self.intentions.put(intention);
        Ok(())
    }

    fn put_policy_record(&mut self, policy: Arc<Policy>) -> Result<(), BadRecords> {
        if self.acl.policy(policy.id).is_some() || self.acl.policy_of_name(&policy.name).is_some() {
            return Err(BadRecords::Twice { what: format!("the policy {} or its name", policy.id) });
        }
        self.acl.put_policy(policy);
        Ok(())
    }
}

fn once<T>(what: &str, former: Option<T>) -> Result<(), BadRecords> {
    former.map_or(Ok(()), |_| Err(BadRecords::Twice { what: what.into() }))
}

fn no_history(table: Table) -> BadRecords {
    contradiction(format!("a change in the table {table}"), "it is followed as a whole")
}

fn contradiction(what: impl Into<String>, reason: impl Into<String>) -> BadRecords {
    BadRecords::Contradiction { what: what.into(), reason: reason.into() }
}
