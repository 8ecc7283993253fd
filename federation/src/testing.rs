//! Values that tests of both sides begin with.

use std::time::Duration;

use carrack_authority::{
    ca_config::CaConfig,
    command::Bootstrap,
    id::{FeatureLevel, KeyId, NodeId, Revision, StoreId},
    key::{Der, KeyKind},
    member::{Addresses, Member},
    root::NewRoot,
    spiffe::Name,
    time::Timestamp,
};
use uuid::Uuid;

/// When every test begins: 2026-01-01T00:00:00Z.
pub(crate) const START: Timestamp = Timestamp(1_767_225_600_000);

pub(crate) fn name(text: &str) -> Name {
    Name::parse("name", text).expect("a name")
}

pub(crate) fn der(text: &str) -> Der {
    Der::from(text.as_bytes())
}

pub(crate) fn new_root(of: &str, id: KeyId) -> NewRoot {
    NewRoot {
        id,
        provider: "builtin".into(),
        certificate: der(of),
        chain: Vec::new(),
        key_kind: KeyKind::EcP256,
        not_before: START,
        not_after: START.plus(Duration::from_secs(86_400 * 3650)),
        sealed_key: None,
    }
}

/// The beginning of a datacenter of one server `x`.
pub(crate) fn bootstrap(datacenter: &str, cluster: u128) -> Bootstrap {
    let member = Member {
        node: NodeId(1),
        name: name("x"),
        store: StoreId([3; 16]),
        addresses: Addresses { raft: "x:8300".into(), grpc: "x:8503".into(), wan: Some("x:8302".into()) },
        sealing_recipient: "age1x".into(),
        supports: FeatureLevel(1),
        certificate: None,
        former_key: None,
        request: None,
        is_leaving: false,
        admitted_at: START,
        created: Revision(0),
        modified: Revision(0),
    };
    Bootstrap {
        cluster: Uuid::from_u128(cluster),
        datacenter: name(datacenter),
        trust_domain: "example.org".parse().expect("a trust domain"),
        feature_level: FeatureLevel(1),
        recovery: None,
        member,
        server_root: new_root("server root", KeyId([2; 20])),
        config: CaConfig::default(),
    }
}
