//! `openssl verify` looks at leaves of either datacenter with the roots that the other one serves: before, during and after an outage.

use std::{fs, path::Path, time::Duration};

use carrack_tests::{
    cluster::Cluster,
    leaf::LeafFiles,
    openssl::assert_verified,
    server::{Server, Start},
    wait,
    wan::Wan,
};

/// What a message takes on the way.
const DELAY: Duration = Duration::from_millis(15);

/// Writes the roots that a datacenter serves now, as whoever verifies there fetches them.
fn roots(cluster: &Cluster, directory: &Path, name: &str) -> String {
    let answer = wait::until("the roots", || {
        let answer = cluster.any().client().send("GET", "/v1/connect/ca/roots?pem=true", None)?;
        wait::holds(answer.status == 200, || answer.body.clone()).map(|()| answer.body)
    });
    let file = directory.join(name);
    fs::write(&file, answer).expect("the roots can be written");
    file.to_str().expect("the directory is text").to_owned()
}

#[test]
fn leaves_of_either_datacenter_verify_at_the_other_before_during_and_after_an_outage() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let directory = directory.path();
    let wan = Wan::new(DELAY);
    let mut primary = Cluster::form_primary(3, &wan);
    let mut secondary = Cluster::form_secondary(1, "dc2", &primary);
    let (web, api) = (LeafFiles::make(&primary, "web", directory), LeafFiles::make(&secondary, "api", directory));
    assert!(web.identity.contains("/dc/dc1/") && api.identity.contains("/dc/dc2/"), "{web:?} {api:?}");
    let before = roots(&primary, directory, "dc1-before.pem");
    assert_verified(&web, &roots(&secondary, directory, "dc2-before.pem"));
    assert_verified(&api, &before);

    // Nothing of the primary answers, and the secondary begins anew with what it has.
    wan.cut();
    primary.servers.iter_mut().for_each(Server::pause);
    let server = &mut secondary.servers[0];
    server.kill();
    server.start(Start::Again);
    server.wait_until_ready();
    let during = LeafFiles::make(&secondary, "during", directory);
    assert_verified(&web, &roots(&secondary, directory, "dc2-during.pem"));
    for leaf in [&api, &during] {
        assert_verified(leaf, &before);
    }

    wan.heal();
    primary.servers.iter_mut().for_each(Server::resume);
    primary.wait_until_all_issue();
    let after = [LeafFiles::make(&primary, "after", directory), LeafFiles::make(&secondary, "after-too", directory)];
    let (of_primary, of_secondary) =
        (roots(&primary, directory, "dc1-after.pem"), roots(&secondary, directory, "dc2-after.pem"));
    for leaf in [&api, &during, &after[1]] {
        assert_verified(leaf, &of_primary);
    }
    for leaf in [&web, &after[0]] {
        assert_verified(leaf, &of_secondary);
    }
}
