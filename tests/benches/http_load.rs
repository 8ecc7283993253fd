//! A closed-loop HTTP/1.1 client that costs little beside what it measures: requests are bytes that were made beforehand, connections stay
//! open, and of an answer only status and length are read. All clients share one thread.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::Instant,
};

use crate::latencies::Latencies;

/// What ends the head of an answer.
const HEAD_END: &[u8] = b"\r\n\r\n";
/// How much is read at once.
const READ_BYTES: usize = 16 * 1024;

/// One connection.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

/// A round's figures.
pub(crate) struct Round {
    /// How many clients there were.
    pub(crate) clients: usize,
    /// How long it took.
    pub(crate) seconds: f64,
    /// The latency of each answer with status 200.
    pub(crate) latencies: Latencies,
    /// The other answers: how many, and the first one.
    pub(crate) refused: (usize, Option<String>),
}

impl Round {
    /// Answers in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.rate(self.seconds)
    }
}

/// The bytes of a request.
pub(crate) fn request(method: &str, path: &str, token: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let token = if token.is_empty() { String::new() } else { format!("X-Consul-Token: {token}\r\n") };
    format!("{method} {path} HTTP/1.1\r\nHost: bench\r\n{token}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| address.to_string())?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(READ_BYTES) })
    }

    /// Sends a request, and gives the status and the body of the answer.
    pub(crate) async fn send(&mut self, request: &[u8]) -> anyhow::Result<(u16, &[u8])> {
        self.write(request).await?;
        self.answer().await
    }

    /// Sends a request; its answer is read later.
    pub(crate) async fn write(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request).await.context("a request could not be sent")
    }

    /// The next answer.
    pub(crate) async fn answer(&mut self) -> anyhow::Result<(u16, &[u8])> {
        self.read.clear();
        let head = loop {
            self.read_more().await?;
            let found = self.read.windows(HEAD_END.len()).position(|window| window == HEAD_END);
            if let Some(end) = found {
                break end + HEAD_END.len();
            }
        };
        let (status, length) = read_head(&self.read[..head])?;
        while self.read.len() < head + length {
            self.read_more().await?;
        }
        Ok((status, &self.read[head..]))
    }

    async fn read_more(&mut self) -> anyhow::Result<()> {
        self.read.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.read).await.context("an answer broke off")? {
            0 => bail!("the server closed a connection"),
            _ => Ok(()),
        }
    }
}

/// Status and length of an answer.
fn read_head(head: &[u8]) -> anyhow::Result<(u16, usize)> {
    let head = std::str::from_utf8(head).context("the head of an answer is no text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("an answer has no status")?.parse()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok()).flatten()
    });
    Ok((status, length.context("an answer does not tell its length")?))
}

/// Runs clients, each with one connection to the next of the addresses and one request at a time, until the time is over. `make`: the
/// request of this number of this client.
pub(crate) async fn round(
    addresses: &[SocketAddr],
    clients: usize,
    length: Duration,
    make: impl Fn(usize, usize) -> Vec<u8> + Clone + Send + 'static,
) -> anyhow::Result<Round> {
    let mut connections = Vec::new();
    for address in addresses.iter().cycle().take(clients) {
        connections.push(Connection::open(*address).await?);
    }
    let began = Instant::now();
    let end = began + length;
    let mut running = JoinSet::new();
    for (client, connection) in connections.into_iter().enumerate() {
        let make = make.clone();
        running.spawn(run(connection, end, move |number| make(client, number)));
    }
    let (mut latencies, mut refused) = (Vec::new(), (0, None));
    while let Some(client) = running.join_next().await {
        let (one, (count, first)) = client??;
        latencies.extend(one);
        refused = (refused.0 + count, refused.1.or(first));
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(Round { clients, seconds, latencies: Latencies::new(latencies), refused })
}

type Seen = (Vec<Duration>, (usize, Option<String>));

async fn run(mut connection: Connection, end: Instant, make: impl Fn(usize) -> Vec<u8>) -> anyhow::Result<Seen> {
    let (mut latencies, mut refused) = (Vec::new(), (0, None));
    for number in 0.. {
        let request = make(number);
        let began = Instant::now();
        if began >= end {
            break;
        }
        match connection.send(&request).await? {
            (200, _) => latencies.push(began.elapsed()),
            (status, body) => {
                refused.0 += 1;
                refused.1.get_or_insert_with(|| format!("{status} {}", String::from_utf8_lossy(body)));
            }
        }
    }
    Ok((latencies, refused))
}

/// A runtime of one thread, so that the load takes one core at most.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
