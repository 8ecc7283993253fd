//! Tests of `tls::wan_verifier`: whose servers are let in on the WAN port, and on whose word.

use std::time::Duration;

use carrack_authority::{id::NodeId, x509::ServerId};
use rcgen::ExtendedKeyUsagePurpose;
use uuid::Uuid;

use super::*;
use crate::{
    keys::server_keys::ServerCredential,
    tls::{
        identity::certificate,
        testing::{SERVER_TTL, START, ServerCa, presented, uri, wan_trust},
        wan_trust::TrustedDatacenter,
    },
};

/// Three datacenters; the first one's servers decide.
struct World {
    one: ServerCa,
    two: ServerCa,
    three: ServerCa,
    trust: Arc<WanTrust>,
}

impl World {
    fn new() -> Self {
        let [one, two, three] = [(1, "dc1"), (2, "dc2"), (3, "dc3")].map(|(id, name)| ServerCa::new(id, name));
        let trust = wan_trust(&one, &[&two, &three]);
        Self { one, two, three, trust }
    }

    fn verify_at(&self, credential: &ServerCredential, now: Timestamp) -> Result<VerifiedServer, PeerRefusal> {
        let rule = WanVerifier::new(self.trust.clone(), None);
        let verdicts = [PeerSide::Client, PeerSide::Server].map(|side| rule.verify(&presented(credential), now, side));
        assert_eq!(verdicts[0], verdicts[1], "both sides decide alike");
        let [verdict, _] = verdicts;
        verdict
    }

    fn refusal(&self, credential: &ServerCredential) -> PeerRefusal {
        self.verify_at(credential, START).unwrap_err()
    }
}

#[test]
fn a_server_of_a_trusted_datacenter_is_let_in_until_its_certificate_ends_and_never_after() {
    let world = World::new();
    let server = world.two.server(7);
    let verified = world.verify_at(&server, START).unwrap();
    assert_eq!(verified.id, world.two.id(7));
    let not_after = START.plus(SERVER_TTL);
    assert_eq!(verified.acceptance, Acceptance::Certificate { not_after });
    world.verify_at(&server, not_after).expect("the last second belongs to it");
    let expired = world.verify_at(&server, not_after.plus(Duration::from_secs(1))).unwrap_err();
    assert_eq!(expired, PeerRefusal::ExpiredElsewhere { server: world.two.id(7), not_after });
    assert_eq!(expired.code(), "expired");
    let early = world.verify_at(&server, START.minus(Duration::from_secs(3600))).unwrap_err();
    assert_eq!(early.code(), "chain");
}

#[test]
fn the_roots_of_one_datacenter_vouch_for_no_server_of_another() {
    let world = World::new();
    let forged = world.refusal(&world.two.named(&world.three.id(1)));
    assert!(matches!(&forged, PeerRefusal::ChainElsewhere { datacenter, .. } if *datacenter == world.three.datacenter));
    assert_eq!(forged.code(), "chain");
    let name_only = ServerId { cluster: world.two.cluster, ..world.three.id(1) };
    let expected = PeerRefusal::OtherClusterOf {
        datacenter: world.three.datacenter.clone(),
        found: world.two.cluster,
        expected: world.three.cluster,
    };
    assert_eq!(world.refusal(&world.two.named(&name_only)), expected);
    let cluster_only = ServerId { cluster: world.three.cluster, ..world.two.id(1) };
    assert_eq!(world.refusal(&world.two.named(&cluster_only)).code(), "other_cluster");
    let of_own = world.refusal(&world.two.named(&world.one.id(1)));
    assert_eq!(of_own.code(), "own_datacenter");
    assert_eq!(world.refusal(&ServerCa::new(2, "dc2").server(1)).code(), "chain", "the same names, another CA");
}

#[test]
fn a_server_that_its_datacenter_removed_is_refused_and_one_that_joined_since_is_not() {
    let world = World::new();
    let servers = [1, 2, 3, 4].map(|node| world.two.server(node));
    assert_eq!(world.trust.replace(vec![world.two.as_trusted_with(&[1, 3], 4), world.three.as_trusted()]), []);
    let verdicts = servers.each_ref().map(|server| world.verify_at(server, START));
    assert!(verdicts[0].is_ok() && verdicts[2].is_ok());
    assert!(verdicts[3].is_ok(), "its datacenter has not told of it yet");
    let removed = verdicts[1].clone().unwrap_err();
    assert_eq!(removed, PeerRefusal::RemovedElsewhere { server: world.two.id(2) });
    assert_eq!(removed.code(), "removed");
    assert!(removed.to_string().contains("never accepted again"), "{removed}");
    assert_eq!(world.refusal(&ServerCa::new(2, "dc2").server(2)).code(), "chain", "who is not even that server");
    assert!(world.verify_at(&world.three.server(2), START).is_ok(), "another datacenter's ids are its own");
}

#[test]
fn an_unknown_datacenter_and_one_that_was_made_anew_are_refused_with_what_to_do() {
    let world = World::new();
    let unknown = world.refusal(&ServerCa::new(4, "dc4").server(1));
    let datacenter = Name::parse("datacenter", "dc4").unwrap();
    assert_eq!(unknown, PeerRefusal::UnknownDatacenter { datacenter, cluster: Uuid::from_u128(4) });
    assert_eq!(unknown.code(), "unknown_datacenter");
    assert!(unknown.to_string().contains("carrack federation list"), "{unknown}");

    let anew = world.refusal(&ServerCa::new(9, "dc2").server(1));
    let (datacenter, found, expected) = (world.two.datacenter.clone(), Uuid::from_u128(9), world.two.cluster);
    assert_eq!(anew, PeerRefusal::OtherClusterOf { datacenter, found, expected });
    assert_eq!(anew.code(), "other_cluster");
    let namesake = world.refusal(&ServerCa::new(9, "dc1").server(1));
    assert_eq!(namesake.code(), "other_cluster", "another cluster has taken this datacenter's name");
}

#[test]
fn the_servers_of_this_datacenter_are_refused_even_if_it_is_in_the_list() {
    let world = World::new();
    let expected = PeerRefusal::OwnDatacenter { node: NodeId(2), datacenter: world.one.datacenter.clone() };
    assert_eq!(world.refusal(&world.one.server(2)), expected);
    assert_eq!(world.trust.replace(vec![world.one.as_trusted(), world.two.as_trusted()]), []);
    assert_eq!(world.refusal(&world.one.server(2)), expected);
    assert!(world.verify_at(&world.two.server(1), START).is_ok());
}

#[test]
fn what_names_no_server_or_is_for_another_use_is_refused() {
    let world = World::new();
    for name in
        ["spiffe://example.org/ns/default/dc/dc2/svc/web", "spiffe://example.org/agent/client/dc/dc2/id/a", "dc2"]
    {
        let forged = world.two.forged(|params| params.subject_alt_names = vec![uri(name)]);
        assert!(["not_a_server", "unreadable"].contains(&world.refusal(&forged).code()), "{name}");
    }
    let rule = WanVerifier::new(world.trust.clone(), None);
    let only_server = world.two.forged(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert!(rule.verify(&presented(&only_server), START, PeerSide::Server).is_ok());
    assert_eq!(rule.verify(&presented(&only_server), START, PeerSide::Client).unwrap_err().code(), "chain");
    assert_eq!(rule.verify(&[], START, PeerSide::Client).unwrap_err().code(), "chain");
    let long: Vec<_> = presented(&world.two.server(1)).iter().cycle().take(1000).cloned().collect();
    assert_eq!(rule.verify(&long, START, PeerSide::Client).unwrap_err().code(), "chain_too_long");
}

#[test]
fn only_the_dialled_datacenter_answers() {
    let world = World::new();
    let rule = WanVerifier::new(world.trust.clone(), Some(world.two.datacenter.clone()));
    assert!(rule.verify(&presented(&world.two.server(5)), START, PeerSide::Server).is_ok());
    let (found, expected) = (world.three.datacenter.clone(), world.two.datacenter.clone());
    let refusal = rule.verify(&presented(&world.three.server(5)), START, PeerSide::Server).unwrap_err();
    assert_eq!(refusal, PeerRefusal::OtherDatacenter { found, expected });
}

#[test]
fn a_rotated_server_ca_is_trusted_by_both_roots_by_a_bridge_and_no_more_by_a_pruned_root() {
    let mut world = World::new();
    let new = ServerCa::new(2, "dc2");
    assert_eq!(world.refusal(&new.server(1)).code(), "chain");
    let mut bridged = presented(&new.server(1));
    bridged.push(certificate(&new.bridge(&world.two)));
    let rule = WanVerifier::new(world.trust.clone(), None);
    assert_eq!(rule.verify(&bridged, START, PeerSide::Client).unwrap().id, world.two.id(1));

    let both = TrustedDatacenter { roots: vec![new.root.clone(), world.two.root.clone()], ..new.as_trusted() };
    assert_eq!(world.trust.replace(vec![both, world.three.as_trusted()]), []);
    assert!(world.verify_at(&world.two.server(1), START).is_ok() && world.verify_at(&new.server(1), START).is_ok());

    assert_eq!(world.trust.replace(vec![new.as_trusted(), world.three.as_trusted()]), []);
    assert_eq!(world.refusal(&world.two.server(1)).code(), "chain");
    world.two = new;
    assert!(world.verify_at(&world.two.server(1), START).is_ok());
}
