//! `Agents`: an agent is admitted with its token, gets its own certificates, and follows what concerns its workloads.

mod look_ups;
mod stream;

use std::{pin::Pin, sync::Arc};

use carrack_authority::{
    Command, Outcome, Rejection, State,
    acl::token::agent_secret_digest,
    agent::Agent,
    issuance::Keeper,
    spiffe::{Identity, Name, SpiffeId, SpiffePath},
    x509::csr::{CsrLimits, VerifiedCsr},
};
use carrack_proto::agent::{FollowRequest, FollowResponse, JoinRequest, OwnCertificate, RenewRequest, agents_server};
use carrack_raft::ProposeError;
use futures::Stream;
use tokio::{sync::Semaphore, time::Instant};
use tonic::{Request, Response, Status, Streaming};

use super::certificates::{LOOK_UP_WITHIN, LOOK_UPS_MAX, status};
use crate::{
    server::{
        PROPOSE_WITHIN,
        agents::bundle,
        context::Context,
        desk::{Granted, IssueRequest},
    },
    tls::peer::PeerIdentity,
};

/// The slot of an agent's own certificate among its leaves.
const OWN_SLOT: &str = "agent";

/// The service on one server.
pub(super) struct Agents {
    context: Arc<Context>,
    look_ups: Arc<Semaphore>,
}

impl Agents {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context, look_ups: Arc::new(Semaphore::new(LOOK_UPS_MAX)) }
    }

    /// Refuses an unknown token before anything is verified or written for it.
    async fn authenticate(&self, secret: &[u8]) -> Result<(), Status> {
        let deadline = Instant::now() + PROPOSE_WITHIN;
        let read = self.context.replica.read_linearizable(deadline).await;
        let read = read.map_err(|error| Status::unavailable(error.to_string()))?;
        match read.state.agent_token(&agent_secret_digest(secret)) {
            Some(_) => Ok(()),
            None => Err(rejected(&Rejection::AgentTokenRefused { reason: "it is unknown or has ended".into() })),
        }
    }

    async fn admit(&self, command: Command) -> Result<(), Status> {
        let deadline = Instant::now() + PROPOSE_WITHIN;
        let proposed = self.context.replica.propose(command, deadline).await.map_err(|error| match error {
            ProposeError::Overloaded => Status::resource_exhausted(error.to_string()),
            error => Status::unavailable(format!("{error}; the same join may be repeated")),
        })?;
        let index = proposed.index;
        match proposed.outcome.accepted() {
            Ok(Outcome::Done) => {
                // The certificate is judged by this server's own state first.
                self.context.replica.wait_index(index, deadline).await;
                Ok(())
            }
            Ok(other) => Err(Status::internal(format!("the log answered {other:?} to a join"))),
            Err(rejection) => Err(rejected(&rejection)),
        }
    }

    /// The agent's next certificate: recorded, and only then answered.
    async fn certify(&self, node: &Name, csr: Vec<u8>) -> Result<Response<OwnCertificate>, Status> {
        let granted = Granted::Agent(node.clone());
        let (keeper, slot) = (Keeper::Agent(node.clone()), Some(OWN_SLOT.to_owned()));
        let issued = self.context.desk.issue(IssueRequest { csr, granted, keeper, slot, ttl: None }).await;
        let issued = issued.map_err(status)?;
        let state = &self.context.replica.state().state;
        let told = bundle(state, self.context.default_policy)
            .ok_or_else(|| Status::unavailable("this datacenter has not begun"))?;
        Ok(Response::new(OwnCertificate {
            certificate: issued.certificate.as_bytes().to_vec().into(),
            chain: issued.chain.iter().map(|der| der.as_bytes().to_vec().into()).collect(),
            server_roots: told.server_roots.iter().map(|der| der.as_bytes().to_vec().into()).collect(),
            servers: told.servers,
        }))
    }
}

/// The agent whose key the connection has shown.
fn agent_of<T>(request: &Request<T>, state: &State) -> Result<Arc<Agent>, Status> {
    let shown = request.extensions().get::<PeerIdentity>().and_then(|peer| peer.agent_key);
    let shown = shown.ok_or_else(|| Status::unauthenticated("the connection shows no agent's certificate"))?;
    let agent = state.agent_of_key(&shown);
    agent.cloned().ok_or_else(|| Status::permission_denied(NOT_AN_AGENT))
}

/// What is told an agent that was removed.
const NOT_AN_AGENT: &str = "this key is no agent's: it was removed, or its host has joined anew; \
     make another token with `carrack token agent`, and start the agent with `--join` and an empty data directory";

#[tonic::async_trait]
impl agents_server::Agents for Agents {
    type FollowStream = Pin<Box<dyn Stream<Item = Result<FollowResponse, Status>> + Send>>;

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<OwnCertificate>, Status> {
        let JoinRequest { secret, node_name, csr } = request.into_inner();
        self.authenticate(&secret).await?;
        let invalid = |error: &dyn std::error::Error| Status::invalid_argument(error.to_string());
        let node = Name::parse("node name", &node_name).map_err(|error| invalid(&error))?;
        let verified = VerifiedCsr::verify(&csr, &CsrLimits::default()).map_err(|error| invalid(&error))?;
        let own = self.own_identity(&node);
        if *verified.identity() != own {
            return Err(Status::invalid_argument(format!(
                "the request is for `{}`, not for `{own}`",
                verified.identity()
            )));
        }
        let (secret, public_key) = (agent_secret_digest(&secret), verified.public_key().digest());
        self.admit(Command::AdmitAgent { secret, node: node.clone(), public_key }).await?;
        tracing::info!(%node, "an agent joins");
        self.certify(&node, csr.to_vec()).await
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<OwnCertificate>, Status> {
        let agent = agent_of(&request, &self.context.replica.state().state)?;
        self.certify(&agent.node, request.into_inner().csr.to_vec()).await
    }

    async fn follow(&self, request: Request<Streaming<FollowRequest>>) -> Result<Response<Self::FollowStream>, Status> {
        let caught_up = self.context.catch_up(Instant::now() + LOOK_UP_WITHIN).await;
        caught_up.map_err(|error| Status::unavailable(format!("this server has just started: {error}")))?;
        let agent = agent_of(&request, &self.context.replica.state().state)?;
        let follower = stream::Follower::new(self.context.clone(), self.look_ups.clone(), agent);
        Ok(Response::new(Box::pin(follower.run(request.into_inner()))))
    }
}

impl Agents {
    fn own_identity(&self, node: &Name) -> Identity {
        let own = &self.context.identity;
        let path = SpiffePath::Agent { datacenter: own.datacenter.clone(), node: node.clone() };
        Identity::Spiffe(SpiffeId { trust_domain: own.trust_domain.clone(), path })
    }
}

fn rejected(rejection: &Rejection) -> Status {
    let text = rejection.to_string();
    match rejection {
        Rejection::AgentTokenRefused { .. } => Status::permission_denied(text),
        Rejection::LimitReached { .. } => Status::failed_precondition(text),
        Rejection::AlreadyExists { .. } => Status::already_exists(text),
        _ => Status::invalid_argument(text),
    }
}
