//! A root that an operator supplies: its certificate and those above it are checked, all of them, before anything is changed.
//!
//! What passes verifies, as far as its certificates tell: at OpenSSL, GnuTLS and Go, which hold anchors to their path lengths and dates,
//! and at rustls-webpki, which refuses constraints on URIs and subjects and chains of more than six CAs below the anchor.

mod error;

use std::time::Duration;

pub use self::error::{Place, SuppliedError};
use super::{
    authority::SignedCertificate,
    certificate::has_room_for_bridge,
    extension::{ConstrainedName, KeyUsages, NameConstraints, Purpose},
    facts::{CertificateError, CertificateFacts, weak_algorithm},
    name::name_text,
    pem,
    signature::SignatureError,
};
use crate::{
    key::{Der, PublicKey},
    root::{NewRoot, ROOT_CHAIN_MAX},
    spiffe::TrustDomain,
    time::Timestamp,
};

/// What a supplied root must fit.
#[derive(Clone, Copy, Debug)]
pub struct SuppliedFor<'a> {
    /// The key that was supplied with it.
    pub key: &'a PublicKey,
    /// The trust domain of this CA.
    pub trust_domain: &'a TrustDomain,
    /// `LeafCertTTL`
    pub leaf_ttl: Duration,
    /// `IntermediateCertTTL`
    pub intermediate_ttl: Duration,
    /// The time.
    pub now: Timestamp,
    /// The roots of the bundle, from which it must differ.
    pub bundle: &'a [CertificateFacts],
    /// Whether it may lack the room to cross-sign its successor.
    pub without_cross_signing: bool,
}

/// A supplied root that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuppliedCertificates {
    /// The root.
    pub root: SignedCertificate,
    /// What is above it and is served with it, the nearest first: without a self-signed one, which whoever trusts it has.
    pub chain: Vec<Der>,
}

/// Checks `RootCert`: the root first, then the certificates above it.
pub fn check_supplied(pem: &str, wanted: &SuppliedFor<'_>) -> Result<SuppliedCertificates, SuppliedError> {
    let mut encoded = pem::decode_certificates(pem)?;
    expect_count(encoded.len(), 1 + ROOT_CHAIN_MAX)?;
    let supplied = read_all(&encoded)?;
    let (root, top) = (&supplied[0], &supplied[supplied.len() - 1]);
    // The self-signed one counts, whether it is given or not.
    expect_count(supplied.len(), usize::from(top.facts.is_self_issued()) + ROOT_CHAIN_MAX)?;
    check_root(root, wanted)?;
    supplied.iter().try_for_each(check_ca)?;
    check_links(&supplied)?;
    check_path_lengths(&supplied, wanted.without_cross_signing)?;
    supplied.iter().try_for_each(|certificate| check_dates(certificate, wanted))?;
    supplied.iter().try_for_each(|certificate| check_constraints(certificate, wanted.trust_domain))?;
    check_beside(&root.facts, wanted.bundle)?;
    let served = supplied.iter().take_while(|certificate| !certificate.facts.is_self_issued()).count().max(1);
    let facts = root.facts.clone();
    encoded.truncate(served);
    let chain = encoded.split_off(1);
    Ok(SuppliedCertificates { root: SignedCertificate { der: encoded.remove(0), facts }, chain })
}

/// Checks that a new root differs from those of the bundle in its key, its key identifier and its name.
pub fn check_beside(root: &CertificateFacts, bundle: &[CertificateFacts]) -> Result<(), SuppliedError> {
    for other in bundle {
        let what = match other {
            it if it.public_key == root.public_key => "key",
            it if it.key_id == root.key_id => "subject key identifier",
            it if it.subject == root.subject => "subject",
            _ => continue,
        };
        return Err(SuppliedError::AlreadyHere { what, other: other.key_id.unwrap_or(other.public_key.id) });
    }
    Ok(())
}

/// Whether another CA has signed a root: it has its place in the PKI of the operator's company.
pub fn is_below_another(root: &NewRoot) -> bool {
    CertificateFacts::read(root.certificate.as_bytes()).is_ok_and(|facts| !facts.is_self_issued())
}

/// Whether a root's path length lets it sign a bridge: that of one which was taken with `ForceWithoutCrossSigning` may not.
pub fn can_bridge(root: &NewRoot) -> bool {
    CertificateFacts::read(root.certificate.as_bytes()).map_or(true, |facts| has_room_for_bridge(&facts))
}

struct Supplied<'a> {
    der: &'a Der,
    facts: CertificateFacts,
    place: Place,
}

fn read_all(encoded: &[Der]) -> Result<Vec<Supplied<'_>>, SuppliedError> {
    let read = |(number, der): (usize, _)| {
        let facts = CertificateFacts::read(Der::as_bytes(der));
        let facts = facts.map_err(|source| SuppliedError::Certificate { number, source })?;
        let place = Place { number, subject: name_text(&facts.subject) };
        Ok(Supplied { der, facts, place })
    };
    (1..).zip(encoded).map(read).collect()
}

const fn expect_count(count: usize, count_max: usize) -> Result<(), SuppliedError> {
    if count > count_max { Err(SuppliedError::TooMany { count, count_max }) } else { Ok(()) }
}

/// What only the root itself must have.
fn check_root(root: &Supplied<'_>, wanted: &SuppliedFor<'_>) -> Result<(), SuppliedError> {
    let (facts, place) = (&root.facts, || root.place.clone());
    if facts.public_key != *wanted.key {
        let (certified, supplied) = (facts.public_key.id, wanted.key.id);
        return Err(SuppliedError::OtherKey { place: place(), certified, supplied });
    }
    if facts.has_empty_subject() {
        return Err(SuppliedError::NoSubject(place()));
    }
    if facts.key_id.is_none() {
        return Err(SuppliedError::NoKeyId(place()));
    }
    let own = format!("spiffe://{}", wanted.trust_domain);
    if !facts.uris.is_empty() && facts.uris != [own] {
        let found: Vec<String> = facts.uris.iter().map(|uri| format!("`{}`", uri.escape_default())).collect();
        let (found, own) = (found.join(" and "), wanted.trust_domain.clone());
        return Err(SuppliedError::OtherTrustDomain { place: place(), found, own });
    }
    Ok(())
}

fn check_ca(certificate: &Supplied<'_>) -> Result<(), SuppliedError> {
    let (facts, place) = (&certificate.facts, || certificate.place.clone());
    if !facts.is_ca {
        return Err(SuppliedError::NotACa(place()));
    }
    if !facts.key_usages.is_some_and(|usages| usages.contains(KeyUsages::CERTIFICATE_SIGN)) {
        let found = facts.key_usages.map_or_else(|| "none".into(), |usages| usages.to_string());
        return Err(SuppliedError::KeyUsage { place: place(), found });
    }
    let lacks = |purpose| !facts.purposes.is_empty() && !facts.purposes.contains(&purpose);
    if lacks(Purpose::ServerAuth) || lacks(Purpose::ClientAuth) {
        let found = facts.purposes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(SuppliedError::Purposes { place: place(), found });
    }
    Ok(())
}

/// Each was signed by the one that follows, and the last one by itself if it says so.
fn check_links(supplied: &[Supplied<'_>]) -> Result<(), SuppliedError> {
    for (certificate, next) in supplied.iter().zip(&supplied[1..]) {
        if certificate.facts.is_self_issued() {
            let count = supplied.len() - certificate.place.number;
            return Err(SuppliedError::NothingAbove { place: certificate.place.clone(), count });
        }
        check_link(certificate, next)?;
    }
    let Some(top) = supplied.last() else { return Ok(()) };
    if top.facts.is_self_issued() {
        let refuse = |reason| SuppliedError::NotSelfSigned { place: top.place.clone(), reason };
        return check_signature(top, &top.facts.public_key, refuse);
    }
    // Whoever has signed it is not given: no signature is verified here, but its algorithm is known.
    let weak = weak_algorithm(top.der.as_bytes());
    let weak = weak.map_err(|source| SuppliedError::Certificate { number: top.place.number, source })?;
    weak.map_or(Ok(()), |found| Err(SuppliedError::WeakSignature { place: top.place.clone(), found }))
}

fn check_link(certificate: &Supplied<'_>, next: &Supplied<'_>) -> Result<(), SuppliedError> {
    let refuse = |reason: String| {
        let (place, next) = (certificate.place.clone(), next.place.clone());
        SuppliedError::NotSignedByNext { place, next, reason }
    };
    if certificate.facts.issuer != next.facts.subject {
        return Err(refuse(format!("it names `{}` as its issuer", name_text(&certificate.facts.issuer))));
    }
    if let (Some(named), Some(found)) = (certificate.facts.authority_key_id, next.facts.key_id)
        && named != found
    {
        return Err(refuse(format!("it names the key {named} as its issuer's, and that is {found}")));
    }
    check_signature(certificate, &next.facts.public_key, refuse)
}

fn check_signature(
    certificate: &Supplied<'_>,
    key: &PublicKey,
    refuse: impl FnOnce(String) -> SuppliedError,
) -> Result<(), SuppliedError> {
    match CertificateFacts::read_signed_by(certificate.der.as_bytes(), key) {
        Ok(_) => Ok(()),
        Err(CertificateError::Signature(SignatureError::UnsuitedAlgorithm { found, .. })) => {
            Err(SuppliedError::WeakSignature { place: certificate.place.clone(), found })
        }
        Err(error) => Err(refuse(error.to_string())),
    }
}

/// RFC 5280 section 6.1.4 (l): self-issued certificates do not count. An issuer always does.
fn check_path_lengths(supplied: &[Supplied<'_>], without_cross_signing: bool) -> Result<(), SuppliedError> {
    let mut needed = 1;
    for certificate in supplied {
        let with_bridge = needed + 1;
        if let Some(path_length) = certificate.facts.path_length {
            let place = certificate.place.clone();
            if usize::from(path_length) < needed {
                return Err(SuppliedError::PathLength { place, path_length, needed, with_bridge });
            }
            if usize::from(path_length) < with_bridge && !without_cross_signing {
                return Err(SuppliedError::PathLengthForBridge { place, path_length, with_bridge });
            }
        }
        needed += usize::from(!certificate.facts.is_self_issued());
    }
    Ok(())
}

fn check_dates(certificate: &Supplied<'_>, wanted: &SuppliedFor<'_>) -> Result<(), SuppliedError> {
    let SuppliedFor { leaf_ttl, intermediate_ttl, now, .. } = *wanted;
    let CertificateFacts { not_before, not_after, .. } = certificate.facts;
    let (place, needed_until) = (certificate.place.clone(), now.plus(intermediate_ttl.saturating_add(leaf_ttl)));
    if not_before > now {
        Err(SuppliedError::NotYetValid { place, not_before, now })
    } else if not_after <= now {
        Err(SuppliedError::Ended { place, not_after, now })
    } else if not_after < needed_until {
        Err(SuppliedError::EndsTooSoon { place, not_after, needed_until, intermediate_ttl, leaf_ttl })
    } else {
        Ok(())
    }
}

/// Constraints on DNS names, addresses and the like do no harm: webpki enforces them, and identities are URIs.
fn check_constraints(certificate: &Supplied<'_>, trust_domain: &TrustDomain) -> Result<(), SuppliedError> {
    let Some(NameConstraints { permitted, excluded }) = &certificate.facts.name_constraints else { return Ok(()) };
    let place = || certificate.place.clone();
    let excludes = |base: &ConstrainedName, how| {
        let (trust_domain, base) = (trust_domain.clone(), base.clone());
        Err(SuppliedError::ExcludesTrustDomain { place: place(), trust_domain, base, how })
    };
    let is_ours = |base: &&ConstrainedName| matches!(base, ConstrainedName::Uri(host) if is_below(trust_domain, host));
    let is_uri = |base: &&ConstrainedName| matches!(base, ConstrainedName::Uri(_));
    if let Some(base) = excluded.iter().find(is_ours) {
        return excludes(base, "excluded");
    }
    if let Some(base) = permitted.iter().find(is_uri)
        && !permitted.iter().any(|base| is_ours(&base))
    {
        return excludes(base, "all that is permitted");
    }
    let unknown = |base: &&ConstrainedName| is_uri(base) || matches!(base, ConstrainedName::Directory);
    match permitted.iter().chain(excluded).find(unknown) {
        Some(base) => Err(SuppliedError::NameConstraints { place: place(), base: base.clone() }),
        None => Ok(()),
    }
}

/// RFC 5280 section 4.2.1.10: a host is that host, and with a dot before it everything below it.
fn is_below(trust_domain: &TrustDomain, base: &str) -> bool {
    let (host, base) = (trust_domain.as_str(), base.to_ascii_lowercase());
    if base.starts_with('.') { host.ends_with(&base) } else { host == base || base.is_empty() }
}

#[cfg(test)]
mod tests;
