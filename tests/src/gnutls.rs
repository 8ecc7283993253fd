//! The `certtool` command of GnuTLS: a verifier that nobody here wrote.

use std::process::{Command, Stdio};

/// The chain in a file, the leaf first, leads to one of the roots in another.
///
/// # Panics
/// Panics if it does not.
#[track_caller]
pub fn assert_trusted(chain: &str, roots: &str) {
    let arguments = ["--verify", "--load-ca-certificate", roots, "--infile", chain];
    let output = Command::new("certtool").args(arguments).stdin(Stdio::null()).output();
    let output = output.expect("certtool can be started (Debian: apt install gnutls-bin)");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let is_trusted =
        output.status.success() && text.contains("Chain verification output: Verified. The certificate is trusted.");
    assert!(is_trusted, "certtool {}\n{text}", arguments.join(" "));
}
