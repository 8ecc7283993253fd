//! Intentions and revocations are written, and watched. Each pair of services has one writer: what a consistent read finds is what it
//! has written last, or something whose outcome it does not know (`no_lost_write`).

use std::collections::{BTreeMap, BTreeSet};

use carrack_authority::time::Timestamp;
use rand::{RngExt, seq::IndexedRandom};
use serde_json::json;

use super::{ANSWER_WITHIN, Worker};
use crate::{
    client::{Answer, Call, Lost},
    invariants::seen::{Seen, Told},
    trace::{Detail, Kind},
    world::{PRIMARY, datacenter_name},
};

/// Source and destination.
type Pair = (String, String);

/// The pairs that questions are about most.
const WRITTEN_PAIRS_MAX: usize = 8;
/// The leaves that one client revokes: the others are to be used.
const REVOKED_MAX: usize = 3;
const ANY: &str = "*";

pub(super) async fn write(mut worker: Worker) {
    let own = own_pairs(&worker);
    let mut writer = Writer::default();
    worker.client.set_token(worker.shared.operator_token());
    while worker.goes_on().await {
        match worker.random.random_range(0..20) {
            0 => revoke(&mut worker, &mut writer).await,
            1..=3 => writer.read(&mut worker, &own).await,
            _ => writer.flip(&mut worker, &own).await,
        }
    }
}

/// The pairs that this client alone writes. Those with `*` are few: they are about everybody.
fn own_pairs(worker: &Worker) -> Vec<Pair> {
    let clients = worker.shared.scenario.clients;
    let own = (0..clients).find(|number| super::client_host(*number) == worker.host).unwrap_or(0);
    let services: Vec<String> = worker.shared.book().service_tokens.keys().cloned().collect();
    let named = services.iter().flat_map(|from| services.iter().map(move |to| (from.clone(), to.clone())));
    let mut pairs: Vec<Pair> = named.collect();
    pairs.extend(services.first().map(|service| (ANY.to_owned(), service.clone())));
    pairs.extend(services.last().map(|service| (service.clone(), ANY.to_owned())));
    pairs.push((ANY.into(), ANY.into()));
    let own = pairs.into_iter().enumerate().filter(|(number, _)| number % clients == own);
    own.map(|(_, pair)| pair).collect()
}

/// What a pair may have now: the descriptions of rows; none: no row.
#[derive(Default)]
struct Possible(BTreeSet<Option<String>>);

#[derive(Default)]
struct Writer {
    number: u64,
    possible: BTreeMap<Pair, Possible>,
    revoked: usize,
}

impl Writer {
    /// Allows, denies, or takes the intention away.
    async fn flip(&mut self, worker: &mut Worker, own: &[Pair]) {
        let Some(pair) = own.choose(&mut worker.random).cloned() else { return };
        self.number += 1;
        let (host, description) = (worker.any_server(), format!("flip {} of {}", self.number, worker.host));
        let path = path(&pair);
        let action = ["allow", "deny", ""][worker.random.random_range(0..3)];
        let (method, body) = match action {
            "" => ("DELETE", None),
            action => ("PUT", Some(json!({"Action": action, "Description": description}))),
        };
        let call = Call { method, path: &path, body, within: ANSWER_WITHIN };
        let answer = worker.client.call(&host, call).await;
        let written = (!action.is_empty()).then_some(description);
        let is_done = answer.as_ref().is_ok_and(Answer::is_success);
        worker.shared.count_operation("write an intention", is_done);
        let what = format!("{} to {}: {}", pair.0, pair.1, if action.is_empty() { "deleted" } else { action });
        note(worker, &what, &answer);
        let possible = self.possible.entry(pair.clone()).or_insert_with(|| Possible(BTreeSet::from([None])));
        match &answer {
            Ok(answer) if answer.is_success() => {
                possible.set(written);
                let mut book = worker.shared.book();
                if pair.0 != ANY && pair.1 != ANY {
                    book.written_pairs.push_back(pair);
                }
                if book.written_pairs.len() > WRITTEN_PAIRS_MAX {
                    book.written_pairs.pop_front();
                }
            }
            Ok(answer) if answer.status < 500 && answer.status != 409 => {}
            Err(Lost::NotSent(_)) => {}
            Ok(_) | Err(Lost::NoAnswer(_)) => possible.may_become(written),
        }
    }

    /// Reads one of the pairs where it is written.
    async fn read(&mut self, worker: &mut Worker, own: &[Pair]) {
        let Some(pair) = own.choose(&mut worker.random).cloned() else { return };
        let host = worker.any_server();
        let path = format!("{}&consistent&dc={}", path(&pair), datacenter_name(PRIMARY));
        let call = Call { method: "GET", path: &path, body: None, within: ANSWER_WITHIN };
        let Ok(answer) = worker.client.call(&host, call).await else { return };
        worker.shared.count_operation("read an intention", answer.is_success() || answer.status == 404);
        let found = match answer.status {
            200 => answer.json()["Description"].as_str().map(str::to_owned),
            404 if answer.text().contains("Intention not found") => None,
            _ => return,
        };
        let possible = self.possible.entry(pair.clone()).or_insert_with(|| Possible(BTreeSet::from([None])));
        if !possible.0.contains(&found) {
            let text = format!(
                "the intention of {} to {} is {found:?} by a consistent read on {host}, it may be one of {:?}",
                pair.0, pair.1, possible.0
            );
            worker.shared.violate("no_lost_write", text);
        }
    }
}

impl Possible {
    /// It was written for certain. What is unknown may still come.
    fn set(&mut self, row: Option<String>) {
        let certain = self.0.len() == 1;
        if certain {
            self.0.clear();
        }
        self.0.insert(row);
    }

    fn may_become(&mut self, row: Option<String>) {
        self.0.insert(row);
    }
}

fn path((source, destination): &Pair) -> String {
    format!("/v1/connect/intentions/exact?source={source}&destination={destination}")
}

/// Revokes a leaf that somebody holds, in the primary.
async fn revoke(worker: &mut Worker, writer: &mut Writer) {
    if writer.revoked >= REVOKED_MAX {
        return;
    }
    let held: Vec<_> = worker.shared.book().newest.values().copied().collect();
    let Some(serial) = held.choose(&mut worker.random).copied() else { return };
    let ends = worker.shared.book().leaves.get(&serial).map(|leaf| leaf.not_after);
    let Some(ends) = ends else { return };
    let (host, ends): (String, Timestamp) = (worker.any_server(), ends);
    let body = json!({"SerialNumber": serial.to_string(), "NotAfter": ends.to_string(), "Reason": "a test"});
    let path = "/v1/carrack/revocation";
    let call = Call { method: "PUT", path, body: Some(body), within: ANSWER_WITHIN };
    let answer = worker.client.call(&host, call).await;
    let is_done = answer.as_ref().is_ok_and(Answer::is_success);
    worker.shared.count_operation("revoke a leaf", is_done);
    note(worker, &format!("the leaf {serial} is revoked"), &answer);
    writer.revoked += usize::from(is_done);
}

fn note(worker: &Worker, what: &str, answer: &Result<Answer, Lost>) {
    let (detail, text) = match answer {
        Ok(answer) if answer.is_success() => (Detail::None, "done".into()),
        Ok(answer) => (Detail::Failed, format!("{} {}", answer.status, answer.text())),
        Err(lost) => (Detail::Failed, lost.to_string()),
    };
    worker.shared.note_detail(&worker.host, Kind::Client, detail, format!("{what}: {text}"));
}

/// A watcher of a destination on one server after the other: its index never goes back, and it is woken by its own destination alone.
pub(super) async fn watch(mut worker: Worker) {
    worker.client.set_token(worker.shared.operator_token());
    let services: Vec<String> = worker.shared.book().service_tokens.keys().cloned().collect();
    let mut newest: BTreeMap<(String, u32, String), u64> = BTreeMap::new();
    while worker.goes_on().await {
        let Some(destination) = services.choose(&mut worker.random).cloned() else { return };
        let host = worker.any_server();
        for _ in 0..worker.random.random_range(2..6) {
            let starts = worker.shared.servers[&host].starts();
            let known = newest.entry((host.clone(), starts, destination.clone())).or_default();
            let after = *known;
            let path =
                format!("/v1/connect/intentions/match?by=destination&name={destination}&index={after}&wait=2s&stale");
            let call = Call { method: "GET", path: &path, body: None, within: ANSWER_WITHIN };
            let answer = worker.client.call(&host, call).await;
            let is_success = answer.as_ref().is_ok_and(Answer::is_success);
            worker.shared.count_operation("watch intentions", is_success);
            let Some(answer) = answer.ok().filter(|_| is_success) else { break };
            let index = answer.index.unwrap_or(0);
            if starts != worker.shared.servers[&host].starts() {
                break;
            }
            if index < after {
                let text = format!("{host} answered index {index} for the intentions of {destination} after {after}");
                worker.shared.violate("watch_monotone", text);
            }
            *known = index;
            let (datacenter, host, destination) = (worker.datacenter, host.clone(), destination.clone());
            worker.shared.saw(Seen::Told(Told::Woken { datacenter, host, destination, after, index }));
        }
    }
}
