//! The effective configuration, in the form of the file that would give it, with where each value comes from.

use super::{Config, HostPort, Loaded, Recovery, Source, UNLIMITED, duration, key::SERVER};

impl Config {
    /// The value of each setting in the form of the file; settings without a value are absent.
    pub fn values(&self) -> Vec<(&'static str, toml::Value)> {
        let found = SERVER.keys.iter().map(|key| (key.name, self.value(key.name)));
        found.filter_map(|(name, value)| Some((name, value?))).collect()
    }

    fn value(&self, name: &str) -> Option<toml::Value> {
        let text = |text: &dyn ToString| Some(toml::Value::String(text.to_string()));
        let span = |span| Some(toml::Value::String(duration::format(span)));
        let bound = |most: Option<std::time::Duration>| most.map_or_else(|| text(&UNLIMITED), span);
        let number = |number: u64| i64::try_from(number).ok().map(toml::Value::Integer);
        let listener = |address: &Option<std::net::SocketAddr>| match address {
            Some(address) => text(address),
            None => text(&"off"),
        };
        let advertised = |address: &HostPort| text(address);
        match name {
            "data_dir" => text(&self.data_dir.display()),
            "datacenter" => text(&self.datacenter),
            "node_name" => text(&self.node_name),
            "trust_domain" => self.trust_domain.as_ref().and_then(|domain| text(domain)),
            "recovery_recipient" => match &self.recovery {
                Some(Recovery::Recipient(recipient)) => text(recipient),
                _ => None,
            },
            "without_recovery" => Some(toml::Value::Boolean(self.recovery == Some(Recovery::Without))),
            "default_intention_policy" => self.default_intention_policy.and_then(|action| text(&action)),
            "listen.raft" => text(&self.listen.raft),
            "listen.grpc" => text(&self.listen.grpc),
            "listen.wan" => listener(&self.listen.wan),
            "listen.http" => listener(&self.listen.http),
            "listen.https" => listener(&self.listen.https),
            "listen.metrics" => listener(&self.listen.metrics),
            "advertise.raft" => advertised(&self.advertise.raft),
            "advertise.grpc" => advertised(&self.advertise.grpc),
            "advertise.wan" => self.advertise.wan.as_ref().and_then(advertised),
            "ca.leaf_cert_ttl" => span(self.ca.leaf_ttl),
            "ca.intermediate_cert_ttl" => span(self.ca.intermediate_ttl),
            "ca.root_cert_ttl" => span(self.ca.root_ttl),
            "ca.private_key_type" => text(&self.ca.key_kind.consul_type()),
            "ca.private_key_bits" => number(self.ca.key_kind.consul_bits().into()),
            "ca.csr_max_per_second" => number(self.ca.csr_max_per_second.into()),
            "ca.csr_max_concurrent" => number(self.ca.csr_max_concurrent.into()),
            "ca.halt_staleness_max" => bound(self.halt_staleness_max),
            "acl.token_staleness_max" => bound(self.acl.token_staleness_max),
            "raft.heartbeat_interval" => span(self.raft.heartbeat_interval),
            "raft.election_timeout_min" => span(self.raft.election_timeout_min),
            "raft.election_timeout_max" => span(self.raft.election_timeout_max),
            "raft.snapshot_threshold" => number(self.raft.snapshot_threshold),
            "raft.trailing_logs" => number(self.raft.trailing_logs),
            "log.format" => text(&self.log.format),
            "log.level" => text(&self.log.level),
            // `listen.address` and `advertise.address` only fill in others, which are shown.
            _ => None,
        }
    }
}

impl<C> Loaded<C> {
    /// The configuration as a TOML file with comments; read again, it gives the same configuration.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut table = "";
        for (name, value) in &self.values {
            let (of, key) = name.split_once('.').unwrap_or(("", name));
            if of != table {
                text.push_str(&format!("\n[{of}]\n"));
                table = of;
            }
            let line = format!("{key} = {value}");
            match self.source(name) {
                Source::Default => text.push_str(&format!("{line}\n")),
                source => text.push_str(&format!("{line:<44} # {source}\n")),
            }
        }
        text
    }

    /// The configuration as nested objects.
    pub fn to_table(&self) -> toml::Table {
        let mut root = toml::Table::new();
        for (name, value) in self.values.clone() {
            match name.split_once('.') {
                None => {
                    root.insert(name.into(), value);
                }
                Some((of, key)) => {
                    let table = root.entry(of).or_insert_with(|| toml::Value::Table(toml::Table::new()));
                    table.as_table_mut().map(|table| table.insert(key.into(), value));
                }
            }
        }
        root
    }
}
