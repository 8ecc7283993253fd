//! The subjects of CA certificates: never empty, one for each key (an auto-rotated root with a reused name or key broke Istio, #19644).

use rcgen::{DistinguishedName, DnType};

use super::der::{DerError, Reader, oid_text, tag};
use crate::{id::KeyId, key::Der};

/// The longest common name and organization (RFC 5280 appendix A.1, ub-common-name and ub-organization-name).
const ATTRIBUTE_CHARACTERS_MAX: usize = 64;
/// How much of the key id stands in a name: 64 bits, enough to be unique among the CAs of one trust domain.
const SHORT_KEY_ID_BYTES: usize = 8;

/// `CN=<what> <where> <short key id>, O=<organization>`; what does not fit is cut, the key id never.
pub(crate) fn ca_name(what: &str, place: &str, key: &KeyId, organization: &str) -> DistinguishedName {
    let key: String = key.0[..SHORT_KEY_ID_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
    let left = ATTRIBUTE_CHARACTERS_MAX - what.len() - key.len() - 2;
    let place = cut(place, left);
    let separator = if place.is_empty() { "" } else { " " };
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, cut(organization, ATTRIBUTE_CHARACTERS_MAX));
    name.push(DnType::CommonName, format!("{what} {place}{separator}{key}"));
    name
}

/// Cuts text of the grammars of this crate, which is ASCII.
fn cut(text: &str, characters_max: usize) -> &str {
    text.get(..characters_max).unwrap_or(text)
}

/// A name for messages, its attributes in their order: `CN=Example Root, O=Example`.
pub(crate) fn name_text(name: &Der) -> String {
    let attributes = read_attributes(name).unwrap_or_default();
    if attributes.is_empty() { "no name".into() } else { attributes.join(", ") }
}

fn read_attributes(name: &Der) -> Result<Vec<String>, DerError> {
    let mut attributes = Vec::new();
    let mut sets = Reader::single(name.as_bytes(), tag::SEQUENCE, "name")?.inside();
    while !sets.is_empty() {
        let mut set = sets.expect(tag::SET, "name")?.inside();
        while !set.is_empty() && attributes.len() < ATTRIBUTES_SHOWN_MAX {
            let mut attribute = set.expect(tag::SEQUENCE, "name")?.inside();
            let kind = attribute.expect(tag::OBJECT_IDENTIFIER, "name")?.content;
            let value: String =
                String::from_utf8_lossy(attribute.any()?.content).chars().take(VALUE_SHOWN_MAX).collect();
            attributes.push(format!("{}={}", attribute_name(kind), value.escape_debug()));
        }
    }
    Ok(attributes)
}

/// How many attributes of a name are shown, and how many characters of each: a message is one line.
const ATTRIBUTES_SHOWN_MAX: usize = 8;
const VALUE_SHOWN_MAX: usize = 64;

/// The short names of RFC 4514 section 3.
fn attribute_name(identifier: &[u8]) -> String {
    const DOMAIN_COMPONENT: &[u8] = &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25];
    match identifier {
        [0x55, 4, 3] => "CN".into(),
        [0x55, 4, 6] => "C".into(),
        [0x55, 4, 7] => "L".into(),
        [0x55, 4, 8] => "ST".into(),
        [0x55, 4, 10] => "O".into(),
        [0x55, 4, 11] => "OU".into(),
        DOMAIN_COMPONENT => "DC".into(),
        other => oid_text(other),
    }
}
