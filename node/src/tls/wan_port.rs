//! What the services of the WAN port are told about who sends a request.

use carrack_authority::x509::ServerId;
use tonic::{Request, Status};

use super::peer::PeerIdentity;

/// The server of another datacenter that sends a request: what a request may ask for depends on its datacenter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerDatacenter {
    /// Who it is, as its certificate says.
    pub server: ServerId,
}

/// An interceptor for the services of the WAN port: puts the [`PeerDatacenter`] into the extensions of each request.
pub fn name_datacenter(mut request: Request<()>) -> Result<Request<()>, Status> {
    let server = request.extensions().get::<PeerIdentity>().and_then(|peer| peer.server.clone());
    let server = server.ok_or_else(|| Status::unauthenticated("the connection has no server certificate"))?;
    request.extensions_mut().insert(PeerDatacenter { server: (*server).clone() });
    Ok(request)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tls::testing::ServerCa;

    #[test]
    fn a_request_carries_the_datacenter_of_its_peers_certificate_or_is_refused() {
        let address = "127.0.0.1:8302".parse().unwrap();
        let mut request = Request::new(());
        // What a sender puts into its own request does not reach the extensions, so only the connection speaks.
        request.metadata_mut().insert("carrack-datacenter", "dc9".parse().unwrap());
        assert_eq!(name_datacenter(request).unwrap_err().code(), tonic::Code::Unauthenticated);

        let mut request = Request::new(());
        request.extensions_mut().insert(PeerIdentity { address, server: None, agent_key: None });
        assert_eq!(name_datacenter(request).unwrap_err().code(), tonic::Code::Unauthenticated);

        let server = ServerCa::new(2, "dc2").id(3);
        let mut request = Request::new(());
        request.extensions_mut().insert(PeerIdentity {
            address,
            server: Some(Arc::new(server.clone())),
            agent_key: None,
        });
        let named = name_datacenter(request).unwrap();
        assert_eq!(named.extensions().get(), Some(&PeerDatacenter { server }));
    }
}
