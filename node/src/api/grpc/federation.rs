//! `Federation`: a datacenter with a federation token learns who the primary is, and is admitted once it has begun.

use std::sync::Arc;

use carrack_authority::{
    Command, Rejection, State,
    acl::token::federation_secret_digest,
    federation::{AdmitDatacenter, DatacenterFacts},
    spiffe::Name,
};
use carrack_proto::{
    convert::wan::{der_from_wire, der_to_wire, uuid_from_wire, uuid_to_wire},
    server::{JoinFederationRequest, JoinFederationResponse, WelcomeRequest, WelcomeResponse, federation_server},
};
use carrack_raft::ProposeError;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::server::{PROPOSE_WITHIN, context::Context};

/// The service on one server.
pub(super) struct Federation {
    context: Arc<Context>,
}

impl Federation {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Refuses an unknown token before anything is verified or written for it.
    async fn authenticate(&self, secret: &[u8], datacenter: &str) -> Result<State, Status> {
        let deadline = Instant::now() + PROPOSE_WITHIN;
        let read = self.context.replica.read_linearizable(deadline).await;
        let state = read.map_err(|error| Status::unavailable(error.to_string()))?.state.clone();
        let refused = |reason: String| Err(rejected(&Rejection::FederationTokenRefused { reason }));
        match state.federation_token(&federation_secret_digest(secret)) {
            None => refused("it is unknown or has ended".into()),
            Some(token) if token.datacenter.as_str() != datacenter => {
                let wanted = &token.datacenter;
                refused(format!("it is for the datacenter `{wanted}`, not for `{}`", datacenter.escape_debug()))
            }
            Some(_) => Ok(state),
        }
    }
}

#[tonic::async_trait]
impl federation_server::Federation for Federation {
    async fn welcome(&self, request: Request<WelcomeRequest>) -> Result<Response<WelcomeResponse>, Status> {
        let request = request.into_inner();
        let state = self.authenticate(&request.secret, &request.datacenter).await?;
        let token = state.federation_token(&federation_secret_digest(&request.secret));
        if let Some(cluster) = token.and_then(|token| token.consumed) {
            // A datacenter that has joined does not ask: whoever asks now is another one.
            let reason = format!("it was used already, by the cluster {cluster}");
            return Err(rejected(&Rejection::FederationTokenRefused { reason }));
        }
        let own = state.own_datacenter().ok_or_else(|| Status::unavailable("this datacenter has not begun"))?;
        Ok(Response::new(WelcomeResponse {
            primary: own.name.to_string(),
            cluster_id: uuid_to_wire(own.cluster),
            trust_domain: self.context.identity.trust_domain.to_string(),
            server_roots: own.server_roots.iter().map(der_to_wire).collect(),
            wan_addresses: own.wan_addresses,
        }))
    }

    async fn join(&self, request: Request<JoinFederationRequest>) -> Result<Response<JoinFederationResponse>, Status> {
        let request = request.into_inner();
        self.authenticate(&request.secret, &request.datacenter).await?;
        let admit = AdmitDatacenter { secret: federation_secret_digest(&request.secret), facts: facts(&request)? };
        let name = admit.facts.name.clone();
        let deadline = Instant::now() + PROPOSE_WITHIN;
        let proposed = self.context.replica.propose(Command::AdmitDatacenter(Box::new(admit)), deadline).await;
        let proposed = proposed.map_err(|error| match error {
            ProposeError::Overloaded => Status::resource_exhausted(error.to_string()),
            error => Status::unavailable(format!("{error}; the same join may be repeated")),
        })?;
        proposed.outcome.accepted().map_err(|rejection| rejected(&rejection))?;
        tracing::info!(datacenter = %name, "a datacenter has joined");
        Ok(Response::new(JoinFederationResponse {}))
    }
}

fn facts(request: &JoinFederationRequest) -> Result<DatacenterFacts, Status> {
    let invalid = |error: &dyn std::error::Error| Status::invalid_argument(error.to_string());
    Ok(DatacenterFacts {
        name: Name::parse("datacenter", &request.datacenter).map_err(|error| invalid(&error))?,
        cluster: uuid_from_wire("cluster", &request.cluster_id).map_err(|error| invalid(&error))?,
        server_roots: request.server_roots.iter().map(|der| der_from_wire(der)).collect(),
        wan_addresses: request.wan_addresses.clone(),
    })
}

fn rejected(rejection: &Rejection) -> Status {
    let text = rejection.to_string();
    match rejection {
        Rejection::FederationTokenRefused { .. } => Status::permission_denied(text),
        Rejection::InSecondary { .. } | Rejection::LimitReached { .. } => Status::failed_precondition(text),
        Rejection::AlreadyExists { .. } => Status::already_exists(text),
        _ => Status::invalid_argument(text),
    }
}
