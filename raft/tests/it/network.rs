//! Who may speak on the Raft port.

use std::sync::Arc;

use carrack_authority::id::{NodeId, StoreId};
use carrack_proto::raft::{ForwardRequest, Message, ReadIndexRequest, raft_client::RaftClient};
use carrack_raft::ports::Dialer;
use hyper_util::rt::TokioIo;
use tonic::{
    Code, Request,
    transport::{Channel, Endpoint},
};

use crate::cluster::{CLUSTER, Cluster, PlainDialer, quick, store};

async fn client(cluster: &Cluster, me: u64, to: u64) -> RaftClient<Channel> {
    let dialer = Arc::new(PlainDialer { me });
    let address = cluster.address(to);
    let connect = tower::service_fn(move |_| {
        let connecting = dialer.dial(NodeId(to), &address);
        async move { Ok::<_, std::io::Error>(TokioIo::new(connecting.await?)) }
    });
    RaftClient::new(Endpoint::from_static("http://server").connect_with_connector(connect).await.unwrap())
}

fn request<T>(message: T, node: u64, store: StoreId, cluster: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("carrack-node", node.to_string().parse().unwrap());
    request.metadata_mut().insert("carrack-store", store.to_string().parse().unwrap());
    request.metadata_mut().insert("carrack-cluster", cluster.parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_not_who_it_says_is_refused() {
    let cluster = Cluster::formed(1, quick()).await;
    let mut client = client(&cluster, 2, 1).await;
    let ours = CLUSTER.to_string();
    let mut ask = async |node, store, cluster: &str| {
        client.read_index(request(ReadIndexRequest {}, node, store, cluster)).await.map(drop)
    };
    ask(2, store(2), &ours).await.unwrap();
    assert_eq!(ask(1, store(1), &ours).await.unwrap_err().code(), Code::PermissionDenied);
    let error = ask(2, store(9), &ours).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    assert!(error.message().contains("recorded is store"), "{error}");
    let other = "00000000-0000-0000-0000-000000000001";
    assert_eq!(ask(2, store(2), other).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(ask(2, store(2), "nonsense").await.unwrap_err().code(), Code::Unauthenticated);
    let bare = client.read_index(ReadIndexRequest {}).await.unwrap_err();
    assert_eq!(bare.code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_are_refused_and_change_nothing() {
    let cluster = Cluster::formed(1, quick()).await;
    let mut client = client(&cluster, 2, 1).await;
    let ours = CLUSTER.to_string();
    let junk = || Message { envelope: vec![7; 100].into() };
    let refused = client.append(request(junk(), 2, store(2), &ours)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let refused = client.vote(request(junk(), 2, store(2), &ours)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let stream = request(futures::stream::iter([junk(), junk()]), 2, store(2), &ours);
    let refused = client.install_snapshot(stream).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let stream = request(futures::stream::iter([junk()]), 2, store(2), &ours);
    let mut answers = client.stream_append(stream).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap_err().code(), Code::InvalidArgument);
    let forward = ForwardRequest { commands: vec![1, 2, 3].into(), wait_ms: u32::MAX };
    let refused = client.forward(request(forward, 2, store(2), &ours)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let huge = Message { envelope: vec![0; 9 << 20].into() };
    let refused = client.append(request(huge, 2, store(2), &ours)).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    cluster.halt(1, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_not_the_recorded_one_takes_no_part() {
    let mut cluster = Cluster::formed(3, quick()).await;
    let leader = cluster.leader().await;
    let impostor = leader % 3 + 1;
    cluster.world.stores.lock().unwrap().insert(impostor, StoreId([99; 16]));
    let third = (1..=3).find(|node| *node != leader && *node != impostor).unwrap();
    cluster.kill(third);
    // The impostor still takes what the leader sends, but its own calls are refused.
    let refused = cluster
        .replica(impostor)
        .propose(
            carrack_authority::command::Command::SetHalt { halted: true },
            tokio::time::Instant::now() + std::time::Duration::from_millis(700),
        )
        .await;
    assert!(refused.is_err(), "{refused:?}");
}
