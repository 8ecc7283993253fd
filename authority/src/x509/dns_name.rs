//! DNS names in certificates: lower-case letters, digits and hyphens. No wildcard, no trailing dot, no internationalised label.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// The longest DNS name (RFC 1035 section 2.3.4, without the final dot).
pub const DNS_NAME_BYTES_MAX: usize = 253;
/// The longest label of one (RFC 1035 section 2.3.4).
pub const DNS_LABEL_BYTES_MAX: usize = 63;
/// What stands between the account and the control plane in the names of Linkerd's proxies.
const LINKERD_INFIX: &str = ".serviceaccount.identity.";

/// Why text is no DNS name for a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsNameError {
    /// No text at all.
    #[error("the DNS name is empty")]
    Empty,
    /// Too long.
    #[error("the DNS name has {bytes} bytes, at most {DNS_NAME_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A wildcard.
    #[error("the DNS name `{0}` has a wildcard; wildcards are never issued")]
    Wildcard(String),
    /// A label that is empty, too long, or begins or ends with a hyphen; a trailing dot makes an empty label.
    #[error(
        "the DNS name `{name}` has the label `{label}`; labels have 1 to {DNS_LABEL_BYTES_MAX} of a-z 0-9 -, no hyphen at an end"
    )]
    BadLabel {
        /// The name, escaped.
        name: String,
        /// The label, escaped.
        label: String,
    },
    /// An internationalised label, which may look like another.
    #[error("the DNS name `{0}` has an internationalised label (xn--), which may look like another name")]
    Internationalised(String),
    /// The last label is a number, so that the name may be read as an IP address.
    #[error("the DNS name `{0}` ends in a number and may be read as an IP address")]
    LooksLikeAddress(String),
    /// Not the name of a Linkerd proxy.
    #[error(
        "the DNS name `{0}` is not `<account>.<namespace>.serviceaccount.identity.<control namespace>.<trust domain>`"
    )]
    NotLinkerd(String),
}

/// A DNS name as this CA issues it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DnsName(Arc<str>);

impl DnsName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Checks that the name is one of a Linkerd proxy, and gives its text.
    pub fn into_linkerd(self) -> Result<Arc<str>, DnsNameError> {
        let is_linkerd = self.0.split_once(LINKERD_INFIX).is_some_and(|(account, control)| {
            account.contains('.') && control.contains('.') && !control.contains(LINKERD_INFIX)
        });
        if is_linkerd { Ok(self.0) } else { Err(DnsNameError::NotLinkerd(self.0.to_string())) }
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DnsName {
    type Err = DnsNameError;

    fn from_str(text: &str) -> Result<Self, DnsNameError> {
        let shown = || text.escape_default().to_string();
        if text.is_empty() {
            return Err(DnsNameError::Empty);
        }
        if text.len() > DNS_NAME_BYTES_MAX {
            return Err(DnsNameError::TooLong { bytes: text.len() });
        }
        if text.contains('*') {
            return Err(DnsNameError::Wildcard(shown()));
        }
        for label in text.split('.') {
            if !is_label(label) {
                return Err(DnsNameError::BadLabel { name: shown(), label: label.escape_default().to_string() });
            }
            if label.starts_with("xn--") {
                return Err(DnsNameError::Internationalised(shown()));
            }
        }
        let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
        if text.rsplit('.').next().is_some_and(is_number) {
            return Err(DnsNameError::LooksLikeAddress(shown()));
        }
        Ok(Self(text.into()))
    }
}

fn is_label(label: &str) -> bool {
    let is_allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=DNS_LABEL_BYTES_MAX).contains(&label.len())
        && label.bytes().all(is_allowed)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_a_trailing_dot_an_idn_and_an_empty_label_are_refused() {
        let bad = [
            "",
            "*",
            "*.example.org",
            "w*b.example.org",
            "example.org.",
            ".example.org",
            "a..b",
            "xn--e1afmkfd.org",
            "web.xn--p1ai",
            "Web.example.org",
            "web_1.example.org",
            "-web.org",
            "web-.org",
            "127.0.0.1",
            "web.1",
            "spiffe://example.org/ns/default/dc/dc1/svc/web",
            "web\0.org",
            "we\u{0430}.org",
            "a b",
            "a\n.org",
        ];
        for name in bad {
            assert!(name.parse::<DnsName>().is_err(), "{name:?}");
        }
        assert!("a".repeat(64).parse::<DnsName>().is_err());
        assert!(vec!["abc"; 64].join(".").parse::<DnsName>().is_err());
        for name in ["localhost", "a", "web-1.dc1.example.org", "1a", "1.a"] {
            assert_eq!(name.parse::<DnsName>().map(|read| read.to_string()), Ok(name.to_owned()));
        }
    }

    #[test]
    fn names_of_linkerd_proxies_have_their_form() {
        let linkerd = |name: &str| name.parse::<DnsName>()?.into_linkerd();
        let good = "web.default.serviceaccount.identity.linkerd.cluster.local";
        assert_eq!(linkerd(good).as_deref(), Ok(good));
        assert!(
            linkerd("a.web.default.serviceaccount.identity.linkerd.cluster.local").is_ok(),
            "accounts may have dots"
        );
        for bad in [
            "web.default.svc.cluster.local",
            "web.serviceaccount.identity.linkerd.cluster.local",
            "web.default.serviceaccount.identity.linkerd",
            "web.default.serviceaccount.identity.a.serviceaccount.identity.linkerd.local",
        ] {
            assert!(linkerd(bad).is_err(), "{bad}");
        }
    }
}
