//! What requests may say beside their path, and what is refused.

use axum::http::HeaderValue;

use super::*;

const A: &str = "11111111-2222-3333-4444-555555555555";
const B: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
const C: &str = "01234567-89ab-cdef-0123-456789abcdef";

fn read(query: &str) -> Result<Parameters, HttpError> {
    let uri: Uri = format!("/v1/connect/ca/roots?{query}").parse().unwrap();
    Parameters::read(&uri, &HeaderMap::new(), "dc1")
}

fn secret(query: &str, headers: &[(&'static str, &str)]) -> Option<Uuid> {
    let uri: Uri = format!("/?{query}").parse().unwrap();
    let headers = headers
        .iter()
        .map(|(name, value)| (axum::http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
    Parameters::read(&uri, &headers.collect(), "dc1").unwrap().secret.and_then(|secret| secret.as_uuid())
}

#[test]
fn blocking_and_consistency_are_read_as_consul_does() {
    let parameters = read("index=7&wait=10s&stale&pretty").unwrap();
    assert_eq!((parameters.index, parameters.wait), (7, Some(Duration::from_secs(10))));
    assert_eq!((parameters.consistency, parameters.is_pretty), (Consistency::Stale, true));
    assert_eq!(read("wait=24h").unwrap().wait, Some(WAIT_MAX));
    assert_eq!(read("consistent").unwrap().consistency, Consistency::Consistent);
    assert_eq!(read("dc=dc1&ns=default&near=_agent").unwrap().consistency, Consistency::Default);
    assert_eq!(read("max_stale=2s").unwrap().consistency, Consistency::Stale);
}

#[test]
fn conflicts_and_bad_values_are_refused_with_consuls_text() {
    for (query, text) in [
        ("index=x", "Invalid index"),
        ("index=-1", "Invalid index"),
        ("wait=5", "Invalid wait time"),
        ("wait=-5s", "Invalid wait time"),
        ("stale&consistent", "Cannot specify ?stale with ?consistent, conflicting semantics."),
    ] {
        assert_eq!(read(query).unwrap_err(), HttpError::BadRequest(text.into()), "{query}");
    }
    assert_eq!(read("dc=dc2").unwrap().other_datacenter.as_deref(), Some("dc2"));
    assert_eq!(read("dc=dc1").unwrap().other_datacenter, None);
    assert!(matches!(read("ns=team"), Err(HttpError::BadRequest(_))));
    assert!(matches!(read("filter=Name==a"), Err(HttpError::BadRequest(_))));
    assert!(matches!(read(&"a=1&".repeat(PARAMETERS_MAX + 1)), Err(HttpError::BadRequest(_))));
    assert!(matches!(read(&"a".repeat(QUERY_BYTES_MAX + 1)), Err(HttpError::BadRequest(_))));
}

#[test]
fn the_query_s_token_comes_before_the_headers() {
    let bearer = format!("Bearer {C}");
    let all = [("x-consul-token", B), ("authorization", bearer.as_str())];
    assert_eq!(secret(&format!("token={A}"), &all), Uuid::try_parse(A).ok());
    assert_eq!(secret("", &all), Uuid::try_parse(B).ok());
    assert_eq!(secret("token=", &all[1..]), Uuid::try_parse(C).ok());
    assert_eq!(secret("", &[("authorization", "Basic abc")]), None);
}

#[test]
fn what_is_no_uuid_is_nobody_s_secret() {
    let digest = "a".repeat(64);
    for text in
        ["%3Chidden%3E", "anonymous", &digest, "%7B11111111-2222-3333-4444-555555555555%7D", "111", &"9".repeat(5000)]
    {
        assert_eq!(secret(&format!("token={text}"), &[]), None, "{text}");
    }
    let shown = format!("{:?}", read(&format!("token={A}")).unwrap());
    assert!(!shown.contains("1111"), "{shown}");
}

#[test]
fn flags_are_read_as_go_does() {
    assert_eq!(read("pem=1").unwrap().flag("pem"), Ok(true));
    assert_eq!(read("pem=0").unwrap().flag("pem"), Ok(false));
    assert_eq!(read("pem=").unwrap().flag("pem"), Ok(false));
    assert!(read("pem=yes").unwrap().flag("pem").is_err());
    assert_eq!(read("limit=5").unwrap().number("limit"), Ok(Some(5)));
    assert!(read("limit=five").unwrap().number("limit").is_err());
}
