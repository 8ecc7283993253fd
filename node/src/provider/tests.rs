//! Bridges between roots of every pair of kinds of keys, and between roots of different makers.

use std::time::Duration;

use carrack_authority::{
    key::{Der, KeyKind},
    root::{Bridge, Root},
};

use super::{
    testing::{DAY, Fixture, NOW, below, expect_verified, facts, published, serial, trust_domain},
    *,
};

const ROOT_TTL: Duration = Duration::from_secs(3650 * 86_400);

async fn cross(fixture: &Fixture, old: &Root, new: &Root) -> Result<Bridge, ProviderError> {
    let next_root = new.made.certificate.clone();
    let wanted = BridgeToSign { next_root, trust_domain: trust_domain(), now: NOW, serial: serial() };
    fixture.provider.cross_sign(old, wanted).await
}

/// The signature algorithm, as another library reads it.
fn algorithm(der: &Der) -> String {
    let (_, read) = x509_parser::parse_x509_certificate(der.as_bytes()).unwrap();
    read.signature_algorithm.algorithm.to_id_string()
}

fn algorithm_of(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::EcP256 => "1.2.840.10045.4.3.2",
        KeyKind::EcP384 => "1.2.840.10045.4.3.3",
        KeyKind::Ed25519 => "1.3.101.112",
        KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => "1.2.840.113549.1.1.11",
    }
}

fn expect_bridge(bridge: &Bridge, old: &Root, new: &Root) {
    let (old_facts, new_facts, read) =
        (facts(&old.made.certificate), facts(&new.made.certificate), facts(&bridge.certificate));
    assert_eq!(
        (&read.subject, &read.public_key, read.key_id),
        (&new_facts.subject, &new_facts.public_key, new_facts.key_id)
    );
    assert_eq!((&read.issuer, read.authority_key_id), (&old_facts.subject, old_facts.key_id));
    assert!(read.is_ca && read.path_length == Some(1) && read.purposes.is_empty());
    assert_eq!(read.uris, ["spiffe://example.org"]);
    assert_eq!((read.not_before, read.not_after), (bridge.not_before, bridge.not_after));
    assert_eq!(bridge.not_after, old_facts.not_after.min(new_facts.not_after), "as late as both roots allow");
    assert!(bridge.not_before >= old_facts.not_before.max(new_facts.not_before) && bridge.not_before <= NOW);
    assert_eq!(bridge.signed_by, old.made.id);
    assert_eq!(algorithm(&bridge.certificate), algorithm_of(old.made.key_kind), "the signing key's own algorithm");
}

#[tokio::test]
async fn between_every_pair_of_kinds_of_keys_leaves_verify_by_both_roots() {
    let fixture = Fixture::new();
    assert!(fixture.provider.can_cross_sign());
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for kind in KeyKind::ALL {
        old.push(fixture.root(kind, ROOT_TTL).await);
        let root = fixture.root(kind, ROOT_TTL / 2).await;
        let below = below(&fixture, &root).await;
        new.push((root, below));
    }
    for old in &old {
        for (new, below) in &new {
            let bridge = cross(&fixture, old, new).await.unwrap();
            expect_bridge(&bridge, old, new);
            let (leaf, issuer) = (&below.leaf.der, &below.issuer.der);
            expect_verified(leaf, &[issuer, &bridge.certificate], &old.made.certificate);
            expect_verified(leaf, &[issuer, &bridge.certificate], &new.made.certificate);
            expect_verified(leaf, &[issuer], &new.made.certificate);
        }
    }
}

#[tokio::test]
async fn a_bridge_ends_with_the_root_that_ends_first_and_begins_with_the_younger_one() {
    let fixture = Fixture::new();
    let (short, long) = (fixture.root(KeyKind::EcP256, DAY).await, fixture.root(KeyKind::EcP256, ROOT_TTL).await);
    for (old, new) in [(&short, &long), (&long, &short)] {
        let bridge = cross(&fixture, old, new).await.unwrap();
        expect_bridge(&bridge, old, new);
        assert_eq!(bridge.not_after, short.made.not_after);
    }
}

#[tokio::test]
async fn a_root_is_not_crossed_with_itself_or_with_what_is_no_root() {
    let fixture = Fixture::new();
    let root = fixture.root(KeyKind::EcP256, ROOT_TTL).await;
    let told = cross(&fixture, &root, &root).await.unwrap_err();
    let told = std::error::Error::source(&told).unwrap().to_string();
    assert!(told.ends_with("cannot sign: the next root has the name of this one"), "{told}");
    let mut leaf = root.clone();
    leaf.made.certificate = below(&fixture, &root).await.leaf.der;
    assert!(cross(&fixture, &root, &leaf).await.is_err());
    leaf.made.certificate = Der::from(vec![0x30, 0]);
    assert!(cross(&fixture, &root, &leaf).await.is_err());
}

#[tokio::test]
async fn a_root_that_this_provider_has_not_made_signs_nothing() {
    let fixture = Fixture::new();
    let (mut root, next) =
        (fixture.root(KeyKind::EcP256, ROOT_TTL).await, fixture.root(KeyKind::EcP256, ROOT_TTL).await);
    root.made.sealed_key = None;
    assert!(matches!(cross(&fixture, &root, &next).await, Err(ProviderError::NoSealedKey(id)) if id == root.made.id));
    let elsewhere = Fixture::new().root(KeyKind::EcP256, ROOT_TTL).await;
    assert!(matches!(cross(&fixture, &elsewhere, &next).await, Err(ProviderError::Unseal { .. })));
    let own = fixture.provider.make_root(fixture.request(KeyKind::EcP256, ROOT_TTL)).await.unwrap();
    assert!(cross(&fixture, &published(own), &elsewhere).await.is_ok(), "whoever keeps the next root's key");
}
