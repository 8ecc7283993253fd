//! The CA configuration with Consul's keys. Each key of a PUT replaces what was there and an absent one takes its default, except those
//! of the root: absent, they stay. What means another root begins a rotation, which is waited for as long as Consul's clients expect.
//! With a `ModifyIndex` it is compared and set, as with Consul. No answer holds a key.

mod wanted;

use std::time::Duration;

use axum::response::Response;
use carrack_authority::{
    Command, State, WatchKey,
    ca_config::StoredCaConfig,
    id::Revision,
    key::{Der, KeyKind},
    planted::{self, Bug},
    root::{Ca, NewRoot, Root, RootPhase},
    rotation::{ACK_TIMEOUT, RotationCause, RotationRequest, WantedRoot},
    x509::{CertificateFacts, pem, supplied::SuppliedError},
};
use serde::Serialize;
use tokio::time::Instant;
use zeroize::Zeroizing;

pub(super) use self::wanted::passed_on;
use self::wanted::{Key, Wanted};
use super::{
    answer::Answer,
    call::Call,
    error::HttpError,
    rotation::{active, is_bridged},
    span,
};
use crate::{
    provider::{ProviderError, RootRequest, SealTo, SuppliedRoot, SuppliedRootError},
    server::task::chain_of,
};

/// Consul's name of the provider whose root key the servers hold themselves; carrack's own is accepted beside it.
const PROVIDER: &str = "consul";
const PROVIDERS: [&str; 2] = [PROVIDER, "builtin"];

/// How long a rotation is waited for.
const ACTIVATED_WITHIN: Duration = Duration::from_secs(30);
/// How long the whole takes, reading and writing the log included: another datacenter may wait for it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(36);

/// Consul's form of the configuration.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Configuration {
    provider: &'static str,
    config: Keys,
    state: Option<()>,
    force_without_cross_signing: bool,
    create_index: u64,
    modify_index: u64,
}

#[derive(Debug, Serialize)]
struct Keys {
    #[serde(rename = "CSRMaxConcurrent")]
    csr_max_concurrent: u32,
    #[serde(rename = "CSRMaxPerSecond")]
    csr_max_per_second: u32,
    #[serde(rename = "IntermediateCertTTL")]
    intermediate_cert_ttl: String,
    #[serde(rename = "LeafCertTTL")]
    leaf_cert_ttl: String,
    #[serde(rename = "PrivateKeyBits")]
    private_key_bits: u32,
    #[serde(rename = "PrivateKeyType")]
    private_key_type: &'static str,
    #[serde(rename = "RootCertTTL")]
    root_cert_ttl: String,
    #[serde(rename = "RotationPeriod", skip_serializing_if = "Option::is_none")]
    rotation_period: Option<String>,
}

/// `GET /v1/connect/ca/configuration`
pub(super) async fn read(call: Call) -> Result<Response, HttpError> {
    let view = call.view().await?;
    let stored = view.state().ca_config();
    let shape = shape(stored, view.state().rotation_period());
    let answer = call.json(&shape)?.with_index(stored.modified.0).with_freshness(view.freshness);
    Ok(answer.into_response())
}

/// `PUT /v1/connect/ca/configuration`
pub(super) async fn write(call: Call) -> Result<Response, HttpError> {
    let began = Instant::now();
    let wanted = Wanted::read(&call.body)?;
    let view = call.committed_view().await?;
    check_index_is_of_primary(&wanted, view.state())?;
    view.state().only_in_primary("the CA configuration")?;
    let stored = view.state().ca_config();
    wanted.config.validate().map_err(|error| HttpError::BadRequest(error.to_string()))?;
    let supplied = wanted.supplied.as_ref().map(|supplied| import(&call, view.state(), &wanted, supplied));
    let supplied = supplied.transpose()?;
    let key = match &supplied {
        None => wanted.key(stored.config.key_kind)?,
        Some(supplied) => wanted.key_beside(stored.config.key_kind, supplied.key_kind())?,
    };
    let config = wanted.config_with(key.kind());
    let root = match (supplied, key) {
        (Some(Imported::New(made)), _) => Some(WantedRoot::Supplied(made)),
        (None, Key::Other(key_kind)) => Some(made_by_provider(&call, view.state(), key_kind)?),
        (Some(Imported::Active(_) | Imported::UnderWay(_)) | None, _) => None,
    };
    let rotation = root.map(|root| rotation_to(&call, view.state(), root, &wanted)).transpose()?.map(Box::new);
    let rotation_period = wanted.rotation_period.unwrap_or(view.state().rotation_period());
    let is_same = config == stored.config && rotation_period == view.state().rotation_period();
    if is_same && rotation.is_none() {
        return match under_way(view.state()) {
            // The same once more: its client did not hear how it ended.
            Some(id) => activated(&call, id, began).await,
            None => Ok(Answer::empty().into_response()),
        };
    }
    let read = wanted.modify_index.filter(|_| !planted::is(Bug::ConfigurationNotCompared));
    let expected = read.map_or(stored.modified, Revision);
    let rotates = rotation.is_some();
    tracing::warn!(rotates, accessor = ?view.caller.accessor(), "an operator changes the CA configuration");
    let proposed = call.propose(Command::SetCaConfig { expected, config, rotation_period, rotation }).await?;
    if !rotates {
        return Ok(Answer::empty().into_response());
    }
    activated(&call, Revision(proposed.index), began).await
}

/// The rotation that an earlier change of the configuration has begun, and that has not activated its root.
fn under_way(state: &State) -> Option<Revision> {
    let rotation = state.rotation()?;
    let is_of_configuration = rotation.cause == RotationCause::Configuration && rotation.activated_at.is_none();
    is_of_configuration.then_some(rotation.id)
}

/// The answer when a rotation has activated its root, or goes on for longer than clients wait.
async fn activated(call: &Call, id: Revision, began: Instant) -> Result<Response, HttpError> {
    let deadline = (Instant::now() + ACTIVATED_WITHIN).min(began + ANSWERED_WITHIN);
    wait_for_activation(call, id, deadline).await?;
    Ok(Answer::empty().with_rotation(id.0).into_response())
}

/// A root that the operator supplies.
enum Imported {
    /// It is the active one already.
    Active(KeyKind),
    /// The rotation under way leads to it.
    UnderWay(KeyKind),
    /// It is another one.
    New(Box<NewRoot>),
}

impl Imported {
    fn key_kind(&self) -> KeyKind {
        match self {
            Self::Active(kind) | Self::UnderWay(kind) => *kind,
            Self::New(made) => made.key_kind,
        }
    }
}

fn import(
    call: &Call,
    state: &State,
    wanted: &Wanted,
    (private_key, root_cert): &(Zeroizing<String>, String),
) -> Result<Imported, HttpError> {
    let cluster = state.cluster().ok_or_else(|| HttpError::Unavailable("the datacenter has not begun".into()))?;
    let facts = |root: &std::sync::Arc<Root>| CertificateFacts::read(root.made.certificate.as_bytes());
    let bundle = state.roots(Ca::Mesh).bundle().iter().map(facts).collect::<Result<Vec<_>, _>>();
    let supplied = SuppliedRoot {
        private_key: private_key.clone(),
        root_cert: root_cert.clone(),
        leaf_ttl: wanted.config.leaf_ttl,
        intermediate_ttl: wanted.config.intermediate_ttl,
        bundle: bundle.map_err(|error| HttpError::Internal(chain_of(&error)))?,
        force_without_cross_signing: wanted.without_cross_signing,
    };
    let request = RootRequest {
        trust_domain: cluster.trust_domain.clone(),
        key_kind: wanted.config.key_kind,
        now: call.now(),
        ttl: wanted.config.root_ttl,
        seal_to: SealTo { slots: state.sealing_slots(), recovery: cluster.recovery.clone() },
    };
    match call.edge.context.builtin.import_root(&supplied, &request) {
        Ok(made) => Ok(Imported::New(Box::new(made))),
        Err(ProviderError::Supplied(refused)) => match in_bundle(&refused, root_cert, state) {
            Some(root) if root.phase == RootPhase::Active => active_again(state, root),
            Some(root) if root.phase == RootPhase::Prepared => Ok(Imported::UnderWay(root.made.key_kind)),
            Some(_) => Err(HttpError::Conflict(format!(
                "{refused}; it is a root that was left, and drains: `carrack ca rollback` makes the one before the active one active again, \
                 any other one can be brought again when it has left the bundle"
            ))),
            None => Err(HttpError::BadRequest(refused.to_string())),
        },
        Err(error) => Err(HttpError::Unavailable(chain_of(&error))),
    }
}

/// The root of the bundle because of which one was refused that is the same: written again, as Consul's clients do with what they have in
/// a file.
fn in_bundle<'a>(refused: &SuppliedRootError, root_cert: &str, state: &'a State) -> Option<&'a Root> {
    let SuppliedRootError::Certificates(SuppliedError::AlreadyHere { other, .. }) = refused else { return None };
    let root = state.roots(Ca::Mesh).find(other)?;
    let is_same = || {
        let mut given = pem::decode_certificates(root_cert).unwrap_or_default();
        let is_self_issued = |der: &Der| CertificateFacts::read(der.as_bytes()).is_ok_and(|it| it.is_self_issued());
        if given.len() > 1 && given.last().is_some_and(is_self_issued) {
            given.pop();
        }
        given.first() == Some(&root.made.certificate) && given[1..] == root.made.chain[..]
    };
    (root_cert.trim().is_empty() || is_same()).then_some(root)
}

/// The active root is brought: nothing is to be done, unless a rotation leads away from it.
fn active_again(state: &State, root: &Root) -> Result<Imported, HttpError> {
    match state.rotation() {
        Some(rotation) if rotation.former == root.made.id => Err(HttpError::Conflict(format!(
            "this root is the active one, and rotation {} leads away from it: `carrack ca rollback` takes that back",
            rotation.id
        ))),
        _ => Ok(Imported::Active(root.made.key_kind)),
    }
}

fn made_by_provider(call: &Call, state: &State, key_kind: KeyKind) -> Result<WantedRoot, HttpError> {
    let provider = active(state)?.made.provider.clone();
    call.edge.context.providers.named(&provider).map_err(|error| HttpError::Unavailable(error.to_string()))?;
    Ok(WantedRoot::Made { provider, key_kind })
}

fn rotation_to(call: &Call, state: &State, root: WantedRoot, wanted: &Wanted) -> Result<RotationRequest, HttpError> {
    let (active, providers) = (active(state)?, &call.edge.context.providers);
    let may_be_without = wanted.without_cross_signing;
    let is_bridged = is_bridged(active, providers, call.now(), may_be_without, "ForceWithoutCrossSigning")?;
    Ok(RotationRequest {
        cause: RotationCause::Configuration,
        expected_active: active.made.id,
        wanted: root,
        is_bridged,
        pauses_before_activation: false,
        ack_timeout: ACK_TIMEOUT,
    })
}

/// Waits a while until a rotation has activated its root; one that takes longer goes on by itself.
async fn wait_for_activation(call: &Call, id: Revision, deadline: Instant) -> Result<(), HttpError> {
    let replica = &call.edge.context.replica;
    let mut root = None;
    while Instant::now() < deadline {
        let applied = replica.state();
        match applied.state.rotation().filter(|rotation| rotation.id == id) {
            Some(rotation) if rotation.activated_at.is_some() => return Ok(()),
            Some(rotation) => root = rotation.root,
            None => {
                let root = root.and_then(|id| applied.state.roots(Ca::Mesh).find(&id));
                let last = applied.state.last_rotation().filter(|last| last.rotation.id == id);
                let was_active = root.is_some_and(|root| root.activation > 0)
                    || last.is_some_and(|last| last.rotation.activated_at.is_some());
                return if was_active { Ok(()) } else { Err(given_up(id)) };
            }
        }
        let seen = applied.state.modified(&WatchKey::Rotation);
        if let Err(error) = replica.wait_for(WatchKey::Rotation, seen, deadline).await {
            tracing::debug!(%error, "a rotation is not waited for");
            break;
        }
    }
    Ok(())
}

fn given_up(id: Revision) -> HttpError {
    HttpError::Conflict(format!(
        "rotation {id}, which this change began, was taken back before it activated its root: the key is the former one again, what else \
         was changed stays"
    ))
}

/// A secondary shows indexes of its own log, and what is written is compared in the primary's: one means nothing in the other, and
/// equal numbers would be chance.
fn check_index_is_of_primary(wanted: &Wanted, state: &State) -> Result<(), HttpError> {
    let (Some(index), Some(primary)) = (wanted.modify_index, state.primary()) else { return Ok(()) };
    Err(HttpError::BadRequest(format!(
        "ModifyIndex {index} cannot be compared: the CA configuration is written in the primary datacenter `{primary}`, whose indexes are \
         others than those that are read here; read it and write it with `?dc={primary}`, or leave ModifyIndex out"
    )))
}

fn shape(stored: &StoredCaConfig, rotation_period: Option<Duration>) -> Configuration {
    let config = &stored.config;
    let keys = Keys {
        csr_max_concurrent: config.csr_max_concurrent,
        csr_max_per_second: config.csr_max_per_second,
        intermediate_cert_ttl: span::format(config.intermediate_ttl),
        leaf_cert_ttl: span::format(config.leaf_ttl),
        private_key_bits: config.key_kind.consul_bits(),
        private_key_type: config.key_kind.consul_type(),
        root_cert_ttl: span::format(config.root_ttl),
        rotation_period: rotation_period.map(span::format),
    };
    Configuration {
        provider: PROVIDER,
        config: keys,
        state: None,
        force_without_cross_signing: false,
        create_index: stored.created.0,
        modify_index: stored.modified.0,
    }
}

#[cfg(test)]
mod tests;
