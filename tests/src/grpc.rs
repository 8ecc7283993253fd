//! Clients of a server's gRPC port, as agents connect: TLS that trusts the server CA alone.

use std::{fs, sync::Arc};

use anyhow::Context;
use carrack::{
    network::Tcp,
    tls::{
        client::{Alpn, ClientDialer, ServerRoots},
        clock::TlsClock,
    },
};
use carrack_authority::time::Timestamp;
use carrack_proto::server::{SignRequest, SignResponse, certificates_client::CertificatesClient};
use hyper_util::rt::TokioIo;
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint, Uri},
};

use crate::{http::runtime, server::Server};

/// Connects to a server's gRPC port.
pub async fn connect(address: &str, roots: ServerRoots) -> anyhow::Result<CertificatesClient<Channel>> {
    #[expect(clippy::disallowed_methods, reason = "a client outside of the system has the machine's clock")]
    let clock = TlsClock::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp::EPOCH.plus(since.unwrap_or_default())
    });
    let (dialer, address) = (ClientDialer::new(Arc::new(Tcp), roots, &clock, Alpn::Http2), address.to_owned());
    let connector = tower::service_fn(move |_: Uri| {
        let (dialer, address) = (dialer.clone(), address.clone());
        async move { dialer.dial(&address).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("https://server.carrack.invalid").connect_with_connector(connector).await?;
    Ok(CertificatesClient::new(channel))
}

/// A connection to one server, used from tests that are not async.
pub struct Signer(CertificatesClient<Channel>);

impl Signer {
    /// Connects, trusting what the server put into its data directory for its clients.
    pub fn of(server: &Server) -> anyhow::Result<Self> {
        let path = server.data_directory().join("server-ca.pem");
        let roots = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let (address, roots) = (server.grpc.to_string(), ServerRoots::from_pem(&roots)?);
        Ok(Self(runtime().block_on(connect(&address, roots))?))
    }

    /// Asks for a leaf, with this secret in the metadata unless it is empty.
    ///
    /// # Panics
    /// Panics if the secret is no metadata value.
    pub fn sign(&self, secret: &str, csr: &[u8]) -> Result<SignResponse, Status> {
        let mut request = Request::new(SignRequest { csr: csr.to_vec().into(), slot: String::new() });
        if !secret.is_empty() {
            let value = secret.parse().expect("the secret is a metadata value");
            request.metadata_mut().insert("x-consul-token", value);
        }
        let mut client = self.0.clone();
        runtime().block_on(client.sign(request)).map(tonic::Response::into_inner)
    }
}
