//! A certificate in words.

use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use x509_parser::{
    extensions::{GeneralName, ParsedExtension},
    prelude::{ASN1Time, FromDer, X509Certificate},
    public_key::PublicKey,
};

use super::{error::CliError, output::Output};

/// What a certificate says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Certificate {
    /// Its subject.
    pub subject: String,
    /// The subject of whoever signed it.
    pub issuer: String,
    /// Its serial in hexadecimal digits with colons.
    pub serial_number: String,
    /// Its names: `URI:...`, `DNS:...`.
    pub names: Vec<String>,
    /// The first second.
    pub not_before: String,
    /// The last second.
    pub not_after: String,
    /// The kind of its public key.
    pub key: String,
    /// Whether it may sign certificates.
    pub is_ca: bool,
    /// How many CAs may follow it; none: any number.
    pub path_length: Option<u32>,
    /// What its key may be used for.
    pub key_usage: Vec<String>,
    /// The id of its key.
    pub subject_key_id: Option<String>,
    /// The id of the key that signed it.
    pub authority_key_id: Option<String>,
    /// SHA-256 of the certificate.
    pub sha256: String,
}

impl Certificate {
    /// Every certificate of a PEM text; `what` names the text in errors.
    pub fn read_all(what: &str, pem: &[u8]) -> Result<Vec<Self>, CliError> {
        let unusable = |why: String| CliError::Certificate { what: what.into(), why };
        let mut certificates = Vec::new();
        for der in CertificateDer::pem_slice_iter(pem) {
            let der = der.map_err(|error| unusable(error.to_string()))?;
            certificates.push(Self::read(&der).map_err(&unusable)?);
        }
        match certificates.is_empty() {
            true => Err(unusable("it holds no certificate in PEM".into())),
            false => Ok(certificates),
        }
    }

    /// Reads one certificate in DER.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let (rest, parsed) =
            X509Certificate::from_der(der).map_err(|error| format!("it is no certificate: {error}"))?;
        if !rest.is_empty() {
            return Err(format!("{} bytes follow the certificate", rest.len()));
        }
        let mut certificate = Self {
            subject: name(&parsed.subject().to_string()),
            issuer: name(&parsed.issuer().to_string()),
            serial_number: parsed.raw_serial_as_string(),
            not_before: time(parsed.validity().not_before),
            not_after: time(parsed.validity().not_after),
            key: key(&parsed),
            sha256: hexadecimal(&Sha256::digest(der)),
            ..Self::default()
        };
        parsed.extensions().iter().for_each(|extension| certificate.add(extension.parsed_extension()));
        Ok(certificate)
    }

    fn add(&mut self, extension: &ParsedExtension<'_>) {
        match extension {
            ParsedExtension::BasicConstraints(constraints) => {
                self.is_ca = constraints.ca;
                self.path_length = constraints.path_len_constraint;
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                self.names = names.general_names.iter().map(general_name).collect();
            }
            ParsedExtension::KeyUsage(usage) => {
                self.key_usage.extend(usage.to_string().split(", ").map(str::to_owned));
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                let known =
                    [(usage.server_auth, "Server Authentication"), (usage.client_auth, "Client Authentication")];
                self.key_usage.extend(known.iter().filter(|(is_set, _)| *is_set).map(|(_, usage)| (*usage).into()));
            }
            ParsedExtension::SubjectKeyIdentifier(id) => self.subject_key_id = Some(hexadecimal(id.0)),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                self.authority_key_id = id.key_identifier.as_ref().map(|id| hexadecimal(id.0));
            }
            _ => {}
        }
    }

    /// Prints it as names and values.
    pub fn print(&self, output: &mut Output<'_>) -> Result<(), CliError> {
        let role = match (self.is_ca, self.path_length) {
            (true, None) => "CA, of any path length".into(),
            (true, Some(length)) => format!("CA, of path length {length}"),
            (false, _) => "leaf".into(),
        };
        output.facts([
            ("Subject", Some(self.subject.clone())),
            ("Names", Some(self.names.join("\n")).filter(|names| !names.is_empty())),
            ("Role", Some(role)),
            ("Issuer", Some(self.issuer.clone())),
            ("Serial", Some(self.serial_number.clone())),
            ("Valid from", Some(self.not_before.clone())),
            ("Valid until", Some(self.not_after.clone())),
            ("Key", Some(self.key.clone())),
            ("Key usage", Some(self.key_usage.join(", ")).filter(|usage| !usage.is_empty())),
            ("Key id", self.subject_key_id.clone()),
            ("Signed by key", self.authority_key_id.clone()),
            ("SHA-256", Some(self.sha256.clone())),
        ])
    }
}

fn name(text: &str) -> String {
    if text.is_empty() { "(empty)".into() } else { text.into() }
}

fn general_name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::URI(uri) => format!("URI:{uri}"),
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        GeneralName::RFC822Name(name) => format!("email:{name}"),
        GeneralName::IPAddress(bytes) => format!("IP:{}", address(bytes)),
        other => other.to_string(),
    }
}

fn address(bytes: &[u8]) -> String {
    match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
        (Ok(bytes), _) => std::net::Ipv4Addr::from(bytes).to_string(),
        (_, Ok(bytes)) => std::net::Ipv6Addr::from(bytes).to_string(),
        _ => hexadecimal(bytes),
    }
}

fn time(time: ASN1Time) -> String {
    let format = time::format_description::well_known::Rfc3339;
    time.to_datetime().format(&format).unwrap_or_else(|_| time.to_string())
}

fn key(certificate: &X509Certificate<'_>) -> String {
    match certificate.public_key().parsed() {
        Ok(PublicKey::EC(point)) => format!("EC P-{}", point.key_size()),
        Ok(PublicKey::RSA(key)) => format!("RSA {}", key.key_size()),
        _ if certificate.public_key().algorithm.algorithm == x509_parser::oid_registry::OID_SIG_ED25519 => {
            "Ed25519".into()
        }
        _ => certificate.public_key().algorithm.algorithm.to_string(),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn self_signed() -> rcgen::Certificate {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key");
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "carrack root");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(1));
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        let uri = "spiffe://example.org".try_into().expect("ASCII");
        params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
        params.self_signed(&key).expect("a certificate")
    }

    #[test]
    fn a_certificate_is_said_in_words() {
        let found = Certificate::read_all("test", self_signed().pem().as_bytes()).expect("it is read");
        let [certificate] = found.as_slice() else { panic!("one certificate") };
        assert_eq!(certificate.subject, "CN=carrack root");
        assert_eq!(certificate.names, ["URI:spiffe://example.org"]);
        assert_eq!((certificate.is_ca, certificate.path_length), (true, Some(1)));
        assert_eq!(certificate.key, "EC P-384");
        assert_eq!(certificate.key_usage, ["Key Cert Sign", "CRL Sign"]);
    }

    #[test]
    fn what_is_no_certificate_is_named() {
        let cut = self_signed().der()[..100].to_vec();
        assert!(Certificate::read(&cut).is_err());
        let error = Certificate::read_all("a.pem", b"nothing").expect_err("no certificate");
        assert_eq!(error.to_string(), "a.pem cannot be used: it holds no certificate in PEM");
    }
}
