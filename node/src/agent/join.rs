//! An agent's first contact: it trusts the pinned server CA and nothing else, shows its token, and keeps what it is answered. Every step
//! may be repeated: the key is kept from the first try on, and the same token with the same key is answered again.

use std::{sync::Arc, time::Duration};

use carrack_authority::{
    key::Der,
    x509::{
        CertificateFacts, pem,
        request::{RequestedName, build_csr},
    },
};
use carrack_proto::agent::{JoinRequest, OwnCertificate, agents_client::AgentsClient};
use tonic::{Code, Status};

use super::directory::{AgentDirectory, AgentDirectoryError, AgentIdentity, Contacts};
use crate::{
    keys::secret::{KeyError, KeyMaker, SecretKey},
    network::Network,
    server::{
        agent_token::AgentTokenText,
        grpc_client::{reason, within},
        join::channel,
        task::chain_of,
    },
    tls::{
        client::{Alpn, ClientDialer, ServerRoots},
        clock::TlsClock,
    },
};

/// How long one server may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A join failed.
#[derive(Debug, thiserror::Error)]
pub enum AgentJoinError {
    /// A server refused for good.
    #[error("the server {address} refused the join: {reason}")]
    Refused {
        /// Who.
        address: String,
        /// Why.
        reason: String,
    },
    /// No server answered.
    #[error("no server answered the join; tried were {tried}; the same command may be repeated")]
    Unreachable {
        /// Each with what happened.
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
    /// The agent's own directory.
    #[error(transparent)]
    Directory(#[from] AgentDirectoryError),
    /// The agent's own key.
    #[error("the agent's own key cannot be used: {0}")]
    Key(String),
}

/// Joins with the token, keeps the certificate, and answers who the agent is and where its servers are.
pub(super) async fn join(
    token: &AgentTokenText,
    directory: &AgentDirectory,
    maker: &dyn KeyMaker,
    network: &Arc<dyn Network>,
    clock: &TlsClock,
) -> Result<(AgentIdentity, Contacts), AgentJoinError> {
    let identity = AgentIdentity {
        datacenter: token.datacenter.clone(),
        trust_domain: token.trust_domain.clone(),
        node: token.node.clone(),
    };
    let key = directory.own_key(maker)?;
    let csr = own_request(&identity, &key, maker)?;
    let request = JoinRequest {
        secret: token.secret.to_vec().into(),
        node_name: token.node.to_string(),
        csr: csr.as_bytes().to_vec().into(),
    };
    let mut tried = Vec::new();
    for address in &token.addresses {
        let dialer = ClientDialer::new(network.clone(), ServerRoots::Pinned(token.pin), clock, Alpn::Http2);
        match ask(dialer, address, request.clone()).await {
            Ok(answer) => {
                let bad = |what| AgentJoinError::BadAnswer { address: address.clone(), what };
                let contacts = contacts(&answer);
                if !contacts.server_roots.iter().any(|root| root.digest() == token.pin) {
                    return Err(bad("server CA: the pinned root is not among its roots"));
                }
                let chain = own_chain(&answer, &key, maker)?
                    .ok_or_else(|| bad("certificate: it is not of this agent's key"))?;
                directory.keep_certificate(&chain)?;
                directory.keep(&identity, &contacts)?;
                return Ok((identity, contacts));
            }
            Err(status) if is_final(&status) => {
                return Err(AgentJoinError::Refused { address: address.clone(), reason: status.message().into() });
            }
            Err(status) => tried.push(format!("{address}: {}", reason(&status))),
        }
    }
    Err(AgentJoinError::Unreachable { tried: tried.join("; ") })
}

async fn ask(dialer: ClientDialer, address: &str, request: JoinRequest) -> Result<OwnCertificate, Status> {
    let channel = channel(dialer, address).await.map_err(|error| Status::unavailable(chain_of(&error)))?;
    let mut client = AgentsClient::new(channel);
    within(ANSWER_WITHIN, request, |request| async move { client.join(request).await }).await
}

/// Whether asking another server would be answered the same.
fn is_final(status: &Status) -> bool {
    let finals = [Code::PermissionDenied, Code::InvalidArgument, Code::FailedPrecondition, Code::AlreadyExists];
    finals.contains(&status.code())
}

/// The request for the agent's own certificate.
pub(super) fn own_request(
    identity: &AgentIdentity,
    key: &SecretKey,
    maker: &dyn KeyMaker,
) -> Result<Der, AgentJoinError> {
    let bad = |error: &dyn std::error::Error| AgentJoinError::Key(chain_of(error));
    let signer = maker.signer(key).map_err(|error: KeyError| bad(&error))?;
    build_csr(&*signer, &RequestedName::Leaf(&identity.spiffe())).map_err(|error| bad(&error))
}

/// What the agent shows of an answer; `None` if it is not of its key.
pub(super) fn own_chain(
    answer: &OwnCertificate,
    key: &SecretKey,
    maker: &dyn KeyMaker,
) -> Result<Option<String>, AgentJoinError> {
    let signer = maker.signer(key).map_err(|error| AgentJoinError::Key(chain_of(&error)))?;
    let facts = CertificateFacts::read(&answer.certificate).ok();
    let is_own = facts.is_some_and(|facts| facts.public_key.digest() == signer.public_key().digest());
    let all = std::iter::once(&answer.certificate).chain(&answer.chain).map(|der| Der::from(der.as_ref()));
    let all: Vec<Der> = all.collect();
    Ok(is_own.then(|| pem::encode_certificates(all.iter())))
}

/// Where the servers are, as one of them told.
pub(super) fn contacts(answer: &OwnCertificate) -> Contacts {
    let server_roots = answer.server_roots.iter().map(|der| Der::from(der.as_ref())).collect();
    Contacts { servers: answer.servers.clone(), server_roots }
}
