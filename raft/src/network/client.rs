//! openraft's network: what it sends to one other server. Every call ends within the time that openraft gives it, and every
//! failure is `Unreachable`, so that openraft backs off at once.

use std::{error::Error, future::Future, sync::Arc};

use carrack_proto::{
    raft::Message,
    stored::{self, Kind},
};
use futures::{Stream, StreamExt, stream};
use openraft::{
    BasicNode, OptionalSend,
    base::{BoxFuture, BoxStream},
    errors::{RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{RPCOption, RaftNetworkFactory, v2::RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::{
    decode, encode, encode_as,
    links::{Client, Links},
};
use crate::{
    snapshot::{Snapshot, SnapshotData, SnapshotError, Snapshots},
    type_config::{TypeConfig, Vote},
};

/// Makes the connections that openraft asks for.
pub(crate) struct Network {
    pub(crate) links: Arc<Links>,
    pub(crate) snapshots: Snapshots,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        Peer { client: self.links.connect(target, node.addr.clone()), snapshots: self.snapshots.clone() }
    }
}

/// One other server.
pub(crate) struct Peer {
    client: Client,
    snapshots: Snapshots,
}

type Answer<T> = Result<T, RPCError<TypeConfig>>;

fn unreachable<E: Error + 'static>(error: E) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(&error))
}

/// Waits for an answer for as long as openraft allows.
async fn call<T: DeserializeOwned>(
    option: &RPCOption,
    answer: impl Future<Output = Result<Response<Message>, Status>>,
) -> Answer<T> {
    let answer = timeout(option.soft_ttl(), answer).await.map_err(unreachable)?.map_err(unreachable)?;
    decode(answer.get_ref()).map_err(unreachable)
}

fn message<T: Serialize>(value: &T) -> Answer<Message> {
    encode(value).map_err(unreachable)
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Answer<AppendEntriesResponse<TypeConfig>> {
        call(&option, self.client.append(message(&request)?)).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Answer<BoxStream<'s, Answer<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            // The first request is taken before anything is dialled: openraft backs off inside its stream of requests.
            let Some(first) = input.next().await else { return Ok(Box::pin(stream::empty()) as _) };
            let requests = stream::iter([first]).chain(input);
            // A request that cannot be encoded ends the stream, and openraft starts another.
            let messages = requests.map(|request| encode(&request)).take_while(is_ok).filter_map(ok);
            let answers = timeout(option.soft_ttl(), self.client.stream_append(messages)).await;
            let answers = answers.map_err(unreachable)?.map_err(unreachable)?.into_inner();
            let answers = answers.map(|answer| answer.and_then(|message| decode(&message)).map_err(unreachable));
            Ok(Box::pin(answers) as _)
        })
    }

    async fn vote(&mut self, request: VoteRequest<TypeConfig>, option: RPCOption) -> Answer<VoteResponse<TypeConfig>> {
        call(&option, self.client.vote(message(&request)?)).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Answer<VoteResponse<TypeConfig>> {
        call(&option, self.client.pre_vote(message(&request)?)).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let messages = self.snapshot_messages(vote, snapshot).map_err(broken)?;
        let mut cancel = std::pin::pin!(cancel);
        tokio::select! {
            biased;
            closed = &mut cancel => Err(StreamingError::Closed(closed)),
            answer = call(&option, self.client.install_snapshot(messages)) => answer.map_err(|error| match error {
                RPCError::Unreachable(error) => StreamingError::Unreachable(error),
                other => StreamingError::Unreachable(Unreachable::new(&other)),
            }),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Answer<TransferLeaderResponse<TypeConfig>> {
        call(&option, self.client.transfer_leader(message(&request)?)).await
    }
}

impl Peer {
    /// The snapshot as messages: the vote with the description, then the file in pieces.
    fn snapshot_messages(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<impl Stream<Item = Message> + Send + 'static, SnapshotError> {
        let SnapshotData::Stored(stored) = snapshot.snapshot else { return Err(SnapshotError::Empty) };
        let head = encode(&(vote, snapshot.meta))?;
        let pieces = ReceiverStream::new(self.snapshots.pieces(stored)?);
        // A piece that cannot be read ends the stream early; the receiver sees that the end is missing.
        let pieces = pieces.map(|piece| {
            let piece = piece.inspect_err(|error| tracing::error!(%error, "a snapshot cannot be read"));
            piece.ok().and_then(|piece| encode_as(Kind::SnapshotPiece, &bytes::Bytes::from(piece)).ok())
        });
        let pieces = pieces.take_while(|piece| std::future::ready(piece.is_some())).filter_map(std::future::ready);
        Ok(stream::iter([head]).chain(pieces))
    }
}

fn is_ok(message: &Result<Message, stored::EncodeError>) -> std::future::Ready<bool> {
    if let Err(error) = message {
        tracing::error!(%error, "entries cannot be sent");
    }
    std::future::ready(message.is_ok())
}

fn ok(message: Result<Message, stored::EncodeError>) -> std::future::Ready<Option<Message>> {
    std::future::ready(message.ok())
}

fn broken(error: SnapshotError) -> StreamingError<TypeConfig> {
    StreamingError::Unreachable(Unreachable::new(&error))
}
