//! Keys of every kind for tests, made once; and DER by hand for what no encoder would write.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use aws_lc_rs::{
    encoding::AsDer as _,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};

use crate::{
    id::Serial,
    key::{KeyKind, PublicKey, Signer, SignerError},
    leaf::{LeafIssuer, LeafProfile},
    spiffe::{Identity, Name, SpiffeId, TrustDomain},
    time::Timestamp,
    x509::{
        authority::{CertificateAuthority, SignedCertificate},
        certificate::{BridgeProfile, IssuerProfile, RootProfile, bridge, issuer, root},
        csr::{CsrLimits, VerifiedCsr, VerifiedIssuerCsr},
        request::{RequestedName, build_csr},
    },
};

/// The moment at which everything is signed: 2026-11-22T12:00:00.500Z.
pub(crate) const NOW: Timestamp = Timestamp(1_795_348_800_500);
/// A day.
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn trust_domain() -> TrustDomain {
    "example.org".parse().unwrap()
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse("name", text).unwrap()
}

pub(crate) fn service(service: &str) -> Identity {
    Identity::Spiffe(SpiffeId::service(trust_domain(), name("dc1"), name(service)))
}

pub(crate) fn serial(number: u8) -> Serial {
    Serial::from_random([number; 20])
}

/// A root of ten years.
pub(crate) fn make_root(signer: &dyn Signer) -> SignedCertificate {
    let profile = RootProfile { trust_domain: &trust_domain(), serial: serial(1), now: NOW, ttl: DAY * 3650 };
    root(signer, &profile).unwrap()
}

/// A CA that can sign.
pub(crate) fn authority(certificate: &SignedCertificate, signer: Arc<TestSigner>) -> CertificateAuthority {
    CertificateAuthority::new(certificate.der.clone(), signer).unwrap()
}

/// The issuer of server dc1/a, for a year.
pub(crate) fn make_issuer(root: &CertificateAuthority, signer: &dyn Signer) -> SignedCertificate {
    let csr = build_csr(signer, &RequestedName::Issuer(&trust_domain())).unwrap();
    let csr = VerifiedIssuerCsr::verify(csr.as_bytes(), &CsrLimits::default()).unwrap();
    let (trust_domain, datacenter, server) = (&trust_domain(), &name("dc1"), &name("a"));
    let (serial, ttl) = (serial(2), DAY * 365);
    issuer(root, &IssuerProfile { csr: &csr, trust_domain, datacenter, server, serial, now: NOW, ttl }).unwrap()
}

/// The new root cross-signed by the old one.
pub(crate) fn make_bridge(old_root: &CertificateAuthority, new_root: &SignedCertificate) -> SignedCertificate {
    let (new_root, trust_domain) = (&new_root.facts, &trust_domain());
    bridge(old_root, &BridgeProfile { new_root, trust_domain, serial: serial(3), now: NOW }).unwrap()
}

/// An issuer ready for leaves of dc1.
pub(crate) fn leaf_issuer(root: &SignedCertificate, issuer: &SignedCertificate, signer: Arc<TestSigner>) -> LeafIssuer {
    LeafIssuer::new(issuer.der.clone(), &root.facts, signer, trust_domain(), name("dc1")).unwrap()
}

/// A leaf of three days.
pub(crate) fn make_leaf(issuer: &LeafIssuer, signer: &dyn Signer, identity: &Identity) -> SignedCertificate {
    let csr = build_csr(signer, &RequestedName::Leaf(identity)).unwrap();
    let csr = VerifiedCsr::verify(csr.as_bytes(), &CsrLimits::default()).unwrap();
    issuer.sign(&LeafProfile { csr: &csr, serial: serial(4), now: NOW, ttl: DAY * 3 }).unwrap()
}

/// A certificate as another library reads it.
pub(crate) fn describe(certificate: &SignedCertificate) -> String {
    let (rest, certificate) = X509Certificate::from_der(certificate.der.as_bytes()).unwrap();
    assert!(rest.is_empty());
    let validity = certificate.validity();
    let mut text = format!(
        "serial {}\nissuer {}\nsubject {}\nfrom {} to {}\nsigned by {}\n",
        certificate.raw_serial_as_string(),
        certificate.issuer(),
        certificate.subject(),
        validity.not_before.to_datetime(),
        validity.not_after.to_datetime(),
        certificate.signature_algorithm.algorithm,
    );
    for extension in certificate.extensions() {
        let criticality = if extension.critical { "critical " } else { "" };
        let value = match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => format!("subject key identifier {id:x}"),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                assert!(id.authority_cert_issuer.is_none() && id.authority_cert_serial.is_none());
                format!("authority key identifier {:x}", id.key_identifier.as_ref().unwrap())
            }
            ParsedExtension::SubjectAlternativeName(names) => format!("names {:?}", names.general_names),
            ParsedExtension::KeyUsage(usage) => format!("key usage {usage}"),
            ParsedExtension::ExtendedKeyUsage(usage) => {
                assert!(usage.other.is_empty() && !usage.any);
                format!("purposes: server {}, client {}", usage.server_auth, usage.client_auth)
            }
            ParsedExtension::BasicConstraints(constraints) => {
                format!("CA {}, path length {:?}", constraints.ca, constraints.path_len_constraint)
            }
            other => format!("unexpected {other:?}"),
        };
        text.push_str(&format!("{criticality}{value}\n"));
    }
    text
}

enum Pair {
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

/// A signer whose key lives in this test process.
pub(crate) struct TestSigner {
    public_key: PublicKey,
    pair: Pair,
    fails: bool,
}

impl TestSigner {
    /// A new key; RSA keys are slow to make, see [`key`].
    pub(crate) fn new(kind: KeyKind) -> Self {
        let (pair, spki) = match kind {
            KeyKind::EcP256 | KeyKind::EcP384 => {
                let is_p256 = kind == KeyKind::EcP256;
                let algorithm = if is_p256 { &ECDSA_P256_SHA256_ASN1_SIGNING } else { &ECDSA_P384_SHA384_ASN1_SIGNING };
                let pair = EcdsaKeyPair::generate(algorithm).unwrap();
                let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
                (Pair::Ec(pair), spki)
            }
            KeyKind::Ed25519 => {
                let pair = Ed25519KeyPair::generate().unwrap();
                let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
                (Pair::Ed25519(pair), spki)
            }
            KeyKind::Rsa2048 => rsa(KeySize::Rsa2048),
            KeyKind::Rsa3072 => rsa(KeySize::Rsa3072),
            KeyKind::Rsa4096 => rsa(KeySize::Rsa4096),
        };
        Self { public_key: PublicKey::from_spki(&spki).unwrap(), pair, fails: false }
    }

    /// The Ed25519 key of a seed: its signatures, and so the certificates here, are the same in each run.
    pub(crate) fn seeded(seed: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
        Self { public_key: PublicKey::from_spki(&spki).unwrap(), pair: Pair::Ed25519(pair), fails: false }
    }

    /// A key whose keeper refuses to sign.
    pub(crate) fn failing() -> Self {
        Self { fails: true, ..Self::new(KeyKind::EcP256) }
    }
}

fn rsa(size: KeySize) -> (Pair, Vec<u8>) {
    let pair = RsaKeyPair::generate(size).unwrap();
    let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
    (Pair::Rsa(pair), spki)
}

impl Signer for TestSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        if self.fails {
            let PublicKey { kind, id, .. } = self.public_key;
            return Err(SignerError { kind, id, reason: "the token was pulled out".into() });
        }
        let random = SystemRandom::new();
        Ok(match &self.pair {
            Pair::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
        })
    }
}

/// A key of each kind that all tests share.
pub(crate) fn key(kind: KeyKind) -> Arc<TestSigner> {
    static KEYS: [OnceLock<Arc<TestSigner>>; 6] = [const { OnceLock::new() }; 6];
    let place = KeyKind::ALL.iter().position(|other| *other == kind).unwrap();
    KEYS[place].get_or_init(|| Arc::new(TestSigner::new(kind))).clone()
}

/// One element.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = match content.len() {
        short @ 0..0x80 => vec![u8::try_from(short).unwrap()],
        long @ 0..0x100 => vec![0x81, u8::try_from(long).unwrap()],
        long => [&[0x82][..], &u16::try_from(long).unwrap().to_be_bytes()].concat(),
    };
    [&[tag][..], &length, content].concat()
}

/// A SEQUENCE.
pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// An extension of `id-ce` (2.5.29).
pub(crate) fn extension(number: u8, is_critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if is_critical { &[1, 1, 0xff] } else { &[] };
    sequence(&[&[6, 3, 0x55, 0x1d, number], critical, &tlv(4, value)])
}

/// A subject alternative name extension of names that are tags and texts.
pub(crate) fn alternative_names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let names: Vec<u8> = names.iter().flat_map(|(number, text)| tlv(0x80 | number, text)).collect();
    extension(17, true, &tlv(0x30, &names))
}

/// The attribute that asks for extensions.
pub(crate) fn extension_request(extensions: &[&[u8]]) -> Vec<u8> {
    let identifier = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];
    sequence(&[&identifier, &tlv(0x31, &sequence(extensions))])
}

/// A request with these attributes, signed by the key; the algorithm is the one of P-256 keys.
pub(crate) fn request_with(signer: &dyn Signer, attributes: &[u8]) -> Vec<u8> {
    let spki = signer.public_key().spki.as_bytes();
    signed_request(signer, &sequence(&[&[2, 1, 0], &[0x30, 0], spki, &tlv(0xa0, attributes)]), ECDSA_SHA256)
}

/// The content of the AlgorithmIdentifier ecdsa-with-SHA256.
pub(crate) const ECDSA_SHA256: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];

/// Request information with a signature.
pub(crate) fn signed_request(signer: &dyn Signer, info: &[u8], algorithm: &[u8]) -> Vec<u8> {
    let signature = signer.sign(info).unwrap();
    sequence(&[info, &tlv(0x30, algorithm), &tlv(3, &[&[0][..], &signature].concat())])
}
