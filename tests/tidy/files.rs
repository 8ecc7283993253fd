//! The files of the project, and the rules that need no reading of Rust: place, length, first lines, foreign paths.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Lines of a Rust file after which it must be split.
const LINES_MAX: usize = 600;
/// Lines of `//!` with which a file may begin: longer prose belongs to the README.
const HEAD_LINES_MAX: usize = 6;

/// What may stand at the top of the repository.
const ENTRIES: [&str; 18] = [
    ".cargo",
    ".ci",
    ".clippy.toml",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "authority",
    "deny.toml",
    "federation",
    "fuzz",
    "node",
    "proto",
    "raft",
    "rustfmt.toml",
    "simulation",
    "tests",
];

/// Beginnings of paths that exist on one machine only, and hosts that a machine's own configuration chooses. In halves, so that this file passes.
const FOREIGN: [(&str, &str); 8] = [
    ("/ho", "me/"),
    ("/ro", "ot/"),
    ("/Us", "ers/"),
    ("/wo", "rk/"),
    ("/t", "mp/"),
    ("index.crates", ".io"),
    ("static.crates", ".io"),
    ("pypi", ".org"),
];

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests package lies in the workspace").into()
}

/// Every file of the project, relative to the root: what git does not ignore, or without git all that is not built.
pub(crate) fn paths() -> Vec<String> {
    let listed = Command::new("git")
        .arg("-C")
        .arg(root())
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output();
    let mut paths = match listed {
        Ok(output) if output.status.success() && !output.stdout.is_empty() => {
            let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
            names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
        }
        _ => walk(&root(), ""),
    };
    paths.retain(|path| root().join(path).is_file());
    paths.sort();
    paths
}

fn walk(directory: &Path, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory of the project is readable");
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.expect("a directory of the project is readable");
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().expect("an entry of the project has a type");
        match kind.is_dir() {
            true if name == ".git" || name == "target" => {}
            true => paths.extend(walk(&entry.path(), &format!("{name}/"))),
            false => paths.push(name),
        }
    }
    paths
}

/// Every file of the project that is UTF-8 text, with its contents.
pub(crate) fn texts() -> Vec<(String, String)> {
    let read = |path: String| fs::read_to_string(root().join(&path)).ok().map(|text| (path, text));
    paths().into_iter().filter_map(read).collect()
}

/// Every Rust file of the project, with its contents.
pub(crate) fn rust_sources() -> Vec<(String, String)> {
    let sources: Vec<_> = texts().into_iter().filter(|(path, _)| path.ends_with(".rs")).collect();
    assert!(sources.len() > 10, "the project has more Rust files than {}", sources.len());
    sources
}

/// Entries at the top of the repository that the list does not know.
pub(crate) fn unknown_entries(paths: &[String]) -> Vec<String> {
    let mut tops: Vec<&str> = paths.iter().filter_map(|path| path.split('/').next()).collect();
    tops.dedup();
    let unknown = tops.into_iter().filter(|top| !ENTRIES.contains(top));
    unknown.map(|top| format!("{top}: not in the list of top-level entries")).collect()
}

/// A Rust file without its `//!` head, with too long a head, or too long.
pub(crate) fn head_and_length(path: &str, text: &str) -> Vec<String> {
    let head = text.lines().take_while(|line| line.starts_with("//!")).count();
    let lines = text.lines().count();
    let mut violations = Vec::new();
    if head == 0 {
        violations.push(format!("{path}: the first line must be `//!` and say what the file is for"));
    }
    if head > HEAD_LINES_MAX {
        violations.push(format!("{path}: {head} lines of `//!`, at most {HEAD_LINES_MAX} are allowed"));
    }
    if lines > LINES_MAX {
        violations.push(format!("{path}: {lines} lines, at most {LINES_MAX} are allowed: split it"));
    }
    violations
}

/// Paths of one machine, and hosts of package registries, in any text.
pub(crate) fn machine_paths(path: &str, text: &str) -> Vec<String> {
    let foreign: Vec<String> = FOREIGN.iter().map(|(start, end)| format!("{start}{end}")).collect();
    let mut violations = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for found in foreign.iter().filter(|found| line.contains(found.as_str())) {
            violations.push(format!("{path}:{}: names `{found}`, which belongs to one machine", number + 1));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stray_entry_is_seen() {
        let paths = ["README.md".into(), "node/src/main.rs".into(), "notes.txt".into(), "scratch/a.rs".into()];
        assert_eq!(unknown_entries(&paths).len(), 2);
    }

    #[test]
    fn a_missing_head_a_long_head_and_a_long_file_are_seen() {
        assert_eq!(head_and_length("a.rs", "use std::fmt;\n").len(), 1);
        assert_eq!(head_and_length("a.rs", &"//! prose\n".repeat(HEAD_LINES_MAX + 1)).len(), 1);
        assert_eq!(head_and_length("a.rs", &format!("//! What.\n{}", "\n".repeat(LINES_MAX))).len(), 1);
        assert_eq!(head_and_length("a.rs", "//! What it is for.\n\nuse std::fmt;\n"), Vec::<String>::new());
    }

    #[test]
    fn a_path_of_a_machine_is_seen_in_any_text() {
        for (start, end) in FOREIGN {
            assert_eq!(machine_paths("README.md", &format!("first\nsee {start}{end}x\n")).len(), 1, "{start}{end}");
        }
        assert_eq!(machine_paths("README.md", "/var/lib/carrack, crates.io\n"), Vec::<String>::new());
    }

    #[test]
    fn without_git_the_tree_is_walked() {
        let walked = walk(&root(), "");
        assert!(walked.iter().any(|path| path == "tests/tidy/files.rs"));
        assert!(!walked.iter().any(|path| path.starts_with("target/") || path.starts_with(".git/")));
    }
}
