//! Tokens that are deleted while an agent's workloads use them: a blocking query ends with the refusal, and nothing more is answered.

use std::time::Duration;

use carrack_authority::acl::AccessorId;
use rand::RngExt;
use serde_json::json;
use tokio::time::sleep;

use super::{Beside, get, leaves};
use crate::{
    client::{Answer, Call, Client},
    invariants::seen::{Seen, Told},
    marks::Mark,
    trace::Kind,
    workloads::{ANSWER_WITHIN, any_server},
};

/// How long the deleted token is tried on.
const TRIED_FOR: Duration = Duration::from_secs(6);

pub(super) async fn run(mut beside: Beside) {
    let server_ca =
        beside.shared.server_ca(beside.agent.datacenter).expect("a formed datacenter has told its server CA");
    let mut servers = Client::new(&beside.shared, &server_ca, beside.shared.operator_token());
    let mut number = 0;
    while beside.goes_on().await {
        number += 1;
        let service = format!("brief-{}-{}-{number}", beside.agent.host, beside.agent.starts());
        if let Some((accessor, secret)) = make(&mut beside, &mut servers, &service).await {
            story(&mut beside, &mut servers, &service, accessor, secret).await;
        }
    }
}

async fn make(beside: &mut Beside, servers: &mut Client, service: &str) -> Option<(AccessorId, String)> {
    let host = any_server(&beside.shared, beside.agent.datacenter, &mut beside.random);
    let body = json!({"Description": service, "ServiceIdentities": [{"ServiceName": service}]});
    let call = Call { method: "PUT", path: "/v1/acl/token", body: Some(body), within: ANSWER_WITHIN };
    let json = servers.call(&host, call).await.ok().filter(Answer::is_success)?.json();
    let (accessor, secret) = (json["AccessorID"].as_str()?, json["SecretID"].as_str()?);
    beside.shared.saw(Seen::Told(Told::secret("a brief token", secret)));
    Some((AccessorId(accessor.parse().ok()?), secret.to_owned()))
}

/// Uses the token, lets it be deleted while a blocking query waits, and tries it on.
async fn story(beside: &mut Beside, servers: &mut Client, service: &str, accessor: AccessorId, secret: String) {
    let (shared, agent) = (beside.shared.clone(), beside.agent.clone());
    let mut holder = Client::of_agent(&shared, Some(secret));
    let first = ask(beside, &mut holder, service, accessor, "").await;
    let index = first.and_then(|answer| answer.index).unwrap_or(0);
    let host = any_server(&shared, agent.datacenter, &mut beside.random);
    let path = format!("/v1/acl/token/{accessor}");
    let delay = shared.scenario.latency_max.mul_f64(beside.random.random_range(1.0..10.0));
    let deleting = async {
        sleep(delay).await;
        let delete = Call { method: "DELETE", path: &path, body: None, within: ANSWER_WITHIN };
        servers.call(&host, delete).await.is_ok_and(|answer| answer.is_success())
    };
    let query = format!("?index={index}&wait=8s");
    let is_deleted = if index > 0 {
        let (is_deleted, waited) = tokio::join!(deleting, ask(beside, &mut holder, service, accessor, &query));
        if is_deleted && waited.is_some_and(|answer| answer.status == 403) {
            shared.mark(Mark::DeletedTokenAtAgent);
        }
        is_deleted
    } else {
        deleting.await
    };
    shared.note(&agent.host, Kind::Client, format!("token {accessor} of {service} is deleted: {is_deleted}"));
    let tries = TRIED_FOR.as_millis() / shared.scenario.think.as_millis().max(1) / 2;
    for _ in 0..tries.min(10) {
        if !is_deleted || !beside.goes_on().await {
            return;
        }
        drop(ask(beside, &mut holder, service, accessor, "").await);
    }
}

async fn ask(beside: &Beside, holder: &mut Client, service: &str, token: AccessorId, query: &str) -> Option<Answer> {
    let asking = leaves::Asking::begin(&beside.shared, &beside.agent);
    let answer = get(holder, &beside.agent, &format!("{}{query}", leaves::path(service))).await;
    let is_success = answer.as_ref().is_ok_and(Answer::is_success);
    beside.shared.count_operation("leaf of a brief token", is_success);
    let answer = answer.ok()?;
    if is_success {
        beside.tell_served(&format!("a leaf of {service}"), Some(token), asking.asked_at);
        asking.take(service, &answer);
    }
    Some(answer)
}
