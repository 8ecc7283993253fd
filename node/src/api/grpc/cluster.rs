//! `Cluster`: a server with a join token is admitted, and waits here for its first certificate.

use std::{sync::Arc, time::Duration};

use carrack_authority::{
    Command, Outcome, Rejection, State, WatchKey,
    acl::token::join_secret_digest,
    id::{FeatureLevel, NodeId, StoreId},
    member::{Addresses, AdmitServer},
    root::Ca,
    spiffe::Name,
    x509::csr::{CsrLimits, VerifiedServerCsr},
};
use carrack_proto::server::{JoinRequest, JoinResponse, Peer, cluster_server};
use carrack_raft::ProposeError;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::{
    keys::sealing::Recipient,
    server::{PROPOSE_WITHIN, context::Context},
};

/// How long a joiner waits for the leader to sign its certificate.
const SIGNED_WITHIN: Duration = Duration::from_secs(30);

/// The service on one server.
pub(super) struct Cluster {
    context: Arc<Context>,
}

impl Cluster {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Refuses an unknown token before anything is verified or written for it.
    async fn authenticate(&self, secret: &[u8]) -> Result<(), Status> {
        let deadline = Instant::now() + PROPOSE_WITHIN;
        let read = self.context.replica.read_linearizable(deadline).await;
        let read = read.map_err(|error| Status::unavailable(error.to_string()))?;
        match read.state.join_token(&join_secret_digest(secret)) {
            Some(_) => Ok(()),
            None => Err(rejected(&Rejection::JoinTokenRefused { reason: "it is unknown or has ended".into() })),
        }
    }

    async fn admit(&self, server: AdmitServer) -> Result<NodeId, Status> {
        let deadline = Instant::now() + PROPOSE_WITHIN;
        let proposed = self.context.replica.propose(Command::AdmitServer(Box::new(server)), deadline).await;
        let proposed = proposed.map_err(|error| match error {
            ProposeError::Overloaded => Status::resource_exhausted(error.to_string()),
            error => Status::unavailable(format!("{error}; the same join may be repeated")),
        })?;
        match proposed.outcome.accepted() {
            Ok(Outcome::Admitted { node }) => Ok(node),
            Ok(other) => Err(Status::internal(format!("the log answered {other:?} to a join"))),
            Err(rejection) => Err(rejected(&rejection)),
        }
    }

    async fn wait_for_certificate(&self, node: NodeId) -> Result<JoinResponse, Status> {
        let deadline = Instant::now() + SIGNED_WITHIN;
        loop {
            let applied = self.context.replica.state();
            if let Some(response) = response(&applied.state, node) {
                return Ok(response);
            }
            let after = applied.state.modified(&WatchKey::Members);
            let waited = self.context.replica.wait_for(WatchKey::Members, after, deadline).await;
            waited.map_err(|error| Status::resource_exhausted(error.to_string()))?;
            if Instant::now() >= deadline {
                let reason = "the leader has not signed the certificate yet: repeat the same join";
                return Err(Status::unavailable(reason));
            }
        }
    }
}

#[tonic::async_trait]
impl cluster_server::Cluster for Cluster {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let request = request.into_inner();
        self.authenticate(&request.secret).await?;
        let server = verified(&request)?;
        let name = server.name.clone();
        let node = self.admit(server).await?;
        tracing::info!(%node, %name, "a server joins");
        Ok(Response::new(self.wait_for_certificate(node).await?))
    }
}

fn verified(request: &JoinRequest) -> Result<AdmitServer, Status> {
    let invalid = |error: &dyn std::error::Error| Status::invalid_argument(error.to_string());
    let csr = VerifiedServerCsr::verify(&request.csr, &CsrLimits::default()).map_err(|error| invalid(&error))?;
    let store = <[u8; 16]>::try_from(&*request.store_id).map_err(|error| invalid(&error))?;
    let recipient = request.sealing_recipient.parse::<Recipient>().map_err(|error| invalid(&error))?;
    let (raft, grpc, wan) = (&request.raft_address, &request.grpc_address, &request.wan_address);
    Ok(AdmitServer {
        secret: join_secret_digest(&request.secret),
        name: Name::parse("node name", &request.node_name).map_err(|error| invalid(&error))?,
        store: StoreId(store),
        addresses: Addresses { raft: raft.clone(), grpc: grpc.clone(), wan: wan.clone() },
        sealing_recipient: recipient.to_string(),
        supports: FeatureLevel(request.feature_level),
        public_key: csr.public_key().digest(),
        csr: request.csr.to_vec().into(),
    })
}

/// The answer, once the certificate is in the state.
fn response(state: &State, node: NodeId) -> Option<JoinResponse> {
    let cluster = state.cluster()?;
    let certificate = &state.member(node)?.certificate.as_ref()?.certificate;
    let peer = |member: &Arc<carrack_authority::member::Member>| Peer {
        node_id: member.node.0,
        node_name: member.name.to_string(),
        raft_address: member.addresses.raft.clone(),
        grpc_address: member.addresses.grpc.clone(),
    };
    let roots = state.roots(Ca::Server).bundle();
    Some(JoinResponse {
        node_id: node.0,
        cluster_id: cluster.id.as_bytes().to_vec().into(),
        datacenter: cluster.datacenter.to_string(),
        trust_domain: cluster.trust_domain.to_string(),
        certificate: certificate.as_bytes().to_vec().into(),
        server_roots: roots.iter().map(|root| root.made.certificate.as_bytes().to_vec().into()).collect(),
        peers: state.members().map(peer).collect(),
    })
}

fn rejected(rejection: &Rejection) -> Status {
    let text = rejection.to_string();
    match rejection {
        Rejection::JoinTokenRefused { .. } | Rejection::Removed { .. } => Status::permission_denied(text),
        Rejection::TooOld { .. } | Rejection::LimitReached { .. } => Status::failed_precondition(text),
        Rejection::AlreadyExists { .. } => Status::already_exists(text),
        _ => Status::invalid_argument(text),
    }
}

#[cfg(test)]
mod tests {
    use carrack_authority::{
        key::KeyKind,
        x509::request::{RequestedName, build_csr},
    };

    use super::*;
    use crate::keys::{
        aws_lc::AwsLcKeyMaker,
        sealing::{AgeSealer, Sealer},
        secret::KeyMaker,
    };

    #[test]
    fn a_joiner_is_admitted_with_the_addresses_that_it_tells_the_wan_one_where_it_has_one() {
        let key = AwsLcKeyMaker.make(KeyKind::EcP256).unwrap();
        let csr = build_csr(&*AwsLcKeyMaker.signer(&key).unwrap(), &RequestedName::Server).unwrap();
        let mut request = JoinRequest {
            node_name: "b".into(),
            store_id: vec![7; 16].into(),
            raft_address: "10.0.0.2:8300".into(),
            grpc_address: "10.0.0.2:8503".into(),
            sealing_recipient: AgeSealer.generate().unwrap().recipient().to_string(),
            csr: csr.as_bytes().to_vec().into(),
            ..JoinRequest::default()
        };
        let told = |wan: Option<&str>| Addresses {
            raft: "10.0.0.2:8300".into(),
            grpc: "10.0.0.2:8503".into(),
            wan: wan.map(Into::into),
        };
        assert_eq!(verified(&request).unwrap().addresses, told(None));
        request.wan_address = Some("192.0.2.2:8302".into());
        assert_eq!(verified(&request).unwrap().addresses, told(Some("192.0.2.2:8302")));
    }
}
