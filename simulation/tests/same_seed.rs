//! The promise of the simulator, on the built command: one seed gives one trace, in every process.

use std::process::{Command, Output};

use serde_json::Value;

fn simulator(arguments: &[&str]) -> Output {
    let command = Command::new(env!("CARGO_BIN_EXE_carrack-simulation")).args(arguments).output();
    command.expect("the simulator can be run")
}

fn report(arguments: &[&str]) -> Value {
    let output = simulator(&[&["one"], arguments].concat());
    serde_json::from_slice(&output.stdout).expect("a world tells its report as JSON")
}

#[test]
fn the_same_seed_gives_the_same_trace_in_two_processes_and_another_seed_another() {
    // Seeds of small worlds: this test runs unoptimised.
    let (one, again, other) = (report(&["7"]), report(&["7"]), report(&["10"]));
    assert_eq!(one["violations"], serde_json::json!([]));
    assert!(one["events"].as_u64() > Some(100), "{one}");
    assert_eq!((&one["digest"], &one["events"]), (&again["digest"], &again["events"]));
    assert_ne!(one["digest"], other["digest"]);
}

#[test]
fn a_failing_seed_says_how_to_see_it_again_and_fails_the_command() {
    let output = simulator(&["replay", "7", "--plant", "pem-without-newline"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    for expected in ["seed 7 FAILED", "served_chain_minimal", "configuration: {", "replay 7", "the last "] {
        assert!(said.contains(expected), "{expected} is not in: {said}");
    }
}
