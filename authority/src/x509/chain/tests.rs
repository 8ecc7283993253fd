//! Chains over issuers and bridges for every pair of kinds of keys, and the ones that others accepted.

use std::sync::Arc;

use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyUsagePurpose, SanType};

use super::*;
use crate::{
    id::{NodeId, Serial},
    key::{KeyKind, Signer},
    leaf::end_entity_template,
    spiffe::Identity,
    x509::{
        authority::{SignedCertificate, Subject, sign_root},
        request::ia5,
        server::{ServerProfile, ServerRootProfile, server, server_root},
        testing::{
            DAY, NOW, TestSigner, authority, key, leaf_issuer, make_bridge, make_issuer, make_leaf, make_root, name,
            serial, service, trust_domain,
        },
        validity::Validity,
    },
};

/// A root, an issuer under it and a leaf, each with its own key.
struct Mesh {
    root: SignedCertificate,
    issuer: SignedCertificate,
    leaf: SignedCertificate,
}

fn seeded(seed: u8) -> Arc<TestSigner> {
    Arc::new(TestSigner::seeded(seed))
}

fn mesh_of(root_key: &Arc<TestSigner>, issuer_key: &Arc<TestSigner>, leaf_key: &dyn Signer) -> Mesh {
    let root = make_root(&**root_key);
    let issuer = make_issuer(&authority(&root, root_key.clone()), &**issuer_key);
    let leaf = make_leaf(&leaf_issuer(&root, &issuer, issuer_key.clone()), leaf_key, &service("web"));
    Mesh { root, issuer, leaf }
}

fn mesh() -> Mesh {
    mesh_of(&seeded(1), &seeded(2), &*seeded(4))
}

fn verify(
    leaf: &SignedCertificate,
    intermediates: &[&SignedCertificate],
    anchors: &[&SignedCertificate],
) -> Result<SpiffeId, ChainError> {
    verify_at(leaf, intermediates, anchors, NOW)
}

fn verify_at(
    leaf: &SignedCertificate,
    intermediates: &[&SignedCertificate],
    anchors: &[&SignedCertificate],
    now: Timestamp,
) -> Result<SpiffeId, ChainError> {
    let bytes = |certificates: &[&SignedCertificate]| -> Vec<Vec<u8>> {
        certificates.iter().map(|certificate| certificate.der.as_bytes().to_vec()).collect()
    };
    let (intermediates, anchors) = (bytes(intermediates), bytes(anchors));
    let intermediates: Vec<&[u8]> = intermediates.iter().map(Vec::as_slice).collect();
    let anchors: Vec<&[u8]> = anchors.iter().map(Vec::as_slice).collect();
    let verify = |usage| verify_chain(leaf.der.as_bytes(), &intermediates, &anchors, now, usage);
    let (client, server) = (verify(Usage::Client), verify(Usage::Server));
    assert_eq!(client.is_ok(), server.is_ok());
    client
}

/// A certificate that our profiles would never make.
fn odd(
    ca: &SignedCertificate,
    ca_key: Arc<TestSigner>,
    template: CertificateParams,
    key: &dyn Signer,
) -> SignedCertificate {
    let dates = Validity { not_before: NOW.floor_to_second(), not_after: NOW.plus(DAY).floor_to_second() };
    authority(ca, ca_key).sign(template, Subject::new(key.public_key()), serial(9), dates).unwrap()
}

fn odd_ca(common_name: &str, path_length: Option<u8>) -> CertificateParams {
    let mut template = CertificateParams::default();
    template.distinguished_name = rcgen::DistinguishedName::new();
    template.distinguished_name.push(rcgen::DnType::CommonName, common_name);
    template.is_ca = IsCa::Ca(path_length.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
    template.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    template
}

fn odd_leaf(names: &[&str]) -> CertificateParams {
    let mut template = end_entity_template();
    template.subject_alt_names = names.iter().map(|name| SanType::URI(ia5(name).unwrap())).collect();
    template
}

#[test]
fn every_pair_of_kinds_of_keys_verifies_from_leaf_to_root() {
    for issuer_kind in KeyKind::ALL {
        for leaf_kind in KeyKind::ALL {
            let mesh = mesh_of(&key(issuer_kind), &Arc::new(TestSigner::new(KeyKind::EcP256)), &*key(leaf_kind));
            let Identity::Spiffe(web) = service("web") else { panic!("a SPIFFE id") };
            assert_eq!(verify(&mesh.leaf, &[&mesh.issuer], &[&mesh.root]), Ok(web.clone()), "root {issuer_kind}");
            let mesh = mesh_of(&seeded(1), &key(issuer_kind), &*key(leaf_kind));
            assert_eq!(verify(&mesh.leaf, &[&mesh.issuer], &[&mesh.root]), Ok(web), "{issuer_kind} signs {leaf_kind}");
        }
    }
}

#[test]
fn a_leaf_under_the_next_root_leads_over_the_bridge_to_the_former_one_for_each_pair_of_kinds() {
    for old_kind in KeyKind::ALL {
        for new_kind in KeyKind::ALL {
            let old_key = if old_kind == new_kind { seeded(7) } else { key(old_kind) };
            let old_root = make_root(&*old_key);
            let mesh = mesh_of(&key(new_kind), &seeded(2), &*seeded(4));
            let bridge = make_bridge(&authority(&old_root, old_key), &mesh.root);
            assert!(verify(&mesh.leaf, &[&mesh.issuer, &bridge], &[&old_root]).is_ok(), "{old_kind} to {new_kind}");
            assert!(verify(&mesh.leaf, &[&bridge, &mesh.issuer], &[&mesh.root]).is_ok(), "{old_kind} to {new_kind}");
            assert!(verify(&mesh.leaf, &[&mesh.issuer], &[&old_root]).is_err());
        }
    }
}

#[test]
fn a_path_length_holds_at_anchors_too() {
    let mesh = mesh();
    let old_key = seeded(7);
    let dates =
        Validity { not_before: NOW.minus(DAY * 9).floor_to_second(), not_after: NOW.plus(DAY * 999).floor_to_second() };
    let make = |length| sign_root(odd_ca("tight root", Some(length)), &*old_key, serial(1), dates).unwrap();
    let (none, one, two) = (make(0), make(1), make(2));
    let bridge = make_bridge(&authority(&two, old_key.clone()), &mesh.root);
    assert!(verify(&mesh.leaf, &[&mesh.issuer, &bridge], &[&two]).is_ok());
    let refusal = verify(&mesh.leaf, &[&mesh.issuer, &bridge], &[&one]).unwrap_err();
    assert!(refusal.to_string().contains("than its path length allows"), "{refusal}");
    assert!(verify(&mesh.leaf, &[&mesh.issuer, &bridge], &[&none]).is_err());
    assert!(verify(&mesh.leaf, &[&mesh.issuer, &bridge], &[&none, &two]).is_ok(), "one of several anchors is enough");
    let direct = make_issuer(&authority(&one, old_key), &*seeded(2));
    assert!(verify(&mesh.leaf, &[&direct], &[&one]).is_ok(), "one CA below path length 1");
    assert!(verify(&mesh.leaf, &[&direct], &[&none]).is_err());
}

#[test]
fn an_issuer_below_an_issuer_is_refused() {
    let mesh = mesh();
    let below = odd(&mesh.issuer, seeded(2), odd_ca("below", None), &*seeded(5));
    let leaf = odd(&below, seeded(5), odd_leaf(&[&service("web").to_string()]), &*seeded(6));
    let refusal = verify(&leaf, &[&below, &mesh.issuer], &[&mesh.root]).unwrap_err();
    assert_eq!(refusal, ChainError::Untrusted(webpki::Error::PathLenConstraintViolated));
}

#[test]
fn a_leaf_with_no_uri_two_uris_or_another_name_is_refused() {
    let mesh = mesh();
    let (web, api) = (service("web").to_string(), service("api").to_string());
    let verify_names = |names: &[&str]| {
        let leaf = odd(&mesh.issuer, seeded(2), odd_leaf(names), &*seeded(4));
        verify(&leaf, &[&mesh.issuer], &[&mesh.root])
    };
    assert!(verify_names(&[&web]).is_ok());
    assert_eq!(verify_names(&[]), Err(ChainError::UriCount { count: 0 }));
    assert_eq!(verify_names(&[&web, &api]), Err(ChainError::UriCount { count: 2 }));
    assert_eq!(verify_names(&[&web, &web]), Err(ChainError::UriCount { count: 2 }));
    for bad in ["spiffe://example.org", "https://example.org", "spiffe://Example.org/ns/default/dc/dc1/svc/web", "x"] {
        assert!(matches!(verify_names(&[bad]), Err(ChainError::Name(_))), "{bad}");
    }
}

#[test]
fn the_text_of_a_uri_in_a_dns_name_is_no_identity() {
    let mesh = mesh();
    let mut template = end_entity_template();
    template.subject_alt_names = vec![SanType::DnsName(ia5(&service("web").to_string()).unwrap())];
    let leaf = odd(&mesh.issuer, seeded(2), template, &*seeded(4));
    assert_eq!(verify(&leaf, &[&mesh.issuer], &[&mesh.root]), Err(ChainError::UriCount { count: 0 }));
}

#[test]
fn a_ca_certificate_is_no_leaf_and_a_leaf_is_no_ca() {
    let mesh = mesh();
    assert!(matches!(verify(&mesh.issuer, &[], &[&mesh.root]), Err(ChainError::Unsuited { .. })));
    assert!(matches!(verify(&mesh.root, &[], &[&mesh.root]), Err(ChainError::Unsuited { .. })));
    let web = service("web").to_string();
    let mut signing = odd_leaf(&[&web]);
    signing.key_usages.push(KeyUsagePurpose::KeyCertSign);
    let leaf = odd(&mesh.issuer, seeded(2), signing, &*seeded(4));
    assert!(matches!(verify(&leaf, &[&mesh.issuer], &[&mesh.root]), Err(ChainError::Unsuited { .. })));
    let mut silent = odd_leaf(&[&web]);
    silent.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    let leaf = odd(&mesh.issuer, seeded(2), silent, &*seeded(4));
    assert!(matches!(verify(&leaf, &[&mesh.issuer], &[&mesh.root]), Err(ChainError::Unsuited { .. })));
}

#[test]
fn a_leaf_for_one_side_of_the_handshake_is_refused_on_the_other() {
    let mesh = mesh();
    let mut template = odd_leaf(&[&service("web").to_string()]);
    template.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = odd(&mesh.issuer, seeded(2), template, &*seeded(4));
    let verify = |usage| {
        verify_chain(leaf.der.as_bytes(), &[mesh.issuer.der.as_bytes()], &[mesh.root.der.as_bytes()], NOW, usage)
    };
    assert!(verify(Usage::Client).is_ok());
    assert!(matches!(verify(Usage::Server), Err(ChainError::Unsuited { .. })));
}

#[test]
fn a_certificate_of_another_ca_with_the_same_names_is_refused() {
    let (ours, theirs) = (mesh(), mesh_of(&seeded(1), &seeded(8), &*seeded(4)));
    let copy = mesh_of(&seeded(9), &seeded(2), &*seeded(4));
    assert!(verify(&theirs.leaf, &[&ours.issuer], &[&ours.root]).is_err());
    assert!(verify(&copy.leaf, &[&copy.issuer], &[&ours.root]).is_err());
    assert!(verify(&ours.leaf, &[&ours.issuer], &[]).is_err());
    assert!(verify(&ours.leaf, &[], &[&ours.root]).is_err());
}

#[test]
fn a_thousand_intermediates_are_refused_before_any_is_read() {
    let mesh = mesh();
    let many = vec![&mesh.issuer; 1000];
    let refusal = verify(&mesh.leaf, &many, &[&mesh.root]).unwrap_err();
    assert!(matches!(refusal, ChainError::TooMany { count: 1000, count_max: INTERMEDIATES_MAX, .. }), "{refusal}");
    let same_subject: Vec<_> =
        (10..18).map(|seed| odd(&mesh.root, seeded(1), odd_ca("same", None), &*seeded(seed))).collect();
    let same_subject: Vec<_> = same_subject.iter().collect();
    assert!(verify(&mesh.leaf, &same_subject, &[&mesh.root]).is_err());
    assert!(verify(&mesh.leaf, &[&mesh.issuer], &vec![&mesh.root; ANCHORS_MAX + 1]).is_err());
}

#[test]
fn a_chain_holds_from_the_first_to_the_last_second_of_its_leaf() {
    let mesh = mesh();
    let facts = &mesh.leaf.facts;
    let at = |now| verify_at(&mesh.leaf, &[&mesh.issuer], &[&mesh.root], now).is_ok();
    assert!(at(facts.not_before) && at(facts.not_after) && at(facts.not_after.plus(Duration::from_millis(999))));
    assert!(!at(facts.not_before.minus(Duration::from_millis(1))) && !at(facts.not_after.plus(Duration::from_secs(1))));
}

#[test]
fn an_expired_root_is_trusted_no_longer() {
    let mesh = mesh();
    let dates =
        Validity { not_before: NOW.minus(DAY * 9).floor_to_second(), not_after: NOW.minus(DAY).floor_to_second() };
    let mut template = odd_ca("carrack root", None);
    template.distinguished_name =
        crate::x509::name::ca_name("carrack root", "", &seeded(1).public_key().id, "example.org");
    let expired = sign_root(template, &*seeded(1), serial(1), dates).unwrap();
    let refusal = verify(&mesh.leaf, &[&mesh.issuer], &[&expired]).unwrap_err();
    assert!(matches!(refusal, ChainError::OutsideItsDates { .. }), "{refusal}");
    assert!(verify(&mesh.leaf, &[&mesh.issuer], &[&expired, &mesh.root]).is_ok());
}

#[test]
fn a_leaf_outside_its_issuers_dates_is_refused() {
    let mesh = mesh();
    let dates = Validity { not_before: mesh.issuer.facts.not_before, not_after: mesh.issuer.facts.not_after.plus(DAY) };
    let key = seeded(4);
    let template = odd_leaf(&[&service("web").to_string()]);
    let leaf =
        authority(&mesh.issuer, seeded(2)).sign(template, Subject::new(key.public_key()), serial(9), dates).unwrap();
    let refusal = verify(&leaf, &[&mesh.issuer], &[&mesh.root]).unwrap_err();
    assert!(refusal.to_string().contains("its dates are not within its issuer's"), "{refusal}");
}

#[test]
fn a_server_chain_names_its_server_and_is_no_mesh_chain() {
    let cluster = uuid::Uuid::from_u128(7);
    let profile =
        ServerRootProfile { cluster: &cluster, datacenter: &name("dc1"), serial: serial(1), now: NOW, ttl: DAY * 99 };
    let root = server_root(&*seeded(1), &profile).unwrap();
    let id = ServerId { cluster, datacenter: name("dc1"), node: NodeId(3) };
    let csr = crate::x509::csr::VerifiedServerCsr::of_own_key(&*seeded(2));
    let profile = ServerProfile {
        csr: &csr,
        id: &id,
        dns_names: &["localhost".parse().unwrap()],
        ip_addresses: &[],
        serial: serial(2),
        now: NOW,
        ttl: DAY * 30,
    };
    let certificate = server(&authority(&root, seeded(1)), &profile).unwrap();
    let (leaf, anchors) = (certificate.der.as_bytes(), [root.der.as_bytes()]);
    assert_eq!(verify_server_chain(leaf, &[], &anchors, NOW, Usage::Client), Ok(id));
    assert!(matches!(verify_chain(leaf, &[], &anchors, NOW, Usage::Client), Err(ChainError::Name(_))));
    let mesh = mesh();
    let mesh_as_server = verify_server_chain(
        mesh.leaf.der.as_bytes(),
        &[mesh.issuer.der.as_bytes()],
        &[mesh.root.der.as_bytes()],
        NOW,
        Usage::Client,
    );
    assert!(matches!(mesh_as_server, Err(ChainError::Name(_))));
}

#[test]
fn the_answer_to_an_issuer_request_is_checked_in_every_part() {
    let mesh = mesh();
    let check = |certificate: &SignedCertificate, key: &dyn Signer, root: &SignedCertificate, now| {
        check_issuer(certificate.der.as_bytes(), key.public_key(), &root.facts, &trust_domain(), now)
    };
    assert_eq!(check(&mesh.issuer, &*seeded(2), &mesh.root, NOW), Ok(mesh.issuer.facts.clone()));
    assert!(check(&mesh.issuer, &*seeded(3), &mesh.root, NOW).is_err(), "another key");
    assert!(check(&mesh.issuer, &*seeded(2), &make_root(&*seeded(7)), NOW).is_err(), "another root");
    assert!(check(&mesh.leaf, &*seeded(4), &mesh.issuer, NOW).is_err(), "a leaf");
    assert!(check(&mesh.issuer, &*seeded(2), &mesh.root, mesh.issuer.facts.not_after.plus(DAY)).is_err(), "expired");
    let other_domain = check_issuer(
        mesh.issuer.der.as_bytes(),
        seeded(2).public_key(),
        &mesh.root.facts,
        &"other.org".parse().unwrap(),
        NOW,
    );
    assert!(other_domain.is_err());
    let named = |length| {
        let mut template = odd_ca("issuer", length);
        template.subject_alt_names = vec![SanType::URI(ia5("spiffe://example.org").unwrap())];
        template
    };
    let odd_issuer = |template| odd(&mesh.root, seeded(1), template, &*seeded(2));
    assert!(check(&odd_issuer(named(Some(0))), &*seeded(2), &mesh.root, NOW).is_ok());
    assert!(check(&odd_issuer(named(None)), &*seeded(2), &mesh.root, NOW).is_err(), "no path length");
    assert!(check(&odd_issuer(named(Some(1))), &*seeded(2), &mesh.root, NOW).is_err(), "path length 1");
    assert!(check(&odd_issuer(odd_ca("issuer", Some(0))), &*seeded(2), &mesh.root, NOW).is_err(), "no URI");
    let mut no_signing = named(Some(0));
    no_signing.key_usages = vec![KeyUsagePurpose::CrlSign];
    assert!(check(&odd_issuer(no_signing), &*seeded(2), &mesh.root, NOW).is_err(), "no keyCertSign");
    let mut purposes = named(Some(0));
    purposes.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    assert!(check(&odd_issuer(purposes), &*seeded(2), &mesh.root, NOW).is_err(), "purposes");
    let mut changed = mesh.issuer.clone();
    let mut bytes = changed.der.as_bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    changed.der = Der::from(bytes);
    assert!(check(&changed, &*seeded(2), &mesh.root, NOW).is_err(), "a bad signature");
}

#[test]
fn a_served_chain_is_leaf_issuer_and_a_bridge_that_outlives_the_leaf() {
    let (mesh, old_root) = (mesh(), make_root(&*seeded(7)));
    let bridge = make_bridge(&authority(&old_root, seeded(7)), &mesh.root);
    let with_bridge = [&mesh.leaf.der, &mesh.issuer.der, &bridge.der].map(Clone::clone).to_vec();
    let without = with_bridge[..2].to_vec();
    for good in [&with_bridge, &without] {
        assert_eq!(check_served_chain(good, &mesh.root.facts), Ok(()));
    }
    let [leaf, issuer, root, bridge] = [&mesh.leaf, &mesh.issuer, &mesh.root, &bridge].map(|it| it.der.clone());
    for bad in [
        vec![],
        vec![leaf.clone()],
        vec![issuer.clone(), leaf.clone()],
        vec![leaf.clone(), issuer.clone(), root.clone()],
        vec![leaf.clone(), root],
        vec![leaf.clone(), issuer.clone(), issuer.clone()],
        vec![leaf.clone(), bridge.clone(), issuer.clone()],
        vec![leaf.clone(), issuer.clone(), bridge.clone(), bridge],
        vec![leaf.clone(), leaf],
    ] {
        assert!(check_served_chain(&bad, &mesh.root.facts).is_err(), "{bad:?}");
    }
    assert!(check_served_chain(&without, &make_root(&*seeded(7)).facts).is_err());
}

proptest! {
    #[test]
    fn a_changed_leaf_is_never_accepted(place in any::<prop::sample::Index>(), change in 1_u8..) {
        let mut mesh = mesh();
        let mut bytes = mesh.leaf.der.as_bytes().to_vec();
        let place = place.index(bytes.len());
        bytes[place] ^= change;
        mesh.leaf.der = Der::from(bytes);
        prop_assert!(verify(&mesh.leaf, &[&mesh.issuer], &[&mesh.root]).is_err());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(CertificateFacts::read(&bytes).is_err());
        prop_assert!(verify_path(&bytes, &[&bytes], &[&bytes], NOW, Usage::Client).is_err());
    }

    #[test]
    fn a_chain_that_verifies_is_within_all_of_its_dates(days in -40_i32..4000) {
        let mesh = mesh();
        let shift = DAY * days.unsigned_abs();
        let now = if days < 0 { NOW.minus(shift) } else { NOW.plus(shift) };
        let is_valid = verify_at(&mesh.leaf, &[&mesh.issuer], &[&mesh.root], now).is_ok();
        let within = [&mesh.leaf, &mesh.issuer, &mesh.root].iter().all(|it| it.facts.is_valid_at(now));
        prop_assert_eq!(is_valid, within);
    }
}

#[test]
fn serials_of_certificates_are_positive_and_at_most_20_octets() {
    let serial = Serial::from_random([0xff; 20]);
    let key = seeded(4);
    let mesh = mesh();
    let dates = Validity { not_before: NOW.floor_to_second(), not_after: NOW.plus(DAY).floor_to_second() };
    let leaf = authority(&mesh.issuer, seeded(2))
        .sign(odd_leaf(&[&service("web").to_string()]), Subject::new(key.public_key()), serial, dates)
        .unwrap();
    assert_eq!(leaf.facts.serial.0[0], 0x7f);
    assert!(verify(&leaf, &[&mesh.issuer], &[&mesh.root]).is_ok());
}
