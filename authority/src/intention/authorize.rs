//! Whether a connection may be: the answer of Consul's `authorize`, with the checks that it leaves out. One pure function, for servers
//! and agents alike.

use super::{DefaultPolicy, Intention, decide};
use crate::{
    id::Serial,
    revocation::Revocation,
    spiffe::{Name, SpiffeId, SpiffePath, TrustDomain},
    time::Timestamp,
    x509::CertificateFacts,
};

/// A connection that asks to be.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// The service that is reached.
    pub target: &'a Name,
    /// The name in the client's certificate.
    pub client: &'a SpiffeId,
    /// The serial of that certificate.
    pub serial: Option<Serial>,
    /// The certificate itself, if whoever asks has passed it on.
    pub certificate: Option<&'a CertificateFacts>,
}

/// What is known here.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The name space of every identity.
    pub trust_domain: &'a TrustDomain,
    /// What holds where no intention decides.
    pub default: DefaultPolicy,
    /// The revocation of the certificate with that serial, if there is one.
    pub revocation: Option<&'a Revocation>,
    /// Now.
    pub now: Timestamp,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorized {
    /// Whether it may be.
    pub is_allowed: bool,
    /// Why, in Consul's words where it has some.
    pub reason: String,
}

/// Decides on a connection. `intentions`: at least those about both; their order does not matter.
pub fn authorize<'a>(
    intentions: impl IntoIterator<Item = &'a Intention>,
    asked: &Connection<'_>,
    known: &Known<'_>,
) -> Authorized {
    match refusal(asked, known) {
        Some(reason) => Authorized { is_allowed: false, reason },
        None => {
            let SpiffePath::Service { service: source, .. } = &asked.client.path else {
                return Authorized { is_allowed: false, reason: no_service(asked.client) };
            };
            let decision = decide(intentions, source, asked.target, None, known.default);
            Authorized { is_allowed: decision.is_allowed, reason: decision.decider.to_string() }
        }
    }
}

fn no_service(client: &SpiffeId) -> String {
    format!("the client's certificate names no service: {client}")
}

/// What speaks against the client, whatever the intentions say.
fn refusal(asked: &Connection<'_>, known: &Known<'_>) -> Option<String> {
    let (client, ours) = (asked.client, known.trust_domain);
    if client.trust_domain != *ours {
        return Some(format!(
            "the client's certificate is of the trust domain {}, this one is {ours}",
            client.trust_domain
        ));
    }
    if let Some(revocation) = known.revocation {
        let why = match revocation.reason.as_str() {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        return Some(format!("the client's certificate {} is revoked{why}", revocation.serial));
    }
    let facts = asked.certificate?;
    if facts.uris != [client.to_string()] {
        return Some(format!("ClientCert does not name exactly {client}"));
    }
    if asked.serial.is_some_and(|serial| serial != facts.serial) {
        return Some(format!("ClientCert has the serial {}, not the ClientCertSerial", facts.serial));
    }
    if known.now < facts.not_before || known.now > facts.not_after {
        let (from, to) = (facts.not_before, facts.not_after);
        return Some(format!("the client's certificate is valid from {from} to {to}, and it is {} now", known.now));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        id::Revision,
        intention::{Action, Effect, Party},
    };

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn name(text: &str) -> Name {
        Name::parse("name", text).unwrap()
    }

    fn allow(source: &str, destination: &str) -> Intention {
        let party = |text: &str| Party::parse("party", text).unwrap();
        Intention {
            destination: party(destination),
            source: party(source),
            effect: Effect::Action(Action::Allow),
            jwt: None,
            description: String::new(),
            meta: BTreeMap::new(),
            legacy_id: None,
            created_at: NOW,
            updated_at: NOW,
            created: Revision(1),
            modified: Revision(1),
        }
    }

    fn ask(client: &str, revocation: Option<&Revocation>) -> Authorized {
        let (target, client) = (name("db"), client.parse::<SpiffeId>().unwrap());
        let asked = Connection { target: &target, client: &client, serial: None, certificate: None };
        let trust_domain = "example.org".parse().unwrap();
        let default = DefaultPolicy::Acl(Action::Deny);
        let known = Known { trust_domain: &trust_domain, default, revocation, now: NOW };
        authorize([&allow("web", "db")], &asked, &known)
    }

    #[test]
    fn an_intention_decides_in_consuls_words_and_without_one_the_default() {
        let allowed = ask("spiffe://example.org/ns/default/dc/dc1/svc/web", None);
        let reason = "Matched L4 intention: default/web => default/db (Precedence: 9, Action: ALLOW)";
        assert_eq!((allowed.is_allowed, allowed.reason.as_str()), (true, reason));
        let denied = ask("spiffe://example.org/ns/default/dc/dc1/svc/other", None);
        assert_eq!((denied.is_allowed, denied.reason.as_str()), (false, "Default behavior configured by ACLs"));
    }

    #[test]
    fn another_trust_domain_no_service_and_a_revoked_leaf_are_denied_whatever_intentions_say() {
        let foreign = ask("spiffe://evil.org/ns/default/dc/dc1/svc/web", None);
        assert!(!foreign.is_allowed && foreign.reason.contains("trust domain evil.org"), "{}", foreign.reason);
        let agent = ask("spiffe://example.org/agent/client/dc/dc1/id/web", None);
        assert!(!agent.is_allowed && agent.reason.contains("names no service"), "{}", agent.reason);
        let revocation = Revocation {
            serial: Serial([7; 20]),
            until: NOW,
            reason: "lost laptop".into(),
            revoked_at: NOW,
            created: Revision(1),
            modified: Revision(1),
        };
        let revoked = ask("spiffe://example.org/ns/default/dc/dc1/svc/web", Some(&revocation));
        assert!(!revoked.is_allowed && revoked.reason.ends_with("is revoked: lost laptop"), "{}", revoked.reason);
    }
}
