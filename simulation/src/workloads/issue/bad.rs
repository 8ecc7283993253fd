//! Certificate requests that must never be signed, as an attacker with a valid token writes them.

use carrack_authority::{
    key::{Der, Signer},
    spiffe::Identity,
    x509::{RequestedName, build_csr},
};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, IsCa, SanType};

/// How many kinds there are.
pub(super) const KINDS: usize = 8;

/// The request of a kind, with what is wrong about it. `own`: what the token entitles to.
pub(super) fn request(kind: usize, signer: &dyn Signer, services: usize, own: &Identity) -> (&'static str, Der) {
    let uri = own.to_string();
    match kind % KINDS {
        0 => ("two URI names", with_names(signer, &[uri.clone(), uri.replace("service-", "other-")], &[], false)),
        1 => {
            let foreign =
                uri.split_once("/ns/").map_or_else(String::new, |(_, path)| format!("spiffe://evil.example/ns/{path}"));
            ("another trust domain", with_names(signer, &[foreign], &[], false))
        }
        2 => ("a DNS name beside the URI", with_names(signer, &[uri], &["db.example"], false)),
        3 => {
            let other = format!("{}{services}", uri.trim_end_matches(|character: char| character.is_ascii_digit()));
            ("a service of another token", with_names(signer, &[other], &[], false))
        }
        4 => ("a CA", with_names(signer, &[uri], &[], true)),
        5 => {
            let mut der = build_csr(signer, &RequestedName::Leaf(own)).expect("a known identity").as_bytes().to_vec();
            if let Some(byte) = der.get_mut(60) {
                *byte ^= 1;
            }
            ("a broken signature", Der::from(der.as_slice()))
        }
        6 => ("another datacenter", with_names(signer, &[uri.replace("/dc/dc", "/dc/dc9")], &[], false)),
        _ => {
            let der = build_csr(signer, &RequestedName::Leaf(own)).expect("a known identity");
            ("a request that is cut", Der::from(&der.as_bytes()[..der.as_bytes().len() - 9]))
        }
    }
}

fn with_names(signer: &dyn Signer, uris: &[String], dns: &[&str], is_ca: bool) -> Der {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let text = |name: &str| name.to_owned().try_into().expect("names of a bad request are ASCII too");
    let uris = uris.iter().map(|uri| SanType::URI(text(uri)));
    params.subject_alt_names = uris.chain(dns.iter().map(|name| SanType::DnsName(text(name)))).collect();
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let request = params.serialize_request(&AsSigningKey(signer)).expect("a seeded key signs");
    Der::from(request.der().as_ref())
}

/// A key of ours as rcgen takes one.
struct AsSigningKey<'a>(&'a dyn Signer);

impl rcgen::PublicKeyData for AsSigningKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().subject_public_key()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for AsSigningKey<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}
