//! The subjects of CA certificates: never empty, one for each key (an auto-rotated root with a reused name or key broke Istio, #19644).

use rcgen::{DistinguishedName, DnType, DnValue};

use super::der::{DerError, Element, Reader, oid_numbers, tag};
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

/// Reads a name so that rcgen can write it again. Whoever writes it compares the bytes: what rcgen cannot express
/// (several attributes in one set, a repeated attribute) is found there.
pub(crate) fn read_name(name: &Der) -> Result<DistinguishedName, DerError> {
    let mut read = DistinguishedName::new();
    let mut sets = Reader::single(name.as_bytes(), tag::SEQUENCE, "name")?.inside();
    while !sets.is_empty() {
        let mut set = sets.expect(tag::SET, "name")?.inside();
        let mut attribute = set.expect(tag::SEQUENCE, "name")?.inside();
        set.finish("attribute of a name")?;
        let identifier = attribute.expect(tag::OBJECT_IDENTIFIER, "name")?.content;
        let identifier = oid_numbers(identifier).ok_or(DerError::BadValue { what: "attribute of a name" })?;
        read.push(DnType::from_oid(&identifier), read_value(attribute.any()?)?);
        attribute.finish("attribute of a name")?;
    }
    Ok(read)
}

fn read_value(element: Element<'_>) -> Result<DnValue, DerError> {
    let bad = DerError::BadValue { what: "attribute of a name" };
    let text = std::str::from_utf8(element.content).map_err(|_| bad.clone())?;
    Ok(match element.tag {
        tag::UTF8_STRING => DnValue::Utf8String(text.to_owned()),
        tag::PRINTABLE_STRING => DnValue::PrintableString(text.try_into().map_err(|_| bad)?),
        tag::IA5_STRING => DnValue::Ia5String(text.try_into().map_err(|_| bad)?),
        _ => return Err(bad),
    })
}
