//! What the operator proves of a datacenter: that it reads and writes when it is healed, and that a secondary issues without the
//! primary, or says why it cannot.

use std::sync::Arc;

use carrack_authority::{State, federation::Table, issuer::IssuerPhase, time::Timestamp, x509::pem};
use serde_json::json;
use tokio::time::sleep;

use super::put;
use crate::{
    client::{Answer, Call, Client},
    marks::Mark,
    random::Stream,
    trace::Kind,
    workloads::{ANSWER_WITHIN, LOOK, OPERATOR, any_server, issue::Asked},
    world::{
        PRIMARY, datacenter_name,
        shared::{Shared, Stage},
    },
};

/// Proves what there is to prove of a datacenter as soon as its time has come.
pub(super) async fn prove(shared: Arc<Shared>, datacenter: usize) {
    let server_ca = shared.server_ca(datacenter).expect("a formed datacenter has told its server CA");
    let (random, client) =
        (shared.seed.stream(&format!("life of {datacenter}")), Client::new(&shared, &server_ca, None));
    let mut prover = Prover { shared, datacenter, client, random };
    while prover.shared.stage() == Stage::Living {
        sleep(LOOK).await;
    }
    if datacenter != PRIMARY && prover.shared.stage() == Stage::Alone {
        prover.stand_alone().await;
    }
    while prover.shared.stage() == Stage::Alone {
        sleep(LOOK).await;
    }
    prover.read_and_write().await;
}

struct Prover {
    shared: Arc<Shared>,
    datacenter: usize,
    client: Client,
    random: Stream,
}

impl Prover {
    /// Asks for a leaf until it is issued, or refused for a reason that there is.
    async fn stand_alone(&mut self) {
        let (service, secret) = self
            .shared
            .book()
            .service_tokens
            .first_key_value()
            .map(|(name, secret)| (name.clone(), secret.clone()))
            .expect("a formed world has services");
        self.client.set_token(Some(secret));
        let mut number = 0;
        loop {
            number += 1;
            let host = any_server(&self.shared, self.datacenter, &mut self.random);
            let asked = Asked::one_of_a_herd(&self.shared, self.datacenter, &service, number);
            let body = json!({"Csr": pem::encode(pem::CERTIFICATE_REQUEST, &asked.csr()), "Slot": "alone"});
            let answer = self.client.call(&host, put("/v1/carrack/sign", Some(body))).await;
            let text = match answer {
                Ok(answer) if answer.is_success() => {
                    drop(asked.receive(&self.shared, OPERATOR, &answer));
                    self.shared.mark(Mark::IssuedWithoutPrimary);
                    "it issues".to_owned()
                }
                Ok(answer) if self.is_refused_for(&host, &answer) => format!("{} {}", answer.status, answer.text()),
                Ok(_) | Err(_) => {
                    sleep(LOOK).await;
                    continue;
                }
            };
            let name = datacenter_name(self.datacenter);
            self.shared.note(OPERATOR, Kind::State, format!("{name} is alone, and {host} says: {text}"));
            self.shared.book().stood_alone.insert(self.datacenter);
            return;
        }
    }

    /// Whether a refusal has a reason that there is: the server has no issuer that lives, or has not heard the primary for too long, or
    /// issuing is halted, or may be.
    fn is_refused_for(&self, host: &str, answer: &Answer) -> bool {
        let Some(context) = self.shared.servers[host].context() else { return false };
        let state = context.replica.state().state.clone();
        let node = context.identity.node;
        let is_live = |state: &State| {
            state.issuers().any(|issuer| {
                issuer.node == node
                    && issuer.phase == IssuerPhase::Live
                    && issuer.not_after > context.replica.log_time()
            })
        };
        if answer.status == 503 && self.is_halt_unknown(&state, context.replica.log_time(), answer) {
            self.shared.mark(Mark::HaltUnknown);
            return true;
        }
        let names_primary = answer.text().contains(&datacenter_name(PRIMARY));
        if answer.status == 503 && names_primary && !is_live(&state) {
            self.shared.mark(Mark::RefusedWithoutPrimary);
            return true;
        }
        if answer.status == 503 && state.is_halted() && answer.text().contains("halted") {
            return true;
        }
        let Some(most) = self.shared.scenario.federation.token_staleness_max else { return false };
        let is_silent = state.progress(Table::Tokens).heard_at.plus(most) < context.replica.log_time();
        answer.status == 403 && is_silent && answer.text().contains("acl.token_staleness_max")
    }

    /// Whether it is refused because the primary, which may have halted issuing, was not heard for too long.
    fn is_halt_unknown(&self, state: &State, now: Timestamp, answer: &Answer) -> bool {
        let Some(most) = self.shared.scenario.federation.halt_staleness_max else { return false };
        let is_silent = state.progress(Table::Ca).heard_at.plus(most) < now;
        is_silent && answer.text().contains("was not heard for longer than ca.halt_staleness_max")
    }

    /// Writes a policy and reads it again until that succeeds.
    async fn read_and_write(&mut self) {
        self.client.set_token(self.shared.operator_token());
        let mut number = 0;
        loop {
            number += 1;
            let name = format!("life-{}-{number}", datacenter_name(self.datacenter));
            let host = any_server(&self.shared, self.datacenter, &mut self.random);
            let body = json!({"Name": name, "Rules": ""});
            let written = self.client.call(&host, put("/v1/acl/policy", Some(body))).await;
            if written.is_ok_and(|answer| answer.is_success()) {
                let path = format!("/v1/acl/policy/name/{name}?consistent");
                let call = Call { method: "GET", path: &path, body: None, within: ANSWER_WITHIN };
                let read = self.client.call(&host, call).await;
                if read.is_ok_and(|answer| answer.json()["Name"] == name.as_str()) {
                    let text = format!("{} reads and writes", datacenter_name(self.datacenter));
                    self.shared.note(OPERATOR, Kind::State, text);
                    self.shared.book().has_proved_life.insert(self.datacenter);
                    return;
                }
            }
            sleep(LOOK).await;
        }
    }
}
