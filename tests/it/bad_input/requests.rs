//! Certificate requests that ask for too much, prove too little, or are none: over HTTP and over gRPC.

use carrack_tests::{
    csr::{CsrKey, P224, P521, San, alternative_names, ca_true, ec_spki, nested, pem, rsa_spki},
    grpc::Signer,
};
use serde_json::json;
use tonic::Code;

use super::{Victim, assert_refused, assert_sentence};

/// A request and the words that its refusal has.
type Bad = (&'static str, Vec<u8>, &'static str);

const EXPONENT: &[u8] = &[1, 0, 1];

#[test]
fn a_request_gets_one_service_of_this_datacenter_for_its_own_good_key_or_nothing() {
    let mut victim = Victim::new();
    let signer = Signer::of(victim.server()).expect("the gRPC port answers");
    let key = CsrKey::make();
    let bad = [bad_names(&victim, &key), bad_uris(&victim, &key), bad_keys(&victim, &key), bad_bytes(&victim, &key)];
    for (what, csr, words) in bad.into_iter().flatten() {
        let answer = victim.management().send("PUT", "/v1/carrack/sign", Some(&json!({ "Csr": pem(&csr) })));
        // Over HTTP, PEM is judged before what is in it.
        let of_pem = if csr.len() > 9000 { "at most" } else { words };
        assert_refused(what, &answer.expect("an answer comes"), 400, of_pem);
        let status = signer.sign(&victim.cluster.token, &csr).expect_err(what);
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
        assert_sentence(what, status.message(), words);
    }
    victim.assert_unharmed();
}

fn bad_names(victim: &Victim, key: &CsrKey) -> Vec<Bad> {
    let (web, db) = (victim.id("web"), victim.id("db"));
    let with = |other| key.request(&[San::Uri(&web), other]);
    let only = "exactly one URI and no other name is given";
    vec![
        ("no extensions", key.request_with(&key.spki(), &[]), "an empty list of extensions"),
        ("an empty list of names", key.request(&[]), "invalid number of URIs: 0"),
        ("two URIs", with(San::Uri(&db)), "invalid number of URIs: 2"),
        ("the same URI twice", with(San::Uri(&web)), "invalid number of URIs: 2"),
        ("a DNS name too", with(San::Dns("web.example.org")), only),
        ("an address too", with(San::Ip([10, 0, 0, 1])), only),
        ("an e-mail address too", with(San::Email("root@example.org")), only),
        ("an e-mail address first", key.request(&[San::Email("root@example.org"), San::Uri(&web)]), only),
        ("a DNS name alone", key.request(&[San::Dns("web.example.org")]), "the name in the CSR is refused"),
        ("a URI as DNS name", key.request(&[San::Dns(&web)]), "the name in the CSR is refused"),
        ("a wildcard", key.request(&[San::Dns("*.example.org")]), "wildcard"),
        ("a wildcard in a URI", key.request(&[San::Uri(&victim.id("*"))]), "the name in the CSR is refused"),
        ("an address alone", key.request(&[San::Ip([127, 0, 0, 1])]), only),
        (
            "names twice",
            {
                let names = alternative_names(&[San::Uri(&web)]);
                key.request_with(&key.spki(), &[names.clone(), names])
            },
            "twice",
        ),
        ("a CA", key.request_with(&key.spki(), &[alternative_names(&[San::Uri(&web)]), ca_true()]), "CA certificate"),
    ]
}

fn bad_uris(victim: &Victim, key: &CsrKey) -> Vec<Bad> {
    let (domain, web) = (&victim.trust_domain, victim.id("web"));
    let uri = |uri: &str| key.request(&[San::Uri(uri)]);
    let refused = "the name in the CSR is refused";
    vec![
        ("an upper-case scheme", uri(&web.replace("spiffe", "SPIFFE")), "'spiffe' scheme"),
        ("an upper-case trust domain", uri(&web.replace(&**domain, &domain.to_uppercase())), "trust domain"),
        ("another trust domain", uri(&web.replace(&**domain, "example.org")), "from a different trust domain"),
        ("a longer trust domain", uri(&web.replace(&**domain, &format!("{domain}.example.org"))), "a different trust"),
        ("another datacenter", uri(&web.replace("/dc/dc1/", "/dc/dc2/")), "from a different datacenter"),
        ("another namespace", uri(&web.replace("/default/", "/other/")), refused),
        ("upper-case path words", uri(&web.replace("/ns/", "/NS/")), refused),
        ("the trust domain itself", uri(&format!("spiffe://{domain}")), refused),
        ("a trailing slash", uri(&format!("{web}/")), refused),
        ("an empty segment", uri(&web.replace("/svc/", "/svc//")), refused),
        ("a segment too many", uri(&format!("{web}/x")), refused),
        ("dots", uri(&victim.id("..")), refused),
        ("an escaped slash", uri(&victim.id("a%2fb")), refused),
        ("a query", uri(&format!("{web}?x=1")), refused),
        ("a fragment", uri(&format!("{web}#x")), refused),
        ("a port", uri(&web.replace(&**domain, &format!("{domain}:8500"))), refused),
        ("user information", uri(&web.replace("//", "//root@")), refused),
        ("quotes", uri(&victim.id("we\"b' or 1=1")), refused),
        ("a newline", uri(&victim.id("we\nb")), "the"),
        ("NUL", uri(&victim.id("web\0.evil")), "the"),
        ("a Cyrillic letter", uri(&victim.id("w\u{435}b")), "the CSR"),
        ("a long name", uri(&victim.id(&"a".repeat(200))), "at most 128"),
        ("a long path", uri(&victim.id(&"a/".repeat(1500))), refused),
        ("no URI at all", uri(""), refused),
    ]
}

fn bad_keys(victim: &Victim, key: &CsrKey) -> Vec<Bad> {
    let names = [alternative_names(&[San::Uri(&victim.id("web"))])];
    let of = |spki: &[u8]| key.request_with(spki, &names);
    let mut tampered = of(&key.spki());
    *tampered.last_mut().expect("a request has bytes") ^= 1;
    let accepted = "accepted are EC P-256, EC P-384, Ed25519, and RSA";
    vec![
        ("a changed signature", tampered, "not signed with its own key"),
        ("somebody else's key", of(&CsrKey::make().spki()), "not signed with its own key"),
        ("EC P-224", of(&ec_spki(P224)), accepted),
        ("EC P-521", of(&ec_spki(P521)), accepted),
        ("RSA 1024", of(&rsa_spki(1024, true, EXPONENT)), "1024 bits"),
        ("RSA 8192", of(&rsa_spki(8192, true, EXPONENT)), "8192 bits"),
        ("RSA 16384", of(&rsa_spki(16384, true, EXPONENT)), "16384 bits"),
        ("an even modulus", of(&rsa_spki(2048, false, EXPONENT)), "modulus of the RSA key is even"),
        ("the exponent 1", of(&rsa_spki(2048, true, &[1])), "exponent of the RSA key is 1"),
        ("an even exponent", of(&rsa_spki(2048, true, &[4])), "exponent of the RSA key is 4"),
        ("a huge exponent", of(&rsa_spki(2048, true, &[0x7f; 64])), "exponent of the RSA key"),
        ("no public key", of(&[0x30, 0]), "key"),
    ]
}

fn bad_bytes(victim: &Victim, key: &CsrKey) -> Vec<Bad> {
    let good = key.request(&[San::Uri(&victim.id("web"))]);
    let random: Vec<u8> = (0..700_u32).map(|number| number.wrapping_mul(0x9e37_79b9).to_le_bytes()[3]).collect();
    vec![
        ("nothing", Vec::new(), "the CSR"),
        ("random bytes", random, "the CSR cannot be read"),
        ("a cut request", good[..good.len() - 10].to_vec(), "ends inside"),
        ("a byte too many", [&good[..], &[0]].concat(), "1 bytes follow"),
        ("two requests", [&good[..], &good[..]].concat(), "follow"),
        ("a request that is too long", key.request(&[San::Uri(&"a".repeat(12_000))]), "at most 8192"),
        ("elements in elements", nested(40), "nested deeper than 16"),
        ("elements in elements, inside", key.request_with(&key.spki(), &[nested(40)]), "nested deeper than 16"),
        ("a length of indefinite form", vec![0x30, 0x80, 0, 0], "the CSR cannot be read"),
        ("a length beyond memory", vec![0x30, 0x88, 0x7f, 255, 255, 255, 255, 255, 255, 255], "the CSR cannot be read"),
        ("a tag number above 30", vec![0x3f, 0x81, 0x01, 0], "the CSR cannot be read"),
    ]
}

#[test]
fn text_that_is_not_the_pem_of_one_request_is_refused() {
    let mut victim = Victim::new();
    let good = pem(&CsrKey::make().request(&[San::Uri(&victim.id("web"))]));
    let middle = good.len() / 2;
    for (what, text, words) in [
        ("cut PEM", good[..middle].to_owned(), "the CSR is refused"),
        ("two blocks", format!("{good}{good}"), "2 CERTIFICATE REQUEST blocks, exactly one expected"),
        ("a certificate", good.replace("CERTIFICATE REQUEST", "CERTIFICATE"), "block `CERTIFICATE`"),
        ("text before it", format!("Subject: web\n{good}"), "line 1"),
        ("text after it", format!("{good}and so on"), "the CSR is refused"),
        ("no base64", good.replace('A', "!"), "the CSR is refused"),
        ("DER without PEM", "0\u{1}\u{2}".into(), "the CSR is refused"),
        ("blanks", " \n\t".into(), "exactly one expected"),
        ("nothing", String::new(), "Csr is missing"),
        ("very much", "A".repeat(60_000), "at most"),
    ] {
        let answer = victim.management().send("PUT", "/v1/carrack/sign", Some(&json!({ "Csr": text })));
        assert_refused(what, &answer.expect("an answer comes"), 400, words);
    }
    victim.assert_unharmed();
}
