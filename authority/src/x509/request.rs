//! Builds certificate requests for the keys that services, issuers and servers make themselves.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, IsCa, KeyUsagePurpose, SanType, string::Ia5String,
};

use super::signing::{SigningAdapter, SigningError};
use crate::{
    key::{Der, Signer},
    spiffe::{Identity, TrustDomain},
};

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestedName<'a> {
    /// A leaf of this identity.
    Leaf(&'a Identity),
    /// An issuer of this trust domain, path length 0.
    Issuer(&'a TrustDomain),
    /// A server certificate; the names come from the recorded member.
    Server,
}

/// Builds the PKCS#10 request of the signer's key.
pub fn build_csr(signer: &dyn Signer, name: &RequestedName<'_>) -> Result<Der, SigningError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    match name {
        RequestedName::Leaf(Identity::Spiffe(id)) => {
            params.subject_alt_names = vec![SanType::URI(ia5(&id.to_string())?)]
        }
        RequestedName::Leaf(Identity::LinkerdDns(name)) => {
            params.subject_alt_names = vec![SanType::DnsName(ia5(name)?)]
        }
        RequestedName::Issuer(trust_domain) => {
            params.subject_alt_names = vec![SanType::URI(ia5(&format!("spiffe://{trust_domain}"))?)];
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        }
        RequestedName::Server => {}
    }
    let adapter = SigningAdapter::new(signer);
    let request = params.serialize_request(&adapter).map_err(|error| adapter.explain(&error))?;
    Ok(Der::from(request.der().as_ref()))
}

/// Text for a name; the names of this crate are ASCII by their grammars.
pub(crate) fn ia5(text: &str) -> Result<Ia5String, SigningError> {
    Ia5String::try_from(text).map_err(|error| SigningError::Encoder { reason: error.to_string() })
}
