//! The WAN between datacenters: a proxy before each server's WAN port, which takes its time, can be cut, and keeps what it carried.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use crate::http::runtime;

/// What is read at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// The most chunks that are under way on a connection in one direction: a line of some hundred Mbit/s between continents.
const CHUNKS_MAX: usize = 512;
/// The most bytes that are kept: a story carries some hundred KiB.
const CARRIED_BYTES_MAX: usize = 64 << 20;

/// A WAN.
#[derive(Clone)]
pub struct Wan(Arc<Line>);

struct Line {
    delay: Duration,
    is_cut: watch::Sender<bool>,
    carried: Mutex<Vec<u8>>,
}

impl Wan {
    /// A WAN on which every message takes this long.
    pub fn new(delay: Duration) -> Self {
        Self(Arc::new(Line { delay, is_cut: watch::Sender::new(false), carried: Mutex::default() }))
    }

    /// The address under which a server's port is reached over the WAN.
    ///
    /// # Panics
    /// Panics if no port is free.
    pub fn before(&self, server: SocketAddr) -> SocketAddr {
        let line = self.0.clone();
        runtime().block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
            let address = listener.local_addr().expect("a listener has an address");
            tokio::spawn(accept(line, listener, server));
            address
        })
    }

    /// Ends every connection, and lets none through from now on.
    pub fn cut(&self) {
        self.0.is_cut.send_replace(true);
    }

    /// Lets connections through again.
    pub fn heal(&self) {
        self.0.is_cut.send_replace(false);
    }

    /// Everything that was carried so far, in both directions.
    pub fn carried(&self) -> Vec<u8> {
        self.0.carried.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn accept(line: Arc<Line>, listener: TcpListener, server: SocketAddr) {
    while let Ok((stream, _)) = listener.accept().await {
        let line = line.clone();
        tokio::spawn(async move {
            let mut cut = line.is_cut.subscribe();
            tokio::select! {
                () = connect(&line, stream, server) => {}
                _ = cut.wait_for(|is_cut| *is_cut) => {}
            }
        });
    }
}

async fn connect(line: &Line, stream: TcpStream, server: SocketAddr) {
    // A server that does not run refuses, as it would without a proxy.
    let Ok(onward) = TcpStream::connect(server).await else { return };
    let (from_client, to_client) = stream.into_split();
    let (from_server, to_server) = onward.into_split();
    tokio::join!(carry(line, from_client, to_server), carry(line, from_server, to_client));
}

/// What is on its way in one direction: each chunk arrives a delay after it was sent, however much is sent meanwhile.
async fn carry(line: &Line, from: impl AsyncRead + Unpin, to: impl AsyncWrite + Unpin) {
    let (sent, under_way) = mpsc::channel(CHUNKS_MAX);
    tokio::join!(send(line, from, sent), deliver(line, under_way, to));
}

async fn send(line: &Line, mut from: impl AsyncRead + Unpin, sent: mpsc::Sender<(Instant, Vec<u8>)>) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                if sent.send((Instant::now() + line.delay, chunk[..count].to_vec())).await.is_err() {
                    break;
                }
            }
        }
    }
}

async fn deliver(line: &Line, mut under_way: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: impl AsyncWrite + Unpin) {
    while let Some((arrives, chunk)) = under_way.recv().await {
        sleep_until(arrives).await;
        {
            let mut carried = line.carried.lock().unwrap_or_else(PoisonError::into_inner);
            if carried.len() + chunk.len() <= CARRIED_BYTES_MAX {
                carried.extend_from_slice(&chunk);
            }
        }
        if to.write_all(&chunk).await.is_err() {
            break;
        }
    }
    // The other end may be gone already.
    let _ = to.shutdown().await;
}
