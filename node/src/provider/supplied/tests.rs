//! Keys and certificates as operators give them, the wrong ones with what they are told.

use carrack_authority::{
    key::{Der, KeyKind},
    root::Root,
    x509::pem::decode_certificates,
};
use expect_test::expect;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber,
};

use super::*;
use crate::{
    keys::aws_lc::AwsLcKeyMaker,
    provider::{
        BridgeToSign, CaProvider as _,
        testing::{DAY, Fixture, NOW, below, expect_verified, facts, published, serial, trust_domain},
    },
};

/// A CA of a company, as its own tools make it.
struct Company {
    pair: KeyPair,
    params: CertificateParams,
    pem: String,
}

fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "Example");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // SHA-1 of the key, or any other 20 bytes: a company's identifiers are not ours.
    params.key_identifier_method = KeyIdMethod::PreSpecified(common_name.bytes().cycle().take(20).collect());
    params.serial_number = Some(SerialNumber::from_slice(&serial().0));
    params.not_before = NOW.minus(DAY).to_date_time().unwrap();
    params.not_after = NOW.plus(DAY * 3000).to_date_time().unwrap();
    params.use_authority_key_identifier_extension = true;
    params
}

impl Company {
    fn new() -> Self {
        let (pair, params) = (KeyPair::generate().unwrap(), params("Example Root"));
        let pem = params.self_signed(&pair).unwrap().pem();
        Self { pair, params, pem }
    }

    /// A CA for the mesh: its key, and its certificate.
    fn mesh_ca(&self, kind: KeyKind) -> (SecretKey, String) {
        let key = AwsLcKeyMaker.make(kind).unwrap();
        let pair = KeyPair::try_from(key.expose_pkcs8()).unwrap();
        let issuer = Issuer::from_params(&self.params, &self.pair);
        let certificate = params(&format!("Example Mesh CA {kind}")).signed_by(&pair, &issuer).unwrap();
        (key, certificate.pem())
    }

    fn root(&self) -> Der {
        decode_certificates(&self.pem).unwrap().remove(0)
    }
}

fn supplied(private_key: &str, root_cert: &str) -> SuppliedRoot {
    SuppliedRoot {
        private_key: Zeroizing::new(private_key.to_owned()),
        root_cert: root_cert.to_owned(),
        leaf_ttl: DAY * 3,
        intermediate_ttl: DAY * 365,
        bundle: Vec::new(),
        force_without_cross_signing: false,
    }
}

fn import(fixture: &Fixture, supplied: &SuppliedRoot) -> Result<NewRoot, ProviderError> {
    fixture.provider.import_root(supplied, &fixture.request(KeyKind::EcP256, DAY * 3650))
}

fn refusal(private_key: &str, root_cert: &str) -> String {
    import(&Fixture::new(), &supplied(private_key, root_cert)).unwrap_err().to_string()
}

fn make(kind: KeyKind) -> SecretKey {
    AwsLcKeyMaker.make(kind).unwrap()
}

#[tokio::test]
async fn a_companys_intermediate_of_each_kind_becomes_a_root_and_is_crossed_both_ways() {
    let (fixture, company) = (Fixture::new(), Company::new());
    let own = fixture.root(KeyKind::EcP256, DAY * 3650).await;
    let under_own = below(&fixture, &own).await;
    for kind in [KeyKind::EcP256, KeyKind::EcP384, KeyKind::Ed25519, KeyKind::Rsa2048] {
        let (key, certificate) = company.mesh_ca(kind);
        let chain = format!("{certificate}{}", company.pem);
        let made = import(&fixture, &supplied(&key.to_pem(), &chain)).unwrap();
        let read = facts(&made.certificate);
        assert_eq!((Some(made.id), made.key_kind, &*made.provider), (read.key_id, kind, "builtin"));
        assert_eq!((made.not_before, made.not_after), (read.not_before, read.not_after));
        assert_eq!(made.chain, [], "the company's own root is not served");
        let sealed = made.sealed_key.as_ref().unwrap();
        assert_eq!(sealed.slots, fixture.seal_to.slots);

        let root = published(made);
        let (mesh, top) = (&root.made.certificate, &company.root());
        let under = below(&fixture, &root).await;
        expect_verified(&under.leaf.der, &[&under.issuer.der], mesh);
        expect_verified(&under.leaf.der, &[&under.issuer.der, mesh], top);
        let to_supplied = cross(&fixture, &own, &root).await;
        expect_verified(&under.leaf.der, &[&under.issuer.der, &to_supplied, mesh], &own.made.certificate);
        expect_verified(&under.leaf.der, &[&under.issuer.der, &to_supplied, mesh], top);
        let from_supplied = cross(&fixture, &root, &own).await;
        expect_verified(&under_own.leaf.der, &[&under_own.issuer.der, &from_supplied], mesh);
        expect_verified(&under_own.leaf.der, &[&under_own.issuer.der, &from_supplied, mesh], top);
    }
}

async fn cross(fixture: &Fixture, old: &Root, new: &Root) -> Der {
    let next_root = new.made.certificate.clone();
    let wanted = BridgeToSign { next_root, trust_domain: trust_domain(), now: NOW, serial: serial() };
    fixture.provider.cross_sign(old, wanted).await.unwrap().certificate
}

#[tokio::test]
async fn a_key_alone_gets_a_self_signed_root() {
    let fixture = Fixture::new();
    for kind in KeyKind::ALL {
        let key = make(kind);
        let made = import(&fixture, &supplied(&key.to_pem(), " \n")).unwrap();
        let read = facts(&made.certificate);
        assert!(read.is_self_issued() && read.uris == ["spiffe://example.org"], "{kind}");
        let public_key = AwsLcKeyMaker.signer(&key).unwrap().public_key().clone();
        assert_eq!((&read.public_key, made.id, made.key_kind), (&public_key, public_key.id, kind));
        let root = published(made);
        let under = below(&fixture, &root).await;
        expect_verified(&under.leaf.der, &[&under.issuer.der], &root.made.certificate);
    }
    let mut short = supplied(&make(KeyKind::EcP256).to_pem(), "");
    short.intermediate_ttl = DAY * 3650;
    let told = import(&fixture, &short).unwrap_err().to_string();
    let expected = "the root for PrivateKey would live for 315360000 s (RootCertTTL), less than an issuer (IntermediateCertTTL, \
                    315360000 s) and a leaf (LeafCertTTL, 259200 s); set a longer RootCertTTL";
    assert_eq!(told, expected);
}

#[test]
fn the_older_forms_of_keys_are_taken_with_the_curve_that_openssl_writes_before_them() {
    let text = format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{EC_KEY}\n\n");
    assert!(import(&Fixture::new(), &supplied(&text.replace('\n', "\r\n"), "")).is_ok());
}

/// Made by `openssl ecparam -name prime256v1 -genkey` for this test alone.
const EC_KEY: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIPKDwG/8DNAyXT/2Uk2PtgRoPmBhuItWJAJiG+qgcIKsoAoGCCqGSM49
AwEHoUQDQgAEsV+qyDfdgwxxE1FvJ1BTFsR3LcNUA5LnT2sERLHJlrL44kNbEd7s
PwbXMIywCMk97PNWIwOKxJTdcifjG8J5Gg==
-----END EC PRIVATE KEY-----";
const P521_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIHuAgEAMBAGByqGSM49AgEGBSuBBAAjBIHWMIHTAgEBBEIBULVenMaZouTvGN3+
H73KIt/L6sS8U9FZpeQ+r3tfKG7QTtIhQnFHAszBxYqeqIK+vvAmtK/H/C6AkKfK
mFaFb82hgYkDgYYABAFJLExSR79EA8A0KNhCB1h4LICleKxi+FsZMRO4bvMDF5OG
7TU+oLVZiAlrXzK0kQ03xjiGy5kRGgw9+oyggAQFjgD5bNfuQSQ3DCvxfJ/oo4C6
jqLt6Reje830yx06MXAvKa2YLX3KNlf/6gV033UDHz2Q8YGtZ3wI3kiLoPqxK/sW
cA==
-----END PRIVATE KEY-----";
const ENCRYPTED_KEY: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAjFWaY8whswWQICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEIWWo7mbDgWS4QetTFxkXD4EgZB6
dzB8wauzPW4KDIhjvvgJYqOv/oThlQQIL4QDOmgmMEFA7fkBbx4AL8sN9VjvJzNX
+8Ni5EQK0y0BjGP2nKS5F4kAptkGaVRR+wbf3NDn553WJ2TzghDQQ/nIQCmyVRs/
T22aCvIv6p52OiYF8vGGGRIVMvZOwyww8L/RzTG1+yWuehUo7LIfByYamh33Pss=
-----END ENCRYPTED PRIVATE KEY-----";
const ENCRYPTED_EC_KEY: &str = "-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-256-CBC,543EEDC851E87387196DCC1CABBEDC49

FzYljdFzgzvEx0dsPfJyj7l/Vm8Y++Nyb23wD5XyeNQTpq+FJxSX3wlUnM9jF2Y9
lAyY18Z/PwPH3diJjWGRnOBWZFazp8mvUQKeuzUG5zjnl8IyfEG162NHbuHFkV6p
7ZyINncsiQQ6zxAmbdmOOWM2gnH2mhe6WD+F0sHNOEk=
-----END EC PRIVATE KEY-----";

#[test]
fn what_is_not_one_private_key_is_refused_with_the_reason_and_a_way_out() {
    let (key, other) = (make(KeyKind::EcP256).to_pem(), make(KeyKind::EcP256).to_pem());
    let (company, certificate) = (Company::new(), Company::new().pem);
    let damaged = key.replacen("MI", "AA", 1);
    let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    let p521 = params("Example Root").self_signed(&p521).unwrap().pem();
    let told = [
        refusal("", &certificate),
        refusal(" \n", ""),
        refusal("/etc/pki/key.pem", ""),
        refusal(&certificate, ""),
        refusal(&format!("{}{certificate}", &*key), &certificate),
        refusal(&format!("{}{}", &*key, &*other), ""),
        refusal(&format!("{}trailing garbage\n", &*key), ""),
        refusal(&key[..key.len() - 30], ""),
        refusal(ENCRYPTED_KEY, ""),
        refusal(ENCRYPTED_EC_KEY, ""),
        refusal(P521_KEY, ""),
        refusal(&damaged, ""),
        refusal("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n", ""),
        refusal(&"x".repeat(KEY_PEM_BYTES_MAX + 1), ""),
        refusal(&key, "nothing"),
        refusal(&key, &p521),
    ];
    expect![[r#"
        must provide a private key when providing a root cert
        neither PrivateKey nor RootCert is given; leave both out to have a root made, or give the PEM of a private key
        PrivateKey is not a key: it has no PEM block; give the text of the key file, which begins with `-----BEGIN PRIVATE KEY-----`, not its path
        PrivateKey has a PEM block `CERTIFICATE`, which is no private key that is read here; give one block PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY, and certificates in RootCert
        PrivateKey has a PEM block `CERTIFICATE`, which is no private key that is read here; give one block PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY, and certificates in RootCert
        PrivateKey has 2 private keys, exactly one is expected; give the one that belongs to the first certificate of RootCert
        line 6 of PrivateKey is outside of its PEM block, or the block does not end there; give the block and nothing beside it
        line 4 of PrivateKey is outside of its PEM block, or the block does not end there; give the block and nothing beside it
        PrivateKey is encrypted, and no passphrase is asked for here; decrypt it first, as `openssl pkey -in FILE` does: it is sealed before it is stored
        PrivateKey is encrypted, and no passphrase is asked for here; decrypt it first, as `openssl pkey -in FILE` does: it is sealed before it is stored
        PrivateKey is refused: the private key is damaged or of a kind that is not accepted; accepted are EC P-256 and P-384, Ed25519, RSA 2048, 3072 and 4096; give the whole text of one key of an accepted kind
        PrivateKey is refused: the private key is damaged or of a kind that is not accepted; accepted are EC P-256 and P-384, Ed25519, RSA 2048, 3072 and 4096; give the whole text of one key of an accepted kind
        PrivateKey is not a key: it has no PEM block; give the text of the key file, which begins with `-----BEGIN PRIVATE KEY-----`, not its path
        PrivateKey is refused: the private key has 65537 bytes of PEM, at most 65536 are read; give the whole text of one key of an accepted kind
        RootCert cannot be read: line 1 of the PEM text is not what a CERTIFICATE block has there; give certificates in PEM and nothing beside them, the root first, then those above it
        certificate 1 of RootCert is refused: the key of the certificate is refused: public keys of the algorithm 1.2.840.10045.2.1 with parameter 1.3.132.0.35 are not accepted; accepted are EC P-256, EC P-384, Ed25519, and RSA with 2048, 3072 or 4096 bits
    "#]].assert_eq(&told.map(|message| message + "\n").concat());
    let other_key = refusal(&key, &company.pem);
    assert!(
        other_key.starts_with("PrivateKey does not belong to certificate 1 of RootCert (CN=Example Root, O=Example)"),
        "{other_key}"
    );
}

#[test]
fn nothing_of_a_key_is_ever_repeated() {
    let company = Company::new();
    let (key, certificate) = company.mesh_ca(KeyKind::EcP256);
    let pem = key.to_pem();
    let body: Vec<&str> = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let texts = [
        pem.to_string(),
        pem.replace("PRIVATE KEY", "EC PRIVATE KEY"),
        pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
        pem.replace("-----END", "\n-----END X"),
        body.join("\n"),
        format!("{}{}", &*pem, body[0]),
        format!("{}\n{}", body[0], &*pem),
        format!("{}{}", &*pem, &*pem),
    ];
    for text in &texts {
        for root_cert in ["", "x", &company.pem, &certificate] {
            let supplied = supplied(text, root_cert);
            let mut shown = format!("{supplied:?}");
            if let Err(error) = import(&Fixture::new(), &supplied) {
                shown.push_str(&format!("{error} {error:?}"));
            }
            assert!(body.iter().all(|line| !shown.contains(line)), "{shown}");
        }
    }
    let made = import(&Fixture::new(), &supplied(&pem, &certificate)).unwrap();
    let shown = format!("{made:?}");
    assert!(body.iter().all(|line| !shown.contains(line)));
}

#[test]
fn a_root_beside_its_likes_is_refused_before_anything_is_sealed() {
    let (fixture, company) = (Fixture::new(), Company::new());
    let (key, certificate) = company.mesh_ca(KeyKind::EcP256);
    let made = import(&fixture, &supplied(&key.to_pem(), &certificate)).unwrap();
    for root_cert in [&*certificate, ""] {
        let mut again = supplied(&key.to_pem(), root_cert);
        again.bundle = vec![facts(&made.certificate)];
        let told = import(&fixture, &again).unwrap_err().to_string();
        let expected = format!("the new root has the key of root {}, which is in the bundle", made.id);
        assert!(told.starts_with(&expected), "{told}");
    }
}
