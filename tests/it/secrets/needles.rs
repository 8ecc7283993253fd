//! Secrets in every form in which carelessness could write them, looked for in bytes of any kind.

use std::fmt::Write as _;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};

/// What stands before the private number in the PKCS#8 form of an EC key (RFC 5915: version 1, 32 octets).
const EC_SCALAR_MARK: [u8; 5] = [0x02, 0x01, 0x01, 0x04, 0x20];
/// PKCS#8's version 0 and the algorithm of EC keys: what the encoding of every such private key begins with.
const PKCS8_EC_MARK: [u8; 15] =
    [0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06];
/// The characters of base64 that are looked for: 18 bytes, and a line break in the middle of the rest does no harm.
const BASE64_CHARACTERS: usize = 24;
/// The bytes of a list in decimal that are looked for.
const LISTED_BYTES: usize = 8;

struct Needle {
    what: String,
    bytes: Vec<u8>,
}

/// What must not be found, by the first two bytes.
pub(crate) struct Needles {
    by_start: Vec<Vec<Needle>>,
}

impl Needles {
    /// Nothing yet.
    fn none() -> Self {
        let mut by_start = Vec::new();
        by_start.resize_with(usize::from(u16::MAX) + 1, Vec::new);
        Self { by_start }
    }

    /// Whatever looks like a private key, whosever it is.
    pub(crate) fn of_any_key() -> Self {
        let mut needles = Self::none();
        needles.push("a private key in PEM", b"PRIVATE KEY-----".to_vec());
        needles.push("an age identity", b"AGE-SECRET-KEY-".to_vec());
        needles.push("a private key in PKCS#8", PKCS8_EC_MARK.to_vec());
        needles
    }

    /// A text, as it is and in the other case.
    pub(crate) fn add_text(&mut self, what: &str, text: &str) {
        self.push(what, text.as_bytes().to_vec());
        if text.to_lowercase() != text.to_uppercase() {
            self.push(what, text.to_lowercase().into_bytes());
            self.push(what, text.to_uppercase().into_bytes());
        }
    }

    /// Bytes: raw, in hexadecimal digits, in base64 at each of the three positions, as a list of numbers.
    pub(crate) fn add_bytes(&mut self, what: &str, bytes: &[u8]) {
        self.push(what, bytes.to_vec());
        for separator in ["", ":"] {
            let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            self.add_text(what, &digits.join(separator));
        }
        for skipped in 0..3 {
            let part = &bytes[skipped..];
            let whole = &part[..part.len() / 3 * 3];
            for encoded in [STANDARD_NO_PAD.encode(whole), URL_SAFE_NO_PAD.encode(whole)] {
                let length = encoded.len().min(BASE64_CHARACTERS);
                self.push(what, encoded.as_bytes()[..length].to_vec());
                self.push(what, encoded.as_bytes()[encoded.len() - length..].to_vec());
            }
        }
        for separator in [",", ", "] {
            let numbers: Vec<String> = bytes.iter().take(LISTED_BYTES).map(u8::to_string).collect();
            self.push(what, numbers.join(separator).into_bytes());
        }
    }

    /// A token's secret, which is a UUID.
    pub(crate) fn add_uuid(&mut self, what: &str, secret: &str) {
        self.add_text(what, secret);
        let uuid: uuid::Uuid = secret.parse().expect("a secret is a UUID");
        self.add_bytes(what, uuid.as_bytes());
    }

    /// A private EC key in PEM: the number that is the secret.
    pub(crate) fn add_key(&mut self, what: &str, pem: &[u8]) {
        self.add_bytes(what, &scalar(pem));
    }

    /// An age identity (bech32).
    pub(crate) fn add_age_identity(&mut self, what: &str, text: &str) {
        self.add_text(what, text);
        self.add_bytes(what, &age_secret(text));
    }

    /// What is in there and should not be.
    pub(crate) fn found_in(&self, haystack: &[u8]) -> Vec<&str> {
        let mut found = Vec::new();
        let mut window = 0_u16;
        for (position, byte) in haystack.iter().enumerate() {
            window = window << 8 | u16::from(*byte);
            let candidates = &self.by_start[usize::from(window)];
            if !candidates.is_empty() {
                let rest = &haystack[position.saturating_sub(1)..];
                let is_there = candidates.iter().filter(|needle| rest.starts_with(&needle.bytes));
                found.extend(is_there.map(|needle| &*needle.what));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn push(&mut self, what: &str, bytes: Vec<u8>) {
        assert!(bytes.len() >= 8, "{what} would be found by chance");
        let start = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        self.by_start[start].push(Needle { what: what.into(), bytes });
    }
}

/// The 32 bytes that are the secret of an EC key in PEM.
pub(crate) fn scalar(pem: &[u8]) -> Vec<u8> {
    let key = PrivateKeyDer::from_pem_slice(pem).expect("it is a private key in PEM");
    let der = key.secret_der();
    let mark = der.windows(EC_SCALAR_MARK.len()).position(|window| window == EC_SCALAR_MARK);
    let begin = mark.expect("it is an EC key") + EC_SCALAR_MARK.len();
    der[begin..begin + 32].to_vec()
}

/// The 32 bytes behind an age identity.
fn age_secret(text: &str) -> Vec<u8> {
    const ALPHABET: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const CHECKSUM_CHARACTERS: usize = 6;
    let text = text.trim().to_lowercase();
    let (_, data) = text.rsplit_once('1').expect("bech32 has a separator");
    let data = &data[..data.len() - CHECKSUM_CHARACTERS];
    let mut bits = String::new();
    for character in data.chars() {
        let value = ALPHABET.find(character).expect("it is bech32");
        write!(bits, "{value:05b}").expect("a string takes every write");
    }
    let bytes = bits.as_bytes().chunks_exact(8).filter_map(|bits| std::str::from_utf8(bits).ok());
    bytes.map(|bits| u8::from_str_radix(bits, 2).expect("they are bits")).collect()
}

#[test]
fn every_form_of_a_secret_is_found() {
    let secret: Vec<u8> = (100..132).collect();
    let mut needles = Needles::none();
    needles.add_bytes("it", &secret);
    for prefix in 0..4 {
        let stream = [vec![7; prefix], secret.clone(), vec![9; 5]].concat();
        let encoded = STANDARD_NO_PAD.encode(&stream);
        assert_eq!(needles.found_in(encoded.as_bytes()), ["it"], "{encoded}");
        assert_eq!(needles.found_in(format!("{stream:?}").as_bytes()), ["it"]);
        assert_eq!(needles.found_in(&stream), ["it"]);
    }
    assert!(needles.found_in(&secret[1..]).is_empty());
}
