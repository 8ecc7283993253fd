//! The joiner's side: it trusts the pinned server CA and nothing else, shows its token, and keeps what it is answered.
//!
//! Every step may be repeated: the keys and the store id are kept from the first try on, and the same token with the same key is
//! answered with the same node id.

use std::{sync::Arc, time::Duration};

use carrack_authority::{
    id::{FeatureLevel, NodeId, StoreId},
    key::Der,
    member::Addresses,
    spiffe::{Name, SpiffeError},
};
use carrack_proto::server::{JoinRequest, JoinResponse, cluster_client::ClusterClient};
use carrack_raft::ports::BoxedStream;
use tonic::{Code, Status, transport::Channel};
use uuid::Uuid;

use super::{
    grpc_client::{connect, within},
    join_token::JoinTokenText,
    own_record::joining_request,
    task::{StepError, chain_of},
    transport::chain_pem,
};
use crate::{
    data_directory::NodeIdentity,
    keys::server_keys::ServerKeys,
    network::Network,
    tls::{
        client::{Alpn, ClientDialer, ServerRoots},
        clock::TlsClock,
    },
};

/// How long one server may take to answer a join: it waits for the leader's signature.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// A join failed.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is for another server.
    #[error(
        "the join token is for the server `{token}` of `{token_datacenter}`, but this server is `{name}` of `{datacenter}`: set node_name and datacenter, or make another token"
    )]
    OtherServer {
        /// The token's name.
        token: Name,
        /// The token's datacenter.
        token_datacenter: Name,
        /// This server's name.
        name: Name,
        /// This server's datacenter.
        datacenter: Name,
    },
    /// A server refused.
    #[error("the server {address} refuses the join: {reason}")]
    Refused {
        /// Who.
        address: String,
        /// Why.
        reason: String,
    },
    /// No server of the token could be asked.
    #[error(
        "no server of the join token could be asked ({tried}); check that they run and that their gRPC port is reachable, then repeat the same command"
    )]
    Unreachable {
        /// Each server and what happened.
        tried: String,
    },
    /// A server answered what cannot be.
    #[error("the server {address} answered the join with a wrong {what}")]
    BadAnswer {
        /// Who.
        address: String,
        /// What is wrong.
        what: &'static str,
    },
    /// This server's own keys.
    #[error("this server's own keys cannot be used")]
    OwnKeys(#[source] StepError),
}

/// Joins with the token, stores the certificate, and answers who this server is now.
pub(crate) async fn join(
    token: &JoinTokenText,
    addresses: &Addresses,
    store: StoreId,
    keys: &ServerKeys,
    network: &Arc<dyn Network>,
    clock: &TlsClock,
) -> Result<NodeIdentity, JoinError> {
    let request = request(token, addresses, store, keys).map_err(JoinError::OwnKeys)?;
    let mut tried = Vec::new();
    for address in &token.addresses {
        let dialer = ClientDialer::new(network.clone(), ServerRoots::Pinned(token.pin), clock, Alpn::Http2);
        match ask(dialer, address, request.clone()).await {
            Ok(response) => return accept(token, address, store, keys, &response),
            Err(status) if is_final(&status) => {
                return Err(JoinError::Refused { address: address.clone(), reason: status.message().into() });
            }
            Err(status) => tried.push(format!("{address}: {}", chain_of(&status))),
        }
    }
    Err(JoinError::Unreachable { tried: tried.join("; ") })
}

fn request(
    token: &JoinTokenText,
    addresses: &Addresses,
    store: StoreId,
    keys: &ServerKeys,
) -> Result<JoinRequest, StepError> {
    let csr = joining_request(keys)?;
    Ok(JoinRequest {
        secret: token.secret.to_vec().into(),
        node_name: token.node_name.to_string(),
        store_id: store.0.to_vec().into(),
        raft_address: addresses.raft.clone(),
        grpc_address: addresses.grpc.clone(),
        sealing_recipient: keys.sealing()?.recipient().to_string(),
        feature_level: FeatureLevel::SUPPORTED.0,
        csr: csr.as_bytes().to_vec().into(),
        wan_address: addresses.wan.clone(),
    })
}

async fn ask(dialer: ClientDialer, address: &str, request: JoinRequest) -> Result<JoinResponse, Status> {
    let channel = channel(dialer, address).await.map_err(|error| Status::unavailable(chain_of(&error)))?;
    let mut client = ClusterClient::new(channel);
    within(ANSWER_WITHIN, request, |request| async move { client.join(request).await }).await
}

/// Whether asking another server would be answered the same.
fn is_final(status: &Status) -> bool {
    let finals = [Code::PermissionDenied, Code::InvalidArgument, Code::FailedPrecondition, Code::AlreadyExists];
    finals.contains(&status.code())
}

fn accept(
    token: &JoinTokenText,
    address: &str,
    store: StoreId,
    keys: &ServerKeys,
    response: &JoinResponse,
) -> Result<NodeIdentity, JoinError> {
    let bad = |what| JoinError::BadAnswer { address: address.to_owned(), what };
    let datacenter = Name::parse("datacenter", &response.datacenter).map_err(|_: SpiffeError| bad("datacenter"))?;
    if datacenter != token.datacenter {
        return Err(bad("datacenter"));
    }
    let roots: Vec<Der> = response.server_roots.iter().map(|der| Der::from(der.as_ref())).collect();
    if !roots.iter().any(|root| root.digest() == token.pin) {
        return Err(bad("server CA: the pinned root is not among its roots"));
    }
    let chain = chain_pem(&Der::from(response.certificate.as_ref()), &roots);
    keys.activate_server(&chain).map_err(|error| JoinError::OwnKeys(error.into()))?;
    Ok(NodeIdentity {
        cluster: Uuid::from_slice(&response.cluster_id).map_err(|_| bad("cluster id"))?,
        datacenter,
        trust_domain: response.trust_domain.parse().map_err(|_: SpiffeError| bad("trust domain"))?,
        node: NodeId(response.node_id),
        name: token.node_name.clone(),
        store,
    })
}

/// A gRPC channel to a server that the dialer knows again.
pub(crate) async fn channel(dialer: ClientDialer, address: &str) -> Result<Channel, tonic::transport::Error> {
    let address = address.to_owned();
    let dial = move || {
        let (dialer, address) = (dialer.clone(), address.clone());
        async move { dialer.dial(&address).await.map(|stream| Box::new(stream) as BoxedStream) }
    };
    connect(|endpoint| endpoint, dial).await
}
