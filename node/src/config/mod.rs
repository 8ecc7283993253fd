//! What a server or agent is told: a TOML file, `CARRACK_*` variables and flags, laid over each other and validated as a whole.
//! What the replicated state holds afterwards (the CA configuration, the trust domain) is set from here at bootstrap only.

pub mod agent;
pub mod duration;
pub mod key;
pub mod layers;
mod listeners;
pub mod problem;
mod read;
mod show;
mod validate;

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use carrack_authority::{
    ca_config::CaConfig,
    intention::Action,
    spiffe::{Name, TrustDomain},
};

pub use layers::Layers;
pub use problem::{ConfigError, Problem, Source};
pub(crate) use validate::UNLIMITED;

/// Everything that a server is told, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where keys, log and snapshots are.
    pub data_dir: PathBuf,
    /// The datacenter of this server.
    pub datacenter: Name,
    /// The name of this server.
    pub node_name: Name,
    /// The trust domain to bootstrap with; `None`: `<uuid>.carrack`.
    pub trust_domain: Option<TrustDomain>,
    /// Who can open the root key when all servers are lost; `None`: not said, so this server cannot bootstrap.
    pub recovery: Option<Recovery>,
    /// Where this server listens.
    pub listen: Listen,
    /// Where others reach it.
    pub advertise: Advertise,
    /// The CA configuration to bootstrap with.
    pub ca: CaConfig,
    /// A secondary issues for this long after the primary was heard, which may have halted every datacenter; `None`: however long it is
    /// silent.
    pub halt_staleness_max: Option<Duration>,
    /// What a secondary makes of tokens while the primary is silent.
    pub acl: AclSettings,
    /// What holds between services that no intention is about; `None`: what ACLs do with what no rule names.
    pub default_intention_policy: Option<Action>,
    /// Timings and sizes of the replicated log.
    pub raft: RaftSettings,
    /// Form and amount of log lines.
    pub log: LogSettings,
}

/// The operator's choice about losing every server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// The root key is sealed to this age public key too.
    Recipient(String),
    /// The root key is lost with the servers' keys.
    Without,
}

/// The listeners of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Raft and cluster.
    pub raft: SocketAddr,
    /// gRPC of agents and of joining servers.
    pub grpc: SocketAddr,
    /// Servers of other datacenters; `None`: off.
    pub wan: Option<SocketAddr>,
    /// Plain HTTP, on loopback; `None`: off.
    pub http: Option<SocketAddr>,
    /// HTTP over TLS; `None`: off.
    pub https: Option<SocketAddr>,
    /// An own listener for metrics and health; `None`: off.
    pub metrics: Option<SocketAddr>,
}

/// The addresses that a server tells others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// Of the raft listener.
    pub raft: HostPort,
    /// Of the gRPC listener.
    pub grpc: HostPort,
    /// Of the WAN listener; `None`: it is off.
    pub wan: Option<HostPort>,
}

/// What a secondary makes of tokens while the primary is silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AclSettings {
    /// Tokens of all datacenters are honoured for this long after the primary was heard; `None`: however long it is silent, as
    /// Consul's `extend-cache`.
    pub token_staleness_max: Option<Duration>,
}

/// Timings and sizes of the replicated log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftSettings {
    /// Time between a leader's heartbeats.
    pub heartbeat_interval: Duration,
    /// Shortest silence after which a follower stands for election.
    pub election_timeout_min: Duration,
    /// Longest such silence.
    pub election_timeout_max: Duration,
    /// Log entries after which a snapshot is taken.
    pub snapshot_threshold: u64,
    /// Log entries kept behind a snapshot.
    pub trailing_logs: u64,
}

/// Form and amount of log lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The form.
    pub format: LogFormat,
    /// A filter in `tracing`'s form, such as `info` or `info,carrack_raft=debug`.
    pub level: String,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Pretty => "pretty",
            Self::Json => "json",
        })
    }
}

/// A host name or IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The host, an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// The longest host name (RFC 1035 section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { host: address.ip().to_string(), port: address.port() });
        }
        let (host, port) = text.rsplit_once(':').ok_or("it has no port")?;
        let port = port.parse().map_err(|_| format!("`{port}` is no port"))?;
        host_name(host).map(|host| Self { host, port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Checks a host name's characters and length; IP addresses pass.
fn host_name(text: &str) -> Result<String, String> {
    let is_address = text.parse::<std::net::IpAddr>().is_ok();
    let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    match !text.is_empty() && text.len() <= HOST_BYTES_MAX && (is_address || is_name) {
        true => Ok(text.into()),
        false => Err(format!("`{}` is no host name or IP address", text.escape_default())),
    }
}

/// What the configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The first server of a datacenter: `recovery_recipient` or `without_recovery` is needed.
    Bootstrap,
    /// Any other start.
    Start,
}

/// A configuration with what is worth telling about it.
#[derive(Clone, Debug)]
pub struct Loaded<C = Config> {
    /// The configuration.
    pub config: C,
    /// What looks like a mistake but is none for certain.
    pub warnings: Vec<String>,
    sources: BTreeMap<&'static str, Source>,
    /// The value of each setting in the form of the file; settings without a value are absent.
    values: Vec<(&'static str, toml::Value)>,
}

impl<C> Loaded<C> {
    /// Where the value of a setting comes from.
    pub fn source(&self, name: &str) -> Source {
        self.sources.get(name).cloned().unwrap_or(Source::Default)
    }
}

/// Reads and validates a configuration; every problem is in the error.
pub fn load(layers: &Layers, purpose: Purpose) -> Result<Loaded, ConfigError> {
    load_as(layers, &key::SERVER, |reader| validate::config(reader, purpose), Config::values)
}

/// Reads what is told by the settings of a schema. `read` gives `None` only if the reader has problems.
fn load_as<C>(
    layers: &Layers,
    schema: &'static key::Schema,
    read: impl FnOnce(&mut read::Reader) -> Option<C>,
    values: impl FnOnce(&C) -> Vec<(&'static str, toml::Value)>,
) -> Result<Loaded<C>, ConfigError> {
    let overlay = layers::Overlay::read(layers, schema)?;
    let sources = overlay.settings.iter().map(|(name, setting)| (*name, setting.source.clone())).collect();
    let warnings = overlay.warnings;
    let mut reader = read::Reader::new(schema, overlay.settings, overlay.problems);
    match read(&mut reader) {
        Some(config) if reader.problems.is_empty() => {
            let values = values(&config);
            Ok(Loaded { config, warnings, sources, values })
        }
        _ => Err(ConfigError::Problems(reader.problems)),
    }
}

#[cfg(test)]
mod tests;
