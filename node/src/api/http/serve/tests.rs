//! Limits of one connection, over streams in memory and a clock that the test moves.

use axum::routing::get;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::*;

fn router() -> Router {
    let slow = get(|| async {
        sleep(Duration::from_secs(300)).await;
        "slow"
    });
    let who = get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() });
    Router::new().route("/who", who).route("/slow", slow)
}

fn connect(stop: impl Future<Output = ()> + Send + 'static) -> (DuplexStream, JoinHandle<Duration>) {
    let (client, server) = duplex(64 * 1024);
    let begin = Instant::now();
    let peer = "127.0.0.1:4000".parse().unwrap();
    let served = async move {
        serve_connection(server, peer, router(), stop).await;
        begin.elapsed()
    };
    (client, tokio::spawn(served))
}

async fn until(client: &mut DuplexStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut buffer = [0; 1024];
        let length = client.read(&mut buffer).await.unwrap();
        assert_ne!(length, 0, "the connection ended after {text:?}");
        text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    text
}

#[tokio::test(start_paused = true)]
async fn a_request_is_answered_and_the_peer_is_known() {
    let (mut client, _served) = connect(std::future::pending());
    client.write_all(b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(until(&mut client, "127.0.0.1:4000").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_after_a_minute() {
    let (_client, served) = connect(std::future::pending());
    assert_eq!(served.await.unwrap().as_secs(), IDLE_MAX.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_byte_by_byte_is_cut_off() {
    let (mut client, served) = connect(std::future::pending());
    let drip = async {
        while client.write_all(b"G").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    };
    let (took, ()) = tokio::join!(served, drip);
    assert_eq!(took.unwrap().as_secs(), HEAD_WITHIN.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_second_head_that_is_slow_is_cut_off_too() {
    let (mut client, served) = connect(std::future::pending());
    client.write_all(b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(&mut client, "127.0.0.1:4000").await;
    sleep(Duration::from_secs(30)).await;
    client.write_all(b"GET /w").await.unwrap();
    assert_eq!(served.await.unwrap().as_secs(), 30 + HEAD_WITHIN.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_blocking_query_may_take_longer_than_an_idle_connection() {
    let (mut client, _served) = connect(std::future::pending());
    client.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(until(&mut client, "slow").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(start_paused = true)]
async fn too_many_and_too_long_headers_are_refused() {
    let many: String = (0..=HEADERS_MAX).map(|number| format!("a{number}: b\r\n")).collect();
    let long = format!("a: {}\r\n", "b".repeat(HEAD_BYTES_MAX));
    for headers in [many, long] {
        let (mut client, served) = connect(std::future::pending());
        let request = format!("GET /who HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
        served.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_idle_connections_at_once_and_drains_the_others() {
    let (_client, served) = connect(std::future::ready(()));
    assert_eq!(served.await.unwrap().as_secs(), 0);
    let (mut client, served) = connect(sleep(Duration::from_secs(5)));
    client.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(served.await.unwrap().as_secs(), 5 + DRAIN_WITHIN.as_secs());
}
