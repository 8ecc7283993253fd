//! Tests of acceptors and dialers against each other, over real sockets on loopback.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::Mutex,
    task::{Context, Poll},
    time::Duration,
};

use carrack_authority::id::NodeId;
use hyper::http;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Endpoint, Server, Uri, server::Connected};
use tower::{ServiceExt, service_fn};

use super::*;
use crate::{
    keys::server_keys::ServerCredential,
    network::Tcp,
    tls::{
        client::{ClientDialer, ServerRoots},
        dialer::ServerDialer,
        testing::{Accepted, SERVER_TTL, ServerCa, TestClock, read_error, serve, showing},
        trust::TrustedServers,
    },
};

/// One server's side: what it shows, believes and counts.
struct Node {
    identity: Arc<ServerIdentity>,
    trust: Arc<ServerTrust>,
    metrics: Arc<Metrics>,
    clock: TestClock,
}

impl Node {
    fn new(ca: &ServerCa, credential: &ServerCredential, clock: &TestClock) -> Self {
        let (identity, trust) = (showing(credential), ca.trust());
        Self { identity, trust, metrics: Arc::new(Metrics::new()), clock: clock.clone() }
    }

    fn acceptor(&self, limits: Limits) -> Acceptor {
        let (identity, trust) = (self.identity.clone(), self.trust.clone());
        Acceptor::members(identity, trust, self.clock.tls(), limits, self.metrics.clone(), None)
    }

    async fn listen(&self) -> (String, Accepted) {
        serve(self.acceptor(Limits::RAFT)).await
    }

    fn dialer(&self) -> ServerDialer {
        let (identity, trust) = (self.identity.clone(), self.trust.clone());
        ServerDialer::new(Arc::new(Tcp), identity, trust, self.clock.tls(), self.metrics.clone(), None)
    }

    fn refused(&self, reason: &'static str) -> u64 {
        self.metrics.refused_handshakes(Port::Raft, reason)
    }
}

#[tokio::test]
async fn two_servers_know_each_other_by_their_certificates() {
    let (ca, clock) = (ServerCa::new(1, "dc1"), TestClock::new());
    let (one, two) = (Node::new(&ca, &ca.server(1), &clock), Node::new(&ca, &ca.server(2), &clock));
    let (address, mut accepted) = two.listen().await;
    let mut dialled = one.dialer().connect(NodeId(2), &address).await.unwrap();
    let mut connection = accepted.recv().await.unwrap().unwrap();
    assert_eq!(connection.peer().server.as_deref(), Some(&ca.id(1)));
    assert_eq!(connection.connect_info(), *connection.peer());

    dialled.write_all(b"ping").await.unwrap();
    let mut bytes = [0; 4];
    connection.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"ping");
    let (_, session) = dialled.inner().get_ref();
    assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(session.alpn_protocol(), Some(b"h2".as_slice()));
    assert_eq!(two.metrics.connections(Port::Raft).get(), 1);
    drop(connection);
    assert_eq!(two.metrics.connections(Port::Raft).get(), 0);
}

#[tokio::test]
async fn a_tap_sees_what_its_own_side_says() {
    let (ca, clock) = (ServerCa::new(1, "dc1"), TestClock::new());
    let (one, two) = (Node::new(&ca, &ca.server(1), &clock), Node::new(&ca, &ca.server(2), &clock));
    let said = Arc::new(Mutex::new(Vec::new()));
    let taps: Taps = {
        let said = said.clone();
        Arc::new(move |port| {
            let said = said.clone();
            Box::new(move |bytes: &[u8]| said.lock().unwrap().push((port, bytes.to_vec())))
        })
    };
    let (address, mut accepted) = two.listen().await;
    let (identity, trust) = (one.identity.clone(), one.trust.clone());
    let dialer = ServerDialer::new(Arc::new(Tcp), identity, trust, clock.tls(), one.metrics.clone(), Some(taps));
    let mut dialled = dialer.connect(NodeId(2), &address).await.unwrap();
    let mut connection = accepted.recv().await.unwrap().unwrap();
    connection.write_all(b"what the other side says").await.unwrap();
    let slices = [std::io::IoSlice::new(b"ping"), std::io::IoSlice::new(b"pong")];
    let sent = dialled.write_vectored(&slices).await.unwrap();
    let all: Vec<u8> = said.lock().unwrap().iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    assert_eq!(all, b"pingpong"[..sent]);
    assert!(said.lock().unwrap().iter().all(|(port, _)| *port == Port::Raft));
}

#[tokio::test]
async fn a_peer_that_is_no_member_is_refused_and_counted_by_its_reason() {
    let (ca, clock) = (ServerCa::new(1, "dc1"), TestClock::new());
    let two = Node::new(&ca, &ca.server(2), &clock);
    let (address, _accepted) = two.listen().await;
    let agent = ca.forged(|params| {
        params.subject_alt_names = vec![crate::tls::testing::uri("spiffe://example.org/agent/client/dc/dc1/id/a")];
    });
    let elsewhere = ServerCa::new(2, "dc2").server(1);
    for (credential, reason) in [(agent, "not_a_server"), (elsewhere, "chain")] {
        let peer = Node::new(&ca, &credential, &clock);
        // In TLS 1.3 a client learns of its refusal with its first read.
        let mut dialled = peer.dialer().connect(NodeId(2), &address).await.unwrap();
        assert!(read_error(&mut dialled).await.is_some(), "{reason}");
        assert_eq!(two.refused(reason), 1);
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_on_the_raft_port() {
    let (ca, clock) = (ServerCa::new(1, "dc1"), TestClock::new());
    let two = Node::new(&ca, &ca.server(2), &clock);
    let (address, _accepted) = two.listen().await;
    let client = ClientDialer::new(Arc::new(Tcp), ServerRoots::Pinned(ca.root.digest()), &clock.tls(), Alpn::Http2);
    let mut dialled = client.dial(&address).await.unwrap();
    assert!(read_error(&mut dialled).await.is_some());
    assert_eq!(two.refused("tls"), 1);
}

#[tokio::test]
async fn only_the_server_that_was_dialled_may_answer() {
    let (ca, clock) = (ServerCa::new(1, "dc1"), TestClock::new());
    let (one, two) = (Node::new(&ca, &ca.server(1), &clock), Node::new(&ca, &ca.server(2), &clock));
    let (address, _accepted) = two.listen().await;
    let error = one.dialer().connect(NodeId(3), &address).await.map(drop).unwrap_err();
    let expected = PeerRefusal::OtherServer { found: NodeId(2), expected: NodeId(3) };
    assert_eq!(PeerRefusal::inside(&error), Some(&expected));
    assert_eq!(one.refused("other_server"), 1);
}

#[tokio::test]
async fn certificates_and_bundles_are_swapped_under_a_live_listener() {
    let (old, clock) = (ServerCa::new(1, "dc1"), TestClock::new());
    let new = ServerCa::new(1, "dc1");
    let (one, two) = (Node::new(&old, &old.server(1), &clock), Node::new(&old, &old.server(2), &clock));
    let (address, mut accepted) = two.listen().await;
    let dialer = one.dialer();
    dialer.connect(NodeId(2), &address).await.unwrap();
    accepted.recv().await.unwrap().unwrap();

    one.identity.show(&new.server(1)).unwrap();
    let mut refused = dialer.connect(NodeId(2), &address).await.unwrap();
    assert!(read_error(&mut refused).await.is_some());
    let both = TrustedServers { roots: vec![old.root.clone(), new.root.clone()], ..old.trusted(&[]) };
    two.trust.replace(both.clone()).unwrap();
    dialer.connect(NodeId(2), &address).await.unwrap();
    accepted.recv().await.unwrap().unwrap();

    two.identity.show(&new.server(2)).unwrap();
    let error = dialer.connect(NodeId(2), &address).await.map(drop).unwrap_err();
    assert_eq!(PeerRefusal::inside(&error).map(PeerRefusal::code), Some("chain"));
    one.trust.replace(both).unwrap();
    dialer.connect(NodeId(2), &address).await.unwrap();
}

#[tokio::test]
async fn a_removed_server_loses_the_connections_that_it_has() {
    let (ca, clock) = (ServerCa::new(1, "dc1"), TestClock::new());
    let (one, two) = (Node::new(&ca, &ca.server(1), &clock), Node::new(&ca, &ca.server(2), &clock));
    let (address, mut accepted) = two.listen().await;
    let _dialled = one.dialer().connect(NodeId(2), &address).await.unwrap();
    let mut connection = accepted.recv().await.unwrap().unwrap();
    two.trust.replace(TrustedServers { removed: BTreeSet::from([NodeId(3)]), ..ca.trusted(&[]) }).unwrap();
    let mut byte = [0; 1];
    assert!(futures::poll!(Box::pin(connection.read(&mut byte))).is_pending(), "another server was removed");

    two.trust.replace(TrustedServers { removed: BTreeSet::from([NodeId(1)]), ..ca.trusted(&[]) }).unwrap();
    let error = read_error(&mut connection).await.unwrap();
    assert_eq!(PeerRefusal::inside(&error), Some(&PeerRefusal::Removed { node: NodeId(1) }));
    assert_eq!(connection.write(b"x").await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
}

#[tokio::test]
async fn a_connection_ends_with_the_certificate_of_its_peer() {
    let (ca, clock) = (ServerCa::new(1, "dc1"), TestClock::new());
    let (one, two) = (Node::new(&ca, &ca.server(1), &clock), Node::new(&ca, &ca.server(2), &clock));
    let (address, mut accepted) = two.listen().await;
    clock.advance(SERVER_TTL);
    let mut dialled = one.dialer().connect(NodeId(2), &address).await.unwrap();
    let mut connection = accepted.recv().await.unwrap().unwrap();
    for error in [read_error(&mut dialled).await, read_error(&mut connection).await] {
        assert_eq!(error.as_ref().and_then(PeerRefusal::inside).map(PeerRefusal::code), Some("ended"));
    }
}

#[tokio::test]
async fn a_cluster_that_slept_past_its_certificates_meets_again_with_an_alarm() {
    let (ca, clock) = (ServerCa::new(1, "dc1"), TestClock::new());
    let credentials = [ca.server(1), ca.server(2)];
    let [one, two] = credentials.each_ref().map(|credential| Node::new(&ca, credential, &clock));
    let (address, mut accepted) = two.listen().await;
    clock.advance(SERVER_TTL + Duration::from_secs(3600));
    let error = one.dialer().connect(NodeId(2), &address).await.map(drop).unwrap_err();
    assert_eq!(PeerRefusal::inside(&error).map(PeerRefusal::code), Some("expired"), "nothing is recorded yet");

    let recorded = ca.trusted(&[(1, &credentials[0]), (2, &credentials[1])]);
    one.trust.replace(recorded.clone()).unwrap();
    two.trust.replace(recorded.clone()).unwrap();
    let mut dialled = one.dialer().connect(NodeId(2), &address).await.unwrap();
    let mut connection = accepted.recv().await.unwrap().unwrap();
    assert_eq!((one.metrics.expired_peers(), two.metrics.expired_peers()), (1, 1));

    let mut byte = [0; 1];
    assert!(futures::poll!(Box::pin(connection.read(&mut byte))).is_pending(), "it does not end by itself");
    two.trust.replace(TrustedServers { keys: Default::default(), ..recorded }).unwrap();
    assert!(read_error(&mut connection).await.is_some(), "the recorded key is another one now");
    drop(connection);
    assert!(!matches!(dialled.read(&mut byte).await, Ok(1..)));
}

#[tokio::test]
async fn clients_know_the_server_by_bundle_or_by_pin_and_show_nothing() {
    let (ca, clock) = (ServerCa::new(1, "dc1"), TestClock::new());
    let (identity, metrics) = (showing(&ca.server(2)), Arc::new(Metrics::new()));
    let acceptor = Acceptor::public(Port::Grpc, identity, &clock.tls(), Alpn::Http2, Limits::RPC, metrics.clone());
    let (address, mut accepted) = serve(acceptor).await;
    let bundle = ServerRoots::from_pem(&carrack_authority::x509::pem::encode_certificates([&ca.root])).unwrap();
    for roots in [bundle, ServerRoots::Pinned(ca.root.digest())] {
        let dialled = ClientDialer::new(Arc::new(Tcp), roots, &clock.tls(), Alpn::Http2).dial(&address).await.unwrap();
        assert_eq!(ClientDialer::presented(&dialled).last(), Some(&ca.root), "servers present their root for joiners");
        let connection = accepted.recv().await.unwrap().unwrap();
        assert_eq!(connection.peer().server, None);
    }

    let other = ServerCa::new(1, "dc1");
    let wrong_bundle =
        ServerRoots::from_pem(&carrack_authority::x509::pem::encode_certificates([&other.root])).unwrap();
    for (roots, code) in [(wrong_bundle, "chain"), (ServerRoots::Pinned(other.root.digest()), "not_pinned")] {
        let error = ClientDialer::new(Arc::new(Tcp), roots, &clock.tls(), Alpn::Http2)
            .dial(&address)
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(PeerRefusal::inside(&error).map(PeerRefusal::code), Some(code));
    }
}

#[tokio::test]
async fn a_leaf_whose_digest_is_the_pin_is_no_root() {
    let (ca, clock) = (ServerCa::new(1, "dc1"), TestClock::new());
    let credential = ca.server(2);
    let leaf = carrack_authority::x509::pem::decode_certificates(&credential.chain_pem).unwrap().remove(0);
    // The leaf is presented a second time, where a root belongs.
    let chain_pem = carrack_authority::x509::pem::encode_certificates([&leaf, &leaf]);
    let identity = showing(&ServerCredential { key: credential.key, chain_pem });
    let metrics = Arc::new(Metrics::new());
    let acceptor = Acceptor::public(Port::Grpc, identity, &clock.tls(), Alpn::Http2, Limits::RPC, metrics);
    let (address, _accepted) = serve(acceptor).await;
    let client = ClientDialer::new(Arc::new(Tcp), ServerRoots::Pinned(leaf.digest()), &clock.tls(), Alpn::Http2);
    let error = client.dial(&address).await.map(drop).unwrap_err();
    assert_eq!(PeerRefusal::inside(&error), Some(&PeerRefusal::NotPinned));
}

#[tokio::test]
async fn one_address_cannot_take_every_connection_and_silence_ends_a_handshake() {
    let (ca, clock) = (ServerCa::new(1, "dc1"), TestClock::new());
    let two = Node::new(&ca, &ca.server(2), &clock);
    let handshake_timeout = Duration::from_secs(1);
    let limits = Limits { connections_per_address: 2, connections: 10, handshakes: 10, handshake_timeout };
    let (address, mut accepted) = serve(two.acceptor(limits)).await;
    let mut silent = [TcpStream::connect(&address).await.unwrap(), TcpStream::connect(&address).await.unwrap()];
    let mut third = TcpStream::connect(&address).await.unwrap();
    assert!(read_error(&mut third).await.is_none(), "it is closed before its handshake");

    for stream in &mut silent {
        assert!(read_error(stream).await.is_none(), "the server gives up after its timeout");
    }
    assert_eq!(two.refused("timeout"), 2);
    let one = Node::new(&ca, &ca.server(1), &clock);
    one.dialer().connect(NodeId(2), &address).await.unwrap();
    accepted.recv().await.unwrap().expect("the places are free again");
}

#[tokio::test]
async fn slow_handshakes_do_not_keep_others_waiting() {
    let (ca, clock) = (ServerCa::new(1, "dc1"), TestClock::new());
    let (one, two) = (Node::new(&ca, &ca.server(1), &clock), Node::new(&ca, &ca.server(2), &clock));
    let (address, mut accepted) = two.listen().await;
    // It stays silent for less than the handshake timeout, and the other is served meanwhile.
    let _silent = TcpStream::connect(&address).await.unwrap();
    one.dialer().connect(NodeId(2), &address).await.unwrap();
    accepted.recv().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_plain_port_hands_on_the_address_alone() {
    let metrics = Arc::new(Metrics::new());
    let (address, mut accepted) = serve(Acceptor::plain(Port::Http, Limits::HTTP, metrics.clone())).await;
    let mut client = TcpStream::connect(&address).await.unwrap();
    client.write_all(b"GET").await.unwrap();
    let mut connection = accepted.recv().await.unwrap().unwrap();
    assert_eq!(connection.peer().address, client.local_addr().unwrap());
    let mut bytes = [0; 3];
    connection.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"GET");
    assert_eq!(metrics.connections(Port::Http).get(), 1);
}

/// A gRPC service that answers with the server that it hears.
#[derive(Clone)]
struct WhoAmI;

impl tonic::server::NamedService for WhoAmI {
    const NAME: &'static str = "test.WhoAmI";
}

impl tower::Service<http::Request<tonic::body::Body>> for WhoAmI {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let peer = request.extensions().get::<PeerIdentity>().and_then(|peer| peer.server.clone()).unwrap();
        let response = http::Response::builder().header("peer", peer.to_string()).header("grpc-status", "0");
        std::future::ready(Ok(response.body(tonic::body::Body::empty()).unwrap()))
    }
}

#[tokio::test]
async fn a_grpc_handler_finds_the_peer_in_its_request() {
    let (ca, clock) = (ServerCa::new(1, "dc1"), TestClock::new());
    let (one, two) = (Node::new(&ca, &ca.server(1), &clock), Node::new(&ca, &ca.server(2), &clock));
    let (address, accepted) = two.listen().await;
    tokio::spawn(Server::builder().add_service(WhoAmI).serve_with_incoming(ReceiverStream::new(accepted)));

    let dialer = one.dialer();
    let connector = service_fn(move |_: Uri| {
        let (dialer, address) = (dialer.clone(), address.clone());
        async move { dialer.connect(NodeId(2), &address).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://two").connect_with_connector(connector).await.unwrap();
    let request = http::Request::post("http://two/test.WhoAmI/Get").body(tonic::body::Body::empty()).unwrap();
    let response = channel.oneshot(request).await.unwrap();
    assert_eq!(response.headers()["peer"], ca.id(1).to_string());
}
