//! Leaves with their keys, which were made here and never leave this host.

use axum::response::Response;
use carrack_authority::{acl::AccessorId, spiffe::Name};
use tokio::time::Instant;

use super::HostCall;
use crate::api::http::{
    agent::{LeafAnswer, of_issue},
    error::HttpError,
};

/// `GET /v1/agent/connect/ca/leaf/<service>`
pub(super) async fn read(call: HostCall) -> Result<Response, HttpError> {
    let service = call.variable.as_deref().unwrap_or_default();
    let service = Name::parse("service", service).map_err(|error| HttpError::BadRequest(error.to_string()))?;
    let deadline = Instant::now() + call.wait();
    loop {
        let token = entitled(&call, &service).await?;
        let served = call.edge.leaves.leaf(token, &service).await.map_err(of_issue)?;
        let leaf = LeafAnswer::new(&service, &served.leaf);
        if leaf.is_news(&call.parameters) || Instant::now() >= deadline {
            // Issuing took its time: the token is looked at again before anything is handed out.
            entitled(&call, &service).await?;
            return leaf.respond(&call.parameters, served.is_hit.then(|| call.age()));
        }
        tokio::select! {
            () = call.edge.leaves.wait_newer(token, &service, served.leaf.index, deadline) => {}
            () = call.rights_change() => {}
        }
    }
}

/// The caller's token, if it may be the service.
async fn entitled(call: &HostCall, service: &Name) -> Result<AccessorId, HttpError> {
    let rights = call.rights().await?;
    if rights.authorizer.service_write(service.as_str()) {
        return Ok(rights.accessor);
    }
    let accessor = rights.accessor;
    Err(HttpError::PermissionDenied(format!(
        "token with AccessorID '{accessor}' lacks permission 'service:write' on \"{service}\""
    )))
}
