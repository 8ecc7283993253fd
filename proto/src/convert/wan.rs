//! What datacenters say to each other, as values of the domain.

pub(super) mod intentions;
pub mod rotation;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use carrack_authority::{
    acl::{
        AccessorId, NodeIdentity, Policy, PolicyId, Rule, ServiceIdentity, Token,
        rules::{Access, Resource, Scope},
    },
    ca_config::CaConfig,
    federation::{CaTable, Change, Cursor, Datacenter, KnownDatacenter, KnownServers, Page, Switches, Table},
    id::{Digest, KeyId, NodeId, Revision, Serial},
    intention::IntentionKey,
    key::Der,
    revocation::{Revocation, RevokedIssuer},
    root::{Bridge, NewRoot, Root, RootPhase},
    spiffe::Name,
    time::Timestamp,
};
use uuid::Uuid;

use self::{
    intentions::{intention_from_wire, intention_to_wire},
    rotation::{tainted_from_wire, tainted_to_wire},
};
use crate::wan;

/// A message that is not in its form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} in a message of another server is not in its form: {reason}")]
pub struct BadMessage {
    /// Which field.
    pub what: &'static str,
    /// What is wrong.
    pub reason: String,
}

pub(super) fn bad(what: &'static str, reason: impl ToString) -> BadMessage {
    BadMessage { what, reason: reason.to_string() }
}

/// A table's number on the wire.
pub const fn table_to_wire(table: Table) -> wan::Table {
    match table {
        Table::Ca => wan::Table::Ca,
        Table::Datacenters => wan::Table::Datacenters,
        Table::Policies => wan::Table::Policies,
        Table::Tokens => wan::Table::Tokens,
        Table::Intentions => wan::Table::Intentions,
        Table::Revocations => wan::Table::Revocations,
        Table::RevokedIssuers => wan::Table::RevokedIssuers,
    }
}

/// The table of this number.
pub fn table_from_wire(number: i32) -> Result<Table, BadMessage> {
    match wan::Table::try_from(number) {
        Ok(wan::Table::Ca) => Ok(Table::Ca),
        Ok(wan::Table::Datacenters) => Ok(Table::Datacenters),
        Ok(wan::Table::Policies) => Ok(Table::Policies),
        Ok(wan::Table::Tokens) => Ok(Table::Tokens),
        Ok(wan::Table::Intentions) => Ok(Table::Intentions),
        Ok(wan::Table::Revocations) => Ok(Table::Revocations),
        Ok(wan::Table::RevokedIssuers) => Ok(Table::RevokedIssuers),
        Ok(wan::Table::Unspecified) | Err(_) => Err(bad("table", format!("there is no table {number}"))),
    }
}

/// A cursor as it is sent.
pub fn cursor_to_wire(cursor: &Cursor) -> wan::Cursor {
    wan::Cursor {
        revision: cursor.revision.0,
        reading: cursor.reading.map(|revision| revision.0),
        after: key_to_wire(cursor.after),
    }
}

/// The cursor that was sent; none is the beginning.
pub fn cursor_from_wire(cursor: Option<wan::Cursor>) -> Result<Cursor, BadMessage> {
    let cursor = cursor.unwrap_or_default();
    Ok(Cursor {
        revision: Revision(cursor.revision),
        reading: cursor.reading.map(Revision),
        after: key_from_wire("cursor", &cursor.after)?,
    })
}

/// A change with where its follower is then, as it is sent.
pub fn heard_to_wire(change: &Change, to: &Cursor, is_all: bool, primary_revision: Revision) -> wan::FollowResponse {
    let change = match change {
        Change::Nothing => None,
        Change::Ca(ca) => Some(wan::follow_response::Change::Ca(ca_to_wire(ca, &Switches::default()))),
        Change::CaAndSwitches(ca, switches) => Some(wan::follow_response::Change::Ca(ca_to_wire(ca, switches))),
        Change::Datacenters(datacenters) => {
            let datacenters = datacenters.iter().map(|datacenter| datacenter_to_wire(datacenter, None)).collect();
            Some(wan::follow_response::Change::Datacenters(wan::DatacentersTable { datacenters }))
        }
        Change::DatacentersAndServers(known) => {
            let datacenters = known.iter().map(|known| datacenter_to_wire(&known.datacenter, known.servers.as_ref()));
            let datacenters = datacenters.collect();
            Some(wan::follow_response::Change::Datacenters(wan::DatacentersTable { datacenters }))
        }
        Change::Policies { page, put, deleted } => Some(wan::follow_response::Change::Policies(wan::PoliciesChange {
            page: page.as_ref().map(page_to_wire),
            put: put.iter().map(policy_to_wire).collect(),
            deleted: deleted.iter().map(|id| uuid_to_wire(id.0)).collect(),
        })),
        Change::Tokens { page, put, deleted } => Some(wan::follow_response::Change::Tokens(wan::TokensChange {
            page: page.as_ref().map(page_to_wire),
            put: put.iter().map(token_to_wire).collect(),
            deleted: deleted.iter().map(|id| uuid_to_wire(id.0)).collect(),
        })),
        Change::Revocations { page, put } => Some(wan::follow_response::Change::Revocations(wan::RevocationsChange {
            page: page.as_ref().map(page_to_wire),
            put: put.iter().map(revocation_to_wire).collect(),
        })),
        Change::RevokedIssuers(all) => {
            let all = all.iter().map(revoked_issuer_to_wire).collect();
            Some(wan::follow_response::Change::RevokedIssuers(wan::RevokedIssuersChange { all }))
        }
        Change::Intentions { page, put, deleted } => {
            Some(wan::follow_response::Change::Intentions(wan::IntentionsChange {
                page: page.as_ref().map(page_to_wire),
                put: put.iter().map(intention_to_wire).collect(),
                deleted: deleted.iter().map(|key| uuid_to_wire(key.0)).collect(),
            }))
        }
    };
    wan::FollowResponse { to: Some(cursor_to_wire(to)), primary_revision: primary_revision.0, is_all, change }
}

/// The change that was sent, with where its follower is then, whether that was all, and the primary's revision.
pub fn heard_from_wire(response: wan::FollowResponse) -> Result<(Change, Cursor, bool, Revision), BadMessage> {
    let (to, is_all) = (cursor_from_wire(response.to)?, response.is_all);
    let change = match response.change {
        None => Change::Nothing,
        Some(wan::follow_response::Change::Ca(ca)) => {
            let is_halted = ca.is_halted;
            let tainted = ca.tainted.iter().map(tainted_from_wire).collect::<Result<_, _>>()?;
            Change::CaAndSwitches(Box::new(ca_from_wire(ca)?), Switches { is_halted, tainted })
        }
        Some(wan::follow_response::Change::Datacenters(table)) => {
            let datacenters = table.datacenters.into_iter().map(datacenter_from_wire);
            Change::DatacentersAndServers(datacenters.collect::<Result<_, _>>()?)
        }
        Some(wan::follow_response::Change::Policies(change)) => Change::Policies {
            page: change.page.as_ref().map(page_from_wire).transpose()?,
            put: change.put.into_iter().map(policy_from_wire).collect::<Result<_, _>>()?,
            deleted: uuids("deleted policy", &change.deleted)?.into_iter().map(PolicyId).collect(),
        },
        Some(wan::follow_response::Change::Tokens(change)) => Change::Tokens {
            page: change.page.as_ref().map(page_from_wire).transpose()?,
            put: change.put.into_iter().map(token_from_wire).collect::<Result<_, _>>()?,
            deleted: uuids("deleted token", &change.deleted)?.into_iter().map(AccessorId).collect(),
        },
        Some(wan::follow_response::Change::Revocations(change)) => Change::Revocations {
            page: change.page.as_ref().map(page_from_wire).transpose()?,
            put: change.put.into_iter().map(revocation_from_wire).collect::<Result<_, _>>()?,
        },
        Some(wan::follow_response::Change::RevokedIssuers(change)) => {
            Change::RevokedIssuers(change.all.into_iter().map(revoked_issuer_from_wire).collect::<Result<_, _>>()?)
        }
        Some(wan::follow_response::Change::Intentions(change)) => Change::Intentions {
            page: change.page.as_ref().map(page_from_wire).transpose()?,
            put: change.put.into_iter().map(intention_from_wire).collect::<Result<_, _>>()?,
            deleted: uuids("deleted intention", &change.deleted)?.into_iter().map(IntentionKey).collect(),
        },
    };
    Ok((change, to, is_all, Revision(response.primary_revision)))
}

fn ca_to_wire(ca: &CaTable, switches: &Switches) -> wan::CaTable {
    let config = &ca.config;
    wan::CaTable {
        trust_domain: ca.trust_domain.to_string(),
        config: Some(wan::CaConfig {
            leaf_ttl_ms: millis(config.leaf_ttl),
            intermediate_ttl_ms: millis(config.intermediate_ttl),
            root_ttl_ms: millis(config.root_ttl),
            key_kind: config.key_kind.to_string(),
            csr_max_per_second: config.csr_max_per_second,
            csr_max_concurrent: config.csr_max_concurrent,
        }),
        roots: ca.roots.iter().map(root_to_wire).collect(),
        activation: ca.activation,
        is_halted: switches.is_halted,
        tainted: switches.tainted.iter().map(tainted_to_wire).collect(),
    }
}

fn ca_from_wire(ca: wan::CaTable) -> Result<CaTable, BadMessage> {
    let config = ca.config.ok_or_else(|| bad("CA configuration", "it is missing"))?;
    Ok(CaTable {
        trust_domain: ca.trust_domain.parse().map_err(|error| bad("trust domain", error))?,
        config: CaConfig {
            leaf_ttl: Duration::from_millis(config.leaf_ttl_ms),
            intermediate_ttl: Duration::from_millis(config.intermediate_ttl_ms),
            root_ttl: Duration::from_millis(config.root_ttl_ms),
            key_kind: config.key_kind.parse().map_err(|error| bad("key kind", error))?,
            csr_max_per_second: config.csr_max_per_second,
            csr_max_concurrent: config.csr_max_concurrent,
        },
        roots: ca.roots.into_iter().map(root_from_wire).collect::<Result<_, _>>()?,
        activation: ca.activation,
    })
}

fn root_to_wire(root: &Root) -> wan::Root {
    let made = &root.made;
    wan::Root {
        id: Bytes::copy_from_slice(&made.id.0),
        provider: made.provider.clone(),
        certificate: der_to_wire(&made.certificate),
        chain: made.chain.iter().map(der_to_wire).collect(),
        key_kind: made.key_kind.to_string(),
        not_before_ms: made.not_before.0,
        not_after_ms: made.not_after.0,
        phase: match root.phase {
            RootPhase::Prepared => wan::RootPhase::Prepared,
            RootPhase::Active => wan::RootPhase::Active,
            RootPhase::Retired => wan::RootPhase::Retired,
        }
        .into(),
        activation: root.activation,
        bridge: root.bridge.as_ref().map(|bridge| wan::Bridge {
            certificate: der_to_wire(&bridge.certificate),
            signed_by: Bytes::copy_from_slice(&bridge.signed_by.0),
            not_before_ms: bridge.not_before.0,
            not_after_ms: bridge.not_after.0,
        }),
    }
}

fn root_from_wire(root: wan::Root) -> Result<Root, BadMessage> {
    let phase = match root.phase() {
        wan::RootPhase::Prepared => RootPhase::Prepared,
        wan::RootPhase::Active => RootPhase::Active,
        wan::RootPhase::Retired => RootPhase::Retired,
        wan::RootPhase::Unspecified => return Err(bad("root", format!("there is no phase {}", root.phase))),
    };
    let bridge = root.bridge.map(|bridge| {
        Ok::<_, BadMessage>(Bridge {
            certificate: der_from_wire(&bridge.certificate),
            signed_by: key_id_from_wire("bridge", &bridge.signed_by)?,
            not_before: Timestamp(bridge.not_before_ms),
            not_after: Timestamp(bridge.not_after_ms),
        })
    });
    Ok(Root {
        made: NewRoot {
            id: key_id_from_wire("root", &root.id)?,
            provider: root.provider,
            certificate: der_from_wire(&root.certificate),
            chain: root.chain.iter().map(|der| der_from_wire(der)).collect(),
            key_kind: root.key_kind.parse().map_err(|error| bad("key kind", error))?,
            not_before: Timestamp(root.not_before_ms),
            not_after: Timestamp(root.not_after_ms),
            sealed_key: None,
        },
        phase,
        activation: root.activation,
        bridge: bridge.transpose()?,
        phase_since: Timestamp::EPOCH,
        created: Revision(0),
        modified: Revision(0),
    })
}

fn datacenter_to_wire(datacenter: &Datacenter, servers: Option<&KnownServers>) -> wan::Datacenter {
    wan::Datacenter {
        name: datacenter.name.to_string(),
        cluster: uuid_to_wire(datacenter.cluster),
        server_roots: datacenter.server_roots.iter().map(der_to_wire).collect(),
        wan_addresses: datacenter.wan_addresses.clone(),
        is_primary: datacenter.is_primary,
        servers: servers.map(servers_to_wire),
    }
}

fn datacenter_from_wire(datacenter: wan::Datacenter) -> Result<KnownDatacenter, BadMessage> {
    let servers = datacenter.servers.map(|servers| servers_from_wire(&servers));
    let datacenter = Datacenter {
        name: name_from_wire("datacenter", &datacenter.name)?,
        cluster: uuid_from_wire("cluster", &datacenter.cluster)?,
        server_roots: datacenter.server_roots.iter().map(|der| der_from_wire(der)).collect(),
        wan_addresses: datacenter.wan_addresses,
        is_primary: datacenter.is_primary,
        joined_at: Timestamp::EPOCH,
        created: Revision(0),
        modified: Revision(0),
    };
    Ok(KnownDatacenter { datacenter, servers })
}

/// A datacenter's servers as they are sent.
pub fn servers_to_wire(servers: &KnownServers) -> wan::Servers {
    wan::Servers { present: servers.present.iter().map(|node| node.0).collect(), next: servers.next.0 }
}

/// The servers that were sent; whether a datacenter can have them, the state says.
pub fn servers_from_wire(servers: &wan::Servers) -> KnownServers {
    KnownServers { present: servers.present.iter().copied().map(NodeId).collect(), next: NodeId(servers.next) }
}

fn policy_to_wire(policy: &Policy) -> wan::Policy {
    wan::Policy {
        id: uuid_to_wire(policy.id.0),
        name: policy.name.clone(),
        description: policy.description.clone(),
        source: policy.source.clone(),
        rules: policy.rules.iter().map(rule_to_wire).collect(),
        datacenters: policy.datacenters.iter().map(Name::to_string).collect(),
    }
}

fn policy_from_wire(policy: wan::Policy) -> Result<Policy, BadMessage> {
    let rules = policy.rules.into_iter().map(rule_from_wire).collect::<Result<Arc<[Rule]>, _>>()?;
    Ok(Policy {
        id: PolicyId(uuid_from_wire("policy", &policy.id)?),
        name: policy.name,
        description: policy.description,
        source: policy.source,
        rules,
        datacenters: names("policy", &policy.datacenters)?,
        created: Revision(0),
        modified: Revision(0),
    })
}

const RESOURCES: [(Resource, &str); 15] = [
    (Resource::Acl, "acl"),
    (Resource::Agent, "agent"),
    (Resource::Event, "event"),
    (Resource::Identity, "identity"),
    (Resource::IdentityIntention, "identity_intention"),
    (Resource::Intention, "intention"),
    (Resource::Key, "key"),
    (Resource::Keyring, "keyring"),
    (Resource::Mesh, "mesh"),
    (Resource::Node, "node"),
    (Resource::Operator, "operator"),
    (Resource::Peering, "peering"),
    (Resource::Query, "query"),
    (Resource::Service, "service"),
    (Resource::Session, "session"),
];
const ACCESSES: [Access; 4] = [Access::Deny, Access::Read, Access::List, Access::Write];

pub(super) fn rule_to_wire(rule: &Rule) -> wan::Rule {
    let resource = RESOURCES.iter().find(|(resource, _)| *resource == rule.resource).map_or("", |(_, name)| name);
    let scope = match &rule.scope {
        Scope::All => wan::rule::Scope::All(true),
        Scope::Exact(name) => wan::rule::Scope::Exact(name.clone()),
        Scope::Prefix(prefix) => wan::rule::Scope::Prefix(prefix.clone()),
    };
    wan::Rule { resource: resource.into(), scope: Some(scope), access: rule.access.to_string() }
}

pub(super) fn rule_from_wire(rule: wan::Rule) -> Result<Rule, BadMessage> {
    let resource = RESOURCES.iter().find(|(_, name)| *name == rule.resource).map(|(resource, _)| *resource);
    let access = ACCESSES.into_iter().find(|access| access.to_string() == rule.access);
    Ok(Rule {
        resource: resource
            .ok_or_else(|| bad("rule", format!("unknown resource `{}`", rule.resource.escape_debug())))?,
        scope: match rule.scope {
            Some(wan::rule::Scope::All(_)) => Scope::All,
            Some(wan::rule::Scope::Exact(name)) => Scope::Exact(name),
            Some(wan::rule::Scope::Prefix(prefix)) => Scope::Prefix(prefix),
            None => return Err(bad("rule", "it has no scope")),
        },
        access: access.ok_or_else(|| bad("rule", format!("unknown access `{}`", rule.access.escape_debug())))?,
    })
}

fn revocation_to_wire(revocation: &Revocation) -> wan::Revocation {
    wan::Revocation {
        serial: Bytes::copy_from_slice(&revocation.serial.0),
        until_ms: revocation.until.0,
        reason: revocation.reason.clone(),
        revoked_at_ms: revocation.revoked_at.0,
    }
}

fn revocation_from_wire(revocation: wan::Revocation) -> Result<Revocation, BadMessage> {
    let serial = <[u8; 20]>::try_from(&*revocation.serial).map_err(|error| bad("serial of a revocation", error))?;
    Ok(Revocation {
        serial: Serial(serial),
        until: Timestamp(revocation.until_ms),
        reason: revocation.reason,
        revoked_at: Timestamp(revocation.revoked_at_ms),
        created: Revision(0),
        modified: Revision(0),
    })
}

/// A revoked issuer as it is sent.
pub fn revoked_issuer_to_wire(revoked: &RevokedIssuer) -> wan::RevokedIssuer {
    wan::RevokedIssuer {
        issuer: Bytes::copy_from_slice(&revoked.issuer.0),
        root: Bytes::copy_from_slice(&revoked.root.0),
        until_ms: revoked.until.0,
        reason: revoked.reason.clone(),
        revoked_at_ms: revoked.revoked_at.0,
    }
}

/// The revoked issuer that was sent.
pub fn revoked_issuer_from_wire(revoked: wan::RevokedIssuer) -> Result<RevokedIssuer, BadMessage> {
    Ok(RevokedIssuer {
        issuer: key_id_from_wire("revoked issuer", &revoked.issuer)?,
        root: key_id_from_wire("root of a revoked issuer", &revoked.root)?,
        until: Timestamp(revoked.until_ms),
        reason: revoked.reason,
        revoked_at: Timestamp(revoked.revoked_at_ms),
    })
}

fn token_to_wire(token: &Token) -> wan::Token {
    wan::Token {
        accessor: uuid_to_wire(token.accessor.0),
        secret_digest: Bytes::copy_from_slice(&token.secret.0),
        description: token.description.clone(),
        policies: token.policies.iter().map(|id| uuid_to_wire(id.0)).collect(),
        service_identities: token
            .service_identities
            .iter()
            .map(|identity| wan::ServiceIdentity {
                service: identity.service.to_string(),
                datacenters: identity.datacenters.iter().map(Name::to_string).collect(),
            })
            .collect(),
        node_identities: token
            .node_identities
            .iter()
            .map(|identity| wan::NodeIdentity {
                node: identity.node.to_string(),
                datacenter: identity.datacenter.to_string(),
            })
            .collect(),
        expires_at_ms: token.expires_at.map(|end| end.0),
        created_at_ms: token.created_at.0,
    }
}

fn token_from_wire(token: wan::Token) -> Result<Token, BadMessage> {
    let secret = <[u8; 32]>::try_from(&*token.secret_digest).map_err(|error| bad("token secret digest", error))?;
    let services = token.service_identities.into_iter().map(|identity| {
        let service = name_from_wire("service identity", &identity.service)?;
        Ok(ServiceIdentity { service, datacenters: names("service identity", &identity.datacenters)? })
    });
    let nodes = token.node_identities.into_iter().map(|identity| {
        let node = name_from_wire("node identity", &identity.node)?;
        Ok(NodeIdentity { node, datacenter: name_from_wire("node identity", &identity.datacenter)? })
    });
    Ok(Token {
        accessor: AccessorId(uuid_from_wire("token", &token.accessor)?),
        secret: Digest(secret),
        description: token.description,
        policies: uuids("policy of a token", &token.policies)?.into_iter().map(PolicyId).collect(),
        service_identities: services.collect::<Result<_, _>>()?,
        node_identities: nodes.collect::<Result<_, _>>()?,
        roles: Vec::new(),
        auth_method: None,
        is_local: false,
        expires_at: token.expires_at_ms.map(Timestamp),
        created_at: Timestamp(token.created_at_ms),
        created: Revision(0),
        modified: Revision(0),
    })
}

fn page_to_wire(page: &Page) -> wan::Page {
    wan::Page { after: key_to_wire(page.after), upto: key_to_wire(page.upto) }
}

fn page_from_wire(page: &wan::Page) -> Result<Page, BadMessage> {
    Ok(Page { after: key_from_wire("page", &page.after)?, upto: key_from_wire("page", &page.upto)? })
}

fn key_to_wire(key: Option<Uuid>) -> Bytes {
    key.map_or_else(Bytes::new, uuid_to_wire)
}

fn key_from_wire(what: &'static str, key: &[u8]) -> Result<Option<Uuid>, BadMessage> {
    if key.is_empty() { Ok(None) } else { uuid_from_wire(what, key).map(Some) }
}

/// A UUID's 16 bytes.
pub fn uuid_to_wire(id: Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

/// The UUID of 16 bytes.
pub fn uuid_from_wire(what: &'static str, bytes: &[u8]) -> Result<Uuid, BadMessage> {
    Uuid::from_slice(bytes).map_err(|error| bad(what, error))
}

fn uuids(what: &'static str, all: &[Bytes]) -> Result<Vec<Uuid>, BadMessage> {
    all.iter().map(|bytes| uuid_from_wire(what, bytes)).collect()
}

/// The name of this text.
pub fn name_from_wire(what: &'static str, text: &str) -> Result<Name, BadMessage> {
    Name::parse(what, text).map_err(|error| bad(what, error))
}

fn names(what: &'static str, texts: &[String]) -> Result<Vec<Name>, BadMessage> {
    texts.iter().map(|text| name_from_wire(what, text)).collect()
}

/// A key identifier of 20 bytes.
pub fn key_id_from_wire(what: &'static str, bytes: &[u8]) -> Result<KeyId, BadMessage> {
    <[u8; 20]>::try_from(bytes).map(KeyId).map_err(|error| bad(what, error))
}

/// A DER value's bytes.
pub fn der_to_wire(der: &Der) -> Bytes {
    Bytes::copy_from_slice(der.as_bytes())
}

/// The DER value of these bytes.
pub fn der_from_wire(bytes: &[u8]) -> Der {
    Der::from(bytes)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
