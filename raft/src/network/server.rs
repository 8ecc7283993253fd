//! The service that the other servers call. The connection has authenticated the peer; each call must come from the store that is
//! recorded for it, and each message must speak for it.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use carrack_authority::{
    command::Command,
    id::{NodeId, StoreId},
};
use carrack_proto::{
    raft::{
        ForwardRequest, ForwardResponse, Message, ReadClockRequest, ReadClockResponse, ReadIndexRequest,
        ReadIndexResponse,
        raft_server::{Raft, RaftServer},
    },
    stored::{self, Kind, Schema},
};
use futures::{Stream, StreamExt, future::join_all};
use openraft::raft::{AppendEntriesRequest, SnapshotResponse, TransferLeaderRequest, VoteRequest};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::{
    CLUSTER_KEY, FORWARD_COMMANDS_MAX, Forwarded, MESSAGE_BYTES_MAX, NODE_KEY, STORE_KEY, decode, decode_as, encode,
};
use crate::{
    ports::PeerDirectory,
    proposer::{ProposeError, Proposed},
    replica::Core,
    snapshot::{Received, SnapshotData},
    type_config::{SnapshotMeta, TypeConfig, Vote},
};

/// The longest that a forwarded command may wait for its outcome here.
const FORWARD_WAIT_MAX: Duration = Duration::from_secs(30);

/// The server at the other end of a connection. The TLS layer puts it into each request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerServer {
    /// The node id in its certificate.
    pub node: NodeId,
}

/// The service of one replica.
pub struct RpcService {
    core: Arc<Core>,
    directory: Arc<dyn PeerDirectory>,
}

type Answer<T> = Result<Response<T>, Status>;
type Answers = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;

impl RpcService {
    pub(crate) fn server(core: Arc<Core>, directory: Arc<dyn PeerDirectory>) -> RaftServer<Self> {
        RaftServer::new(Self { core, directory })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The peer, after every check that does not need the message.
    fn peer<T>(&self, request: &Request<T>) -> Result<NodeId, Status> {
        let peer = request.extensions().get::<PeerServer>();
        let peer = peer.ok_or_else(|| Status::unauthenticated("the connection has no server certificate"))?.node;
        let node: u64 = field(request, NODE_KEY)?;
        if NodeId(node) != peer {
            let text = format!("server {peer} does not speak for server {node}");
            return Err(Status::permission_denied(text));
        }
        let (store, cluster): (StoreId, Uuid) = (field(request, STORE_KEY)?, field(request, CLUSTER_KEY)?);
        self.directory.check(peer, store, cluster).map_err(|refusal| Status::permission_denied(refusal.to_string()))?;
        Ok(peer)
    }

    async fn receive(&self, meta: SnapshotMeta, mut messages: Streaming<Message>) -> Result<Received, Status> {
        let place = self.core.receiving.try_acquire();
        let _place = place.map_err(|_| Status::resource_exhausted("other snapshots are being received"))?;
        let (pieces, received) = self.core.snapshots.receive(meta).map_err(internal)?;
        while let Some(message) = messages.message().await? {
            let piece: Bytes = decode_as(Kind::SnapshotPiece, &message)?;
            if pieces.send(piece.into()).await.is_err() {
                break;
            }
        }
        drop(pieces);
        let received = received.await.map_err(internal)?;
        received.map_err(|error| {
            if error.is_from_newer_build() {
                (self.core.fatal)(&format!("the leader's snapshot cannot be read: {error}"));
            }
            Status::data_loss(error.to_string())
        })
    }

    async fn forward_all(&self, peer: NodeId, commands: Vec<Command>, wait: Duration) -> Vec<Forwarded> {
        let deadline = Instant::now() + wait.min(FORWARD_WAIT_MAX);
        let proposed = commands.into_iter().map(|command| self.core.propose_forwarded(peer, command, deadline));
        join_all(proposed).await.into_iter().map(answer_to).collect()
    }
}

fn answer_to(proposed: Result<Proposed, ProposeError>) -> Forwarded {
    match proposed {
        Ok(proposed) => Forwarded::Decided(proposed.index, proposed.outcome),
        Err(ProposeError::OutcomeUnknown) => Forwarded::Unknown,
        Err(_) => Forwarded::NotProposed,
    }
}

fn field<T, V: std::str::FromStr>(request: &Request<T>, key: &'static str) -> Result<V, Status> {
    let value = request.metadata().get(key).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    value.ok_or_else(|| Status::unauthenticated(format!("the metadata {key} is missing or malformed")))
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

/// The message, if its vote is the peer's own.
fn own<T>(peer: NodeId, vote: &Vote, message: T) -> Result<T, Status> {
    let speaker = NodeId(vote.leader_id.node_id);
    if speaker == peer {
        return Ok(message);
    }
    Err(Status::permission_denied(format!("server {peer} sent a message of server {speaker}")))
}

#[tonic::async_trait]
impl Raft for RpcService {
    type StreamAppendStream = Answers;

    async fn append(&self, request: Request<Message>) -> Answer<Message> {
        let peer = self.peer(&request)?;
        let append: AppendEntriesRequest<TypeConfig> = decode(request.get_ref())?;
        let vote = append.vote;
        let append = own(peer, &vote, append)?;
        self.core.heard.note(peer);
        let answer = self.core.raft.append_entries(append).await.map_err(internal)?;
        Ok(Response::new(encode(&answer).map_err(internal)?))
    }

    async fn stream_append(&self, request: Request<Streaming<Message>>) -> Answer<Answers> {
        let peer = self.peer(&request)?;
        let mut messages = request.into_inner();
        let refused = Arc::new(Mutex::new(None));
        let (refusal, core) = (refused.clone(), self.core.clone());
        let requests = async_stream::stream! {
            while let Some(message) = messages.next().await {
                let append = message.and_then(|message| decode::<AppendEntriesRequest<TypeConfig>>(&message));
                let append = append.and_then(|append| { let vote = append.vote; own(peer, &vote, append) });
                match append {
                    Ok(append) => {
                        core.heard.note(peer);
                        yield append;
                    }
                    Err(status) => {
                        *refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
                        return;
                    }
                }
            }
        };
        // openraft looks at its own end only when the leader sends something, and the leader may have nothing to send.
        let requests = requests.take_until(self.core.stopped());
        let answers = self.core.raft.stream_append(Box::pin(requests)).take_until(self.core.stopped());
        let answers = async_stream::stream! {
            let mut answers = std::pin::pin!(answers);
            while let Some(answer) = answers.next().await {
                yield answer.map_err(internal).and_then(|answer| encode(&answer).map_err(internal));
            }
            let refused = refused.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(status) = refused {
                yield Err(status);
            }
        };
        Ok(Response::new(Box::pin(answers)))
    }

    async fn vote(&self, request: Request<Message>) -> Answer<Message> {
        let peer = self.peer(&request)?;
        let vote: VoteRequest<TypeConfig> = decode(request.get_ref())?;
        let candidate = vote.vote;
        let answer = self.core.raft.vote(own(peer, &candidate, vote)?).await.map_err(internal)?;
        Ok(Response::new(encode(&answer).map_err(internal)?))
    }

    async fn pre_vote(&self, request: Request<Message>) -> Answer<Message> {
        let peer = self.peer(&request)?;
        let vote: VoteRequest<TypeConfig> = decode(request.get_ref())?;
        let candidate = vote.vote;
        let answer = self.core.raft.pre_vote(own(peer, &candidate, vote)?).await.map_err(internal)?;
        Ok(Response::new(encode(&answer).map_err(internal)?))
    }

    async fn install_snapshot(&self, request: Request<Streaming<Message>>) -> Answer<Message> {
        let peer = self.peer(&request)?;
        let mut messages = request.into_inner();
        let head = messages.message().await?.ok_or_else(|| Status::invalid_argument("an empty stream"))?;
        let (vote, meta): (Vote, SnapshotMeta) = decode(&head)?;
        own(peer, &vote, ())?;
        let received = self.receive(meta.clone(), messages).await?;
        let snapshot = openraft::Snapshot { meta, snapshot: SnapshotData::Received(Box::new(received)) };
        let answer: SnapshotResponse<TypeConfig> =
            self.core.raft.install_full_snapshot(vote, snapshot).await.map_err(internal)?;
        Ok(Response::new(encode(&answer).map_err(internal)?))
    }

    async fn transfer_leader(&self, request: Request<Message>) -> Answer<Message> {
        let peer = self.peer(&request)?;
        let transfer: TransferLeaderRequest<TypeConfig> = decode(request.get_ref())?;
        let from = *transfer.from_leader();
        let transfer = own(peer, &from, transfer)?;
        let answer = self.core.raft.handle_transfer_leader(transfer).await.map_err(internal)?;
        Ok(Response::new(encode(&answer).map_err(internal)?))
    }

    async fn forward(&self, request: Request<ForwardRequest>) -> Answer<ForwardResponse> {
        let peer = self.peer(&request)?;
        let ForwardRequest { commands, wait_ms } = request.into_inner();
        let commands: Vec<Command> =
            stored::decode(Kind::Forward, &commands).map_err(|error| Status::invalid_argument(error.to_string()))?;
        if commands.len() > FORWARD_COMMANDS_MAX {
            let text = format!("{} commands; the most is {FORWARD_COMMANDS_MAX}", commands.len());
            return Err(Status::invalid_argument(text));
        }
        if !commands.iter().all(Command::is_forwardable) {
            return Err(Status::permission_denied("one of the commands is the leader's own and is not forwarded"));
        }
        let answers = self.forward_all(peer, commands, Duration::from_millis(wait_ms.into())).await;
        let outcomes = stored::encode(Kind::Outcomes, Schema::FIRST, &answers).map_err(internal)?;
        Ok(Response::new(ForwardResponse { outcomes: outcomes.into() }))
    }

    async fn read_index(&self, request: Request<ReadIndexRequest>) -> Answer<ReadIndexResponse> {
        self.peer(&request)?;
        let index = self.core.local_read_index().await;
        let index = index.ok_or_else(|| Status::failed_precondition("this server does not lead"))?;
        Ok(Response::new(ReadIndexResponse { index }))
    }

    async fn read_clock(&self, request: Request<ReadClockRequest>) -> Answer<ReadClockResponse> {
        self.peer(&request)?;
        Ok(Response::new(ReadClockResponse { unix_ms: self.core.wall_clock.now().0 }))
    }
}
