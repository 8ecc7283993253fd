//! Tokens that are made, used and deleted: a deleted one entitles to nothing from the moment that its deletion was answered.

use std::time::Duration;

use rand::RngExt;
use serde_json::json;
use tokio::time::sleep;

use super::{ANSWER_WITHIN, Worker};
use crate::{
    client::Call,
    invariants::seen::{Seen, Told},
    trace::Kind,
};

pub(super) async fn run(mut worker: Worker) {
    let mut number = 0;
    while worker.goes_on().await {
        number += 1;
        let service = format!("brief-{}-{number}", worker.host);
        if let Some((accessor, secret)) = make(&mut worker, &service).await {
            use_and_delete(&mut worker, &service, &accessor, &secret).await;
        }
        sleep(worker.shared.scenario.think * worker.random.random_range(0..4)).await;
    }
}

async fn make(worker: &mut Worker, service: &str) -> Option<(String, String)> {
    worker.client.set_token(worker.shared.operator_token());
    let body = json!({"Description": service, "ServiceIdentities": [{"ServiceName": service}]});
    let host = worker.any_server();
    let call = Call { method: "PUT", path: "/v1/acl/token", body: Some(body), within: ANSWER_WITHIN };
    let answer = worker.client.call(&host, call).await;
    let is_made = answer.as_ref().is_ok_and(|answer| answer.is_success());
    worker.shared.count_operation("create token", is_made);
    let json = answer.ok().filter(|answer| answer.is_success())?.json();
    let (accessor, secret) = (json["AccessorID"].as_str()?, json["SecretID"].as_str()?);
    worker.shared.saw(Seen::Told(Told::secret("a brief token", secret)));
    Some((accessor.to_owned(), secret.to_owned()))
}

/// Reads with the token on some server, deletes it, and reads again where the deletion was answered.
async fn use_and_delete(worker: &mut Worker, service: &str, accessor: &str, secret: &str) {
    let host = worker.any_server();
    worker.client.set_token(Some(secret.to_owned()));
    let own = |within: Duration| Call { method: "GET", path: "/v1/acl/token/self?consistent", body: None, within };
    let before = worker.client.call(&host, own(ANSWER_WITHIN)).await;
    if let Ok(answer) = &before
        && answer.status == 403
    {
        worker.shared.violate(
            "no_lost_write",
            format!("token {accessor} was made, and a consistent read on {host} does not know it"),
        );
    }
    worker.client.set_token(worker.shared.operator_token());
    let path = format!("/v1/acl/token/{accessor}");
    let deleted =
        worker.client.call(&host, Call { method: "DELETE", path: &path, body: None, within: ANSWER_WITHIN }).await;
    let is_deleted = deleted.as_ref().is_ok_and(|answer| answer.is_success());
    worker.shared.count_operation("delete token", is_deleted);
    if !is_deleted {
        return;
    }
    worker.shared.book().deleted_tokens.push((service.to_owned(), secret.to_owned()));
    worker.shared.note(&worker.host, Kind::Client, format!("token {accessor} is deleted"));
    worker.client.set_token(Some(secret.to_owned()));
    let host = worker.any_server();
    if let Ok(answer) = worker.client.call(&host, own(ANSWER_WITHIN)).await
        && answer.is_success()
    {
        let text = format!("token {accessor} was deleted, and a consistent read on {host} with it succeeds");
        worker.shared.violate("no_issue_after_delete", text);
    }
}
