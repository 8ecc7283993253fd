//! Blocking queries: a watcher follows the roots and the issuance log, and never sees an index go backwards on one server.

use std::collections::BTreeMap;

use rand::RngExt;

use super::{ANSWER_WITHIN, Worker};
use crate::{client::Call, trace::Kind, world::shared::Shared};

pub(super) async fn run(mut worker: Worker) {
    worker.client.set_token(worker.shared.operator_token());
    let mut seen = Seen::default();
    let mut after = 0;
    while worker.goes_on().await {
        let host = worker.any_server();
        if worker.random.random_ratio(1, 2) {
            follow_roots(&mut worker, &host, &mut seen).await;
        } else {
            after = follow_issuances(&mut worker, &host, after).await;
        }
    }
}

/// The newest index of each server, and the newest of a consistent read of any.
#[derive(Default)]
struct Seen {
    by_host: BTreeMap<(String, u32), u64>,
    consistent: u64,
}

impl Seen {
    fn check(&mut self, shared: &Shared, host: &str, index: u64, is_consistent: bool) {
        let starts = shared.servers[host].starts();
        let newest = self.by_host.entry((host.to_owned(), starts)).or_default();
        if index < *newest {
            shared.violate("watch_monotone", format!("{host} answered index {index} for the roots after {newest}"));
        }
        *newest = index.max(*newest);
        if is_consistent {
            if index < self.consistent {
                let text =
                    format!("a consistent read on {host} has index {index} for the roots after {}", self.consistent);
                shared.violate("watch_monotone", text);
            }
            self.consistent = index.max(self.consistent);
        }
    }
}

async fn follow_roots(worker: &mut Worker, host: &str, seen: &mut Seen) {
    let starts = worker.shared.servers[host].starts();
    let newest = seen.by_host.get(&(host.to_owned(), starts)).copied().unwrap_or(0);
    let mode = ["", "&consistent", "&stale"][worker.random.random_range(0..3)];
    let is_consistent = mode == "&consistent";
    // A watcher that blocks does so with the index of this server; a consistent read asks at once.
    let path = match is_consistent {
        true => "/v1/connect/ca/roots?consistent".to_owned(),
        false => format!("/v1/connect/ca/roots?index={newest}&wait=2s{mode}"),
    };
    let answer = worker.client.call(host, Call { method: "GET", path: &path, body: None, within: ANSWER_WITHIN }).await;
    let is_success = answer.as_ref().is_ok_and(|answer| answer.is_success());
    worker.shared.count_operation("watch roots", is_success);
    let Ok(answer) = answer else { return };
    if answer.is_success() && starts == worker.shared.servers[host].starts() {
        seen.check(&worker.shared, host, answer.index.unwrap_or(0), is_consistent);
    }
}

/// Reads the next page of the issuance log: sequences only ever grow.
async fn follow_issuances(worker: &mut Worker, host: &str, after: u64) -> u64 {
    let path = format!("/v1/carrack/issuance?after={after}&limit=50&stale");
    let answer = worker.client.call(host, Call { method: "GET", path: &path, body: None, within: ANSWER_WITHIN }).await;
    let is_success = answer.as_ref().is_ok_and(|answer| answer.is_success());
    worker.shared.count_operation("read issuances", is_success);
    let Some(answer) = answer.ok().filter(|answer| answer.is_success()) else { return after };
    let mut expected = after;
    for record in answer.json()["Records"].as_array().cloned().unwrap_or_default() {
        let sequence = record["Sequence"].as_u64().unwrap_or(0);
        // What has expired is pruned, and a leaf of a shorter life before an older one: there may be gaps, but no way back.
        if sequence <= expected {
            let text = format!("a page of {host} has sequence {sequence} after {expected}");
            worker.shared.violate("log_is_complete", text);
        }
        expected = sequence;
    }
    worker.shared.note(&worker.host, Kind::Client, format!("read issuances of {host} up to {expected}"));
    expected.max(after)
}
