//! The rules of each setting and those between settings. Every rule is looked at, so that all problems are told at once.

use std::{path::PathBuf, time::Duration};

use carrack_authority::{
    ca_config::{BadCaConfig, CSR_LIMIT_MAX, CaConfig, INTERMEDIATE_TTL_MIN, LEAF_TTL_MIN, ROOT_TTL_MAX},
    intention::Action,
    key::KeyKind,
    spiffe::{Name, TrustDomain},
};

use super::{
    AclSettings, Config, LogFormat, LogSettings, Purpose, RaftSettings, Recovery, duration, listeners::Listeners,
    read::Reader,
};

/// Shorter heartbeats than this cost more CPU than they win in failover.
const HEARTBEAT_MIN: Duration = Duration::from_millis(10);
/// A follower that waits longer than this for a new leader is an outage.
const ELECTION_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Fewer entries than this and the server does nothing but snapshots.
const SNAPSHOT_THRESHOLD_MIN: u64 = 100;
/// More entries than this and a restart replays for minutes.
const SNAPSHOT_THRESHOLD_MAX: u64 = 10_000_000;

/// A secondary writes at least every 30 s that it has heard the primary: half of this, so that one that is late is none that is missing.
const STALENESS_MIN: Duration = Duration::from_secs(60);
/// No bound on a span of time.
pub(crate) const UNLIMITED: &str = "unlimited";

/// The configuration; `None` only if the reader has problems.
pub(super) fn config(reader: &mut Reader, purpose: Purpose) -> Option<Config> {
    let data_dir = data_dir(reader);
    let datacenter = reader.read("datacenter", "use a short name such as dc1", |text| Name::parse("datacenter", text));
    let node_name = node_name(reader);
    let trust_domain = reader.read("trust_domain", "use a name such as example.org", str::parse::<TrustDomain>);
    let recovery = recovery(reader, purpose);
    let listeners = Listeners::read(reader);
    let advertise = listeners.advertise(reader);
    let (ca, raft, log) = (ca(reader), raft(reader), log(reader));
    let halt_staleness_max = staleness_max(reader, "ca.halt_staleness_max");
    let token_staleness_max = staleness_max(reader, "acl.token_staleness_max");
    let default_intention_policy = default_intention_policy(reader);
    Some(Config {
        data_dir: data_dir?,
        datacenter: datacenter?,
        node_name: node_name?,
        trust_domain,
        recovery,
        listen: listeners.complete()?,
        advertise: advertise?,
        ca: ca?,
        halt_staleness_max: halt_staleness_max?,
        acl: AclSettings { token_staleness_max: token_staleness_max? },
        default_intention_policy,
        raft: raft?,
        log: log?,
    })
}

pub(super) fn data_dir(reader: &mut Reader) -> Option<PathBuf> {
    let remedy = "name a directory, for example --data-dir /var/lib/carrack";
    reader.require("data_dir", remedy, |text| {
        let path = PathBuf::from(text);
        let is_other = path.exists() && !path.is_dir();
        if is_other { Err("it exists and is no directory") } else { Ok(path) }
    })
}

fn node_name(reader: &mut Reader) -> Option<Name> {
    let remedy = "give this server a name, for example --node-name a";
    if reader.text("node_name").is_some() {
        return reader.read("node_name", remedy, |text| Name::parse("node name", text));
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = Name::parse("the host's name", &host);
    name.map_err(|error| reader.refuse("node_name", &format!("it is taken from the host, but {error}"), remedy)).ok()
}

fn recovery(reader: &mut Reader, purpose: Purpose) -> Option<Recovery> {
    const NAME: &str = "recovery_recipient";
    let remedy = "make one with `age-keygen` and give its public key, which begins with age1";
    let recipient = reader.read(NAME, remedy, |text| text.parse::<age::x25519::Recipient>().map(|key| key.to_string()));
    let is_given = reader.text(NAME).is_some();
    let is_without = reader.switch("without_recovery")?;
    match (is_given, is_without) {
        (true, true) => reader.refuse(NAME, "without_recovery = true contradicts it", "leave one of them out"),
        (false, false) if purpose == Purpose::Bootstrap => {
            let why = "the first server must know who can open the root key when every server is lost";
            reader.refuse(NAME, why, &format!("{remedy}; or accept that loss with --without-recovery"));
        }
        _ => {}
    }
    recipient.map(Recovery::Recipient).or(is_without.then_some(Recovery::Without))
}

fn ca(reader: &mut Reader) -> Option<CaConfig> {
    let leaf_ttl = reader.duration("ca.leaf_cert_ttl");
    let intermediate_ttl = reader.duration("ca.intermediate_cert_ttl");
    let root_ttl = reader.duration("ca.root_cert_ttl");
    let key_kind = key_kind(reader);
    let csr_max_per_second = reader.number("ca.csr_max_per_second", 0, u64::from(CSR_LIMIT_MAX));
    let csr_max_concurrent = reader.number("ca.csr_max_concurrent", 0, u64::from(CSR_LIMIT_MAX));
    let config = CaConfig {
        leaf_ttl: leaf_ttl?,
        intermediate_ttl: intermediate_ttl?,
        root_ttl: root_ttl?,
        key_kind: key_kind?,
        csr_max_per_second: u32::try_from(csr_max_per_second?).ok()?,
        csr_max_concurrent: u32::try_from(csr_max_concurrent?).ok()?,
    };
    refuse_bad_ca(reader, config);
    Some(config)
}

fn key_kind(reader: &mut Reader) -> Option<KeyKind> {
    let bits = reader.number("ca.private_key_bits", 1, 1 << 16)?;
    let remedy = "change ca.private_key_type and ca.private_key_bits together";
    let bits = u32::try_from(bits).ok()?;
    reader.read("ca.private_key_type", remedy, |key_type| KeyKind::from_consul(key_type, bits))
}

/// Tells every bound that is broken: the domain's own check ends at its first, so each broken value is replaced and looked past.
fn refuse_bad_ca(reader: &mut Reader, mut config: CaConfig) {
    while let Err(error) = config.validate() {
        let (name, remedy) = match error {
            BadCaConfig::LeafTooShort(_) | BadCaConfig::LeafTooLong(_) => {
                config.leaf_ttl = LEAF_TTL_MIN;
                ("ca.leaf_cert_ttl", "use 1h to 8760h")
            }
            BadCaConfig::IntermediateTooShort(_) | BadCaConfig::IntermediateBelowLeaves { .. } => {
                config.intermediate_ttl = INTERMEDIATE_TTL_MIN.max(config.leaf_ttl * 3);
                ("ca.intermediate_cert_ttl", "make it longer, or ca.leaf_cert_ttl shorter")
            }
            BadCaConfig::RootBelowIntermediate { .. } | BadCaConfig::RootTooLong(_) => {
                config.root_ttl = config.intermediate_ttl;
                if config.root_ttl > ROOT_TTL_MAX {
                    config.intermediate_ttl = ROOT_TTL_MAX;
                    config.root_ttl = ROOT_TTL_MAX;
                }
                ("ca.root_cert_ttl", "use a span between ca.intermediate_cert_ttl and 876000h")
            }
            BadCaConfig::LimitTooHigh { .. } => {
                config.csr_max_per_second = 0;
                config.csr_max_concurrent = 0;
                ("ca.csr_max_per_second", "use 0 to derive it from the CPU")
            }
        };
        reader.refuse(name, &error.to_string(), remedy);
    }
}

/// How long a secondary goes by what it heard of the primary last; `Some(None)`: without bound.
fn staleness_max(reader: &mut Reader, name: &'static str) -> Option<Option<Duration>> {
    if reader.text(name).is_none_or(|text| text == UNLIMITED) {
        return Some(None);
    }
    let most = reader.duration(name)?;
    if most < STALENESS_MIN {
        let why = "a secondary notes only now and then that the primary was heard";
        let remedy = format!("use at least {}, or {UNLIMITED}", duration::format(STALENESS_MIN));
        reader.refuse(name, why, &remedy);
    }
    Some(Some(most))
}

/// `None`: what ACLs do with what no rule names, or the reader has a problem with it.
fn default_intention_policy(reader: &mut Reader) -> Option<Action> {
    reader.read("default_intention_policy", "write allow or deny, or leave it out", |text| {
        let action = [Action::Allow, Action::Deny].into_iter().find(|action| action.as_str() == text);
        action.ok_or("there is no such policy")
    })
}

fn raft(reader: &mut Reader) -> Option<RaftSettings> {
    let heartbeat_interval = reader.duration("raft.heartbeat_interval");
    let election_timeout_min = reader.duration("raft.election_timeout_min");
    let election_timeout_max = reader.duration("raft.election_timeout_max");
    let snapshot_threshold = reader.number("raft.snapshot_threshold", SNAPSHOT_THRESHOLD_MIN, SNAPSHOT_THRESHOLD_MAX);
    let trailing_logs = reader.number("raft.trailing_logs", 0, SNAPSHOT_THRESHOLD_MAX);
    let (heartbeat, least, most) = (heartbeat_interval?, election_timeout_min?, election_timeout_max?);
    let shown = duration::format;
    if heartbeat < HEARTBEAT_MIN {
        let remedy = format!("use at least {}", shown(HEARTBEAT_MIN));
        reader.refuse("raft.heartbeat_interval", "so many heartbeats leave no CPU for issuing", &remedy);
    }
    if least < heartbeat * 3 {
        let why = format!("one lost heartbeat ({}) must not start an election", shown(heartbeat));
        reader.refuse("raft.election_timeout_min", &why, &format!("use at least {}", shown(heartbeat * 3)));
    }
    if most <= least || most > ELECTION_TIMEOUT_MAX {
        let why = format!("it must be longer than raft.election_timeout_min ({}), or elections tie", shown(least));
        let remedy = format!("use for example {}, at most {}", shown(least * 2), shown(ELECTION_TIMEOUT_MAX));
        reader.refuse("raft.election_timeout_max", &why, &remedy);
    }
    let (snapshot_threshold, trailing_logs) = (snapshot_threshold?, trailing_logs?);
    Some(RaftSettings {
        heartbeat_interval: heartbeat,
        election_timeout_min: least,
        election_timeout_max: most,
        snapshot_threshold,
        trailing_logs,
    })
}

pub(super) fn log(reader: &mut Reader) -> Option<LogSettings> {
    let format = reader.read("log.format", "write auto, pretty or json", |text| match text {
        "auto" => Ok(LogFormat::Auto),
        "pretty" => Ok(LogFormat::Pretty),
        "json" => Ok(LogFormat::Json),
        _ => Err("there is no such form"),
    });
    let level = reader.read("log.level", "write error, warn, info, debug or trace", |text| {
        tracing_subscriber::EnvFilter::builder().parse(text).map(|_| text.to_owned())
    });
    Some(LogSettings { format: format?, level: level? })
}
