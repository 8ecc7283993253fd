//! Tests of the WAN port's acceptor and dialer against each other, over real sockets on loopback.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{
    keys::server_keys::ServerCredential,
    network::Tcp,
    tls::{
        acceptor::{Acceptor, Limits},
        client::{Alpn, ClientDialer, ServerRoots},
        peer::PeerRefusal,
        testing::{Accepted, SERVER_TTL, ServerCa, TestClock, read_error, serve, showing, wan_trust},
        wan_trust::TrustedDatacenter,
    },
};

/// One server's side: what it shows, believes and counts.
struct Node {
    identity: Arc<ServerIdentity>,
    trust: Arc<WanTrust>,
    metrics: Arc<Metrics>,
    clock: TestClock,
}

impl Node {
    fn new(ca: &ServerCa, credential: &ServerCredential, others: &[&ServerCa], clock: &TestClock) -> Self {
        let (identity, trust) = (showing(credential), wan_trust(ca, others));
        Self { identity, trust, metrics: Arc::new(Metrics::new()), clock: clock.clone() }
    }

    async fn listen(&self) -> (String, Accepted) {
        let (identity, trust) = (self.identity.clone(), self.trust.clone());
        serve(Acceptor::wan(identity, trust, self.clock.tls(), Limits::WAN, self.metrics.clone(), None)).await
    }

    fn dialer(&self) -> WanDialer {
        let (identity, trust) = (self.identity.clone(), self.trust.clone());
        WanDialer::new(Arc::new(Tcp), identity, trust, self.clock.tls(), self.metrics.clone(), None)
    }

    fn refused(&self, reason: &'static str) -> u64 {
        self.metrics.refused_handshakes(Port::Wan, reason)
    }
}

/// A server of each of two datacenters that trust each other.
struct Pair {
    one_ca: ServerCa,
    two_ca: ServerCa,
    one: Node,
    two: Node,
    clock: TestClock,
}

impl Pair {
    fn new() -> Self {
        let (one_ca, two_ca, clock) = (ServerCa::new(1, "dc1"), ServerCa::new(2, "dc2"), TestClock::new());
        let one = Node::new(&one_ca, &one_ca.server(4), &[&two_ca], &clock);
        let two = Node::new(&two_ca, &two_ca.server(4), &[&one_ca], &clock);
        Self { one_ca, two_ca, one, two, clock }
    }

    /// Dials from the second datacenter to the first.
    async fn dial(&self, address: &str) -> io::Result<BoxedStream> {
        self.two.dialer().connect(&self.one_ca.datacenter, address).await
    }
}

fn code(error: Option<&io::Error>) -> Option<&'static str> {
    error.and_then(PeerRefusal::inside).map(PeerRefusal::code)
}

#[tokio::test]
async fn servers_of_two_datacenters_know_each_other_by_their_certificates() {
    let pair = Pair::new();
    let (address, mut accepted) = pair.one.listen().await;
    let mut dialled = pair.dial(&address).await.unwrap();
    let mut connection = accepted.recv().await.unwrap().unwrap();
    assert_eq!(connection.peer().server.as_deref(), Some(&pair.two_ca.id(4)));
    dialled.write_all(b"ping").await.unwrap();
    let mut bytes = [0; 4];
    connection.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"ping");
    assert_eq!(pair.one.metrics.connections(Port::Wan).get(), 1);
    drop(connection);
    assert_eq!(pair.one.metrics.connections(Port::Wan).get(), 0);
}

#[tokio::test]
async fn who_is_no_server_of_a_trusted_datacenter_is_refused_and_counted_by_the_reason() {
    let pair = Pair::new();
    let three_ca = ServerCa::new(3, "dc3");
    pair.one.trust.replace(vec![pair.two_ca.as_trusted(), three_ca.as_trusted()]);
    let (address, mut accepted) = pair.one.listen().await;
    for (credential, reason) in [
        (pair.two_ca.named(&three_ca.id(1)), "chain"),
        (ServerCa::new(4, "dc4").server(1), "unknown_datacenter"),
        (ServerCa::new(9, "dc2").server(1), "other_cluster"),
        (pair.one_ca.server(2), "own_datacenter"),
    ] {
        pair.two.identity.show(&credential).unwrap();
        // In TLS 1.3 a client learns of its refusal with its first read.
        let mut dialled = pair.dial(&address).await.unwrap();
        assert!(read_error(&mut dialled).await.is_some(), "{reason}");
        assert_eq!(pair.one.refused(reason), 1, "{reason}");
    }
    let roots = ServerRoots::Pinned(pair.one_ca.root.digest());
    let client = ClientDialer::new(Arc::new(Tcp), roots, &pair.clock.tls(), Alpn::Http2);
    let mut without_certificate = client.dial(&address).await.unwrap();
    assert!(read_error(&mut without_certificate).await.is_some());
    assert_eq!(pair.one.refused("tls"), 1);
    assert!(accepted.try_recv().is_err(), "none of them was handed on");
}

#[tokio::test]
async fn only_the_dialled_datacenter_may_answer() {
    let pair = Pair::new();
    let (address, _accepted) = pair.one.listen().await;
    let elsewhere = Name::parse("datacenter", "dc3").unwrap();
    let error = pair.two.dialer().connect(&elsewhere, &address).await.map(drop).unwrap_err();
    let expected = PeerRefusal::OtherDatacenter { found: pair.one_ca.datacenter.clone(), expected: elsewhere };
    assert_eq!(PeerRefusal::inside(&error), Some(&expected));
    assert_eq!(pair.two.refused("other_datacenter"), 1);

    pair.two.trust.replace(Vec::new());
    let error = pair.dial(&address).await.map(drop).unwrap_err();
    assert_eq!(code(Some(&error)), Some("unknown_datacenter"));
    assert_eq!(pair.two.refused("unknown_datacenter"), 1);
}

#[tokio::test]
async fn a_removed_datacenter_loses_the_connections_that_it_has_at_both_ends() {
    let pair = Pair::new();
    let (address, mut accepted) = pair.one.listen().await;
    let mut dialled = pair.dial(&address).await.unwrap();
    let mut connection = accepted.recv().await.unwrap().unwrap();
    pair.one.trust.replace(vec![pair.two_ca.as_trusted(), ServerCa::new(3, "dc3").as_trusted()]);
    let mut byte = [0; 1];
    assert!(futures::poll!(Box::pin(connection.read(&mut byte))).is_pending(), "another datacenter joined");

    pair.one.trust.replace(vec![ServerCa::new(3, "dc3").as_trusted()]);
    assert_eq!(code(read_error(&mut connection).await.as_ref()), Some("unknown_datacenter"));
    assert_eq!(connection.write(b"x").await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    assert!(futures::poll!(Box::pin(dialled.read(&mut byte))).is_pending());
    pair.two.trust.replace(Vec::new());
    assert_eq!(code(read_error(&mut dialled).await.as_ref()), Some("unknown_datacenter"));
}

#[tokio::test]
async fn a_removed_server_loses_the_connections_that_it_has_at_both_ends() {
    let pair = Pair::new();
    let (address, mut accepted) = pair.one.listen().await;
    let mut dialled = pair.dial(&address).await.unwrap();
    let mut connection = accepted.recv().await.unwrap().unwrap();
    let mut byte = [0; 1];
    pair.one.trust.replace(vec![pair.two_ca.as_trusted_with(&[1, 4], 5)]);
    assert!(futures::poll!(Box::pin(connection.read(&mut byte))).is_pending(), "another server was removed");

    pair.one.trust.replace(vec![pair.two_ca.as_trusted_with(&[1], 5)]);
    assert_eq!(code(read_error(&mut connection).await.as_ref()), Some("removed"));
    assert!(futures::poll!(Box::pin(dialled.read(&mut byte))).is_pending());
    pair.two.trust.replace(vec![pair.one_ca.as_trusted_with(&[], 5)]);
    assert_eq!(code(read_error(&mut dialled).await.as_ref()), Some("removed"));
    let error = pair.dial(&address).await.map(drop).unwrap_err();
    assert_eq!(code(Some(&error)), Some("removed"));
}

#[tokio::test]
async fn a_root_is_rotated_under_live_connections_and_a_pruned_one_ends_those_that_it_vouched_for() {
    let pair = Pair::new();
    let next_ca = ServerCa::new(2, "dc2");
    let (address, mut accepted) = pair.one.listen().await;
    let _old_dialled = pair.dial(&address).await.unwrap();
    let mut old = accepted.recv().await.unwrap().unwrap();

    let both =
        TrustedDatacenter { roots: vec![pair.two_ca.root.clone(), next_ca.root.clone()], ..pair.two_ca.as_trusted() };
    pair.one.trust.replace(vec![both]);
    pair.two.identity.show(&next_ca.server(4)).unwrap();
    let _new_dialled = pair.dial(&address).await.unwrap();
    let mut new = accepted.recv().await.unwrap().unwrap();
    let mut byte = [0; 1];
    assert!(futures::poll!(Box::pin(old.read(&mut byte))).is_pending(), "its root is still there");

    pair.one.trust.replace(vec![next_ca.as_trusted()]);
    assert_eq!(code(read_error(&mut old).await.as_ref()), Some("chain"));
    assert!(futures::poll!(Box::pin(new.read(&mut byte))).is_pending());
}

#[tokio::test]
async fn a_connection_ends_with_the_certificate_of_its_peer_and_an_expired_one_opens_none() {
    let pair = Pair::new();
    let (address, mut accepted) = pair.one.listen().await;
    pair.clock.advance(SERVER_TTL);
    let mut dialled = pair.dial(&address).await.unwrap();
    let mut connection = accepted.recv().await.unwrap().unwrap();
    for error in [read_error(&mut dialled).await, read_error(&mut connection).await] {
        assert_eq!(code(error.as_ref()), Some("ended"));
    }
    pair.clock.advance(Duration::from_secs(1));
    let error = pair.dial(&address).await.map(drop).unwrap_err();
    assert_eq!(code(Some(&error)), Some("expired"));
    assert_eq!(pair.one.metrics.expired_peers() + pair.two.metrics.expired_peers(), 0, "no key is recorded for them");
}
