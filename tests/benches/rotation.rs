//! A rotation of the root under leaves of one agent, on three real servers: how long until leaves are issued under the new root, and until
//! none that is in use is under the former one.

use std::time::Duration;

use anyhow::{Context, ensure};
use carrack_tests::{agent::Agent, cluster::Cluster, http::Http, wait};
use clap::Args;
use comfy_table::Table;
use serde_json::{Value, json};

/// How long a rotation may take before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(300);
/// An agent renews its own certificate no sooner than this after it has.
const REST: Duration = Duration::from_secs(6);
/// How often it is looked how far it is.
const LOOK: Duration = Duration::from_millis(20);

/// How rotations are measured.
#[derive(Args)]
pub(crate) struct RotationArguments {
    /// How many leaves the agent keeps
    #[arg(long, default_value_t = 500)]
    leaves: usize,
    /// How many rotations, one after the other
    #[arg(long, default_value_t = 3)]
    rotations: usize,
    /// The key of the new roots
    #[arg(long, default_value = "ec-p256")]
    key_type: String,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Seconds since the rotation was asked for.
struct Took {
    activated: f64,
    over: f64,
    reissued: f64,
}

pub(crate) fn run(arguments: &RotationArguments) -> anyhow::Result<()> {
    let cluster = Cluster::form(3);
    let directory = tempfile::tempdir()?;
    let made = ["token", "agent", "--node", "host", "--format", "json"];
    let made = cluster.any().command(&cluster.token, &made).run().expect_json();
    let mut agent = Agent::new("host", directory.path());
    agent.start(made["Token"].as_str());
    agent.wait_until_ready();
    let client = agent.client().with_token(&cluster.token);
    for number in 0..arguments.leaves {
        let path = format!("/v1/agent/connect/ca/leaf/service-{number}");
        let answer = client.send("GET", &path, None).map_err(anyhow::Error::msg)?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.body);
    }
    let server = cluster.any().client().with_token(&cluster.token);
    let all = (0..arguments.rotations).map(|_| rotate(&server, arguments)).collect::<anyhow::Result<Vec<_>>>()?;
    print(arguments, &all)
}

fn rotate(server: &Http, arguments: &RotationArguments) -> anyhow::Result<Took> {
    let body = json!({ "KeyType": arguments.key_type });
    let began = wait::now();
    let answer = server.send("PUT", "/v1/carrack/ca/rotation", Some(&body)).map_err(anyhow::Error::msg)?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
    let id = answer.json()["ID"].clone();
    let (mut activated, mut over) = (None, None);
    loop {
        let seconds = began.elapsed().as_secs_f64();
        ensure!(seconds < PATIENCE.as_secs_f64(), "the rotation is not over after {seconds:.0} s");
        let status = server.read("/v1/carrack/ca?stale").map_err(anyhow::Error::msg)?;
        let is_over = status["LastRotation"]["ID"] == id;
        if is_over || status["Rotation"]["ActivatedAt"].is_string() {
            activated.get_or_insert(seconds);
        }
        if is_over {
            over.get_or_insert(seconds);
        }
        if let (Some(activated), Some(over)) = (activated, over)
            && in_use_under_retired(&status)? == 0
        {
            std::thread::sleep(REST);
            return Ok(Took { activated, over, reissued: seconds });
        }
        std::thread::sleep(LOOK);
    }
}

fn in_use_under_retired(status: &Value) -> anyhow::Result<u64> {
    let roots = status["Roots"].as_array().context("a status has roots")?;
    let retired = roots.iter().filter(|root| root["Phase"] == "retired");
    let left = retired.flat_map(|root| root["Leaves"].as_array().into_iter().flatten());
    Ok(left.filter_map(|left| left["Current"].as_u64()).sum())
}

#[expect(clippy::print_stdout, reason = "the result of a command")]
fn print(arguments: &RotationArguments, all: &[Took]) -> anyhow::Result<()> {
    if arguments.json {
        let rotations: Vec<Value> = all
            .iter()
            .map(|took| json!({ "Activated": took.activated, "Over": took.over, "Reissued": took.reissued }))
            .collect();
        println!("{}", json!({ "Leaves": arguments.leaves, "KeyType": arguments.key_type, "Rotations": rotations }));
        return Ok(());
    }
    println!(
        "{} leaves of one agent, roots with {}, three servers; seconds since the command:",
        arguments.leaves, arguments.key_type
    );
    let mut table = Table::new();
    table.set_header(["rotation", "new root active", "rotation over", "every leaf in use is under it"]);
    for (number, took) in (1..).zip(all) {
        let seconds = |of: f64| format!("{of:.2}");
        table.add_row([number.to_string(), seconds(took.activated), seconds(took.over), seconds(took.reissued)]);
    }
    println!("{table}");
    Ok(())
}
