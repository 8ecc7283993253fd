//! Tests of `handshake`.

use std::time::Duration;

use carrack::keys::secret::KeyMaker;
use carrack_authority::{
    id::Serial,
    leaf::{LeafIssuer, LeafProfile},
    spiffe::{Identity, Name},
    x509::{
        RequestedName, SignedCertificate,
        authority::CertificateAuthority,
        build_csr,
        certificate::{IssuerProfile, RootProfile, issuer, root},
        csr::{CsrLimits, VerifiedCsr, VerifiedIssuerCsr},
    },
};

use super::*;
use crate::{
    crypto::{entropy::ProcessStart, keys::SeededKeyMaker, registry::KeyRegistry},
    random::Seed,
    world::clock::BEGIN,
};

const HOUR: Duration = Duration::from_secs(3600);

struct Ca {
    root: SignedCertificate,
    issuer: LeafIssuer,
    issuer_certificate: Der,
}

fn key(number: u64, kind: KeyKind) -> LeafKey {
    let maker = SeededKeyMaker::new(Seed(number), &ProcessStart::new("test", 1), KeyRegistry::default());
    LeafKey(maker.signer(&maker.make(kind).unwrap()).unwrap())
}

fn name(text: &str) -> Name {
    Name::parse("name", text).unwrap()
}

fn ca(number: u64, trust_domain: &TrustDomain) -> Ca {
    let (root_key, issuer_key) = (key(number, KeyKind::EcP256), key(number + 1, KeyKind::EcP256));
    let serial = |number: u8| Serial::from_random([number; 20]);
    let profile = RootProfile { trust_domain, serial: serial(1), now: BEGIN, ttl: HOUR * 100 };
    let root = root(&*root_key.0, &profile).unwrap();
    let authority = CertificateAuthority::new(root.der.clone(), root_key.0).unwrap();
    let csr = build_csr(&*issuer_key.0, &RequestedName::Issuer(trust_domain)).unwrap();
    let csr = VerifiedIssuerCsr::verify(csr.as_bytes(), &CsrLimits::default()).unwrap();
    let (datacenter, server) = (&name("dc1"), &name("a"));
    let profile =
        IssuerProfile { csr: &csr, trust_domain, datacenter, server, serial: serial(2), now: BEGIN, ttl: HOUR * 50 };
    let made = issuer(&authority, &profile).unwrap();
    let issuer =
        LeafIssuer::new(made.der.clone(), &root.facts, issuer_key.0, trust_domain.clone(), name("dc1")).unwrap();
    Ca { root, issuer, issuer_certificate: made.der }
}

impl Ca {
    fn leaf(&self, key: &LeafKey, trust_domain: &TrustDomain) -> Der {
        let identity = Identity::Spiffe(SpiffeId::service(trust_domain.clone(), name("dc1"), name("web")));
        let csr = build_csr(&*key.0, &RequestedName::Leaf(&identity)).unwrap();
        let csr = VerifiedCsr::verify(csr.as_bytes(), &CsrLimits::default()).unwrap();
        let profile = LeafProfile { csr: &csr, serial: Serial::from_random([3; 20]), now: BEGIN, ttl: HOUR };
        self.issuer.sign(&profile).unwrap().der
    }
}

fn end<'a>(ca: &'a Ca, key: &'a LeafKey, leaf: &'a Der, trusts: &Ca) -> End<'a> {
    End { key, chain: vec![leaf, &ca.issuer_certificate], bundle: [trusts.root.der.clone()].into() }
}

#[test]
fn leaves_of_one_ca_shake_hands_with_every_kind_of_key_until_they_expire() {
    let trust_domain: TrustDomain = "example.org".parse().unwrap();
    let ca = ca(1, &trust_domain);
    let later = BEGIN.plus(HOUR * 2);
    for kind in [KeyKind::EcP256, KeyKind::EcP384, KeyKind::Ed25519] {
        let key = key(9, kind);
        let leaf = ca.leaf(&key, &trust_domain);
        let end = || end(&ca, &key, &leaf, &ca);
        shake(&end(), &end(), &trust_domain, BEGIN).unwrap();
        assert!(matches!(shake(&end(), &end(), &trust_domain, later), Err(Failed::Client(_))));
    }
}

#[test]
fn a_peer_is_refused_by_each_side_without_its_root_and_without_its_issuer_and_under_another_trust_domain() {
    let trust_domain: TrustDomain = "example.org".parse().unwrap();
    let (ca, other) = (ca(1, &trust_domain), ca(5, &trust_domain));
    let key = key(9, KeyKind::EcP256);
    let leaf = ca.leaf(&key, &trust_domain);
    let good = || end(&ca, &key, &leaf, &ca);
    let distrusts = || end(&ca, &key, &leaf, &other);
    let bare = || End { chain: vec![&leaf], ..good() };
    let shaken = |client: End<'_>, server: End<'_>| shake(&client, &server, &trust_domain, BEGIN);
    assert!(matches!(shaken(distrusts(), good()), Err(Failed::Client(_))));
    assert!(matches!(shaken(good(), distrusts()), Err(Failed::Server(_))));
    assert!(matches!(shaken(good(), bare()), Err(Failed::Client(_))));
    assert!(matches!(shaken(bare(), good()), Err(Failed::Server(_))));
    let elsewhere: TrustDomain = "example.net".parse().unwrap();
    assert!(matches!(shake(&good(), &good(), &elsewhere, BEGIN), Err(Failed::Client(_))));
}
