//! The CA is its own name constraint: it issues for its trust domain and datacenter alone.
//!
//! URI name constraints in CA certificates would do the same at the verifier, but rustls-webpki and Python's cryptography
//! reject even conforming leaves below one.

use crate::spiffe::{Identity, Name, TrustDomain};

/// An identity that belongs elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForeignIdentity {
    /// Another trust domain, in Consul's words.
    #[error("SPIFFE ID in CSR from a different trust domain: {asked}, we are {own}")]
    TrustDomain {
        /// The one in the request.
        asked: String,
        /// Ours.
        own: TrustDomain,
    },
    /// Another datacenter, in Consul's words.
    #[error("SPIFFE ID in CSR from a different datacenter: {asked}, we are {own}")]
    Datacenter {
        /// The one in the request.
        asked: Name,
        /// Ours.
        own: Name,
    },
}

/// Checks that an identity belongs to this trust domain and datacenter.
pub fn check_local(identity: &Identity, trust_domain: &TrustDomain, datacenter: &Name) -> Result<(), ForeignIdentity> {
    match identity {
        Identity::Spiffe(id) if id.trust_domain != *trust_domain => {
            Err(ForeignIdentity::TrustDomain { asked: id.trust_domain.to_string(), own: trust_domain.clone() })
        }
        Identity::Spiffe(id) if id.datacenter() != datacenter => {
            Err(ForeignIdentity::Datacenter { asked: id.datacenter().clone(), own: datacenter.clone() })
        }
        Identity::LinkerdDns(name) if !is_below(name, trust_domain) => {
            Err(ForeignIdentity::TrustDomain { asked: name.to_string(), own: trust_domain.clone() })
        }
        Identity::Spiffe(_) | Identity::LinkerdDns(_) => Ok(()),
    }
}

fn is_below(name: &str, trust_domain: &TrustDomain) -> bool {
    name.strip_suffix(trust_domain.as_str()).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_identities_of_this_trust_domain_and_datacenter_are_local() {
        let trust_domain: TrustDomain = "example.org".parse().unwrap();
        let datacenter = Name::parse("datacenter", "dc1").unwrap();
        let check = |identity: Identity| check_local(&identity, &trust_domain, &datacenter).map_err(|e| e.to_string());
        let spiffe = |text: &str| check(Identity::Spiffe(text.parse().unwrap()));
        let linkerd = |text: &str| check(Identity::LinkerdDns(text.into()));
        assert_eq!(spiffe("spiffe://example.org/ns/default/dc/dc1/svc/web"), Ok(()));
        assert_eq!(
            spiffe("spiffe://evil.org/ns/default/dc/dc1/svc/web"),
            Err("SPIFFE ID in CSR from a different trust domain: evil.org, we are example.org".into())
        );
        assert_eq!(
            spiffe("spiffe://example.org/agent/client/dc/dc2/id/n"),
            Err("SPIFFE ID in CSR from a different datacenter: dc2, we are dc1".into())
        );
        assert_eq!(linkerd("web.default.serviceaccount.identity.linkerd.example.org"), Ok(()));
        assert!(linkerd("web.default.serviceaccount.identity.linkerd.badexample.org").is_err());
        assert!(linkerd("web.default.serviceaccount.identity.linkerd.example.org.evil.org").is_err());
    }
}
