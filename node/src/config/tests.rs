//! Layers, defaults, and every rule: each with the words that a person would read.

use std::fs;

use super::*;

const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

fn layers(file: Option<PathBuf>, environment: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Layers {
    let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Layers { file, environment, flags: flags.iter().map(|(name, value)| (*name, (*value).into())).collect() }
}

fn with_flags(flags: &[(&'static str, &str)]) -> Result<Loaded, ConfigError> {
    let mut all = vec![("data_dir", "data"), ("node_name", "a"), ("listen.address", "127.0.0.1")];
    all.extend(flags);
    load(&layers(None, &[], &all), Purpose::Start)
}

fn problems(result: Result<Loaded, ConfigError>) -> Vec<Problem> {
    match result {
        Err(ConfigError::Problems(problems)) => problems,
        other => panic!("problems were expected, not {other:?}"),
    }
}

fn keys(problems: &[Problem]) -> Vec<&str> {
    problems.iter().map(|problem| problem.key.as_str()).collect()
}

#[test]
fn a_directory_and_an_address_are_enough() {
    let loaded = load(&layers(None, &[], &[("data_dir", "data"), ("advertise.address", "10.0.0.1")]), Purpose::Start);
    let config = loaded.expect("nothing else is needed").config;
    assert_eq!(config.datacenter.as_str(), "dc1");
    assert_eq!(config.listen.raft.to_string(), "0.0.0.0:8300");
    assert_eq!(config.listen.http.map(|address| address.to_string()), Some("127.0.0.1:8500".into()));
    assert_eq!(config.listen.metrics, None);
    assert_eq!(config.advertise.raft.to_string(), "10.0.0.1:8300");
    assert_eq!(config.advertise.grpc.to_string(), "10.0.0.1:8503");
    assert_eq!(config.listen.wan.map(|address| address.to_string()), Some("0.0.0.0:8302".into()));
    assert_eq!(config.advertise.wan.map(|address| address.to_string()), Some("10.0.0.1:8302".into()));
    assert_eq!(config.ca, CaConfig::default());
}

#[test]
fn a_flag_beats_a_variable_and_a_variable_beats_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("carrack.toml");
    let text = "data_dir = \"from-file\"\ndatacenter = \"from-file\"\nnode_name = \"from-file\"\n\
                [listen]\naddress = \"127.0.0.1\"\n[raft]\nsnapshot_threshold = 777\n";
    fs::write(&file, text).expect("the file is written");
    let environment = [("CARRACK_DATACENTER", "from-variable"), ("CARRACK_NODE_NAME", "from-variable")];
    let loaded = load(&layers(Some(file), &environment, &[("node_name", "from-flag")]), Purpose::Start);
    let loaded = loaded.expect("it is valid");
    assert_eq!(loaded.config.data_dir, PathBuf::from("from-file"));
    assert_eq!(loaded.config.datacenter.as_str(), "from-variable");
    assert_eq!(loaded.config.node_name.as_str(), "from-flag");
    assert_eq!(loaded.config.raft.snapshot_threshold, 777);
    assert_eq!(loaded.source("datacenter"), Source::Variable("CARRACK_DATACENTER".into()));
    assert_eq!(loaded.source("log.level"), Source::Default);
}

#[test]
fn all_problems_are_told_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("carrack.toml");
    let text = "datacentre = \"dc1\"\nwithout_recovery = 1.5\n[listen]\nhttp = \"0.0.0.0:8500\"\nraft = \"nonsense\"\n\
                [lissten]\nraft = 1\n[ca]\nleaf_cert_ttl = \"10m\"\n[log]\nformat = \"xml\"\n";
    fs::write(&file, text).expect("the file is written");
    let environment = [("CARRACK_NODE_NAME", "a/b"), ("CARRACK_RAFT_SNAPSHOT_THRESHOLD", "many")];
    let found = problems(load(&layers(Some(file), &environment, &[("trust_domain", "Upper")]), Purpose::Start));
    let mut keys = keys(&found);
    keys.sort_unstable();
    let expected = [
        "advertise.address",
        "ca.leaf_cert_ttl",
        "data_dir",
        "datacentre",
        "lissten",
        "listen.http",
        "listen.raft",
        "log.format",
        "node_name",
        "raft.snapshot_threshold",
        "trust_domain",
        "without_recovery",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn a_problem_says_key_value_source_reason_and_remedy() {
    let found = problems(with_flags(&[("listen.http", "0.0.0.0:8500")]));
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["listen.http = \"0.0.0.0:8500\" (--listen-http): plain HTTP carries tokens and is served on loopback only; \
          use 127.0.0.1:8500, and listen.https for other machines"]
    );
    let found = problems(load(&layers(None, &[], &[("listen.address", "::1")]), Purpose::Start));
    assert_eq!(
        found[0].to_string(),
        "data_dir is not set: it has no default; name a directory, for example --data-dir /var/lib/carrack"
    );
}

#[test]
fn a_first_server_must_know_who_can_recover_the_root_key() {
    let flags = [("data_dir", "data"), ("listen.address", "127.0.0.1")];
    let bootstrap =
        |more: &[(&'static str, &str)]| load(&layers(None, &[], &[&flags[..], more].concat()), Purpose::Bootstrap);
    assert_eq!(keys(&problems(bootstrap(&[]))), ["recovery_recipient"]);
    assert_eq!(
        keys(&problems(bootstrap(&[("recovery_recipient", RECIPIENT), ("without_recovery", "true")]))),
        ["recovery_recipient"]
    );
    assert_eq!(keys(&problems(bootstrap(&[("recovery_recipient", "age1nonsense")]))), ["recovery_recipient"]);
    let sealed = bootstrap(&[("recovery_recipient", RECIPIENT)]).expect("it is valid");
    assert_eq!(sealed.config.recovery, Some(Recovery::Recipient(RECIPIENT.into())));
    let without = bootstrap(&[("without_recovery", "true")]).expect("it is valid");
    assert_eq!(without.config.recovery, Some(Recovery::Without));
}

#[test]
fn each_rule_refuses_what_breaks_it() {
    for (key, value) in [
        ("datacenter", "dc 1"),
        ("listen.address", "localhost"),
        ("listen.raft", "127.0.0.1:0"),
        ("listen.raft", "off"),
        ("listen.wan", "127.0.0.1:0"),
        ("listen.wan", "127.0.0.1:8300"),
        ("listen.http", "192.0.2.1:8500"),
        ("listen.https", "127.0.0.1"),
        ("listen.metrics", "127.0.0.1:8300"),
        ("advertise.address", "0.0.0.0"),
        ("advertise.raft", "10.0.0.1"),
        ("advertise.raft", "bad host:8300"),
        ("advertise.wan", "10.0.0.1"),
        ("advertise.wan", "0.0.0.0:8302"),
        ("ca.leaf_cert_ttl", "59m"),
        ("ca.leaf_cert_ttl", "8761h"),
        ("ca.intermediate_cert_ttl", "100h"),
        ("ca.root_cert_ttl", "8000h"),
        ("ca.private_key_bits", "224"),
        ("ca.private_key_type", "dsa"),
        ("ca.csr_max_per_second", "-1"),
        ("acl.token_staleness_max", "59s"),
        ("ca.halt_staleness_max", "59s"),
        ("ca.halt_staleness_max", "never"),
        ("default_intention_policy", "maybe"),
        ("acl.token_staleness_max", "for ever"),
        ("raft.heartbeat_interval", "1ms"),
        ("raft.heartbeat_interval", "200ms"),
        ("raft.election_timeout_max", "500ms"),
        ("raft.election_timeout_max", "2h"),
        ("raft.snapshot_threshold", "0"),
        ("raft.trailing_logs", "-1"),
        ("log.format", "xml"),
        ("log.level", "carrack=loud"),
        ("without_recovery", "yes"),
    ] {
        assert!(!problems(with_flags(&[(key, value)])).is_empty(), "{key} = {value}");
    }
}

#[test]
fn two_listeners_never_share_a_port() {
    let found = problems(with_flags(&[("listen.https", "0.0.0.0:8500")]));
    assert_eq!(keys(&found), ["listen.https"]);
    assert!(with_flags(&[("listen.http", "127.0.0.2:8500"), ("listen.https", "127.0.0.1:8500")]).is_ok());
}

#[test]
fn a_server_without_a_wan_listener_tells_no_wan_address() {
    let off = with_flags(&[("listen.wan", "off")]).expect("it is valid").config;
    assert_eq!((off.listen.wan, off.advertise.wan), (None, None));
    let found = problems(with_flags(&[("listen.wan", "off"), ("advertise.wan", "192.0.2.1:8302")]));
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "advertise.wan = \"192.0.2.1:8302\" (--advertise-wan): listen.wan is off, so no server of another datacenter \
          can be answered there; leave it out, or give listen.wan an address and a port"
        ]
    );
    let behind_a_router = with_flags(&[("advertise.wan", "wan.example.org:443")]).expect("it is valid").config;
    assert_eq!(behind_a_router.advertise.wan.map(|address| address.to_string()), Some("wan.example.org:443".into()));
}

#[test]
fn tokens_of_all_datacenters_are_honoured_without_bound_unless_one_is_set() {
    let most = |flags: &[(&'static str, &str)]| with_flags(flags).expect("it is valid").config.acl.token_staleness_max;
    assert_eq!(most(&[]), None);
    assert_eq!(most(&[("acl.token_staleness_max", "unlimited")]), None);
    assert_eq!(most(&[("acl.token_staleness_max", "90m")]), Some(Duration::from_secs(5400)));
}

#[test]
fn a_secondary_issues_without_the_primary_without_bound_unless_one_is_set() {
    let most = |flags: &[(&'static str, &str)]| with_flags(flags).expect("it is valid").config.halt_staleness_max;
    assert_eq!(most(&[]), None);
    assert_eq!(most(&[("ca.halt_staleness_max", "unlimited")]), None);
    assert_eq!(most(&[("ca.halt_staleness_max", "24h")]), Some(Duration::from_secs(86_400)));
}

#[test]
fn an_address_that_means_every_address_is_never_told_to_other_datacenters() {
    let flags = [("listen.raft", "127.0.0.1:8300"), ("listen.grpc", "127.0.0.1:8503"), ("listen.wan", "0.0.0.0:8302")];
    assert_eq!(keys(&problems(with_flags(&flags))), ["advertise.address"]);
}

#[test]
fn what_is_shown_reads_back_as_the_same_configuration() {
    for wan in ["off", "127.0.0.1:9302"] {
        let off = ("listen.https", "off");
        let flags = [
            ("recovery_recipient", RECIPIENT),
            off,
            ("listen.wan", wan),
            ("ca.leaf_cert_ttl", "1h30m"),
            ("default_intention_policy", "allow"),
        ];
        let loaded = with_flags(&flags).expect("it is valid");
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("shown.toml");
        fs::write(&file, loaded.to_toml()).expect("the file is written");
        let again = load(&layers(Some(file), &[], &[]), Purpose::Start).expect("it is valid");
        assert_eq!(again.config, loaded.config);
        let table: toml::Table = loaded.to_toml().parse().expect("it is TOML");
        assert_eq!(table, loaded.to_table());
    }
}

#[test]
fn a_variable_that_means_nothing_is_a_warning() {
    let environment = [("CARRACK_LISTEN_HTPS", "x"), ("CARRACK_TOKEN", "x"), ("CARRACKET", "x")];
    let flags = [("data_dir", "data"), ("listen.address", "127.0.0.1")];
    let loaded = load(&layers(None, &environment, &flags), Purpose::Start).expect("it is valid");
    assert_eq!(loaded.warnings, ["CARRACK_LISTEN_HTPS is set, but there is no such setting: it is ignored"]);
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_named() {
    let missing = load(&layers(Some("no/such.toml".into()), &[], &[]), Purpose::Start).expect_err("no file");
    assert_eq!(missing.to_string(), "cannot read the configuration file no/such.toml");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("carrack.toml");
    fs::write(&file, "data_dir = \n").expect("the file is written");
    let broken = load(&layers(Some(file), &[], &[]), Purpose::Start).expect_err("no TOML");
    assert!(matches!(broken, ConfigError::Syntax { .. }));
}
