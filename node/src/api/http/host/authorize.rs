//! `POST /v1/agent/connect/authorize`, decided on what the servers told last: the same question, decision and answer as a server's.

use axum::response::Response;
use carrack_authority::{
    id::Revision,
    intention::{Known, authorize},
    revocation::Revocation,
    time::Timestamp,
};
use tokio::time::Instant;

use super::{HostCall, RIGHTS_WITHIN, of_unknown};
use crate::api::http::{
    answer::Answer,
    authorize::{Answered, Question},
    error::HttpError,
};

pub(super) async fn answer(call: HostCall) -> Result<Response, HttpError> {
    let question = Question::read(&call.body)?;
    let rights = call.rights().await?;
    if !rights.authorizer.service_write(question.target.as_str()) {
        let (accessor, target) = (rights.accessor, &question.target);
        return Err(HttpError::PermissionDenied(format!(
            "token with AccessorID '{accessor}' lacks permission 'service:write' on \"{target}\""
        )));
    }
    let (followed, deadline) = (&call.edge.followed, Instant::now() + RIGHTS_WITHIN);
    let intentions = followed.intentions(&question.target, deadline).await.map_err(of_unknown)?;
    let revoked = followed.revoked(deadline).await.map_err(of_unknown)?;
    // What was waited for took its time: nothing of before a sleep decides, and no token that was deleted meanwhile asks.
    call.fresh()?;
    call.rights().await?;
    let bundle = followed.bundle();
    let bundle = bundle.ok_or_else(|| HttpError::Unavailable("no server has told the bundle yet".into()))?;
    let revocation = question.serial.filter(|serial| revoked.contains(serial)).map(|serial| Revocation {
        serial,
        until: Timestamp::EPOCH,
        // The servers tell agents which, not why: `carrack leaf revoked` shows it.
        reason: String::new(),
        revoked_at: Timestamp::EPOCH,
        created: Revision(0),
        modified: Revision(0),
    });
    let known = Known {
        trust_domain: &call.edge.identity.trust_domain,
        default: bundle.told.default_policy,
        revocation: revocation.as_ref(),
        revoked_issuers: &bundle.told.revoked_issuers,
        now: followed.now(),
    };
    let about = question.source().into_iter().flat_map(|source| intentions.about(source));
    let answered = authorize(about, &question.connection(), &known);
    call.edge.metrics.count_decision(answered.is_allowed, answered.ground);
    let answer = Answer::json(&Answered::from(answered), call.parameters.is_pretty)?;
    Ok(answer.with_cache(Some(call.age())).into_response())
}
