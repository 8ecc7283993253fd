//! Which crate may know which: `tests -> simulation -> node -> { raft, federation } -> proto -> authority`, and nothing else.

use std::collections::BTreeSet;

use cargo_metadata::MetadataCommand;

use super::files::root;

/// Each crate of ours with the crates of ours that it may name.
const ALLOWED: [(&str, &[&str]); 7] = [
    ("carrack-authority", &[]),
    ("carrack-proto", &["carrack-authority"]),
    ("carrack-raft", &["carrack-proto", "carrack-authority"]),
    ("carrack-federation", &["carrack-proto", "carrack-authority"]),
    ("carrack", &["carrack-raft", "carrack-federation", "carrack-proto", "carrack-authority"]),
    ("carrack-simulation", &["carrack", "carrack-raft", "carrack-federation", "carrack-proto", "carrack-authority"]),
    (
        "carrack-tests",
        &["carrack-simulation", "carrack", "carrack-raft", "carrack-federation", "carrack-proto", "carrack-authority"],
    ),
];

/// What `authority` may use: nothing with a clock, randomness, IO or an async runtime, and no parser but that of
/// the regular expressions in intentions, which `apply` never runs.
/// Its tests parse what it builds, and sign with `aws-lc-rs`.
const PURE: [&str; 17] = [
    "aws-lc-rs (dev)",
    "expect-test (dev)",
    "hcl-rs (dev)",
    "imbl",
    "proptest (dev)",
    "rcgen",
    "regex",
    "rustls-pki-types",
    "rustls-webpki",
    "serde",
    "sha2",
    "subtle",
    "thiserror",
    "time",
    "uuid",
    "x509-parser (dev)",
    "zeroize",
];

/// One line of a manifest: a package, the dependency that it declares, and `(dev)` or `(build)` after it where it is one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrow {
    from: String,
    to: String,
}

/// Every dependency that a manifest of the workspace declares.
pub(crate) fn declared() -> BTreeSet<Arrow> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo reads the workspace's manifests");
    let packages = metadata.packages.iter();
    let arrows = packages.flat_map(|package| {
        package.dependencies.iter().map(|dependency| {
            let kind = match dependency.kind {
                cargo_metadata::DependencyKind::Development => " (dev)",
                cargo_metadata::DependencyKind::Build => " (build)",
                _ => "",
            };
            Arrow { from: package.name.to_string(), to: format!("{}{kind}", dependency.name) }
        })
    });
    arrows.collect()
}

/// Arrows between crates of ours that are not in the list, dev and build dependencies too.
pub(crate) fn violations(arrows: &BTreeSet<Arrow>) -> Vec<String> {
    arrows.iter().filter_map(violation).collect()
}

fn violation(arrow: &Arrow) -> Option<String> {
    let Some((_, allowed)) = ALLOWED.iter().find(|(package, _)| *package == arrow.from) else {
        return Some(format!("{} is a package that the list of arrows does not know", arrow.from));
    };
    let to = arrow.to.split(' ').next().unwrap_or_default();
    let is_ours = to == "carrack" || to.starts_with("carrack-");
    (is_ours && !allowed.contains(&to)).then(|| format!("{} must not depend on {}", arrow.from, arrow.to))
}

/// Dependencies of `authority` that are not in its list.
pub(crate) fn impurities(arrows: &BTreeSet<Arrow>) -> Vec<String> {
    let of_authority = arrows.iter().filter(|arrow| arrow.from == "carrack-authority");
    let foreign = of_authority.filter(|arrow| !PURE.contains(&arrow.to.as_str()));
    foreign.map(|arrow| format!("carrack-authority must stay pure: {} is not in its list", arrow.to)).collect()
}

/// What may turn on the bugs on purpose, with the feature and whatever it turns on.
const PLANTER: &str = "carrack-simulation";
const PLANTED: &str = "planted";

/// Packages that turn on the bugs on purpose: by a dependency's feature, or by default.
pub(crate) fn planters() -> BTreeSet<String> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo reads the workspace's manifests");
    let is_on = |features: &[String]| features.iter().any(|feature| feature.ends_with(PLANTED));
    let packages = metadata.packages.iter().filter(|package| {
        package.dependencies.iter().any(|dependency| is_on(&dependency.features))
            || package.features.get("default").is_some_and(|features| is_on(features))
    });
    packages.map(|package| package.name.to_string()).collect()
}

/// Whether the simulator, and nothing else, turns them on.
pub(crate) fn is_planted_by_the_simulator_alone(planters: &BTreeSet<String>) -> bool {
    planters.iter().eq([PLANTER])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrows(pairs: &[(&str, &str)]) -> BTreeSet<Arrow> {
        pairs.iter().map(|(from, to)| Arrow { from: (*from).into(), to: (*to).into() }).collect()
    }

    #[test]
    fn each_forbidden_arrow_is_seen() {
        let forbidden = [
            ("carrack-authority", "carrack-proto"),
            ("carrack-authority", "carrack-proto (dev)"),
            ("carrack-proto", "carrack-raft"),
            ("carrack-federation", "carrack-raft"),
            ("carrack-federation", "carrack"),
            ("carrack-raft", "carrack-federation"),
            ("carrack-raft", "carrack (build)"),
            ("carrack", "carrack-simulation (dev)"),
            ("carrack-simulation", "carrack-tests"),
            ("carrack-unheard-of", "serde"),
        ];
        for arrow in forbidden {
            assert_eq!(violations(&arrows(&[arrow])).len(), 1, "{arrow:?}");
        }
    }

    #[test]
    fn the_arrows_of_the_design_pass() {
        let allowed = [
            ("carrack-tests", "carrack-simulation"),
            ("carrack-tests", "carrack"),
            ("carrack-simulation", "carrack"),
            ("carrack", "carrack-raft"),
            ("carrack", "carrack-federation"),
            ("carrack-raft", "carrack-proto"),
            ("carrack-federation", "carrack-authority"),
            ("carrack-proto", "carrack-authority"),
            ("carrack-raft", "openraft"),
        ];
        assert_eq!(violations(&arrows(&allowed)), Vec::<String>::new());
    }

    #[test]
    fn a_second_planter_is_seen_and_so_is_none() {
        let planters = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert!(is_planted_by_the_simulator_alone(&planters(&[PLANTER])));
        assert!(!is_planted_by_the_simulator_alone(&planters(&[PLANTER, "carrack"])));
        assert!(!is_planted_by_the_simulator_alone(&planters(&[])));
    }

    #[test]
    fn a_runtime_or_a_random_source_in_authority_is_seen() {
        for dependency in ["tokio", "rand", "aws-lc-rs", "tokio (dev)", "serde (build)"] {
            assert_eq!(impurities(&arrows(&[("carrack-authority", dependency)])).len(), 1, "{dependency}");
        }
        assert_eq!(impurities(&arrows(&[("carrack-authority", "serde"), ("carrack", "tokio")])), Vec::<String>::new());
    }
}
