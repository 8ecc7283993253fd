//! The extensions that requests and certificates here may have (RFC 5280 section 4.2), each at most once, read strictly.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};

use super::der::{DerError, Element, Reader, oid_text, tag};

const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 14];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 35];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 30];
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

/// Name constraints in dotted form.
pub(crate) const NAME_CONSTRAINTS_TEXT: &str = "2.5.29.30";

/// The uses of a key (RFC 5280 section 4.2.1.3), as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyUsages(u16);

impl KeyUsages {
    /// Signatures other than on certificates and revocation lists.
    pub const DIGITAL_SIGNATURE: Self = Self(1 << 0);
    /// Signatures on certificates.
    pub const CERTIFICATE_SIGN: Self = Self(1 << 5);
    /// Signatures on revocation lists.
    pub const REVOCATION_LIST_SIGN: Self = Self(1 << 6);
    const NAMES: [&str; 9] = [
        "digitalSignature",
        "nonRepudiation",
        "keyEncipherment",
        "dataEncipherment",
        "keyAgreement",
        "keyCertSign",
        "cRLSign",
        "encipherOnly",
        "decipherOnly",
    ];

    /// Both sets together.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every use of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Display for KeyUsages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter().enumerate().filter(|(bit, _)| self.0 >> bit & 1 == 1);
        f.write_str(&names.map(|(_, name)| *name).collect::<Vec<_>>().join(", "))
    }
}

/// A purpose of a certificate (RFC 5280 section 4.2.1.12).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Purpose {
    /// TLS server.
    ServerAuth,
    /// TLS client.
    ClientAuth,
    /// Another one, by its object identifier.
    Other(String),
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerAuth => f.write_str("serverAuth"),
            Self::ClientAuth => f.write_str("clientAuth"),
            Self::Other(identifier) => f.write_str(identifier),
        }
    }
}

/// A subject alternative name. Texts are ASCII and otherwise unchecked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AlternativeName {
    /// A URI.
    Uri(String),
    /// A DNS name.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
    /// An e-mail address.
    Email(String),
    /// Another kind, by its tag in `GeneralName`.
    Other(u8),
}

impl fmt::Display for AlternativeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(text) => write!(f, "URI `{}`", text.escape_default()),
            Self::Dns(text) => write!(f, "DNS name `{}`", text.escape_default()),
            Self::Ip(address) => write!(f, "IP address {address}"),
            Self::Email(text) => write!(f, "e-mail address `{}`", text.escape_default()),
            Self::Other(number) => write!(f, "name of kind {number}"),
        }
    }
}

/// The names to which a CA is held (RFC 5280 section 4.2.1.10), by their tags in `GeneralName` and their texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameConstraints {
    /// Below these only, of each kind that is named.
    pub permitted: Vec<ConstrainedName>,
    /// Below none of these.
    pub excluded: Vec<ConstrainedName>,
}

impl NameConstraints {
    pub(crate) fn read(value: &[u8]) -> Result<Self, DerError> {
        let what = "name constraints";
        let mut reader = Reader::single(value, tag::SEQUENCE, what)?.inside();
        let mut subtrees =
            |number| reader.optional(tag::context_constructed(number))?.map_or(Ok(Vec::new()), read_subtrees);
        let (permitted, excluded) = (subtrees(0)?, subtrees(1)?);
        reader.finish(what)?;
        if permitted.is_empty() && excluded.is_empty() {
            return Err(DerError::BadValue { what });
        }
        Ok(Self { permitted, excluded })
    }
}

/// One base of a name constraint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConstrainedName {
    /// A host of URIs, or with a dot before it all hosts below it.
    Uri(String),
    /// The beginning of a subject.
    Directory,
    /// A DNS name, with all below it.
    Dns(String),
    /// Another kind, by its tag in `GeneralName`.
    Other(u8),
}

impl fmt::Display for ConstrainedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(host) => write!(f, "the URI host `{}`", host.escape_default()),
            Self::Directory => f.write_str("subjects (directoryName)"),
            Self::Dns(name) => write!(f, "the DNS name `{}`", name.escape_default()),
            Self::Other(number) => write!(f, "names of kind {number}"),
        }
    }
}

/// Whether a certificate is a CA, and how many CAs may follow it (RFC 5280 section 4.2.1.9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BasicConstraints {
    pub(crate) is_ca: bool,
    pub(crate) path_length: Option<u8>,
}

/// The extensions of one request or certificate.
#[derive(Debug, Default)]
pub(crate) struct Extensions {
    pub(crate) names: Option<Vec<AlternativeName>>,
    pub(crate) basic_constraints: Option<BasicConstraints>,
    pub(crate) key_usages: Option<KeyUsages>,
    pub(crate) purposes: Option<Vec<Purpose>>,
    pub(crate) key_id: Option<Vec<u8>>,
    pub(crate) authority_key_id: Option<Vec<u8>>,
    /// The encoding of name constraints: only a CA may have some, and a request with some is refused unread.
    pub(crate) name_constraints: Option<Vec<u8>>,
    /// The others, by object identifier, and whether they are critical; name constraints are among them.
    pub(crate) others: Vec<(String, bool)>,
    /// The object identifiers of the critical ones.
    pub(crate) critical: Vec<String>,
}

impl Extensions {
    /// Reads `Extensions ::= SEQUENCE SIZE (1..MAX) OF Extension`.
    pub(crate) fn read(sequence: Element<'_>) -> Result<Self, DerError> {
        let mut extensions = Self::default();
        let mut reader = sequence.inside();
        let mut seen: Vec<&[u8]> = Vec::new();
        while !reader.is_empty() {
            let mut fields = reader.expect(tag::SEQUENCE, "extension")?.inside();
            let identifier = fields.expect(tag::OBJECT_IDENTIFIER, "extension")?.content;
            let critical = fields.optional(tag::BOOLEAN)?.map(|element| element.boolean("extension")).transpose()?;
            let value = fields.expect(tag::OCTET_STRING, "extension")?.content;
            fields.finish("extension")?;
            if critical == Some(false) {
                return Err(DerError::BadValue { what: "critical FALSE, which DER leaves out," });
            }
            if seen.contains(&identifier) {
                return Err(DerError::Duplicate { what: format!("extension {}", oid_text(identifier)) });
            }
            seen.push(identifier);
            extensions.take(identifier, critical.is_some(), value)?;
        }
        if seen.is_empty() { Err(DerError::BadValue { what: "an empty list of extensions" }) } else { Ok(extensions) }
    }

    fn take(&mut self, identifier: &[u8], is_critical: bool, value: &[u8]) -> Result<(), DerError> {
        if is_critical {
            self.critical.push(oid_text(identifier));
        }
        match identifier {
            KEY_USAGE => self.key_usages = Some(read_key_usages(value)?),
            SUBJECT_ALTERNATIVE_NAME => self.names = Some(read_names(value)?),
            BASIC_CONSTRAINTS => self.basic_constraints = Some(read_basic_constraints(value)?),
            EXTENDED_KEY_USAGE => self.purposes = Some(read_purposes(value)?),
            SUBJECT_KEY_IDENTIFIER => {
                let what = "subject key identifier";
                self.key_id = Some(Reader::single(value, tag::OCTET_STRING, what)?.content.to_vec());
            }
            AUTHORITY_KEY_IDENTIFIER => self.authority_key_id = read_authority_key_id(value)?,
            NAME_CONSTRAINTS => {
                self.name_constraints = Some(value.to_vec());
                self.others.push((NAME_CONSTRAINTS_TEXT.into(), is_critical));
            }
            _ => self.others.push((oid_text(identifier), is_critical)),
        }
        Ok(())
    }
}

fn read_key_usages(value: &[u8]) -> Result<KeyUsages, DerError> {
    let what = "key usage";
    let content = Reader::single(value, tag::BIT_STRING, what)?.content;
    let (unused, octets) = content.split_first().ok_or(DerError::BadValue { what })?;
    let bits = match octets {
        [low] => u16::from(low.reverse_bits()),
        [low, high] => u16::from(low.reverse_bits()) | u16::from(high.reverse_bits()) << 8,
        _ => return Err(DerError::BadValue { what }),
    };
    // A named bit list has no zero bits at its end (X.690 section 11.2.2).
    let last = octets[octets.len() - 1];
    let is_minimal = last.trailing_zeros() == u32::from(*unused);
    if is_minimal && bits >> KeyUsages::NAMES.len() == 0 {
        Ok(KeyUsages(bits))
    } else {
        Err(DerError::BadValue { what })
    }
}

fn read_names(value: &[u8]) -> Result<Vec<AlternativeName>, DerError> {
    let mut reader = Reader::single(value, tag::SEQUENCE, "subject alternative name")?.inside();
    let mut names = Vec::new();
    while !reader.is_empty() {
        names.push(read_name(reader.any()?)?);
    }
    Ok(names)
}

fn read_name(element: Element<'_>) -> Result<AlternativeName, DerError> {
    const EMAIL: u8 = tag::context(1);
    const DNS: u8 = tag::context(2);
    const URI: u8 = tag::context(6);
    const IP: u8 = tag::context(7);
    let what = "subject alternative name";
    Ok(match element.tag {
        EMAIL => AlternativeName::Email(element.ascii(what)?.to_owned()),
        DNS => AlternativeName::Dns(element.ascii(what)?.to_owned()),
        URI => AlternativeName::Uri(element.ascii(what)?.to_owned()),
        IP => AlternativeName::Ip(read_address(element.content).ok_or(DerError::BadValue { what })?),
        other => AlternativeName::Other(other & 0x1f),
    })
}

fn read_address(octets: &[u8]) -> Option<IpAddr> {
    let version_4 = <[u8; 4]>::try_from(octets).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    version_4.or_else(|_| <[u8; 16]>::try_from(octets).map(|octets| IpAddr::V6(Ipv6Addr::from(octets)))).ok()
}

fn read_basic_constraints(value: &[u8]) -> Result<BasicConstraints, DerError> {
    let what = "basic constraints";
    let mut reader = Reader::single(value, tag::SEQUENCE, what)?.inside();
    let is_ca = reader.optional(tag::BOOLEAN)?.map(|element| element.boolean(what)).transpose()?;
    let path_length = match reader.optional(tag::INTEGER)?.map(|element| element.unsigned(what)).transpose()? {
        None => None,
        Some([]) => Some(0),
        Some([length]) => Some(*length),
        Some(_) => return Err(DerError::BadValue { what }),
    };
    reader.finish(what)?;
    // DER leaves the default FALSE out, and a path length belongs to a CA.
    if is_ca == Some(false) || (is_ca.is_none() && path_length.is_some()) {
        return Err(DerError::BadValue { what });
    }
    Ok(BasicConstraints { is_ca: is_ca.is_some(), path_length })
}

fn read_purposes(value: &[u8]) -> Result<Vec<Purpose>, DerError> {
    let what = "extended key usage";
    let mut reader = Reader::single(value, tag::SEQUENCE, what)?.inside();
    let mut purposes = Vec::new();
    while !reader.is_empty() {
        purposes.push(match reader.expect(tag::OBJECT_IDENTIFIER, what)?.content {
            SERVER_AUTH => Purpose::ServerAuth,
            CLIENT_AUTH => Purpose::ClientAuth,
            other => Purpose::Other(oid_text(other)),
        });
    }
    if purposes.is_empty() { Err(DerError::BadValue { what }) } else { Ok(purposes) }
}

fn read_authority_key_id(value: &[u8]) -> Result<Option<Vec<u8>>, DerError> {
    let mut reader = Reader::single(value, tag::SEQUENCE, "authority key identifier")?.inside();
    // Issuer and serial number may follow in certificates of others; path building here goes by the key identifier.
    Ok(reader.optional(tag::context(0))?.map(|element| element.content.to_vec()))
}

fn read_subtrees(subtrees: Element<'_>) -> Result<Vec<ConstrainedName>, DerError> {
    const DNS: u8 = tag::context(2);
    const DIRECTORY: u8 = tag::context_constructed(4);
    const URI: u8 = tag::context(6);
    let what = "name constraints";
    let mut reader = subtrees.inside();
    let mut names = Vec::new();
    while !reader.is_empty() {
        let mut subtree = reader.expect(tag::SEQUENCE, what)?.inside();
        let base = subtree.any()?;
        // Minimum and maximum are not used (RFC 5280), and a minimum of zero is left out in DER.
        subtree.finish(what)?;
        names.push(match base.tag {
            URI => ConstrainedName::Uri(base.ascii(what)?.to_owned()),
            DIRECTORY => ConstrainedName::Directory,
            DNS => ConstrainedName::Dns(base.ascii(what)?.to_owned()),
            other => ConstrainedName::Other(other & 0x1f),
        });
    }
    Ok(names)
}
