//! An attacker on a host of his own. He has stolen leaves with their keys, used join tokens and deleted tokens; he makes up
//! certificates, secrets and bodies. Whatever he tries must be refused.

mod blind;
mod bodies;
mod joins;
mod server_ports;

use std::{sync::Arc, time::Duration};

use carrack::keys::secret::KeyMaker;
use carrack_authority::{
    key::{KeyKind, Signer},
    x509::{RequestedName, build_csr, pem},
};
use rand::{Rng, RngExt};
use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;

use super::{ANSWER_WITHIN, ATTACKER, LOOK, Worker, is_formed, issue::identity};
use crate::{
    client::{Answer, Call, Lost},
    crypto::{entropy::ProcessStart, keys::SeededKeyMaker, registry::KeyRegistry},
    trace::Kind,
    world::{
        PRIMARY,
        shared::{Shared, Stage},
    },
};

/// The attacks of a run: few enough to cost nothing, and each kind is met in every batch of seeds.
const ATTACKS: u32 = 12;
/// How long the attacker waits for one thing over gRPC.
const TRY_WITHIN: Duration = Duration::from_secs(8);

pub(super) async fn run(shared: Arc<Shared>) -> turmoil::Result {
    while !is_formed(&shared) {
        sleep(LOOK).await;
    }
    let worker = Worker::new(&shared, PRIMARY, ATTACKER, "attacks");
    let keys = SeededKeyMaker::new(shared.seed, &ProcessStart::new(ATTACKER, 1), KeyRegistry::default());
    let mut attacker = Attacker { worker, keys };
    let pause = shared.scenario.chaos / ATTACKS;
    loop {
        sleep(pause.mul_f64(attacker.worker.random.random_range(0.5..1.5))).await;
        if shared.stage() != Stage::Living {
            return Ok(());
        }
        attacker.attack().await;
    }
}

struct Attacker {
    worker: Worker,
    keys: SeededKeyMaker,
}

impl Attacker {
    async fn attack(&mut self) {
        let (what, came_of_it) = match self.worker.random.random_range(0..10) {
            0..=2 => self.speak_as_server().await,
            3..=5 => self.join().await,
            6 => self.use_forged_token().await,
            7 => self.use_deleted_token().await,
            _ => self.send_body().await,
        };
        self.worker.shared.note(ATTACKER, Kind::Client, format!("{what}: {came_of_it}"));
        self.worker.shared.count_operation("attack", true);
    }

    fn new_key(&self) -> Arc<dyn Signer> {
        let key = self.keys.make(KeyKind::EcP256).expect("the seeded key maker makes P-256");
        self.keys.signer(&key).expect("a key that was just made can sign")
    }

    /// Shows a secret that nobody has made.
    async fn use_forged_token(&mut self) -> (&'static str, String) {
        let secret = Uuid::from_u64_pair(self.worker.random.next_u64(), self.worker.random.next_u64()).to_string();
        let answer = match self.worker.random.random_range(0..3) {
            0 => self.ask(&secret, "GET", "/v1/acl/tokens?stale").await,
            1 => self.ask(&secret, "PUT", "/v1/acl/policy").await,
            _ => self.sign(&secret, "service-0").await,
        };
        ("a forged token", self.must_be_refused("default_deny", "a token that nobody has made", answer))
    }

    /// Shows the secret of a token whose deletion was answered.
    async fn use_deleted_token(&mut self) -> (&'static str, String) {
        let count = self.worker.shared.book().deleted_tokens.len();
        if count == 0 {
            return ("a deleted token", "there is none".into());
        }
        let number = self.worker.random.random_range(0..count);
        let (service, secret) = self.worker.shared.book().deleted_tokens[number].clone();
        let answer = match self.worker.random.random_range(0..2) {
            0 => self.ask(&secret, "GET", "/v1/acl/token/self?consistent").await,
            _ => self.sign(&secret, &service).await,
        };
        (
            "a deleted token",
            self.must_be_refused("no_issue_after_delete", &format!("the deleted token of {service}"), answer),
        )
    }

    async fn ask(&mut self, secret: &str, method: &str, path: &str) -> Result<Answer, Lost> {
        self.worker.client.set_token(Some(secret.to_owned()));
        let body = (method == "PUT").then(|| json!({"Name": "attack", "Rules": ""}));
        let host = self.worker.any_server();
        self.worker.client.call(&host, Call { method, path, body, within: ANSWER_WITHIN }).await
    }

    async fn sign(&mut self, secret: &str, service: &str) -> Result<Answer, Lost> {
        self.worker.client.set_token(Some(secret.to_owned()));
        let identity = identity(&self.worker, service);
        let csr = build_csr(&*self.new_key(), &RequestedName::Leaf(&identity));
        let csr = csr.expect("a request of a known identity is built");
        let body = Some(json!({"Csr": pem::encode(pem::CERTIFICATE_REQUEST, &csr)}));
        let host = self.worker.any_server();
        let call = Call { method: "PUT", path: "/v1/carrack/sign", body, within: ANSWER_WITHIN };
        self.worker.client.call(&host, call).await
    }

    /// What came of it, for the trace; that it succeeded is a violation.
    fn must_be_refused(&self, invariant: &str, what: &str, answer: Result<Answer, Lost>) -> String {
        match answer {
            Ok(answer) if answer.is_success() => {
                self.worker.shared.violate(invariant, format!("{what} is good for something: {}", answer.text()));
                answer.status.to_string()
            }
            Ok(answer) => answer.status.to_string(),
            Err(lost) => lost.to_string(),
        }
    }
}
