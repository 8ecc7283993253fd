//! What a token may do: the decision over its rules.

use crate::acl::rules::Rule;

/// What one token may do.
#[derive(Clone, Debug, Default)]
pub struct Authorizer {
    is_management: bool,
    services: Vec<String>,
}

impl Authorizer {
    /// Everything is allowed.
    pub fn management() -> Self {
        Self { is_management: true, services: Vec::new() }
    }

    /// What the rules of these policies, and being these services, allow.
    pub fn new<'a>(
        _policies: impl IntoIterator<Item = &'a [Rule]>,
        services: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self { is_management: false, services: services.into_iter().map(str::to_owned).collect() }
    }

    /// Whether a service may be registered, and be.
    pub fn service_write(&self, name: &str) -> bool {
        self.is_management || self.services.iter().any(|service| service == name)
    }

    /// Whether a node may be registered, and be.
    pub fn node_write(&self, _name: &str) -> bool {
        self.is_management
    }

    /// Whether tokens and policies may be written.
    pub fn acl_write(&self) -> bool {
        self.is_management
    }
}
