//! The `carrack` binary under test: built once per test process, with the profile of the tests.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The path of the `carrack` binary, built from the sources as they are now.
///
/// # Panics
/// Panics if it cannot be built: no black-box test means anything then.
pub fn carrack() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build)
}

/// The directory that cargo builds into.
pub fn target_directory() -> PathBuf {
    let directory = profile_directory();
    directory.parent().expect("a profile's directory lies in the target directory").into()
}

fn build() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    // With the workspace's features, as `cargo test --workspace` has built everything else.
    cargo.args(["build", "--locked", "--quiet", "--workspace", "--bin", "carrack"]);
    cargo.arg("--target-dir").arg(target_directory());
    if profile_directory().ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.current_dir(workspace()).status().expect("cargo can be started");
    assert!(status.success(), "building the carrack binary ended with {status}");
    profile_directory().join("carrack")
}

/// The root of the workspace.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests package lies in the workspace")
}

/// `target/debug` or `target/release`: where the running test's own profile puts its binaries.
fn profile_directory() -> PathBuf {
    let test = std::env::current_exe().expect("the running test knows its path");
    let directory = test.parent().expect("an executable lies in a directory");
    match directory.ends_with("deps") {
        true => directory.parent().expect("deps lies in a profile's directory").into(),
        false => directory.into(),
    }
}
