//! The rules of a policy, as facts: what Consul's HCL or JSON text says, extracted by the proposer. Apply never parses.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use super::{
    hcl::{Item, SyntaxError, Text, Value, parse},
    policy::RULES_BYTES_MAX,
};

/// The most rules of one policy: each decision looks at all of them.
pub const RULES_MAX: usize = 1024;

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Resource {
    /// Tokens, policies and everything else of access control.
    Acl,
    /// Agents, by node name.
    Agent,
    /// Events, by name.
    Event,
    /// Workload identities, by name.
    Identity,
    /// Traffic permissions of workload identities: the `intentions` of an `identity` block.
    IdentityIntention,
    /// Intentions, by destination: the `intentions` of a `service` block.
    Intention,
    /// Keys of the key-value store.
    Key,
    /// The gossip keyring.
    Keyring,
    /// What concerns the mesh as a whole.
    Mesh,
    /// Nodes, by name.
    Node,
    /// What operators do.
    Operator,
    /// Peerings.
    Peering,
    /// Prepared queries, by name.
    Query,
    /// Services, by name.
    Service,
    /// Sessions, by node name.
    Session,
}

impl Resource {
    const GLOBAL: [(&'static str, Self); 5] = [
        ("acl", Self::Acl),
        ("keyring", Self::Keyring),
        ("mesh", Self::Mesh),
        ("operator", Self::Operator),
        ("peering", Self::Peering),
    ];
    const NAMED: [(&'static str, Self); 8] = [
        ("agent", Self::Agent),
        ("event", Self::Event),
        ("identity", Self::Identity),
        ("key", Self::Key),
        ("node", Self::Node),
        ("query", Self::Query),
        ("service", Self::Service),
        ("session", Self::Session),
    ];

    /// What the `intentions` of its block are about.
    const fn intentions(self) -> Option<Self> {
        match self {
            Self::Service => Some(Self::Intention),
            Self::Identity => Some(Self::IdentityIntention),
            _ => None,
        }
    }
}

/// Which of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// All; the resource has no names.
    All,
    /// The one of this name.
    Exact(String),
    /// Those whose names begin so.
    Prefix(String),
}

/// What may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Access {
    /// Nothing.
    Deny,
    /// Read.
    Read,
    /// Read and list; only keys know it.
    List,
    /// Everything.
    Write,
}

impl Access {
    /// Whether this much is enough for what is wanted.
    pub fn allows(self, wanted: Self) -> bool {
        self >= wanted && self != Self::Deny
    }

    fn read(text: &Text, has_list: bool) -> Result<Self, RulesError> {
        match text.text.as_str() {
            "deny" => Ok(Self::Deny),
            "read" => Ok(Self::Read),
            "list" if has_list => Ok(Self::List),
            "write" => Ok(Self::Write),
            _ => Err(RulesError::UnknownAccess { line: text.line, found: text.text.clone() }),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deny => "deny",
            Self::Read => "read",
            Self::List => "list",
            Self::Write => "write",
        })
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    /// What it is about.
    pub resource: Resource,
    /// Which of them.
    pub scope: Scope,
    /// What may be done.
    pub access: Access,
}

/// Why a policy's text is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// Too much text.
    #[error("the rules have {bytes} bytes, at most {RULES_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Too many rules.
    #[error("the policy has more than {RULES_MAX} rules")]
    TooMany,
    /// Neither HCL nor JSON.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// A resource that Consul does not have.
    #[error("line {line}: unknown resource `{}`; known are {}", found.escape_debug(), known_resources())]
    UnknownResource {
        /// The line.
        line: usize,
        /// What was read.
        found: String,
    },
    /// A setting that the resource does not have.
    #[error("line {line}: `{resource}` has no setting `{}`", found.escape_debug())]
    UnknownSetting {
        /// The line.
        line: usize,
        /// The resource.
        resource: String,
        /// What was read.
        found: String,
    },
    /// A setting that is there twice in one block.
    #[error("line {line}: `{setting}` is there twice")]
    Twice {
        /// The line.
        line: usize,
        /// The setting.
        setting: String,
    },
    /// An access level that the resource does not have.
    #[error("line {line}: `{}` is not a level of access here; known are deny, read, write, and for keys list", found.escape_debug())]
    UnknownAccess {
        /// The line.
        line: usize,
        /// What was read.
        found: String,
    },
    /// A rule in another form than its resource's.
    #[error("line {line}: `{resource}` is written {expected}")]
    Form {
        /// The line.
        line: usize,
        /// The resource.
        resource: String,
        /// The form.
        expected: &'static str,
    },
}

fn known_resources() -> String {
    let global = Resource::GLOBAL.iter().map(|(name, _)| (*name).to_owned());
    let named = Resource::NAMED.iter().map(|(name, _)| format!("{name}, {name}_prefix"));
    global.chain(named).collect::<Vec<_>>().join(", ")
}

const GLOBAL_FORM: &str = "with one level of access, such as `operator = \"read\"`";
const NAMED_FORM: &str = "with a name and a block, such as `service \"web\" { policy = \"write\" }`";

/// Reads the text of a policy, in Consul's HCL or as JSON; the rules come sorted, each once. No text is no rule.
pub fn parse_rules(source: &str) -> Result<Vec<Rule>, RulesError> {
    if source.len() > RULES_BYTES_MAX {
        return Err(RulesError::TooLarge { bytes: source.len() });
    }
    let mut rules = Rules::default();
    for item in parse(source)? {
        rules.take(&item)?;
    }
    Ok(rules.0.into_iter().collect())
}

#[derive(Default)]
struct Rules(BTreeSet<Rule>);

impl Rules {
    fn take(&mut self, item: &Item) -> Result<(), RulesError> {
        let (resource, names) = item.keys.split_first().expect("the parser gives each item a key");
        let find = |name: &str, known: &[(&str, Resource)]| {
            known.iter().find(|(known, _)| *known == name).map(|(_, resource)| *resource)
        };
        if let Some(global) = find(&resource.text, &Resource::GLOBAL) {
            let (Value::Text(access), []) = (&item.value, names) else { return Err(form(resource, GLOBAL_FORM)) };
            return self.add(global, Scope::All, Access::read(access, false)?);
        }
        let (name, scope): (&str, fn(String) -> Scope) = match resource.text.strip_suffix("_prefix") {
            Some(name) => (name, Scope::Prefix),
            None => (&resource.text, Scope::Exact),
        };
        let Some(named) = find(name, &Resource::NAMED) else {
            return Err(RulesError::UnknownResource { line: resource.line, found: resource.text.clone() });
        };
        let kind = Named { resource: named, key: resource, scope };
        match names {
            [] => self.take_map(&kind, &item.value),
            [name] => self.take_block(&kind, &name.text, &item.value),
            _ => Err(form(resource, NAMED_FORM)),
        }
    }

    /// `service = { "web" = { ... } }`, or a list of such maps, as JSON writes it.
    fn take_map(&mut self, kind: &Named<'_>, value: &Value) -> Result<(), RulesError> {
        match value {
            Value::Text(_) => Err(form(kind.key, NAMED_FORM)),
            Value::List(values) => values.iter().try_for_each(|value| match value {
                Value::Object(_) => self.take_map(kind, value),
                _ => Err(form(kind.key, NAMED_FORM)),
            }),
            Value::Object(items) => items.iter().try_for_each(|item| match item.keys.as_slice() {
                [name] => self.take_block(kind, &name.text, &item.value),
                _ => Err(form(kind.key, NAMED_FORM)),
            }),
        }
    }

    fn take_block(&mut self, kind: &Named<'_>, name: &str, value: &Value) -> Result<(), RulesError> {
        let items = match value {
            Value::Object(items) => items,
            Value::List(blocks) if blocks.iter().all(|block| matches!(block, Value::Object(_))) => {
                return blocks.iter().try_for_each(|block| self.take_block(kind, name, block));
            }
            _ => return Err(form(kind.key, NAMED_FORM)),
        };
        let (mut policy, mut intentions) = (None, None);
        for item in items {
            let ([setting], Value::Text(access)) = (item.keys.as_slice(), &item.value) else {
                return Err(form(kind.key, NAMED_FORM));
            };
            let slot = match setting.text.as_str() {
                "policy" => &mut policy,
                "intentions" if kind.resource.intentions().is_some() => &mut intentions,
                _ => {
                    let (line, resource) = (setting.line, kind.key.text.clone());
                    return Err(RulesError::UnknownSetting { line, resource, found: setting.text.clone() });
                }
            };
            let has_list = kind.resource == Resource::Key;
            if slot.replace(Access::read(access, has_list)?).is_some() {
                return Err(RulesError::Twice { line: setting.line, setting: setting.text.clone() });
            }
        }
        let Some(policy) = policy else { return Err(form(kind.key, NAMED_FORM)) };
        self.add(kind.resource, (kind.scope)(name.to_owned()), policy)?;
        let Some(resource) = kind.resource.intentions() else { return Ok(()) };
        // Consul's default: who may see a service may see its intentions, and no more.
        let default = if policy == Access::Deny { Access::Deny } else { Access::Read };
        self.add(resource, (kind.scope)(name.to_owned()), intentions.unwrap_or(default))
    }

    fn add(&mut self, resource: Resource, scope: Scope, access: Access) -> Result<(), RulesError> {
        self.0.insert(Rule { resource, scope, access });
        if self.0.len() > RULES_MAX { Err(RulesError::TooMany) } else { Ok(()) }
    }
}

struct Named<'a> {
    resource: Resource,
    key: &'a Text,
    scope: fn(String) -> Scope,
}

fn form(resource: &Text, expected: &'static str) -> RulesError {
    RulesError::Form { line: resource.line, resource: resource.text.clone(), expected }
}

#[cfg(test)]
mod tests;
