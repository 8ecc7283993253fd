//! Stories told by clients that nobody here wrote, against real servers: `cargo foreign`.

mod datacenters;
mod py_consul;
mod rotation;
mod rotation_under_load;
mod verifiers;

use carrack_tests::foreign::Python;

#[test]
fn the_clients_are_installed_at_the_versions_of_the_list() {
    let python = Python::with_clients().expect("the clients can be installed");
    let wanted = include_str!("requirements.txt").lines().map(str::trim).filter(|line| !line.is_empty());
    let script = "import sys; from importlib.metadata import version; print(version(sys.argv[1]), end='')";
    for requirement in wanted {
        let (name, version) = requirement.split_once("==").expect("each client is pinned");
        assert_eq!(python.run(script, &[name]).expect("python runs"), version, "{name}");
    }
}
