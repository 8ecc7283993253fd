//! The network port on turmoil: hosts are known by their names, links lose, delay and break.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use carrack::network::{Listen, Network};
use carrack_raft::ports::BoxedStream;
use futures::future::{BoxFuture, FutureExt};
use turmoil::net::{TcpListener, TcpStream};

/// The network of whichever host uses it.
#[derive(Clone, Copy, Debug, Default)]
pub struct SimulatedNetwork;

impl Network for SimulatedNetwork {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listen>>> {
        async move {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await?;
            Ok(Box::new(Port(listener)) as Box<dyn Listen>)
        }
        .boxed()
    }

    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<BoxedStream>> {
        let address = address.to_owned();
        async move { Ok(Box::new(TcpStream::connect(address).await?) as BoxedStream) }.boxed()
    }
}

struct Port(TcpListener);

impl Listen for Port {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxedStream, SocketAddr)>> {
        async {
            let (stream, address) = self.0.accept().await?;
            Ok((Box::new(stream) as BoxedStream, address))
        }
        .boxed()
    }
}
