//! Signs leaves by one template: what differs from leaf to leaf is filled in, everything else was prepared once.

use std::{sync::Arc, time::Duration};

use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};

use super::check_local;
use crate::{
    id::{KeyId, Serial},
    key::{Der, Signer},
    spiffe::{Identity, Name, TrustDomain},
    time::Timestamp,
    x509::{
        authority::{CertificateAuthority, IssueError, SignedCertificate, Subject},
        csr::VerifiedCsr,
        facts::CertificateFacts,
        request::ia5,
    },
};

/// What one leaf gets.
#[derive(Clone, Copy, Debug)]
pub struct LeafProfile<'a> {
    /// The request, whose key and identity are taken.
    pub csr: &'a VerifiedCsr,
    /// Its serial number.
    pub serial: Serial,
    /// The time.
    pub now: Timestamp,
    /// How long it lives, if its issuer does.
    pub ttl: Duration,
}

/// A server's issuer, prepared to sign leaves.
#[derive(Debug)]
pub struct LeafIssuer {
    ca: CertificateAuthority,
    trust_domain: TrustDomain,
    datacenter: Name,
    template: CertificateParams,
}

impl LeafIssuer {
    /// Takes an issuer certificate, its root and the signer of its key.
    pub fn new(
        certificate: Der,
        root: &CertificateFacts,
        signer: Arc<dyn Signer>,
        trust_domain: TrustDomain,
        datacenter: Name,
    ) -> Result<Self, IssueError> {
        let ca = CertificateAuthority::new(certificate, signer)?.under(root);
        Ok(Self { ca, trust_domain, datacenter, template: end_entity_template() })
    }

    /// The issuer's certificate.
    pub const fn certificate(&self) -> &Der {
        self.ca.certificate()
    }

    /// What the issuer's certificate says.
    pub const fn facts(&self) -> &CertificateFacts {
        self.ca.facts()
    }

    /// The issuer's key identifier, by which the state names it.
    pub const fn key_id(&self) -> KeyId {
        self.ca.key_id()
    }

    /// Signs a leaf: exactly one name, and that of this trust domain and datacenter. It is not to be released before the
    /// log has accepted it.
    pub fn sign(&self, profile: &LeafProfile<'_>) -> Result<SignedCertificate, IssueError> {
        let LeafProfile { csr, serial, now, ttl } = *profile;
        check_local(csr.identity(), &self.trust_domain, &self.datacenter)?;
        let mut template = self.template.clone();
        let name = csr.identity().to_string();
        template.subject_alt_names = vec![match csr.identity() {
            Identity::Spiffe(_) => SanType::URI(ia5(&name)?),
            Identity::LinkerdDns(_) => SanType::DnsName(ia5(&name)?),
        }];
        let signed =
            self.ca.sign(template, Subject::new(csr.public_key()), serial, self.ca.bounds().starting(now, ttl)?)?;
        if has_only_name(&signed.facts, csr.identity(), &name) {
            Ok(signed)
        } else {
            Err(IssueError::Differs { what: "names" })
        }
    }
}

fn has_only_name(facts: &CertificateFacts, identity: &Identity, name: &str) -> bool {
    let (expected, others) = match identity {
        Identity::Spiffe(_) => (&facts.uris, &facts.dns_names),
        Identity::LinkerdDns(_) => (&facts.dns_names, &facts.uris),
    };
    expected.len() == 1 && expected[0] == name && others.is_empty() && facts.ip_addresses.is_empty()
}

/// What is not a CA: an empty subject (so that the names are critical), CA false, digitalSignature, TLS server and client.
pub(crate) fn end_entity_template() -> CertificateParams {
    let mut template = CertificateParams::default();
    template.distinguished_name = DistinguishedName::new();
    template.is_ca = IsCa::ExplicitNoCa;
    template.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    template.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    template
}

#[cfg(test)]
mod tests;
