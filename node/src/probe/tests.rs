//! A prober with agents that answer what a test tells them to.

use std::net::SocketAddr;

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::{api::http::answer::CONTENT_HASH, cli::connection::Connection, server::ports::MachineClock};

/// How long a busy machine may take until something is so.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(5);

/// A root with its key.
struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "a root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![uri("spiffe://example.org")];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn root(&self) -> String {
        self.0.pem()
    }

    /// An agent's answer for a leaf of a service.
    fn leaf(&self, service: &str) -> Value {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![uri(&format!("spiffe://example.org/ns/default/dc/dc1/svc/{service}"))];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &self.0).unwrap();
        json!({ "CertPEM": leaf.pem(), "PrivateKeyPEM": key.serialize_pem() })
    }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// An agent on loopback. Who asks by the hash of what it answers waits until that is another.
#[derive(Clone)]
struct Agent {
    address: SocketAddr,
    answers: watch::Sender<Answers>,
}

#[derive(Clone)]
struct Answers {
    leaf: Value,
    roots: Vec<String>,
    trust_domain: &'static str,
}

#[derive(Deserialize)]
struct Asked {
    hash: Option<String>,
}

impl Agent {
    async fn start(leaf: Value, roots: &[&Ca]) -> Self {
        let roots = roots.iter().map(|ca| ca.root()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let answers = watch::Sender::new(Answers { leaf, roots, trust_domain: "example.org" });
        let agent = Self { address: listener.local_addr().unwrap(), answers };
        let router = Router::new()
            .route("/v1/agent/connect/ca/roots", get(roots_of))
            .route("/v1/agent/connect/ca/leaf/{service}", get(leaf_of))
            .with_state(agent.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        agent
    }

    fn trust(&self, roots: &[&Ca]) {
        self.answers.send_modify(|answers| answers.roots = roots.iter().map(|ca| ca.root()).collect());
    }

    fn workload(&self, service: &str) -> (Target, Client) {
        let address = format!("http://{}", self.address);
        let connection = Connection { address: address.clone(), token: None, cacert: None };
        (Target::parse(&format!("{service}@{address}")).unwrap(), Client::new(connection).unwrap())
    }

    async fn answer(&self, asked: Option<String>, of: fn(&Answers) -> Value) -> Response {
        let hash = |answers: &Answers| hash_of(&of(answers));
        let mut answers = self.answers.subscribe();
        let changed = answers.wait_for(|answers| Some(hash(answers)) != asked).await.unwrap().clone();
        let mut response = Json(of(&changed)).into_response();
        response.headers_mut().insert(CONTENT_HASH, hash(&changed).parse().unwrap());
        response
    }
}

fn hash_of(value: &Value) -> String {
    crate::api::http::answer::content_hash([value.to_string().as_bytes()])
}

async fn roots_of(State(agent): State<Agent>, Query(asked): Query<Asked>) -> Response {
    let roots = |answers: &Answers| {
        let roots: Vec<Value> = answers.roots.iter().map(|pem| json!({ "ID": "a", "RootCert": pem })).collect();
        json!({ "ActiveRootID": "a", "TrustDomain": answers.trust_domain, "Roots": roots })
    };
    agent.answer(asked.hash, roots).await
}

async fn leaf_of(State(agent): State<Agent>, Path(service): Path<String>, Query(asked): Query<Asked>) -> Response {
    if service == "forbidden" {
        return (StatusCode::FORBIDDEN, "Permission denied").into_response();
    }
    agent.answer(asked.hash, |answers| answers.leaf.clone()).await
}

/// Looks until it is so, and answers what was seen then.
async fn until(prober: &Prober, is_so: impl Fn(&Seen) -> bool) -> Seen {
    let looks = async {
        loop {
            let seen = prober.seen();
            if is_so(&seen) {
                return seen;
            }
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, looks).await.unwrap_or_else(|_| panic!("it is not so: {:?}", prober.seen()))
}

#[tokio::test]
async fn workloads_connect_until_a_bundle_lacks_a_root_and_again_when_it_has_it() {
    let (ca, other) = (Ca::new(), Ca::new());
    let (one, two) = (Agent::start(ca.leaf("web"), &[&ca]).await, Agent::start(ca.leaf("api"), &[&ca]).await);
    let prober = Prober::start(vec![one.workload("web"), two.workload("api")], Arc::new(MachineClock));
    prober.wait_for_round(PATIENCE).await;
    let seen = until(&prober, |seen| seen.shaken >= 4).await;
    assert_eq!((seen.failed, seen.failures.len(), seen.troubles.len()), (0, 0, 0), "{seen:?}");

    two.trust(&[&other]);
    let seen = until(&prober, |seen| seen.failed >= FAILURES_MAX as u64 + 2).await;
    let (web, api) = (one.workload("web").0, two.workload("api").0);
    let find = |beginning: String| seen.failures.iter().find(|why| why.starts_with(&beginning)).cloned();
    let called =
        find(format!("{web} calls {api}: the side that was called ended")).unwrap_or_else(|| panic!("{seen:?}"));
    let calling = find(format!("{api} calls {web}: the side that calls ended")).unwrap_or_else(|| panic!("{seen:?}"));
    for why in [called, calling] {
        assert!(why.contains("the certificate does not lead to a trusted root"), "{why}");
    }
    assert!(seen.failures.len() <= FAILURES_MAX);

    // A leaf under the other root, and bundles with both: as after the activation of a root.
    [&one, &two].iter().for_each(|agent| agent.trust(&[&ca, &other]));
    let (shaken, before) = (prober.seen().shaken, ca.leaf("web"));
    until(&prober, |seen| seen.shaken > shaken + 4).await;
    one.answers.send_modify(|answers| answers.leaf = other.leaf("web"));
    assert_ne!(one.answers.borrow().leaf, before);
    let shaken = prober.seen().shaken;
    until(&prober, |seen| seen.shaken > shaken + 4).await;
    // Only who follows the new leaf notices that the root of before is gone.
    let failed = prober.seen().failed;
    [&one, &two].iter().for_each(|agent| agent.trust(&[&ca]));
    until(&prober, |seen| seen.failed > failed).await;
    prober.stop().await;
}

#[tokio::test]
async fn a_workload_of_another_trust_domain_or_with_the_leaf_of_another_service_is_refused() {
    let ca = Ca::new();
    let (one, two) = (Agent::start(ca.leaf("web"), &[&ca]).await, Agent::start(ca.leaf("db"), &[&ca]).await);
    let prober = Prober::start(vec![one.workload("web"), two.workload("api")], Arc::new(MachineClock));
    let seen = until(&prober, |seen| seen.failed >= 2).await;
    assert_eq!(seen.shaken, 0);
    let why = "the service api was expected, and the leaf is that of spiffe://example.org/ns/default/dc/dc1/svc/db";
    assert!(seen.failures.iter().all(|failure| failure.ends_with(why)), "{seen:?}");

    two.answers.send_modify(|answers| answers.trust_domain = "elsewhere.org");
    let seen = until(&prober, |seen| seen.failures.iter().all(|why| !why.contains("was expected"))).await;
    assert!(seen.failures.iter().all(|why| why.contains("it is of another trust domain")), "{seen:?}");
    assert_eq!(seen.shaken, 0);
}

#[tokio::test]
async fn an_agent_that_gives_no_leaf_is_told_with_its_reason_and_nothing_is_counted() {
    let ca = Ca::new();
    let agent = Agent::start(ca.leaf("web"), &[&ca]).await;
    let prober = Prober::start(vec![agent.workload("web"), agent.workload("forbidden")], Arc::new(MachineClock));
    let seen = until(&prober, |seen| !seen.troubles.is_empty()).await;
    assert!(seen.troubles[0].starts_with(&format!("forbidden@http://{}: ", agent.address)), "{seen:?}");
    assert!(seen.troubles[0].contains("with status 403: Permission denied"), "{seen:?}");
    // It is known that this pair cannot have its turn: nobody waits for it.
    prober.wait_for_round(PATIENCE).await;
    assert_eq!((prober.seen().shaken, prober.seen().failed), (0, 0));
}
