//! A second writer of the CA configuration, beside the operator: each has keys of its own, and both write the whole by compare-and-set. It
//! takes its time between reading and writing. What it reads is what each of them wrote last: a writer that replaced the whole
//! without having read that has lost it.

use rand::RngExt;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{ANSWER_WITHIN, Worker, client_host};
use crate::{
    client::{Answer, Call},
    marks::Mark,
    trace::Kind,
    world::{PRIMARY, datacenter_name},
};

/// The key that this workload changes: higher than what the simulator's clients reach.
const KEY: &str = "CSRMaxConcurrent";
const NAME: &str = "no_lost_write";

/// What this workload has written, as far as it knows.
#[derive(Default)]
struct Written {
    /// What it has read last or written since.
    last: Option<u64>,
    /// Writes of unknown outcome: the index that each is compared with, and its value.
    pending: Vec<(u64, u64)>,
}

pub(super) async fn run(mut worker: Worker) {
    if worker.host != client_host(0) {
        return;
    }
    // Every datacenter has the primary's: with its name both reads and writes are answered there.
    let path = format!("/v1/connect/ca/configuration?dc={}", datacenter_name(PRIMARY));
    let mut written = Written::default();
    while worker.goes_on().await {
        let before = worker.shared.book().configured.clone();
        let Some(mut configuration) = read(&mut worker, &path).await else { continue };
        let after = worker.shared.book().configured.clone();
        if before.changes == after.changes {
            for (key, value) in after.known() {
                if configuration["Config"][key] != *value {
                    let text = format!("the operator set {key} to {value}, and it is {}", configuration["Config"][key]);
                    worker.shared.violate(NAME, text);
                }
            }
        }
        let index = configuration["ModifyIndex"].as_u64().unwrap_or_default();
        let found = configuration["Config"][KEY].as_u64().unwrap_or_default();
        if let Err(text) = written.check(index, found) {
            worker.shared.violate(NAME, text);
        }
        sleep(worker.shared.scenario.think * worker.random.random_range(0..4)).await;
        let wanted = 1000 + worker.random.random_range(0..100_u64);
        configuration["Config"][KEY] = json!(wanted);
        let host = worker.any_server();
        let call = Call { method: "PUT", path: &path, body: Some(configuration), within: ANSWER_WITHIN };
        let answered = worker.client.call(&host, call).await;
        worker.shared.count_operation("configure", answered.as_ref().is_ok_and(Answer::is_success));
        match answered {
            Ok(answer) if answer.is_success() => written = Written { last: Some(wanted), pending: Vec::new() },
            Ok(answer) if answer.status == 409 => worker.shared.mark(Mark::ConfigurationContended),
            _ => written.pending.push((index, wanted)),
        }
        worker.shared.note(&worker.host, Kind::Client, format!("{KEY} was {found}, and {wanted} was written"));
    }
}

impl Written {
    /// Compares what was read with what was written, and forgets the writes that cannot come any more.
    fn check(&mut self, index: u64, found: u64) -> Result<(), String> {
        let is_pending = self.pending.iter().any(|(_, value)| *value == found);
        let result = match self.last {
            Some(last) if last != found && !is_pending => {
                Err(format!("{KEY} was set to {last} by its only writer, and is {found} at {index}"))
            }
            _ => Ok(()),
        };
        // One that is compared with an older index bounces.
        self.pending.retain(|(expected, _)| *expected == index);
        self.last = Some(found);
        result
    }
}

async fn read(worker: &mut Worker, path: &str) -> Option<Value> {
    let host = worker.any_server();
    let call = Call { method: "GET", path, body: None, within: ANSWER_WITHIN };
    let answer = worker.client.call(&host, call).await.ok()?;
    answer.is_success().then(|| answer.json())
}
