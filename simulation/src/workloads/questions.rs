//! Whether a connection may be, asked of servers and agents. What intentions decide is judged by `deny_takes_effect`; what must never be
//! allowed whatever they say (`default_deny`) is judged here.

use std::collections::BTreeMap;

use carrack_authority::{id::Serial, key::Der, time::Timestamp, x509::pem};
use rand::{RngExt, seq::IndexedRandom};
use serde_json::{Value, json};

use super::{ANSWER_WITHIN, Worker, agent::Beside, issue::identity_of};
use crate::{
    client::{Answer, Call, Lost},
    invariants::seen::{Question, Seen, Told},
    marks::Mark,
    random::Stream,
    trace::{Detail, Kind},
    world::{datacenter_name, shared::Shared},
};

/// The invariant that is judged here.
const NAME: &str = "default_deny";
const PATH: &str = "/v1/agent/connect/authorize";
/// How many of a hundred questions must never be answered with yes.
const BAD_IN_100: u32 = 15;
/// A leaf that has ended this long ago has ended by every clock that is nearly right.
const ENDED_FOR: std::time::Duration = std::time::Duration::from_secs(7200);

/// A client asks servers.
pub(super) async fn of_server(mut worker: Worker) {
    while worker.goes_on().await {
        let asked = Asked::draw(&worker.shared, worker.datacenter, &mut worker.random);
        let host = worker.any_server();
        worker.client.set_token(Some(asked.secret.clone()));
        let asked_at = worker.shared.clock.micros();
        let call = Call { method: "POST", path: PATH, body: Some(asked.body.clone()), within: ANSWER_WITHIN };
        let answer = worker.client.call(&host, call).await;
        asked.judge(&worker.shared, worker.datacenter, &host, asked_at, &answer);
    }
}

/// A workload asks its agent.
pub(super) async fn of_agent(mut beside: Beside) {
    let mut allowed: BTreeMap<Question, bool> = BTreeMap::new();
    while beside.goes_on_eagerly().await {
        let (shared, agent) = (beside.shared.clone(), beside.agent.clone());
        let asked = Asked::draw(&shared, agent.datacenter, &mut beside.random);
        beside.client.set_token(Some(asked.secret.clone()));
        let asked_at = shared.clock.micros();
        let call = Call { method: "POST", path: PATH, body: Some(asked.body.clone()), within: ANSWER_WITHIN };
        let answer = beside.client.call(&agent.host, call).await;
        if answer.as_ref().is_ok_and(Answer::is_success) {
            beside.tell_served("a decision", None, asked_at);
        }
        let Some(is_allowed) = asked.judge(&shared, agent.datacenter, &agent.host, asked_at, &answer) else { continue };
        let Some(question) = asked.question else { continue };
        let was_revoked = answer.is_ok_and(|answer| answer.text().contains("is revoked"));
        if was_revoked {
            shared.mark(Mark::RevokedAtAgent);
        }
        if allowed.insert(question, is_allowed) == Some(true) && !is_allowed && !was_revoked {
            shared.mark(Mark::DenyReachedAgent);
        }
    }
}

/// A question on its way.
pub(super) struct Asked {
    /// What is asked, in words.
    what: String,
    secret: String,
    body: Value,
    /// What intentions decide; none: it must never be allowed.
    question: Option<Question>,
}

impl Asked {
    fn draw(shared: &Shared, datacenter: usize, random: &mut Stream) -> Self {
        let services: Vec<(String, String)> = shared.book().service_tokens.clone().into_iter().collect();
        let (mut source, (mut destination, mut secret)) =
            (services.choose(random), services.choose(random).expect("a formed world has services").clone());
        // What was written last is asked for most.
        let written: Vec<(String, String)> = shared.book().written_pairs.iter().cloned().collect();
        if let Some((from, to)) = written.choose(random).filter(|_| random.random_ratio(1, 2)) {
            let find = |name: &String| services.iter().find(|(service, _)| service == name);
            (source, (destination, secret)) =
                (find(from).or(source), find(to).cloned().unwrap_or((destination, secret)));
        }
        let source = source.expect("a formed world has services").0.clone();
        if random.random_ratio(BAD_IN_100, 100) {
            return Self::bad(shared, datacenter, random, &source, &destination, secret);
        }
        // Of any datacenter: an intention is about services, wherever they are.
        let home = random.random_range(0..shared.scenario.datacenters());
        let uri = identity_of(shared, home, &source).to_string();
        let serial = random.random_ratio(1, 3).then(|| held_leaf(shared, random, &uri)).flatten();
        Self::regular(uri, source, destination, secret, serial)
    }

    pub(super) fn regular(
        uri: String,
        source: String,
        destination: String,
        secret: String,
        serial: Option<Serial>,
    ) -> Self {
        let mut body = json!({"Target": destination, "ClientCertURI": uri});
        if let Some(serial) = serial {
            body["ClientCertSerial"] = serial.to_string().into();
        }
        let what = format!("{source} to {destination}{}", if serial.is_some() { " with a serial" } else { "" });
        Self { what, secret, body, question: Some(Question { source, destination, serial }) }
    }

    /// A question that nobody must answer with yes.
    fn bad(
        shared: &Shared,
        datacenter: usize,
        random: &mut Stream,
        source: &str,
        destination: &str,
        secret: String,
    ) -> Self {
        let good = identity_of(shared, datacenter, source).to_string();
        let (trust_domain, home) = (shared.book().trust_domain.clone(), datacenter_name(datacenter));
        let trust_domain = trust_domain.expect("the operator has told it");
        let mut body = json!({"Target": destination, "ClientCertURI": good});
        let mut secret = secret;
        let what = match random.random_range(0..6) {
            0 => {
                secret = uuid::Builder::from_random_bytes(random.random()).into_uuid().to_string();
                "an unknown token"
            }
            1 => {
                body["ClientCertURI"] = format!("spiffe://evil.example/ns/default/dc/{home}/svc/{source}").into();
                "a foreign trust domain"
            }
            2 => {
                let wrong = [format!("spiffe://{trust_domain}"), format!("{good}/"), source.to_owned(), String::new()];
                body["ClientCertURI"] = wrong.choose(random).expect("it is not empty").clone().into();
                "a malformed identity"
            }
            3 => {
                body["ClientCertURI"] = format!("spiffe://{trust_domain}/agent/client/dc/{home}/id/{source}").into();
                "an agent's identity"
            }
            4 => {
                body["Unknown"] = "x".into();
                "an unknown field"
            }
            _ => match ended_leaf(shared, random) {
                Some((uri, certificate)) => {
                    body["ClientCertURI"] = uri.into();
                    body["ClientCert"] = pem::encode_certificates([&certificate]).into();
                    "an ended certificate"
                }
                None => {
                    body["ClientCertURI"] = good.replace("/svc/", "/svc/a/b/").into();
                    "another path"
                }
            },
        };
        Self { what: format!("{what} to {destination}"), secret, body, question: None }
    }

    /// Judges what must never be allowed, tells the invariants of the rest; whether it was allowed, if it was answered.
    fn judge(
        &self,
        shared: &Shared,
        datacenter: usize,
        host: &str,
        asked_at: u64,
        answer: &Result<Answer, Lost>,
    ) -> Option<bool> {
        let answered = answer.as_ref().ok().filter(|answer| answer.is_success());
        let kind = if shared.agents.contains_key(host) { "authorize at an agent" } else { "authorize at a server" };
        // Asking wrongly is done well when it is refused.
        shared.count_operation(kind, answered.is_some() || self.question.is_none());
        let Some(answered) = answered else {
            let text = answer
                .as_ref()
                .map_or_else(ToString::to_string, |answer| format!("{} {}", answer.status, answer.text()));
            shared.note_detail(host, Kind::Client, Detail::Failed, format!("{}: {text}", self.what));
            return None;
        };
        let (is_allowed, reason) = (answered.json()["Authorized"] == true, answered.json()["Reason"].to_string());
        shared.note(host, Kind::Client, format!("{}: {is_allowed}, {reason}", self.what));
        match &self.question {
            Some(question) => {
                let (host, question) = (host.to_owned(), question.clone());
                shared.saw(Seen::Told(Told::Authorized { datacenter, host, question, is_allowed, reason, asked_at }));
            }
            None if is_allowed => shared.violate(NAME, format!("{host} allows {}: {reason}", self.what)),
            None => {}
        }
        Some(is_allowed)
    }
}

/// The serial of the newest leaf of an identity that any host holds.
fn held_leaf(shared: &Shared, random: &mut Stream, uri: &str) -> Option<Serial> {
    let book = shared.book();
    let held: Vec<Serial> = book.newest.iter().filter(|((of, _), _)| of == uri).map(|(_, serial)| *serial).collect();
    held.choose(random).copied()
}

fn ended_leaf(shared: &Shared, random: &mut Stream) -> Option<(String, Der)> {
    let now = shared.clock.now();
    let has_ended = |end: Timestamp| end.plus(ENDED_FOR) < now;
    let book = shared.book();
    let ended: Vec<_> = book.leaves.values().filter(|leaf| has_ended(leaf.not_after)).collect();
    ended.choose(random).map(|leaf| (leaf.identity.clone(), leaf.certificate.clone()))
}
