//! What servers tell agents, as values of the domain.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use carrack_authority::{
    acl::{AccessorId, resolve::Authorizer, rules::Resource},
    id::{KeyId, Revision, Serial},
    intention::{Action, DefaultPolicy, Intention},
    key::Der,
    revocation::{RevokedIssuer, RevokedIssuers},
    root::{Bridge, NewRoot, Root, RootPhase},
    spiffe::{Name, TrustDomain},
    time::Timestamp,
    x509::CertificateFacts,
};
use prost::Message;
use uuid::Uuid;

use super::wan::{
    BadMessage, bad, der_from_wire, der_to_wire,
    intentions::{intention_from_wire, intention_to_wire},
    name_from_wire, revoked_issuer_from_wire, revoked_issuer_to_wire, rule_from_wire, rule_to_wire, uuid_from_wire,
    uuid_to_wire,
};
use crate::{agent, wan};

/// What verifiers trust, and where its tellers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleTold {
    /// The cluster.
    pub cluster: Uuid,
    /// The name space that the roots vouch for.
    pub trust_domain: TrustDomain,
    /// The name of the primary datacenter.
    pub primary: Name,
    /// The roots that are not pruned, without what only servers need.
    pub roots: Vec<Root>,
    /// The bundle of the server CA.
    pub server_roots: Vec<Der>,
    /// Where the servers answer agents, as `host:port`.
    pub servers: Vec<String>,
    /// What holds between services where no intention decides.
    pub default_policy: DefaultPolicy,
    /// The issuers whose leaves are refused.
    pub revoked_issuers: RevokedIssuers,
    /// The issuers whose leaves agents renew, and in what time from when they hear of it.
    pub leaving: BTreeMap<KeyId, Duration>,
}

/// What a token may do in the datacenter.
#[derive(Clone, Debug)]
pub struct RightsTold {
    /// Its public id.
    pub accessor: AccessorId,
    /// Its last moment; `None`: it does not end.
    pub expires_at: Option<Timestamp>,
    /// The revision that changed the token last.
    pub modified: Revision,
    /// What it may do.
    pub authorizer: Authorizer,
}

/// The rules that agents decide by: the rest is decided by servers.
const RESOURCES: [Resource; 4] = [Resource::Agent, Resource::Intention, Resource::Node, Resource::Service];

/// A bundle as it is sent.
pub fn bundle_to_wire(bundle: &BundleTold) -> agent::Bundle {
    agent::Bundle {
        cluster_id: uuid_to_wire(bundle.cluster),
        trust_domain: bundle.trust_domain.to_string(),
        roots: bundle.roots.iter().map(root_to_wire).collect(),
        server_roots: bundle.server_roots.iter().map(der_to_wire).collect(),
        servers: bundle.servers.clone(),
        primary: bundle.primary.to_string(),
        default_policy: match bundle.default_policy {
            DefaultPolicy::Intentions(Action::Allow) => agent::DefaultPolicy::IntentionsAllow,
            DefaultPolicy::Intentions(Action::Deny) => agent::DefaultPolicy::IntentionsDeny,
            DefaultPolicy::Acl(_) => agent::DefaultPolicy::AclDeny,
        }
        .into(),
        revoked_issuers: bundle
            .revoked_issuers
            .all()
            .map(|revoked| revoked_issuer_to_wire(revoked).encode_to_vec().into())
            .collect(),
        leaving: bundle.leaving.iter().map(leaving_to_wire).collect(),
    }
}

fn leaving_to_wire((issuer, within): (&KeyId, &Duration)) -> agent::Leaving {
    let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    agent::Leaving { issuer: Bytes::copy_from_slice(&issuer.0), within_ms }
}

fn leaving_from_wire(leaving: &agent::Leaving) -> Result<(KeyId, Duration), BadMessage> {
    let issuer = <[u8; 20]>::try_from(&*leaving.issuer).map_err(|error| bad("issuer", error))?;
    Ok((KeyId(issuer), Duration::from_millis(leaving.within_ms)))
}

/// The bundle that a server told.
pub fn bundle_from_wire(bundle: agent::Bundle) -> Result<BundleTold, BadMessage> {
    let default_policy = match bundle.default_policy() {
        agent::DefaultPolicy::AclDeny => DefaultPolicy::Acl(Action::Deny),
        agent::DefaultPolicy::IntentionsAllow => DefaultPolicy::Intentions(Action::Allow),
        agent::DefaultPolicy::IntentionsDeny => DefaultPolicy::Intentions(Action::Deny),
    };
    Ok(BundleTold {
        default_policy,
        cluster: uuid_from_wire("cluster id", &bundle.cluster_id)?,
        trust_domain: bundle.trust_domain.parse().map_err(|error| bad("trust domain", error))?,
        primary: name_from_wire("primary", &bundle.primary)?,
        roots: bundle.roots.into_iter().map(root_from_wire).collect::<Result<_, _>>()?,
        server_roots: bundle.server_roots.iter().map(|der| der_from_wire(der)).collect(),
        leaving: bundle.leaving.iter().map(leaving_from_wire).collect::<Result<_, _>>()?,
        servers: bundle.servers,
        revoked_issuers: bundle.revoked_issuers.iter().map(revoked_issuer_of_server).collect::<Result<_, _>>()?,
    })
}

fn revoked_issuer_of_server(message: &Bytes) -> Result<RevokedIssuer, BadMessage> {
    let revoked = wan::RevokedIssuer::decode(&**message).map_err(|error| bad("revoked issuer", error))?;
    revoked_issuer_from_wire(revoked)
}

fn root_to_wire(root: &Root) -> agent::Root {
    agent::Root {
        certificate: der_to_wire(&root.made.certificate),
        phase: match root.phase {
            RootPhase::Prepared => agent::Phase::Prepared,
            RootPhase::Active => agent::Phase::Active,
            RootPhase::Retired => agent::Phase::Retired,
        }
        .into(),
        bridge: root.bridge.as_ref().map(|bridge| der_to_wire(&bridge.certificate)).unwrap_or_default(),
        created: root.created.0,
        modified: root.modified.0,
    }
}

/// What else is to be known of a root is in its certificate.
fn root_from_wire(root: agent::Root) -> Result<Root, BadMessage> {
    let phase = match root.phase() {
        agent::Phase::Prepared => RootPhase::Prepared,
        agent::Phase::Active => RootPhase::Active,
        agent::Phase::Retired => RootPhase::Retired,
        agent::Phase::Unspecified => return Err(bad("root", format!("there is no phase {}", root.phase))),
    };
    let facts = CertificateFacts::read(&root.certificate).map_err(|error| bad("root", error))?;
    let bridge = (!root.bridge.is_empty()).then(|| {
        let facts = CertificateFacts::read(&root.bridge).map_err(|error| bad("bridge", error))?;
        let signed_by = facts.authority_key_id.ok_or_else(|| bad("bridge", "it does not say who signed it"))?;
        let (not_before, not_after) = (facts.not_before, facts.not_after);
        Ok(Bridge { certificate: der_from_wire(&root.bridge), signed_by, not_before, not_after })
    });
    Ok(Root {
        made: NewRoot {
            id: facts.key_id.unwrap_or(facts.public_key.id),
            provider: String::new(),
            certificate: der_from_wire(&root.certificate),
            chain: Vec::new(),
            key_kind: facts.public_key.kind,
            not_before: facts.not_before,
            not_after: facts.not_after,
            sealed_key: None,
        },
        phase,
        activation: 0,
        bridge: bridge.transpose()?,
        phase_since: Timestamp::EPOCH,
        created: Revision(root.created),
        modified: Revision(root.modified),
    })
}

/// Intentions as they are sent, without what people wrote beside them: it decides nothing, and agents show none.
pub fn intentions_to_wire<'a>(intentions: impl Iterator<Item = &'a Intention>) -> agent::Intentions {
    let bare = |intention: &Intention| {
        let mut message = intention_to_wire(intention);
        message.description.clear();
        message.meta.clear();
        message
    };
    let encoded = intentions.map(|intention| bare(intention).encode_to_vec().into());
    agent::Intentions { intentions: encoded.collect() }
}

/// The intentions that a server told.
pub fn intentions_from_wire(told: &agent::Intentions) -> Result<Vec<Intention>, BadMessage> {
    let decoded = told.intentions.iter().map(|bytes| {
        let intention = wan::Intention::decode(&**bytes).map_err(|error| bad("intention", error))?;
        intention_from_wire(intention)
    });
    decoded.collect()
}

/// Serials of revoked leaves as they are sent.
pub fn revoked_to_wire<'a>(serials: impl Iterator<Item = &'a Serial>) -> agent::Revoked {
    agent::Revoked { serials: serials.map(|serial| Bytes::copy_from_slice(&serial.0)).collect() }
}

/// The serials that a server told.
pub fn revoked_from_wire(told: &agent::Revoked) -> Result<BTreeSet<Serial>, BadMessage> {
    let serial = |bytes: &Bytes| <[u8; 20]>::try_from(&**bytes).map(Serial).map_err(|error| bad("serial", error));
    told.serials.iter().map(serial).collect()
}

/// Rights as they are sent.
pub fn rights_to_wire(rights: &RightsTold) -> agent::Rights {
    let rules = rights.authorizer.rules().filter(|rule| RESOURCES.contains(&rule.resource)).map(|rule| {
        let wan::Rule { resource, scope, access } = rule_to_wire(rule);
        let scope = scope.map(|scope| match scope {
            wan::rule::Scope::All(_) => agent::rule::Scope::All(agent::Nothing {}),
            wan::rule::Scope::Exact(name) => agent::rule::Scope::Exact(name),
            wan::rule::Scope::Prefix(prefix) => agent::rule::Scope::Prefix(prefix),
        });
        agent::Rule { resource, scope, access }
    });
    let texts = |names: &[Name]| names.iter().map(ToString::to_string).collect();
    agent::Rights {
        accessor: uuid_to_wire(rights.accessor.0),
        expires_at: rights.expires_at.map(|end| end.0),
        is_management: rights.authorizer.is_management(),
        rules: rules.collect(),
        services: texts(rights.authorizer.services()),
        nodes: texts(rights.authorizer.nodes()),
        modified: rights.modified.0,
    }
}

/// The rights that a server told.
pub fn rights_from_wire(rights: agent::Rights) -> Result<RightsTold, BadMessage> {
    let rules = rights.rules.into_iter().map(|agent::Rule { resource, scope, access }| {
        let scope = scope.map(|scope| match scope {
            agent::rule::Scope::All(_) => wan::rule::Scope::All(true),
            agent::rule::Scope::Exact(name) => wan::rule::Scope::Exact(name),
            agent::rule::Scope::Prefix(prefix) => wan::rule::Scope::Prefix(prefix),
        });
        rule_from_wire(wan::Rule { resource, scope, access })
    });
    let rules = rules.collect::<Result<Vec<_>, _>>()?;
    let names = |what: &'static str, texts: Vec<String>| {
        texts.iter().map(|text| name_from_wire(what, text)).collect::<Result<Vec<_>, _>>()
    };
    let authorizer = match rights.is_management {
        true => Authorizer::management(),
        false => Authorizer::new([rules.into()], names("service", rights.services)?, names("node", rights.nodes)?),
    };
    Ok(RightsTold {
        accessor: AccessorId(uuid_from_wire("accessor", &rights.accessor)?),
        expires_at: rights.expires_at.map(Timestamp),
        modified: Revision(rights.modified),
        authorizer,
    })
}
