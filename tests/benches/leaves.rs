//! Committed leaves per second on three server processes, at several numbers of clients, and what each leaf costs.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use carrack::{
    keys::{aws_lc::AwsLcKeyMaker, secret::KeyMaker},
    tls::client::ServerRoots,
};
use carrack_authority::{
    key::KeyKind,
    spiffe::{Identity, Name, SpiffeId},
    x509::{RequestedName, build_csr},
};
use carrack_tests::{cluster::Cluster, grpc};
use clap::Args;
use comfy_table::Table;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    client::{self, Seen},
    limits::{self, Limits},
    process::{Usage, usage},
};

/// How many CSRs each client takes in turn: their keys are made beforehand.
const CSRS_PER_CLIENT: usize = 32;

/// How leaves are measured.
#[derive(Args)]
pub(crate) struct LeavesArguments {
    /// Numbers of clients, one round each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    clients: Vec<usize>,
    /// Length of each round in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Only the leader is asked; default: the clients are spread over the servers
    #[arg(long)]
    leader_only: bool,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// One round's figures.
struct Round {
    clients: usize,
    seconds: f64,
    rate: f64,
    p50: Duration,
    p99: Duration,
    cpu: Vec<f64>,
    bytes_per_leaf: f64,
    refusals: Vec<String>,
}

pub(crate) fn run(arguments: &LeavesArguments) -> anyhow::Result<()> {
    let mut cluster = Cluster::form(3);
    let limits = limits::measure(&cluster.any().data_directory())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rounds = Vec::new();
    for clients in &arguments.clients {
        let target = target(&mut cluster, arguments)?;
        rounds.push(runtime.block_on(round(target, *clients, arguments))?);
    }
    print(arguments.json, &limits, &rounds)
}

/// What a round needs of the cluster; the harness asks the servers in its own way, so it is asked before the round runs.
struct Target {
    addresses: Vec<String>,
    processes: Vec<u32>,
    id: SpiffeId,
    roots: ServerRoots,
    token: String,
}

fn target(cluster: &mut Cluster, arguments: &LeavesArguments) -> anyhow::Result<Target> {
    let all = ["a", "b", "c"].map(String::from);
    let asked: Vec<String> = if arguments.leader_only { vec![cluster.leader()] } else { all.to_vec() };
    let status = cluster.any().status(&cluster.token).map_err(anyhow::Error::msg)?;
    let trust_domain = status["TrustDomain"].as_str().context("status names the trust domain")?.parse()?;
    let roots = std::fs::read_to_string(cluster.any().data_directory().join("server-ca.pem"))?;
    Ok(Target {
        addresses: asked.iter().map(|name| cluster.server(name).grpc.to_string()).collect(),
        processes: all.iter().map(|name| cluster.server(name).process_id()).collect(),
        id: SpiffeId::service(trust_domain, Name::parse("dc", "dc1")?, Name::parse("service", "bench")?),
        roots: ServerRoots::from_pem(&roots)?,
        token: cluster.token.clone(),
    })
}

async fn round(target: Target, clients: usize, arguments: &LeavesArguments) -> anyhow::Result<Round> {
    let mut ready = Vec::new();
    for position in 0..clients {
        let address = &target.addresses[position % target.addresses.len()];
        ready.push((grpc::connect(address, target.roots.clone()).await?, csrs(&target.id)?));
    }
    let processes = &target.processes;
    let before = processes.iter().map(|process| usage(*process)).collect::<anyhow::Result<Vec<Usage>>>()?;
    let began = Instant::now();
    let end = began + Duration::from_secs(arguments.seconds);
    let token = target.token;
    let running = ready.into_iter().map(|(client, csrs)| tokio::spawn(client::run(client, token.clone(), csrs, end)));
    let running: Vec<_> = running.collect();
    let mut seen = Seen::default();
    for client in running {
        let one = client.await?;
        seen.latencies.extend(one.latencies);
        seen.refusals.extend(one.refusals);
    }
    let seconds = began.elapsed().as_secs_f64();
    let after = processes.iter().map(|process| usage(*process)).collect::<anyhow::Result<Vec<Usage>>>()?;
    Ok(figures(clients, seconds, seen, &before, &after))
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn figures(clients: usize, seconds: f64, mut seen: Seen, before: &[Usage], after: &[Usage]) -> Round {
    seen.latencies.sort_unstable();
    let count = seen.latencies.len().max(1);
    let at = |share: usize| seen.latencies.get(count * share / 100).copied().unwrap_or_default();
    let both = || before.iter().zip(after);
    Round {
        clients,
        seconds,
        rate: seen.latencies.len() as f64 / seconds,
        p50: at(50),
        p99: at(99),
        cpu: both().map(|(before, after)| after.cpu_seconds - before.cpu_seconds).collect(),
        bytes_per_leaf: both().map(|(before, after)| after.bytes_written - before.bytes_written).sum::<f64>()
            / count as f64,
        refusals: seen.refusals,
    }
}

fn csrs(id: &SpiffeId) -> anyhow::Result<Vec<Bytes>> {
    let one = || {
        let signer = AwsLcKeyMaker.signer(&AwsLcKeyMaker.make(KeyKind::EcP256)?)?;
        let csr = build_csr(&*signer, &RequestedName::Leaf(&Identity::Spiffe(id.clone())))?;
        Ok(Bytes::copy_from_slice(csr.as_bytes()))
    };
    (0..CSRS_PER_CLIENT).map(|_| one()).collect()
}

impl Round {
    /// CPU microseconds of all servers together for each leaf.
    fn cpu_per_leaf(&self) -> f64 {
        self.cpu.iter().sum::<f64>() * 1e6 / (self.rate * self.seconds).max(1.0)
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "clients": self.clients,
            "leaves_per_second": self.rate,
            "p50_ms": self.p50.as_secs_f64() * 1e3,
            "p99_ms": self.p99.as_secs_f64() * 1e3,
            "cpu_seconds_per_server": self.cpu,
            "cpu_us_per_leaf": self.cpu_per_leaf(),
            "bytes_per_leaf": self.bytes_per_leaf,
            "refusals": self.refusals.len(),
            "first_refusal": self.refusals.first(),
        })
    }

    fn to_row(&self, limits: &Limits) -> Vec<String> {
        let bare = 1e6 / limits.leaves_per_core;
        vec![
            self.clients.to_string(),
            format!("{:.0}", self.rate),
            format!("{:.2}", self.rate / limits.leaves_per_core),
            format!("{:.2}", self.rate / limits.syncs),
            format!("{:.2}", self.p50.as_secs_f64() * 1e3),
            format!("{:.2}", self.p99.as_secs_f64() * 1e3),
            format!("{:.0}", self.cpu_per_leaf()),
            format!("{:.1}", self.cpu_per_leaf() / bare),
            format!("{:.1}", self.bytes_per_leaf / 1024.0),
            self.refusals.len().to_string(),
        ]
    }
}

#[expect(clippy::print_stdout, reason = "the result of a command")]
fn print(as_json: bool, limits: &Limits, rounds: &[Round]) -> anyhow::Result<()> {
    if as_json {
        let figures = json!({
            "leaf_signatures_per_core_second": limits.leaves_per_core,
            "durable_appends_per_second": limits.syncs,
            "rounds": rounds.iter().map(Round::to_json).collect::<Vec<_>>(),
        });
        println!("{}", serde_json::to_string_pretty(&figures)?);
        return Ok(());
    }
    let (leaves, syncs) = (limits.leaves_per_core, limits.syncs);
    println!("limits: {leaves:.0} CSRs verified and leaves signed/s on one core, {syncs:.0} durable appends/s\n");
    let mut table = Table::new();
    table.set_header([
        "clients",
        "leaves/s",
        "/ bare core",
        "/ appends",
        "p50 ms",
        "p99 ms",
        "CPU us/leaf",
        "x bare",
        "KiB/leaf",
        "refused",
    ]);
    for round in rounds {
        table.add_row(round.to_row(limits));
    }
    println!("{table}");
    Ok(())
}
