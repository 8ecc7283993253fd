//! Tests of the one form of paths and headers.

use proptest::prelude::*;

use super::*;

#[test]
fn cve_2024_10005_every_way_to_write_a_path_has_one_form() {
    for (written, form) in [
        ("/", "/"),
        ("/admin", "/admin"),
        ("/%61dmin", "/admin"),
        ("//admin", "/admin"),
        ("/./admin", "/admin"),
        ("/x/../admin", "/admin"),
        ("/x/%2e%2E/admin", "/admin"),
        ("/x//..///admin", "/admin"),
        ("/admin/", "/admin/"),
        ("/admin/.", "/admin/"),
        ("/admin/x/..", "/admin/"),
        ("/admin%20x", "/admin%20x"),
        ("/admin x", "/admin%20x"),
        ("/a%c3%a9", "/a%C3%A9"),
        ("/aé", "/a%C3%A9"),
        ("/a%3ab", "/a:b"),
        ("/a%253ab", "/a%253ab"),
        ("/...", "/..."),
        ("/a%3Fb", "/a%3Fb"),
    ] {
        assert_eq!(canonical_path(written).as_deref(), Ok(form), "{written}");
    }
}

#[test]
fn cve_2024_10005_what_can_be_read_in_two_ways_has_no_form() {
    let long = "/".repeat(PATH_BYTES_MAX + 1);
    for path in [
        "",
        "*",
        "admin",
        "http://x/admin",
        "/a%2fb",
        "/a%2Fb",
        "/a\\b",
        "/a%5cb",
        "/a%00b",
        "/a\0b",
        "/a%0d%0ab",
        "/a%7f",
        "/a%",
        "/a%2",
        "/a%zz",
        "/a%+1",
        "/..",
        "/a/../../b",
        "/%2e%2e/b",
        "/a/..;/b",
        "/a/..;x=y/b",
        "/a/.;/b",
        "/a#b",
        &long,
    ] {
        let refused = canonical_path(path).unwrap_err();
        assert!(!refused.to_string().contains('\0'), "{refused}");
    }
}

proptest! {
    #[test]
    fn the_form_of_a_form_is_itself(path in "(/|\\.|\\.\\.|%2e|%2[fF]|%41|%c3|;|:|a|B| |%){0,12}|\\PC{0,20}") {
        if let Ok(form) = canonical_path(&format!("/{path}")) {
            prop_assert_eq!(canonical_path(&form).unwrap(), form.clone());
            let has_dots = form.split('/').any(|segment| matches!(segment, "." | ".."));
            prop_assert!(form.starts_with('/') && !form.contains("//") && !has_dots, "{}", form);
            prop_assert!(form.bytes().all(|byte| byte == b'/' || byte == b'%' || is_plain(byte)), "{}", form);
        }
    }

    #[test]
    fn escaping_what_need_not_be_changes_nothing(path in "(/[a-z.~:@;=]{0,4}){1,5}", escaped in any::<u32>()) {
        let written: String = path.chars().enumerate().map(|(place, letter)| match escaped >> (place % 32) & 1 {
            1 if letter != '/' => format!("%{:02x}", letter as u32),
            _ => letter.to_string(),
        }).collect();
        prop_assert_eq!(canonical_path(&written).ok(), canonical_path(&path).ok());
    }
}
