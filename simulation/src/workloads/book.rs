//! What clients have received and done, as far as invariants ask for it later.

use std::collections::BTreeMap;

use carrack_authority::{id::Serial, key::Der, spiffe::TrustDomain, time::Timestamp};

/// A leaf that a client has received.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The identity in it.
    pub(crate) identity: String,
    /// The certificate.
    pub(crate) certificate: Der,
    /// What it is served with.
    pub(crate) chain: Vec<Der>,
    /// Its last second.
    pub(crate) not_after: Timestamp,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Book {
    /// Whether every first server votes and issues.
    pub(crate) is_formed: bool,
    /// Whether the operator has read and written since the world was healed.
    pub(crate) has_proved_life: bool,
    /// Every leaf that a client has received.
    pub(crate) leaves: BTreeMap<Serial, Leaf>,
    /// The trust domain, once a client has seen it.
    pub(crate) trust_domain: Option<TrustDomain>,
    /// The secrets of tokens that entitle to a service, by service.
    pub(crate) service_tokens: BTreeMap<String, String>,
}
