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

#[test]
fn who_asks_by_hash_waits_for_another_content_and_who_asks_by_index_for_a_newer_one() {
    let by_index = read("index=7").unwrap();
    assert_eq!([by_index.is_newer(7), by_index.is_newer(8), by_index.is_other("any")], [false, true, true]);
    let by_hash = read("index=7&hash=abc").unwrap();
    assert_eq!([by_hash.is_newer(7), by_hash.is_other("abc"), by_hash.is_other("abd")], [true, false, true]);
    let at_once = read("").unwrap();
    assert!(at_once.is_newer(0) && at_once.is_other(""));
}

#[test]
fn only_the_staleness_that_is_taken_is_read_of_cache_control() {
    let taken = |values: &[&'static str]| {
        let headers = values.iter().map(|value| (header::CACHE_CONTROL, HeaderValue::from_static(value))).collect();
        Parameters::read(&"/".parse().unwrap(), &headers, "dc1").map(|read| read.stale_if_error)
    };
    assert_eq!(taken(&[]), Ok(None));
    assert_eq!(taken(&["max-age=30 stale-if-error=259200"]), Ok(Some(Duration::from_secs(259_200))));
    assert_eq!(taken(&["must-revalidate", "max-age=0, Stale-If-Error=\"7\""]), Ok(Some(Duration::from_secs(7))));
    assert_eq!(taken(&["max-age=soon"]), Ok(None));
    for wrong in ["stale-if-error=", "stale-if-error=-1", "stale-if-error=1h"] {
        assert!(taken(&[wrong]).is_err_and(|error| error.to_string().starts_with("Invalid stale-if-error")), "{wrong}");
    }
    let parameters = Parameters { stale_if_error: Some(Duration::from_secs(5)), ..Parameters::default() };
    assert_eq!(parameters.take_staleness(Duration::from_secs(5), String::new), Ok(()));
    assert!(parameters.take_staleness(Duration::from_secs(6), || "none is heard".into()).is_err());
}
