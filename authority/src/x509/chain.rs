//! Chains: what a peer presents is verified to an anchor, and what is served or taken over is checked before it is used.
//!
//! rustls-webpki builds and verifies paths, but looks neither at an anchor's path length nor at its dates, nor at a leaf's
//! key usage, as OpenSSL, GnuTLS and Go do: these checks are added to each path that it finds.

use std::{cell::RefCell, time::Duration};

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath, anchor_from_trusted_cert};

use super::{
    certificate::{BRIDGE_PATH_LENGTH, ISSUER_PATH_LENGTH},
    der::{Reader, tag},
    extension::{KeyUsages, Purpose},
    facts::{CertificateError, CertificateFacts},
    server::ServerId,
    signature,
};
use crate::{
    id::KeyId,
    key::{Der, PublicKey},
    spiffe::{SpiffeError, SpiffeId, TrustDomain},
    time::Timestamp,
};

/// The most certificates that a peer may present beside its own: an issuer and a bridge, and for each of the two roots that a bridge
/// is between, where it is an operator's, its own certificate and three more ([`crate::root::ROOT_CHAIN_MAX`] with the top one, which
/// is not served). It bounds the cost of path building (RUSTSEC-2023-0052).
pub const INTERMEDIATES_MAX: usize = 10;
/// The most anchors: the bundle of one trust domain, whose root set has at most ten.
pub const ANCHORS_MAX: usize = 32;

/// What the peer is in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// The TLS client.
    Client,
    /// The TLS server.
    Server,
}

impl Usage {
    const fn purpose(self) -> Purpose {
        match self {
            Self::Client => Purpose::ClientAuth,
            Self::Server => Purpose::ServerAuth,
        }
    }
}

/// Why a chain is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// More certificates than are looked at.
    #[error("{count} {what}, at most {count_max} are allowed")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        count_max: usize,
    },
    /// A certificate that cannot be read, or that another key signed.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// No path to an anchor.
    #[error("the certificate does not lead to a trusted root: {0}")]
    Untrusted(#[from] webpki::Error),
    /// A certificate is used for what it is not made for.
    #[error("the certificate of the key {key} is refused: {reason}")]
    Unsuited {
        /// The key that it certifies.
        key: KeyId,
        /// What is wrong.
        reason: &'static str,
    },
    /// A certificate outside of its dates.
    #[error("the certificate of the key {key} is valid from {not_before} to {not_after}, and it is {now}")]
    OutsideItsDates {
        /// The key that it certifies.
        key: KeyId,
        /// Its first second.
        not_before: Timestamp,
        /// Its last second.
        not_after: Timestamp,
        /// The time.
        now: Timestamp,
    },
    /// No URI, or several (X509-SVID section 2: validators must refuse).
    #[error("the certificate has {count} URI names, exactly one is needed")]
    UriCount {
        /// How many.
        count: usize,
    },
    /// The URI is none of this CA's identities.
    #[error("the name in the certificate is refused: {0}")]
    Name(#[from] SpiffeError),
}

fn unsuited(facts: &CertificateFacts, reason: &'static str) -> ChainError {
    ChainError::Unsuited { key: facts.public_key.id, reason }
}

/// Verifies the chain of a workload, agent or server of the mesh; answers its identity, whose trust domain is still to be
/// compared with the one that the anchors are for.
pub fn verify_chain(
    leaf: &[u8],
    intermediates: &[&[u8]],
    anchors: &[&[u8]],
    now: Timestamp,
    usage: Usage,
) -> Result<SpiffeId, ChainError> {
    let facts = verify_path(leaf, intermediates, anchors, now, usage)?;
    Ok(one_uri(&facts)?.parse()?)
}

/// Verifies the chain of a server of the server CA; answers who it is.
pub fn verify_server_chain(
    leaf: &[u8],
    intermediates: &[&[u8]],
    anchors: &[&[u8]],
    now: Timestamp,
    usage: Usage,
) -> Result<ServerId, ChainError> {
    let facts = verify_path(leaf, intermediates, anchors, now, usage)?;
    Ok(one_uri(&facts)?.parse()?)
}

/// Verifies that a leaf, whatever it names, leads to one of the anchors; answers what it says.
pub fn verify_path(
    leaf: &[u8],
    intermediates: &[&[u8]],
    anchors: &[&[u8]],
    now: Timestamp,
    usage: Usage,
) -> Result<CertificateFacts, ChainError> {
    expect_at_most("intermediate certificates", intermediates.len(), INTERMEDIATES_MAX)?;
    expect_at_most("trusted roots", anchors.len(), ANCHORS_MAX)?;
    let facts = CertificateFacts::read(leaf)?;
    check_leaf(&facts, usage)?;
    let roots = anchors.iter().map(|anchor| CertificateFacts::read(anchor)).collect::<Result<Vec<_>, _>>()?;
    let anchors: Vec<_> = anchors.iter().map(|anchor| CertificateDer::from(*anchor)).collect();
    let anchors = anchors.iter().map(anchor_from_trusted_cert).collect::<Result<Vec<_>, _>>()?;
    let intermediates: Vec<_> = intermediates.iter().map(|der| CertificateDer::from(*der)).collect();
    let certificate = CertificateDer::from(leaf);
    let end_entity = EndEntityCert::try_from(&certificate)?;
    let refusal = RefCell::new(None);
    let check = |path: &VerifiedPath<'_>| {
        check_path(&facts, path, &roots, now).map_err(|error| {
            refusal.replace(Some(error));
            webpki::Error::UnknownIssuer
        })
    };
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now.seconds()));
    let purpose = match usage {
        Usage::Client => KeyUsage::client_auth(),
        Usage::Server => KeyUsage::server_auth(),
    };
    let verified =
        end_entity.verify_for_usage(signature::ALL, &anchors, &intermediates, time, purpose, None, Some(&check));
    match verified {
        Ok(_) => Ok(facts),
        // A path was found, but ours is the reason against it.
        Err(error) => Err(refusal.take().unwrap_or(ChainError::Untrusted(error))),
    }
}

/// Checks the answer to our own issuer request before it is used: our key, this root's signature, path length 0, its dates,
/// and the trust domain as its one name.
pub fn check_issuer(
    certificate: &[u8],
    own_key: &PublicKey,
    root: &CertificateFacts,
    trust_domain: &TrustDomain,
    now: Timestamp,
) -> Result<CertificateFacts, ChainError> {
    let facts = CertificateFacts::read_signed_by(certificate, &root.public_key)?;
    let usages = facts.key_usages.unwrap_or_default();
    let reason = match &facts {
        it if it.public_key != *own_key => "it is for another key than the one in our request",
        it if it.key_id != Some(own_key.id) => "its subject key identifier is not that of our key",
        it if it.issuer != root.subject => "its issuer is not the subject of the root",
        it if it.authority_key_id.is_none() || it.authority_key_id != root.key_id => {
            "its authority key identifier is not the root's subject key identifier"
        }
        it if it.has_empty_subject() || it.is_self_issued() => "its subject is empty or its issuer's",
        it if !it.is_ca || it.path_length != Some(ISSUER_PATH_LENGTH) => "it is no CA with path length 0",
        _ if !usages.contains(KeyUsages::CERTIFICATE_SIGN) => "its key usage lacks keyCertSign",
        it if !it.purposes.is_empty() => "it is restricted to purposes",
        it if it.uris != [format!("spiffe://{trust_domain}")] => "its one URI is not the trust domain",
        it if !it.dns_names.is_empty() || !it.ip_addresses.is_empty() => "it has names beside its URI",
        it if it.name_constraints.is_some() => "it has name constraints",
        it if !is_nested(it, root) => "its dates are not within the root's",
        _ => return expect_valid(&facts, now).map(|()| facts),
    };
    Err(unsuited(&facts, reason))
}

/// Checks a chain under a self-signed root before it is served: the leaf first, then its issuer under this root, then at most the root's bridge; each
/// signed by the next, nothing else.
pub fn check_served_chain(chain: &[Der], root: &CertificateFacts) -> Result<(), ChainError> {
    expect_at_most("certificates in a served chain", chain.len(), 3)?;
    let read = |der: &Der, key: &PublicKey| CertificateFacts::read_signed_by(der.as_bytes(), key);
    let [leaf, issuer, bridge @ ..] = chain else {
        return Err(unsuited(root, "a served chain has at least a leaf and its issuer"));
    };
    let issuer = read(issuer, &root.public_key)?;
    if issuer.issuer != root.subject || !issuer.is_ca || issuer.path_length != Some(ISSUER_PATH_LENGTH) {
        return Err(unsuited(&issuer, "the second certificate is no issuer under the root"));
    }
    let leaf = read(leaf, &issuer.public_key)?;
    if leaf.is_ca || leaf.issuer != issuer.subject || !is_nested(&leaf, &issuer) {
        return Err(unsuited(&leaf, "the first certificate is no leaf within its issuer's dates"));
    }
    let Some(bridge) = bridge.first() else { return Ok(()) };
    let bridge = CertificateFacts::read(bridge.as_bytes())?;
    let is_bridge = bridge.subject == root.subject
        && bridge.public_key == root.public_key
        && bridge.path_length == Some(BRIDGE_PATH_LENGTH)
        && !bridge.is_self_issued();
    match bridge.not_after >= leaf.not_after {
        true if is_bridge => Ok(()),
        true => Err(unsuited(&bridge, "the third certificate is no bridge to the root")),
        false => Err(unsuited(&bridge, "the bridge ends before the leaf")),
    }
}

fn expect_at_most(what: &'static str, count: usize, count_max: usize) -> Result<(), ChainError> {
    if count > count_max { Err(ChainError::TooMany { what, count, count_max }) } else { Ok(()) }
}

fn one_uri(facts: &CertificateFacts) -> Result<&str, ChainError> {
    match facts.uris.as_slice() {
        [uri] => Ok(uri),
        uris => Err(ChainError::UriCount { count: uris.len() }),
    }
}

/// X509-SVID section 5.1: a leaf signs handshakes and nothing else.
fn check_leaf(facts: &CertificateFacts, usage: Usage) -> Result<(), ChainError> {
    let usages = facts.key_usages.unwrap_or_default();
    let signs_others = usages.contains(KeyUsages::CERTIFICATE_SIGN) || usages.contains(KeyUsages::REVOCATION_LIST_SIGN);
    if facts.is_ca || signs_others {
        Err(unsuited(facts, "it may sign other certificates, so that it is no leaf"))
    } else if !usages.contains(KeyUsages::DIGITAL_SIGNATURE) {
        Err(unsuited(facts, "its key usage lacks digitalSignature"))
    } else if !facts.purposes.contains(&usage.purpose()) {
        Err(unsuited(facts, "its extended key usage lacks this side of the handshake"))
    } else {
        Ok(())
    }
}

/// What webpki leaves out: the anchor's dates and path length, and the leaf within its issuer's dates. Of several anchors with
/// one name and key (a root that was made again with other dates), one that allows the path is enough.
fn check_path(
    leaf: &CertificateFacts,
    path: &VerifiedPath<'_>,
    roots: &[CertificateFacts],
    now: Timestamp,
) -> Result<(), ChainError> {
    let read = |certificate: &webpki::Cert<'_>| CertificateFacts::read(certificate.der().as_ref());
    let intermediates = path.intermediate_certificates().map(read).collect::<Result<Vec<_>, _>>()?;
    let mut refusal = ChainError::Untrusted(webpki::Error::UnknownIssuer);
    for root in roots.iter().filter(|root| is_anchor_of(root, path)) {
        let cas: Vec<&CertificateFacts> = intermediates.iter().chain([root]).collect();
        match check_cas(leaf, &cas, now) {
            Ok(()) => return Ok(()),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

fn check_cas(leaf: &CertificateFacts, cas: &[&CertificateFacts], now: Timestamp) -> Result<(), ChainError> {
    if !is_nested(leaf, cas[0]) {
        return Err(unsuited(leaf, "its dates are not within its issuer's"));
    }
    let mut followers = 0_usize;
    for ca in cas {
        expect_valid(ca, now)?;
        if ca.path_length.is_some_and(|length| usize::from(length) < followers) {
            return Err(unsuited(ca, "more CA certificates follow it than its path length allows"));
        }
        // RFC 5280 section 6.1.4 (l): self-issued certificates do not count.
        followers += usize::from(!ca.is_self_issued());
    }
    Ok(())
}

fn is_anchor_of(root: &CertificateFacts, path: &VerifiedPath<'_>) -> bool {
    // webpki keeps name and key without their outer SEQUENCE.
    let is_same = |whole: &Der, inside: &[u8]| {
        Reader::single(whole.as_bytes(), tag::SEQUENCE, "anchor").is_ok_and(|element| element.content == inside)
    };
    let anchor = path.anchor();
    is_same(&root.subject, &anchor.subject) && is_same(&root.public_key.spki, &anchor.subject_public_key_info)
}

fn expect_valid(facts: &CertificateFacts, now: Timestamp) -> Result<(), ChainError> {
    if facts.is_valid_at(now) {
        return Ok(());
    }
    let CertificateFacts { not_before, not_after, .. } = *facts;
    Err(ChainError::OutsideItsDates { key: facts.public_key.id, not_before, not_after, now })
}

fn is_nested(inner: &CertificateFacts, outer: &CertificateFacts) -> bool {
    outer.not_before <= inner.not_before && inner.not_after <= outer.not_after
}

#[cfg(test)]
mod tests;
