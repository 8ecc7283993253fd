//! The subjects of CA certificates: never empty, one for each key (an auto-rotated root with a reused name or key broke Istio, #19644).

use rcgen::{DistinguishedName, DnType};

use crate::id::KeyId;

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
