//! Channels to the other servers, over connections of the dial port. A channel dials when it is used, again and again, and asks
//! for the address each time.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use carrack_authority::id::NodeId;
use carrack_proto::raft::{ReadClockRequest, ReadIndexRequest, raft_client::RaftClient};
use hyper_util::rt::TokioIo;
use tonic::{
    Code, ConnectError, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint, Uri},
};

use super::{CLUSTER_KEY, Identity, MESSAGE_BYTES_MAX, NODE_KEY, STORE_KEY};
use crate::ports::{Dialer, PeerDirectory};

/// The window of one HTTP/2 stream: a batch of entries of one MiB does not wait for a round trip.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// The window of one connection: some streams of that size.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// A client whose calls say who makes them.
pub(crate) type Client = RaftClient<InterceptedService<Channel, Credentials>>;

/// How long connections and calls may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkTimings {
    /// To connect, TLS included.
    pub(crate) connect: Duration,
    /// Between pings, and until one is answered.
    pub(crate) keep_alive: Duration,
    /// For a short call.
    pub(crate) call: Duration,
}

/// The way to the other servers.
pub(crate) struct Links {
    me: Identity,
    dialer: Arc<dyn Dialer>,
    directory: Arc<dyn PeerDirectory>,
    timings: LinkTimings,
    /// The channels of our own calls; openraft has its own, so that a snapshot never delays these.
    control: Mutex<BTreeMap<u64, (String, Client)>>,
}

impl Links {
    pub(crate) fn new(
        me: Identity,
        dialer: Arc<dyn Dialer>,
        directory: Arc<dyn PeerDirectory>,
        timings: LinkTimings,
    ) -> Self {
        Self { me, dialer, directory, timings, control: Mutex::default() }
    }

    /// A new channel to `node`. `address` is what the Raft membership says; the directory may know better.
    pub(crate) fn connect(self: &Arc<Self>, node: u64, address: String) -> Client {
        let links = self.clone();
        let dial = tower::service_fn(move |_: Uri| {
            let node = NodeId(node);
            let address = links.directory.address(node).unwrap_or_else(|| address.clone());
            let connecting = links.dialer.dial(node, &address);
            async move { Ok::<_, io::Error>(TokioIo::new(connecting.await?)) }
        });
        let endpoint = Endpoint::from_static("http://server")
            .connect_timeout(self.timings.connect)
            .http2_keep_alive_interval(self.timings.keep_alive)
            .keep_alive_timeout(self.timings.keep_alive)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let channel = endpoint.connect_with_connector_lazy(dial);
        RaftClient::with_interceptor(channel, Credentials::new(&self.me))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The channel of our own calls to `node`.
    pub(crate) fn control(self: &Arc<Self>, node: u64, address: &str) -> Client {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        match control.get(&node) {
            Some((known, client)) if known == address => client.clone(),
            _ => {
                let client = self.connect(node, address.to_owned());
                control.insert(node, (address.to_owned(), client.clone()));
                client
            }
        }
    }

    /// Asks the leader for an index to read at.
    pub(crate) async fn read_index(self: &Arc<Self>, node: u64, address: &str) -> Result<u64, Status> {
        let mut client = self.control(node, address);
        let call = client.read_index(ReadIndexRequest {});
        let answered = tokio::time::timeout(self.timings.call, call).await;
        Ok(answered.map_err(|_| Status::deadline_exceeded("no answer"))??.into_inner().index)
    }

    /// Asks a server for its clock, in milliseconds since 1970.
    pub(crate) async fn read_clock(self: &Arc<Self>, node: u64, address: &str) -> Result<u64, Status> {
        let mut client = self.control(node, address);
        let call = client.read_clock(ReadClockRequest {});
        let answered = tokio::time::timeout(self.timings.call, call).await;
        Ok(answered.map_err(|_| Status::deadline_exceeded("no answer"))??.into_inner().unix_ms)
    }
}

/// Whether a call that ended with this status never reached the other server, or was turned away there before it did anything.
pub(crate) fn was_turned_away(status: &Status) -> bool {
    if matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument) {
        return true;
    }
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The metadata that every call carries.
#[derive(Clone)]
pub(crate) struct Credentials {
    node: MetadataValue<Ascii>,
    store: MetadataValue<Ascii>,
    cluster: MetadataValue<Ascii>,
}

impl Credentials {
    fn new(me: &Identity) -> Self {
        let value = |text: String| text.parse().expect("digits, hexadecimal digits and hyphens are ASCII");
        Self {
            node: value(me.node.to_string()),
            store: value(me.store.to_string()),
            cluster: value(me.cluster.to_string()),
        }
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert(NODE_KEY, self.node.clone());
        metadata.insert(STORE_KEY, self.store.clone());
        metadata.insert(CLUSTER_KEY, self.cluster.clone());
        Ok(request)
    }
}
