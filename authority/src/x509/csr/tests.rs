//! Requests that others got wrong, each refused with its reason, and the ones that are accepted.

use proptest::prelude::*;

use super::*;
use crate::{
    key::{Der, KeyKind},
    spiffe::Name,
    x509::{
        request::{RequestedName, build_csr},
        testing::{
            ECDSA_SHA256, TestSigner, alternative_names, extension, extension_request, key, request_with, sequence,
            signed_request, tlv,
        },
    },
};

const WEB: &str = "spiffe://example.org/ns/default/dc/dc1/svc/web";
const PROXY: &str = "web.default.serviceaccount.identity.linkerd.example.org";
const EMAIL: u8 = 1;
const DNS: u8 = 2;
const URI: u8 = 6;
const IP: u8 = 7;

fn web() -> Identity {
    Identity::Spiffe(WEB.parse().unwrap())
}

fn verify(der: &[u8]) -> Result<VerifiedCsr, CsrError> {
    VerifiedCsr::verify(der, &CsrLimits::default())
}

/// A correctly signed request with these extensions.
fn asking(extensions: &[&[u8]]) -> Vec<u8> {
    request_with(&*key(KeyKind::EcP256), &extension_request(extensions))
}

fn naming(names: &[(u8, &[u8])]) -> Result<VerifiedCsr, CsrError> {
    verify(&asking(&[&alternative_names(names)]))
}

fn asking_beside_web(other: &[u8]) -> Result<VerifiedCsr, CsrError> {
    verify(&asking(&[&alternative_names(&[(URI, WEB.as_bytes())]), other]))
}

#[test]
fn a_request_of_each_kind_of_key_is_verified() {
    for kind in KeyKind::ALL {
        let signer = key(kind);
        let csr = build_csr(&*signer, &RequestedName::Leaf(&web())).unwrap();
        let verified = verify(csr.as_bytes()).unwrap();
        assert_eq!((verified.public_key(), verified.identity()), (signer.public_key(), &web()));
        assert_eq!(VerifiedCsr::of_own_key(&*signer, web()), verified);
    }
}

/// Requests that OpenSSL 3.0 made.
const P384_SHA256: &str = include_str!("fixtures/p384_sha256.pem");
const RSA_PSS: &str = include_str!("fixtures/rsa_pss.pem");
const RSA_SHA1: &str = include_str!("fixtures/rsa_sha1.pem");
const P521: &str = include_str!("fixtures/p521.pem");
const RSA_1024: &str = include_str!("fixtures/rsa_1024.pem");

#[test]
fn requests_of_openssl_are_read() {
    let verify_pem = |text: &str| VerifiedCsr::verify_pem(text, &CsrLimits::default());
    for (text, kind) in [(P384_SHA256, KeyKind::EcP384), (RSA_PSS, KeyKind::Rsa2048)] {
        let verified = verify_pem(text).unwrap();
        assert_eq!((verified.public_key().kind, verified.identity()), (kind, &web()));
    }
    assert!(matches!(verify_pem(P521), Err(CsrError::Key(PublicKeyError::NotAccepted { .. }))));
    assert_eq!(verify_pem(RSA_1024), Err(CsrError::Key(PublicKeyError::RsaSize { bits: 1024 })));
    let refusal = verify_pem(RSA_SHA1).unwrap_err();
    assert!(refusal.to_string().contains("1.2.840.113549.1.1.5 is not accepted for an rsa-2048 key"), "{refusal}");
}

#[test]
fn the_largest_conforming_request_fits_the_limits() {
    let name = |text: &str| Name::parse("name", text).unwrap();
    let trust_domain: TrustDomain = "d".repeat(255).parse().unwrap();
    let id = SpiffeId::service(trust_domain, name(&"d".repeat(128)), name(&"s".repeat(128)));
    let csr = build_csr(&*key(KeyKind::Rsa4096), &RequestedName::Leaf(&Identity::Spiffe(id))).unwrap();
    assert!(csr.as_bytes().len() < CSR_BYTES_MAX / 2, "{} bytes", csr.as_bytes().len());
    let limits = CsrLimits { depth_max: 9, ..CsrLimits::default() };
    assert!(VerifiedCsr::verify(csr.as_bytes(), &limits).is_ok());
}

#[test]
fn a_linkerd_proxy_asks_for_exactly_one_dns_name() {
    let verified = naming(&[(DNS, PROXY.as_bytes())]).unwrap();
    assert_eq!(verified.identity(), &Identity::LinkerdDns(PROXY.into()));
    let built = build_csr(&*key(KeyKind::EcP256), &RequestedName::Leaf(verified.identity())).unwrap();
    assert_eq!(verify(built.as_bytes()).unwrap(), verified);
    assert!(naming(&[(DNS, PROXY.as_bytes()), (DNS, PROXY.as_bytes())]).is_err());
    assert!(matches!(naming(&[(DNS, b"web.example.org")]), Err(CsrError::Dns(DnsNameError::NotLinkerd(_)))));
    for bad in ["*.default.serviceaccount.identity.linkerd.example.org", "spiffe://example.org/x", ""] {
        assert!(matches!(naming(&[(DNS, bad.as_bytes())]), Err(CsrError::Dns(_))), "{bad}");
    }
}

#[test]
fn a_request_with_no_uri_two_uris_or_the_same_uri_twice_is_refused() {
    let api: &[u8] = b"spiffe://example.org/ns/default/dc/dc1/svc/api";
    let web = WEB.as_bytes();
    assert_eq!(naming(&[]), Err(CsrError::UriCount { count: 0 }));
    assert_eq!(verify(&request_with(&*key(KeyKind::EcP256), &[])), Err(CsrError::UriCount { count: 0 }));
    for names in [&[(URI, web), (URI, api)][..], &[(URI, web), (URI, web)]] {
        let refusal = naming(names).unwrap_err();
        assert_eq!(refusal, CsrError::UriCount { count: 2 });
        assert_eq!(refusal.to_string(), "CSR SAN contains an invalid number of URIs: 2");
    }
}

#[test]
fn a_dns_name_an_address_or_an_e_mail_address_beside_the_uri_is_refused() {
    let others: [(u8, &[u8]); 5] =
        [(DNS, b"web.example.org"), (DNS, PROXY.as_bytes()), (IP, &[10, 0, 0, 1]), (IP, &[0; 16]), (EMAIL, b"a@b.c")];
    for other in others {
        for names in [[(URI, WEB.as_bytes()), other], [other, (URI, WEB.as_bytes())]] {
            assert!(matches!(naming(&names), Err(CsrError::UnexpectedName { .. })), "{other:?}");
        }
    }
    for alone in
        [(IP, &[10, 0, 0, 1][..]), (EMAIL, b"a@b.c"), (8, &[6, 1, 42]), (0x20, &[6, 1, 42]), (0x24, &[0x30, 0])]
    {
        assert!(matches!(naming(&[alone]), Err(CsrError::UnexpectedName { .. })), "{alone:?}");
    }
    assert!(matches!(naming(&[(IP, &[10, 0, 0])]), Err(CsrError::Malformed(_))));
}

#[test]
fn a_name_that_is_no_spiffe_id_of_ours_is_refused() {
    let bad: [&[u8]; 24] = [
        b"",
        b"https://example.org/",
        b"SPIFFE://example.org/ns/default/dc/dc1/svc/web",
        b"spiffe://Example.org/ns/default/dc/dc1/svc/web",
        b"spiffe://example.org",
        b"spiffe://example.org/",
        b"spiffe://example.org/ns/default/dc/dc1/svc/",
        b"spiffe://example.org/ns/default/dc/dc1/svc/web/",
        b"spiffe://example.org/ns/other/dc/dc1/svc/web",
        b"spiffe://example.org/ns/default/dc/dc1/svc/..",
        b"spiffe://example.org/ns/default/dc/dc1/svc/../svc/web",
        b"spiffe://example.org/ns/default/dc/dc1/svc/%2f",
        b"spiffe://example.org/ns/default/dc/dc1/svc/web?x=1",
        b"spiffe://example.org/ns/default/dc/dc1/svc/web#x",
        b"spiffe://user@example.org/ns/default/dc/dc1/svc/web",
        b"spiffe://example.org:443/ns/default/dc/dc1/svc/web",
        b"spiffe://example.org/ns/default/dc/dc1/svc/web\n",
        b"spiffe://example.org/ns/default/dc/dc1/svc/web\0.example.org",
        b"spiffe://example.org/ns/default/dc/dc1/svc/we\"b",
        b"spiffe://example.org/ns/default/dc/dc1/svc/web or 1==1",
        b" spiffe://example.org/ns/default/dc/dc1/svc/web",
        b"spiffe:///ns/default/dc/dc1/svc/web",
        b"spiffe://*/ns/default/dc/dc1/svc/web",
        b"spiffe://example.org//ns/default/dc/dc1/svc/web",
    ];
    for name in bad {
        assert!(matches!(naming(&[(URI, name)]), Err(CsrError::Spiffe(_))), "{}", name.escape_ascii());
    }
    let look_alike = "spiffe://example.org/ns/default/dc/dc1/svc/w\u{0435}b";
    assert!(matches!(naming(&[(URI, look_alike.as_bytes())]), Err(CsrError::Malformed(_))));
}

#[test]
fn a_request_for_a_ca_is_refused() {
    let ca = extension(19, true, &sequence(&[&[1, 1, 0xff]]));
    assert_eq!(asking_beside_web(&ca), Err(CsrError::CaRequested));
    assert!(asking_beside_web(&extension(19, true, &sequence(&[]))).is_ok(), "CA false is what a leaf is");
    let signing = extension(15, true, &[3, 2, 1, 0b0000_0110]);
    assert!(matches!(asking_beside_web(&signing), Err(CsrError::KeyUsages { .. })));
    let issuer = build_csr(&*key(KeyKind::EcP256), &RequestedName::Issuer(&"example.org".parse().unwrap())).unwrap();
    assert!(verify(issuer.as_bytes()).is_err());
}

#[test]
fn usages_are_tolerated_as_far_as_a_leaf_has_them() {
    assert!(asking_beside_web(&extension(15, true, &[3, 2, 7, 0x80])).is_ok());
    let refusal = asking_beside_web(&extension(15, true, &[3, 2, 5, 0xa0])).unwrap_err();
    let text = "the CSR asks for the key usages `digitalSignature, keyEncipherment`; given are `digitalSignature`";
    assert_eq!(refusal.to_string(), text);
    let purpose = |last: u8| extension(37, false, &sequence(&[&[6, 8, 0x2b, 6, 1, 5, 5, 7, 3, last]]));
    assert!(asking_beside_web(&purpose(1)).is_ok());
    assert!(asking_beside_web(&purpose(2)).is_ok());
    assert!(matches!(asking_beside_web(&purpose(3)), Err(CsrError::Purpose { .. })), "code signing");
    let any = extension(37, false, &sequence(&[&[6, 4, 0x55, 0x1d, 37, 0]]));
    assert!(matches!(asking_beside_web(&any), Err(CsrError::Purpose { .. })));
}

#[test]
fn unknown_extensions_are_refused_whether_critical_or_not() {
    for (number, is_critical) in [(30, true), (31, false), (32, true), (18, false)] {
        let refusal = asking_beside_web(&extension(number, is_critical, &[5, 0])).unwrap_err();
        assert_eq!(refusal, CsrError::UnknownExtension { identifier: format!("2.5.29.{number}"), is_critical });
    }
    let own_id = key(KeyKind::EcP256).public_key().id;
    assert!(asking_beside_web(&extension(14, false, &tlv(4, &own_id.0))).is_ok());
    assert!(asking_beside_web(&extension(14, false, &tlv(4, &[7; 20]))).is_err());
    assert!(asking_beside_web(&extension(35, false, &sequence(&[&tlv(0x80, &[7; 20])]))).is_err());
}

#[test]
fn an_extension_or_a_list_of_them_that_is_there_twice_is_refused() {
    let names = alternative_names(&[(URI, WEB.as_bytes())]);
    assert!(matches!(verify(&asking(&[&names, &names])), Err(CsrError::Malformed(DerError::Duplicate { .. }))));
    let list = extension_request(&[&names]);
    let twice = request_with(&*key(KeyKind::EcP256), &[list.clone(), list.clone()].concat());
    assert!(matches!(verify(&twice), Err(CsrError::UnexpectedAttribute { .. })));
    let identifier = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];
    let two_lists = sequence(&[&identifier, &tlv(0x31, &[sequence(&[&names]), sequence(&[&names])].concat())]);
    assert!(matches!(verify(&request_with(&*key(KeyKind::EcP256), &two_lists)), Err(CsrError::Malformed(_))));
}

#[test]
fn unexpected_attributes_are_refused() {
    let challenge =
        sequence(&[&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 7], &tlv(0x31, &tlv(0x0c, b"secret"))]);
    let list = extension_request(&[&alternative_names(&[(URI, WEB.as_bytes())])]);
    let refusal = verify(&request_with(&*key(KeyKind::EcP256), &[list, challenge].concat())).unwrap_err();
    assert_eq!(refusal, CsrError::UnexpectedAttribute { identifier: "1.2.840.113549.1.9.7".into() });
}

#[test]
fn a_request_that_another_key_signed_is_refused() {
    let names = extension_request(&[&alternative_names(&[(URI, WEB.as_bytes())])]);
    let spki = key(KeyKind::EcP256).public_key().spki.clone();
    let info = sequence(&[&[2, 1, 0], &[0x30, 0], spki.as_bytes(), &tlv(0xa0, &names)]);
    let thief = TestSigner::new(KeyKind::EcP256);
    let refusal = verify(&signed_request(&thief, &info, ECDSA_SHA256)).unwrap_err();
    assert!(matches!(refusal, CsrError::Signature(SignatureError::Wrong { .. })), "{refusal}");
}

#[test]
fn a_signature_algorithm_that_does_not_suit_the_key_is_refused() {
    let names = extension_request(&[&alternative_names(&[(URI, WEB.as_bytes())])]);
    let signer = key(KeyKind::Ed25519);
    let info = sequence(&[&[2, 1, 0], &[0x30, 0], signer.public_key().spki.as_bytes(), &tlv(0xa0, &names)]);
    let sha1 = [6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1];
    for algorithm in [ECDSA_SHA256, &sha1, &[5, 0], &[]] {
        let refusal = verify(&signed_request(&*signer, &info, algorithm)).unwrap_err();
        assert!(matches!(refusal, CsrError::Signature(SignatureError::UnsuitedAlgorithm { .. })), "{refusal}");
        assert!(refusal.to_string().contains("accepted are Ed25519"), "{refusal}");
    }
    assert!(verify(&signed_request(&*signer, &info, &[6, 3, 0x2b, 101, 112])).is_ok());
}

#[test]
fn an_oversized_or_degenerate_rsa_key_is_refused_before_its_signature_is_checked() {
    let names = extension_request(&[&alternative_names(&[(URI, WEB.as_bytes())])]);
    let request = |modulus: &[u8], exponent: &[u8]| {
        let key = sequence(&[&tlv(2, &[&[0][..], modulus].concat()), &tlv(2, exponent)]);
        let algorithm: &[u8] = &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
        let spki = sequence(&[algorithm, &tlv(3, &[&[0][..], &key].concat())]);
        let info = sequence(&[&[2, 1, 0], &[0x30, 0], &spki, &tlv(0xa0, &names)]);
        let no_signature = tlv(3, &[0]);
        sequence(&[&info, &[0x30, 2, 5, 0], &no_signature])
    };
    for bits in [1024, 8192, 16384] {
        let refusal = verify(&request(&vec![0xff; bits / 8], &[1, 0, 1]));
        assert_eq!(refusal, Err(CsrError::Key(PublicKeyError::RsaSize { bits })));
    }
    let even = [&[0xff; 255][..], &[0xfe]].concat();
    assert_eq!(verify(&request(&even, &[1, 0, 1])), Err(CsrError::Key(PublicKeyError::RsaEvenModulus)));
    let refusal = verify(&request(&[0xff; 256], &[1]));
    assert!(matches!(refusal, Err(CsrError::Key(PublicKeyError::RsaExponent { .. }))));
}

#[test]
fn size_and_depth_are_checked_before_anything_is_read() {
    let large = vec![0x30; CSR_BYTES_MAX + 1];
    let refusal = CsrError::TooLarge { bytes: CSR_BYTES_MAX + 1, bytes_max: CSR_BYTES_MAX };
    assert_eq!(verify(&large), Err(refusal));
    let deep = (0..20).fold(vec![], |inside: Vec<u8>, _| sequence(&[&inside]));
    assert_eq!(verify(&deep), Err(CsrError::Malformed(DerError::TooDeep { depth_max: CSR_DEPTH_MAX })));
}

#[test]
fn a_request_ends_where_it_ends() {
    let csr = build_csr(&*key(KeyKind::EcP256), &RequestedName::Leaf(&web())).unwrap();
    let trailing = [csr.as_bytes(), &[0]].concat();
    assert!(matches!(verify(&trailing), Err(CsrError::Malformed(DerError::TrailingBytes { .. }))));
    for cut in 0..csr.as_bytes().len() {
        assert!(verify(&csr.as_bytes()[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn pem_is_one_block_of_bounded_size() {
    let csr = build_csr(&*key(KeyKind::EcP256), &RequestedName::Leaf(&web())).unwrap();
    let text = pem::encode(pem::CERTIFICATE_REQUEST, &csr);
    let verify_pem = |text: &str| VerifiedCsr::verify_pem(text, &CsrLimits::default());
    assert_eq!(verify_pem(&text).unwrap().identity(), &web());
    assert!(verify_pem(text.trim_end()).is_ok());
    assert!(matches!(verify_pem(&text.repeat(2)), Err(CsrError::Pem(PemError::WrongNumberOfBlocks { .. }))));
    assert!(matches!(verify_pem(&"\n".repeat(CSR_PEM_BYTES_MAX + 1)), Err(CsrError::Pem(PemError::TooLarge { .. }))));
    let largest = pem::encode(pem::CERTIFICATE_REQUEST, &Der::from(vec![0; CSR_BYTES_MAX]));
    assert!(largest.len() <= CSR_PEM_BYTES_MAX);
}

#[test]
fn an_issuer_request_names_the_trust_domain_alone() {
    let verify = |der: &[u8]| VerifiedIssuerCsr::verify(der, &CsrLimits::default());
    let trust_domain: TrustDomain = "example.org".parse().unwrap();
    for kind in KeyKind::ALL {
        let csr = build_csr(&*key(kind), &RequestedName::Issuer(&trust_domain)).unwrap();
        let verified = verify(csr.as_bytes()).unwrap();
        assert_eq!((verified.public_key(), verified.trust_domain()), (key(kind).public_key(), &trust_domain));
    }
    let root = alternative_names(&[(URI, b"spiffe://example.org")]);
    let with = |other: &[u8]| verify(&asking(&[&root, other]));
    assert!(verify(&asking(&[&root])).is_ok());
    assert_eq!(
        with(&extension(19, true, &sequence(&[&[1, 1, 0xff], &[2, 1, 1]]))),
        Err(CsrError::PathLength { asked: 1 })
    );
    assert!(matches!(with(&extension(15, true, &[3, 2, 7, 0x80])), Err(CsrError::KeyUsages { .. })));
    let server = extension(37, false, &sequence(&[&[6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1]]));
    assert!(matches!(with(&server), Err(CsrError::Purpose { .. })));
    assert!(matches!(with(&extension(30, true, &[0x30, 0])), Err(CsrError::UnknownExtension { .. })));
    assert!(verify(&asking(&[&alternative_names(&[(URI, WEB.as_bytes())])])).is_err(), "a path");
    assert!(verify(&asking(&[&alternative_names(&[(DNS, b"example.org")])])).is_err());
    assert!(verify(&request_with(&*key(KeyKind::EcP256), &[])).is_err());
}

#[test]
fn a_server_request_names_nothing() {
    let verify = |der: &[u8]| VerifiedServerCsr::verify(der, &CsrLimits::default());
    let signer = key(KeyKind::EcP256);
    let csr = build_csr(&*signer, &RequestedName::Server).unwrap();
    assert_eq!(verify(csr.as_bytes()), Ok(VerifiedServerCsr::of_own_key(&*signer)));
    let web = build_csr(&*signer, &RequestedName::Leaf(&web())).unwrap();
    assert!(matches!(verify(web.as_bytes()), Err(CsrError::UnexpectedName { .. })));
    let ca = asking(&[&extension(19, true, &sequence(&[&[1, 1, 0xff]]))]);
    assert_eq!(verify(&ca), Err(CsrError::CaRequested));
}

#[test]
fn a_subject_is_neither_refused_nor_taken() {
    let names = extension_request(&[&alternative_names(&[(URI, WEB.as_bytes())])]);
    let common_name = sequence(&[&tlv(0x31, &sequence(&[&[6, 3, 0x55, 4, 3], &tlv(0x0c, b"anything")]))]);
    let signer = key(KeyKind::EcP256);
    let spki = signer.public_key().spki.as_bytes();
    let info = sequence(&[&[2, 1, 0], &common_name, spki, &tlv(0xa0, &names)]);
    let verified = verify(&signed_request(&*signer, &info, ECDSA_SHA256)).unwrap();
    assert_eq!(verified.identity(), &web());
}

#[test]
fn a_signer_that_fails_is_named_in_the_error() {
    let error = build_csr(&TestSigner::failing(), &RequestedName::Server).unwrap_err();
    assert!(error.to_string().contains("the token was pulled out"), "{error}");
}

fn verify_all(der: &[u8]) {
    let limits = CsrLimits::default();
    let _ = VerifiedCsr::verify(der, &limits);
    let _ = VerifiedIssuerCsr::verify(der, &limits);
    let _ = VerifiedServerCsr::verify(der, &limits);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        verify_all(&bytes);
        verify_all(&sequence(&[&bytes]));
        verify_all(&request_with(&*key(KeyKind::Ed25519), &bytes));
    }

    #[test]
    fn a_changed_request_is_never_accepted(place in any::<prop::sample::Index>(), change in 1_u8..) {
        let mut csr = build_csr(&*key(KeyKind::Ed25519), &RequestedName::Leaf(&web())).unwrap().as_bytes().to_vec();
        let place = place.index(csr.len());
        csr[place] ^= change;
        prop_assert!(verify(&csr).is_err());
        verify_all(&csr);
    }

    #[test]
    fn a_request_with_pieces_cut_and_doubled_never_panics(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>()), 1..5),
    ) {
        let mut csr = build_csr(&*key(KeyKind::EcP256), &RequestedName::Leaf(&web())).unwrap().as_bytes().to_vec();
        for (from, to, is_doubled) in cuts {
            let (from, to) = (from.index(csr.len()), to.index(csr.len()));
            let piece = csr[from.min(to)..from.max(to)].to_vec();
            if is_doubled {
                csr.splice(from..from, piece);
            } else if piece.len() < csr.len() {
                csr.drain(from.min(to)..from.max(to));
            }
        }
        verify_all(&csr);
    }
}
