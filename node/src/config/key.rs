//! Every setting of a server and of an agent, once: its key in the file, its flag, its default, what it is for. File, environment, flags and
//! `config show` follow it.

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The key in the TOML file, with its table: `listen.raft`.
    pub name: &'static str,
    /// The long flag without its dashes: `listen-raft`.
    pub flag: &'static str,
    /// The form of its value, for help.
    pub form: &'static str,
    /// The value without any setting; empty: none, or derived from other settings.
    pub default: &'static str,
    /// What it is for: one line of help.
    pub about: &'static str,
}

/// The settings of one kind of process.
#[derive(Debug)]
pub struct Schema {
    /// Each of them, in the order of `config show`.
    pub keys: &'static [Key],
    /// How their environment variables begin.
    prefix: &'static str,
    /// The command that prints all of them.
    pub show: &'static str,
}

/// The settings of a server.
pub static SERVER: Schema = Schema { keys: KEYS, prefix: VARIABLE_PREFIX, show: "carrack config show" };
/// The settings of an agent. Each name is a server's too, so that the same flag says it.
pub static AGENT: Schema = Schema { keys: AGENT_KEYS, prefix: "CARRACK_AGENT_", show: "carrack config show --agent" };

impl Schema {
    /// The environment variable of a setting: `CARRACK_LISTEN_RAFT`.
    pub fn variable(&self, key: &Key) -> String {
        format!("{}{}", self.prefix, key.name.replace('.', "_").to_uppercase())
    }

    /// The setting of this name.
    pub fn find(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The setting whose name is most like this one, for "did you mean"; `None` if none is close.
    pub fn closest(&self, name: &str) -> Option<&'static Key> {
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        let last = |name: &'static str| name.rsplit('.').next().unwrap_or(name);
        let distance = |key: &&Key| edits(name, key.name).min(edits(name, last(key.name)));
        self.keys.iter().min_by_key(distance).filter(|key| distance(key) <= EDITS_MAX)
    }

    /// Whether there is a table of this name.
    pub fn is_table(&self, name: &str) -> bool {
        self.keys.iter().any(|key| key.name.split_once('.').is_some_and(|(table, _)| table == name))
    }
}

/// Whether a variable that begins like one of ours is one: of a server, of an agent, or of the command line.
pub fn is_known_variable(name: &str) -> bool {
    let is_of = |schema: &Schema| schema.keys.iter().any(|key| schema.variable(key) == name);
    OTHER_VARIABLES.contains(&name) || is_of(&SERVER) || is_of(&AGENT)
}

impl Key {
    /// Whether the flag stands without a value.
    pub fn is_switch(&self) -> bool {
        self.form == SWITCH
    }
}

/// How each environment variable of carrack begins.
pub const VARIABLE_PREFIX: &str = "CARRACK_";
/// The form of a setting whose flag stands without a value.
const SWITCH: &str = "true|false";

/// Variables that begin like settings and are read by the command line itself.
pub const OTHER_VARIABLES: [&str; 8] = [
    "CARRACK_AGENT_TOKEN",
    "CARRACK_CACERT",
    "CARRACK_CONFIG",
    "CARRACK_FORMAT",
    "CARRACK_HTTP_ADDR",
    "CARRACK_JOIN_PRIMARY_TOKEN",
    "CARRACK_JOIN_TOKEN",
    "CARRACK_TOKEN",
];

macro_rules! keys {
    ($keys:ident: $($name:literal, $flag:literal, $form:expr, $default:literal: $about:literal;)*) => {
        const $keys: &[Key] =
            &[$(Key { name: $name, flag: $flag, form: $form, default: $default, about: $about }),*];
    };
}

keys! {
    AGENT_KEYS:
    "data_dir", "data-dir", "DIR", "/var/lib/carrack-agent":
        "Directory for the agent's key and certificate; made if missing, private to this user";
    "listen.http", "listen-http", "IP:PORT", "127.0.0.1:8500":
        "Where the agent answers the workloads of this host; loopback only";
    "log.format", "log-format", "auto|pretty|json", "auto":
        "Form of log lines; auto: pretty on a terminal, JSON otherwise";
    "log.level", "log-level", "FILTER", "info":
        "Least level of log lines, or a filter such as info,carrack=debug";
}

keys! {
    KEYS:
    "data_dir", "data-dir", "DIR", "":
        "Directory for keys, log and snapshots; made if missing, private to this user";
    "datacenter", "datacenter", "NAME", "dc1":
        "Name of this server's datacenter";
    "node_name", "node-name", "NAME", "":
        "Name of this server; default: the host's name";
    "trust_domain", "trust-domain", "NAME", "":
        "At bootstrap: the trust domain; default: <uuid>.carrack";
    "recovery_recipient", "recovery-recipient", "AGE1...", "":
        "At bootstrap: age public key to which the root key is sealed too";
    "without_recovery", "without-recovery", SWITCH, "false":
        "At bootstrap: no recovery key; the root key is lost with the servers' keys";
    "default_intention_policy", "default-intention-policy", "allow|deny", "":
        "What holds between services that no intention is about; default: as ACLs have it, deny";
    "listen.address", "listen-address", "IP", "0.0.0.0":
        "Address of the raft, grpc, wan and https listeners that have none of their own";
    "listen.raft", "listen-raft", "IP:PORT", "":
        "Raft and cluster, between servers; default port 8300";
    "listen.grpc", "listen-grpc", "IP:PORT", "":
        "gRPC of agents and first contact of joining servers; default port 8503";
    "listen.wan", "listen-wan", "IP:PORT|off", "":
        "Servers of other datacenters; default port 8302";
    "listen.http", "listen-http", "IP:PORT|off", "127.0.0.1:8500":
        "Consul-compatible HTTP, loopback only";
    "listen.https", "listen-https", "IP:PORT|off", "":
        "Consul-compatible HTTP over TLS; default port 8501";
    "listen.metrics", "listen-metrics", "IP:PORT|off", "off":
        "Own plain listener for /metrics, /livez and /readyz, beside the HTTP listener's";
    "advertise.address", "advertise-address", "HOST", "":
        "Address under which other machines reach this one; default: listen.address";
    "advertise.raft", "advertise-raft", "HOST:PORT", "":
        "Where other servers reach listen.raft; default: advertise.address and its port";
    "advertise.grpc", "advertise-grpc", "HOST:PORT", "":
        "Where others reach listen.grpc; default: advertise.address and its port";
    "advertise.wan", "advertise-wan", "HOST:PORT", "":
        "Where servers of other datacenters reach listen.wan; default: advertise.address and its port";
    "ca.leaf_cert_ttl", "leaf-cert-ttl", "DURATION", "72h":
        "At bootstrap: life of leaves";
    "ca.intermediate_cert_ttl", "intermediate-cert-ttl", "DURATION", "8760h":
        "At bootstrap: life of issuers";
    "ca.root_cert_ttl", "root-cert-ttl", "DURATION", "87600h":
        "At bootstrap: life of roots";
    "ca.private_key_type", "private-key-type", "ec|ed25519|rsa", "ec":
        "At bootstrap: key type of roots and issuers";
    "ca.private_key_bits", "private-key-bits", "BITS", "256":
        "At bootstrap: key size of roots and issuers";
    "ca.csr_max_per_second", "csr-max-per-second", "NUMBER", "0":
        "At bootstrap: CSRs a second; 0: derived from the CPU";
    "ca.csr_max_concurrent", "csr-max-concurrent", "NUMBER", "0":
        "At bootstrap: CSRs at once; 0: derived from the CPU";
    "ca.halt_staleness_max", "halt-staleness-max", "DURATION|unlimited", "unlimited":
        "In a secondary: how long it issues after the primary, which may have halted it, was heard";
    "acl.token_staleness_max", "token-staleness-max", "DURATION|unlimited", "unlimited":
        "In a secondary: how long tokens of all datacenters are honoured after the primary was heard";
    "raft.heartbeat_interval", "raft-heartbeat-interval", "DURATION", "100ms":
        "Time between a leader's heartbeats";
    "raft.election_timeout_min", "raft-election-timeout-min", "DURATION", "500ms":
        "Shortest silence after which a follower stands for election";
    "raft.election_timeout_max", "raft-election-timeout-max", "DURATION", "1s":
        "Longest such silence";
    "raft.snapshot_threshold", "raft-snapshot-threshold", "ENTRIES", "20000":
        "Log entries after which a snapshot is taken";
    "raft.trailing_logs", "raft-trailing-logs", "ENTRIES", "1000":
        "Log entries kept behind a snapshot, for servers that are a little behind";
    "log.format", "log-format", "auto|pretty|json", "auto":
        "Form of log lines; auto: pretty on a terminal, JSON otherwise";
    "log.level", "log-level", "FILTER", "info,openraft=error":
        "Least level of log lines, or a filter such as info,carrack_raft=debug";
}

/// More edits than this and a suggestion is a guess.
const EDITS_MAX: usize = 3;
/// Longer names are not compared: no setting is near, and comparing is quadratic.
const NAME_BYTES_MAX: usize = 64;

/// Levenshtein's distance.
fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, from) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_flags_and_variables_are_unique_and_no_setting_shadows_a_variable_of_the_command_line() {
        let mut variables = BTreeSet::new();
        for schema in [&SERVER, &AGENT] {
            let names: BTreeSet<_> = schema.keys.iter().map(|key| key.name).collect();
            let flags: BTreeSet<_> = schema.keys.iter().map(|key| key.flag).collect();
            assert_eq!([names.len(), flags.len()], [schema.keys.len(); 2]);
            variables.extend(schema.keys.iter().map(|key| schema.variable(key)));
        }
        assert_eq!(variables.len(), KEYS.len() + AGENT_KEYS.len());
        assert!(OTHER_VARIABLES.iter().all(|other| !variables.contains(*other)));
    }

    #[test]
    fn a_setting_of_an_agent_has_the_name_and_flag_of_a_servers() {
        for key in AGENT.keys {
            assert_eq!(SERVER.find(key.name).map(|of_server| of_server.flag), Some(key.flag), "{}", key.name);
        }
    }

    #[test]
    fn a_misspelt_name_finds_the_one_that_was_meant() {
        let closest = |name: &str| SERVER.closest(name).map(|key| key.name);
        assert_eq!(closest("datacentre"), Some("datacenter"));
        assert_eq!(closest("listen.htps"), Some("listen.https"));
        assert_eq!(closest("leaf_cert_tll"), Some("ca.leaf_cert_ttl"));
        assert!(closest("completely_unknown").is_none());
        assert_eq!(AGENT.closest("data_dri").map(|key| key.name), Some("data_dir"));
    }
}
