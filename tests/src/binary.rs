//! The `carrack` binary under test: built once per process, with the profile of the tests or benches.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Names a binary that is measured in place of the one that the sources make: another build, for a comparison on one machine.
const OTHER_BUILD: &str = "CARRACK_BENCH_BINARY";

/// The path of the `carrack` binary, built from the sources as they are now. Benches may be pointed at another one.
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
    if let Some(other) = std::env::var_os(OTHER_BUILD).filter(|_| !is_test()) {
        return other.into();
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--locked", "--quiet", "--bin", "carrack"]);
    if is_test() {
        // Features are unified over what is built together. With the workspace and one of its tests they are those of
        // `cargo test --workspace`, which has built everything but the binary; otherwise all dependencies would be built again.
        cargo.args(["--workspace", "--test", "tidy"]);
    } else {
        cargo.args(["--package", "carrack-tests", "--package", "carrack"]);
    }
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

/// `target/debug` or `target/release`: where the running executable's own profile puts its binaries.
fn profile_directory() -> PathBuf {
    let directory = own_directory();
    match is_test() {
        true => directory.parent().expect("deps lies in a profile's directory").into(),
        false => directory,
    }
}

/// Cargo puts tests into `deps`, and binaries beside it.
fn is_test() -> bool {
    own_directory().ends_with("deps")
}

fn own_directory() -> PathBuf {
    let own = std::env::current_exe().expect("the running executable knows its path");
    own.parent().expect("an executable lies in a directory").into()
}
