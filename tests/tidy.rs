//! Rules of the house that no compiler checks: which crate may know which, how files begin and how long they are, names, attributes.
//! Each rule has a test with a violation made for it, so that a rule that sees nothing is noticed.

mod tidy {
    pub(crate) mod arrows;
    pub(crate) mod attributes;
    pub(crate) mod files;
    pub(crate) mod names;
    pub(crate) mod scan;
}

use tidy::{arrows, attributes, files, names};

#[track_caller]
fn expect_none(violations: &[String]) {
    assert!(violations.is_empty(), "{} violations:\n  {}", violations.len(), violations.join("\n  "));
}

#[test]
fn crates_depend_only_in_the_allowed_direction() {
    expect_none(&arrows::violations(&arrows::declared()));
}

#[test]
fn the_pure_crate_has_only_the_dependencies_of_its_list() {
    expect_none(&arrows::impurities(&arrows::declared()));
}

#[test]
fn only_the_simulator_turns_on_bugs_on_purpose() {
    let planters = arrows::planters();
    assert!(arrows::is_planted_by_the_simulator_alone(&planters), "{planters:?}");
}

#[test]
fn the_top_level_holds_only_known_entries() {
    expect_none(&files::unknown_entries(&files::paths()));
}

#[test]
fn every_file_says_what_it_is_for_and_is_short() {
    let sources = files::rust_sources();
    expect_none(&sources.iter().flat_map(|(path, text)| files::head_and_length(path, text)).collect::<Vec<_>>());
}

#[test]
fn no_file_names_a_machine_or_a_registry_host() {
    let texts = files::texts();
    expect_none(&texts.iter().flat_map(|(path, text)| files::machine_paths(path, text)).collect::<Vec<_>>());
}

#[test]
fn no_banned_names() {
    expect_none(&files::paths().iter().flat_map(|path| names::in_path(path)).collect::<Vec<_>>());
    let sources = files::rust_sources();
    expect_none(&sources.iter().flat_map(|(path, text)| names::in_source(path, text)).collect::<Vec<_>>());
}

#[test]
fn no_ignored_tests_no_unfinished_code_and_no_unexplained_exceptions() {
    let sources = files::rust_sources();
    expect_none(&sources.iter().flat_map(|(path, text)| attributes::violations(path, text)).collect::<Vec<_>>());
}
