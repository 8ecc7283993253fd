//! The command line where no server is: exit codes, and a configuration with every kind of mistake.

use std::fs;

use carrack_tests::command::Carrack;

#[test]
fn done_is_0_failed_is_1_and_wrong_use_is_2() {
    let code = |arguments: &[&str]| Carrack::new(arguments).run().code;
    assert_eq!(code(&["--version"]), Some(0));
    assert_eq!(code(&["status", "--http-addr", "127.0.0.1:1"]), Some(1));
    assert_eq!(code(&["no-such-command"]), Some(2));
    assert_eq!(code(&["status", "--http-addr", "http://192.0.2.1:8500"]), Some(2));
}

#[test]
fn every_mistake_of_a_configuration_is_told_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = "datacentre = \"dc1\"\n[listen]\nhttp = \"0.0.0.0:8500\"\n[ca]\nleaf_cert_ttl = \"1m\"\n";
    fs::write(directory.path().join("carrack.toml"), file).expect("the file is written");
    let validate = Carrack::new(["config", "validate", "--config", "carrack.toml", "--node-name", "a b"]);
    let ended = validate.directory(directory.path()).env("CARRACK_LOG_FORMAT", "xml").run();
    assert_eq!((ended.code, ended.output.as_str()), (Some(1), ""));
    for key in ["datacentre", "listen.http", "ca.leaf_cert_ttl", "node_name", "log.format", "data_dir"] {
        assert!(ended.errors.contains(&format!("\n  {key} ")), "{key} in {}", ended.errors);
    }
    assert!(ended.errors.contains("did you mean datacenter?"), "{}", ended.errors);
}

#[test]
fn an_agent_is_told_its_mistakes_at_once_too_before_it_begins() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = "data_dri = \"x\"\ndatacenter = \"dc1\"\n[listen]\nhttp = \"0.0.0.0:8500\"\n";
    fs::write(directory.path().join("agent.toml"), file).expect("the file is written");
    for command in [&["agent"][..], &["config", "validate", "--agent"], &["config", "show", "--agent"]] {
        let command = Carrack::new(command.iter().chain(&["--config", "agent.toml", "--log-level", "a=b=c"]));
        let ended = command.directory(directory.path()).env("CARRACK_AGENT_LOG_FORMAT", "xml").run();
        assert_eq!((ended.code, ended.output.as_str()), (Some(1), ""), "{}", ended.errors);
        for key in ["data_dri", "datacenter", "listen.http", "log.format", "log.level"] {
            assert!(ended.errors.contains(&format!("\n  {key} ")), "{key} in {}", ended.errors);
        }
        assert!(ended.errors.contains("did you mean data_dir?"), "{}", ended.errors);
        assert!(ended.errors.contains("use 127.0.0.1:8500"), "{}", ended.errors);
        assert!(ended.errors.contains("`carrack config show --agent`"), "{}", ended.errors);
    }
    let servers = Carrack::new(["config", "show", "--agent", "--node-name", "a"]).run();
    assert_eq!(servers.code, Some(2));
    assert!(servers.errors.contains("node_name is a setting of servers alone"), "{}", servers.errors);

    fs::write(directory.path().join("agent.toml"), "[listen]\nhttp = \"127.0.0.1:8600\"\n").expect("it is written");
    let show = Carrack::new(["config", "show", "--agent"]).env("CARRACK_CONFIG", "agent.toml");
    let shown = show.env("CARRACK_AGENT_DATA_DIR", "agent").directory(directory.path()).run().expect_output();
    assert!(shown.contains("# CARRACK_AGENT_DATA_DIR\n") && shown.contains("# file\n"), "{shown}");
    fs::write(directory.path().join("agent.toml"), shown).expect("it is written");
    let agent = Carrack::new(["agent", "--config", "agent.toml"]).directory(directory.path()).run();
    assert!(agent.errors.contains("the data directory agent holds no agent yet"), "{}", agent.errors);
}

#[test]
fn a_configuration_that_is_shown_is_a_file_that_validates() {
    let directory = tempfile::tempdir().expect("a directory");
    let show = ["config", "show", "--data-dir", "data", "--listen-address", "127.0.0.1", "--datacenter", "dc7"];
    let shown = Carrack::new(show).run().expect_output();
    fs::write(directory.path().join("carrack.toml"), shown).expect("the file is written");
    let validate = Carrack::new(["config", "validate", "--format", "json"]).env("CARRACK_CONFIG", "carrack.toml");
    let validated = validate.directory(directory.path()).run().expect_json();
    assert_eq!(validated["Valid"], true);
}
