//! Connections: HTTP/1.1 or HTTP/2 over any accepted stream, within limits that hold before a request is understood.
//! How many connections there may be is the acceptor's to bound.

mod activity;

use std::{future::Future, io, net::SocketAddr, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo, http::Request};
use futures::{Stream, StreamExt};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    pin,
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tower::Service;

use self::activity::{Activity, Watched};
use crate::tls::connection::Connection;

/// How long the head of a request may take from its first byte.
pub const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long a connection may be open without a request: Consul's.
pub const IDLE_MAX: Duration = Duration::from_secs(60);
/// How long requests in flight may take after the server was told to stop: a write's usual time, and less than a server
/// waits for its tasks. Blocking queries are cut off.
pub const DRAIN_WITHIN: Duration = Duration::from_secs(5);
/// The most headers of a request: the longest known one has a dozen.
pub const HEADERS_MAX: usize = 64;
/// The most bytes of a request's head: the longest query has 8 KiB.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The most streams of one HTTP/2 connection: each may be a blocking query.
pub const STREAMS_MAX: u32 = 100;
/// The most streams that a client may have reset before they were taken up (CVE-2023-44487).
const RESETS_MAX: usize = 20;
/// The most bytes of answers that wait for a client that does not read.
const SEND_BUFFER_BYTES_MAX: usize = 256 * 1024;

/// Serves every accepted connection until `stopped` turns true; answers when the last one has ended.
pub async fn serve<S>(
    router: Router,
    accepted: impl Stream<Item = io::Result<Connection<S>>>,
    stopped: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut connections = JoinSet::new();
    let stop = ended(stopped.clone());
    pin!(accepted, stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            next = accepted.next() => match next {
                Some(Ok(connection)) => {
                    let (peer, stop) = (connection.peer().address, ended(stopped.clone()));
                    connections.spawn(serve_connection(connection, peer, router.clone(), stop));
                }
                // The acceptor keeps failed handshakes to itself.
                Some(Err(error)) => tracing::debug!("no connection was accepted: {error}"),
                None => break,
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn ended(mut stopped: watch::Receiver<bool>) {
    // An error means that the server itself is gone: that is an end too.
    drop(stopped.wait_for(|stopped| *stopped).await);
}

/// Serves one connection until the peer ends it, it is idle for too long, or `stop` is ready and its requests are done.
pub async fn serve_connection<S>(stream: S, peer: SocketAddr, router: Router, stop: impl Future<Output = ()> + Send)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Activity::new();
    let watched = Watched::new(stream, activity.clone());
    let of_requests = activity.clone();
    let service = tower::service_fn(move |mut request: Request<_>| {
        let (mut router, request_done) = (router.clone(), of_requests.begin());
        request.extensions_mut().insert(ConnectInfo(peer));
        let answering = router.call(request.map(Body::new));
        async move {
            let answered = answering.await;
            drop(request_done);
            answered
        }
    });
    let builder = limits();
    let connection = builder.serve_connection(TokioIo::new(watched), TowerToHyperService::new(service));
    pin!(connection, stop);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = activity.overdue() => None,
        () = &mut stop => {
            connection.as_mut().graceful_shutdown();
            timeout(DRAIN_WITHIN, connection.as_mut()).await.ok()
        }
    };
    if let Some(Err(error)) = ended {
        tracing::debug!(%peer, "a connection broke: {error}");
    }
}

fn limits() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // The time before a request's first byte counts too here, so this is the longer bound; see `activity` for the other.
        .header_read_timeout(IDLE_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).expect("16 KiB fit"))
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(RESETS_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .keep_alive_interval(IDLE_MAX / 2)
        .keep_alive_timeout(HEAD_WITHIN);
    builder
}

#[cfg(test)]
mod tests;
