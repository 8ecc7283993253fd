//! Whether a connection may be: the answer of Consul's `authorize`, with the checks that it leaves out. One pure function, for servers
//! and agents alike.

use super::{Decider, DefaultPolicy, Intention, decide};
use crate::{
    id::{KeyId, Serial},
    revocation::{Revocation, RevokedIssuer, RevokedIssuers},
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
    /// The revoked issuers whose roots are trusted.
    pub revoked_issuers: &'a RevokedIssuers,
    /// Now.
    pub now: Timestamp,
}

/// What an answer rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// The client is of another trust domain.
    TrustDomain,
    /// The client's leaf is revoked.
    Revoked,
    /// The client's leaf is of a revoked issuer, or nothing shows that it is not.
    RevokedIssuer,
    /// The client's certificate is not what was said, or does not hold now.
    Certificate,
    /// The client is no service.
    NoService,
    /// An intention about connections.
    L4Intention,
    /// An intention about requests.
    L7Intention,
    /// No intention is about both.
    Default,
}

impl Ground {
    /// A stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TrustDomain => "trust_domain",
            Self::Revoked => "revoked",
            Self::RevokedIssuer => "revoked_issuer",
            Self::Certificate => "certificate",
            Self::NoService => "no_service",
            Self::L4Intention => "l4_intention",
            Self::L7Intention => "l7_intention",
            Self::Default => "default",
        }
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorized {
    /// Whether it may be.
    pub is_allowed: bool,
    /// What that rests on.
    pub ground: Ground,
    /// Why, in Consul's words where it has some.
    pub reason: String,
}

/// Decides on a connection. `intentions`: at least those about both; their order does not matter.
pub fn authorize<'a>(
    intentions: impl IntoIterator<Item = &'a Intention>,
    asked: &Connection<'_>,
    known: &Known<'_>,
) -> Authorized {
    if let Some((ground, reason)) = refusal(asked, known) {
        return Authorized { is_allowed: false, ground, reason };
    }
    let SpiffePath::Service { service: source, .. } = &asked.client.path else {
        return Authorized { is_allowed: false, ground: Ground::NoService, reason: no_service(asked.client) };
    };
    let decision = decide(intentions, source, asked.target, None, known.default);
    let ground = match decision.decider {
        Decider::L4(_) => Ground::L4Intention,
        Decider::L7(..) => Ground::L7Intention,
        Decider::Default(_) => Ground::Default,
    };
    Authorized { is_allowed: decision.is_allowed, ground, reason: decision.decider.to_string() }
}

fn no_service(client: &SpiffeId) -> String {
    format!("the client's certificate names no service: {client}")
}

/// What speaks against the client, whatever the intentions say.
fn refusal(asked: &Connection<'_>, known: &Known<'_>) -> Option<(Ground, String)> {
    let (client, ours) = (asked.client, known.trust_domain);
    if client.trust_domain != *ours {
        let theirs = &client.trust_domain;
        let reason = format!("the client's certificate is of the trust domain {theirs}, this one is {ours}");
        return Some((Ground::TrustDomain, reason));
    }
    if let Some(revocation) = known.revocation {
        let why = why(&revocation.reason);
        let reason = format!("the client's certificate {} is revoked{why}", revocation.serial);
        return Some((Ground::Revoked, reason));
    }
    if let Some(reason) = revoked_issuer(asked.certificate.map(|facts| facts.authority_key_id), known.revoked_issuers) {
        return Some((Ground::RevokedIssuer, reason));
    }
    wrong_certificate(asked, asked.certificate?, known.now).map(|reason| (Ground::Certificate, reason))
}

fn why(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

/// What speaks against the client while issuers are revoked: its certificate names one of them, or is not shown, so that nothing says who
/// has issued it. `shown`: what the certificate says of its issuer, if there is one.
fn revoked_issuer(shown: Option<Option<KeyId>>, revoked: &RevokedIssuers) -> Option<String> {
    let refused = |RevokedIssuer { issuer, reason, .. }: &RevokedIssuer, how: &str| {
        Some(format!("the issuer {issuer} is revoked{}; {how}", why(reason)))
    };
    let first = revoked.all().next()?;
    match shown {
        None => refused(first, "without ClientCert nothing shows that another one has issued the client's certificate"),
        Some(None) => refused(first, "and ClientCert does not name its issuer"),
        Some(Some(issuer)) => refused(revoked.find(&issuer)?, "it has issued the client's certificate"),
    }
}

/// What speaks against the certificate that was shown.
fn wrong_certificate(asked: &Connection<'_>, facts: &CertificateFacts, now: Timestamp) -> Option<String> {
    let client = asked.client;
    if facts.uris != [client.to_string()] {
        return Some(format!("ClientCert does not name exactly {client}"));
    }
    if asked.serial.is_some_and(|serial| serial != facts.serial) {
        return Some(format!("ClientCert has the serial {}, not the ClientCertSerial", facts.serial));
    }
    if now < facts.not_before || now > facts.not_after {
        let (from, to) = (facts.not_before, facts.not_after);
        return Some(format!("the client's certificate is valid from {from} to {to}, and it is {now} now"));
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
        let revoked_issuers = RevokedIssuers::default();
        let known =
            Known { trust_domain: &trust_domain, default, revocation, revoked_issuers: &revoked_issuers, now: NOW };
        authorize([&allow("web", "db")], &asked, &known)
    }

    #[test]
    fn while_an_issuer_is_revoked_whoever_does_not_show_another_one_is_denied() {
        let (id, other) = (KeyId([1; 20]), KeyId([2; 20]));
        let revoked = RevokedIssuer {
            issuer: id,
            root: KeyId([3; 20]),
            until: NOW,
            reason: "lost machine".into(),
            revoked_at: NOW,
        };
        let revoked: RevokedIssuers = std::iter::once(revoked).collect();
        for (shown, reason) in [
            (None, "without ClientCert nothing shows"),
            (Some(None), "does not name its issuer"),
            (Some(Some(id)), "it has issued the client's certificate"),
        ] {
            let said = revoked_issuer(shown, &revoked).unwrap_or_default();
            assert!(said.contains("is revoked: lost machine; ") && said.contains(reason), "{said}");
            assert_eq!(revoked_issuer(shown, &RevokedIssuers::default()), None);
        }
        assert_eq!(revoked_issuer(Some(Some(other)), &revoked), None);
    }

    #[test]
    fn an_intention_decides_in_consuls_words_and_without_one_the_default() {
        let allowed = ask("spiffe://example.org/ns/default/dc/dc1/svc/web", None);
        let reason = "Matched L4 intention: default/web => default/db (Precedence: 9, Action: ALLOW)";
        assert_eq!((allowed.is_allowed, allowed.reason.as_str()), (true, reason));
        assert_eq!(allowed.ground, Ground::L4Intention);
        let denied = ask("spiffe://example.org/ns/default/dc/dc1/svc/other", None);
        assert_eq!(denied.ground, Ground::Default);
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
        let grounds = [foreign.ground, agent.ground, revoked.ground];
        assert_eq!(grounds, [Ground::TrustDomain, Ground::NoService, Ground::Revoked]);
    }
}
