//! A leaf as `carrack leaf get` writes it.

use std::path::Path;

use serde_json::Value;

use crate::cluster::Cluster;

/// The files of a leaf, and who it is.
#[derive(Clone, Debug)]
pub struct LeafFiles {
    /// Its SPIFFE id.
    pub identity: String,
    /// The roots that its own datacenter serves.
    pub roots: String,
    /// The issuers between it and a root.
    pub chain: String,
    /// Itself, and its chain.
    pub leaf: String,
    /// Its key.
    pub key: String,
}

impl LeafFiles {
    /// Has a leaf of a service made by some server of the cluster, in a directory of its own under `directory`.
    ///
    /// # Panics
    /// Panics if none is made.
    #[track_caller]
    pub fn make(cluster: &Cluster, service: &str, directory: &Path) -> Self {
        Self::make_of_kind(cluster, service, "ec-p256", directory)
    }

    /// The same with a key of this kind.
    ///
    /// # Panics
    /// Panics if none is made.
    #[track_caller]
    pub fn make_of_kind(cluster: &Cluster, service: &str, kind: &str, directory: &Path) -> Self {
        let out = directory.join(format!("{service}-{kind}"));
        let out = out.to_str().expect("the directory is text");
        let arguments = ["leaf", "get", service, "--key", kind, "--out", out, "--format", "json"];
        let made: Value = cluster.any().carrack(&cluster.token, &arguments).expect_json();
        let file = |name: &str| format!("{out}/{name}");
        Self {
            identity: made["SpiffeID"].as_str().expect("a leaf has an identity").to_owned(),
            roots: file("roots.pem"),
            chain: file("chain.pem"),
            leaf: file(&format!("{service}.pem")),
            key: file(&format!("{service}.key")),
        }
    }
}
