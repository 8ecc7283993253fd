//! Issuing and renewing: every identity has holders that ask for leaves, with keys of their own; what they get is examined at once.
//! Now and then a request is one that must never be signed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use carrack::keys::secret::KeyMaker;
use carrack_authority::{
    id::Serial,
    key::{Der, KeyKind, Signer},
    spiffe::{Identity, Name, SpiffeId},
    time::Timestamp,
    x509::{CertificateFacts, RequestedName, build_csr, pem},
};
use rand::{RngExt, seq::IndexedRandom};
use serde_json::json;

use super::{ANSWER_WITHIN, Leaf, Worker, handshake::LeafKey};
use crate::{
    client::{Answer, Call, Lost},
    crypto::{entropy::ProcessStart, keys::SeededKeyMaker, registry::KeyRegistry},
    invariants::{
        received,
        seen::{Seen, Told},
    },
    marks::Mark,
    trace::{Detail, Kind},
    world::{
        datacenter_name,
        shared::{Shared, Stage},
    },
};

/// How many of a hundred requests are such as must never be signed.
const BAD_IN_100: u32 = 8;

pub(super) async fn run(mut worker: Worker) {
    let keys =
        SeededKeyMaker::new(worker.shared.seed, &ProcessStart::new(worker.host.as_str(), 1), KeyRegistry::default());
    let mut holder = Holder { keys, signers: BTreeMap::new() };
    while worker.goes_on().await {
        let services: Vec<String> = worker.shared.book().service_tokens.keys().cloned().collect();
        let Some(service) = services.choose(&mut worker.random).cloned() else { continue };
        if worker.random.random_ratio(BAD_IN_100, 100) {
            holder.ask_badly(&mut worker, &service).await;
        } else {
            holder.ask(&mut worker, &service).await;
        }
    }
}

/// Holds the keys of this client's leaves.
struct Holder {
    keys: SeededKeyMaker,
    signers: BTreeMap<String, Arc<dyn Signer>>,
}

impl Holder {
    fn signer(&mut self, service: &str, kind: KeyKind) -> Arc<dyn Signer> {
        let make = || {
            let key = self.keys.make(kind).expect("the seeded key maker makes every kind");
            self.keys.signer(&key).expect("a key that was just made can sign")
        };
        self.signers.entry(service.to_owned()).or_insert_with(make).clone()
    }

    async fn ask(&mut self, worker: &mut Worker, service: &str) {
        if worker.random.random_ratio(1, 10) {
            self.signers.remove(service);
        }
        let kind =
            *[KeyKind::EcP256, KeyKind::EcP256, KeyKind::Ed25519].choose(&mut worker.random).expect("it is not empty");
        let signer = self.signer(service, kind);
        let asked = Asked::new(&worker.shared, worker.datacenter, service, signer);
        let answer = sign(worker, service, &asked.csr()).await;
        let what = format!("leaf of {service}");
        match answer {
            // The world slept while the answer was on its way: it may have come too late to be of use.
            Ok(_) if asked.is_overslept(&worker.shared) => {}
            Ok(answer) if answer.is_success() => {
                let Some((serial, leaf)) = asked.receive(&worker.shared, &worker.host, &answer) else { return };
                worker.shared.note(&worker.host, Kind::Issued, format!("{what}: {serial} until {}", leaf.not_after));
                worker.shared.book().receive(serial, leaf);
                worker.shared.count_operation("issue", true);
            }
            Ok(answer) => {
                if answer.status == 429 {
                    worker.shared.mark(Mark::RateLimited);
                }
                failed(worker, format!("{what}: {} {}", answer.status, answer.text()));
                worker.shared.count_operation("issue", false);
            }
            Err(lost) => {
                worker.shared.mark(Mark::OutcomeUnknown);
                failed(worker, format!("{what}: {lost}"));
                worker.shared.count_operation("issue", false);
            }
        }
    }

    /// Asks for what must be refused; that it is signed is a violation.
    async fn ask_badly(&mut self, worker: &mut Worker, service: &str) {
        let signer = self.signer(service, KeyKind::EcP256);
        let number = worker.random.random_range(0..bad::KINDS);
        let (what, csr) = bad::request(number, &*signer, worker.shared.scenario.identities, &identity(worker, service));
        let answer = sign(worker, service, &csr).await;
        match &answer {
            Ok(answer) if answer.is_success() => {
                worker
                    .shared
                    .violate("exactly_one_identity", format!("a leaf was signed for {what}: {}", answer.text()));
            }
            Ok(answer) if answer.status < 500 => worker.shared.mark(Mark::BadCsrRefused),
            _ => {}
        }
        let text = answer.map_or_else(|lost| lost.to_string(), |answer| answer.status.to_string());
        worker.shared.note(&worker.host, Kind::Client, format!("{what}: {text}"));
        worker.shared.count_operation("bad request", true);
    }
}

/// A leaf that is asked for.
pub(super) struct Asked {
    datacenter: usize,
    signer: Arc<dyn Signer>,
    identity: Identity,
    at: u64,
    when: Timestamp,
    skipped: Duration,
}

impl Asked {
    /// A service of a datacenter asks now, with this key.
    pub(super) fn new(shared: &Shared, datacenter: usize, service: &str, signer: Arc<dyn Signer>) -> Self {
        let identity = identity_of(shared, datacenter, service);
        shared.saw(Seen::Told(Told::LeafAsked { identity: identity.to_string() }));
        let (at, when) = (shared.clock.micros(), shared.clock.now());
        Self { datacenter, signer, identity, at, when, skipped: shared.clock.skipped() }
    }

    /// One of many asks now, each with a key of its own.
    pub(super) fn one_of_a_herd(shared: &Shared, datacenter: usize, service: &str, number: u32) -> Self {
        let keys = SeededKeyMaker::new(shared.seed, &ProcessStart::new("herd", number.into()), KeyRegistry::default());
        let key = keys.make(KeyKind::Ed25519).expect("the seeded key maker makes every kind");
        Self::new(shared, datacenter, service, keys.signer(&key).expect("a key that was just made can sign"))
    }

    /// The request.
    pub(super) fn csr(&self) -> Der {
        build_csr(&*self.signer, &RequestedName::Leaf(&self.identity)).expect("a request of a known identity is built")
    }

    /// Whether the world has slept since.
    pub(super) fn is_overslept(&self, shared: &Shared) -> bool {
        shared.clock.skipped() != self.skipped
    }

    /// Examines the leaf of a good answer, and tells of it.
    pub(super) fn receive(&self, shared: &Shared, holder: &str, answer: &Answer) -> Option<(Serial, Leaf)> {
        let Some(leaf) = read_answer(answer, holder, &self.signer) else {
            let text = format!("the answer to {} cannot be read: {}", self.identity, answer.text());
            shared.violate("served_chain_minimal", text);
            return None;
        };
        let serial = CertificateFacts::read(leaf.certificate.as_bytes()).map(|facts| facts.serial);
        received::examine(shared, &leaf, &self.identity, self.signer.public_key(), answer, self.when);
        let (identity, certificate) = (self.identity.to_string(), leaf.certificate.clone());
        let (datacenter, asked_at) = (self.datacenter, self.at);
        shared.saw(Seen::Told(Told::LeafReceived { datacenter, identity, certificate, asked_at }));
        Some((serial.expect("it was read when the answer was"), leaf))
    }
}

fn failed(worker: &Worker, text: String) {
    worker.shared.note_detail(&worker.host, Kind::Client, Detail::Failed, text);
}

pub(super) fn identity(worker: &Worker, service: &str) -> Identity {
    identity_of(&worker.shared, worker.datacenter, service)
}

pub(super) fn identity_of(shared: &Shared, datacenter: usize, service: &str) -> Identity {
    let trust_domain = shared.book().trust_domain.clone().expect("the operator has told it");
    let datacenter = Name::parse("datacenter", &datacenter_name(datacenter)).expect("it is a name");
    let service = Name::parse("service", service).expect("services of a world have names");
    Identity::Spiffe(SpiffeId::service(trust_domain, datacenter, service))
}

async fn sign(worker: &mut Worker, service: &str, csr: &Der) -> Result<Answer, Lost> {
    let token = worker.shared.book().service_tokens.get(service).cloned();
    worker.client.set_token(token);
    let host = worker.any_server();
    let body = json!({"Csr": pem::encode(pem::CERTIFICATE_REQUEST, csr), "Slot": worker.host});
    let is_late = worker.shared.stage() != Stage::Living;
    let within = if is_late { ANSWER_WITHIN / 2 } else { ANSWER_WITHIN };
    worker.client.call(&host, Call { method: "PUT", path: "/v1/carrack/sign", body: Some(body), within }).await
}

fn read_answer(answer: &Answer, holder: &str, signer: &Arc<dyn Signer>) -> Option<Leaf> {
    let json = answer.json();
    let certificate = pem::decode_one(json["CertPEM"].as_str()?, pem::CERTIFICATE, 1 << 16).ok()?;
    let facts = CertificateFacts::read(certificate.as_bytes()).ok()?;
    let chain_pem = json["ChainPEM"].as_str()?;
    let chain = pem::decode_certificates(chain_pem).ok()?;
    let identity = json["SpiffeID"].as_str()?.to_owned();
    let (holder, key) = (holder.to_owned(), LeafKey(signer.clone()));
    Some(Leaf { identity, holder, key, certificate, chain, not_after: facts.not_after })
}

/// Requests that must never be signed.
mod bad;
