//! What the raft crate asks of TLS: a dialer, and the name of the server that sends a request.

use std::io;

use carrack_authority::id::NodeId;
use carrack_raft::{
    PeerServer,
    ports::{BoxedStream, Dialer},
};
use futures::future::BoxFuture;
use tonic::{Request, Status};

use super::{dialer::ServerDialer, peer::PeerIdentity};

impl Dialer for ServerDialer {
    fn dial(&self, node: NodeId, address: &str) -> BoxFuture<'static, io::Result<BoxedStream>> {
        let (dialer, address) = (self.clone(), address.to_owned());
        Box::pin(async move {
            let stream = dialer.connect(node, &address).await?;
            Ok(Box::new(stream) as BoxedStream)
        })
    }
}

/// An interceptor for the services of the Raft port: tells them which server sends the request, as its certificate says.
pub fn name_peer(mut request: Request<()>) -> Result<Request<()>, Status> {
    let server = request.extensions().get::<PeerIdentity>().and_then(|peer| peer.server.clone());
    let server = server.ok_or_else(|| Status::unauthenticated("the connection has no server certificate"))?;
    request.extensions_mut().insert(PeerServer { node: server.node });
    Ok(request)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tls::testing::ServerCa;

    #[test]
    fn a_request_carries_the_node_id_of_its_peers_certificate_or_is_refused() {
        let address = "127.0.0.1:8300".parse().unwrap();
        let mut request = Request::new(());
        // What a sender puts into its own request does not reach the extensions, so only the connection speaks.
        request.metadata_mut().insert("carrack-node", "9".parse().unwrap());
        assert_eq!(name_peer(request).unwrap_err().code(), tonic::Code::Unauthenticated);

        let mut request = Request::new(());
        let server = Some(Arc::new(ServerCa::new(1, "dc1").id(3)));
        request.extensions_mut().insert(PeerIdentity { address, server, agent_key: None });
        let named = name_peer(request).unwrap();
        assert_eq!(named.extensions().get(), Some(&PeerServer { node: NodeId(3) }));

        let mut request = Request::new(());
        request.extensions_mut().insert(PeerIdentity { address, server: None, agent_key: None });
        assert_eq!(name_peer(request).unwrap_err().code(), tonic::Code::Unauthenticated);
    }
}
