//! Between the servers of one datacenter: openraft's messages and our own calls over gRPC, on connections that somebody else
//! dialled, accepted and authenticated.

mod client;
mod heard;
mod links;
mod server;

use bytes::Bytes;
use carrack_authority::{
    command::Command,
    id::{NodeId, StoreId},
    outcome::Outcome,
};
use carrack_proto::{
    raft::Message,
    stored::{self, Kind, Schema},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tonic::Status;
use uuid::Uuid;

pub use self::server::{PeerServer, RpcService};
pub(crate) use self::{
    client::Network,
    heard::Heard,
    links::{LinkTimings, Links, was_turned_away},
};

/// The largest message: a batch of entries of one MiB, or one entry with the largest command, and room.
pub(crate) const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// The most commands in one forwarded batch; as many as an entry has.
pub(crate) const FORWARD_COMMANDS_MAX: usize = crate::proposer::ENTRY_PROPOSALS_MAX;

/// Metadata of every call: the sender's node id.
const NODE_KEY: &str = "carrack-node";
/// Metadata of every call: the sender's store.
const STORE_KEY: &str = "carrack-store";
/// Metadata of every call: the sender's cluster.
const CLUSTER_KEY: &str = "carrack-cluster";

/// Who this server is to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    pub(crate) store: StoreId,
    pub(crate) cluster: Uuid,
}

/// The leader's answer to one forwarded command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Forwarded {
    /// It was applied in this entry.
    Decided(u64, Outcome),
    /// It was not proposed: that server does not lead, or is full.
    NotProposed,
    /// It may or may not be applied.
    Unknown,
}

/// The forwarded commands.
pub(crate) fn encode_commands(commands: &[&Command]) -> Result<Bytes, stored::EncodeError> {
    stored::encode(Kind::Forward, Schema::FIRST, commands).map(Bytes::from)
}

/// A message of openraft in its envelope.
fn encode<T: Serialize>(value: &T) -> Result<Message, stored::EncodeError> {
    encode_as(Kind::RaftMessage, value)
}

fn encode_as<T: Serialize>(kind: Kind, value: &T) -> Result<Message, stored::EncodeError> {
    stored::encode(kind, Schema::FIRST, value).map(|bytes| Message { envelope: bytes.into() })
}

fn decode<T: DeserializeOwned>(message: &Message) -> Result<T, Status> {
    decode_as(Kind::RaftMessage, message)
}

fn decode_as<T: DeserializeOwned>(kind: Kind, message: &Message) -> Result<T, Status> {
    stored::decode(kind, &message.envelope).map_err(|error| Status::invalid_argument(error.to_string()))
}
