//! What an agent is told. Who it is comes with its token, and where its servers are it hears from them.

use std::{net::SocketAddr, path::PathBuf};

use super::{ConfigError, Layers, Loaded, LogSettings, key::AGENT, load_as, read::Reader, validate};

/// Everything that an agent is told, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// Where it keeps its key.
    pub data_dir: PathBuf,
    /// Where it answers the workloads of its host; loopback.
    pub http: SocketAddr,
    /// Form and amount of log lines.
    pub log: LogSettings,
}

impl AgentConfig {
    fn read(reader: &mut Reader) -> Option<Self> {
        let (data_dir, http, log) = (validate::data_dir(reader), http(reader), validate::log(reader));
        Some(Self { data_dir: data_dir?, http: http?, log: log? })
    }

    fn values(&self) -> Vec<(&'static str, toml::Value)> {
        let text = |value: &dyn ToString| toml::Value::String(value.to_string());
        vec![
            ("data_dir", text(&self.data_dir.display())),
            ("listen.http", text(&self.http)),
            ("log.format", text(&self.log.format)),
            ("log.level", text(&self.log.level)),
        ]
    }
}

fn http(reader: &mut Reader) -> Option<SocketAddr> {
    const NAME: &str = "listen.http";
    let address = reader.read(NAME, "write an IP address and a port, such as 127.0.0.1:8500", |text| match text
        .parse::<SocketAddr>(
    ) {
        Ok(address) if address.port() == 0 => Err("port 0 would be another one at each start"),
        Ok(address) => Ok(address),
        Err(_) => Err("it is no IP address with a port"),
    })?;
    if !address.ip().is_loopback() {
        let remedy = format!("use 127.0.0.1:{}", address.port());
        reader.refuse(NAME, "the answers hold private keys, and are for this machine alone", &remedy);
    }
    Some(address)
}

/// Reads and validates an agent's configuration; every problem is in the error.
pub fn load_agent(layers: &Layers) -> Result<Loaded<AgentConfig>, ConfigError> {
    load_as(layers, &AGENT, AgentConfig::read, AgentConfig::values)
}
