//! The bundle, as an agent has it: its index never goes back while its process lives, whichever server it follows.

use carrack_authority::{id::Revision, x509::pem};
use rand::RngExt;

use super::Beside;
use crate::workloads::prober::Bundle;

const ROOTS: &str = "/v1/agent/connect/ca/roots";

pub(super) async fn run(mut beside: Beside) {
    let mut newest = 0;
    while beside.goes_on().await {
        let asked_at = beside.shared.clock.micros();
        if beside.random.random_ratio(1, 4) {
            fetch_bundle(&mut beside).await;
            continue;
        }
        let path = match beside.random.random_ratio(1, 2) {
            true => ROOTS.to_owned(),
            false => format!("{ROOTS}?index={newest}&wait=2s"),
        };
        let answer = beside.ask(&path).await;
        beside.note("roots of an agent", "roots", asked_at, &answer);
        let Some(answer) = answer.ok().filter(|answer| answer.is_success()) else { continue };
        let index = answer.index.unwrap_or(0);
        if index < newest {
            let text = format!("the agent {} answered index {index} for the roots after {newest}", beside.agent.host);
            beside.shared.violate("watch_monotone", text);
        }
        newest = index;
    }
}

/// Takes the bundle by which the workloads of this host verify others.
async fn fetch_bundle(beside: &mut Beside) {
    let (asked_at, fetched_at) = (beside.shared.clock.micros(), beside.shared.clock.now());
    let answer = beside.ask(&format!("{ROOTS}?pem=true")).await;
    beside.note("roots of an agent", "bundle", asked_at, &answer);
    let Some(answer) = answer.ok().filter(|answer| answer.is_success()) else { return };
    match pem::decode_certificates(&String::from_utf8_lossy(&answer.body)) {
        Ok(roots) if !roots.is_empty() => {
            let (datacenter, revision) = (beside.agent.datacenter, Revision(answer.index.unwrap_or(u64::MAX)));
            let bundle = Bundle { roots: roots.into(), fetched_at, datacenter, revision };
            beside.shared.book().bundles.insert(beside.agent.host.clone(), bundle);
        }
        _ => {
            let text = format!("the bundle of {} cannot be read: {}", beside.agent.host, answer.text());
            beside.shared.violate("no_failed_handshake", text);
        }
    }
}
