//! How fast secondaries take over the primary's tokens, what that costs their leader, and how soon a deleted token ends there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use carrack_tests::{
    cluster::Cluster,
    http::{Http, runtime},
    server::{Server, Start},
    wait,
    wan::Wan,
};
use clap::Args;
use comfy_table::Table;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    limits,
    process::{Memory, Usage, memory, usage},
};

/// How long a secondary may take before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(300);
/// How many times a token is deleted to see when a secondary refuses it.
const DELETIONS: usize = 50;

/// How tokens are measured.
#[derive(Args)]
pub(crate) struct TokensArguments {
    /// How many tokens the primary has
    #[arg(long, default_value_t = 100_000)]
    tokens: usize,
    /// How many clients make them
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// What a message takes on the way between the datacenters, in milliseconds
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// What one secondary needed for all tokens.
struct Taken {
    secondary: &'static str,
    tokens: usize,
    seconds: f64,
    /// Of its leader, as is all that follows.
    before: Memory,
    after: Memory,
    cpu_seconds: f64,
    bytes_written: f64,
}

/// When a deleted token is refused in the secondary, sorted; and when the deletion is answered in the primary.
struct Deleted {
    refused: Vec<Duration>,
    answered: Vec<Duration>,
}

pub(crate) fn run(arguments: &TokensArguments) -> anyhow::Result<()> {
    let primary = match arguments.delay {
        0 => Cluster::form(3),
        delay => Cluster::form_primary(3, &Wan::new(Duration::from_millis(delay))),
    };
    let syncs = limits::syncs(&primary.any().data_directory())?;
    let mut away = Cluster::form_secondary(3, "dc2", &primary);
    away.kill_all();
    let (revision, filled) = fill(&primary, arguments)?;
    let mut taken = Vec::new();
    let token = primary.federation_token("dc3");
    let directory = tempfile::tempdir()?;
    let mut fresh = Server::new("x", directory.path());
    fresh.flags = ["--datacenter", "dc3", "--without-recovery"].map(str::to_owned).into();
    fresh.start(Start::BootstrapSecondary(&token));
    taken.push(take("fresh, 1 server", &[&fresh], &primary.token, revision)?);
    let deleted = runtime().block_on(deletions(&primary, &fresh))?;
    fresh.kill();
    away.servers.iter_mut().for_each(|server| server.start(Start::Again));
    let servers: Vec<&Server> = away.servers.iter().collect();
    taken.push(take("was away, 3 servers", &servers, &primary.token, revision)?);
    print(arguments.json, syncs, filled, &taken, &deleted)
}

/// Makes the tokens in the primary over its HTTP API; the revision of the last one, and how many a second.
#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn fill(primary: &Cluster, arguments: &TokensArguments) -> anyhow::Result<(u64, f64)> {
    let began = wait::now();
    let next = Arc::new(AtomicUsize::new(0));
    let clients = (0..arguments.clients).map(|number| {
        let server = &primary.servers[number % primary.servers.len()];
        runtime().spawn(make_tokens(server.client().with_token(&primary.token), next.clone(), arguments.tokens))
    });
    let clients: Vec<_> = clients.collect();
    let mut last = 0;
    for client in clients {
        last = last.max(runtime().block_on(client)??);
    }
    Ok((last, arguments.tokens as f64 / began.elapsed().as_secs_f64()))
}

async fn make_tokens(client: Http, next: Arc<AtomicUsize>, count: usize) -> anyhow::Result<u64> {
    let mut last = 0;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return Ok(last);
        }
        let body = json!({
            "Description": format!("of service {number}"),
            "ServiceIdentities": [{ "ServiceName": format!("service-{number}") }],
        });
        last = last.max(make_token(&client, &body).await?["ModifyIndex"].as_u64().context("a token has an index")?);
    }
}

async fn make_token(client: &Http, body: &Value) -> anyhow::Result<Value> {
    let made = client.send_async("PUT", "/v1/acl/token", Some(body)).await.map_err(anyhow::Error::msg)?;
    ensure!(made.status == 200, "a token is refused: {} {}", made.status, made.body);
    Ok(made.json())
}

/// How often a server began to read the tokens as a whole.
fn readings(server: &Server) -> usize {
    let log = server.log();
    log.lines().filter(|line| line.contains("is read as a whole") && line.contains("tokens")).count()
}

/// Measures from the moment at which one of the servers begins to read the tokens until its state has all of them.
fn take(name: &'static str, servers: &[&Server], token: &str, revision: u64) -> anyhow::Result<Taken> {
    let counts: Vec<usize> = servers.iter().map(|server| readings(server)).collect();
    let mut before: Vec<(Memory, Usage)> = vec![Default::default(); servers.len()];
    let leader = wait::until_within("the reading of the tokens to begin", PATIENCE, || {
        let begun = servers.iter().zip(&counts).position(|(server, count)| readings(server) > *count);
        if begun.is_none() {
            for (server, before) in servers.iter().zip(&mut before) {
                let process = server.process_id();
                *before = measure(process).map_err(|error| error.to_string())?;
            }
        }
        begun.ok_or_else(|| "it has not".into())
    });
    let (began, server) = (wait::now(), servers[leader]);
    let client = server.client().with_token(token);
    wait::until_within("all tokens to be here", PATIENCE, || {
        let federation = client.read("/v1/carrack/federation?stale")?;
        let streams = federation["Secondary"]["Streams"].as_array().ok_or("no streams are shown")?;
        let tokens = streams.iter().find(|stream| stream["Table"] == "tokens").ok_or("no stream of tokens")?;
        let is_all = tokens["Reading"] == false && tokens["Revision"].as_u64() >= Some(revision);
        wait::holds(is_all, || tokens.to_string())
    });
    let seconds = began.elapsed().as_secs_f64();
    let (after, used) = measure(server.process_id())?;
    let tokens = client.read("/v1/acl/tokens?stale").map_err(anyhow::Error::msg)?;
    let tokens = tokens.as_array().context("tokens are a list")?.len();
    let (before, used_before) = before[leader];
    let cpu_seconds = used.cpu_seconds - used_before.cpu_seconds;
    let bytes_written = used.bytes_written - used_before.bytes_written;
    Ok(Taken { secondary: name, tokens, seconds, before, after, cpu_seconds, bytes_written })
}

fn measure(process: u32) -> anyhow::Result<(Memory, Usage)> {
    Ok((memory(process)?, usage(process)?))
}

/// Deletes tokens in the primary, one after the other, and asks the secondary until it refuses each.
async fn deletions(primary: &Cluster, secondary: &Server) -> anyhow::Result<Deleted> {
    let here = primary.servers[0].client().with_token(&primary.token);
    let mut deleted = Deleted { refused: Vec::new(), answered: Vec::new() };
    for _ in 0..DELETIONS {
        let made = make_token(&here, &json!({ "Description": "doomed" })).await?;
        let text = |field: &str| made[field].as_str().map(str::to_owned).context("a token has ids");
        let (accessor, there) = (text("AccessorID")?, secondary.client().with_token(&text("SecretID")?));
        answers(&there, 200).await?;
        let began = Instant::now();
        let delete = async {
            let answer = here.send_async("DELETE", &format!("/v1/acl/token/{accessor}"), None).await;
            let status = answer.map_err(anyhow::Error::msg)?.status;
            ensure!(status == 200, "a deletion is refused with {status}");
            Ok(began.elapsed())
        };
        let refuse = async { answers(&there, 403).await.map(|()| began.elapsed()) };
        let (answered, refused) = tokio::try_join!(delete, refuse)?;
        deleted.answered.push(answered);
        deleted.refused.push(refused);
    }
    deleted.answered.sort_unstable();
    deleted.refused.sort_unstable();
    Ok(deleted)
}

/// Asks for the client's own token until the answer has this status.
async fn answers(client: &Http, status: u16) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let answer = client.send_async("GET", "/v1/acl/token/self?stale", None).await.map_err(anyhow::Error::msg)?;
        if answer.status == status {
            return Ok(());
        }
    }
    anyhow::bail!("a token's own record was not answered with {status} within {} s", PATIENCE.as_secs())
}

impl Taken {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn rate(&self) -> f64 {
        self.tokens as f64 / self.seconds
    }

    fn peak_above_before(&self) -> f64 {
        self.after.peak_mib - self.before.resident_mib
    }

    fn to_json(&self) -> Value {
        json!({
            "secondary": self.secondary,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "tokens_per_second": self.rate(),
            "resident_mib_before": self.before.resident_mib,
            "resident_mib_after": self.after.resident_mib,
            "peak_mib_above_before": self.peak_above_before(),
            "cpu_seconds": self.cpu_seconds,
            "mib_written": self.bytes_written / f64::from(1 << 20),
        })
    }

    fn to_row(&self, syncs: f64) -> Vec<String> {
        vec![
            self.secondary.into(),
            self.tokens.to_string(),
            format!("{:.2}", self.seconds),
            format!("{:.0}", self.rate()),
            format!("{:.1}", self.rate() / syncs),
            format!("{:.2}", self.cpu_seconds),
            format!("{:.0}", self.bytes_written / f64::from(1 << 20)),
            format!("{:.0}", self.before.resident_mib),
            format!("{:.0}", self.after.resident_mib),
            format!("{:.0}", self.peak_above_before()),
        ]
    }
}

/// The latency that this share of all is not above.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let position = sorted.len() * percent / 100;
    sorted.get(position).or(sorted.last()).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
}

#[expect(clippy::print_stdout, reason = "the result of a command")]
fn print(as_json: bool, syncs: f64, filled: f64, taken: &[Taken], deleted: &Deleted) -> anyhow::Result<()> {
    let at = |percent: usize| (percentile(&deleted.answered, percent), percentile(&deleted.refused, percent));
    let ((answered_50, refused_50), (answered_99, refused_99)) = (at(50), at(99));
    if as_json {
        let figures = json!({
            "durable_appends_per_second": syncs,
            "tokens_made_per_second": filled,
            "taken": taken.iter().map(Taken::to_json).collect::<Vec<_>>(),
            "deletion_answered_ms": { "p50": answered_50, "p99": answered_99 },
            "deletion_refused_in_secondary_ms": { "p50": refused_50, "p99": refused_99 },
        });
        println!("{}", serde_json::to_string_pretty(&figures)?);
        return Ok(());
    }
    println!("limits: {syncs:.0} durable appends/s; the primary made {filled:.0} tokens/s\n");
    let mut table = Table::new();
    table.set_header([
        "secondary",
        "tokens",
        "s",
        "tokens/s",
        "/ appends",
        "CPU s",
        "MiB written",
        "MiB before",
        "MiB after",
        "peak above before",
    ]);
    for one in taken {
        table.add_row(one.to_row(syncs));
    }
    println!("{table}");
    println!("\na token that is deleted in the primary, {DELETIONS} times, from the request on:");
    println!("  answered there            p50 {answered_50:.2} ms, p99 {answered_99:.2} ms");
    println!("  refused in the secondary  p50 {refused_50:.2} ms, p99 {refused_99:.2} ms");
    Ok(())
}
