//! Tokens that are made, used and deleted: a deleted one entitles to nothing from the moment that its deletion was answered.

mod local;

use std::time::Duration;

use carrack_authority::x509::pem;
use rand::RngExt;
use serde_json::json;
use tokio::time::sleep;

use super::{ANSWER_WITHIN, Worker, issue::Asked};
use crate::{
    client::{Answer, Call, Client},
    invariants::seen::{Seen, Told},
    trace::Kind,
    world::{PRIMARY, shared::Shared},
};

pub(super) async fn run(mut worker: Worker) {
    let mut number = 0;
    let server_ca = worker.shared.server_ca(worker.datacenter).expect("a formed datacenter has told its server CA");
    let mut holder = Client::new(&worker.shared, &server_ca, None);
    let mut travellers = local::travellers(&worker);
    while worker.goes_on().await {
        number += 1;
        if worker.random.random_ratio(1, 4) && !travellers.is_empty() {
            local::story(&mut worker, &mut holder, &mut travellers, number).await;
            continue;
        }
        let service = format!("brief-{}-{number}", worker.host);
        if let Some((accessor, secret)) = make(&mut worker, &service).await {
            use_and_delete(&mut worker, &mut holder, &service, &accessor, &secret).await;
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

/// Reads with the token on some server, deletes it, and reads again where the deletion was answered. Sometimes its holder asks for
/// a leaf at the same time: that is recorded before the deletion, or never.
async fn use_and_delete(worker: &mut Worker, holder: &mut Client, service: &str, accessor: &str, secret: &str) {
    let host = worker.any_server();
    holder.set_token(Some(secret.to_owned()));
    let own = |within: Duration| Call { method: "GET", path: "/v1/acl/token/self?consistent", body: None, within };
    let before = holder.call(&host, own(ANSWER_WITHIN)).await;
    // A secondary hears of a token when it does: its answer to the write waits for that, but not for ever.
    let is_primary = worker.datacenter == PRIMARY;
    if let Ok(answer) = &before
        && answer.status == 403
        && is_primary
    {
        worker.shared.violate(
            "no_lost_write",
            format!("token {accessor} was made, and a consistent read on {host} does not know it"),
        );
    }
    worker.client.set_token(worker.shared.operator_token());
    let path = format!("/v1/acl/token/{accessor}");
    let delete = Call { method: "DELETE", path: &path, body: None, within: ANSWER_WITHIN };
    let deleted = if worker.random.random_ratio(1, 3) {
        let (shared, delay) = (worker.shared.clone(), worker.shared.scenario.latency_max);
        let datacenter = worker.datacenter;
        let delay = delay.mul_f64(worker.random.random_range(0.0..3.0));
        let deleter = worker.any_server();
        let deleting = async {
            sleep(delay).await;
            worker.client.call(&deleter, delete).await
        };
        tokio::join!(deleting, ask_for_leaf(&shared, datacenter, holder, &host, service)).0
    } else {
        worker.client.call(&host, delete).await
    };
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
        && is_primary
    {
        let text = format!("token {accessor} was deleted, and a consistent read on {host} with it succeeds");
        worker.shared.violate("no_issue_after_delete", text);
    }
}

/// Asks for a leaf with a token that is being deleted.
async fn ask_for_leaf(shared: &Shared, datacenter: usize, holder: &mut Client, host: &str, service: &str) {
    let asked = Asked::one_of_a_herd(shared, datacenter, service, 0);
    let body = json!({"Csr": pem::encode(pem::CERTIFICATE_REQUEST, &asked.csr()), "Slot": service});
    let call = Call { method: "PUT", path: "/v1/carrack/sign", body: Some(body), within: ANSWER_WITHIN };
    let answer = holder.call(host, call).await.ok().filter(Answer::is_success);
    shared.count_operation("issue while the token is deleted", answer.is_some());
    if let Some(answer) = answer.filter(|_| !asked.is_overslept(shared)) {
        drop(asked.receive(shared, host, &answer));
    }
}
