//! What a PUT of the CA configuration asks for.

use std::{fmt, time::Duration};

use axum::body::Bytes;
use carrack_authority::{ca_config::CaConfig, key::KeyKind};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{PROVIDER, PROVIDERS};
use crate::api::http::{error::HttpError, fields::Fields};

/// What is asked for.
pub(super) struct Wanted {
    /// Everything but the kind of key, absent keys at their defaults.
    pub(super) config: CaConfig,
    key_type: Option<String>,
    key_bits: Option<u32>,
    /// `PrivateKey` and `RootCert`, if either is there.
    pub(super) supplied: Option<(Zeroizing<String>, String)>,
    /// `RotationPeriod`: absent, it stays; zero is none.
    pub(super) rotation_period: Option<Option<Duration>>,
    /// `ForceWithoutCrossSigning`
    pub(super) without_cross_signing: bool,
    /// The configuration that is to be replaced, and no other; `None`: whichever is there.
    pub(super) modify_index: Option<u64>,
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, modify_index, .. } = self;
        f.debug_struct("Wanted").field("config", config).field("modify_index", modify_index).finish_non_exhaustive()
    }
}

/// The kind of the root's key, beside the present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// As it is.
    Same(KeyKind),
    /// Another one.
    Other(KeyKind),
}

impl Key {
    fn new(present: KeyKind, kind: KeyKind) -> Self {
        if kind == present { Self::Same(kind) } else { Self::Other(kind) }
    }

    pub(super) const fn kind(self) -> KeyKind {
        match self {
            Self::Same(kind) | Self::Other(kind) => kind,
        }
    }
}

/// A request with a root's key goes to no other datacenter: its servers would see the key. What goes is what was read, and nothing that
/// stands in the text beside that.
pub(in crate::api::http) fn passed_on(body: &[u8]) -> Result<Bytes, HttpError> {
    if Wanted::read(body)?.supplied.is_none() {
        let read = serde_json::from_slice::<Value>(body).and_then(|read| serde_json::to_vec(&read));
        return read.map(Bytes::from).map_err(|error| HttpError::Internal(error.to_string()));
    }
    Err(HttpError::BadRequest(
        "a request with PrivateKey is not passed on to another datacenter, whose servers would see it; send it to a server of the primary"
            .into(),
    ))
}

impl Wanted {
    pub(super) fn read(body: &[u8]) -> Result<Self, HttpError> {
        let mut fields = Fields::of_body("the CA configuration", body)?;
        let provider = fields.some_text("Provider")?;
        let config = fields.take("Config").unwrap_or(Value::Null);
        let state = fields.take("State");
        let without_cross_signing = fields.flag("ForceWithoutCrossSigning")?.unwrap_or_default();
        fields.ignore(&["CreateIndex"]);
        let modify_index = fields.index("ModifyIndex")?;
        fields.finish()?;
        check_provider(provider.as_deref())?;
        if state.is_some_and(|state| state.as_object().is_none_or(|state| !state.is_empty())) {
            let text = "Provider State is read-only. It must be omitted or identical to the current value";
            return Err(HttpError::BadRequest(text.into()));
        }
        let keys = Self::read_keys(Fields::of_value("Config", config)?)?;
        // Consul's clients have the flag in either place.
        let without_cross_signing = without_cross_signing || keys.without_cross_signing;
        Ok(Self { modify_index, without_cross_signing, ..keys })
    }

    fn read_keys(mut keys: Fields) -> Result<Self, HttpError> {
        let default = CaConfig::default();
        let config = CaConfig {
            leaf_ttl: keys.span("LeafCertTTL")?.unwrap_or(default.leaf_ttl),
            intermediate_ttl: keys.span("IntermediateCertTTL")?.unwrap_or(default.intermediate_ttl),
            root_ttl: keys.span("RootCertTTL")?.unwrap_or(default.root_ttl),
            key_kind: default.key_kind,
            csr_max_per_second: keys.number("CSRMaxPerSecond")?.unwrap_or(default.csr_max_per_second),
            csr_max_concurrent: keys.number("CSRMaxConcurrent")?.unwrap_or(default.csr_max_concurrent),
        };
        let (key_type, key_bits) = (keys.some_text("PrivateKeyType")?, keys.number("PrivateKeyBits")?);
        let private_key = keys.some_text("PrivateKey")?.map(Zeroizing::new);
        let root_cert = keys.some_text("RootCert")?;
        let rotation_period = keys.span_or_zero("RotationPeriod")?;
        let without_cross_signing = keys.flag("ForceWithoutCrossSigning")?.unwrap_or_default();
        keys.finish()?;
        let is_supplied = private_key.is_some() || root_cert.is_some();
        Ok(Self {
            config,
            key_type,
            key_bits: key_bits.filter(|bits| *bits != 0),
            supplied: is_supplied.then(|| (private_key.unwrap_or_default(), root_cert.unwrap_or_default())),
            rotation_period: rotation_period.map(|period| (!period.is_zero()).then_some(period)),
            without_cross_signing,
            modify_index: None,
        })
    }

    /// The configuration that is wanted, with this kind of key.
    pub(super) fn config_with(&self, key_kind: KeyKind) -> CaConfig {
        CaConfig { key_kind, ..self.config }
    }

    /// The kind of key that is wanted instead of the present one.
    pub(super) fn key(&self, present: KeyKind) -> Result<Key, HttpError> {
        let key_type = self.key_type.as_deref().unwrap_or(present.consul_type());
        let bits = self.key_bits.unwrap_or_else(|| match &self.key_type {
            // A type alone means its usual size, as with Consul.
            Some(key_type) if key_type != present.consul_type() => default_bits(key_type),
            _ => present.consul_bits(),
        });
        let kind = KeyKind::from_consul(key_type, bits).map_err(|error| HttpError::BadRequest(error.to_string()))?;
        Ok(Key::new(present, kind))
    }

    /// The kind of a supplied key. What was read before and is written back beside it says nothing against it.
    pub(super) fn key_beside(&self, present: KeyKind, supplied: KeyKind) -> Result<Key, HttpError> {
        let said = self.key(present)?.kind();
        if said != present && said != supplied {
            return Err(HttpError::BadRequest(format!(
                "PrivateKeyType and PrivateKeyBits say {said}, and PrivateKey is a key of the kind {supplied}: leave them out, or give \
                 those of the key"
            )));
        }
        Ok(Key::new(present, supplied))
    }
}

fn default_bits(key_type: &str) -> u32 {
    if key_type == "rsa" { 2048 } else { 256 }
}

fn check_provider(provider: Option<&str>) -> Result<(), HttpError> {
    match provider {
        None => Err(HttpError::BadRequest(format!("Provider is missing; it is `{PROVIDER}`"))),
        Some(provider) if PROVIDERS.contains(&provider) => Ok(()),
        Some(provider @ ("vault" | "aws-pca" | "pkcs11" | "external")) => Err(HttpError::NotImplemented(format!(
            "the CA provider {provider} is not offered here; nothing was changed. A root of another CA is brought with PrivateKey and \
             RootCert"
        ))),
        Some(_) => Err(HttpError::BadRequest(format!("unknown CA provider; known are {}", PROVIDERS.join(", ")))),
    }
}
