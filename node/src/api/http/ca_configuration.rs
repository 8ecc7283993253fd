//! The CA configuration with Consul's keys. Each key of a PUT replaces what was there and an absent one takes its default,
//! except the key type: what would rotate the root is refused, `rotation` does that. With a `ModifyIndex` it is compared and set, as
//! with Consul. No answer holds a key.

use axum::response::Response;
use carrack_authority::{
    Command, State,
    ca_config::{CaConfig, StoredCaConfig},
    id::Revision,
    key::KeyKind,
    planted::{self, Bug},
};
use serde::Serialize;
use serde_json::Value;

use super::{answer::Answer, call::Call, error::HttpError, fields::Fields, span};

/// Consul's name of the provider whose root key the servers hold themselves; carrack's own is accepted beside it.
const PROVIDER: &str = "consul";
const PROVIDERS: [&str; 2] = [PROVIDER, "builtin"];

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
}

/// `GET /v1/connect/ca/configuration`
pub(super) async fn read(call: Call) -> Result<Response, HttpError> {
    let view = call.view().await?;
    let stored = view.state().ca_config();
    let answer = call.json(&shape(stored))?.with_index(stored.modified.0).with_freshness(view.freshness);
    Ok(answer.into_response())
}

/// `PUT /v1/connect/ca/configuration`
pub(super) async fn write(call: Call) -> Result<Response, HttpError> {
    let wanted = Wanted::read(&call.body)?;
    let view = call.committed_view().await?;
    check_index_is_of_primary(&wanted, view.state())?;
    view.state().only_in_primary("the CA configuration")?;
    let stored = view.state().ca_config();
    let config = wanted.applied_to(&stored.config)?;
    config.validate().map_err(|error| HttpError::BadRequest(error.to_string()))?;
    if config != stored.config {
        let read = wanted.modify_index.filter(|_| !planted::is(Bug::ConfigurationNotCompared));
        let expected = read.map_or(stored.modified, Revision);
        call.propose(Command::SetCaConfig { expected, config }).await?;
    }
    Ok(Answer::empty().into_response())
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

fn shape(stored: &StoredCaConfig) -> Configuration {
    let config = &stored.config;
    let keys = Keys {
        csr_max_concurrent: config.csr_max_concurrent,
        csr_max_per_second: config.csr_max_per_second,
        intermediate_cert_ttl: span::format(config.intermediate_ttl),
        leaf_cert_ttl: span::format(config.leaf_ttl),
        private_key_bits: config.key_kind.consul_bits(),
        private_key_type: config.key_kind.consul_type(),
        root_cert_ttl: span::format(config.root_ttl),
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

/// What a PUT asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    /// Everything but the key kind, absent keys at their defaults.
    config: CaConfig,
    key_type: Option<String>,
    key_bits: Option<u32>,
    /// The configuration that is to be replaced, and no other; `None`: whichever is there.
    modify_index: Option<u64>,
}

impl Wanted {
    fn read(body: &[u8]) -> Result<Self, HttpError> {
        let mut fields = Fields::of_body("the CA configuration", body)?;
        let provider = fields.some_text("Provider")?;
        let config = fields.take("Config").unwrap_or(Value::Null);
        let state = fields.take("State");
        // Nothing here rotates the root, so it changes nothing.
        fields.flag("ForceWithoutCrossSigning")?;
        fields.ignore(&["CreateIndex"]);
        let modify_index = fields.index("ModifyIndex")?;
        fields.finish()?;
        check_provider(provider.as_deref())?;
        if state.is_some_and(|state| state.as_object().is_none_or(|state| !state.is_empty())) {
            let text = "Provider State is read-only. It must be omitted or identical to the current value";
            return Err(HttpError::BadRequest(text.into()));
        }
        Ok(Self { modify_index, ..Self::read_keys(Fields::of_value("Config", config)?)? })
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
        for name in ["PrivateKey", "RootCert"] {
            if keys.some_text(name)?.is_some() {
                return Err(rotation(&format!("`{name}` brings another root")));
            }
        }
        if keys.span("RotationPeriod")?.is_some() {
            return Err(rotation("`RotationPeriod` schedules rotations"));
        }
        keys.finish()?;
        Ok(Self { config, key_type, key_bits: key_bits.filter(|bits| *bits != 0), modify_index: None })
    }

    /// The configuration that is wanted instead of the present one.
    fn applied_to(&self, present: &CaConfig) -> Result<CaConfig, HttpError> {
        let key_type = self.key_type.as_deref().unwrap_or(present.key_kind.consul_type());
        let bits = self.key_bits.unwrap_or_else(|| match &self.key_type {
            // A type alone means its usual size, as with Consul.
            Some(key_type) if key_type != present.key_kind.consul_type() => default_bits(key_type),
            _ => present.key_kind.consul_bits(),
        });
        let kind = KeyKind::from_consul(key_type, bits).map_err(|error| HttpError::BadRequest(error.to_string()))?;
        if kind != present.key_kind {
            let text = format!("the key would change from {} to {kind}", present.key_kind);
            return Err(rotation(&text));
        }
        Ok(CaConfig { key_kind: kind, ..self.config })
    }
}

fn default_bits(key_type: &str) -> u32 {
    if key_type == "rsa" { 2048 } else { 256 }
}

fn check_provider(provider: Option<&str>) -> Result<(), HttpError> {
    match provider {
        None => Err(HttpError::BadRequest(format!("Provider is missing; it is `{PROVIDER}`"))),
        Some(provider) if PROVIDERS.contains(&provider) => Ok(()),
        Some("vault" | "aws-pca" | "pkcs11" | "external") => Err(rotation(
            "another provider has another root, and providers other than the builtin one are not here yet",
        )),
        Some(_) => Err(HttpError::BadRequest(format!("unknown CA provider; known are {}", PROVIDERS.join(", ")))),
    }
}

fn rotation(why: &str) -> HttpError {
    HttpError::NotImplemented(format!(
        "this change means a new root ({why}), which the configuration does not bring about yet; nothing was changed: `carrack ca rotate` \
         makes a root with a key of another kind, and `carrack ca schedule` sets how often"
    ))
}

#[cfg(test)]
mod tests;
