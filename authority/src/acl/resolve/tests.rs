//! The decision against a naive evaluator, in every order of rules; and Consul's service and node identities.

use proptest::prelude::*;

use super::*;
use crate::acl::rules::parse_rules;

fn policy(source: &str) -> Arc<[Rule]> {
    parse_rules(source).unwrap().into()
}

fn with_rules(source: &str) -> Authorizer {
    Authorizer::new([policy(source)], [], [])
}

fn name(text: &str) -> Name {
    Name::parse("name", text).unwrap()
}

#[test]
fn nothing_is_allowed_without_a_rule_and_everything_to_management() {
    let questions: [fn(&Authorizer) -> bool; 14] = [
        |it| it.service_read("web"),
        |it| it.service_write("web"),
        |it| it.intention_read("web"),
        |it| it.intention_write("*"),
        |it| it.node_read("n"),
        |it| it.node_write("n"),
        |it| it.agent_read("n"),
        |it| it.agent_write("n"),
        |it| it.acl_read(),
        |it| it.acl_write(),
        |it| it.operator_read(),
        |it| it.operator_write(),
        |it| it.mesh_read(),
        |it| it.mesh_write(),
    ];
    for (number, question) in questions.iter().enumerate() {
        assert!(!question(&Authorizer::default()), "{number}");
        assert!(!question(&with_rules("")), "{number}");
        assert!(question(&Authorizer::management()), "{number}");
    }
}

#[test]
fn the_exact_name_beats_every_prefix_and_the_longest_prefix_the_others() {
    let it = with_rules(
        r#"
        service_prefix "" { policy = "deny" }
        service_prefix "web" { policy = "write" }
        service_prefix "web-" { policy = "read" }
        service "web-admin" { policy = "write" }
        service "web" { policy = "deny" }
        "#,
    );
    let may_write = |name: &str| it.service_write(name);
    assert!(may_write("web1") && may_write("web-admin"));
    assert!(!may_write("web") && !may_write("web-x") && !may_write("api") && !may_write("web-admin2"));
    assert!(it.service_read("web-x") && !it.service_read("web"));
}

#[test]
fn between_policies_deny_beats_write_and_write_beats_read() {
    let level = |levels: &[&str]| {
        let policies = levels.iter().map(|level| policy(&format!("node \"n\" {{ policy = \"{level}\" }}")));
        let it = Authorizer::new(policies, [], []);
        (it.node_read("n"), it.node_write("n"))
    };
    assert_eq!(level(&["read", "write"]), (true, true));
    assert_eq!(level(&["write", "deny"]), (false, false));
    assert_eq!(level(&["deny", "read", "write"]), (false, false));
    assert_eq!(level(&["read", "read"]), (true, false));
}

#[test]
fn a_service_identity_is_itself_and_its_sidecar_and_sees_services_and_nodes() {
    let it = Authorizer::new([], [name("web")], []);
    assert!(it.service_write("web") && it.service_write("web-sidecar-proxy"));
    assert!(!it.service_write("web2") && !it.service_write("we") && !it.service_write("api-sidecar-proxy"));
    assert!(it.service_read("api") && it.node_read("n") && it.intention_read("api"));
    assert!(!it.node_write("n") && !it.intention_write("web") && !it.acl_read() && !it.operator_read());
    let written_out = with_rules(
        r#"
        service "web" { policy = "write" }
        service "web-sidecar-proxy" { policy = "write" }
        service_prefix "" { policy = "read" }
        node_prefix "" { policy = "read" }
        "#,
    );
    for resource in [Resource::Service, Resource::Intention, Resource::Node] {
        assert_eq!(it.by_scope(resource), written_out.by_scope(resource), "{resource:?}");
    }
}

#[test]
fn a_policy_that_denies_a_service_beats_the_identity_that_is_it() {
    let it = Authorizer::new([policy("service \"web\" { policy = \"deny\" }")], [name("web")], []);
    assert!(!it.service_write("web") && !it.service_read("web"));
    assert!(it.service_write("web-sidecar-proxy"));
}

#[test]
fn a_node_identity_is_its_node_and_sees_services() {
    let it = Authorizer::new([], [], [name("n")]);
    assert!(it.node_write("n") && it.service_read("web"));
    assert!(!it.node_read("m") && !it.service_write("n"));
}

#[test]
fn intentions_of_every_service_need_a_rule_for_all_that_none_takes_back() {
    let all = "service_prefix \"\" { policy = \"read\" intentions = \"write\" }";
    let one = "service \"web\" { policy = \"read\" intentions = \"write\" }";
    let except = "service \"db\" { policy = \"read\" }";
    assert!(with_rules(all).intention_write("*"));
    assert!(!with_rules(one).intention_write("*"));
    assert!(!with_rules(&format!("{all}\n{except}")).intention_write("*"));
    assert!(with_rules(one).intention_read("*"));
    assert!(!with_rules("service \"web\" { policy = \"deny\" }").intention_read("*"));
}

#[test]
fn the_mesh_follows_the_rule_for_operators_unless_it_has_its_own() {
    assert!(with_rules("operator = \"write\"").mesh_write());
    assert!(!with_rules("operator = \"write\"\nmesh = \"read\"").mesh_write());
    assert!(with_rules("mesh = \"write\"").mesh_write());
    assert!(!with_rules("acl = \"write\"").mesh_read());
}

#[test]
fn listing_keys_is_more_than_reading_and_less_than_writing() {
    let it = with_rules("key_prefix \"a\" { policy = \"list\" }\nkey_prefix \"b\" { policy = \"read\" }");
    let allows = |key: &str, wanted| it.allows(Resource::Key, key, wanted);
    assert!(allows("a", Access::Read) && allows("a", Access::List) && !allows("a", Access::Write));
    assert!(allows("b", Access::Read) && !allows("b", Access::List));
    assert!(!allows("c", Access::Deny), "deny is nothing that can be wanted");
}

/// Consul's decision, written down without regard to cost: merge, then look for the exact name, then for each shorter prefix.
fn naive(rules: &[Rule], resource: Resource, name: &str) -> Option<Access> {
    let at = |scope: &Scope| {
        let levels: Vec<Access> = rules
            .iter()
            .filter(|rule| rule.resource == resource && rule.scope == *scope)
            .map(|rule| rule.access)
            .collect();
        [Access::Deny, Access::Write, Access::List, Access::Read].into_iter().find(|level| levels.contains(level))
    };
    let prefixes = (0..=name.len()).rev().map(|length| Scope::Prefix(name[..length].to_owned()));
    std::iter::once(Scope::Exact(name.to_owned())).chain(prefixes).find_map(|scope| at(&scope))
}

fn permutations(rules: &[Rule]) -> Vec<Vec<Rule>> {
    if rules.len() < 2 {
        return vec![rules.to_vec()];
    }
    let each = (0..rules.len()).flat_map(|first| {
        let rest = [&rules[..first], &rules[first + 1..]].concat();
        permutations(&rest).into_iter().map(move |rest| [&[rules[first].clone()][..], &rest].concat())
    });
    each.collect()
}

fn rule() -> impl Strategy<Value = Rule> {
    let resource = prop::sample::select(vec![Resource::Service, Resource::Node]);
    let access = prop::sample::select(vec![Access::Deny, Access::Read, Access::List, Access::Write]);
    (resource, "[ab]{0,3}", any::<bool>(), access).prop_map(|(resource, text, is_exact, access)| {
        let scope = if is_exact { Scope::Exact(text) } else { Scope::Prefix(text) };
        Rule { resource, scope, access }
    })
}

proptest! {
    #[test]
    fn no_order_of_rules_and_policies_changes_the_decision(
        rules in prop::collection::vec(rule(), 0..5), name in "[ab]{0,4}", cut in 0..5_usize,
    ) {
        let expected = naive(&rules, Resource::Service, &name);
        for order in permutations(&rules) {
            let (first, second) = order.split_at(cut.min(order.len()));
            let it = Authorizer::new([first.into(), second.into()], [], []);
            prop_assert_eq!(it.decide(Resource::Service, &name), expected);
            prop_assert_eq!(it.service_write(&name), expected == Some(Access::Write));
            prop_assert_eq!(it.service_read(&name), expected.is_some_and(|access| access != Access::Deny));
        }
    }

    #[test]
    fn a_deny_never_adds_a_right(rules in prop::collection::vec(rule(), 0..8), denied in rule(), name in "[ab]{0,4}") {
        let before = Authorizer::new([rules.clone().into()], [], []);
        let denied = Rule { access: Access::Deny, ..denied };
        let after = Authorizer::new([rules.into(), [denied].into()], [], []);
        prop_assert!(before.service_write(&name) || !after.service_write(&name));
        prop_assert!(before.service_read(&name) || !after.service_read(&name));
    }

    #[test]
    fn what_is_allowed_on_all_names_is_allowed_on_each(rules in prop::collection::vec(rule(), 0..6), name in "[ab]{0,4}") {
        let it = Authorizer::new([rules.into()], [], []);
        prop_assert!(!it.allows_all(Resource::Service, Access::Write) || it.service_write(&name));
        prop_assert!(!it.service_write(&name) || it.allows_any(Resource::Service, Access::Write));
    }
}
