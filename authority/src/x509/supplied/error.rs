//! Why a supplied root is refused: which certificate, which value, why, and what to do.

use std::{fmt, time::Duration};

use crate::{
    id::KeyId,
    root::ROOT_CHAIN_MAX,
    spiffe::TrustDomain,
    time::Timestamp,
    x509::{extension::ConstrainedName, facts::CertificateError, pem::PemError},
};

/// Which certificate of `RootCert` it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number, from 1.
    pub number: usize,
    /// Its subject.
    pub subject: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate {} of RootCert ({})", self.number, self.subject)
    }
}

/// Why a supplied root is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuppliedError {
    /// Not certificates in PEM.
    #[error(
        "RootCert cannot be read: {0}; give certificates in PEM and nothing beside them, the root first, then those above it"
    )]
    Pem(#[from] PemError),
    /// More certificates than chains may be long.
    #[error(
        "RootCert has {count} certificates, at most {count_max} are allowed here: the root, and above it {ROOT_CHAIN_MAX} CAs, of which the self-signed one at the top may be left out; verifiers give up on longer chains"
    )]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        count_max: usize,
    },
    /// One cannot be read, or has a key or an extension that is not accepted.
    #[error("certificate {number} of RootCert is refused: {source}")]
    Certificate {
        /// Its number, from 1.
        number: usize,
        /// Why.
        source: CertificateError,
    },
    /// The key belongs to another certificate.
    #[error(
        "PrivateKey does not belong to {place}: that certifies the key {certified}, PrivateKey is the key {supplied}; put the certificate of PrivateKey first, or give the key that belongs to it"
    )]
    OtherKey {
        /// The root.
        place: Place,
        /// The key that it certifies.
        certified: KeyId,
        /// The key that was supplied.
        supplied: KeyId,
    },
    /// Not a CA.
    #[error(
        "{0} is no CA: its basic constraints lack CA:TRUE, so that nothing that it signs would be trusted; have it signed again as a CA"
    )]
    NotACa(Place),
    /// It may not sign certificates.
    #[error(
        "{place} may not sign certificates: its key usage is `{found}`, and keyCertSign is needed (X509-SVID section 4.3); have it signed again with keyCertSign and cRLSign"
    )]
    KeyUsage {
        /// Which.
        place: Place,
        /// Its key usages, or `none`.
        found: String,
    },
    /// It is made for some purposes only.
    #[error(
        "{place} is restricted to the purposes {found}: verifiers hold what is below it to them, and leaves need serverAuth and clientAuth; have it signed again without an extended key usage"
    )]
    Purposes {
        /// Which.
        place: Place,
        /// The purposes.
        found: String,
    },
    /// The root has no subject, so that its issuers would have no issuer name.
    #[error("{0} has an empty subject: what it signs would not name its issuer; have it signed again with a name")]
    NoSubject(Place),
    /// The root has no subject key identifier, by which it is known here.
    #[error(
        "{0} has no subject key identifier, by which roots are known and found (RFC 5280 section 4.2.1.2); have it signed again with one"
    )]
    NoKeyId(Place),
    /// Something is above a self-signed certificate.
    #[error(
        "{place} is self-signed, so that nothing is above it, but {count} more follow it; leave out those that follow"
    )]
    NothingAbove {
        /// Which.
        place: Place,
        /// How many follow.
        count: usize,
    },
    /// One was not signed by the one that follows it.
    #[error(
        "{place} was not signed by {next}: {reason}; give the root first, then the certificate of the CA that signed it, and so on upwards"
    )]
    NotSignedByNext {
        /// Which.
        place: Place,
        /// The one that follows.
        next: Place,
        /// What does not fit.
        reason: String,
    },
    /// Subject and issuer are the same, but its own key did not sign it.
    #[error(
        "{place} names itself as its issuer, but its signature is not by its own key: {reason}; give the certificate as it was issued"
    )]
    NotSelfSigned {
        /// Which.
        place: Place,
        /// What does not fit.
        reason: String,
    },
    /// A signature that verifiers do not accept.
    #[error(
        "{place} has a signature by the algorithm {found}, which is weak or does not belong to the key that made it; accepted are Ed25519, and ECDSA, RSA PKCS#1 v1.5 and RSA-PSS with SHA-256, SHA-384 or SHA-512; have it signed again, or leave it out if it is the self-signed one at the top"
    )]
    WeakSignature {
        /// Which.
        place: Place,
        /// The algorithm's object identifiers.
        found: String,
    },
    /// No issuer may follow.
    #[error(
        "{place} has path length {path_length}, but at least {needed} is needed: as many CA certificates follow it in the chain of every leaf (the issuer, and what is between them), and none would verify; have it signed again with path length {with_bridge} or more, or with none"
    )]
    PathLength {
        /// Which.
        place: Place,
        /// Its path length.
        path_length: u8,
        /// How many CA certificates follow it.
        needed: usize,
        /// How many follow it while the root after this one is introduced.
        with_bridge: usize,
    },
    /// An issuer may follow, but no bridge above an issuer.
    #[error(
        "{place} has path length {path_length}: issuers fit below it, but when this root is replaced, a bridge and an issuer below that do not (path length {with_bridge} is needed for these), and whoever trusts nothing else would be cut off then; have it signed again with path length {with_bridge} or more, or with none, or accept that with ForceWithoutCrossSigning"
    )]
    PathLengthForBridge {
        /// Which.
        place: Place,
        /// Its path length.
        path_length: u8,
        /// How many CA certificates would follow it.
        with_bridge: usize,
    },
    /// It begins later.
    #[error("{place} is valid from {not_before} on, and it is {now}; wait until then, or check the clocks")]
    NotYetValid {
        /// Which.
        place: Place,
        /// Its first second.
        not_before: Timestamp,
        /// The time.
        now: Timestamp,
    },
    /// It has ended.
    #[error("{place} ended at {not_after}, and it is {now}; have it renewed")]
    Ended {
        /// Which.
        place: Place,
        /// Its last second.
        not_after: Timestamp,
        /// The time.
        now: Timestamp,
    },
    /// It ends too soon.
    #[error(
        "{place} ends at {not_after}, before {needed_until}: it must outlive an issuer (IntermediateCertTTL, {} s) and a leaf (LeafCertTTL, {} s) that begin now; have it renewed, or set a shorter IntermediateCertTTL", .intermediate_ttl.as_secs(), .leaf_ttl.as_secs()
    )]
    EndsTooSoon {
        /// Which.
        place: Place,
        /// Its last second.
        not_after: Timestamp,
        /// When an issuer and a leaf after it would end.
        needed_until: Timestamp,
        /// `IntermediateCertTTL`
        intermediate_ttl: Duration,
        /// `LeafCertTTL`
        leaf_ttl: Duration,
    },
    /// The root is another trust domain's.
    #[error(
        "{place} names {found}, but this is the trust domain `spiffe://{own}`, which never changes; give a root with that URI alone, or without a URI"
    )]
    OtherTrustDomain {
        /// The root.
        place: Place,
        /// Its URIs.
        found: String,
        /// The URI that it may have.
        own: TrustDomain,
    },
    /// It excludes the trust domain.
    #[error(
        "the name constraints of {place} exclude the trust domain `{trust_domain}`: {base} is {how}; have it signed again without constraints on URIs"
    )]
    ExcludesTrustDomain {
        /// Which.
        place: Place,
        /// The trust domain.
        trust_domain: TrustDomain,
        /// What it permits or excludes.
        base: ConstrainedName,
        /// `excluded` or `all that is permitted`.
        how: &'static str,
    },
    /// It constrains names in a way that verifiers do not implement.
    #[error(
        "{place} has name constraints on {base}: agents and other verifiers do not implement these and refuse every chain below; have it signed again without constraints on URIs and subjects"
    )]
    NameConstraints {
        /// Which.
        place: Place,
        /// What it constrains.
        base: ConstrainedName,
    },
    /// It is, or is too like, a root that is in the bundle.
    #[error(
        "the new root has the {what} of root {other}, which is in the bundle: verifiers could not tell them apart; give a root with a key and a name of its own"
    )]
    AlreadyHere {
        /// What is the same.
        what: &'static str,
        /// The root.
        other: KeyId,
    },
}
