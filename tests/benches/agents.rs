//! Many agents' streams on one server of a real datacenter: what each costs in memory and in rest, and how soon a change has come in all.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use carrack::{server::agent_token::AgentTokenText, tls::client::ServerRoots};
use carrack_proto::agent::follow_response::Told;
use carrack_tests::{
    cluster::Cluster,
    http::{Http, runtime},
    server::Server,
};
use clap::Args;
use comfy_table::Table;
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use crate::{
    follower::{self, IsIt, Seen},
    latencies::Latencies,
    process::{memory, usage},
};

/// How long the streams may take to open, and a change to come in all of them, before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the streams are left alone to see what they cost at rest.
const REST: Duration = Duration::from_secs(10);
/// How many times each change is made.
const CHANGES: usize = 10;
/// The destination that every stream follows.
const ALL: &str = "db";
/// The server that carries the streams.
const SERVER: &str = "b";

/// How agents' streams are measured.
#[derive(Args)]
pub(crate) struct AgentsArguments {
    /// How many streams
    #[arg(long, default_value_t = 10_000)]
    streams: usize,
    /// Over how many connections, each of an agent that has joined; a server takes 100 of one address, with 256 streams each
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// How many other destinations there are: each stream follows one of them beside the one that all follow
    #[arg(long, default_value_t = 1_000)]
    destinations: usize,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// What the streams cost the server.
struct Cost {
    told_seconds: f64,
    connection_kib: f64,
    /// Of a stream that is open.
    stream_bytes: f64,
    /// What it takes more for all that it follows.
    followed_bytes: f64,
    /// CPU seconds in a second in which nothing changes.
    cpu_at_rest: f64,
}

/// How soon a change has come.
struct Change {
    what: &'static str,
    latencies: Latencies,
}

pub(crate) fn run(arguments: &AgentsArguments) -> anyhow::Result<()> {
    let mut cluster = Cluster::form(4);
    let (hosts, tokens) = (join(&mut cluster, arguments.connections)?, tokens(&cluster)?);
    let server = cluster.server(SERVER);
    let (grpc, process) = (server.grpc.to_string(), server.process_id());
    let roots = ServerRoots::from_pem(&std::fs::read_to_string(server.data_directory().join("server-ca.pem"))?)?;
    let bench = Bench {
        client: cluster.any().client().with_token(&cluster.token),
        seen: Arc::default(),
        streams: arguments.streams,
    };
    runtime().block_on(async {
        let before = memory(process)?.resident_mib;
        let mut channels = Vec::new();
        for host in &hosts {
            channels.push(follower::connect(&grpc, roots.clone(), host).await?);
        }
        sleep(Duration::from_secs(2)).await;
        let connected = memory(process)?.resident_mib;
        let mut running = JoinSet::new();
        for number in 0..arguments.streams {
            let (channel, token) = (channels[number % channels.len()].clone(), tokens[number % tokens.len()]);
            let destinations = vec![ALL.to_owned(), format!("service-{}", number % arguments.destinations)];
            running.spawn(follower::follow(channel, token, destinations, bench.seen.clone()));
        }
        within("the streams to open", bench.seen.open(bench.streams)).await?;
        sleep(Duration::from_secs(2)).await;
        let open = memory(process)?.resident_mib;
        let began = Instant::now();
        within("the streams to be told everything", bench.seen.complete(bench.streams)).await?;
        let told_seconds = began.elapsed().as_secs_f64();
        let used = usage(process)?.cpu_seconds;
        sleep(REST).await;
        let cost = Cost {
            told_seconds,
            connection_kib: (connected - before) * 1024.0 / count(channels.len()),
            stream_bytes: (open - connected) * f64::from(1 << 20) / count(bench.streams),
            followed_bytes: (memory(process)?.resident_mib - open) * f64::from(1 << 20) / count(bench.streams),
            cpu_at_rest: (usage(process)?.cpu_seconds - used) / REST.as_secs_f64(),
        };
        let changes = bench.changes(&cluster).await?;
        print(arguments, &cost, &changes)
    })
}

/// Has so many agents join, by another server than the one that is measured.
fn join(cluster: &mut Cluster, agents: usize) -> anyhow::Result<Vec<carrack::keys::server_keys::ServerCredential>> {
    let client = cluster.any().client().with_token(&cluster.token);
    let grpc = cluster.any().grpc.to_string();
    let join = |number: usize| {
        let made =
            client.send("PUT", "/v1/carrack/agent-token", Some(&json!({ "NodeName": format!("host-{number}") })));
        let made = made.map_err(anyhow::Error::msg)?.json();
        let token: AgentTokenText = made["Token"].as_str().context("an agent token has its text")?.parse()?;
        runtime().block_on(follower::join(&grpc, &token))
    };
    (0..agents).map(join).collect()
}

/// Tokens as services have them.
fn tokens(cluster: &Cluster) -> anyhow::Result<Vec<Uuid>> {
    let client = cluster.any().client().with_token(&cluster.token);
    let make = |number: usize| {
        let body = json!({ "ServiceIdentities": [{ "ServiceName": format!("service-{number}") }] });
        let made = client.send("PUT", "/v1/acl/token", Some(&body)).map_err(anyhow::Error::msg)?.json();
        Ok(made["SecretID"].as_str().context("a token has a secret")?.parse()?)
    };
    (0..100).map(make).collect()
}

/// Streams that are open, and the changes that come in them.
struct Bench {
    client: Http,
    seen: Arc<Seen>,
    streams: usize,
}

impl Bench {
    async fn changes(&self, cluster: &Cluster) -> anyhow::Result<Vec<Change>> {
        let mut changes = vec![self.denies().await?, self.revocations().await?];
        changes.push(self.bundle(cluster).await?);
        Ok(changes)
    }

    /// An intention turns from allow to deny, and back.
    async fn denies(&self) -> anyhow::Result<Change> {
        let mut all = Vec::new();
        for number in 0..CHANGES {
            // Agents are not told descriptions: a permission tells one change from another.
            let mark = format!("/the/change/{number}/");
            let action = if number % 2 == 0 { "deny" } else { "allow" };
            let body = json!({ "Permissions": [{ "Action": action, "HTTP": { "PathExact": mark } }] });
            let is_it: IsIt = Arc::new(move |told| match told {
                Told::Intentions(told) => told.intentions.iter().any(|row| contains(row, mark.as_bytes())),
                _ => false,
            });
            let path = format!("/v1/connect/intentions/exact?source=web&destination={ALL}");
            all.extend(self.change("PUT", &path, Some(&body), is_it).await?);
        }
        Ok(Change { what: "an intention", latencies: Latencies::new(all) })
    }

    /// A leaf is revoked.
    async fn revocations(&self) -> anyhow::Result<Change> {
        let mut all = Vec::new();
        for number in 0..CHANGES {
            let leaf = self.client.send_async("GET", &format!("/v1/agent/connect/ca/leaf/lost-{number}"), None).await;
            let leaf = leaf.map_err(anyhow::Error::msg)?.json();
            let serial = leaf["SerialNumber"].as_str().context("a leaf has a serial")?.to_owned();
            let bytes = serial.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<u8>, _>>()?;
            let is_it: IsIt = Arc::new(move |told| match told {
                Told::Revoked(told) => told.serials.iter().any(|serial| contains(serial, &bytes)),
                _ => false,
            });
            let body = json!({ "SerialNumber": serial, "Reason": "lost" });
            all.extend(self.change("PUT", "/v1/carrack/revocation", Some(&body), is_it).await?);
        }
        Ok(Change { what: "a revoked leaf", latencies: Latencies::new(all) })
    }

    /// A server is removed, which changes the bundle: once, after the servers have agreed that it votes no more.
    async fn bundle(&self, cluster: &Cluster) -> anyhow::Result<Change> {
        let removed: &Server = cluster.servers.last().context("there are servers")?;
        let gone = removed.grpc.to_string();
        let is_it: IsIt = Arc::new(move |told| match told {
            Told::Bundle(told) => !told.servers.contains(&gone),
            _ => false,
        });
        let path = format!("/v1/carrack/members/{}", removed.name);
        let all = self.change("DELETE", &path, None, is_it).await?;
        Ok(Change { what: "a new bundle", latencies: Latencies::new(all) })
    }

    /// From the request for a change until it has come in each stream.
    async fn change(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        is_it: IsIt,
    ) -> anyhow::Result<Vec<Duration>> {
        self.seen.expect(is_it);
        let began = Instant::now();
        let made = self.client.send_async(method, path, body).await.map_err(anyhow::Error::msg)?;
        ensure!(made.status == 200, "{method} {path} is refused: {} {}", made.status, made.body);
        let arrivals = within("a change to come in every stream", self.seen.arrivals(self.streams)).await?;
        Ok(arrivals.into_iter().map(|at| at.duration_since(began)).collect())
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && bytes.windows(part.len()).any(|window| window == part)
}

async fn within<T>(what: &str, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    timeout(PATIENCE, work).await.with_context(|| format!("waited {} s for {what}", PATIENCE.as_secs()))?
}

#[expect(clippy::cast_precision_loss, reason = "a count for people")]
fn count(count: usize) -> f64 {
    count.max(1) as f64
}

#[expect(clippy::print_stdout, reason = "the result of a command")]
fn print(arguments: &AgentsArguments, cost: &Cost, changes: &[Change]) -> anyhow::Result<()> {
    let AgentsArguments { streams, connections, .. } = arguments;
    if arguments.json {
        let changes = changes.iter().map(|change| {
            let at = |percent| change.latencies.percentile_ms(percent);
            (change.what, json!({ "first_ms": at(0), "p50_ms": at(50), "p99_ms": at(99), "last_ms": at(100) }))
        });
        let figures = json!({
            "streams": streams,
            "connections": connections,
            "told_seconds": cost.told_seconds,
            "kib_per_connection": cost.connection_kib,
            "bytes_per_stream": cost.stream_bytes,
            "bytes_more_for_what_it_follows": cost.followed_bytes,
            "cpu_at_rest": cost.cpu_at_rest,
            "changes": changes.collect::<BTreeMap<_, _>>(),
        });
        println!("{}", serde_json::to_string_pretty(&figures)?);
        return Ok(());
    }
    println!("{streams} streams over {connections} connections, told everything after {:.1} s", cost.told_seconds);
    println!(
        "memory of the server: {:.0} KiB for a connection, {:.0} bytes more for a stream, {:.0} bytes more for what it follows",
        cost.connection_kib, cost.stream_bytes, cost.followed_bytes
    );
    println!("at rest they take {:.1} % of a core of the server\n", cost.cpu_at_rest * 100.0);
    let mut table = Table::new();
    table.set_header(["from the request until in every stream", "the first ms", "p50 ms", "p99 ms", "the last ms"]);
    for change in changes {
        let at = |percent| format!("{:.0}", change.latencies.percentile_ms(percent));
        table.add_row([change.what.to_owned(), at(0), at(50), at(99), at(100)]);
    }
    println!("{table}");
    Ok(())
}
