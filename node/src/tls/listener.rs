//! The port through which acceptors get their connections. Real servers listen on TCP, the simulator on its own network.

use std::{future::Future, io, net::SocketAddr};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tracing::debug;

/// Accepts connections.
pub trait Listen: Send {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next connection and the address that it comes from.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, address) = Self::accept(self).await?;
        lower_latency(&stream);
        Ok((stream, address))
    }
}

/// Sends small messages at once. Without it, a request waits for the acknowledgement of the one before.
pub(super) fn lower_latency(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "the socket option TCP_NODELAY was refused; the connection is only slower");
    }
}
