//! Leaves, as another library reads them, and the requests that get none.

use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::{
    key::KeyKind,
    x509::{
        csr::CsrLimits,
        testing::{
            DAY, NOW, TestSigner, authority, describe, key, leaf_issuer, make_issuer, make_leaf, make_root, serial,
            service,
        },
    },
};

fn seeded(seed: u8) -> Arc<TestSigner> {
    Arc::new(TestSigner::seeded(seed))
}

/// A root and an issuer under it, each with an Ed25519 key that is the same in each run.
fn prepared() -> LeafIssuer {
    let root = make_root(&*seeded(1));
    let issuer = make_issuer(&authority(&root, seeded(1)), &*seeded(2));
    leaf_issuer(&root, &issuer, seeded(2))
}

#[test]
fn a_leaf_is_what_x509_svid_asks_for() {
    expect![[r#"
        serial 04:04:04:04:04:04:04:04:04:04:04:04:04:04:04:04:04:04:04:04
        issuer O=example.org, CN=carrack issuer dc1/a 6a3803d5f059902a
        subject 
        from 2026-11-22 11:59:00.0 +00:00:00 to 2026-11-25 12:00:00.0 +00:00:00
        signed by 1.3.101.112
        authority key identifier 6a:38:03:d5:f0:59:90:2a:1c:6d:af:bc:9b:a4:72:92:12:f7:ca:ac
        critical names [URI("spiffe://example.org/ns/default/dc/dc1/svc/web")]
        critical key usage Digital Signature
        purposes: server true, client true
        subject key identifier c5:b9:40:ed:3f:65:c3:91:96:5d:e8:29:5f:c5:d2:5f:47:4f:a5:7b
        critical CA false, path length None
    "#]]
    .assert_eq(&describe(&make_leaf(&prepared(), &*seeded(4), &service("web"))));
}

#[test]
fn a_leaf_of_a_linkerd_proxy_has_one_dns_name_and_no_uri() {
    let identity = Identity::LinkerdDns("web.default.serviceaccount.identity.linkerd.example.org".into());
    let leaf = make_leaf(&prepared(), &*seeded(4), &identity);
    assert_eq!(leaf.facts.dns_names, ["web.default.serviceaccount.identity.linkerd.example.org"]);
    assert!(leaf.facts.uris.is_empty());
}

#[test]
fn the_key_of_a_leaf_is_that_of_its_request_for_each_kind() {
    let issuer = prepared();
    for kind in KeyKind::ALL {
        let leaf = make_leaf(&issuer, &*key(kind), &service("web"));
        assert_eq!(leaf.facts.public_key, *key(kind).public_key());
    }
}

#[test]
fn a_p384_key_that_signs_its_request_with_sha_256_is_certified_as_p384() {
    let csr = include_str!("../../x509/csr/fixtures/p384_sha256.pem");
    let csr = VerifiedCsr::verify_pem(csr, &CsrLimits::default()).unwrap();
    let leaf = prepared().sign(&LeafProfile { csr: &csr, serial: serial(1), now: NOW, ttl: DAY }).unwrap();
    assert_eq!(leaf.facts.public_key.kind, KeyKind::EcP384);
    assert_eq!(leaf.facts.public_key, *csr.public_key());
}

#[test]
fn a_name_of_another_trust_domain_or_datacenter_gets_no_leaf() {
    for foreign in ["spiffe://evil.org/ns/default/dc/dc1/svc/web", "spiffe://example.org/ns/default/dc/dc2/svc/web"] {
        let csr = VerifiedCsr::of_own_key(&*seeded(4), Identity::Spiffe(foreign.parse().unwrap()));
        let refusal = prepared().sign(&LeafProfile { csr: &csr, serial: serial(1), now: NOW, ttl: DAY }).unwrap_err();
        assert!(matches!(refusal, IssueError::Foreign(_)), "{refusal}");
    }
}

#[test]
fn only_a_ca_with_its_own_key_becomes_a_leaf_issuer() {
    let issuer = prepared();
    let leaf = make_leaf(&issuer, &*seeded(4), &service("web"));
    let make = |signer| {
        LeafIssuer::new(
            leaf.der.clone(),
            issuer.facts(),
            signer,
            issuer.trust_domain.clone(),
            issuer.datacenter.clone(),
        )
    };
    assert!(matches!(make(seeded(4)), Err(IssueError::NotACa { .. })));
    assert!(matches!(make(seeded(5)), Err(IssueError::AnotherKey { .. })));
}

#[test]
fn a_leaf_ends_with_its_root_when_that_ends_before_the_issuer() {
    let root = make_root(&*seeded(1));
    let issuer = make_issuer(&authority(&root, seeded(1)), &*seeded(2));
    let mut ending = root.clone();
    ending.facts.not_after = NOW.plus(DAY).floor_to_second();
    let leaf = make_leaf(&leaf_issuer(&ending, &issuer, seeded(2)), &*seeded(4), &service("web"));
    assert_eq!(leaf.facts.not_after, ending.facts.not_after);
}

proptest! {
    #[test]
    fn a_leaf_is_always_nested_in_its_issuer(start in -400_i64..4000, ttl in 1_u64..900_000_000) {
        let issuer = prepared();
        let csr = VerifiedCsr::of_own_key(&*seeded(4), service("web"));
        let shift = DAY * u32::try_from(start.unsigned_abs()).unwrap();
        let now = if start < 0 { NOW.minus(shift) } else { NOW.plus(shift) };
        let profile = LeafProfile { csr: &csr, serial: serial(7), now, ttl: Duration::from_secs(ttl) };
        let Ok(leaf) = issuer.sign(&profile) else { return Ok(()) };
        prop_assert!(issuer.facts().not_before <= leaf.facts.not_before);
        prop_assert!(leaf.facts.not_after <= issuer.facts().not_after);
        prop_assert!(leaf.facts.is_valid_at(now) || now < issuer.facts().not_before);
    }

    #[test]
    fn any_serial_is_written_as_it_was_given(bytes in any::<[u8; 20]>(), zeros in 0..19_usize) {
        let mut bytes = bytes;
        bytes[..zeros].fill(0);
        let serial = Serial::from_random(bytes);
        let csr = VerifiedCsr::of_own_key(&*seeded(4), service("web"));
        let leaf = prepared().sign(&LeafProfile { csr: &csr, serial, now: NOW, ttl: DAY }).unwrap();
        prop_assert_eq!(leaf.facts.serial, serial);
    }
}
