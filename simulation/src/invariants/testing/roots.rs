//! Made-up states of one server with roots.

use std::sync::Arc;

use carrack_authority::{
    State,
    id::{FeatureLevel, KeyId, NodeId, Revision, StoreId},
    issuer::{Issuer, IssuerPhase},
    key::{Der, KeyKind},
    member::{Addresses, Member},
    root::{Ca, NewRoot, Root, RootPhase},
    spiffe::Name,
    state::{Cluster, StateRecord},
    time::Timestamp,
};

use super::stamped;

/// The server.
pub(in crate::invariants) const NODE: NodeId = NodeId(1);

pub(in crate::invariants) fn root(id: KeyId, phase: RootPhase, activation: u64, created: u64) -> StateRecord {
    let made = NewRoot {
        id,
        provider: String::new(),
        certificate: Der::from(id.0.as_slice()),
        chain: Vec::new(),
        key_kind: KeyKind::EcP256,
        not_before: Timestamp(0),
        not_after: Timestamp(u64::MAX),
        sealed_key: None,
    };
    let (created, modified, phase_since) = (Revision(created), Revision(created), Timestamp(0));
    StateRecord::Root(
        Ca::Mesh,
        Arc::new(Root { made, phase, activation, bridge: None, phase_since, created, modified }),
    )
}

fn member() -> StateRecord {
    StateRecord::Member(Arc::new(Member {
        node: NODE,
        name: Name::parse("node name", "a").unwrap(),
        store: StoreId([0; 16]),
        addresses: Addresses { raft: "a:1".into(), grpc: "a:2".into(), wan: None },
        sealing_recipient: String::new(),
        supports: FeatureLevel(1),
        certificate: None,
        former_key: None,
        request: None,
        is_leaving: false,
        admitted_at: Timestamp(0),
        created: Revision(1),
        modified: Revision(1),
    }))
}

/// An issuer of that server under a root.
pub(in crate::invariants) fn issuer(root: KeyId, not_after: Timestamp) -> StateRecord {
    StateRecord::Issuer(Arc::new(Issuer {
        id: KeyId([3; 20]),
        node: NODE,
        root,
        certificate: Der::from([0].as_slice()),
        key_kind: KeyKind::EcP256,
        not_before: Timestamp(0),
        not_after,
        phase: IssuerPhase::Live,
        created: Revision(3),
        modified: Revision(3),
    }))
}

/// A state of that server with these roots, and what else is recorded.
pub(in crate::invariants) fn state(roots: [StateRecord; 2], others: Vec<StateRecord>) -> State {
    let Some(StateRecord::Head(mut head)) = stamped(5, 1).to_records().next() else { panic!("no head") };
    (head.mesh_activation, head.next_node) = (2, NodeId(2));
    let cluster = Cluster {
        id: uuid::Uuid::nil(),
        datacenter: Name::parse("datacenter", "dc1").unwrap(),
        trust_domain: "example.org".parse().unwrap(),
        recovery: None,
        feature_level: FeatureLevel(1),
        is_halted: false,
    };
    let records = [StateRecord::Head(head), StateRecord::Cluster(Arc::new(cluster)), member()];
    State::from_records(records.into_iter().chain(roots).chain(others)).unwrap()
}
