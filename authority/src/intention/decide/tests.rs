//! Tests of the decision, against a naive evaluator that sorts all rows.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    id::Revision,
    intention::{
        Party, Pattern,
        claims::{Claim, VerifiedClaims},
        permission::{ClaimTest, JwtProvider, JwtRequirement, Method},
    },
    time::Timestamp,
};

const ACL_DENIES: DefaultPolicy = DefaultPolicy::Acl(Action::Deny);
const ALL_ALLOWED: DefaultPolicy = DefaultPolicy::Intentions(Action::Allow);

fn name(text: &str) -> Name {
    Name::parse("name", text).unwrap()
}

fn row(destination: &str, source: &str, effect: Effect) -> Intention {
    Intention {
        destination: Party::parse("name", destination).unwrap(),
        source: Party::parse("name", source).unwrap(),
        effect,
        jwt: None,
        description: String::new(),
        meta: BTreeMap::new(),
        legacy_id: None,
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
        created: Revision(0),
        modified: Revision(0),
    }
}

fn l4(destination: &str, source: &str, action: Action) -> Intention {
    row(destination, source, Effect::Action(action))
}

fn permission(action: Action, path: PathTest) -> Permission {
    Permission { action, path, headers: Vec::new(), methods: Vec::new(), jwt: None }
}

fn l7(permissions: Vec<Permission>) -> Intention {
    row("db", "web", Effect::Permissions(permissions))
}

fn prefix(action: Action, path: &str) -> Permission {
    permission(action, PathTest::Prefix(path.into()))
}

fn get(target: &str, headers: &[(&str, &str)]) -> Request {
    Request::new("GET", target, headers.iter().copied(), VerifiedClaims::new())
}

fn asked<'a>(rows: &'a [Intention], request: Option<&Request>, default: DefaultPolicy) -> Decision<'a> {
    decide(rows, &name("web"), &name("db"), request, default)
}

fn is_allowed(row: &Intention, request: &Request) -> bool {
    asked(std::slice::from_ref(row), Some(request), ACL_DENIES).is_allowed
}

#[test]
fn the_reasons_are_consul_s() {
    let rows = [l4("*", "*", Action::Deny), l4("db", "web", Action::Allow), l4("db", "*", Action::Deny)];
    let decision = asked(&rows, None, ACL_DENIES);
    assert!(decision.is_allowed);
    assert_eq!(decision.reason(), "Matched L4 intention: default/web => default/db (Precedence: 9, Action: ALLOW)");
    let beaten: Vec<String> = decision.beaten.iter().map(|row| row.to_string()).collect();
    let expected = [
        "default/* => default/db (Precedence: 8, Action: DENY)",
        "default/* => default/* (Precedence: 5, Action: DENY)",
    ];
    assert_eq!(beaten, expected);
    let mut legacy = l7(vec![prefix(Action::Allow, "/"), prefix(Action::Deny, "/")]);
    legacy.legacy_id = Some(uuid::Uuid::from_u128(1));
    let rows = [legacy];
    let decision = asked(&rows, None, ALL_ALLOWED);
    assert!(!decision.is_allowed, "a connection alone never meets an L7 intention");
    assert_eq!(
        decision.reason(),
        "Matched L7 intention: default/web => default/db \
         (ID: 00000000-0000-0000-0000-000000000001, Precedence: 9, Permissions: 2)"
    );
    assert!(decision.detail().contains("there was none to look at"));
    for (default, is_allowed, reason) in [
        (ACL_DENIES, false, "Default behavior configured by ACLs"),
        (DefaultPolicy::Acl(Action::Allow), true, "Default behavior configured by ACLs"),
        (ALL_ALLOWED, true, "Default intention policy"),
        (DefaultPolicy::Intentions(Action::Deny), false, "Default intention policy"),
    ] {
        let decision = asked(&[], None, default);
        assert_eq!((decision.is_allowed, decision.reason().as_str()), (is_allowed, reason));
    }
}

#[test]
fn the_first_permission_that_fits_decides_and_then_the_default() {
    let rows =
        [l7(vec![prefix(Action::Deny, "/v2/admin"), prefix(Action::Allow, "/v2"), prefix(Action::Deny, "/v2/x")])];
    let allows = |path: &str, default| asked(&rows, Some(&get(path, &[])), default).is_allowed;
    assert!(!allows("/v2/admin", ALL_ALLOWED));
    assert!(allows("/v2/x", ACL_DENIES), "Consul's order: from the top");
    assert!(allows("/v3", ALL_ALLOWED) && !allows("/v3", ACL_DENIES));
    let request = get("/v3", &[]);
    let decision = asked(&rows, Some(&request), ACL_DENIES);
    assert_eq!(decision.detail(), "none of 3 permissions fits: Default behavior configured by ACLs (deny)");
    let request = get("/v2/x", &[]);
    assert_eq!(asked(&rows, Some(&request), ACL_DENIES).detail(), "permission 2 of 3 fits first: allow");
}

/// CVE-2021-36213 (Consul): a lone L7 deny turned into nothing, and what was denied was let through.
#[test]
fn cve_2021_36213_a_lone_deny_permission_allows_nothing_under_a_default_of_deny() {
    let rows = [l7(vec![prefix(Action::Deny, "/admin")])];
    for target in ["/admin", "/", "/x"] {
        assert!(!asked(&rows, Some(&get(target, &[])), ACL_DENIES).is_allowed, "{target}");
    }
    assert!(!asked(&rows, None, ALL_ALLOWED).is_allowed);
}

#[test]
fn cve_2024_10005_no_way_to_write_a_denied_path_is_allowed() {
    let rows = [l7(vec![prefix(Action::Deny, "/admin"), prefix(Action::Allow, "/")])];
    for target in [
        "/admin",
        "/admin?x",
        "//admin",
        "/./admin",
        "/%61dmin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/x%2f..%2fadmin",
        "/x/..;/admin",
        "/x\\..\\admin",
        "/admin%00",
        "admin",
        "http://db/admin",
    ] {
        let request = get(target, &[]);
        let decision = asked(&rows, Some(&request), ALL_ALLOWED);
        assert!(!decision.is_allowed, "{target}: {}", decision.detail());
    }
    assert!(asked(&rows, Some(&get("/public/%61", &[])), ACL_DENIES).is_allowed);
}

fn of_header(value: ValueTest, is_inverted: bool, ignores_case: bool) -> Intention {
    let headers = vec![HeaderTest { name: "X-Role".into(), value, is_inverted, ignores_case }];
    l7(vec![Permission { headers, ..permission(Action::Allow, PathTest::Any) }])
}

#[test]
fn headers_are_compared_as_they_are_written() {
    let role = |value: &str| get("/", &[("x-role", value)]);
    let text = |test: fn(String) -> ValueTest| of_header(test("Admin".into()), false, false);
    let folded = |test: fn(String) -> ValueTest| of_header(test("Admin".into()), false, true);
    for (row, fits, does_not) in [
        (text(ValueTest::Exact), "Admin", "admin"),
        (folded(ValueTest::Exact), " aDMIN ", "admins"),
        (text(ValueTest::Prefix), "Admins", "admins"),
        (folded(ValueTest::Prefix), "admins", "an admin"),
        (text(ValueTest::Suffix), "an Admin", "an admin"),
        (folded(ValueTest::Suffix), "an admin", "admins"),
        (text(ValueTest::Contains), "an Admin too", "an admin too"),
        (folded(ValueTest::Contains), "AN ADMIN TOO", "a dmin"),
        (of_header(ValueTest::Regex(Pattern::new("a|b")), false, false), "b", "ab"),
        (of_header(ValueTest::Exact("Admin".into()), true, false), "user", "Admin"),
    ] {
        assert!(is_allowed(&row, &role(fits)), "{row:?}: {fits}");
        assert!(!is_allowed(&row, &role(does_not)), "{row:?}: {does_not}");
    }
    assert!(is_allowed(&of_header(ValueTest::Present, true, false), &get("/", &[])));
    assert!(!is_allowed(&of_header(ValueTest::Present, true, false), &role("")));
}

#[test]
fn cve_2024_10006_a_header_that_comes_twice_hides_nothing() {
    let twice = get("/", &[("x-role", "user"), ("X-ROLE", "admin")]);
    let denied = |value: ValueTest| {
        let headers = vec![HeaderTest { name: "x-role".into(), value, is_inverted: false, ignores_case: false }];
        l7(vec![
            Permission { headers, ..permission(Action::Deny, PathTest::Any) },
            permission(Action::Allow, PathTest::Any),
        ])
    };
    let admin = || "admin".to_owned();
    for test in [
        ValueTest::Present,
        ValueTest::Exact(admin()),
        ValueTest::Prefix(admin()),
        ValueTest::Suffix(admin()),
        ValueTest::Contains(admin()),
        ValueTest::Regex(Pattern::new("adm.*")),
    ] {
        let row = denied(test);
        let decision = asked(std::slice::from_ref(&row), Some(&twice), ACL_DENIES);
        assert!(!decision.is_allowed, "{row:?}");
        let is_unclear = decision.detail().contains("a header that it names came more than once");
        assert!(is_unclear || decision.detail().contains("fits first"), "{}", decision.detail());
        let once = get("/", &[("x-role", "admin")]);
        assert!(!is_allowed(&row, &once), "{row:?}");
        assert!(is_allowed(&row, &get("/", &[])), "{row:?}");
    }
}

/// A row whose expression another build took: this one does not guess.
#[test]
fn an_expression_that_is_not_taken_denies_whatever_its_permission_says() {
    for action in [Action::Allow, Action::Deny] {
        let rows = [l7(vec![
            permission(action, PathTest::Regex(Pattern::new("("))),
            permission(Action::Allow, PathTest::Any),
        ])];
        let request = get("/", &[]);
        let decision = asked(&rows, Some(&request), ALL_ALLOWED);
        let detail = "permission 1 of 2 cannot be compared with the request, this version does not take its regular expression `(`: denied";
        assert_eq!((decision.is_allowed, decision.detail().as_str()), (false, detail));
    }
}

#[test]
fn a_jwt_must_say_what_is_required_and_its_provider_must_vouch_for_it() {
    let path = vec!["realm".to_owned(), "roles".to_owned()];
    let provider = JwtProvider { name: "okta".into(), claims: vec![ClaimTest { path, value: "admin".into() }] };
    let jwt = Some(JwtRequirement { providers: vec![provider] });
    let with = |provider: &str, roles: Claim| {
        let realm = Claim::Object(BTreeMap::from([("roles".to_owned(), roles)]));
        let payload = Claim::Object(BTreeMap::from([("realm".to_owned(), realm)]));
        Request::new("GET", "/", [], VerifiedClaims::from([(provider.to_owned(), payload)]))
    };
    let text = |text: &str| Claim::Text(text.into());
    let rows = [
        Intention { jwt: jwt.clone(), ..l4("db", "web", Action::Allow) },
        Intention { jwt: jwt.clone(), ..l7(vec![permission(Action::Allow, PathTest::Any)]) },
        l7(vec![Permission { jwt, ..permission(Action::Allow, PathTest::Any) }]),
    ];
    for row in &rows {
        assert!(is_allowed(row, &with("okta", text("admin"))));
        assert!(is_allowed(row, &with("okta", Claim::List(vec![text("user"), text("admin")]))));
        assert!(!is_allowed(row, &with("okta", text("user"))));
        assert!(!is_allowed(row, &with("okta", Claim::Other)));
        assert!(!is_allowed(row, &with("evil", text("admin"))));
        assert!(!is_allowed(row, &get("/", &[])));
        assert!(!asked(std::slice::from_ref(row), None, ALL_ALLOWED).is_allowed, "a connection has no JWT");
    }
    let denied = Intention { jwt: rows[0].jwt.clone(), ..l4("db", "web", Action::Deny) };
    assert!(!is_allowed(&denied, &with("okta", text("admin"))), "a denial needs no JWT");
}

/// What a row is made of in the property: some rows share source and destination, which no table has.
#[derive(Clone, Debug)]
struct Plain {
    destination: &'static str,
    source: &'static str,
    effect: PlainEffect,
}

/// `Requests`: for each permission whether it allows, the prefix of its path, and whether it is about `GET` alone.
#[derive(Clone, Debug)]
enum PlainEffect {
    Connections(bool),
    Requests(Vec<(bool, &'static str, bool)>),
}

const NAMES: [&str; 4] = ["*", "web", "db", "api"];
const PATHS: [&str; 4] = ["/", "/a", "/a/b", "/c"];

fn action(is_allow: bool) -> Action {
    if is_allow { Action::Allow } else { Action::Deny }
}

impl Plain {
    fn intention(&self) -> Intention {
        let effect = match &self.effect {
            PlainEffect::Connections(is_allow) => Effect::Action(action(*is_allow)),
            PlainEffect::Requests(permissions) => {
                let permissions = permissions.iter().map(|(is_allow, path, is_get)| Permission {
                    methods: if *is_get { vec![Method::Get] } else { Vec::new() },
                    ..prefix(action(*is_allow), path)
                });
                Effect::Permissions(permissions.collect())
            }
        };
        row(self.destination, self.source, effect)
    }

    /// Consul's formula: from the highest precedence of the destination one less for a source that is not exact.
    fn precedence(&self) -> i32 {
        let most = if self.destination == "*" { 6 } else { 9 };
        if self.source == "*" { most - 1 } else { most }
    }

    fn is_about(&self, source: &str, destination: &str) -> bool {
        [(self.source, source), (self.destination, destination)].iter().all(|(own, it)| *own == "*" || own == it)
    }

    fn allows(&self, request: Option<(&str, &str)>, default: bool) -> bool {
        match (&self.effect, request) {
            (PlainEffect::Connections(is_allow), _) => *is_allow,
            (PlainEffect::Requests(_), None) => false,
            (PlainEffect::Requests(permissions), Some((method, path))) => {
                let fits = |it: &&(bool, &str, bool)| path.starts_with(it.1) && (!it.2 || method == "GET");
                permissions.iter().find(fits).map_or(default, |(is_allow, ..)| *is_allow)
            }
        }
    }
}

/// Every row is asked, the answers are sorted, the first one counts.
fn naive(rows: &[Plain], between: (&str, &str), request: Option<(&str, &str)>, default: bool) -> bool {
    let about = rows.iter().filter(|row| row.is_about(between.0, between.1));
    let mut answers: Vec<_> = about.map(|row| (-row.precedence(), row.allows(request, default))).collect();
    answers.sort_unstable();
    answers.first().map_or(default, |(_, is_allowed)| *is_allowed)
}

fn plain() -> impl Strategy<Value = Plain> {
    let permission = (any::<bool>(), prop::sample::select(&PATHS[..]), any::<bool>());
    let effect = prop_oneof![
        any::<bool>().prop_map(PlainEffect::Connections),
        prop::collection::vec(permission, 1..4).prop_map(PlainEffect::Requests),
    ];
    let any_name = || prop::sample::select(&NAMES[..]);
    (any_name(), any_name(), effect).prop_map(|(destination, source, effect)| Plain { destination, source, effect })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// CVE-2021-36213, CVE-2023-3518: the answer is that of the naive evaluator, in every order of the rows.
    #[test]
    fn the_decision_is_that_of_a_naive_evaluator_whatever_the_order(
        (rows, shuffled) in prop::collection::vec(plain(), 0..8)
            .prop_flat_map(|rows| (Just(rows.clone()), Just(rows).prop_shuffle())),
        between in (prop::sample::select(&NAMES[1..]), prop::sample::select(&NAMES[1..])),
        request in prop::option::of((prop::sample::select(vec!["GET", "PUT"]), prop::sample::select(&PATHS[..]))),
        default in any::<bool>(),
    ) {
        let intentions = |rows: &[Plain]| rows.iter().map(Plain::intention).collect::<Vec<_>>();
        let (rows, shuffled, plain) = (intentions(&rows), intentions(&shuffled), rows);
        let http = request.map(|(method, path)| Request::new(method, path, [], VerifiedClaims::new()));
        let (source, destination) = (name(between.0), name(between.1));
        let policy = DefaultPolicy::Intentions(action(default));
        let one = decide(&rows, &source, &destination, http.as_ref(), policy);
        prop_assert_eq!(one.is_allowed, naive(&plain, between, request, default), "{:?}", one);
        let other = decide(&shuffled, &source, &destination, http.as_ref(), policy);
        prop_assert_eq!(other.is_allowed, one.is_allowed);
        prop_assert_eq!(other.intention().map(Intention::key), one.intention().map(Intention::key));
        let about = plain.iter().filter(|row| row.is_about(between.0, between.1)).count();
        prop_assert_eq!(one.beaten.len() + usize::from(one.intention().is_some()), about);
        let lowest = one.beaten.iter().map(|row| row.precedence()).max().unwrap_or_default();
        prop_assert!(one.intention().is_none_or(|row| row.precedence() >= lowest));
    }
}
