//! Leaves with their keys, which were made here and never leave this host.

use axum::response::Response;
use carrack_authority::{acl::AccessorId, spiffe::Name};
use tokio::time::Instant;

use super::HostCall;
use crate::api::http::{
    agent::{of_issue, with_leaf},
    error::HttpError,
};

/// `GET /v1/agent/connect/ca/leaf/<service>`
pub(super) async fn read(call: HostCall) -> Result<Response, HttpError> {
    let service = call.variable.as_deref().unwrap_or_default();
    let service = Name::parse("service", service).map_err(|error| HttpError::BadRequest(error.to_string()))?;
    let (deadline, asked) = (Instant::now() + call.wait(), call.parameters.index);
    loop {
        let token = entitled(&call, &service).await?;
        let served = call.edge.leaves.leaf(token, &service).await.map_err(of_issue)?;
        if asked == 0 || served.leaf.index > asked || Instant::now() >= deadline {
            // Issuing took its time: the token is looked at again before anything is handed out.
            entitled(&call, &service).await?;
            return with_leaf(service.as_str(), &served.leaf, served.age, call.parameters.is_pretty);
        }
        tokio::select! {
            () = call.edge.leaves.wait_newer(token, &service, asked, deadline) => {}
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
