//! `Certificates`: a token and a CSR in, a recorded leaf out.

use std::{sync::Arc, time::Duration};

use carrack_authority::{
    acl::{Token, token::secret_digest},
    issuance::Keeper,
    spiffe::Name,
};
use carrack_proto::server::{SignRequest, SignResponse, certificates_server};
use carrack_raft::AppliedState;
use tokio::{sync::Semaphore, time::Instant};
use tonic::{
    Request, Response, Status,
    metadata::{MetadataMap, MetadataValue},
};

use crate::{
    api::http::parameters::parse_uuid,
    server::{
        context::Context,
        desk::{ERROR_CODE, Granted, HALT_UNKNOWN, IssueError, IssueRequest},
        task::chain_of,
    },
    tls::peer::PeerIdentity,
};

/// The most tokens at a time that are looked for at the leader: strangers with random UUIDs cost a round trip each.
pub(super) const LOOK_UPS_MAX: usize = 64;
/// How long a token that this server does not know may be looked for at the leader.
pub(super) const LOOK_UP_WITHIN: Duration = Duration::from_secs(2);

/// The service on one server.
pub(super) struct Certificates {
    context: Arc<Context>,
    look_ups: Semaphore,
}

impl Certificates {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context, look_ups: Semaphore::new(LOOK_UPS_MAX) }
    }

    /// The caller's token. One that this server has not applied yet is looked for in the committed state: whoever was given
    /// a token may use it on every server at once.
    async fn authenticate(&self, metadata: &MetadataMap) -> Result<Arc<Token>, Status> {
        let secret = secret_of(metadata).ok_or_else(|| {
            Status::unauthenticated(
                "Permission denied: a token is needed, in the metadata `x-consul-token` or `authorization: Bearer`",
            )
        })?;
        let unknown = || Status::permission_denied("ACL not found");
        let digest = secret_digest(&parse_uuid(secret).ok_or_else(unknown)?);
        let replica = &self.context.replica;
        let token_in =
            |applied: &AppliedState| applied.state.acl().token_of_secret(&digest, replica.log_time()).cloned();
        if let Some(token) = token_in(&replica.state()) {
            return Ok(token);
        }
        let place = self.look_ups.try_acquire();
        let _place = place.map_err(|_| Status::resource_exhausted("Rate limit reached, try again later"))?;
        let read = replica.read_linearizable(Instant::now() + LOOK_UP_WITHIN).await;
        let read = read.map_err(|error| {
            Status::unavailable(format!("nobody can tell whether this token exists: {}", chain_of(&error)))
        })?;
        token_in(&read).ok_or_else(unknown)
    }
}

impl Certificates {
    /// The agent that asks for a workload of its host, if it is one.
    fn agent_of<T>(&self, request: &Request<T>) -> Option<Name> {
        let shown = request.extensions().get::<PeerIdentity>()?.agent_key?;
        Some(self.context.replica.state().state.agent_of_key(&shown)?.node.clone())
    }
}

fn secret_of(metadata: &MetadataMap) -> Option<&str> {
    if let Some(value) = metadata.get("x-consul-token") {
        return value.to_str().ok();
    }
    metadata.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")
}

#[tonic::async_trait]
impl certificates_server::Certificates for Certificates {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let token = self.authenticate(request.metadata()).await?;
        let agent = self.agent_of(&request);
        let SignRequest { csr, slot } = request.into_inner();
        let keeper = agent.map_or(Keeper::Login(token.accessor), Keeper::Agent);
        let slot = (!slot.is_empty()).then_some(slot);
        let request = IssueRequest { csr: csr.into(), granted: Granted::Token(token), keeper, slot, ttl: None };
        let issued = self.context.desk.issue(request).await.map_err(status)?;
        Ok(Response::new(SignResponse {
            certificate: issued.certificate.as_bytes().to_vec().into(),
            chain: issued.chain.iter().map(|der| der.as_bytes().to_vec().into()).collect(),
            sequence: issued.sequence,
            revision: issued.index,
        }))
    }
}

/// A refusal with its code for programs beside gRPC's, as HTTP has it.
fn coded(mut status: Status, code: &'static str) -> Status {
    status.metadata_mut().insert(ERROR_CODE, MetadataValue::from_static(code));
    status
}

/// The one place where the desk's refusals become gRPC's.
pub(super) fn status(error: IssueError) -> Status {
    let text = error.to_string();
    match error {
        IssueError::CallerMistake(_) => Status::invalid_argument(text),
        IssueError::PermissionDenied(_) => Status::permission_denied(text),
        IssueError::RateLimited { .. } => Status::resource_exhausted(text),
        IssueError::Halted => Status::failed_precondition(text),
        // Unlike the end of a halt nobody need decide on it: whoever asks may ask again.
        IssueError::HaltUnknown(_) => coded(Status::unavailable(text), HALT_UNKNOWN),
        IssueError::Unavailable(_) | IssueError::IssuerRefused(_) | IssueError::OutcomeUnknown => {
            Status::unavailable(text)
        }
    }
}
