//! Tokens of one datacenter: they are honoured there, also when the primary makes another one with their public id or their secret, and
//! nowhere else (Consul's CVE-2020-13170).

use rand::RngExt;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{ANSWER_WITHIN, Worker, ask_for_leaf};
use crate::{
    client::{Answer, Call, Client},
    invariants::seen::{Seen, Told},
    marks::Mark,
    trace::Kind,
    workloads::any_server,
    world::{PRIMARY, datacenter_name},
};

const SELF: &str = "/v1/acl/token/self?consistent";
const NAME: &str = "no_lost_write";

/// A client for each other datacenter.
pub(super) fn travellers(worker: &Worker) -> Vec<(usize, Client)> {
    let others = (0..worker.shared.scenario.datacenters()).filter(|other| *other != worker.datacenter);
    let client = |other| Some((other, Client::new(&worker.shared, &worker.shared.server_ca(other)?, None)));
    others.filter_map(client).collect()
}

/// What the primary makes that is like a local token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Like {
    Nothing,
    Id,
    Secret,
}

/// A local token is made, looked at, used, shown elsewhere, and deleted; sometimes the primary makes another one like it meanwhile.
pub(super) async fn story(worker: &mut Worker, holder: &mut Client, travellers: &mut [(usize, Client)], number: u32) {
    let service = format!("local-{}-{number}", worker.host);
    let (accessor, secret) = (uuid(worker), uuid(worker));
    worker.shared.saw(Seen::Told(Told::secret("a local token", &secret)));
    let like = match worker.random.random_range(0..3) {
        _ if worker.datacenter == PRIMARY => Like::Nothing,
        0 => Like::Nothing,
        1 => Like::Id,
        _ => Like::Secret,
    };
    let body = json!({
        "AccessorID": accessor, "SecretID": secret, "Local": true, "ServiceIdentities": [{"ServiceName": service}],
    });
    let is_made = put(worker, body).await;
    worker.shared.count_operation("create a local token", is_made);
    if !is_made {
        return;
    }
    let other = if like == Like::Nothing { None } else { make_like(worker, like, &accessor, &secret).await };
    sleep(worker.shared.scenario.think * worker.random.random_range(0..6)).await;
    holder.set_token(Some(secret.clone()));
    let host = worker.any_server();
    if let Some(shown) = read_self(holder, &host).await
        && shown.as_deref() != Some(accessor.as_str())
    {
        let text =
            format!("the local token {accessor} is there ({like:?} of the primary's), and {host} finds {shown:?}");
        worker.shared.violate(NAME, text);
    }
    ask_for_leaf(&worker.shared.clone(), worker.datacenter, holder, &host, &service).await;
    if like != Like::Secret {
        show_elsewhere(worker, travellers, &accessor, &secret).await;
    }
    delete(worker, &accessor, "").await;
    if let Some(other) = other {
        delete(worker, &other, &format!("?dc={}", datacenter_name(PRIMARY))).await;
    }
}

fn uuid(worker: &mut Worker) -> String {
    let mut bytes = [0; 16];
    worker.random.fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

async fn put(worker: &mut Worker, body: Value) -> bool {
    worker.client.set_token(worker.shared.operator_token());
    let host = worker.any_server();
    let call = Call { method: "PUT", path: "/v1/acl/token", body: Some(body), within: ANSWER_WITHIN };
    worker.client.call(&host, call).await.is_ok_and(|answer| answer.is_success())
}

/// The primary makes a token with the local one's public id, or with its secret; its own public id.
async fn make_like(worker: &mut Worker, like: Like, accessor: &str, secret: &str) -> Option<String> {
    let (own_accessor, own_secret) = match like {
        Like::Id => (accessor.to_owned(), uuid(worker)),
        Like::Secret | Like::Nothing => (uuid(worker), secret.to_owned()),
    };
    worker.shared.saw(Seen::Told(Told::secret("a token like a local one", &own_secret)));
    worker.client.set_token(worker.shared.operator_token());
    let body = json!({"AccessorID": own_accessor, "SecretID": own_secret, "Description": "like a local one"});
    let host = worker.any_server();
    let path = format!("/v1/acl/token?dc={}", datacenter_name(PRIMARY));
    let call = Call { method: "PUT", path: &path, body: Some(body), within: ANSWER_WITHIN };
    let answer = worker.client.call(&host, call).await;
    let is_made = answer.as_ref().is_ok_and(Answer::is_success);
    worker.shared.count_operation("create a token like a local one", is_made);
    // One of unknown outcome is deleted as well.
    Some(own_accessor).filter(|_| is_made || answer.map_or(true, |answer| answer.is_unknown()))
}

/// Whose the token is, as a server says: `None`, no answer; `Some(None)`: nobody's.
async fn read_self(holder: &mut Client, host: &str) -> Option<Option<String>> {
    let call = Call { method: "GET", path: SELF, body: None, within: ANSWER_WITHIN };
    let answer = holder.call(host, call).await.ok()?;
    match answer.status {
        200 => Some(answer.json()["AccessorID"].as_str().map(str::to_owned)),
        403 if answer.text().contains("ACL not found") => Some(None),
        _ => None,
    }
}

async fn show_elsewhere(worker: &mut Worker, travellers: &mut [(usize, Client)], accessor: &str, secret: &str) {
    for (other, client) in travellers {
        client.set_token(Some(secret.to_owned()));
        let host = any_server(&worker.shared, *other, &mut worker.random);
        match read_self(client, &host).await {
            Some(Some(_)) => {
                let text = format!("the local token {accessor} is honoured by {host}, in another datacenter");
                worker.shared.violate("secondary_is_honest", text);
            }
            Some(None) => worker.shared.mark(Mark::LocalTokenElsewhere),
            None => {}
        }
    }
}

async fn delete(worker: &mut Worker, accessor: &str, query: &str) {
    worker.client.set_token(worker.shared.operator_token());
    let (host, path) = (worker.any_server(), format!("/v1/acl/token/{accessor}{query}"));
    let call = Call { method: "DELETE", path: &path, body: None, within: ANSWER_WITHIN };
    let is_deleted = worker.client.call(&host, call).await.is_ok_and(|answer| answer.is_success());
    worker.shared.note(&worker.host, Kind::Client, format!("token {accessor}{query} is deleted: {is_deleted}"));
}
