//! Writes of intentions on three real servers: distinct destinations, one destination, few and many sources; and whom they wake.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use carrack_tests::cluster::Cluster;
use clap::Args;
use comfy_table::Table;
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    http_load::{self, Connection, Round, request},
    limits,
    process::usage,
};

/// How many rows each client writes in turn: with them the state stays as large as it is.
const ROWS_PER_CLIENT: usize = 50;
/// The clients of the rounds that compare few and many sources, and of those with watchers.
const CLIENTS: usize = 16;
/// How long blocking queries wait: longer than the rounds.
const WAIT_SECONDS: u64 = 300;

/// How intentions are measured.
#[derive(Args)]
pub(crate) struct IntentionsArguments {
    /// Numbers of clients, one round each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    clients: Vec<usize>,
    /// Length of each round in seconds
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// How many sources the destination with many has
    #[arg(long, default_value_t = 10_000)]
    sources: usize,
    /// How many blocking queries wait for other destinations
    #[arg(long, default_value_t = 500)]
    watchers: usize,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// One round.
struct Line {
    what: String,
    round: Round,
    /// Of all servers.
    cpu_seconds: f64,
}

/// Who waited, and who was woken.
struct Woken {
    waiting: usize,
    by_others: usize,
    by_own: usize,
}

/// The servers, and how they are written to.
struct Target {
    addresses: Vec<SocketAddr>,
    processes: Vec<u32>,
    token: String,
    length: Duration,
}

pub(crate) fn run(arguments: &IntentionsArguments) -> anyhow::Result<()> {
    let cluster = Cluster::form(3);
    cluster.wait_until_known(&cluster.token);
    let syncs = limits::syncs(&cluster.any().data_directory())?;
    let target = Target {
        addresses: cluster.servers.iter().map(|server| server.http).collect(),
        processes: cluster.servers.iter().map(carrack_tests::server::Server::process_id).collect(),
        token: cluster.token.clone(),
        length: Duration::from_secs(arguments.seconds),
    };
    let (lines, woken) = http_load::runtime()?.block_on(measure(&target, arguments))?;
    print(arguments.json, syncs, &lines, &woken)
}

async fn measure(target: &Target, arguments: &IntentionsArguments) -> anyhow::Result<(Vec<Line>, Woken)> {
    let mut lines = Vec::new();
    for clients in &arguments.clients {
        let distinct = |client, row| (format!("web-{client}"), format!("db-{client}-{row}"));
        lines.push(target.write("distinct destinations", *clients, distinct).await?);
        let one = |client, row| (format!("web-{client}-{row}"), "one".to_owned());
        lines.push(target.write("one destination", *clients, one).await?);
    }
    target.fill("many", arguments.sources).await?;
    let few = |client, _| ("source".to_owned(), format!("few-{client}"));
    let many = |client, _| (format!("source-{client}"), "many".to_owned());
    lines.push(target.write("1 source each", CLIENTS, few).await?);
    lines.push(target.write(&format!("one with {} sources", arguments.sources), CLIENTS, many).await?);
    let watched = target.watch(arguments.watchers).await?;
    let what = format!("{} blocking queries on others", arguments.watchers);
    lines.push(target.write(&what, CLIENTS, few).await?);
    let woken = watched.end(target).await?;
    Ok((lines, woken))
}

impl Target {
    /// A round of writes, each of which changes its row. `row`: source and destination of a row of a client.
    async fn write(
        &self,
        what: &str,
        clients: usize,
        row: impl Fn(usize, usize) -> (String, String) + Clone + Send + 'static,
    ) -> anyhow::Result<Line> {
        let token = self.token.clone();
        let make = move |client, number| {
            let (source, destination) = row(client, number % ROWS_PER_CLIENT);
            put(&source, &destination, &token, &format!("change {number}"))
        };
        let before = self.cpu_seconds()?;
        let round = http_load::round(&self.addresses, clients, self.length, make).await?;
        Ok(Line { what: what.into(), round, cpu_seconds: self.cpu_seconds()? - before })
    }

    /// Gives a destination so many sources.
    async fn fill(&self, destination: &'static str, sources: usize) -> anyhow::Result<()> {
        let next = Arc::new(AtomicUsize::new(0));
        let mut running = JoinSet::new();
        for address in self.addresses.iter().cycle().take(CLIENTS) {
            let (mut connection, next) = (Connection::open(*address).await?, next.clone());
            let token = self.token.clone();
            running.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= sources {
                        return anyhow::Ok(());
                    }
                    let request = put(&format!("source-{number}"), destination, &token, "");
                    let (status, body) = connection.send(&request).await?;
                    ensure!(status == 200, "an intention is refused: {status} {}", String::from_utf8_lossy(body));
                }
            });
        }
        while let Some(client) = running.join_next().await {
            client??;
        }
        Ok(())
    }

    /// Blocking queries on as many destinations, which wait when this returns.
    async fn watch(&self, watchers: usize) -> anyhow::Result<Watched> {
        let woken = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for number in 0..watchers {
            let mut connection = Connection::open(self.addresses[number % self.addresses.len()]).await?;
            let destination = watched_destination(number);
            let made = connection.send(&put("web", &destination, &self.token, "watched")).await?.0;
            ensure!(made == 200, "an intention is refused with {made}");
            let path = format!("/v1/connect/intentions/match?by=destination&name={destination}");
            let (_, body) = connection.send(&request("GET", &path, &self.token, "")).await?;
            let index = last_index(body).context("a match has its row's index")?;
            let blocking = format!("{path}&index={index}&wait={WAIT_SECONDS}s");
            connection.write(&request("GET", &blocking, &self.token, "")).await?;
            let woken = woken.clone();
            tasks.spawn(async move {
                let answered = connection.answer().await.map(|(status, _)| status);
                woken.fetch_add(1, Ordering::Relaxed);
                answered
            });
        }
        // They are sent; a second later they wait.
        sleep(Duration::from_secs(1)).await;
        ensure!(woken.load(Ordering::Relaxed) == 0, "blocking queries were answered before anything was written");
        Ok(Watched { woken, _tasks: tasks, waiting: watchers })
    }

    fn cpu_seconds(&self) -> anyhow::Result<f64> {
        self.processes.iter().map(|process| Ok(usage(*process)?.cpu_seconds)).sum()
    }
}

fn watched_destination(number: usize) -> String {
    format!("watched-{number}")
}

/// A write of a row.
fn put(source: &str, destination: &str, token: &str, description: &str) -> Vec<u8> {
    let path = format!("/v1/connect/intentions/exact?source={source}&destination={destination}");
    let body = json!({ "Action": "allow", "Description": description });
    request("PUT", &path, token, &body.to_string())
}

/// The highest index of the rows of a match.
fn last_index(body: &[u8]) -> Option<u64> {
    let matches: serde_json::Value = serde_json::from_slice(body).ok()?;
    let rows = matches.as_object()?.values().filter_map(|rows| rows.as_array()).flatten();
    rows.filter_map(|row| row["ModifyIndex"].as_u64()).max()
}

/// Blocking queries that wait.
struct Watched {
    woken: Arc<AtomicUsize>,
    _tasks: JoinSet<anyhow::Result<u16>>,
    waiting: usize,
}

impl Watched {
    /// How many were woken so far; and whether those wait still whose own destination is written now.
    async fn end(self, target: &Target) -> anyhow::Result<Woken> {
        let by_others = self.woken.load(Ordering::Relaxed);
        let mut connection = Connection::open(target.addresses[0]).await?;
        let own = self.waiting.min(10);
        for number in 0..own {
            connection.send(&put("web", &watched_destination(number), &target.token, "changed")).await?;
        }
        sleep(Duration::from_secs(1)).await;
        let by_own = self.woken.load(Ordering::Relaxed) - by_others;
        ensure!(by_own == own, "{own} watched destinations were written, and {by_own} of their queries were answered");
        Ok(Woken { waiting: self.waiting, by_others, by_own })
    }
}

impl Line {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    fn cpu_us(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.round.latencies.count().max(1) as f64
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "what": self.what,
            "clients": self.round.clients,
            "writes_per_second": self.round.rate(),
            "p50_ms": self.round.latencies.percentile_ms(50),
            "p99_ms": self.round.latencies.percentile_ms(99),
            "cpu_us_per_write": self.cpu_us(),
            "refused": self.round.refused.0,
            "first_refusal": self.round.refused.1,
        })
    }

    fn to_row(&self, syncs: f64) -> Vec<String> {
        vec![
            self.what.clone(),
            self.round.clients.to_string(),
            format!("{:.0}", self.round.rate()),
            format!("{:.2}", self.round.rate() / syncs),
            format!("{:.2}", self.round.latencies.percentile_ms(50)),
            format!("{:.2}", self.round.latencies.percentile_ms(99)),
            format!("{:.0}", self.cpu_us()),
            self.round.refused.0.to_string(),
        ]
    }
}

#[expect(clippy::print_stdout, reason = "the result of a command")]
fn print(as_json: bool, syncs: f64, lines: &[Line], woken: &Woken) -> anyhow::Result<()> {
    if as_json {
        let figures = json!({
            "durable_appends_per_second": syncs,
            "rounds": lines.iter().map(Line::to_json).collect::<Vec<_>>(),
            "waiting": woken.waiting,
            "woken_by_others": woken.by_others,
            "woken_by_own": woken.by_own,
        });
        println!("{}", serde_json::to_string_pretty(&figures)?);
        return Ok(());
    }
    println!("limit: {syncs:.0} durable appends/s\n");
    let mut table = Table::new();
    table.set_header(["written", "clients", "writes/s", "/ appends", "p50 ms", "p99 ms", "CPU us/write", "refused"]);
    for line in lines {
        table.add_row(line.to_row(syncs));
    }
    println!("{table}");
    let Woken { waiting, by_others, by_own } = woken;
    println!(
        "\nblocking queries on other destinations: {by_others} of {waiting} woken; by writes of their own: {by_own}"
    );
    Ok(())
}
