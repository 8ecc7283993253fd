//! Tests of what is refused, in Consul's words.

use super::*;
use crate::intention::JwtProviderDraft;

fn source(name: &str) -> SourceDraft {
    SourceDraft { name: name.into(), action: "allow".into(), ..SourceDraft::default() }
}

fn entry(name: &str, sources: &[SourceDraft]) -> EntryDraft {
    EntryDraft { name: name.into(), sources: sources.to_vec(), ..EntryDraft::default() }
}

fn l7(http: HttpDraft) -> SourceDraft {
    let permission = PermissionDraft { action: "deny".into(), http: Some(http), jwt: None };
    SourceDraft { name: "web".into(), permissions: vec![permission], ..SourceDraft::default() }
}

fn header(name: &str) -> HeaderDraft {
    HeaderDraft { name: name.into(), ..HeaderDraft::default() }
}

fn of_header(header: HeaderDraft) -> SourceDraft {
    l7(HttpDraft { header: vec![header], ..HttpDraft::default() })
}

fn exact(path: &str) -> SourceDraft {
    l7(HttpDraft { path_exact: path.into(), ..HttpDraft::default() })
}

fn refusal(entry: EntryDraft) -> String {
    entry.verify().unwrap_err().to_string()
}

#[test]
fn an_entry_is_refused_in_consul_s_words() {
    let allow = source("web");
    let x = "x".to_owned();
    for (draft, message) in [
        (entry("", std::slice::from_ref(&allow)), "Name is required"),
        (entry("db", &[]), "At least one source is required"),
        (entry("d*", &[source("web")]), "Name: wildcard character '*' cannot be used with partial values"),
        (entry("db", &[source("")]), "Sources[0].Name is required"),
        (
            entry("db", &[source("a"), source("w*b")]),
            "Sources[1].Name: wildcard character '*' cannot be used with partial values",
        ),
        (entry("db", &[source("*"), source("web"), source("web")]), "Sources[1] defines \"web\" more than once"),
        (
            entry("db", &[SourceDraft { action: "permit".into(), ..source("web") }]),
            "Sources[0].Action must be set to 'allow' or 'deny'",
        ),
        (
            entry("db", &[SourceDraft { action: "allow".into(), ..exact("/") }]),
            "Sources[0].Action must be omitted if Permissions are specified",
        ),
        (
            entry("*", &[exact("/")]),
            "Sources[0].Permissions cannot be specified on intentions with wildcarded destinations",
        ),
        (
            entry("db", &[SourceDraft { kind: "other".into(), ..source("web") }]),
            "Sources[0].Type must be set to 'consul'",
        ),
        (
            entry("db", &[SourceDraft { description: "x".repeat(513), ..source("web") }]),
            "Sources[0].Description exceeds maximum length 512",
        ),
        (
            entry("db", &[SourceDraft { legacy_meta: [(x.clone(), x.clone())].into(), ..source("web") }]),
            "Sources[0].LegacyMeta must be omitted",
        ),
        (
            EntryDraft {
                meta: (0..65).map(|key| (key.to_string(), x.clone())).collect(),
                ..entry("db", std::slice::from_ref(&allow))
            },
            "Meta exceeds maximum element count 64",
        ),
        (
            EntryDraft { meta: [(x.clone(), "v".repeat(513))].into(), ..entry("db", std::slice::from_ref(&allow)) },
            "Meta value for key \"x\" exceeds maximum length 512",
        ),
        (
            EntryDraft {
                jwt: Some(JwtDraft { providers: vec![JwtProviderDraft::default()] }),
                ..entry("db", std::slice::from_ref(&allow))
            },
            "JWT provider name is required",
        ),
    ] {
        assert_eq!(refusal(draft), message);
    }
}

#[test]
fn a_permission_is_refused_in_consul_s_words() {
    let http = HttpDraft::default;
    let contradiction = HttpDraft { path_exact: "/".into(), path_prefix: "/".into(), ..http() };
    let methods = |methods: &[&str]| HttpDraft {
        methods: methods.iter().map(|&method| method.into()).collect(),
        ..HttpDraft::default()
    };
    for (draft, message) in [
        (l7(http()), ".HTTP should not be empty"),
        (exact("admin"), ".HTTP.PathExact doesn't start with '/': \"admin\""),
        (l7(HttpDraft { path_prefix: "admin".into(), ..http() }), ".HTTP.PathPrefix doesn't start with '/': \"admin\""),
        (l7(contradiction), ".HTTP should only contain at most one of PathExact, PathPrefix, or PathRegex"),
        (of_header(header("")), ".HTTP.Header[0] missing required Name field"),
        (
            of_header(header("x")),
            ".HTTP.Header[0] should only contain one of Present, Exact, Prefix, Suffix, Contains, or Regex",
        ),
        (
            of_header(HeaderDraft { exact: "a".into(), present: true, ..header("x") }),
            ".HTTP.Header[0] should only contain one of Present, Exact, Prefix, Suffix, Contains, or Regex",
        ),
        (
            of_header(HeaderDraft { regex: "a".into(), ignore_case: true, ..header("x") }),
            ".HTTP.Header[0] should set one of Exact, Prefix, Suffix, or Contains when using IgnoreCase",
        ),
        (l7(methods(&["BREW"])), ".HTTP.Methods contains an invalid method \"BREW\""),
        (l7(methods(&["get", "GET"])), ".HTTP.Methods contains \"GET\" more than once"),
    ] {
        assert_eq!(refusal(entry("db", &[draft])), format!("Sources[0].Permissions[0]{message}"));
    }
    let mut without = exact("/");
    without.permissions[0].http = None;
    assert_eq!(refusal(entry("db", &[without.clone()])), "Sources[0].Permissions[0].HTTP is required");
    without.permissions[0].action = String::new();
    let message = "Sources[0].Permissions[0].Action must be set to 'allow' or 'deny'";
    assert_eq!(refusal(entry("db", &[without])), message);
}

/// CVE-2024-10005: a rule in a form that no request has would silently decide nothing.
#[test]
fn what_would_fit_no_request_is_refused_with_the_form_that_does() {
    for (path, says) in [
        ("/admin//x", "write it so"),
        ("/%61dmin", "\"/admin\""),
        ("/a/../b", "\"/b\""),
        ("/a%2fb", "escaped `/`"),
        ("/a\\b", "separator"),
    ] {
        let message = refusal(entry("db", &[exact(path)]));
        assert!(message.contains("fits no request") && message.contains(says), "{message}");
    }
    for regex in ["(", "a)|(b", "(a{1000}){1000}"] {
        let message = refusal(entry("db", &[l7(HttpDraft { path_regex: regex.into(), ..HttpDraft::default() })]));
        assert!(message.starts_with("Sources[0].Permissions[0].HTTP.PathRegex"), "{message}");
        assert!(message.contains("is no regular expression that is taken"), "{message}");
    }
    let pseudo = of_header(HeaderDraft { present: true, ..header(":path") });
    assert!(refusal(entry("db", &[pseudo])).contains("is no name of a header"));
}

#[test]
fn what_is_not_supported_is_refused_and_not_left_out() {
    let with = |edit: fn(&mut SourceDraft)| {
        let mut source = source("web");
        edit(&mut source);
        refusal(entry("db", &[source]))
    };
    for message in [
        with(|source| source.peer = "other".into()),
        with(|source| source.sameness_group = "other".into()),
        with(|source| source.namespace = "other".into()),
        with(|source| source.partition = "other".into()),
    ] {
        assert!(message.starts_with("Sources[0].") && message.contains("\"other\" cannot be"), "{message}");
    }
    let other = EntryDraft { namespace: "other".into(), ..entry("db", &[source("web")]) };
    assert!(refusal(other).contains("there is one alone, `default`"));
    assert_eq!(party_of_path("default/default/db"), party_of_path("db"));
    for path in ["other/db", "default/other/db", "other/default/db", "a/b/c/d", "", "d*", "a b"] {
        assert!(party_of_path(path).is_err(), "{path}");
    }
    assert!(service_of_path("*").is_err());
}

#[test]
fn bounds_are_refused_with_what_they_are() {
    let mut many = exact("/");
    many.permissions = vec![many.permissions[0].clone(); bounds::PERMISSIONS_MAX + 1];
    assert_eq!(refusal(entry("db", &[many])), "Sources[0] is too large: permissions: 65, at most 64 are allowed");
    let long = exact(&format!("/{}", "x".repeat(bounds::TEXT_BYTES_MAX)));
    assert!(refusal(entry("db", &[long])).contains("bytes of a path or header: 2049"));
    let regex = HeaderDraft { regex: "a".into(), ..header("x") };
    let mut patterns = l7(HttpDraft { header: vec![regex; 16], ..HttpDraft::default() });
    assert!(entry("db", &[patterns.clone()]).verify().is_ok());
    patterns.permissions.push(patterns.permissions[0].clone());
    assert!(refusal(entry("db", &[patterns])).contains("regular expressions: 32, at most 16"));
    let sources: Vec<_> = (0..3000).map(|number| source(&format!("service-{number}"))).collect();
    let message = refusal(entry("db", &sources));
    assert!(message.contains("at most 262144") && message.contains("write them one by one"), "{message}");
}

#[test]
fn what_is_written_is_read_again() {
    let full = HttpDraft {
        path_prefix: "/a".into(),
        header: vec![
            HeaderDraft { present: true, invert: true, ..header("X-A") },
            HeaderDraft { exact: "a".into(), ignore_case: true, ..header("b") },
            HeaderDraft { prefix: "a".into(), ..header("c") },
            HeaderDraft { suffix: "a".into(), ..header("d") },
            HeaderDraft { contains: "a".into(), ..header("e") },
            HeaderDraft { regex: "a+".into(), ..header("f") },
        ],
        methods: vec!["GET".into(), "PATCH".into()],
        ..HttpDraft::default()
    };
    let claim = crate::intention::ClaimDraft { path: vec!["a".into(), "b".into()], value: "c".into() };
    let provider = JwtProviderDraft { name: "okta".into(), verify_claims: vec![claim] };
    let jwt = Some(JwtDraft { providers: vec![provider] });
    let mut source = l7(full);
    source.permissions[0].jwt.clone_from(&jwt);
    (source.kind, source.precedence, source.description) = ("consul".into(), 9, "what for".into());
    let meta = BTreeMap::from([("owner".to_owned(), "a".to_owned())]);
    let row = source.verify_for("db", jwt.as_ref(), &meta).unwrap();
    assert_eq!(SourceDraft::of(&row), source);
    assert_eq!((row.jwt.as_ref().map(JwtDraft::of), &row.meta), (jwt, &meta));
    assert_eq!(row.precedence(), 9);
}

#[test]
fn rows_of_an_entry_are_in_the_order_of_precedence() {
    let rows = entry("db", &[source("*"), source("web"), source("api")]).verify().unwrap();
    let names: Vec<_> = rows.iter().map(|row| (row.source.to_string(), row.precedence())).collect();
    assert_eq!(names, [("api".to_owned(), 9), ("web".to_owned(), 9), ("*".to_owned(), 8)]);
}
