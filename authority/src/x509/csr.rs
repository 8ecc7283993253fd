//! Certificate requests (PKCS#10, RFC 2986): an untrusted request becomes a `Verified...` value or a named refusal.
//!
//! Only the key and the one name are taken. A request for anything that is not given is refused, never silently dropped;
//! the subject alone is not looked at, since X509-SVID gives it no meaning and most tools cannot leave it out.

use super::{
    der::{DerError, Element, Reader, check_nesting, oid_text, tag},
    dns_name::{DnsName, DnsNameError},
    extension::{AlternativeName, Extensions, KeyUsages, Purpose},
    pem::{self, PemError},
    public_key::PublicKeyError,
    signature::{self, SignatureError},
};
use crate::{
    key::{PublicKey, Signer},
    planted::{self, Bug},
    spiffe::{Identity, SpiffeError, SpiffeId, TrustDomain},
};

/// The largest request: a 4096-bit RSA key, its signature and the longest SPIFFE id need less than half of it.
pub const CSR_BYTES_MAX: usize = 8 * 1024;
/// How deep elements may be nested; a conforming request needs 9.
pub const CSR_DEPTH_MAX: usize = 16;
/// PEM needs four characters for three bytes, and some for lines and labels.
const CSR_PEM_BYTES_MAX: usize = CSR_BYTES_MAX * 3 / 2;

const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];

/// The limits that hold before anything of a request is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CsrLimits {
    /// The most bytes of DER.
    pub bytes_max: usize,
    /// The deepest nesting.
    pub depth_max: usize,
}

impl Default for CsrLimits {
    fn default() -> Self {
        Self { bytes_max: CSR_BYTES_MAX, depth_max: CSR_DEPTH_MAX }
    }
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Too large.
    #[error("the CSR has {bytes} bytes, at most {bytes_max} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Not the PEM of one request.
    #[error("the CSR is not one PEM block: {0}")]
    Pem(#[from] PemError),
    /// Not the DER of one request.
    #[error("the CSR cannot be read: {0}")]
    Malformed(#[from] DerError),
    /// Its key is not accepted.
    #[error("the key of the CSR is refused: {0}")]
    Key(#[from] PublicKeyError),
    /// Its signature is wrong, so that nothing shows that the sender has the private key.
    #[error("the CSR is not signed with its own key: {0}")]
    Signature(#[from] SignatureError),
    /// A version other than 1.
    #[error("the CSR is not of version 1 (PKCS#10, RFC 2986)")]
    Version,
    /// An attribute other than one list of extensions.
    #[error("the CSR has the attribute {identifier}; only one list of requested extensions is accepted")]
    UnexpectedAttribute {
        /// Its object identifier.
        identifier: String,
    },
    /// An extension that is never given.
    #[error("the CSR asks for the {} extension {identifier}, which is not given", criticality(*is_critical))]
    UnknownExtension {
        /// Its object identifier.
        identifier: String,
        /// Whether it is critical.
        is_critical: bool,
    },
    /// No URI, or several (Consul's CVE-2022-40716).
    #[error("CSR SAN contains an invalid number of URIs: {count}")]
    UriCount {
        /// How many.
        count: usize,
    },
    /// A name beside the one that is given.
    #[error("the CSR asks for the {name}; {allowed}")]
    UnexpectedName {
        /// The name.
        name: AlternativeName,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The URI is no SPIFFE id of this CA's forms.
    #[error("the name in the CSR is refused: {0}")]
    Spiffe(#[from] SpiffeError),
    /// The DNS name is none of a Linkerd proxy.
    #[error("the name in the CSR is refused: {0}")]
    Dns(#[from] DnsNameError),
    /// It asks for a CA certificate.
    #[error("the CSR asks for a CA certificate")]
    CaRequested,
    /// It asks for a path length other than the one that issuers get.
    #[error("the CSR asks for a path length of {asked}; issuers get 0")]
    PathLength {
        /// What it asks for.
        asked: u8,
    },
    /// It asks for more key usages than are given.
    #[error("the CSR asks for the key usages `{asked}`; given are `{given}`")]
    KeyUsages {
        /// What it asks for.
        asked: KeyUsages,
        /// What is given.
        given: KeyUsages,
    },
    /// It asks for a purpose that is not given.
    #[error("the CSR asks for the extended key usage {asked}; given are {given}")]
    Purpose {
        /// What it asks for.
        asked: Purpose,
        /// What is given.
        given: &'static str,
    },
}

const fn criticality(is_critical: bool) -> &'static str {
    if is_critical { "critical" } else { "non-critical" }
}

/// A request for a leaf whose signature, identity and key were checked. Whether the sender may have the identity is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCsr {
    public_key: PublicKey,
    identity: Identity,
}

impl VerifiedCsr {
    /// Verifies a request in DER: exactly one SPIFFE id as URI, or exactly one DNS name of a Linkerd proxy.
    pub fn verify(der: &[u8], limits: &CsrLimits) -> Result<Self, CsrError> {
        let request = Request::read(der, limits)?;
        request.expect_no_more_than(LEAF_KEY_USAGES, true)?;
        request.expect_no_ca()?;
        let identity = leaf_identity(&request.extensions)?;
        let public_key = request.verify_signature()?;
        Ok(Self { public_key, identity })
    }

    /// Verifies a request in PEM.
    pub fn verify_pem(text: &str, limits: &CsrLimits) -> Result<Self, CsrError> {
        Self::verify(from_pem(text)?.as_bytes(), limits)
    }

    /// The request of a key that this process holds: having the signer is the proof of possession.
    pub fn of_own_key(signer: &dyn Signer, identity: Identity) -> Self {
        Self { public_key: signer.public_key().clone(), identity }
    }

    /// The key that the sender has shown to hold.
    pub const fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The identity that it asks for.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }
}

/// A request for an issuer: the key and the trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedIssuerCsr {
    public_key: PublicKey,
    trust_domain: TrustDomain,
}

impl VerifiedIssuerCsr {
    /// Verifies a request in DER: its one name is the URI `spiffe://<trust domain>`, and it may ask for a CA of path length 0.
    pub fn verify(der: &[u8], limits: &CsrLimits) -> Result<Self, CsrError> {
        let request = Request::read(der, limits)?;
        request.expect_no_more_than(CA_KEY_USAGES, false)?;
        if let Some(asked) = request.extensions.basic_constraints.and_then(|asked| asked.path_length)
            && asked != 0
        {
            return Err(CsrError::PathLength { asked });
        }
        let trust_domain = issuer_trust_domain(&request.extensions)?;
        let public_key = request.verify_signature()?;
        Ok(Self { public_key, trust_domain })
    }

    /// The key that the sender has shown to hold.
    pub const fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The trust domain that it asks to issue for.
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }
}

/// A request for a server certificate: the key alone; the names come from the recorded member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedServerCsr {
    public_key: PublicKey,
}

impl VerifiedServerCsr {
    /// Verifies a request in DER, which names nothing.
    pub fn verify(der: &[u8], limits: &CsrLimits) -> Result<Self, CsrError> {
        let request = Request::read(der, limits)?;
        request.expect_no_more_than(LEAF_KEY_USAGES, true)?;
        request.expect_no_ca()?;
        if let Some(name) = request.extensions.names.iter().flatten().next() {
            let allowed = "a server's names come from its membership";
            return Err(CsrError::UnexpectedName { name: name.clone(), allowed });
        }
        Ok(Self { public_key: request.verify_signature()? })
    }

    /// The request of a key that this process holds: having the signer is the proof of possession.
    pub fn of_own_key(signer: &dyn Signer) -> Self {
        Self { public_key: signer.public_key().clone() }
    }

    /// The key that the sender has shown to hold.
    pub const fn public_key(&self) -> &PublicKey {
        &self.public_key
    }
}

/// The key usages of a leaf and of a server certificate.
pub(crate) const LEAF_KEY_USAGES: KeyUsages = KeyUsages::DIGITAL_SIGNATURE;
/// The key usages of a CA.
pub(crate) const CA_KEY_USAGES: KeyUsages = KeyUsages::CERTIFICATE_SIGN.and(KeyUsages::REVOCATION_LIST_SIGN);

fn from_pem(text: &str) -> Result<crate::key::Der, PemError> {
    pem::decode_one(text, pem::CERTIFICATE_REQUEST, CSR_PEM_BYTES_MAX)
}

fn leaf_identity(extensions: &Extensions) -> Result<Identity, CsrError> {
    let mut names = extensions.names.as_deref().unwrap_or_default();
    if planted::is(Bug::SecondUriIgnored) {
        names = &names[..names.len().min(1)];
    }
    if let [AlternativeName::Dns(name)] = names {
        return Ok(Identity::LinkerdDns(name.parse::<DnsName>()?.into_linkerd()?));
    }
    Ok(Identity::Spiffe(one_uri(names)?.parse::<SpiffeId>()?))
}

fn issuer_trust_domain(extensions: &Extensions) -> Result<TrustDomain, CsrError> {
    let uri = one_uri(extensions.names.as_deref().unwrap_or_default())?;
    let trust_domain = uri.strip_prefix("spiffe://");
    let trust_domain = trust_domain.ok_or_else(|| SpiffeError::BadScheme(uri.escape_default().to_string()))?;
    Ok(trust_domain.parse()?)
}

fn one_uri(names: &[AlternativeName]) -> Result<&str, CsrError> {
    let is_uri = |name: &&AlternativeName| matches!(name, AlternativeName::Uri(_));
    if let Some(other) = names.iter().find(|name| !is_uri(name)) {
        let allowed = "exactly one URI and no other name is given";
        return Err(CsrError::UnexpectedName { name: other.clone(), allowed });
    }
    match names {
        [AlternativeName::Uri(uri)] => Ok(uri),
        _ => Err(CsrError::UriCount { count: names.len() }),
    }
}

/// A request as it was sent, well-formed, with an acceptable key, not yet verified.
struct Request<'a> {
    info: &'a [u8],
    public_key: PublicKey,
    extensions: Extensions,
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Request<'a> {
    fn read(der: &'a [u8], limits: &CsrLimits) -> Result<Self, CsrError> {
        if der.len() > limits.bytes_max {
            return Err(CsrError::TooLarge { bytes: der.len(), bytes_max: limits.bytes_max });
        }
        check_nesting(der, limits.depth_max, "CSR")?;
        let mut fields = Reader::single(der, tag::SEQUENCE, "CSR")?.inside();
        let info = fields.expect(tag::SEQUENCE, "request information")?;
        let algorithm = fields.expect(tag::SEQUENCE, "signature algorithm")?.content;
        let signature = fields.expect(tag::BIT_STRING, "signature")?.bit_octets("signature")?;
        fields.finish("CSR")?;
        let (public_key, extensions) = read_info(info)?;
        Ok(Self { info: info.whole, public_key, extensions, algorithm, signature })
    }

    fn expect_no_ca(&self) -> Result<(), CsrError> {
        let is_ca = self.extensions.basic_constraints.is_some_and(|asked| asked.is_ca);
        if is_ca { Err(CsrError::CaRequested) } else { Ok(()) }
    }

    fn expect_no_more_than(&self, given: KeyUsages, has_purposes: bool) -> Result<(), CsrError> {
        let extensions = &self.extensions;
        if let Some((identifier, is_critical)) = extensions.others.first().cloned() {
            return Err(CsrError::UnknownExtension { identifier, is_critical });
        }
        if let Some(asked) = extensions.key_usages
            && !given.contains(asked)
        {
            return Err(CsrError::KeyUsages { asked, given });
        }
        let is_given = |asked: &&Purpose| has_purposes && !matches!(asked, Purpose::Other(_));
        if let Some(asked) = extensions.purposes.iter().flatten().find(|asked| !is_given(asked)) {
            let given = if has_purposes { "serverAuth and clientAuth" } else { "none" };
            return Err(CsrError::Purpose { asked: asked.clone(), given });
        }
        let other_id = extensions.key_id.as_deref().is_some_and(|asked| asked != self.public_key.id.0);
        if other_id || extensions.authority_key_id.is_some() {
            let identifier = if other_id { "2.5.29.14" } else { "2.5.29.35" };
            let is_critical = extensions.critical.iter().any(|critical| critical == identifier);
            return Err(CsrError::UnknownExtension { identifier: identifier.into(), is_critical });
        }
        Ok(())
    }

    /// Checks the proof of possession; last, because it costs most.
    fn verify_signature(self) -> Result<PublicKey, CsrError> {
        if !planted::is(Bug::RequestSignatureIgnored) {
            signature::verify(&self.public_key, self.algorithm, self.info, self.signature)?;
        }
        Ok(self.public_key)
    }
}

fn read_info(info: Element<'_>) -> Result<(PublicKey, Extensions), CsrError> {
    let mut fields = info.inside();
    if !fields.expect(tag::INTEGER, "version")?.unsigned("version")?.is_empty() {
        return Err(CsrError::Version);
    }
    fields.expect(tag::SEQUENCE, "subject")?;
    let public_key = PublicKey::from_spki(fields.expect(tag::SEQUENCE, "public key")?.whole)?;
    let attributes = fields.expect(tag::context_constructed(0), "attributes")?;
    fields.finish("request information")?;
    Ok((public_key, read_attributes(attributes)?))
}

fn read_attributes(attributes: Element<'_>) -> Result<Extensions, CsrError> {
    let mut reader = attributes.inside();
    let mut extensions = None;
    while !reader.is_empty() {
        let mut attribute = reader.expect(tag::SEQUENCE, "attribute")?.inside();
        let identifier = attribute.expect(tag::OBJECT_IDENTIFIER, "attribute")?.content;
        if identifier != EXTENSION_REQUEST || extensions.is_some() {
            return Err(CsrError::UnexpectedAttribute { identifier: oid_text(identifier) });
        }
        let mut values = attribute.expect(tag::SET, "attribute")?.inside();
        attribute.finish("attribute")?;
        extensions = Some(Extensions::read(values.expect(tag::SEQUENCE, "requested extensions")?)?);
        values.finish("requested extensions")?;
    }
    Ok(extensions.unwrap_or_default())
}

#[cfg(test)]
mod tests;
