//! A CA that can sign: its certificate was read once, and every certificate that it signs is read again before release.

use std::{fmt, sync::Arc};

use rcgen::{CertificateParams, KeyIdMethod, SerialNumber};

use super::{
    extension::KeyUsages,
    facts::{CertificateError, CertificateFacts},
    signing::{Names, SigningAdapter, SigningError, sign_certificate},
    validity::{NoTimeLeft, Validity},
};
use crate::{
    id::{KeyId, Serial},
    key::{Der, PublicKey, Signer},
    spiffe::TrustDomain,
};

/// Why no certificate was issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The CA's own certificate, or the one that was just signed, cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The key's keeper or the encoder refused.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The issuer or the root ends.
    #[error(transparent)]
    NoTimeLeft(#[from] NoTimeLeft),
    /// The certificate must not sign others.
    #[error("the certificate with the key {key} cannot sign: {reason}")]
    NotACa {
        /// The key that it certifies.
        key: KeyId,
        /// What is missing.
        reason: &'static str,
    },
    /// The certificate belongs to another key than the signer's.
    #[error("the CA certificate is for the key {certificate}, but the signer has the key {signer}")]
    AnotherKey {
        /// The certificate's key.
        certificate: KeyId,
        /// The signer's key.
        signer: KeyId,
    },
    /// The request is for another trust domain.
    #[error("the request is for the trust domain `{asked}`, this CA is for `{own}`")]
    ForeignTrustDomain {
        /// What it asks for.
        asked: TrustDomain,
        /// What is issued here.
        own: TrustDomain,
    },
    /// The identity is not one that is issued here.
    #[error(transparent)]
    Foreign(#[from] crate::leaf::ForeignIdentity),
    /// The certificate that was signed is not what was asked for. It is not released.
    #[error("the signed certificate differs from what was asked for in its {what}; it is not released")]
    Differs {
        /// Where it differs.
        what: &'static str,
    },
    /// More names than one certificate takes.
    #[error("{count} names for one certificate, at most {count_max} are allowed")]
    TooManyNames {
        /// How many.
        count: usize,
        /// The limit.
        count_max: usize,
    },
}

/// A certificate, with what it says as it was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCertificate {
    /// The certificate.
    pub der: Der,
    /// What it says.
    pub facts: CertificateFacts,
}

/// Whom a certificate is for: a key, and the key identifier that names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) key: &'a PublicKey,
    pub(crate) key_id: KeyId,
    /// The name of another certificate, which this one is to have byte by byte; `None`: the template's.
    pub(crate) name: Option<&'a Der>,
}

impl<'a> Subject<'a> {
    /// The key, named as RFC 7093 does it.
    pub(crate) const fn new(key: &'a PublicKey) -> Self {
        Self { key, key_id: key.id, name: None }
    }
}

/// A CA certificate together with its key.
pub struct CertificateAuthority {
    certificate: Der,
    facts: CertificateFacts,
    key_id: KeyId,
    issuer_params: CertificateParams,
    bounds: Validity,
    signer: Arc<dyn Signer>,
}

impl CertificateAuthority {
    /// Takes a CA certificate and the signer of its key.
    pub fn new(certificate: Der, signer: Arc<dyn Signer>) -> Result<Self, IssueError> {
        let facts = CertificateFacts::read(certificate.as_bytes())?;
        if facts.public_key != *signer.public_key() {
            return Err(IssueError::AnotherKey { certificate: facts.public_key.id, signer: signer.public_key().id });
        }
        let key_id = check_ca(&facts)?;
        let mut issuer_params = CertificateParams::default();
        issuer_params.key_identifier_method = KeyIdMethod::PreSpecified(key_id.0.to_vec());
        let bounds = Validity { not_before: facts.not_before, not_after: facts.not_after };
        Ok(Self { certificate, facts, key_id, issuer_params, bounds, signer })
    }

    /// The same CA, whose certificates also stay within the dates of its root.
    #[must_use]
    pub fn under(mut self, root: &CertificateFacts) -> Self {
        self.bounds = self.bounds.within(Validity { not_before: root.not_before, not_after: root.not_after });
        self
    }

    /// Its certificate.
    pub const fn certificate(&self) -> &Der {
        &self.certificate
    }

    /// What its certificate says.
    pub const fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// Its subject key identifier.
    pub const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The dates that none of its certificates leaves.
    pub const fn bounds(&self) -> Validity {
        self.bounds
    }

    /// Signs a certificate for a key, by a template of policy, and reads it back.
    pub(crate) fn sign(
        &self,
        mut template: CertificateParams,
        subject: Subject<'_>,
        serial: Serial,
        dates: Validity,
    ) -> Result<SignedCertificate, IssueError> {
        fill(&mut template, subject, serial, dates)?;
        template.use_authority_key_identifier_extension = true;
        let names = Names { issuer: &self.facts.subject, subject: subject.name };
        let certificate = sign_certificate(&template, subject.key, &self.issuer_params, names, &*self.signer)?;
        let signed = read_back(&certificate, subject, serial, dates)?;
        let differs = |what| Err(IssueError::Differs { what });
        match &signed.facts {
            facts if facts.issuer != self.facts.subject => differs("issuer"),
            facts if facts.authority_key_id != Some(self.key_id) => differs("authority key identifier"),
            facts if subject.name.is_some_and(|name| facts.subject != *name) => differs("subject"),
            _ => Ok(signed),
        }
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateAuthority({})", self.key_id)
    }
}

fn check_ca(facts: &CertificateFacts) -> Result<KeyId, IssueError> {
    let refuse = |reason| Err(IssueError::NotACa { key: facts.public_key.id, reason });
    if !facts.is_ca {
        return refuse("it is no CA certificate");
    }
    if facts.key_usages.is_some_and(|usages| !usages.contains(KeyUsages::CERTIFICATE_SIGN)) {
        return refuse("its key usage lacks keyCertSign");
    }
    if facts.has_empty_subject() {
        return refuse("its subject is empty, so that what it signs would have no issuer name");
    }
    match facts.key_id {
        Some(key_id) => Ok(key_id),
        None => refuse("it has no subject key identifier"),
    }
}

/// Signs a root with its own key.
pub(crate) fn sign_root(
    mut template: CertificateParams,
    signer: &dyn Signer,
    serial: Serial,
    dates: Validity,
) -> Result<SignedCertificate, IssueError> {
    let subject = Subject::new(signer.public_key());
    fill(&mut template, subject, serial, dates)?;
    let adapter = SigningAdapter::new(signer);
    let certificate = template.self_signed(&adapter).map_err(|error| adapter.explain(&error))?;
    let signed = read_back(certificate.der(), subject, serial, dates)?;
    if signed.facts.is_self_issued() { Ok(signed) } else { Err(IssueError::Differs { what: "issuer" }) }
}

fn fill(
    template: &mut CertificateParams,
    subject: Subject<'_>,
    serial: Serial,
    dates: Validity,
) -> Result<(), NoTimeLeft> {
    let date_time = |at: crate::time::Timestamp| {
        at.to_date_time().ok_or(NoTimeLeft { now: dates.not_before, ends_at: dates.not_after })
    };
    template.not_before = date_time(dates.not_before)?;
    template.not_after = date_time(dates.not_after)?;
    template.serial_number = Some(SerialNumber::from_slice(&serial.0));
    template.key_identifier_method = KeyIdMethod::PreSpecified(subject.key_id.0.to_vec());
    Ok(())
}

/// Reads what was just signed (about 2 us): rcgen's other way of issuing has certified another key than the request's.
fn read_back(
    der: &[u8],
    subject: Subject<'_>,
    serial: Serial,
    dates: Validity,
) -> Result<SignedCertificate, IssueError> {
    let facts = CertificateFacts::read(der)?;
    let differs = |what| Err(IssueError::Differs { what });
    match &facts {
        facts if facts.public_key != *subject.key => differs("public key"),
        facts if facts.key_id != Some(subject.key_id) => differs("subject key identifier"),
        facts if facts.serial != serial => differs("serial number"),
        facts if facts.not_before != dates.not_before || facts.not_after != dates.not_after => differs("dates"),
        _ => Ok(SignedCertificate { der: Der::from(der), facts }),
    }
}
