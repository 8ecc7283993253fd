//! Tests of requests as they are judged.

use super::*;

fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<Parts, Ambiguous> {
    Parts::of(method, target, headers.iter().copied())
}

#[test]
fn a_query_is_no_part_of_the_path() {
    assert_eq!(request("GET", "/a?x=/../b%00", &[]).unwrap().path, "/a");
    assert_eq!(request("get", "/a?", &[]).unwrap().method, "GET");
    assert!(request("G ET", "/a", &[]).is_err());
}

#[test]
fn cve_2024_10006_headers_are_found_whatever_the_case_of_their_names() {
    let parts = request("GET", "/", &[("X-Role", " admin\t"), ("x-role", "user"), ("Host", "a")]).unwrap();
    assert_eq!(parts.header("x-ROLE"), ["admin", "user"]);
    assert!(parts.header("role").is_empty());
    for (name, value) in [("x role", "a"), ("x-role:", "a"), ("", "a"), ("x\0", "a"), ("x", "a\0"), ("x", "a\r\nb: c")]
    {
        assert!(request("GET", "/", &[(name, value)]).is_err(), "{name:?}: {value:?}");
    }
}
