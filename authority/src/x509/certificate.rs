//! The profiles of CA certificates (RFC 5280, X509-SVID section 4): roots, bridges, issuers. Built from policy, never from a request.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, IsCa, KeyUsagePurpose, SanType};

use super::{
    authority::{CertificateAuthority, IssueError, SignedCertificate, Subject, sign_root},
    csr::VerifiedIssuerCsr,
    facts::CertificateFacts,
    name::ca_name,
    request::ia5,
    signing::SigningError,
    validity::Validity,
};
use crate::{
    id::{KeyId, Serial},
    key::Signer,
    planted::{self, Bug},
    spiffe::{Name, TrustDomain},
    time::Timestamp,
};

/// How many CAs may follow a bridge: the issuer. With less, `leaf <- issuer <- bridge <- old root` does not verify.
pub const BRIDGE_PATH_LENGTH: u8 = 1;
/// How many CAs may follow an issuer: none.
pub const ISSUER_PATH_LENGTH: u8 = 0;

/// A new root of the mesh CA.
#[derive(Clone, Copy, Debug)]
pub struct RootProfile<'a> {
    /// The trust domain that it is for.
    pub trust_domain: &'a TrustDomain,
    /// Its serial number.
    pub serial: Serial,
    /// The time.
    pub now: Timestamp,
    /// How long it lives.
    pub ttl: Duration,
}

/// An issuer: the CA certificate of one server.
#[derive(Clone, Copy, Debug)]
pub struct IssuerProfile<'a> {
    /// The request of the server's key.
    pub csr: &'a VerifiedIssuerCsr,
    /// The trust domain of this CA; a request for another is refused.
    pub trust_domain: &'a TrustDomain,
    /// The server's datacenter.
    pub datacenter: &'a Name,
    /// The server's name.
    pub server: &'a Name,
    /// Its serial number.
    pub serial: Serial,
    /// The time.
    pub now: Timestamp,
    /// How long it lives.
    pub ttl: Duration,
}

/// A bridge: the next root's key and name, signed by the root before it.
#[derive(Clone, Copy, Debug)]
pub struct BridgeProfile<'a> {
    /// The next root.
    pub new_root: &'a CertificateFacts,
    /// The trust domain of both.
    pub trust_domain: &'a TrustDomain,
    /// Its serial number.
    pub serial: Serial,
    /// The time.
    pub now: Timestamp,
}

/// Makes a root: self-signed, no path length (one would break chains over a bridge), its own subject for its own key.
pub fn root(signer: &dyn Signer, profile: &RootProfile<'_>) -> Result<SignedCertificate, IssueError> {
    let RootProfile { trust_domain, serial, now, ttl } = *profile;
    let name = ca_name("carrack root", "", &signer.public_key().id, trust_domain.as_str());
    let template = ca_template(name, trust_domain, planted::is(Bug::RootPathLength).then_some(1))?;
    sign_root(template, signer, serial, Validity::UNBOUNDED.starting(now, ttl)?)
}

/// Signs an issuer.
pub fn issuer(root: &CertificateAuthority, profile: &IssuerProfile<'_>) -> Result<SignedCertificate, IssueError> {
    let IssuerProfile { csr, trust_domain, datacenter, server, serial, now, ttl } = *profile;
    if csr.trust_domain() != trust_domain {
        return Err(IssueError::ForeignTrustDomain { asked: csr.trust_domain().clone(), own: trust_domain.clone() });
    }
    expect_room_below(root.facts(), root.key_id(), ISSUER_PATH_LENGTH)?;
    let key = csr.public_key();
    let name = ca_name("carrack issuer", &format!("{datacenter}/{server}"), &key.id, trust_domain.as_str());
    let template = ca_template(name, trust_domain, Some(ISSUER_PATH_LENGTH))?;
    root.sign(template, Subject::new(key), serial, root.bounds().starting(now, ttl)?)
}

/// Cross-signs the next root by this one, in this one's name and by its algorithm. It lasts as long as both roots do: a leaf that
/// outlives its bridge would be served without it.
pub fn bridge(old_root: &CertificateAuthority, profile: &BridgeProfile<'_>) -> Result<SignedCertificate, IssueError> {
    let BridgeProfile { new_root, trust_domain, serial, now } = *profile;
    let refuse = |reason| Err(IssueError::NotACa { key: new_root.public_key.id, reason });
    if !new_root.is_ca {
        return refuse("the next root is no CA certificate");
    }
    let Some(key_id) = new_root.key_id else {
        return refuse("the next root has no subject key identifier");
    };
    // Verifiers look for issuers by name and stop at the first one: with two roots of one name some would never find the path.
    if new_root.subject == old_root.facts().subject {
        return refuse("the next root has the name of this one");
    }
    if new_root.public_key == old_root.facts().public_key {
        return refuse("the next root has the key of this one");
    }
    expect_room_below(old_root.facts(), old_root.key_id(), BRIDGE_PATH_LENGTH)?;
    // The name is replaced by the next root's own; without one here the encoder would make the URI critical.
    let placeholder = ca_name("carrack bridge", "", &key_id, trust_domain.as_str());
    let template = ca_template(placeholder, trust_domain, Some(BRIDGE_PATH_LENGTH))?;
    let bounds = old_root.bounds().within(Validity { not_before: new_root.not_before, not_after: new_root.not_after });
    let subject = Subject { key: &new_root.public_key, key_id, name: Some(&new_root.subject) };
    let life = if planted::is(Bug::BridgeTooShort) { Duration::from_secs(3600) } else { Duration::MAX };
    // It begins with the new root: the issuers below that may be older than it, where its provider takes its time.
    let dates = Validity { not_before: bounds.not_before, ..bounds.starting(now, life)? };
    old_root.sign(template, subject, serial, dates)
}

/// Whether a root's path length lets it sign a bridge.
pub fn has_room_for_bridge(root: &CertificateFacts) -> bool {
    has_room_below(root, BRIDGE_PATH_LENGTH)
}

fn has_room_below(ca: &CertificateFacts, path_length: u8) -> bool {
    ca.path_length.is_none_or(|length| length > path_length)
}

fn expect_room_below(ca: &CertificateFacts, key: KeyId, path_length: u8) -> Result<(), IssueError> {
    if has_room_below(ca, path_length) {
        Ok(())
    } else {
        Err(IssueError::NotACa { key, reason: "its path length leaves no room for another CA" })
    }
}

/// A CA certificate: critical basic constraints, keyCertSign and cRLSign, the URI of the trust domain without a path.
pub(crate) fn ca_template(
    name: DistinguishedName,
    trust_domain: &TrustDomain,
    path_length: Option<u8>,
) -> Result<CertificateParams, SigningError> {
    let mut template = CertificateParams::default();
    template.distinguished_name = name;
    template.subject_alt_names = vec![SanType::URI(ia5(&format!("spiffe://{trust_domain}"))?)];
    template.is_ca = IsCa::Ca(match path_length {
        Some(length) => BasicConstraints::Constrained(length),
        None => BasicConstraints::Unconstrained,
    });
    template.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(template)
}

#[cfg(test)]
mod tests;
