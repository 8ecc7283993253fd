//! `Certificates`: a token and a CSR in, a recorded leaf out.

use std::sync::Arc;

use carrack_authority::{
    acl::{Token, token::secret_digest},
    issuance::Keeper,
};
use carrack_proto::server::{SignRequest, SignResponse, certificates_server};
use tonic::{Request, Response, Status, metadata::MetadataMap};
use uuid::Uuid;

use crate::server::{
    context::Context,
    desk::{IssueError, IssueRequest},
};

/// The service on one server.
pub(super) struct Certificates {
    context: Arc<Context>,
}

impl Certificates {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    fn authenticate(&self, metadata: &MetadataMap) -> Result<Arc<Token>, Status> {
        let secret = secret_of(metadata).ok_or_else(|| {
            Status::unauthenticated(
                "Permission denied: a token is needed, in the metadata `x-consul-token` or `authorization: Bearer`",
            )
        })?;
        let applied = self.context.replica.state();
        let now = self.context.replica.log_time();
        let token = Uuid::parse_str(secret).ok().and_then(|secret| {
            let found = applied.state.acl().token_of_secret(&secret_digest(&secret), now);
            found.cloned()
        });
        token.ok_or_else(|| Status::permission_denied("ACL not found"))
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
        let token = self.authenticate(request.metadata())?;
        let SignRequest { csr, slot } = request.into_inner();
        let keeper = Keeper::Login(token.accessor);
        let slot = (!slot.is_empty()).then_some(slot);
        let request = IssueRequest { csr: csr.into(), token, keeper, slot, ttl: None };
        let issued = self.context.desk.issue(request).await.map_err(status)?;
        Ok(Response::new(SignResponse {
            certificate: issued.certificate.as_bytes().to_vec().into(),
            chain: issued.chain.iter().map(|der| der.as_bytes().to_vec().into()).collect(),
            sequence: issued.sequence,
        }))
    }
}

/// The one place where the desk's refusals become gRPC's.
fn status(error: IssueError) -> Status {
    let text = error.to_string();
    match error {
        IssueError::CallerMistake(_) => Status::invalid_argument(text),
        IssueError::PermissionDenied(_) => Status::permission_denied(text),
        IssueError::RateLimited { .. } => Status::resource_exhausted(text),
        IssueError::Halted => Status::failed_precondition(text),
        IssueError::Unavailable(_) | IssueError::OutcomeUnknown => Status::unavailable(text),
    }
}
