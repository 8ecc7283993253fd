//! What a process keeps for each thing that waits or is kept: an agent for a cached service, a server for a blocked query.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use carrack_tests::cluster::Cluster;
use clap::Args;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    authorize::started_agent,
    http_load::{self, Connection, request},
    process::memory,
};

/// Clients that fill the agent's cache.
const CLIENTS: usize = 16;
/// Requests of one HTTP/2 connection at once: as many as a server takes.
const STREAMS: usize = 100;
/// How long a process is left alone before its memory is read.
const REST: Duration = Duration::from_secs(3);
/// The connections of a measurement with one query each, which is how HTTP/1.1 has it; this process must be allowed so many open files.
const CONNECTIONS: usize = 2_000;
/// What is waited for, over HTTP/2: one thing; and three, of which one is the caller's token.
const WATCHED: [(&str, &str); 2] = [
    ("a blocked query of the roots, HTTP/2", "/v1/connect/ca/roots"),
    ("a blocked query of a destination, HTTP/2", "/v1/connect/intentions/match?by=destination&name=db"),
];

/// How memory is measured.
#[derive(Args)]
pub(crate) struct MemoryArguments {
    /// How many services the agent keeps
    #[arg(long, default_value_t = 10_000)]
    services: usize,
    /// How many queries block on one server, a hundred for each connection
    #[arg(long, default_value_t = 8_000)]
    queries: usize,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

/// What one thing more takes.
struct Cost {
    what: &'static str,
    count: usize,
    bytes: f64,
    seconds: f64,
}

pub(crate) fn run(arguments: &MemoryArguments) -> anyhow::Result<()> {
    let cluster = Cluster::form(3);
    let directory = tempfile::tempdir()?;
    let agent = started_agent(&cluster, directory.path())?;
    let (server, token) = (cluster.any(), cluster.token.clone());
    let status = server.status(&token).map_err(anyhow::Error::msg)?;
    let domain = status["TrustDomain"].as_str().context("status names the trust domain")?.to_owned();
    let fill = Fill { token: token.clone(), domain };
    let costs = http_load::runtime()?.block_on(async {
        let mut costs = Vec::new();
        // Each on a server that has freed nothing yet: what is freed is taken first.
        for ((what, path), asked) in WATCHED.into_iter().zip(cluster.servers.iter().rev()) {
            costs.push(blocked(what, path, &token, asked.http, asked.process_id(), arguments.queries).await?);
        }
        costs.push(blocked_on_http_1(WATCHED[1].1, &token, server.http, server.process_id()).await?);
        costs.extend(fill.agent(server.http, agent.http, agent.process_id(), arguments.services).await?);
        anyhow::Ok(costs)
    })?;
    let listed = agent.client().with_token(&token).read("/v1/carrack/agent/cache").map_err(anyhow::Error::msg)?;
    let kept = listed["Leaves"].as_array().map_or(0, Vec::len);
    ensure!(kept >= arguments.services, "the agent keeps {kept} leaves, and was asked for {}", arguments.services);
    print(arguments.json, &costs)
}

/// What fills an agent.
struct Fill {
    token: String,
    domain: String,
}

impl Fill {
    fn leaf(&self, number: usize) -> Vec<u8> {
        request("GET", &format!("/v1/agent/connect/ca/leaf/service-{number}"), &self.token, "")
    }

    fn question(&self, number: usize) -> Vec<u8> {
        let client = format!("spiffe://{}/ns/default/dc/dc1/svc/web", self.domain);
        let body = json!({ "Target": format!("service-{number}"), "ClientCertURI": client });
        request("POST", "/v1/agent/connect/authorize", &self.token, &body.to_string())
    }

    fn intention(&self, number: usize) -> Vec<u8> {
        let path = format!("/v1/connect/intentions/exact?source=web&destination=service-{number}");
        request("PUT", &path, &self.token, &json!({ "Action": "allow" }).to_string())
    }

    async fn agent(
        &self,
        server: SocketAddr,
        agent: SocketAddr,
        process: u32,
        count: usize,
    ) -> anyhow::Result<Vec<Cost>> {
        each(server, count, |number| self.intention(number)).await?;
        // The first one brings the caller's token and the revoked leaves.
        each(agent, 1, |number| self.leaf(number)).await?;
        each(agent, 1, |number| self.question(number)).await?;
        let leaf = |number| self.leaf(number);
        let leaves = cost("a leaf that the agent keeps", process, count, each(agent, count, leaf)).await?;
        let question = |number| self.question(number);
        let followed = cost("a destination that the agent follows", process, count, each(agent, count, question));
        let followed = followed.await?;
        let again = cost("the same destination, asked again", process, count, each(agent, count, question)).await?;
        Ok(vec![leaves, followed, again])
    }
}

/// What the process has more when `work` is done, for each of so many things.
async fn cost(
    what: &'static str,
    process: u32,
    count: usize,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Cost> {
    sleep(REST).await;
    let (before, began) = (memory(process)?.resident_mib, Instant::now());
    work.await?;
    let seconds = began.elapsed().as_secs_f64();
    sleep(REST).await;
    let more = memory(process)?.resident_mib - before;
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let bytes = more * f64::from(1 << 20) / count as f64;
    Ok(Cost { what, count, bytes, seconds })
}

/// Sends the requests 0 to `count`, a few at a time, and each must succeed.
async fn each(address: SocketAddr, count: usize, make: impl Fn(usize) -> Vec<u8>) -> anyhow::Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let requests: Arc<Vec<Vec<u8>>> = Arc::new((0..count).map(make).collect());
    let mut running = JoinSet::new();
    for _ in 0..CLIENTS.min(count) {
        let (mut connection, next, requests) = (Connection::open(address).await?, next.clone(), requests.clone());
        running.spawn(async move {
            while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (status, body) = connection.send(request).await?;
                ensure!(status == 200, "{status} {}", String::from_utf8_lossy(body));
            }
            anyhow::Ok(())
        });
    }
    while let Some(client) = running.join_next().await {
        client??;
    }
    Ok(())
}

/// What a server keeps for each of so many blocking queries, beside their connections.
async fn blocked(
    what: &'static str,
    path: &'static str,
    token: &str,
    address: SocketAddr,
    process: u32,
    queries: usize,
) -> anyhow::Result<Cost> {
    let mut connections = Vec::new();
    for _ in 0..queries.div_ceil(STREAMS) {
        connections.push(http_2(address).await?);
    }
    let separator = if path.contains('?') { '&' } else { '?' };
    let mut index = 0;
    for connection in &mut connections {
        index = index.max(answered(connection, path, token).await?);
    }
    let blocking = format!("{path}{separator}index={index}&wait=600s");
    let (answers, mut waiting) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    let wait = async {
        for number in 0..queries {
            let connection = &mut connections[number / STREAMS];
            connection.ready().await?;
            let (asked, answers) = (connection.send_request(http_2_request(&blocking, token)?), answers.clone());
            waiting.spawn(async move {
                drop(asked.await);
                answers.fetch_add(1, Ordering::Relaxed);
            });
        }
        anyhow::Ok(())
    };
    let cost = cost(what, process, queries, wait).await?;
    let answers = answers.load(Ordering::Relaxed);
    ensure!(answers == 0, "{answers} of {queries} blocking queries were answered");
    Ok(cost)
}

/// The same with one query on each connection, which has had another one before.
async fn blocked_on_http_1(path: &str, token: &str, address: SocketAddr, process: u32) -> anyhow::Result<Cost> {
    let separator = if path.contains('?') { '&' } else { '?' };
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(address).await?;
        ensure!(connection.send(&request("GET", path, token, "")).await?.0 == 200, "{path} is refused");
        connections.push(connection);
    }
    // Far ahead of any index: it waits for a change that does not come.
    let blocking = request("GET", &format!("{path}{separator}index={}&wait=600s", u64::from(u32::MAX)), token, "");
    let wait = async {
        for connection in &mut connections {
            connection.write(&blocking).await?;
        }
        anyhow::Ok(())
    };
    cost("the same on a connection of its own, HTTP/1.1", process, CONNECTIONS, wait).await
}

async fn http_2(address: SocketAddr) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    // It ends with its sender.
    drop(tokio::spawn(connection));
    Ok(sender)
}

fn http_2_request(path: &str, token: &str) -> anyhow::Result<Request<Empty<Bytes>>> {
    let request = Request::get(format!("http://bench{path}")).header("X-Consul-Token", token);
    Ok(request.body(Empty::new())?)
}

/// The index of an answer that comes at once.
async fn answered(connection: &mut SendRequest<Empty<Bytes>>, path: &str, token: &str) -> anyhow::Result<u64> {
    let answer = connection.send_request(http_2_request(path, token)?).await?;
    ensure!(answer.status() == 200, "{path} is refused with {}", answer.status());
    let index = answer.headers().get("x-consul-index").context("an answer has an index")?.to_str()?.parse()?;
    answer.into_body().collect().await?;
    Ok(index)
}

#[expect(clippy::print_stdout, reason = "the result of a command")]
fn print(as_json: bool, costs: &[Cost]) -> anyhow::Result<()> {
    if as_json {
        let figures = costs.iter().map(
            |cost| json!({ "what": cost.what, "count": cost.count, "bytes_each": cost.bytes, "seconds": cost.seconds }),
        );
        println!("{}", serde_json::to_string_pretty(&figures.collect::<Vec<_>>())?);
        return Ok(());
    }
    for Cost { what, count, bytes, seconds } in costs {
        println!("{what:<48} {bytes:>7.0} bytes each, of {count} ({seconds:.1} s)");
    }
    Ok(())
}
