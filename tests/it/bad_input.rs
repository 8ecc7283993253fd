//! What strangers and clumsy clients send to a real server: each gets a status and a sentence that says why, and afterwards
//! nothing has changed, nothing has panicked, and the server issues as before.

mod bodies;
mod connections;
mod names;
mod requests;
mod secrets;

use carrack_tests::{
    cluster::Cluster,
    csr::{CsrKey, San, pem},
    http::{Answer, Http},
    server::Server,
};
use serde_json::{Value, json};

/// The longest sentence: it names what is wrong, and does not repeat what was sent.
const SENTENCE_BYTES_MAX: usize = 1024;

/// A server that everything is sent to, and what it said of itself before.
struct Victim {
    cluster: Cluster,
    trust_domain: String,
    /// A leaf with its key, as the server's agent gives it.
    leaf: Value,
    before: Value,
}

impl Victim {
    fn new() -> Self {
        let cluster = Cluster::form(1);
        let status = cluster.any().status(&cluster.token).expect("the server tells its status");
        let trust_domain = status["TrustDomain"].as_str().expect("it has a trust domain").to_owned();
        let leaf = cluster.any().client().with_token(&cluster.token).read("/v1/agent/connect/ca/leaf/web");
        let leaf = leaf.expect("a leaf is issued");
        let mut victim = Self { cluster, trust_domain, leaf, before: Value::Null };
        victim.before = victim.facts();
        victim
    }

    fn server(&self) -> &Server {
        self.cluster.any()
    }

    /// A client that may do everything.
    fn management(&self) -> Http {
        self.server().client().with_token(&self.cluster.token)
    }

    fn id(&self, service: &str) -> String {
        format!("spiffe://{}/ns/default/dc/dc1/svc/{service}", self.trust_domain)
    }

    /// A token that may be one service.
    fn token_of(&self, service: &str) -> Value {
        let body = json!({ "ServiceIdentities": [{ "ServiceName": service }] });
        let made = self.management().send("PUT", "/v1/acl/token", Some(&body)).expect("an answer comes");
        assert_eq!(made.status, 200, "{}", made.body);
        made.json()
    }

    fn issue(&self) {
        let csr = pem(&CsrKey::make().request(&[San::Uri(&self.id("web"))]));
        let answer = self.management().send("PUT", "/v1/carrack/sign", Some(&json!({ "Csr": csr })));
        let answer = answer.expect("an answer comes");
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    /// What must not change: everything that a status says but times and how far the log is.
    fn facts(&self) -> Value {
        let mut status = self.server().status(&self.cluster.token).expect("the server tells its status");
        let facts = status.as_object_mut().expect("a status is an object");
        for moving in ["LogTime", "LastLogIndex", "CommittedIndex", "AppliedIndex", "SnapshotIndex"] {
            assert!(facts.remove(moving).is_some(), "{moving} is in a status");
        }
        status
    }

    /// Nothing has changed, nothing has panicked, and the next leaf is issued.
    fn assert_unharmed(&mut self) {
        assert_eq!(self.facts(), self.before);
        self.issue();
        let log = self.server().log();
        assert!(!log.contains("panicked"), "{log}");
        assert!(self.cluster.servers[0].ended().is_none(), "the server runs");
    }
}

/// The answer is a refusal with this status, in one printable sentence in which the words stand.
#[track_caller]
fn assert_refused(what: &str, answer: &Answer, status: u16, words: &str) {
    assert_eq!(answer.status, status, "{what}: {}", answer.body);
    assert_sentence(what, &answer.body, words);
    assert!(answer.header("x-carrack-error-code").is_some_and(|code| !code.is_empty()), "{what}: {:?}", answer.headers);
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"), "{what}");
}

#[track_caller]
fn assert_sentence(what: &str, text: &str, words: &str) {
    assert!(text.contains(words), "{what}: {words:?} is not in {text:?}");
    assert!(!text.is_empty() && text.len() <= SENTENCE_BYTES_MAX, "{what}: {} bytes", text.len());
    assert!(text.chars().all(|character| !character.is_control()), "{what}: {text:?}");
}
