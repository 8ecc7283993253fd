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
    key::KeyKind,
    planted::{self, Bug},
    root::{Ca, NewRoot, Root},
    rotation::{ACK_TIMEOUT, RotationCause, RotationRequest, WantedRoot},
    x509::{CertificateFacts, pem, supplied::SuppliedError},
};
use serde::Serialize;
use tokio::time::Instant;
use zeroize::Zeroizing;

pub(super) use self::wanted::check_passed_on;
use self::wanted::{Key, Wanted};
use super::{answer::Answer, call::Call, error::HttpError, span};
use crate::{
    provider::{ProviderError, RootRequest, SealTo, SuppliedRoot, SuppliedRootError},
    server::task::chain_of,
};

/// Consul's name of the provider whose root key the servers hold themselves; carrack's own is accepted beside it.
const PROVIDER: &str = "consul";
const PROVIDERS: [&str; 2] = [PROVIDER, "builtin"];

/// How long a rotation is waited for.
const ACTIVATED_WITHIN: Duration = Duration::from_secs(30);

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
    let wanted = Wanted::read(&call.body)?;
    let view = call.committed_view().await?;
    check_index_is_of_primary(&wanted, view.state())?;
    view.state().only_in_primary("the CA configuration")?;
    let stored = view.state().ca_config();
    let supplied = wanted.supplied.as_ref().map(|supplied| import(&call, view.state(), &wanted, supplied));
    let supplied = supplied.transpose()?;
    let key = match &supplied {
        None => wanted.key(stored.config.key_kind)?,
        Some(supplied) => wanted.key_beside(stored.config.key_kind, supplied.key_kind())?,
    };
    let config = wanted.config_with(key.kind());
    config.validate().map_err(|error| HttpError::BadRequest(error.to_string()))?;
    let root = match (supplied, key) {
        (Some(Imported::New(made)), _) => Some(WantedRoot::Supplied(made)),
        (None, Key::Other(key_kind)) => Some(made_by_provider(view.state(), key_kind)?),
        (Some(Imported::Active(_)) | None, _) => None,
    };
    let rotation = root.map(|root| rotation_to(view.state(), root, &wanted)).transpose()?.map(Box::new);
    let rotation_period = wanted.rotation_period.unwrap_or(view.state().rotation_period());
    let is_same = config == stored.config && rotation_period == view.state().rotation_period();
    if is_same && rotation.is_none() {
        return Ok(Answer::empty().into_response());
    }
    let read = wanted.modify_index.filter(|_| !planted::is(Bug::ConfigurationNotCompared));
    let expected = read.map_or(stored.modified, Revision);
    let rotates = rotation.is_some();
    tracing::warn!(rotates, accessor = ?view.caller.accessor(), "an operator changes the CA configuration");
    let proposed = call.propose(Command::SetCaConfig { expected, config, rotation_period, rotation }).await?;
    if !rotates {
        return Ok(Answer::empty().into_response());
    }
    wait_for_activation(&call, Revision(proposed.index)).await?;
    Ok(Answer::empty().with_rotation(proposed.index).into_response())
}

/// A root that the operator supplies.
enum Imported {
    /// It is the active one already.
    Active(KeyKind),
    /// It is another one.
    New(Box<NewRoot>),
}

impl Imported {
    fn key_kind(&self) -> KeyKind {
        match self {
            Self::Active(kind) => *kind,
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
    let active = active(state)?;
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
        Err(ProviderError::Supplied(refused)) if is_active_one(&refused, root_cert, active) => {
            Ok(Imported::Active(active.made.key_kind))
        }
        Err(ProviderError::Supplied(refused)) => Err(HttpError::BadRequest(refused.to_string())),
        Err(error) => Err(HttpError::Unavailable(chain_of(&error))),
    }
}

/// Whether a root was refused because it is the active one: written again, as Consul's clients do with what they have in a file.
fn is_active_one(refused: &SuppliedRootError, root_cert: &str, active: &Root) -> bool {
    let SuppliedRootError::Certificates(SuppliedError::AlreadyHere { other, .. }) = refused else { return false };
    let is_same_certificate = || {
        let certificates = pem::decode_certificates(root_cert).unwrap_or_default();
        certificates.first() == Some(&active.made.certificate)
    };
    *other == active.made.id && (root_cert.trim().is_empty() || is_same_certificate())
}

fn active(state: &State) -> Result<&Root, HttpError> {
    let active = state.roots(Ca::Mesh).active().map(|root| &**root);
    active.ok_or_else(|| {
        HttpError::Unavailable("there is no active root yet to rotate away from: see `carrack status`".into())
    })
}

fn made_by_provider(state: &State, key_kind: KeyKind) -> Result<WantedRoot, HttpError> {
    Ok(WantedRoot::Made { provider: active(state)?.made.provider.clone(), key_kind })
}

fn rotation_to(state: &State, root: WantedRoot, wanted: &Wanted) -> Result<RotationRequest, HttpError> {
    Ok(RotationRequest {
        cause: RotationCause::Configuration,
        expected_active: active(state)?.made.id,
        wanted: root,
        is_bridged: !wanted.without_cross_signing,
        pauses_before_activation: false,
        ack_timeout: ACK_TIMEOUT,
    })
}

/// Waits a while until a rotation has activated its root; one that takes longer goes on by itself.
async fn wait_for_activation(call: &Call, id: Revision) -> Result<(), HttpError> {
    let deadline = Instant::now() + ACTIVATED_WITHIN;
    let replica = &call.edge.context.replica;
    while Instant::now() < deadline {
        let applied = replica.state();
        let is_waited_for =
            applied.state.rotation().is_some_and(|rotation| rotation.id == id && rotation.activated_at.is_none());
        if !is_waited_for {
            let last = applied.state.last_rotation();
            let was_given_up = last.is_some_and(|last| last.rotation.id == id && last.rotation.activated_at.is_none());
            return if was_given_up { Err(given_up(id)) } else { Ok(()) };
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
