//! What a token may do: the decision over its rules, as Consul takes it.
//!
//! The rule of the exact name decides, else that of the longest prefix; among rules of the same scope deny beats write,
//! write beats list, list beats read. No rule: denied. The order of policies and of rules never matters.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use super::rules::{Access, Resource, Rule, Scope};
use crate::spiffe::Name;

/// What Consul appends to a service's name for its sidecar.
const SIDECAR_SUFFIX: &str = "-sidecar-proxy";
/// The name that stands for every service in intentions.
const WILDCARD: &str = "*";

/// What one token may do.
#[derive(Clone, Debug, Default)]
pub struct Authorizer {
    is_management: bool,
    policies: Vec<Arc<[Rule]>>,
    services: Vec<Name>,
    nodes: Vec<Name>,
}

impl Authorizer {
    /// Everything is allowed.
    pub fn management() -> Self {
        Self { is_management: true, ..Self::default() }
    }

    /// What the rules of these policies, being these services and being these nodes allow; nothing else is.
    pub fn new(
        policies: impl IntoIterator<Item = Arc<[Rule]>>,
        services: impl IntoIterator<Item = Name>,
        nodes: impl IntoIterator<Item = Name>,
    ) -> Self {
        Self {
            is_management: false,
            policies: policies.into_iter().collect(),
            services: services.into_iter().collect(),
            nodes: nodes.into_iter().collect(),
        }
    }

    /// Whether everything is allowed.
    pub const fn is_management(&self) -> bool {
        self.is_management
    }

    /// The rules of its policies.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.policies.iter().flat_map(|policy| policy.iter())
    }

    /// The services that it may be.
    pub fn services(&self) -> &[Name] {
        &self.services
    }

    /// The nodes that it may be.
    pub fn nodes(&self) -> &[Name] {
        &self.nodes
    }

    /// Whether a service may be seen.
    pub fn service_read(&self, name: &str) -> bool {
        self.allows(Resource::Service, name, Access::Read)
    }

    /// Whether a service may be registered, and be.
    pub fn service_write(&self, name: &str) -> bool {
        self.allows(Resource::Service, name, Access::Write)
    }

    /// Whether the intentions of a destination may be seen; of `*`: those of any.
    pub fn intention_read(&self, destination: &str) -> bool {
        match destination {
            WILDCARD => self.allows_any(Resource::Intention, Access::Read),
            name => self.allows(Resource::Intention, name, Access::Read),
        }
    }

    /// Whether the intentions of a destination may be written; of `*`: those of all.
    pub fn intention_write(&self, destination: &str) -> bool {
        match destination {
            WILDCARD => self.allows_all(Resource::Intention, Access::Write),
            name => self.allows(Resource::Intention, name, Access::Write),
        }
    }

    /// Whether a node may be seen.
    pub fn node_read(&self, name: &str) -> bool {
        self.allows(Resource::Node, name, Access::Read)
    }

    /// Whether a node may be registered, and be.
    pub fn node_write(&self, name: &str) -> bool {
        self.allows(Resource::Node, name, Access::Write)
    }

    /// Whether an agent's own state may be seen.
    pub fn agent_read(&self, node: &str) -> bool {
        self.allows(Resource::Agent, node, Access::Read)
    }

    /// Whether an agent may be told what to do.
    pub fn agent_write(&self, node: &str) -> bool {
        self.allows(Resource::Agent, node, Access::Write)
    }

    /// Whether tokens and policies may be seen.
    pub fn acl_read(&self) -> bool {
        self.allows(Resource::Acl, "", Access::Read)
    }

    /// Whether tokens and policies may be written.
    pub fn acl_write(&self) -> bool {
        self.allows(Resource::Acl, "", Access::Write)
    }

    /// Whether configuration and members may be seen.
    pub fn operator_read(&self) -> bool {
        self.allows(Resource::Operator, "", Access::Read)
    }

    /// Whether configuration and members may be changed.
    pub fn operator_write(&self) -> bool {
        self.allows(Resource::Operator, "", Access::Write)
    }

    /// Whether what concerns the mesh as a whole may be seen.
    pub fn mesh_read(&self) -> bool {
        self.allows(Resource::Mesh, "", Access::Read)
    }

    /// Whether what concerns the mesh as a whole may be changed.
    pub fn mesh_write(&self) -> bool {
        self.allows(Resource::Mesh, "", Access::Write)
    }

    /// Whether this much is allowed on the resource of this name; the name is empty where a resource has none.
    pub fn allows(&self, resource: Resource, name: &str, wanted: Access) -> bool {
        self.is_management || self.decide(resource, name).is_some_and(|access| access.allows(wanted))
    }

    /// Whether some rule allows this much on some name.
    pub fn allows_any(&self, resource: Resource, wanted: Access) -> bool {
        self.is_management || self.by_scope(resource).values().any(|access| access.allows(wanted))
    }

    /// Whether this much is allowed on every name: a rule for all allows it, and none takes it back.
    pub fn allows_all(&self, resource: Resource, wanted: Access) -> bool {
        if self.is_management {
            return true;
        }
        let by_scope = self.by_scope(resource);
        by_scope.contains_key(&Place::Prefix("").is_prefix_and_text())
            && by_scope.values().all(|access| access.allows(wanted))
    }

    /// The access that the deciding rule gives; `None`: no rule speaks of it.
    fn decide(&self, resource: Resource, name: &str) -> Option<Access> {
        let mut best: Option<(Place<'_>, Access)> = None;
        self.for_each(resource, |place, access| {
            let is_better = |former: &(Place<'_>, Access)| {
                (place.specificity(), strength(access)) > (former.0.specificity(), strength(former.1))
            };
            if place.covers(name) && best.as_ref().is_none_or(is_better) {
                best = Some((place, access));
            }
        });
        match best {
            // Consul's: without a rule of their own, the mesh and peerings follow the rule for operators.
            None if matches!(resource, Resource::Mesh | Resource::Peering) => self.decide(Resource::Operator, name),
            best => best.map(|(_, access)| access),
        }
    }

    /// The rules of a resource, those of the same scope merged.
    fn by_scope(&self, resource: Resource) -> BTreeMap<(bool, Cow<'_, str>), Access> {
        let mut merged = BTreeMap::new();
        self.for_each(resource, |place, access| {
            let kept = merged.entry(place.is_prefix_and_text()).or_insert(access);
            if strength(access) > strength(*kept) {
                *kept = access;
            }
        });
        merged
    }

    fn for_each<'a>(&'a self, resource: Resource, mut visit: impl FnMut(Place<'a>, Access)) {
        for rule in self.rules().filter(|rule| rule.resource == resource) {
            visit(Place::of(&rule.scope), rule.access);
        }
        for service in self.services.iter().map(Name::as_str) {
            match resource {
                Resource::Service => {
                    visit(Place::Exact(service), Access::Write);
                    visit(Place::Sidecar(service), Access::Write);
                    visit(Place::Prefix(""), Access::Read);
                }
                Resource::Intention => {
                    visit(Place::Exact(service), Access::Read);
                    visit(Place::Sidecar(service), Access::Read);
                    visit(Place::Prefix(""), Access::Read);
                }
                Resource::Node => visit(Place::Prefix(""), Access::Read),
                _ => {}
            }
        }
        for node in self.nodes.iter().map(Name::as_str) {
            match resource {
                Resource::Node => visit(Place::Exact(node), Access::Write),
                Resource::Service | Resource::Intention => visit(Place::Prefix(""), Access::Read),
                _ => {}
            }
        }
    }
}

/// Where a rule holds.
#[derive(Clone, Copy, Debug)]
enum Place<'a> {
    /// This name.
    Exact(&'a str),
    /// The name of this service's sidecar.
    Sidecar(&'a str),
    /// Names that begin so.
    Prefix(&'a str),
}

impl<'a> Place<'a> {
    fn of(scope: &'a Scope) -> Self {
        match scope {
            Scope::All => Self::Prefix(""),
            Scope::Exact(name) => Self::Exact(name),
            Scope::Prefix(prefix) => Self::Prefix(prefix),
        }
    }

    fn covers(self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => name == exact,
            Self::Sidecar(service) => name.strip_suffix(SIDECAR_SUFFIX) == Some(service),
            Self::Prefix(prefix) => name.starts_with(prefix),
        }
    }

    fn is_prefix_and_text(self) -> (bool, Cow<'a, str>) {
        match self {
            Self::Exact(name) => (false, name.into()),
            Self::Sidecar(service) => (false, format!("{service}{SIDECAR_SUFFIX}").into()),
            Self::Prefix(prefix) => (true, prefix.into()),
        }
    }

    const fn specificity(self) -> usize {
        match self {
            Self::Exact(_) | Self::Sidecar(_) => usize::MAX,
            Self::Prefix(prefix) => prefix.len(),
        }
    }
}

/// Which of two rules of the same scope decides.
const fn strength(access: Access) -> u8 {
    match access {
        Access::Deny => 3,
        Access::Write => 2,
        Access::List => 1,
        Access::Read => 0,
    }
}

#[cfg(test)]
mod tests;
