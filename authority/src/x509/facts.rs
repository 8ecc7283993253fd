//! What a certificate says, read strictly: the facts that proposers put into commands, so that apply never parses.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

use super::{
    der::{DerError, Element, Reader, check_nesting, tag},
    extension::{AlternativeName, Extensions, KeyUsages, NAME_CONSTRAINTS_TEXT, NameConstraints, Purpose},
    public_key::{PublicKeyError, algorithm_text},
    signature::{self, SignatureError},
};
use crate::{
    id::{Digest, KeyId, Serial},
    key::{Der, PublicKey},
    time::Timestamp,
};

/// The largest certificate that is read: one with a 4096-bit RSA key and many names needs less than half.
pub const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;
/// How deep elements may be nested in one.
pub const CERTIFICATE_DEPTH_MAX: usize = 16;
/// Version 3 is written as 2.
const VERSION_3: &[u8] = &[2];

/// Why a certificate is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Too large.
    #[error("the certificate has {bytes} bytes, at most {CERTIFICATE_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not the DER of one certificate.
    #[error("the certificate cannot be read: {0}")]
    Malformed(#[from] DerError),
    /// Its key is not accepted.
    #[error("the key of the certificate is refused: {0}")]
    Key(#[from] PublicKeyError),
    /// Not an X.509 version 3 certificate with extensions.
    #[error("the certificate is not of version 3 with extensions")]
    Version,
    /// A serial number that is zero, negative or longer than 20 octets.
    #[error(
        "the serial number of the certificate is not positive and at most 20 octets long (RFC 5280 section 4.1.2.2)"
    )]
    Serial,
    /// A date that is not in RFC 5280's form, or before 1970.
    #[error("the {which} date of the certificate is not one of RFC 5280 section 4.1.2.5, from 1970 on")]
    Date {
        /// `first` or `last`.
        which: &'static str,
    },
    /// The dates are the wrong way around.
    #[error("the certificate ends at {not_after}, before it begins at {not_before}")]
    EndsBeforeItBegins {
        /// Its first second.
        not_before: Timestamp,
        /// Its last second.
        not_after: Timestamp,
    },
    /// A critical extension that is not understood must be refused (RFC 5280 section 4.2).
    #[error("the certificate has the critical extension {identifier}, which is not understood")]
    UnknownCriticalExtension {
        /// Its object identifier.
        identifier: String,
    },
    /// A name of a kind that nothing here issues.
    #[error("the certificate has a {name}")]
    UnexpectedName {
        /// The name.
        name: AlternativeName,
    },
    /// A key identifier that is not 20 octets long.
    #[error("a key identifier of the certificate has {bytes} octets; 20 are expected")]
    KeyIdLength {
        /// Its length.
        bytes: usize,
    },
    /// Another key signed it.
    #[error("the certificate was not signed by the expected key: {0}")]
    Signature(#[from] SignatureError),
    /// The algorithm inside and outside of the signed part differ.
    #[error("the certificate names one signature algorithm inside and another outside of what is signed")]
    AlgorithmMismatch,
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateFacts {
    /// Its serial number.
    pub serial: Serial,
    /// The subject's name, in DER.
    pub subject: Der,
    /// The issuer's name, in DER.
    pub issuer: Der,
    /// The key that it certifies.
    pub public_key: PublicKey,
    /// Its subject key identifier.
    pub key_id: Option<KeyId>,
    /// The subject key identifier of its issuer.
    pub authority_key_id: Option<KeyId>,
    /// Its first second.
    pub not_before: Timestamp,
    /// Its last second.
    pub not_after: Timestamp,
    /// Whether it is a CA.
    pub is_ca: bool,
    /// How many CA certificates may follow it in a path; `None`: any number.
    pub path_length: Option<u8>,
    /// The uses of its key; `None`: not restricted.
    pub key_usages: Option<KeyUsages>,
    /// Its purposes, empty: not restricted.
    pub purposes: Vec<Purpose>,
    /// Its URIs.
    pub uris: Vec<String>,
    /// Its DNS names.
    pub dns_names: Vec<String>,
    /// Its IP addresses.
    pub ip_addresses: Vec<IpAddr>,
    /// The names to which it holds those below it; webpki looks at them on each path.
    pub name_constraints: Option<NameConstraints>,
}

impl CertificateFacts {
    /// Reads a certificate in DER. It verifies no signature.
    pub fn read(der: &[u8]) -> Result<Self, CertificateError> {
        Certificate::read(der).map(|certificate| certificate.facts)
    }

    /// Reads a certificate in DER and verifies that this key signed it.
    pub fn read_signed_by(der: &[u8], key: &PublicKey) -> Result<Self, CertificateError> {
        let certificate = Certificate::read(der)?;
        signature::verify(key, certificate.algorithm, certificate.signed, certificate.signature)?;
        Ok(certificate.facts)
    }

    /// SHA-256 of its SubjectPublicKeyInfo.
    pub fn public_key_digest(&self) -> Digest {
        self.public_key.digest()
    }

    /// Whether subject and issuer are the same name.
    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whether the certificate is valid at this time.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.not_before <= now && now.floor_to_second() <= self.not_after
    }

    /// Whether the subject is the empty name.
    pub fn has_empty_subject(&self) -> bool {
        self.subject.as_bytes() == [tag::SEQUENCE, 0]
    }
}

/// The algorithm by which a certificate was signed, if verifiers here accept it of no key.
pub(crate) fn weak_algorithm(der: &[u8]) -> Result<Option<String>, CertificateError> {
    let algorithm = Certificate::read(der)?.algorithm;
    Ok((!signature::is_accepted(algorithm)).then(|| algorithm_text(algorithm)))
}

/// A certificate as it was read, with what is needed to verify its signature.
struct Certificate<'a> {
    facts: CertificateFacts,
    signed: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Certificate<'a> {
    fn read(der: &'a [u8]) -> Result<Self, CertificateError> {
        if der.len() > CERTIFICATE_BYTES_MAX {
            return Err(CertificateError::TooLarge { bytes: der.len() });
        }
        check_nesting(der, CERTIFICATE_DEPTH_MAX, "certificate")?;
        let mut fields = Reader::single(der, tag::SEQUENCE, "certificate")?.inside();
        let signed = fields.expect(tag::SEQUENCE, "signed part")?;
        let algorithm = fields.expect(tag::SEQUENCE, "signature algorithm")?.content;
        let signature = fields.expect(tag::BIT_STRING, "signature")?.bit_octets("signature")?;
        fields.finish("certificate")?;
        let facts = read_signed(signed, algorithm)?;
        Ok(Self { facts, signed: signed.whole, algorithm, signature })
    }
}

fn read_signed(signed: Element<'_>, algorithm: &[u8]) -> Result<CertificateFacts, CertificateError> {
    let mut fields = signed.inside();
    let version = fields.optional(tag::context_constructed(0))?.ok_or(CertificateError::Version)?;
    if Reader::single(version.content, tag::INTEGER, "version")?.content != VERSION_3 {
        return Err(CertificateError::Version);
    }
    let serial = read_serial(fields.expect(tag::INTEGER, "serial number")?)?;
    if fields.expect(tag::SEQUENCE, "signature algorithm")?.content != algorithm {
        return Err(CertificateError::AlgorithmMismatch);
    }
    let issuer = Der::from(fields.expect(tag::SEQUENCE, "issuer")?.whole);
    let (not_before, not_after) = read_validity(fields.expect(tag::SEQUENCE, "validity")?)?;
    let subject = Der::from(fields.expect(tag::SEQUENCE, "subject")?.whole);
    let public_key = PublicKey::from_spki(fields.expect(tag::SEQUENCE, "public key")?.whole)?;
    let extensions = fields.optional(tag::context_constructed(3))?.ok_or(CertificateError::Version)?;
    fields.finish("signed part")?;
    let mut extensions = Extensions::read(Reader::single(extensions.content, tag::SEQUENCE, "extensions")?)?;
    let names = sort_names(extensions.names.take().unwrap_or_default())?;
    let basic_constraints = extensions.basic_constraints.unwrap_or_default();
    let is_known = |identifier: &str| basic_constraints.is_ca && identifier == NAME_CONSTRAINTS_TEXT;
    let mut unknown =
        extensions.others.iter().filter(|(identifier, is_critical)| *is_critical && !is_known(identifier));
    if let Some((identifier, _)) = unknown.next() {
        return Err(CertificateError::UnknownCriticalExtension { identifier: identifier.clone() });
    }
    Ok(CertificateFacts {
        serial,
        subject,
        issuer,
        public_key,
        key_id: read_key_id(extensions.key_id.as_deref())?,
        authority_key_id: read_key_id(extensions.authority_key_id.as_deref())?,
        not_before,
        not_after,
        is_ca: basic_constraints.is_ca,
        path_length: basic_constraints.path_length,
        key_usages: extensions.key_usages,
        purposes: extensions.purposes.take().unwrap_or_default(),
        uris: names.uris,
        dns_names: names.dns_names,
        ip_addresses: names.ip_addresses,
        name_constraints: extensions.name_constraints.as_deref().map(NameConstraints::read).transpose()?,
    })
}

fn read_serial(element: Element<'_>) -> Result<Serial, CertificateError> {
    let octets = element.unsigned("serial number")?;
    if octets.is_empty() || element.content.len() > 20 {
        return Err(CertificateError::Serial);
    }
    let mut serial = [0; 20];
    serial[20 - octets.len()..].copy_from_slice(octets);
    Ok(Serial(serial))
}

fn read_key_id(octets: Option<&[u8]>) -> Result<Option<KeyId>, CertificateError> {
    let read =
        |octets: &[u8]| octets.try_into().map(KeyId).map_err(|_| CertificateError::KeyIdLength { bytes: octets.len() });
    octets.map(read).transpose()
}

#[derive(Default)]
struct Names {
    uris: Vec<String>,
    dns_names: Vec<String>,
    ip_addresses: Vec<IpAddr>,
}

fn sort_names(names: Vec<AlternativeName>) -> Result<Names, CertificateError> {
    let mut sorted = Names::default();
    for name in names {
        match name {
            AlternativeName::Uri(uri) => sorted.uris.push(uri),
            AlternativeName::Dns(name) => sorted.dns_names.push(name),
            AlternativeName::Ip(address) => sorted.ip_addresses.push(address),
            name => return Err(CertificateError::UnexpectedName { name }),
        }
    }
    Ok(sorted)
}

fn read_validity(element: Element<'_>) -> Result<(Timestamp, Timestamp), CertificateError> {
    let mut reader = element.inside();
    let mut read = |which| read_time(reader.any()?).ok_or(CertificateError::Date { which });
    let (not_before, not_after) = (read("first")?, read("last")?);
    reader.finish("validity")?;
    if not_after < not_before {
        return Err(CertificateError::EndsBeforeItBegins { not_before, not_after });
    }
    Ok((not_before, not_after))
}

/// UTCTime from 1950 to 2049, GeneralizedTime from 2050, both to the second and in UTC (RFC 5280 section 4.1.2.5).
fn read_time(element: Element<'_>) -> Option<Timestamp> {
    let digits = element.content.strip_suffix(b"Z")?;
    let (year, rest) = match element.tag {
        tag::UTC_TIME => {
            let (year, rest) = digits.split_at_checked(2)?;
            let year = number(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        tag::GENERALIZED_TIME => {
            let (year, rest) = digits.split_at_checked(4)?;
            (number(year).filter(|year| *year >= 2050)?, rest)
        }
        _ => return None,
    };
    let fields: Vec<u8> = rest.chunks(2).map(|pair| number(pair)?.try_into().ok()).collect::<Option<_>>()?;
    let [month, day, hour, minute, second] = fields.as_slice() else { return None };
    let date = Date::from_calendar_date(i32::from(year), Month::try_from(*month).ok()?, *day).ok()?;
    let time = Time::from_hms(*hour, *minute, *second).ok()?;
    let date_time: OffsetDateTime = PrimitiveDateTime::new(date, time).assume_utc();
    let seconds = u64::try_from(date_time.unix_timestamp()).ok()?;
    Some(Timestamp::from_seconds(seconds))
}

fn number(digits: &[u8]) -> Option<u16> {
    let is_full = digits.len() >= 2 && digits.iter().all(u8::is_ascii_digit);
    is_full.then(|| digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0')))
}
