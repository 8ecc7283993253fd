//! SPIFFE ids (SPIFFE-ID sections 2 and 3) in the forms that this CA issues. A name that would need escaping is refused, never escaped.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, de};

/// The longest trust domain (SPIFFE-ID section 2.1).
pub const TRUST_DOMAIN_BYTES_MAX: usize = 255;
/// The longest SPIFFE id (SPIFFE-ID section 2.3).
pub const SPIFFE_ID_BYTES_MAX: usize = 2048;
/// The longest single name: a path segment that also fits a DNS label's habits and file names.
pub const NAME_BYTES_MAX: usize = 128;
/// The only namespace: Consul's community edition has no other, and its clients expect this one.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Why text is no name, trust domain or SPIFFE id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum SpiffeError {
    /// The text is empty.
    #[error("{what} is empty")]
    Empty {
        /// What was read.
        what: String,
    },
    /// The text is too long.
    #[error("{what} has {bytes} bytes, at most {bytes_max} are allowed")]
    TooLong {
        /// What was read.
        what: String,
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A character that SPIFFE does not allow there.
    #[error("{what} `{text}` has the character {character:?}; allowed are {allowed}")]
    BadCharacter {
        /// What was read.
        what: String,
        /// The text, escaped.
        text: String,
        /// The first bad character.
        character: char,
        /// What is allowed.
        allowed: String,
    },
    /// `.` or `..` as a path segment.
    #[error("{what} must not be `.` or `..`")]
    DotSegment {
        /// What was read.
        what: String,
    },
    /// Not `spiffe://`.
    #[error("SPIFFE ID must have 'spiffe' scheme: `{0}`")]
    BadScheme(String),
    /// A path that this CA does not issue.
    #[error("SPIFFE ID is not in the expected format: `{0}`")]
    UnknownPath(String),
}

/// The name space that all identities share, in every datacenter; it never changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The trust domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        let what = "trust domain";
        let allowed = |character: char| matches!(character, 'a'..='z' | '0'..='9' | '.' | '-' | '_');
        check(what, text, TRUST_DOMAIN_BYTES_MAX, allowed, "a-z 0-9 . - _")?;
        Ok(Self(text.into()))
    }
}

/// One path segment: the name of a service, node or datacenter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Name(Arc<str>);

impl Name {
    /// Reads a name; `what` says in errors what was named.
    pub fn parse(what: &str, text: &str) -> Result<Self, SpiffeError> {
        let allowed = |character: char| matches!(character, 'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_');
        check(what, text, NAME_BYTES_MAX, allowed, "a-z A-Z 0-9 . - _")?;
        if text == "." || text == ".." {
            return Err(SpiffeError::DotSegment { what: what.into() });
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Bytes become a name only through its grammar, so that no stored or forwarded value escapes it.
struct Checked<T>(fn(&str) -> Result<T, SpiffeError>);

impl<T> de::Visitor<'_> for Checked<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name or a trust domain")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for TrustDomain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Checked(str::parse))
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Checked(|text| Self::parse("name", text)))
    }
}

/// The path of an identity, in Consul's forms.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SpiffePath {
    /// `/ns/<namespace>/dc/<datacenter>/svc/<service>`
    Service {
        /// The datacenter that issues it.
        datacenter: Name,
        /// The service.
        service: Name,
    },
    /// `/agent/client/dc/<datacenter>/id/<node>`
    Agent {
        /// The datacenter that issues it.
        datacenter: Name,
        /// The agent's node name.
        node: Name,
    },
    /// `/agent/server/dc/<datacenter>`: the mesh side of a datacenter's servers.
    Server {
        /// The servers' datacenter.
        datacenter: Name,
    },
}

/// The identity of a leaf: a trust domain and a path that is never the root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SpiffeId {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// The path.
    pub path: SpiffePath,
}

impl SpiffeId {
    /// The identity of a service.
    pub fn service(trust_domain: TrustDomain, datacenter: Name, service: Name) -> Self {
        Self { trust_domain, path: SpiffePath::Service { datacenter, service } }
    }

    /// Takes the trust domain and the datacenter from another id where they are equal, so that both share their memory.
    pub(crate) fn share_names(&mut self, other: &Self) {
        if self.trust_domain == other.trust_domain {
            self.trust_domain = other.trust_domain.clone();
        }
        if self.datacenter() == other.datacenter() {
            match &mut self.path {
                SpiffePath::Service { datacenter, .. }
                | SpiffePath::Agent { datacenter, .. }
                | SpiffePath::Server { datacenter } => *datacenter = other.datacenter().clone(),
            }
        }
    }

    /// The datacenter that the identity belongs to.
    pub fn datacenter(&self) -> &Name {
        match &self.path {
            SpiffePath::Service { datacenter, .. }
            | SpiffePath::Agent { datacenter, .. }
            | SpiffePath::Server { datacenter } => datacenter,
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, datacenter, between, name) = match &self.path {
            SpiffePath::Service { datacenter, service } => ("/ns/default/dc/", datacenter, "/svc/", service.as_str()),
            SpiffePath::Agent { datacenter, node } => ("/agent/client/dc/", datacenter, "/id/", node.as_str()),
            SpiffePath::Server { datacenter } => ("/agent/server/dc/", datacenter, "", ""),
        };
        let parts = ["spiffe://", self.trust_domain.as_str(), before, datacenter.as_str(), between, name];
        parts.into_iter().try_for_each(|part| f.write_str(part))
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        if text.len() > SPIFFE_ID_BYTES_MAX {
            let what = "SPIFFE id".into();
            return Err(SpiffeError::TooLong { what, bytes: text.len(), bytes_max: SPIFFE_ID_BYTES_MAX });
        }
        let shown = || text.escape_default().to_string();
        let rest = text.strip_prefix("spiffe://").ok_or_else(|| SpiffeError::BadScheme(shown()))?;
        let (trust_domain, path) = rest.split_once('/').ok_or_else(|| SpiffeError::UnknownPath(shown()))?;
        let trust_domain = trust_domain.parse()?;
        let segments: Vec<&str> = path.split('/').collect();
        let path = match segments.as_slice() {
            ["ns", namespace, "dc", datacenter, "svc", service] if *namespace == DEFAULT_NAMESPACE => {
                SpiffePath::Service {
                    datacenter: Name::parse("datacenter", datacenter)?,
                    service: Name::parse("service", service)?,
                }
            }
            ["agent", "client", "dc", datacenter, "id", node] => SpiffePath::Agent {
                datacenter: Name::parse("datacenter", datacenter)?,
                node: Name::parse("node", node)?,
            },
            ["agent", "server", "dc", datacenter] => {
                SpiffePath::Server { datacenter: Name::parse("datacenter", datacenter)? }
            }
            _ => return Err(SpiffeError::UnknownPath(shown())),
        };
        Ok(Self { trust_domain, path })
    }
}

/// What a leaf says who its holder is: exactly one name, of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Identity {
    /// One URI SAN.
    Spiffe(SpiffeId),
    /// One DNS SAN and no URI: `<sa>.<ns>.serviceaccount.identity.<control-ns>.<trust domain>`.
    LinkerdDns(Arc<str>),
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spiffe(id) => id.fmt(f),
            Self::LinkerdDns(name) => f.write_str(name),
        }
    }
}

fn check(
    what: &str,
    text: &str,
    bytes_max: usize,
    is_allowed: impl Fn(char) -> bool,
    allowed: &str,
) -> Result<(), SpiffeError> {
    let what = what.to_owned();
    if text.is_empty() {
        return Err(SpiffeError::Empty { what });
    }
    if text.len() > bytes_max {
        return Err(SpiffeError::TooLong { what, bytes: text.len(), bytes_max });
    }
    match text.chars().find(|character| !is_allowed(*character)) {
        Some(character) => Err(SpiffeError::BadCharacter {
            what,
            text: text.escape_default().to_string(),
            character,
            allowed: allowed.into(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_three_forms_are_read_as_they_are_printed() {
        for text in [
            "spiffe://example.org/ns/default/dc/dc1/svc/web",
            "spiffe://a_b-c.1/agent/client/dc/dc1/id/N.1_x-Y",
            "spiffe://example.org/agent/server/dc/dc1",
        ] {
            let id: SpiffeId = text.parse().unwrap();
            assert_eq!((id.to_string().as_str(), id.datacenter().as_str()), (text, "dc1"));
        }
    }

    /// SPIFFE-ID section 2, and CVE-2021-41803 (Consul): names that were put into an id unchecked.
    #[test]
    fn everything_else_is_refused() {
        let service = |name: &str| format!("spiffe://example.org/ns/default/dc/dc1/svc/{name}");
        let mut bad: Vec<String> =
            ["", ".", "..", "a/b", "a%2fb", "a b", "a\"", "a' or '1'='1", "a\n", "a\0", "w\u{435}b", "*"]
                .map(service)
                .to_vec();
        bad.push(service(&"x".repeat(NAME_BYTES_MAX + 1)));
        bad.push(service(&"x".repeat(SPIFFE_ID_BYTES_MAX)));
        for text in [
            "",
            "spiffe://",
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe:///ns/default/dc/dc1/svc/web",
            "https://example.org/ns/default/dc/dc1/svc/web",
            "SPIFFE://example.org/ns/default/dc/dc1/svc/web",
            "spiffe://Example.org/ns/default/dc/dc1/svc/web",
            "spiffe://example.org:8443/ns/default/dc/dc1/svc/web",
            "spiffe://user@example.org/ns/default/dc/dc1/svc/web",
            "spiffe://example.org/ns/other/dc/dc1/svc/web",
            "spiffe://example.org/ns/default/dc/dc1/svc/web/",
            "spiffe://example.org//ns/default/dc/dc1/svc/web",
            "spiffe://example.org/ns/default/dc/dc1/svc/web?x=y",
            "spiffe://example.org/ns/default/dc/dc1/svc/web#x",
            "spiffe://example.org/ap/default/ns/default/dc/dc1/svc/web",
            "spiffe://example.org/gateway/mesh/dc/dc1",
            "spiffe://example.org/agent/client/dc/dc1",
        ] {
            bad.push(text.into());
        }
        for text in bad {
            assert!(text.parse::<SpiffeId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_error_never_prints_what_it_was_given_as_it_is() {
        let error = Name::parse("service", "a\u{1b}[2J\nb").unwrap_err().to_string();
        assert!(!error.contains('\u{1b}') && !error.contains('\n'), "{error:?}");
        assert_eq!(Name::parse("service", "").unwrap_err().to_string(), "service is empty");
        assert_eq!(Name::parse("service", "..").unwrap_err().to_string(), "service must not be `.` or `..`");
    }

    proptest! {
        #[test]
        fn what_is_read_prints_the_same_and_nothing_panics(text in "(spiffe://[a-z.]{1,3}(/[a-z./]{0,4}){0,7}|\\PC{0,40})") {
            if let Ok(id) = text.parse::<SpiffeId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
