//! Whoever trusts one of the two roots, or the company's own, verifies what is served, and is served nothing that it has.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyUsagePurpose};

use super::*;
use crate::{
    id::Revision,
    key::Signer as _,
    root::{NewRoot, RootPhase},
    x509::{
        authority::{SignedCertificate, Subject, sign_root},
        chain::{INTERMEDIATES_MAX, Usage, verify_chain},
        testing::{
            DAY, NOW, TestSigner, authority, leaf_issuer, make_bridge, make_issuer, make_leaf, make_root, serial,
            service,
        },
        validity::Validity,
    },
};

fn seeded(seed: u8) -> Arc<TestSigner> {
    Arc::new(TestSigner::seeded(seed))
}

const DATES: Validity =
    Validity { not_before: Timestamp::from_seconds(1_790_000_000), not_after: Timestamp::from_seconds(2_000_000_000) };

fn template(common_name: &str) -> CertificateParams {
    let mut template = CertificateParams::default();
    template.distinguished_name = rcgen::DistinguishedName::new();
    template.distinguished_name.push(rcgen::DnType::CommonName, common_name);
    template.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    template.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    template
}

fn company() -> SignedCertificate {
    sign_root(template("Example Root"), &*seeded(9), serial(1), DATES).unwrap()
}

fn below(ca: &SignedCertificate, ca_key: u8, common_name: &str, key: u8) -> SignedCertificate {
    let key = seeded(key);
    authority(ca, seeded(ca_key)).sign(template(common_name), Subject::new(key.public_key()), serial(2), DATES).unwrap()
}

fn record(
    root: &SignedCertificate,
    chain: &[&SignedCertificate],
    bridge: Option<(&SignedCertificate, &SignedCertificate)>,
) -> Root {
    let facts = &root.facts;
    Root {
        made: NewRoot {
            id: facts.key_id.unwrap(),
            provider: "builtin".into(),
            certificate: root.der.clone(),
            chain: chain.iter().map(|certificate| certificate.der.clone()).collect(),
            key_kind: facts.public_key.kind,
            not_before: facts.not_before,
            not_after: facts.not_after,
            sealed_key: None,
        },
        phase: RootPhase::Active,
        activation: 1,
        bridge: bridge.map(|(bridge, signed_by)| Bridge {
            certificate: bridge.der.clone(),
            signed_by: signed_by.facts.key_id.unwrap(),
            not_before: bridge.facts.not_before,
            not_after: bridge.facts.not_after,
        }),
        phase_since: NOW,
        created: Revision::default(),
        modified: Revision::default(),
    }
}

/// A root with its key, and what is above it.
struct Side {
    root: SignedCertificate,
    key: u8,
    chain: Vec<SignedCertificate>,
}

/// What is served with a leaf under `new` while there is a bridge from `old`, verified by each of the anchors.
fn serve(old: &Side, new: &Side, anchors: &[&SignedCertificate]) -> Vec<Der> {
    let bridge = make_bridge(&authority(&old.root, seeded(old.key)), &new.root);
    let record_of = |side: &Side, bridge| record(&side.root, &side.chain.iter().collect::<Vec<_>>(), bridge);
    let above = Above::new(&record_of(new, Some((&bridge, &old.root))), Some(&record_of(old, None))).unwrap();
    let issuer = make_issuer(&authority(&new.root, seeded(new.key)), &*seeded(20));
    let leaf = make_leaf(&leaf_issuer(&new.root, &issuer, seeded(20)), &*seeded(21), &service("web"));
    let served = above.serve(&issuer.der, leaf.facts.not_after);
    assert!(served.len() <= INTERMEDIATES_MAX, "{}", served.len());
    assert_eq!(served[..2], [issuer.der.clone(), bridge.der.clone()]);
    let chain: Vec<&[u8]> = served.iter().map(Der::as_bytes).collect();
    for anchor in anchors {
        for usage in [Usage::Client, Usage::Server] {
            verify_chain(leaf.der.as_bytes(), &chain, &[anchor.der.as_bytes()], NOW, usage).unwrap();
        }
        assert!(!anchor.facts.is_self_issued() || !served.contains(&anchor.der), "a self-signed certificate is served");
    }
    let late = above.serve(&issuer.der, bridge.facts.not_after.plus(DAY));
    assert!(!late.contains(&bridge.der), "a bridge that ends before the leaf is left out");
    served
}

fn own_root(key: u8) -> Side {
    Side { root: make_root(&*seeded(key)), key, chain: Vec::new() }
}

#[test]
fn between_self_signed_roots_the_bridge_alone_is_served() {
    let (old, new) = (own_root(1), own_root(2));
    assert_eq!(serve(&old, &new, &[&old.root, &new.root]).len(), 2);
}

#[test]
fn a_supplied_intermediate_is_crossed_both_ways_and_between_its_likes() {
    let company = company();
    let policy = below(&company, 9, "Example Policy CA", 8);
    let supplied = |key: u8, name: &str| Side { root: below(&policy, 8, name, key), key, chain: vec![policy.clone()] };
    let (first, second, own) = (supplied(1, "Mesh CA 1"), supplied(2, "Mesh CA 2"), own_root(3));
    assert_eq!(serve(&own, &first, &[&own.root, &first.root, &company, &policy]).len(), 4);
    assert_eq!(serve(&first, &own, &[&own.root, &first.root, &company, &policy]).len(), 4);
    let between = serve(&first, &second, &[&second.root, &first.root, &company, &policy]);
    assert_eq!(between.len(), 5, "what is above both is served once");
}

#[test]
fn between_roots_of_two_companies_everything_fits_the_bound() {
    let deep = |first_key: u8| {
        let top = sign_root(template(&format!("Top {first_key}")), &*seeded(first_key), serial(1), DATES).unwrap();
        let mut cas = vec![top];
        for key in first_key + 1..first_key + 5 {
            cas.push(below(cas.last().unwrap(), key - 1, &format!("CA {key}"), key));
        }
        let root = cas.pop().unwrap();
        let top = cas.remove(0);
        cas.reverse();
        (Side { root, key: first_key + 4, chain: cas }, top)
    };
    let ((old, old_top), (new, new_top)) = (deep(30), deep(40));
    assert_eq!(old.chain.len(), crate::root::ROOT_CHAIN_MAX - 1);
    let served = serve(&old, &new, &[&old.root, &new.root, &old_top, &new_top]);
    assert_eq!(served.len(), INTERMEDIATES_MAX);
}

#[test]
fn without_a_bridge_an_intermediate_and_what_is_above_it_follow_the_issuer() {
    let company = company();
    let (root, issuer) = (below(&company, 9, "Mesh CA", 1), make_root(&*seeded(2)).der);
    let above = Above::new(&record(&root, &[], None), None).unwrap();
    assert_eq!(above.serve(&issuer, NOW), [issuer.clone(), root.der]);
    assert_eq!(Above::new(&record(&make_root(&*seeded(1)), &[], None), None).unwrap().serve(&issuer, NOW), [issuer]);
}
