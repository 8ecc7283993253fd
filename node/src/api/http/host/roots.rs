//! The bundle, as the servers told it last: every verifier may have it.

use axum::{body::Body, response::Response};
use carrack_authority::x509::pem;
use tokio::time::{Instant, timeout_at};

use super::HostCall;
use crate::{
    agent::followed::HeldBundle,
    api::http::{answer::Answer, ca_roots::roots_of, error::HttpError},
};

/// `GET /v1/agent/connect/ca/roots`, `GET /v1/connect/ca/roots`
pub(super) async fn read(call: HostCall) -> Result<Response, HttpError> {
    let deadline = Instant::now() + call.wait();
    let mut bundles = call.edge.followed.bundles();
    loop {
        call.fresh()?;
        let bundle = bundles.borrow_and_update().clone();
        let bundle = bundle.ok_or_else(|| HttpError::Unavailable("no server has told the bundle yet".into()))?;
        let asked = call.parameters.index;
        if asked == 0 || bundle.revision.0 > asked || Instant::now() >= deadline {
            return answer(&call, &bundle);
        }
        // Whether one came or the time is over: it is looked at again.
        drop(timeout_at(deadline, bundles.changed()).await);
    }
}

fn answer(call: &HostCall, bundle: &HeldBundle) -> Result<Response, HttpError> {
    let told = &bundle.told;
    if bundle.roots().is_empty() {
        let text = "CA is uninitialized and unable to sign certificates yet: there is no root";
        return Err(HttpError::Unavailable(text.into()));
    }
    let answer = match call.parameters.flag("pem")? {
        true => {
            let text = pem::encode_certificates(bundle.anchors());
            Answer::of("application/pem-certificate-chain", Body::from(text))
        }
        false => {
            let roots = roots_of(told.trust_domain.to_string(), &told.cluster.to_string(), bundle.roots().iter())?;
            Answer::json(&roots, call.parameters.is_pretty)?
        }
    };
    Ok(answer.with_index(bundle.revision.0).with_cache(Some(call.age())).into_response())
}
