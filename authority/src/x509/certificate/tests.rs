//! Roots, issuers and bridges, as another library reads them.

use std::sync::Arc;

use expect_test::expect;

use super::*;
use crate::{
    key::KeyKind,
    x509::{
        csr::CsrLimits,
        request::{RequestedName, build_csr},
        testing::{
            DAY, NOW, TestSigner, authority, describe, key, make_bridge, make_issuer, make_root, name, serial,
            trust_domain,
        },
    },
};

fn seeded(seed: u8) -> Arc<TestSigner> {
    Arc::new(TestSigner::seeded(seed))
}

fn issuer_profile<'a>(csr: &'a VerifiedIssuerCsr, names: &'a (TrustDomain, Name, Name)) -> IssuerProfile<'a> {
    let (trust_domain, datacenter, server) = names;
    IssuerProfile { csr, trust_domain, datacenter, server, serial: serial(9), now: NOW, ttl: DAY }
}

fn issuer_csr(signer: &dyn Signer) -> VerifiedIssuerCsr {
    let csr = build_csr(signer, &RequestedName::Issuer(&trust_domain())).unwrap();
    VerifiedIssuerCsr::verify(csr.as_bytes(), &CsrLimits::default()).unwrap()
}

#[test]
fn a_root_has_no_path_length_and_its_own_subject() {
    expect![[r#"
        serial 01:01:01:01:01:01:01:01:01:01:01:01:01:01:01:01:01:01:01:01
        issuer O=example.org, CN=carrack root 34750f98bd59fcfc
        subject O=example.org, CN=carrack root 34750f98bd59fcfc
        from 2026-11-22 11:59:00.0 +00:00:00 to 2036-11-19 12:00:00.0 +00:00:00
        signed by 1.3.101.112
        names [URI("spiffe://example.org")]
        critical key usage Key Cert Sign, CRL Sign
        subject key identifier 34:75:0f:98:bd:59:fc:fc:94:6d:a4:5a:aa:be:93:3b:e1:54:a4:b5
        critical CA true, path length None
    "#]]
    .assert_eq(&describe(&make_root(&*seeded(1))));
}

#[test]
fn an_issuer_has_path_length_0_and_names_its_server() {
    let root = make_root(&*seeded(1));
    expect![[r#"
        serial 02:02:02:02:02:02:02:02:02:02:02:02:02:02:02:02:02:02:02:02
        issuer O=example.org, CN=carrack root 34750f98bd59fcfc
        subject O=example.org, CN=carrack issuer dc1/a 6a3803d5f059902a
        from 2026-11-22 11:59:00.0 +00:00:00 to 2027-11-22 12:00:00.0 +00:00:00
        signed by 1.3.101.112
        authority key identifier 34:75:0f:98:bd:59:fc:fc:94:6d:a4:5a:aa:be:93:3b:e1:54:a4:b5
        names [URI("spiffe://example.org")]
        critical key usage Key Cert Sign, CRL Sign
        subject key identifier 6a:38:03:d5:f0:59:90:2a:1c:6d:af:bc:9b:a4:72:92:12:f7:ca:ac
        critical CA true, path length Some(0)
    "#]]
    .assert_eq(&describe(&make_issuer(&authority(&root, seeded(1)), &*seeded(2))));
}

#[test]
fn a_bridge_is_the_next_roots_subject_and_key_under_the_former_root_with_path_length_1() {
    let (old_root, new_root) = (make_root(&*seeded(1)), make_root(&*seeded(3)));
    let bridge = make_bridge(&authority(&old_root, seeded(1)), &new_root);
    assert_eq!(
        (&bridge.facts.subject, &bridge.facts.public_key),
        (&new_root.facts.subject, &new_root.facts.public_key)
    );
    assert_eq!((bridge.facts.key_id, &bridge.facts.issuer), (new_root.facts.key_id, &old_root.facts.subject));
    expect![[r#"
        serial 03:03:03:03:03:03:03:03:03:03:03:03:03:03:03:03:03:03:03:03
        issuer O=example.org, CN=carrack root 34750f98bd59fcfc
        subject O=example.org, CN=carrack root b62e867fa2f33afe
        from 2026-11-22 11:59:00.0 +00:00:00 to 2036-11-19 12:00:00.0 +00:00:00
        signed by 1.3.101.112
        authority key identifier 34:75:0f:98:bd:59:fc:fc:94:6d:a4:5a:aa:be:93:3b:e1:54:a4:b5
        names [URI("spiffe://example.org")]
        critical key usage Key Cert Sign, CRL Sign
        subject key identifier b6:2e:86:7f:a2:f3:3a:fe:62:d5:d6:b1:64:2e:16:21:d5:43:30:78
        critical CA true, path length Some(1)
    "#]]
    .assert_eq(&describe(&bridge));
}

#[test]
fn the_facts_are_what_another_library_reads() {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    for kind in KeyKind::ALL {
        let root = make_root(&*key(kind));
        let (_, other) = X509Certificate::from_der(root.der.as_bytes()).unwrap();
        let facts = &root.facts;
        assert_eq!(CertificateFacts::read(root.der.as_bytes()).as_ref(), Ok(facts));
        assert_eq!(facts.subject.as_bytes(), other.subject().as_raw());
        assert_eq!(facts.issuer.as_bytes(), other.issuer().as_raw());
        assert_eq!(facts.public_key.spki.as_bytes(), other.public_key().raw);
        assert_eq!(facts.not_before.seconds(), u64::try_from(other.validity().not_before.timestamp()).unwrap());
        assert_eq!(facts.not_after.seconds(), u64::try_from(other.validity().not_after.timestamp()).unwrap());
        assert_eq!(facts.serial.0, other.raw_serial());
        assert!(facts.is_ca && facts.path_length.is_none());
        assert_eq!(facts.uris, ["spiffe://example.org"]);
    }
}

#[test]
fn every_ca_has_its_own_subject_also_when_names_are_long() {
    let trust_domain: TrustDomain = "d".repeat(255).parse().unwrap();
    let names = (trust_domain.clone(), name(&"c".repeat(128)), name(&"n".repeat(128)));
    let (first, second) = (seeded(1), seeded(2));
    let profile = RootProfile { trust_domain: &trust_domain, serial: serial(1), now: NOW, ttl: DAY };
    let roots = [root(&*first, &profile).unwrap(), root(&*second, &profile).unwrap()];
    assert_ne!(roots[0].facts.subject, roots[1].facts.subject);
    let ca = authority(&roots[0], first);
    let issuers = [seeded(3), seeded(4)].map(|signer| {
        let csr = build_csr(&*signer, &RequestedName::Issuer(&trust_domain)).unwrap();
        let csr = VerifiedIssuerCsr::verify(csr.as_bytes(), &CsrLimits::default()).unwrap();
        issuer(&ca, &issuer_profile(&csr, &names)).unwrap()
    });
    assert_ne!(issuers[0].facts.subject, issuers[1].facts.subject);
    assert!(describe(&issuers[0]).contains("carrack issuer cccc"));
}

#[test]
fn a_request_for_another_trust_domain_gets_no_issuer() {
    let root = authority(&make_root(&*seeded(1)), seeded(1));
    let csr = issuer_csr(&*seeded(2));
    let names = ("other.org".parse().unwrap(), name("dc1"), name("a"));
    let refusal = issuer(&root, &issuer_profile(&csr, &names)).unwrap_err();
    assert!(matches!(refusal, IssueError::ForeignTrustDomain { .. }), "{refusal}");
}

#[test]
fn an_issuer_signs_no_ca_and_a_bridge_signs_no_bridge() {
    let root = make_root(&*seeded(1));
    let issuer_certificate = make_issuer(&authority(&root, seeded(1)), &*seeded(2));
    let ca = authority(&issuer_certificate, seeded(2));
    let csr = issuer_csr(&*seeded(4));
    let names = (trust_domain(), name("dc1"), name("a"));
    assert!(matches!(issuer(&ca, &issuer_profile(&csr, &names)), Err(IssueError::NotACa { .. })));
    let bridge_certificate = make_bridge(&authority(&root, seeded(1)), &make_root(&*seeded(3)));
    let ca = authority(&bridge_certificate, seeded(3));
    let next = make_root(&*seeded(5)).facts;
    let profile = BridgeProfile { new_root: &next, trust_domain: &trust_domain(), serial: serial(1), now: NOW };
    assert!(matches!(bridge(&ca, &profile), Err(IssueError::NotACa { .. })));
    assert!(issuer(&ca, &issuer_profile(&csr, &names)).is_ok());
}

#[test]
fn a_certificate_is_used_only_with_its_own_key() {
    let root = make_root(&*seeded(1));
    let refusal = CertificateAuthority::new(root.der, seeded(2)).unwrap_err();
    assert!(matches!(refusal, IssueError::AnotherKey { .. }), "{refusal}");
}

#[test]
fn dates_are_within_those_of_the_signer() {
    let root = make_root(&*seeded(1));
    let ca = authority(&root, seeded(1));
    let csr = issuer_csr(&*seeded(2));
    let names = (trust_domain(), name("dc1"), name("a"));
    let long = IssuerProfile { ttl: DAY * 9999, ..issuer_profile(&csr, &names) };
    let certificate = issuer(&ca, &long).unwrap();
    assert_eq!(certificate.facts.not_before, root.facts.not_before);
    assert_eq!(certificate.facts.not_after, root.facts.not_after);
    let late = IssuerProfile { now: root.facts.not_after, ..issuer_profile(&csr, &names) };
    assert!(matches!(issuer(&ca, &late), Err(IssueError::NoTimeLeft(_))));
}

#[test]
fn dates_from_2050_on_are_written_and_read_as_generalized_time() {
    let make = |now: u64| {
        let trust_domain = trust_domain();
        let now = Timestamp::from_seconds(now);
        root(&*seeded(1), &RootProfile { trust_domain: &trust_domain, serial: serial(1), now, ttl: DAY }).unwrap()
    };
    let new_year_2050 = 2_524_608_000;
    let across = make(new_year_2050);
    assert_eq!(across.facts.not_before, Timestamp::from_seconds(new_year_2050 - 60));
    assert_eq!(across.facts.not_after, Timestamp::from_seconds(new_year_2050 + 86_400));
    let far = make(253_402_300_798);
    assert_eq!(far.facts.not_after, Timestamp::from_seconds(253_402_300_799));
}

#[test]
fn a_signer_that_fails_is_named_and_nothing_is_issued() {
    let profile = RootProfile { trust_domain: &trust_domain(), serial: serial(1), now: NOW, ttl: DAY };
    let error = root(&TestSigner::failing(), &profile).unwrap_err();
    assert!(error.to_string().contains("the token was pulled out"), "{error}");
}
