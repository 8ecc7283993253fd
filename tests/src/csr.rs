//! Certificate requests as an attacker writes them: DER by hand, so that nothing well-meant stands between a test and the server.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use carrack::keys::{aws_lc::AwsLcKeyMaker, secret::KeyMaker};
use carrack_authority::key::{KeyKind, Signer};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SET: u8 = 0x31;
const ATTRIBUTES: u8 = 0xa0;

const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];

/// secp224r1 with the length of its points.
pub const P224: (&[u8], usize) = (&[0x2b, 0x81, 4, 0, 33], 57);
/// secp521r1 with the length of its points.
pub const P521: (&[u8], usize) = (&[0x2b, 0x81, 4, 0, 35], 133);

/// A name in a request.
#[derive(Clone, Copy, Debug)]
pub enum San<'a> {
    /// A URI.
    Uri(&'a str),
    /// A DNS name.
    Dns(&'a str),
    /// An e-mail address.
    Email(&'a str),
    /// An IPv4 address.
    Ip([u8; 4]),
}

/// A P-256 key that signs requests.
pub struct CsrKey(Arc<dyn Signer>);

impl CsrKey {
    /// A new key.
    ///
    /// # Panics
    /// Panics if none can be made.
    pub fn make() -> Self {
        let key = AwsLcKeyMaker.make(KeyKind::EcP256).expect("a key can be made");
        Self(AwsLcKeyMaker.signer(&key).expect("it can sign"))
    }

    /// The SubjectPublicKeyInfo.
    pub fn spki(&self) -> Vec<u8> {
        self.0.public_key().spki.as_bytes().to_vec()
    }

    /// The request of this key for these names.
    pub fn request(&self, names: &[San<'_>]) -> Vec<u8> {
        self.request_with(&self.spki(), &[alternative_names(names)])
    }

    /// A request for any public key with any extensions, signed by this key.
    ///
    /// # Panics
    /// Panics if the key does not sign.
    pub fn request_with(&self, spki: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
        let extensions = element(SEQUENCE, &extensions.concat());
        let attribute = sequence(&[object(EXTENSION_REQUEST), element(SET, &extensions)]);
        let (version, subject) = (element(INTEGER, &[0]), element(SEQUENCE, &[]));
        let info = sequence(&[version, subject, spki.to_vec(), element(ATTRIBUTES, &attribute)]);
        let signature = self.0.sign(&info).expect("the key signs");
        sequence(&[info, sequence(&[object(ECDSA_WITH_SHA256)]), bits(&signature)])
    }
}

/// The extension with these names.
pub fn alternative_names(names: &[San<'_>]) -> Vec<u8> {
    let names = names.iter().map(|name| match name {
        San::Uri(uri) => element(0x86, uri.as_bytes()),
        San::Dns(name) => element(0x82, name.as_bytes()),
        San::Email(address) => element(0x81, address.as_bytes()),
        San::Ip(address) => element(0x87, address),
    });
    extension(SUBJECT_ALTERNATIVE_NAME, &element(SEQUENCE, &names.collect::<Vec<_>>().concat()))
}

/// The extension that asks for a CA.
pub fn ca_true() -> Vec<u8> {
    extension(BASIC_CONSTRAINTS, &sequence(&[element(0x01, &[0xff])]))
}

/// The public key of a curve, with a point that is none.
pub fn ec_spki((curve, point_bytes): (&[u8], usize)) -> Vec<u8> {
    let mut point = vec![0x55; point_bytes];
    point[0] = 4;
    sequence(&[sequence(&[object(EC_PUBLIC_KEY), object(curve)]), bits(&point)])
}

/// An RSA public key with a modulus of these many bits, odd or even, and this exponent.
pub fn rsa_spki(modulus_bits: usize, is_odd: bool, exponent: &[u8]) -> Vec<u8> {
    let mut modulus = vec![0xc3; modulus_bits / 8 + 1];
    modulus[0] = 0;
    modulus[modulus_bits / 8] = u8::from(is_odd);
    let key = sequence(&[element(INTEGER, &modulus), element(INTEGER, exponent)]);
    sequence(&[sequence(&[object(RSA_ENCRYPTION), element(0x05, &[])]), bits(&key)])
}

/// Elements in elements, this deep.
pub fn nested(depth: usize) -> Vec<u8> {
    (0..depth).fold(Vec::new(), |inside, _| element(SEQUENCE, &inside))
}

/// The request in PEM.
pub fn pem(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = body.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", lines.join("\n"))
}

fn extension(identifier: &[u8], value: &[u8]) -> Vec<u8> {
    sequence(&[object(identifier), element(OCTET_STRING, value)])
}

fn object(identifier: &[u8]) -> Vec<u8> {
    element(OBJECT_IDENTIFIER, identifier)
}

fn bits(octets: &[u8]) -> Vec<u8> {
    element(BIT_STRING, &[&[0], octets].concat())
}

fn sequence(elements: &[Vec<u8>]) -> Vec<u8> {
    element(SEQUENCE, &elements.concat())
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let octets = length.to_be_bytes();
    let significant = &octets[octets.iter().take_while(|octet| **octet == 0).count()..];
    let mut whole = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => whole.push(short),
        _ => {
            whole.push(0x80 | u8::try_from(significant.len()).expect("a length has few octets"));
            whole.extend_from_slice(significant);
        }
    }
    whole.extend_from_slice(content);
    whole
}

#[cfg(test)]
mod tests {
    use carrack_authority::x509::csr::{CsrLimits, VerifiedCsr};

    use super::*;

    #[test]
    fn a_request_without_mischief_is_accepted() {
        let id = "spiffe://example.org/ns/default/dc/dc1/svc/web";
        let csr = CsrKey::make().request(&[San::Uri(id)]);
        let verified = VerifiedCsr::verify(&csr, &CsrLimits::default()).expect("it is a request");
        assert_eq!(verified.identity().to_string(), id);
        let verified = VerifiedCsr::verify_pem(&pem(&csr), &CsrLimits::default()).expect("it is PEM");
        assert_eq!(verified.identity().to_string(), id);
    }
}
