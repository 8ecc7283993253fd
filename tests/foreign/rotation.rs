//! What is served while one root follows another, for verifiers that know only one of the two: each pair of kinds of keys, and
//! roots that a company's own CA has signed.

use std::path::Path;

use carrack_authority::key::KeyKind;
use carrack_tests::{
    cluster::Cluster,
    foreign::Python,
    gnutls::assert_trusted,
    mesh_ca::{IsInBundle, MeshCa, ServedFiles, write_roots},
    openssl::{expect_openssl, openssl},
    wait,
};

/// OpenSSL verifies a leaf by these roots alone, for either side of a handshake.
fn expect_by_openssl(served: &ServedFiles, roots: &str, options: &[&str]) {
    for purpose in ["sslserver", "sslclient"] {
        let how = ["verify", "-x509_strict", "-purpose", purpose, "-no-CApath", "-CAfile", roots];
        let what = ["-untrusted", &*served.chain, &*served.leaf];
        let verified = expect_openssl(&[&how[..], options, &what].concat());
        assert_eq!(verified, format!("{}: OK\n", served.leaf));
    }
}

/// OpenSSL and GnuTLS do.
fn expect_verified(served: &ServedFiles, roots: &str, options: &[&str]) {
    expect_by_openssl(served, roots, options);
    assert_trusted(&served.full, roots);
}

#[test]
fn openssl_gnutls_and_python_follow_the_bridge_between_each_pair_of_kinds_of_keys() {
    let python = Python::with_clients().expect("the clients can be installed");
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let (ca, mut for_python) = (MeshCa::default(), Vec::new());
    let old = KeyKind::ALL.map(|kind| (kind, ca.mesh(kind)));
    let new = KeyKind::ALL.map(|kind| (kind, ca.mesh(kind)));
    for (old_kind, old) in &old {
        for (new_kind, new) in &new {
            let directory = directory.path().join(format!("{old_kind}-{new_kind}"));
            let served = ca.write_served(Some((old, IsInBundle(true))), new, &directory);
            let without = ca.write_served(None, new, &directory.join("without"));
            let old_root = write_roots(&[&old.root], &directory, "old.pem");
            let new_root = write_roots(&[&new.root], &directory, "new.pem");
            // Python's cryptography accepts no Ed25519 key in a chain, as it follows the rules of the web's CAs.
            let is_for_python = ![old_kind, new_kind].contains(&&KeyKind::Ed25519);
            for (served, root) in [(&served, &old_root), (&served, &new_root), (&without, &new_root)] {
                expect_verified(served, root, &[]);
                let files = [root, &served.chain, &served.leaf, &served.identity].map(Clone::clone);
                for_python.extend(files.into_iter().filter(|_| is_for_python));
            }
            let refused =
                openssl(&["verify", "-no-CApath", "-CAfile", &old_root, "-untrusted", &without.chain, &without.leaf]);
            assert_ne!(refused.0, Some(0), "{}", refused.1);
        }
    }
    let files: Vec<&str> = for_python.iter().map(String::as_str).collect();
    python.run(include_str!("chains_verify.py"), &files).unwrap();
}

/// A company's root, and a CA for the mesh that it has signed: made by `openssl`, with names as Active Directory gives them.
struct Company {
    root: String,
    mesh_key: String,
    mesh: String,
}

const EXTENSIONS: &str = "basicConstraints = critical,CA:TRUE,pathlen:2\nkeyUsage = critical,keyCertSign,cRLSign\n\
                          subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid:always\nnameConstraints = critical,permitted;DNS:example.org\n";

impl Company {
    fn make(directory: &Path, mesh_key: &[&str]) -> Self {
        let path = |name: &str| directory.join(name).display().to_string();
        let (root_key, root, csr) = (path("root.key"), path("root.pem"), path("mesh.csr"));
        let (key, mesh, extensions) = (path("mesh.key"), path("mesh.pem"), path("extensions"));
        std::fs::create_dir_all(directory).expect("a directory can be made");
        std::fs::write(&extensions, EXTENSIONS).expect("a file can be written");
        let new = [
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "5000",
            "-subj",
            "/DC=org/DC=example/CN=Example Root",
        ];
        let usages = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"];
        expect_openssl(&[&new[..], &usages, &["-keyout", &root_key, "-out", &root]].concat());
        expect_openssl(&[&["genpkey", "-out", &*key][..], mesh_key].concat());
        expect_openssl(&[
            "req",
            "-new",
            "-key",
            &key,
            "-subj",
            "/DC=org/DC=example/OU=PKI/OU=Mesh/CN=Example Mesh CA",
            "-out",
            &csr,
        ]);
        let sign = ["x509", "-req", "-in", &csr, "-CA", &root, "-CAkey", &root_key, "-CAcreateserial", "-days", "3000"];
        expect_openssl(&[&sign[..], &["-extfile", &extensions, "-out", &mesh]].concat());
        let read = |path: &str| std::fs::read_to_string(path).expect("openssl has written it");
        Self { mesh_key: read(&key), mesh: read(&mesh), root }
    }
}

#[test]
fn a_companys_ca_made_by_openssl_becomes_a_root_and_is_crossed_both_ways() {
    let python = Python::with_clients().expect("the clients can be installed");
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let (ca, mut for_python) = (MeshCa::default(), Vec::new());
    let own = ca.mesh(KeyKind::EcP256);
    let own_root = write_roots(&[&own.root], directory.path(), "own.pem");
    let kinds: [(&str, &[&str]); 3] = [
        ("ec", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
        ("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
        ("ed25519", &["-algorithm", "ED25519"]),
    ];
    for (kind, mesh_key) in kinds {
        let directory = directory.path().join(kind);
        let company = Company::make(&directory, mesh_key);
        let top = std::fs::read_to_string(&company.root).expect("openssl has written it");
        let supplied = ca.import(&company.mesh_key, &format!("{}{top}", company.mesh));
        let anchor = write_roots(&[&supplied.root], &directory, "anchor.pem");
        let bundle = write_roots(&[&own.root, &supplied.root], &directory, "bundle.pem");
        let (own_in_bundle, supplied_in_bundle) = (Some((&own, IsInBundle(true))), Some((&supplied, IsInBundle(true))));
        let alone = ca.write_served(None, &supplied, &directory.join("alone"));
        let to_supplied = ca.write_served(own_in_bundle, &supplied, &directory.join("to"));
        let from_supplied = ca.write_served(supplied_in_bundle, &own, &directory.join("from"));
        let pruned = ca.write_served(Some((&supplied, IsInBundle(false))), &own, &directory.join("pruned"));
        // OpenSSL ends a chain at an anchor that is not self-signed only with this flag.
        let partial = ["-partial_chain"];
        for (served, root, options) in [
            (&alone, &company.root, &[][..]),
            (&alone, &anchor, &partial),
            (&to_supplied, &own_root, &[]),
            (&to_supplied, &anchor, &partial),
            (&to_supplied, &bundle, &partial),
            (&from_supplied, &bundle, &partial),
            (&from_supplied, &anchor, &partial),
            (&from_supplied, &company.root, &[]),
            (&pruned, &own_root, &[]),
            (&pruned, &anchor, &partial),
        ] {
            expect_verified(served, root, options);
            let files = [root, &served.chain, &served.leaf, &served.identity].map(Clone::clone);
            for_python.extend(files.into_iter().filter(|_| kind != "ed25519"));
        }
        // GnuTLS would have to leave out what follows the bridge, and does so only with the whole bundle.
        expect_by_openssl(&from_supplied, &own_root, &[]);
    }
    let files: Vec<&str> = for_python.iter().map(String::as_str).collect();
    python.run(include_str!("chains_verify.py"), &files).unwrap();
}

/// What an operator does who has a company's root: two keys of the configuration, from files.
#[test]
fn an_operator_brings_a_companys_ca_and_openssl_verifies_a_leaf_under_it() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let company =
        Company::make(&directory.path().join("company"), &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]);
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (key, certificates) = (path("mesh.key"), path("mesh.pem"));
    let top = std::fs::read_to_string(&company.root).expect("openssl has written it");
    std::fs::write(&key, &company.mesh_key).expect("a file can be written");
    std::fs::write(&certificates, format!("{}{top}", company.mesh)).expect("a file can be written");
    let cluster = Cluster::form(1);
    let client = cluster.any().client().with_token(&cluster.token);
    let get = |path: &str| client.send("GET", path, None).expect("an answer").body;
    std::fs::write(path("own.pem"), get("/v1/connect/ca/roots?pem=true")).expect("a file can be written");

    let (key, certificates) = (format!("PrivateKey=@{key}"), format!("RootCert=@{certificates}"));
    let cut = cluster.any().command(&cluster.token, &["ca", "config", &certificates]).run();
    assert_eq!(cut.code, Some(1), "{}", cut.output);
    assert!(cut.errors.contains("must provide a private key when providing a root cert"), "{}", cut.errors);
    let shown = cluster.any().command(&cluster.token, &["ca", "config", &key, &certificates]).run();
    assert_eq!(shown.code, Some(0), "{}", shown.errors);
    assert!(!shown.output.contains("PRIVATE"), "{}", shown.output);

    let served = wait::until("a leaf under it", || {
        let leaf = client.read("/v1/agent/connect/ca/leaf/web")?;
        let chain = leaf["CertPEM"].as_str().unwrap_or_default().to_owned();
        // The leaf, its issuer, the bridge, the company's certificate for the mesh.
        wait::holds(chain.matches("BEGIN CERTIFICATE").count() == 4, || chain.clone())?;
        Ok(chain)
    });
    std::fs::write(path("served.pem"), served).expect("a file can be written");
    std::fs::write(path("bundle.pem"), get("/v1/connect/ca/roots?pem=true")).expect("a file can be written");
    let served = path("served.pem");
    // Whoever has only the root of before, and whoever has the bundle. OpenSSL ends a chain at an anchor that is not self-signed only with
    // a flag.
    for (roots, options) in [("own.pem", &[][..]), ("bundle.pem", &["-partial_chain"])] {
        let how = ["verify", "-x509_strict", "-purpose", "sslserver", "-no-CApath", "-CAfile", &path(roots)];
        expect_openssl(&[&how[..], options, &["-untrusted", &served, &served]].concat());
    }
    let log = cluster.any().log();
    assert!(!log.contains("PRIVATE KEY"), "{log}");
}
