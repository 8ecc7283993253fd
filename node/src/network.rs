//! The network port: where connections come from and go to, before TLS. Real servers use TCP, the simulator its own network.

use std::{io, net::SocketAddr};

use carrack_raft::ports::BoxedStream;
use futures::future::{BoxFuture, FutureExt};
use tokio::net::{TcpListener, TcpStream};
use tracing::debug;

/// Opens connections and the ports that accept them.
pub trait Network: Send + Sync {
    /// Listens on an address of this machine.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listen>>>;

    /// Connects to `host:port`.
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<BoxedStream>>;
}

/// An opened port.
pub trait Listen: Send {
    /// The next connection and the address that it comes from.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxedStream, SocketAddr)>>;
}

/// The machine's TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Network for Tcp {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listen>>> {
        async move { Ok(Box::new(TcpListener::bind(address).await?) as Box<dyn Listen>) }.boxed()
    }

    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<BoxedStream>> {
        let address = address.to_owned();
        async move {
            let stream = TcpStream::connect(address).await?;
            lower_latency(&stream);
            Ok(Box::new(stream) as BoxedStream)
        }
        .boxed()
    }
}

impl Listen for TcpListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxedStream, SocketAddr)>> {
        async {
            let (stream, address) = Self::accept(self).await?;
            lower_latency(&stream);
            Ok((Box::new(stream) as BoxedStream, address))
        }
        .boxed()
    }
}

/// Sends small messages at once. Without it, a request waits for the acknowledgement of the one before.
fn lower_latency(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "the socket option TCP_NODELAY was refused; the connection is only slower");
    }
}
