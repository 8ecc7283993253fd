//! Verifiers that nobody here wrote look at leaves, chains, keys and a server's own certificate.

use std::fs;

use carrack_tests::{
    cluster::Cluster,
    foreign::Python,
    leaf::LeafFiles,
    openssl::{assert_verified, expect_openssl, openssl},
};

#[test]
fn openssl_and_python_verify_leaves_of_each_kind_of_key() {
    let python = Python::with_clients().expect("the clients can be installed");
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let cluster = Cluster::form(1);
    for kind in ["ec-p256", "ec-p384", "rsa-2048"] {
        let made = LeafFiles::make_of_kind(&cluster, "web", kind, directory.path());
        assert_verified(&made, &made.roots);
        expect_openssl(&["x509", "-in", &made.leaf, "-noout", "-checkend", "259000"]);
        assert_eq!(openssl(&["x509", "-in", &made.leaf, "-noout", "-checkend", "260000"]).0, Some(1));
        let names = expect_openssl(&["x509", "-in", &made.leaf, "-noout", "-ext", "subjectAltName"]);
        assert!(names.contains(&format!("URI:{}", made.identity)), "{names}");
        let of_key = expect_openssl(&["pkey", "-in", &made.key, "-pubout"]);
        assert_eq!(expect_openssl(&["x509", "-in", &made.leaf, "-noout", "-pubkey"]), of_key);
        let files = [&*made.roots, &*made.chain, &*made.leaf, &*made.identity];
        python.run(include_str!("cryptography_verifies.py"), &files).unwrap();
    }
}

#[test]
fn a_request_made_by_openssl_is_signed_and_the_servers_own_certificate_verifies() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let cluster = Cluster::form(1);
    let path = |name: &str| directory.path().join(name).display().to_string();
    let status = cluster.any().status(&cluster.token).expect("the server tells its status");
    let id = format!("spiffe://{}/ns/default/dc/dc1/svc/api", status["TrustDomain"].as_str().expect("it has one"));
    let (key, request, leaf, roots) = (path("api.key"), path("api.csr"), path("api.pem"), path("roots.pem"));
    let names = format!("subjectAltName=URI:{id}");
    let new = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=api"];
    expect_openssl(&[&new[..], &["-addext", &names, "-keyout", &key, "-out", &request]].concat());
    let server = cluster.any();
    let signed = server.carrack(&cluster.token, &["sign", "--csr", &request]).expect_output();
    fs::write(&leaf, &signed).expect("the leaf can be written");
    let bundle = server.carrack("", &["ca", "roots", "--pem"]).expect_output();
    fs::write(&roots, &bundle).expect("the roots can be written");
    let verified = expect_openssl(&["verify", "-x509_strict", "-CAfile", &roots, "-untrusted", &leaf, &leaf]);
    assert_eq!(verified, format!("{leaf}: OK\n"));
    let of_key = expect_openssl(&["pkey", "-in", &key, "-pubout"]);
    assert_eq!(expect_openssl(&["x509", "-in", &leaf, "-noout", "-pubkey"]), of_key);
    let trusted = server.data_directory().join("server-ca.pem").display().to_string();
    for address in [server.https.to_string(), server.grpc.to_string()] {
        let handshake = ["s_client", "-brief", "-verify_return_error", "-tls1_3", "-CAfile", &trusted];
        let told = expect_openssl(&[&handshake[..], &["-verify_ip", "127.0.0.1", "-connect", &address]].concat());
        assert!(told.contains("Verification: OK"), "{told}");
        let old = openssl(&["s_client", "-brief", "-tls1_2", "-CAfile", &trusted, "-connect", &address]);
        assert_ne!(old.0, Some(0), "{}", old.1);
    }
}
