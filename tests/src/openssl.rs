//! The `openssl` command: a verifier that nobody here wrote.

use std::process::{Command, Stdio};

use crate::leaf::LeafFiles;

/// Runs it; the exit code and everything that it printed.
///
/// # Panics
/// Panics if it cannot be started.
pub fn openssl(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new("openssl").args(arguments).stdin(Stdio::null()).output();
    let output = output.expect("openssl can be started (Debian: apt install openssl)");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// Runs it, and gives what it printed.
///
/// # Panics
/// Panics if it ends badly.
#[track_caller]
pub fn expect_openssl(arguments: &[&str]) -> String {
    let (code, text) = openssl(arguments);
    assert_eq!(code, Some(0), "openssl {}\n{text}", arguments.join(" "));
    text
}

/// A leaf with its chain is good for either end of a connection, for whoever trusts the roots in this file.
///
/// # Panics
/// Panics if it is not.
#[track_caller]
pub fn assert_verified(leaf: &LeafFiles, roots: &str) {
    for purpose in ["sslserver", "sslclient"] {
        let how = ["verify", "-x509_strict", "-purpose", purpose];
        let verified = expect_openssl(&[&how[..], &["-CAfile", roots, "-untrusted", &leaf.chain, &leaf.leaf]].concat());
        assert_eq!(verified, format!("{}: OK\n", leaf.leaf));
    }
    let without_roots = openssl(&["verify", "-no-CAfile", "-no-CApath", "-untrusted", &leaf.chain, &leaf.leaf]);
    assert_ne!(without_roots.0, Some(0), "{}", without_roots.1);
}
