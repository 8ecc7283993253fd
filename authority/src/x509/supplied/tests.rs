//! Each root that an operator may supply by mistake, with the message that it gets, and each that is taken.

use std::sync::Arc;

use expect_test::expect;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SanType,
};

use super::*;
use crate::{
    key::KeyKind,
    x509::{
        authority::{Subject, sign_root},
        certificate::has_room_for_bridge,
        chain::{Usage, verify_chain},
        pem::encode_certificates,
        request::ia5,
        signing::SigningAdapter,
        testing::{
            DAY, NOW, TestSigner, authority, key, leaf_issuer, make_bridge, make_issuer, make_leaf, make_root,
            sequence, serial, service, tlv, trust_domain,
        },
        validity::Validity,
    },
};

fn seeded(seed: u8) -> Arc<TestSigner> {
    Arc::new(TestSigner::seeded(seed))
}

/// From yesterday, for so many days from now.
fn dates(days: u32) -> Validity {
    Validity { not_before: NOW.minus(DAY).floor_to_second(), not_after: NOW.plus(DAY * days).floor_to_second() }
}

const LONG: u32 = 3000;

fn template(common_name: &str, path_length: Option<u8>) -> CertificateParams {
    let mut template = CertificateParams::default();
    template.distinguished_name = rcgen::DistinguishedName::new();
    template.distinguished_name.push(DnType::CommonName, common_name);
    template.is_ca = IsCa::Ca(path_length.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
    template.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    template
}

fn self_signed(template: CertificateParams, key: &TestSigner) -> SignedCertificate {
    sign_root(template, key, serial(1), dates(LONG)).unwrap()
}

/// A CA of the company, signed by another.
fn below(ca: (&SignedCertificate, u8), template: CertificateParams, key: &TestSigner) -> SignedCertificate {
    signed_by(ca, template, Subject::new(key.public_key_of()), dates(LONG))
}

fn signed_by(
    ca: (&SignedCertificate, u8),
    template: CertificateParams,
    subject: Subject<'_>,
    dates: Validity,
) -> SignedCertificate {
    authority(ca.0, seeded(ca.1)).sign(template, subject, serial(2), dates).unwrap()
}

impl TestSigner {
    fn public_key_of(&self) -> &PublicKey {
        crate::key::Signer::public_key(self)
    }
}

fn pem(certificates: &[&SignedCertificate]) -> String {
    encode_certificates(certificates.iter().map(|certificate| &certificate.der))
}

fn wanted<'a>(key: &'a TestSigner, trust_domain: &'a TrustDomain) -> SuppliedFor<'a> {
    SuppliedFor {
        key: key.public_key_of(),
        trust_domain,
        leaf_ttl: DAY * 3,
        intermediate_ttl: DAY * 365,
        now: NOW,
        bundle: &[],
        without_cross_signing: false,
    }
}

fn check_text(text: &str, key: &TestSigner) -> Result<SuppliedCertificates, String> {
    check_supplied(text, &wanted(key, &trust_domain())).map_err(|error| error.to_string())
}

fn lines<const COUNT: usize>(messages: [String; COUNT]) -> String {
    messages.map(|message| message + "\n").concat()
}

fn check(certificates: &[&SignedCertificate], key: &TestSigner) -> Result<SuppliedCertificates, String> {
    check_text(&pem(certificates), key)
}

/// The key of the supplied root is that of seed 1, the company's root has that of seed 9.
fn company() -> SignedCertificate {
    self_signed(template("Example Root", None), &seeded(9))
}

fn mesh_ca(company: &SignedCertificate, path_length: Option<u8>) -> SignedCertificate {
    below((company, 9), template("Example Mesh CA", path_length), &seeded(1))
}

fn name_constraints(permitted: &[(u8, &[u8])], excluded: &[(u8, &[u8])]) -> CustomExtension {
    let subtrees = |number: u8, names: &[(u8, &[u8])]| {
        let names: Vec<u8> = names.iter().flat_map(|(tag, text)| sequence(&[&tlv(*tag, text)])).collect();
        if names.is_empty() { Vec::new() } else { tlv(0xa0 | number, &names) }
    };
    let content = sequence(&[&subtrees(0, permitted), &subtrees(1, excluded)]);
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], content);
    extension.set_criticality(true);
    extension
}

const URI: u8 = 0x86;
const DNS: u8 = 0x82;

/// The certificate with another algorithm in both places.
fn with_algorithm(certificate: &SignedCertificate, from: &[u8], to: &[u8]) -> SignedCertificate {
    let mut bytes = certificate.der.as_bytes().to_vec();
    let places: Vec<usize> = (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert_eq!(places.len(), 2, "inside and outside of what is signed");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    SignedCertificate { der: Der::from(bytes), facts: certificate.facts.clone() }
}

const SHA256_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
const SHA1_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5];

#[test]
fn a_self_signed_root_is_taken_and_nothing_is_above_it() {
    for kind in KeyKind::ALL {
        let root = make_root(&*key(kind));
        let taken = check(&[&root], &key(kind)).unwrap();
        assert_eq!(taken, SuppliedCertificates { root, chain: Vec::new() }, "{kind}");
    }
    let root = self_signed(template("Example Mesh Root", Some(2)), &seeded(1));
    assert_eq!(check(&[&root], &seeded(1)).unwrap().root, root);
}

#[test]
fn an_intermediate_is_taken_with_and_without_what_is_above_it() {
    let company = company();
    let policy = below((&company, 9), template("Example Policy CA", Some(3)), &seeded(8));
    let root = below((&policy, 8), template("Example Mesh CA", Some(2)), &seeded(1));
    let chain_of = |certificates: &[&SignedCertificate]| check(certificates, &seeded(1)).unwrap().chain;
    assert_eq!(chain_of(&[&root]), []);
    assert_eq!(chain_of(&[&root, &policy]), std::slice::from_ref(&policy.der));
    assert_eq!(
        chain_of(&[&root, &policy, &company]),
        std::slice::from_ref(&policy.der),
        "the self-signed one is not served"
    );
    let text = format!("\n{}\n\n{}", pem(&[&root]), pem(&[&policy]).replace('\n', "\r\n"));
    assert!(check_text(text.trim(), &seeded(1)).is_ok());
}

#[test]
fn leaves_below_a_supplied_intermediate_verify_by_the_companys_root_and_by_the_intermediate_alone() {
    let company = company();
    let mut named = template("Example Mesh CA", Some(2));
    named.subject_alt_names = vec![SanType::URI(ia5("spiffe://example.org").unwrap())];
    named.custom_extensions = vec![name_constraints(&[(DNS, b"example.org")], &[(DNS, b"other.org")])];
    let root = below((&company, 9), named, &seeded(1));
    check(&[&root, &company], &seeded(1)).unwrap();
    let issuer = make_issuer(&authority(&root, seeded(1)), &*seeded(2));
    let leaf = make_leaf(&leaf_issuer(&root, &issuer, seeded(2)), &*seeded(3), &service("web"));
    let next = make_root(&*seeded(4));
    let bridge = make_bridge(&authority(&root, seeded(1)), &next);
    let next_issuer = make_issuer(&authority(&next, seeded(4)), &*seeded(5));
    let next_leaf = make_leaf(&leaf_issuer(&next, &next_issuer, seeded(5)), &*seeded(3), &service("web"));
    let verify = |leaf: &SignedCertificate, above: &[&SignedCertificate], anchor: &SignedCertificate| {
        let above: Vec<&[u8]> = above.iter().map(|certificate| certificate.der.as_bytes()).collect();
        verify_chain(leaf.der.as_bytes(), &above, &[anchor.der.as_bytes()], NOW, Usage::Server)
    };
    verify(&leaf, &[&issuer], &root).unwrap();
    verify(&leaf, &[&issuer, &root], &company).unwrap();
    verify(&next_leaf, &[&next_issuer, &bridge], &root).unwrap();
    verify(&next_leaf, &[&next_issuer, &bridge, &root], &company).unwrap();
    assert!(verify(&leaf, &[&issuer], &company).is_err());
}

/// A subject with an attribute that is there twice, which rcgen cannot write.
#[test]
fn a_subject_with_domain_components_is_the_issuer_name_of_what_it_signs() {
    let component = |text: &[u8]| {
        let identifier = [6, 10, 0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25];
        tlv(0x31, &sequence(&[&identifier, &tlv(0x16, text)]))
    };
    let common_name = tlv(0x31, &sequence(&[&[6, 3, 0x55, 4, 3], &tlv(0x1e, &[0, b'C', 0, b'A'])]));
    let subject = Der::from(sequence(&[&component(b"org"), &component(b"example"), &common_name]));
    let company = company();
    let (first, second) = (seeded(1), seeded(4));
    let named = |key: &TestSigner, name: &Der| {
        let subject = Subject { name: Some(name), ..Subject::new(key.public_key_of()) };
        signed_by((&company, 9), template("replaced", None), subject, dates(LONG))
    };
    let root = named(&first, &subject);
    assert_eq!(name_text(&root.facts.subject), "DC=org, DC=example, CN=\\0C\\0A");
    check(&[&root, &company], &seeded(1)).unwrap();
    let issuer = make_issuer(&authority(&root, seeded(1)), &*seeded(2));
    assert_eq!(issuer.facts.issuer, subject);
    let leaf = make_leaf(&leaf_issuer(&root, &issuer, seeded(2)), &*seeded(3), &service("web"));
    let chain = [issuer.der.as_bytes(), root.der.as_bytes()];
    verify_chain(leaf.der.as_bytes(), &chain, &[company.der.as_bytes()], NOW, Usage::Client).unwrap();

    let next = named(&second, &Der::from(sequence(&[&component(b"org"), &component(b"example"), &component(b"next")])));
    let bridge = make_bridge(&authority(&root, first.clone()), &next);
    assert_eq!((&bridge.facts.subject, &bridge.facts.issuer), (&next.facts.subject, &subject));
    let back = make_bridge(&authority(&next, second), &root);
    assert_eq!((&back.facts.subject, &back.facts.issuer), (&subject, &next.facts.subject));
}

#[test]
fn four_certificates_above_a_root_are_taken_and_the_longest_chain_verifies() {
    let mut cas = vec![company()];
    for (seed, length) in [(8, 5), (7, 4), (6, 3)] {
        let (above, above_seed) = (cas.last().unwrap(), if seed == 8 { 9 } else { seed + 1 });
        let ca = below((above, above_seed), template(&format!("CA {seed}"), Some(length)), &seeded(seed));
        cas.push(ca);
    }
    cas.push(below((&cas[3], 6), template("Example Mesh CA", Some(2)), &seeded(1)));
    cas.reverse();
    let supplied: Vec<&SignedCertificate> = cas.iter().collect();
    let taken = check(&supplied, &seeded(1)).unwrap();
    assert_eq!(taken.chain.len(), 3);
    let refusal = check(&supplied[..4], &seeded(1)).map(|taken| taken.chain.len());
    assert_eq!(refusal, Ok(3), "without the self-signed one");

    let next = make_root(&*seeded(4));
    let bridge = make_bridge(&authority(&cas[0], seeded(1)), &next);
    let issuer = make_issuer(&authority(&next, seeded(4)), &*seeded(5));
    let leaf = make_leaf(&leaf_issuer(&next, &issuer, seeded(5)), &*seeded(3), &service("web"));
    let chain: Vec<&[u8]> = [&issuer, &bridge].into_iter().chain(&cas[..4]).map(|it| it.der.as_bytes()).collect();
    verify_chain(leaf.der.as_bytes(), &chain, &[cas[4].der.as_bytes()], NOW, Usage::Client).unwrap();
}

#[test]
fn force_without_cross_signing_takes_a_root_that_has_room_for_issuers_alone() {
    let root = self_signed(template("Example Mesh Root", Some(1)), &seeded(1));
    let forced = |root: &SignedCertificate| {
        let (key, domain) = (seeded(1), trust_domain());
        check_supplied(&pem(&[root]), &SuppliedFor { without_cross_signing: true, ..wanted(&key, &domain) })
    };
    forced(&root).unwrap();
    assert!(!has_room_for_bridge(&root.facts));
    assert!([None, Some(2)].iter().all(|it| has_room_for_bridge(&self_signed(template("It", *it), &seeded(1)).facts)));
    let issuer = make_issuer(&authority(&root, seeded(1)), &*seeded(2));
    let leaf = make_leaf(&leaf_issuer(&root, &issuer, seeded(2)), &*seeded(3), &service("web"));
    verify_chain(leaf.der.as_bytes(), &[issuer.der.as_bytes()], &[root.der.as_bytes()], NOW, Usage::Client).unwrap();
    assert!(forced(&self_signed(template("Example Mesh Root", Some(0)), &seeded(1))).is_err());
}

#[test]
fn what_is_no_text_of_certificates_is_refused() {
    let root = pem(&[&company()]);
    let told = |text: &str| check_text(text, &seeded(9)).unwrap_err();
    expect![[r#"
        RootCert cannot be read: the PEM text has 0 CERTIFICATE blocks, at least one expected; give certificates in PEM and nothing beside them, the root first, then those above it
        RootCert cannot be read: line 1 of the PEM text is not what a CERTIFICATE block has there; give certificates in PEM and nothing beside them, the root first, then those above it
        RootCert cannot be read: line 10 of the PEM text is not what a CERTIFICATE block has there; give certificates in PEM and nothing beside them, the root first, then those above it
        RootCert cannot be read: line 5 of the PEM text is not what a CERTIFICATE block has there; give certificates in PEM and nothing beside them, the root first, then those above it
        RootCert cannot be read: the PEM text has a block `CERTIFICATE REQUEST` where `CERTIFICATE` is expected; give certificates in PEM and nothing beside them, the root first, then those above it
        RootCert has 6 certificates, at most 5 are allowed here: the root, and above it 4 CAs, of which the self-signed one at the top may be left out; verifiers give up on longer chains
        certificate 1 of RootCert is refused: the certificate cannot be read: 1 bytes follow the end of certificate
        certificate 1 of RootCert is refused: the certificate has 20000 bytes, at most 16384 are allowed
        RootCert cannot be read: the PEM text has 262145 bytes, at most 262144 are allowed; give certificates in PEM and nothing beside them, the root first, then those above it
    "#]].assert_eq(&lines([
        told(""),
        told("/etc/pki/root.pem"),
        told(&format!("{root}trailing garbage\n")),
        told(&root[..root.len() / 2]),
        told(&root.replace("CERTIFICATE", "CERTIFICATE REQUEST")),
        told(&root.repeat(6)),
        told("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        told(&pem::encode(pem::CERTIFICATE, &Der::from(vec![0x30; 20_000]))),
        told(&"x".repeat(pem::PEM_BYTES_MAX + 1)),
    ]));
}

#[test]
fn each_root_that_would_not_work_is_refused_by_name_with_the_reason_and_a_way_out() {
    let company = company();
    let (mesh, own) = (mesh_ca(&company, None), seeded(1));
    let mut told: Vec<(&str, String)> = Vec::new();
    let mut refused = |what, certificates: &[&SignedCertificate]| {
        told.push((what, check(certificates, &own).map(|_| ()).unwrap_err()));
    };
    let altered = |alter: &dyn Fn(&mut CertificateParams)| {
        let mut template = template("Example Mesh CA", None);
        alter(&mut template);
        below((&company, 9), template, &seeded(1))
    };
    let until =
        |dates| signed_by((&company, 9), template("Example Mesh CA", None), Subject::new(own.public_key_of()), dates);

    refused("another key", &[&company]);
    refused("the top first", &[&company, &mesh]);
    refused("no CA", &[&altered(&|it| it.is_ca = IsCa::ExplicitNoCa)]);
    refused("no keyCertSign", &[&altered(&|it| it.key_usages = vec![KeyUsagePurpose::CrlSign])]);
    refused("no key usage", &[&altered(&|it| it.key_usages = vec![])]);
    refused("purposes", &[&altered(&|it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])]);
    refused("no subject", &[&altered(&|it| it.distinguished_name = rcgen::DistinguishedName::new())]);

    let mut bare = template("Example Mesh CA", None);
    bare.is_ca = IsCa::NoCa;
    let mut constraints = CustomExtension::from_oid_content(&[2, 5, 29, 19], sequence(&[&[1, 1, 0xff]]));
    constraints.set_criticality(true);
    bare.custom_extensions = vec![constraints];
    let encoded = bare.self_signed(&SigningAdapter::new(&*own)).unwrap();
    let facts = CertificateFacts::read(encoded.der()).unwrap();
    refused("no key identifier", &[&SignedCertificate { der: Der::from(&encoded.der()[..]), facts }]);

    refused("path length 0", &[&mesh_ca(&company, Some(0)), &company]);
    refused("path length 1", &[&mesh_ca(&company, Some(1)), &company]);
    let tight = |length| self_signed(template("Example Root", Some(length)), &seeded(9));
    refused("path length 1 above", &[&mesh, &tight(1)]);
    refused("path length 2 above", &[&mesh, &tight(2)]);

    refused("it begins tomorrow", &[&until(Validity { not_before: NOW.plus(DAY).floor_to_second(), ..dates(LONG) })]);
    refused("it has ended", &[&until(Validity { not_after: NOW.minus(DAY / 2).floor_to_second(), ..dates(LONG) })]);
    refused("it ends too soon", &[&until(dates(367))]);
    let short = sign_root(template("Example Root", None), &*seeded(9), serial(1), dates(100)).unwrap();
    refused("what is above ends too soon", &[&mesh, &short]);

    let uris = |uris: &'static [&str]| {
        altered(&move |it| it.subject_alt_names = uris.iter().map(|uri| SanType::URI(ia5(uri).unwrap())).collect())
    };
    refused("another trust domain", &[&uris(&["spiffe://other.org"])]);
    refused("two trust domains", &[&uris(&["spiffe://example.org", "spiffe://other.org"])]);
    refused("an identity", &[&uris(&["spiffe://example.org/ns/default/dc/dc1/svc/web"])]);

    let constrained = |permitted: &[(u8, &[u8])], excluded: &[(u8, &[u8])]| {
        altered(&|it| it.custom_extensions = vec![name_constraints(permitted, excluded)])
    };
    refused("URIs elsewhere", &[&constrained(&[(URI, b"other.org"), (DNS, b"example.org")], &[])]);
    refused("our URIs excluded", &[&constrained(&[], &[(URI, b"Example.org")])]);
    refused("all URIs below a domain excluded", &[&constrained(&[], &[(URI, b".org")])]);
    refused("our URIs permitted", &[&constrained(&[(URI, b"example.org")], &[])]);
    refused("subjects", &[&constrained(&[(0xa4, &sequence(&[]))], &[])]);
    refused(
        "URIs elsewhere, above",
        &[&mesh, &{
            let mut template = template("Example Root", None);
            template.custom_extensions = vec![name_constraints(&[(URI, b"other.org")], &[])];
            self_signed(template, &seeded(9))
        }],
    );

    let other = self_signed(template("Other Root", None), &seeded(7));
    refused("another CA above", &[&mesh, &other]);
    refused("a CA of the same name above", &[&mesh, &self_signed(template("Example Root", None), &seeded(7))]);
    let mut changed = mesh.der.as_bytes().to_vec();
    *changed.last_mut().unwrap() ^= 1;
    let changed = SignedCertificate { der: Der::from(changed), facts: mesh.facts.clone() };
    refused("a bad signature", &[&changed, &company]);
    let policy = below((&company, 9), template("Example Policy CA", None), &seeded(8));
    let deep = below((&policy, 8), template("Example Mesh CA", None), &own);
    let root = self_signed(template("Example Mesh Root", None), &own);
    refused("above a self-signed one", &[&root, &company]);
    refused("out of order", &[&deep, &company, &policy]);
    refused("one left out", &[&deep, &company]);
    let mut changed = root.clone();
    let mut bytes = changed.der.as_bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    changed.der = Der::from(bytes);
    refused("a bad signature of its own", &[&changed]);
    let five = [&deep, &policy, &company, &company, &company, &company];
    refused("too many", &five);
    refused("too many without the top", &[&deep, &policy, &policy, &policy, &policy]);

    let listed: Vec<String> = told.into_iter().map(|(what, message)| format!("{what}: {message}\n")).collect();
    expect![[r#"
        another key: PrivateKey does not belong to certificate 1 of RootCert (CN=Example Root): that certifies the key db:c2:98:25:1c:51:32:1b:72:66:e7:8d:1c:15:1c:2b:62:af:f8:cb, PrivateKey is the key 34:75:0f:98:bd:59:fc:fc:94:6d:a4:5a:aa:be:93:3b:e1:54:a4:b5; put the certificate of PrivateKey first, or give the key that belongs to it
        the top first: PrivateKey does not belong to certificate 1 of RootCert (CN=Example Root): that certifies the key db:c2:98:25:1c:51:32:1b:72:66:e7:8d:1c:15:1c:2b:62:af:f8:cb, PrivateKey is the key 34:75:0f:98:bd:59:fc:fc:94:6d:a4:5a:aa:be:93:3b:e1:54:a4:b5; put the certificate of PrivateKey first, or give the key that belongs to it
        no CA: certificate 1 of RootCert (CN=Example Mesh CA) is no CA: its basic constraints lack CA:TRUE, so that nothing that it signs would be trusted; have it signed again as a CA
        no keyCertSign: certificate 1 of RootCert (CN=Example Mesh CA) may not sign certificates: its key usage is `cRLSign`, and keyCertSign is needed (X509-SVID section 4.3); have it signed again with keyCertSign and cRLSign
        no key usage: certificate 1 of RootCert (CN=Example Mesh CA) may not sign certificates: its key usage is `none`, and keyCertSign is needed (X509-SVID section 4.3); have it signed again with keyCertSign and cRLSign
        purposes: certificate 1 of RootCert (CN=Example Mesh CA) is restricted to the purposes serverAuth: verifiers hold what is below it to them, and leaves need serverAuth and clientAuth; have it signed again without an extended key usage
        no subject: certificate 1 of RootCert (no name) has an empty subject: what it signs would not name its issuer; have it signed again with a name
        no key identifier: certificate 1 of RootCert (CN=Example Mesh CA) has no subject key identifier, by which roots are known and found (RFC 5280 section 4.2.1.2); have it signed again with one
        path length 0: certificate 1 of RootCert (CN=Example Mesh CA) has path length 0, but at least 1 is needed: as many CA certificates follow it in the chain of every leaf (the issuer, and what is between them), and none would verify; have it signed again with path length 2 or more, or with none
        path length 1: certificate 1 of RootCert (CN=Example Mesh CA) has path length 1: issuers fit below it, but when this root is replaced, a bridge and an issuer below that do not (path length 2 is needed for these), and whoever trusts nothing else would be cut off then; have it signed again with path length 2 or more, or with none, or accept that with ForceWithoutCrossSigning
        path length 1 above: certificate 2 of RootCert (CN=Example Root) has path length 1, but at least 2 is needed: as many CA certificates follow it in the chain of every leaf (the issuer, and what is between them), and none would verify; have it signed again with path length 3 or more, or with none
        path length 2 above: certificate 2 of RootCert (CN=Example Root) has path length 2: issuers fit below it, but when this root is replaced, a bridge and an issuer below that do not (path length 3 is needed for these), and whoever trusts nothing else would be cut off then; have it signed again with path length 3 or more, or with none, or accept that with ForceWithoutCrossSigning
        it begins tomorrow: certificate 1 of RootCert (CN=Example Mesh CA) is valid from 2026-11-23T12:00:00Z on, and it is 2026-11-22T12:00:00.5Z; wait until then, or check the clocks
        it has ended: certificate 1 of RootCert (CN=Example Mesh CA) ended at 2026-11-22T00:00:00Z, and it is 2026-11-22T12:00:00.5Z; have it renewed
        it ends too soon: certificate 1 of RootCert (CN=Example Mesh CA) ends at 2027-11-24T12:00:00Z, before 2027-11-25T12:00:00.5Z: it must outlive an issuer (IntermediateCertTTL, 31536000 s) and a leaf (LeafCertTTL, 259200 s) that begin now; have it renewed, or set a shorter IntermediateCertTTL
        what is above ends too soon: certificate 2 of RootCert (CN=Example Root) ends at 2027-03-02T12:00:00Z, before 2027-11-25T12:00:00.5Z: it must outlive an issuer (IntermediateCertTTL, 31536000 s) and a leaf (LeafCertTTL, 259200 s) that begin now; have it renewed, or set a shorter IntermediateCertTTL
        another trust domain: certificate 1 of RootCert (CN=Example Mesh CA) names `spiffe://other.org`, but this is the trust domain `spiffe://example.org`, which never changes; give a root with that URI alone, or without a URI
        two trust domains: certificate 1 of RootCert (CN=Example Mesh CA) names `spiffe://example.org` and `spiffe://other.org`, but this is the trust domain `spiffe://example.org`, which never changes; give a root with that URI alone, or without a URI
        an identity: certificate 1 of RootCert (CN=Example Mesh CA) names `spiffe://example.org/ns/default/dc/dc1/svc/web`, but this is the trust domain `spiffe://example.org`, which never changes; give a root with that URI alone, or without a URI
        URIs elsewhere: the name constraints of certificate 1 of RootCert (CN=Example Mesh CA) exclude the trust domain `example.org`: the URI host `other.org` is all that is permitted; have it signed again without constraints on URIs
        our URIs excluded: the name constraints of certificate 1 of RootCert (CN=Example Mesh CA) exclude the trust domain `example.org`: the URI host `Example.org` is excluded; have it signed again without constraints on URIs
        all URIs below a domain excluded: the name constraints of certificate 1 of RootCert (CN=Example Mesh CA) exclude the trust domain `example.org`: the URI host `.org` is excluded; have it signed again without constraints on URIs
        our URIs permitted: certificate 1 of RootCert (CN=Example Mesh CA) has name constraints on the URI host `example.org`: agents and other verifiers do not implement these and refuse every chain below; have it signed again without constraints on URIs and subjects
        subjects: certificate 1 of RootCert (CN=Example Mesh CA) has name constraints on subjects (directoryName): agents and other verifiers do not implement these and refuse every chain below; have it signed again without constraints on URIs and subjects
        URIs elsewhere, above: the name constraints of certificate 2 of RootCert (CN=Example Root) exclude the trust domain `example.org`: the URI host `other.org` is all that is permitted; have it signed again without constraints on URIs
        another CA above: certificate 1 of RootCert (CN=Example Mesh CA) was not signed by certificate 2 of RootCert (CN=Other Root): it names `CN=Example Root` as its issuer; give the root first, then the certificate of the CA that signed it, and so on upwards
        a CA of the same name above: certificate 1 of RootCert (CN=Example Mesh CA) was not signed by certificate 2 of RootCert (CN=Example Root): it names the key db:c2:98:25:1c:51:32:1b:72:66:e7:8d:1c:15:1c:2b:62:af:f8:cb as its issuer's, and that is fe:81:2c:12:f3:ab:4c:e6:ac:5d:b6:9a:c3:52:f9:06:cb:1b:11:ef; give the root first, then the certificate of the CA that signed it, and so on upwards
        a bad signature: certificate 1 of RootCert (CN=Example Mesh CA) was not signed by certificate 2 of RootCert (CN=Example Root): the certificate was not signed by the expected key: the signature was not made with the private key of the ed25519 key db:c2:98:25:1c:51:32:1b:72:66:e7:8d:1c:15:1c:2b:62:af:f8:cb; give the root first, then the certificate of the CA that signed it, and so on upwards
        above a self-signed one: certificate 1 of RootCert (CN=Example Mesh Root) is self-signed, so that nothing is above it, but 1 more follow it; leave out those that follow
        out of order: certificate 1 of RootCert (CN=Example Mesh CA) was not signed by certificate 2 of RootCert (CN=Example Root): it names `CN=Example Policy CA` as its issuer; give the root first, then the certificate of the CA that signed it, and so on upwards
        one left out: certificate 1 of RootCert (CN=Example Mesh CA) was not signed by certificate 2 of RootCert (CN=Example Root): it names `CN=Example Policy CA` as its issuer; give the root first, then the certificate of the CA that signed it, and so on upwards
        a bad signature of its own: certificate 1 of RootCert (CN=Example Mesh Root) names itself as its issuer, but its signature is not by its own key: the certificate was not signed by the expected key: the signature was not made with the private key of the ed25519 key 34:75:0f:98:bd:59:fc:fc:94:6d:a4:5a:aa:be:93:3b:e1:54:a4:b5; give the certificate as it was issued
        too many: RootCert has 6 certificates, at most 5 are allowed here: the root, and above it 4 CAs, of which the self-signed one at the top may be left out; verifiers give up on longer chains
        too many without the top: RootCert has 5 certificates, at most 4 are allowed here: the root, and above it 4 CAs, of which the self-signed one at the top may be left out; verifiers give up on longer chains
    "#]].assert_eq(&listed.concat());
}

#[test]
fn a_weak_signature_is_refused_wherever_it_is() {
    let rsa = key(KeyKind::Rsa2048);
    let company = self_signed(template("Example Root", None), &rsa);
    let weak_company = with_algorithm(&company, SHA256_WITH_RSA, SHA1_WITH_RSA);
    let own = seeded(1);
    let signer = authority(&company, rsa.clone());
    let subject = Subject::new(own.public_key_of());
    let mesh = signer.sign(template("Example Mesh CA", None), subject, serial(2), dates(LONG)).unwrap();
    check(&[&mesh, &company], &own).unwrap();
    let weak_mesh = with_algorithm(&mesh, SHA256_WITH_RSA, SHA1_WITH_RSA);
    let told = |certificates: &[&SignedCertificate]| check(certificates, &own).unwrap_err();
    assert_eq!(told(&[&weak_mesh]), told(&[&weak_mesh, &company]));
    expect![[r#"
        certificate 1 of RootCert (CN=Example Mesh CA) has a signature by the algorithm 1.2.840.113549.1.1.5, which is weak or does not belong to the key that made it; accepted are Ed25519, and ECDSA, RSA PKCS#1 v1.5 and RSA-PSS with SHA-256, SHA-384 or SHA-512; have it signed again, or leave it out if it is the self-signed one at the top
        certificate 2 of RootCert (CN=Example Root) has a signature by the algorithm 1.2.840.113549.1.1.5, which is weak or does not belong to the key that made it; accepted are Ed25519, and ECDSA, RSA PKCS#1 v1.5 and RSA-PSS with SHA-256, SHA-384 or SHA-512; have it signed again, or leave it out if it is the self-signed one at the top
    "#]].assert_eq(&lines([told(&[&weak_mesh]), told(&[&mesh, &weak_company])]));
}

#[test]
fn a_root_that_is_in_the_bundle_or_looks_like_one_is_refused() {
    let (company, own) = (company(), seeded(1));
    let mesh = mesh_ca(&company, None);
    let beside = |other: &SignedCertificate| {
        let (domain, bundle) = (trust_domain(), [other.facts.clone()]);
        let wanted = SuppliedFor { bundle: &bundle, ..wanted(&own, &domain) };
        check_supplied(&pem(&[&mesh]), &wanted).unwrap_err().to_string()
    };
    let same_key = below((&company, 9), template("Another Mesh CA", None), &own);
    let same_name = below((&company, 9), template("Example Mesh CA", None), &seeded(5));
    let same_id = signed_by(
        (&company, 9),
        template("Another Mesh CA", None),
        Subject { key_id: own.public_key_of().id, ..Subject::new(seeded(5).public_key_of()) },
        dates(LONG),
    );
    expect![[r#"
        the new root has the key of root 34:75:0f:98:bd:59:fc:fc:94:6d:a4:5a:aa:be:93:3b:e1:54:a4:b5, which is in the bundle: verifiers could not tell them apart; give a root with a key and a name of its own
        the new root has the key of root 34:75:0f:98:bd:59:fc:fc:94:6d:a4:5a:aa:be:93:3b:e1:54:a4:b5, which is in the bundle: verifiers could not tell them apart; give a root with a key and a name of its own
        the new root has the subject of root 75:99:77:6c:30:85:e3:f9:da:0d:13:07:1e:b0:b4:ab:50:fd:2b:f6, which is in the bundle: verifiers could not tell them apart; give a root with a key and a name of its own
        the new root has the subject key identifier of root 34:75:0f:98:bd:59:fc:fc:94:6d:a4:5a:aa:be:93:3b:e1:54:a4:b5, which is in the bundle: verifiers could not tell them apart; give a root with a key and a name of its own
    "#]].assert_eq(&lines([beside(&mesh), beside(&same_key), beside(&same_name), beside(&same_id)]));
    assert!(check_beside(&mesh.facts, &[company.facts.clone(), make_root(&*seeded(6)).facts]).is_ok());
}
