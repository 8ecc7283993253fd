//! Policies as Consul's users write them, and what is refused.

use proptest::prelude::*;

use super::*;

fn read(source: &str) -> Vec<String> {
    let rules = parse_rules(source).unwrap_or_else(|error| panic!("{source}: {error}"));
    rules.iter().map(|rule| format!("{:?} {:?} {}", rule.resource, rule.scope, rule.access)).collect()
}

fn refusal(source: &str) -> String {
    parse_rules(source).unwrap_err().to_string()
}

#[test]
fn every_resource_of_consul_is_read() {
    let source = r#"
        acl = "read"  keyring = "write"
        mesh = "deny"
        operator = "read"
        peering = "write"
        agent "a" { policy = "read" }           agent_prefix "" { policy = "write" }
        event "e" { policy = "read" }           event_prefix "" { policy = "deny" }
        identity "i" { policy = "write" intentions = "write" }
        identity_prefix "" { policy = "read" }
        key "k" { policy = "list" }             key_prefix "k/" { policy = "list" }
        node "n" { policy = "write" }           node_prefix "" { policy = "read" }
        query "q" { policy = "read" }           query_prefix "" { policy = "write" }
        service "s" { policy = "write", intentions = "write" }
        service_prefix "" { policy = "read" }
        session "x" { policy = "write" }        session_prefix "" { policy = "read" }
    "#;
    let rules = read(source);
    assert_eq!(rules.len(), 25);
    assert_eq!(rules[0], "Acl All read");
    assert!(rules.contains(&"Key Prefix(\"k/\") list".into()));
    assert!(rules.contains(&"Intention Exact(\"s\") write".into()));
    assert!(rules.contains(&"IdentityIntention Prefix(\"\") read".into()));
}

#[test]
fn intentions_follow_the_service_unless_they_are_set() {
    let intentions = |policy: &str| read(&format!("service \"web\" {{ {policy} }}"))[0].clone();
    assert_eq!(intentions("policy = \"write\""), "Intention Exact(\"web\") read");
    assert_eq!(intentions("policy = \"read\""), "Intention Exact(\"web\") read");
    assert_eq!(intentions("policy = \"deny\""), "Intention Exact(\"web\") deny");
    assert_eq!(intentions("policy = \"read\" intentions = \"write\""), "Intention Exact(\"web\") write");
    assert_eq!(intentions("policy = \"write\" intentions = \"deny\""), "Intention Exact(\"web\") deny");
}

#[test]
fn json_says_the_same() {
    let hcl = read("acl = \"read\"\nservice \"web\" { policy = \"write\" }\nkey_prefix \"\" { policy = \"deny\" }");
    for json in [
        r#"{"acl": "read", "service": {"web": {"policy": "write"}}, "key_prefix": {"": {"policy": "deny"}}}"#,
        r#" {"acl": "read", "service": [{"web": {"policy": "write"}}], "key_prefix": {"": [{"policy": "deny"}]}}"#,
    ] {
        assert_eq!(read(json), hcl, "{json}");
    }
    assert!(read("").is_empty());
    assert!(read("{}").is_empty());
    assert!(read("# nothing yet\n").is_empty());
}

#[test]
fn the_order_and_repetition_of_rules_do_not_matter() {
    let (web, api) = ("service \"web\" { policy = \"write\" }\n", "service \"api\" { policy = \"read\" }\n");
    assert_eq!(read(&[web, api].concat()), read(&[api, web, api].concat()));
}

#[test]
fn what_consul_does_not_know_is_refused_with_its_line() {
    assert!(
        refusal("\nservices \"web\" { policy = \"write\" }")
            .starts_with("line 2: unknown resource `services`; known are acl,")
    );
    assert!(refusal("acl_prefix \"\" { policy = \"read\" }").starts_with("line 1: unknown resource `acl_prefix`"));
    let line = |source: &str| refusal(source);
    assert_eq!(
        line("node \"n\" {\n policy = \"read\"\n intentions = \"read\" }"),
        "line 3: `node` has no setting `intentions`"
    );
    assert!(line("key \"\" {\n sentinel { code = \"x\" } }").starts_with("line 1: `key` is written with a name"));
    assert!(line("service \"web\" { policy = \"list\" }").starts_with("line 1: `list` is not a level of access"));
    assert!(line("service \"web\" { policy = \"Write\" }").contains("`Write` is not a level"));
    assert!(line("service \"web\" { policy = \"\" }").contains("`` is not a level"));
    assert!(line("operator = \"list\"").contains("`list` is not a level"));
    assert_eq!(line("service \"web\" { policy = \"read\"\npolicy = \"write\" }"), "line 2: `policy` is there twice");
}

#[test]
fn a_rule_in_another_form_is_refused() {
    for bad in [
        "operator { policy = \"read\" }",
        "operator \"x\" { policy = \"read\" }",
        "operator = [\"read\"]",
        "service = \"read\"",
        "service { policy = \"read\" }",
        "service \"a\" \"b\" { policy = \"read\" }",
        "service \"a\" { }",
        "service \"a\" { intentions = \"read\" }",
        "service \"a\" { policy = [\"read\"] }",
        "service \"a\" { policy { } }",
        "service = [\"a\"]",
        "service \"a\" [ \"b\" ]",
    ] {
        assert!(parse_rules(bad).is_err(), "{bad}");
    }
}

#[test]
fn size_and_number_of_rules_are_bounded() {
    let bytes = RULES_BYTES_MAX + 1;
    assert_eq!(parse_rules(&" ".repeat(bytes)), Err(RulesError::TooLarge { bytes }));
    let nodes =
        |count: usize| (0..count).map(|n| format!("node \"{n}\" {{ policy = \"read\" }}\n")).collect::<String>();
    assert_eq!(parse_rules(&nodes(RULES_MAX)).map(|rules| rules.len()), Ok(RULES_MAX));
    assert_eq!(parse_rules(&nodes(RULES_MAX + 1)), Err(RulesError::TooMany));
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(words in prop::collection::vec(
        prop::sample::select(vec!["service", "\"web\"", "{", "}", "[", "]", "=", ":", ",", "policy", "\"write\"", "acl", "\n", "#"]), 0..20)) {
        let _ = parse_rules(&words.join(" "));
    }
}
