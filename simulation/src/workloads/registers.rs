//! Registers: policies with one changing description. Clients set, compare-and-set, delete and read them, over HTTP and inside of
//! servers; the client oracle looks at every answer, and the whole history must be linearizable.

use std::sync::Arc;

use carrack_authority::{
    Command, Outcome as Decision, Rejection,
    acl::{Policy, PolicyId},
    id,
};
use carrack_raft::ProposeError;
use rand::RngExt;
use serde_json::json;
use tokio::time::{Duration, Instant, sleep};
use uuid::Uuid;

use super::{ANSWER_WITHIN, LOOK, Worker, any_server};
use crate::{
    client::{Answer as Http, Call, Lost},
    marks::Mark,
    oracle::history::{Action, Answer, Expected, Observed, Outcome, Revision, Value},
    trace::{Detail, Kind},
    world::{PRIMARY, datacenter_name},
};

/// Where the ids of registers begin.
const FIRST_ID: u128 = 0x5e61_57e5_0000_4000_8000_0000_0000_0000;
/// How long a proposal inside of a server may take.
const PROPOSE_WITHIN: Duration = Duration::from_secs(4);

pub(super) async fn run(mut worker: Worker) {
    worker.client.set_token(worker.shared.operator_token());
    let client: Arc<str> = worker.host.as_str().into();
    // The newest revision of each register that this client has seen.
    let mut seen = vec![None; worker.shared.scenario.registers];
    while worker.goes_on().await {
        let register = worker.random.random_range(0..seen.len());
        let action = draw(&mut worker, seen[register]);
        let key: Arc<str> = format!("register-{register}").into();
        let begun = worker.shared.book().begin(&worker.shared, &client, &key, action);
        let (how, outcome) = perform(&mut worker, register, action).await;
        if let Outcome::Ok(Answer::Done { revision: Some(revision) })
        | Outcome::Ok(Answer::Read(Some(Observed { revision: Some(revision), .. }))) = outcome
        {
            seen[register] = Some(revision);
        }
        match outcome {
            Outcome::Unknown => worker.shared.mark(Mark::OutcomeUnknown),
            Outcome::Ok(Answer::Conflict) => worker.shared.mark(Mark::CasLost),
            _ => {}
        }
        let detail = if matches!(outcome, Outcome::Ok(_)) { Detail::None } else { Detail::Failed };
        let text = format!("{action} of {key} {how}: {outcome}");
        worker.shared.note_detail(&worker.host, Kind::Client, detail, text);
        worker.shared.count_operation(name(action), matches!(outcome, Outcome::Ok(_)));
        worker.shared.book().finish(&worker.shared, &begun, outcome);
    }
    if worker.host == super::client_host(0) {
        read_all(&mut worker, &client, seen.len()).await;
        worker.shared.book().has_read_registers = true;
    }
}

/// Reads every register when the world is healed: what the last restarts and elections have lost shows here.
async fn read_all(worker: &mut Worker, client: &Arc<str>, registers: usize) {
    for register in 0..registers {
        let key: Arc<str> = format!("register-{register}").into();
        loop {
            let begun = worker.shared.book().begin(&worker.shared, client, &key, Action::Read);
            let (how, outcome) = perform(worker, register, Action::Read).await;
            worker.shared.note(&worker.host, Kind::Client, format!("last read of {key} {how}: {outcome}"));
            worker.shared.book().finish(&worker.shared, &begun, outcome);
            if matches!(outcome, Outcome::Ok(_)) {
                break;
            }
            sleep(LOOK).await;
        }
    }
}

fn name(action: Action) -> &'static str {
    match action {
        Action::Write(_) => "write register",
        Action::Read => "read register",
        Action::StaleRead => "read register stale",
        Action::CompareAndSet { .. } => "compare and set register",
        Action::Delete => "delete register",
    }
}

fn draw(worker: &mut Worker, seen: Option<Revision>) -> Action {
    let value = worker.shared.book().new_value();
    match worker.random.random_range(0..20) {
        0..4 => Action::Write(value),
        4..10 => Action::Read,
        10..12 => Action::StaleRead,
        12 => Action::Delete,
        13..15 => Action::CompareAndSet { expected: Expected::Absent, new: value },
        _ => Action::CompareAndSet { expected: seen.map_or(Expected::Absent, Expected::Revision), new: value },
    }
}

async fn perform(worker: &mut Worker, register: usize, action: Action) -> (String, Outcome) {
    let host = worker.any_server();
    let id = Uuid::from_u128(FIRST_ID + register as u128);
    // A register is the primary's, wherever it is asked for.
    let path = |query: &str| match worker.datacenter {
        PRIMARY => format!("/v1/acl/policy/{id}?{query}"),
        _ => format!("/v1/acl/policy/{id}?{query}&dc={}", datacenter_name(PRIMARY)),
    };
    let (read_path, stale_path, write_path) = (path("consistent"), path("stale"), path(""));
    let outcome = match action {
        Action::Read => read(worker, &host, &read_path).await,
        Action::StaleRead => read(worker, &host, &stale_path).await,
        Action::Write(value) => {
            let body = json!({"Name": format!("register-{register}"), "Description": value.0.to_string()});
            written(&ask(worker, &host, "PUT", &write_path, Some(body)).await)
        }
        Action::Delete => written(&ask(worker, &host, "DELETE", &write_path, None).await),
        Action::CompareAndSet { expected, new } => {
            // Inside of a server there is no way to another datacenter.
            let host = any_server(&worker.shared, PRIMARY, &mut worker.random);
            compare_and_set(worker, &host, register, id, expected, new).await
        }
    };
    (format!("on {host}"), outcome)
}

async fn ask(
    worker: &mut Worker,
    host: &str,
    method: &str,
    path: &str,
    body: Option<serde_json::Value>,
) -> Result<Http, Lost> {
    worker.client.call(host, Call { method, path, body, within: ANSWER_WITHIN }).await
}

async fn read(worker: &mut Worker, host: &str, path: &str) -> Outcome {
    // A server that finds no leader says so after some seconds; some readers wait for that.
    let within = if worker.random.random_ratio(1, 3) { ANSWER_WITHIN * 2 } else { ANSWER_WITHIN };
    let answered = worker.client.call(host, Call { method: "GET", path, body: None, within }).await;
    let Ok(answer) = answered else { return Outcome::Refused };
    match answer.status {
        200 => {
            let json = answer.json();
            let value = json["Description"].as_str().and_then(|text| text.parse().ok()).map(Value);
            let revision = json["ModifyIndex"].as_u64().map(Revision);
            let Some(value) = value else {
                let text = format!("{host} answers {path} with what nobody wrote: {}", answer.text());
                worker.shared.violate("no_phantom", text);
                return Outcome::Unknown;
            };
            Outcome::Ok(Answer::Read(Some(Observed { value, revision })))
        }
        404 => Outcome::Ok(Answer::Read(None)),
        503 | 500 => {
            worker.shared.mark(Mark::ReadRefused);
            Outcome::Refused
        }
        _ => Outcome::Refused,
    }
}

/// What came of a write over HTTP. An answer below 500 says that nothing was done.
fn written(answer: &Result<Http, Lost>) -> Outcome {
    match answer {
        Ok(answer) if answer.is_success() => {
            let revision = answer.json()["ModifyIndex"].as_u64().map(Revision);
            Outcome::Ok(Answer::Done { revision })
        }
        Ok(answer) if answer.status < 500 || answer.text().contains("No cluster leader") => Outcome::Refused,
        Err(Lost::NotSent(_)) => Outcome::Refused,
        Ok(_) | Err(Lost::NoAnswer(_)) => Outcome::Unknown,
    }
}

async fn compare_and_set(
    worker: &mut Worker,
    host: &str,
    register: usize,
    id: Uuid,
    expected: Expected,
    new: Value,
) -> Outcome {
    let revision = match expected {
        Expected::Revision(revision) => id::Revision(revision.0),
        Expected::Absent | Expected::Value(_) => id::Revision::default(),
    };
    let policy = Policy {
        id: PolicyId(id),
        name: format!("register-{register}"),
        description: new.0.to_string(),
        source: String::new(),
        rules: Arc::from([]),
        datacenters: Vec::new(),
        created: id::Revision::default(),
        modified: id::Revision::default(),
    };
    let command = Command::PutPolicy { expected: revision, policy };
    let server = worker.shared.servers[host].clone();
    let proposed = server.execute(move |context| {
        Box::pin(async move { context.replica.propose(command, Instant::now() + PROPOSE_WITHIN).await })
    });
    match proposed.await {
        None => Outcome::Unknown,
        Some(Err(ProposeError::OutcomeUnknown)) => Outcome::Unknown,
        Some(Err(_)) => Outcome::Refused,
        Some(Ok(proposed)) => match proposed.outcome {
            Decision::Rejected(
                Rejection::Conflict { .. } | Rejection::AlreadyExists { .. } | Rejection::NotFound { .. },
            ) => Outcome::Ok(Answer::Conflict),
            Decision::Rejected(_) => Outcome::Refused,
            _ => Outcome::Ok(Answer::Done { revision: Some(Revision(proposed.index)) }),
        },
    }
}
