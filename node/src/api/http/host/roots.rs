//! The bundle, as the servers told it last: every verifier may have it.

use axum::response::Response;
use carrack_authority::planted::{self, Bug};
use tokio::time::{Instant, timeout_at};

use super::HostCall;
use crate::api::http::{ca_roots::AgentBundle, error::HttpError};

/// `GET /v1/agent/connect/ca/roots`, `GET /v1/connect/ca/roots`
pub(super) async fn read(call: HostCall) -> Result<Response, HttpError> {
    let deadline = Instant::now() + call.wait();
    let mut bundles = call.edge.followed.bundles();
    loop {
        call.fresh()?;
        let held = bundles.borrow_and_update().clone();
        let held = held.ok_or_else(|| HttpError::Unavailable("no server has told the bundle yet".into()))?;
        let is_older = planted::is(Bug::AgentIndexGoesBackwards) && call.edge.followed.heard().server.is_none();
        let bundle = AgentBundle {
            trust_domain: held.told.trust_domain.to_string(),
            cluster: held.told.cluster.to_string(),
            roots: held.roots().iter().collect(),
            index: if is_older { held.revision.0 / 2 } else { held.revision.0 },
            age: call.age(),
        };
        if let Some(answer) = bundle.answer(&call.parameters, Instant::now() >= deadline)? {
            return Ok(answer);
        }
        // Whether one came or the time is over: it is looked at again.
        drop(timeout_at(deadline, bundles.changed()).await);
    }
}
