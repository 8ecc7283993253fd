//! The state as a stream of records: the form in which snapshots hold it. Lookups are not in it; they are rebuilt.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Cluster, State};
use crate::{
    acl::{Policy, Token},
    ca_config::StoredCaConfig,
    id::{Digest, NodeId, Revision},
    issuance::{IssuanceLog, IssuanceRecord},
    issuer::{Issuer, IssuerRequest},
    member::{JoinToken, Member, RemovedMember},
    outcome::WatchKey,
    root::{Ca, Root},
    time::Timestamp,
};

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
    /// A record of the issuance log lies past its length.
    #[error("the issuance {sequence} is past the log's length {length}")]
    IssuancePastEnd {
        /// The record's sequence.
        sequence: u64,
        /// The log's length.
        length: u64,
    },
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
            .chain(self.modified.iter().map(|(key, revision)| StateRecord::Modified(*key, *revision)))
    }

    /// The state that these records are of.
    pub fn from_records(records: impl IntoIterator<Item = StateRecord>) -> Result<Self, BadRecords> {
        let mut records = records.into_iter();
        let Some(StateRecord::Head(head)) = records.next() else { return Err(BadRecords::NoHead) };
        let mut state = Self::from_head(&head);
        for record in records {
            state.put_record(record)?;
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

    fn put_record(&mut self, record: StateRecord) -> Result<(), BadRecords> {
        match record {
            StateRecord::Head(_) => return Err(BadRecords::SecondHead),
            StateRecord::Cluster(cluster) => self.cluster = Some(cluster),
            StateRecord::Member(member) => drop(self.members.insert(member.node, member)),
            StateRecord::RemovedMember(removed) => drop(self.removed.insert(removed.node, removed)),
            StateRecord::JoinToken(token) => drop(self.join_tokens.insert(token.secret, token)),
            StateRecord::Root(ca, root) => drop(self.roots_mut(ca).roots.insert(root.made.id, root)),
            StateRecord::Issuer(issuer) => drop(self.issuers.insert(issuer.id, issuer)),
            StateRecord::IssuerRequest(request) => drop(self.issuer_requests.insert(request.node, request)),
            StateRecord::Issuance(record) => {
                let (sequence, length) = (record.sequence, self.issuances.length());
                if sequence > length {
                    return Err(BadRecords::IssuancePastEnd { sequence, length });
                }
                self.issuances.restore(record);
            }
            StateRecord::Token(token) => self.acl.put_token(Arc::unwrap_or_clone(token)),
            StateRecord::Policy(policy) => self.acl.put_policy(Arc::unwrap_or_clone(policy)),
            StateRecord::Modified(key, revision) => drop(self.modified.insert(key, revision)),
        }
        Ok(())
    }
}
