//! PEM (RFC 7468, strict on output, lenient about white space on input): blocks end in a newline, inputs are bounded.

use std::fmt::Write as _;

use crate::key::Der;

/// The most bytes of PEM that are read: a bundle of a hundred RSA certificates fits.
pub const PEM_BYTES_MAX: usize = 256 * 1024;
/// The most blocks that are read from one text.
pub const PEM_BLOCKS_MAX: usize = 128;
/// Characters of base64 in a line (RFC 7468 section 2).
const LINE_CHARACTERS: usize = 64;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The label of a certificate.
pub const CERTIFICATE: &str = "CERTIFICATE";
/// The label of a PKCS#10 request.
pub const CERTIFICATE_REQUEST: &str = "CERTIFICATE REQUEST";

/// Why text is not the PEM that was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Too much text.
    #[error("the PEM text has {bytes} bytes, at most {bytes_max} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The number of blocks is wrong.
    #[error("the PEM text has {found} {label} blocks, {expected} expected")]
    WrongNumberOfBlocks {
        /// The label.
        label: &'static str,
        /// How many were found; counting stops above the limit.
        found: usize,
        /// How many there should be.
        expected: &'static str,
    },
    /// A block with another label.
    #[error("the PEM text has a block `{found}` where `{expected}` is expected")]
    UnexpectedLabel {
        /// Its label, escaped.
        found: String,
        /// The label that was expected.
        expected: &'static str,
    },
    /// Text outside the blocks, a block without end, or bad base64.
    #[error("line {line} of the PEM text is not what a {label} block has there")]
    BadLine {
        /// The line, from 1 upwards.
        line: usize,
        /// The label that was expected.
        label: &'static str,
    },
}

/// Writes one block, with a newline at its end.
pub fn encode(label: &str, der: &Der) -> String {
    let body = encode_base64(der.as_bytes());
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(LINE_CHARACTERS) {
        let line = std::str::from_utf8(line).expect("base64 is ASCII");
        writeln!(text, "{line}").expect("a string takes every write");
    }
    writeln!(text, "-----END {label}-----").expect("a string takes every write");
    text
}

/// Writes certificates one after the other.
pub fn encode_certificates<'a>(certificates: impl IntoIterator<Item = &'a Der>) -> String {
    certificates.into_iter().map(|certificate| encode(CERTIFICATE, certificate)).collect()
}

/// Reads a text that is exactly one block of the label.
pub fn decode_one(text: &str, label: &'static str, bytes_max: usize) -> Result<Der, PemError> {
    let mut blocks = decode(text, label, bytes_max)?;
    match (blocks.pop(), blocks.len()) {
        (Some(block), 0) => Ok(block),
        (last, others) => {
            let found = others + usize::from(last.is_some());
            Err(PemError::WrongNumberOfBlocks { label, found, expected: "exactly one" })
        }
    }
}

/// Reads one or more certificates; a missing final newline, spaces and empty lines do no harm.
pub fn decode_certificates(text: &str) -> Result<Vec<Der>, PemError> {
    let blocks = decode(text, CERTIFICATE, PEM_BYTES_MAX)?;
    if blocks.is_empty() {
        return Err(PemError::WrongNumberOfBlocks { label: CERTIFICATE, found: 0, expected: "at least one" });
    }
    Ok(blocks)
}

/// The text with a newline at its end: Consul wrote bundles without one, and concatenating them broke (Consul #10682).
pub fn with_final_newline(mut text: String) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn decode(text: &str, label: &'static str, bytes_max: usize) -> Result<Vec<Der>, PemError> {
    if text.len() > bytes_max {
        return Err(PemError::TooLarge { bytes: text.len(), bytes_max });
    }
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for (position, line) in text.lines().enumerate() {
        let line = line.trim();
        let bad_line = PemError::BadLine { line: position + 1, label };
        match (&mut open, boundary(line)) {
            (None, Some(("BEGIN", found))) if found == label => open = Some(String::new()),
            (None, Some(("BEGIN", found))) => {
                return Err(PemError::UnexpectedLabel { found: found.escape_default().to_string(), expected: label });
            }
            (None, None) if line.is_empty() => {}
            (Some(body), Some(("END", found))) if found == label => {
                blocks.push(decode_base64(body).filter(|der| !der.is_empty()).ok_or(bad_line)?.into());
                open = None;
            }
            (Some(body), None) => body.push_str(line),
            _ => return Err(bad_line),
        }
        if blocks.len() > PEM_BLOCKS_MAX {
            return Err(PemError::WrongNumberOfBlocks { label, found: blocks.len(), expected: "at most 128" });
        }
    }
    match open {
        None => Ok(blocks),
        Some(_) => Err(PemError::BadLine { line: text.lines().count(), label }),
    }
}

fn boundary(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("-----")?.strip_suffix("-----")?.split_once(' ')
}

fn encode_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().enumerate().fold(0_u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let index = usize::try_from(bits >> (18 - 6 * at) & 0x3f).expect("six bits fit");
            text.push(if at <= group.len() { char::from(ALPHABET[index]) } else { '=' });
        }
    }
    text
}

/// Strict base64 (RFC 4648 section 3.5): padded, and no bits left over.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let groups = text.len() / 4;
    for (number, group) in text.chunks(4).enumerate() {
        let padding = group.iter().rev().take_while(|character| **character == b'=').count();
        if group.len() != 4 || padding > 2 || (padding > 0 && number + 1 != groups) {
            return None;
        }
        let mut bits = 0_u32;
        for character in &group[..4 - padding] {
            bits = bits << 6 | u32::from(value_of(*character)?);
        }
        bits <<= 6 * padding;
        let [_, decoded @ ..] = bits.to_be_bytes();
        let (kept, dropped) = decoded.split_at(3 - padding);
        if dropped.iter().any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend_from_slice(kept);
    }
    Some(bytes)
}

const fn value_of(character: u8) -> Option<u8> {
    match character {
        b'A'..=b'Z' => Some(character - b'A'),
        b'a'..=b'z' => Some(character - b'a' + 26),
        b'0'..=b'9' => Some(character - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..5)) {
            let blocks: Vec<Der> = blocks.into_iter().map(Der::from).collect();
            let text = encode_certificates(&blocks);
            prop_assert!(text.ends_with("-----END CERTIFICATE-----\n"));
            prop_assert_eq!(decode_certificates(&text), Ok(blocks.clone()));
            prop_assert_eq!(decode_certificates(text.trim_end()), Ok(blocks.clone()));
            prop_assert_eq!(decode_certificates(&text.replace('\n', "\r\n")), Ok(blocks));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "[-A-Z =a-z0-9+/\n]{0,200}") {
            let _ = decode_certificates(&format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----"));
            let _ = decode_certificates(&text);
        }
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let vectors = [
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, encoded) in vectors {
            assert_eq!(encode_base64(plain.as_bytes()), encoded);
            assert_eq!(decode_base64(encoded).as_deref(), Some(plain.as_bytes()));
        }
        for bad in ["Zg", "Zg=", "Z===", "Zh==", "Zg==Zg==", "Zm9", "Zm8*", "===="] {
            assert_eq!(decode_base64(bad), None, "{bad}");
        }
    }

    #[test]
    fn text_that_is_not_exactly_the_expected_blocks_is_refused() {
        let request = encode(CERTIFICATE_REQUEST, &Der::from(&[1, 2, 3][..]));
        let one = |text: &str| decode_one(text, CERTIFICATE_REQUEST, 1000);
        assert!(one(&request).is_ok());
        assert!(one(&format!("\n{request}\n\n")).is_ok());
        assert!(matches!(one(&request.repeat(2)), Err(PemError::WrongNumberOfBlocks { found: 2, .. })));
        assert!(matches!(one(""), Err(PemError::WrongNumberOfBlocks { found: 0, .. })));
        assert!(matches!(one(&format!("hello\n{request}")), Err(PemError::BadLine { line: 1, .. })));
        assert!(matches!(one(&request[..40]), Err(PemError::BadLine { .. })));
        assert!(matches!(one(&" ".repeat(1001)), Err(PemError::TooLarge { bytes: 1001, bytes_max: 1000 })));
        let certificate = encode(CERTIFICATE, &Der::from(&[1][..]));
        assert!(matches!(one(&certificate), Err(PemError::UnexpectedLabel { .. })));
        let empty = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";
        assert!(decode_certificates(empty).is_err());
        let many = encode(CERTIFICATE, &Der::from(&[1][..])).repeat(PEM_BLOCKS_MAX + 1);
        assert!(decode_certificates(&many).is_err());
    }

    #[test]
    fn a_missing_final_newline_is_added() {
        assert_eq!(with_final_newline("a".into()), "a\n");
        assert_eq!(with_final_newline("a\n".into()), "a\n");
        assert_eq!(with_final_newline(String::new()), "");
    }
}
