//! Clients that ask for certificates all the time, each one request after the other and each request at the next server. They
//! keep what they receive.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use carrack::keys::{aws_lc::AwsLcKeyMaker, secret::KeyMaker};
use carrack_authority::{
    key::KeyKind,
    spiffe::{Identity, SpiffeId},
    x509::{RequestedName, build_csr, pem},
};
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    http::{Answer, Http},
    wait,
};

/// After a refusal, before the next server is asked: clients do not burn the CPU that an election needs.
const PAUSE: Duration = Duration::from_millis(10);
/// A PEM certificate is smaller.
const CERTIFICATE_BYTES_MAX: usize = 16 << 10;

/// A certificate that a client received.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its serial number, as the answer says.
    pub serial: String,
    /// SHA-256 of its DER.
    pub digest: String,
    /// When it was asked for.
    pub asked_at: Instant,
    /// When it came.
    pub received_at: Instant,
}

/// What all clients have seen.
#[derive(Debug, Default)]
struct Seen {
    received: Vec<Received>,
    /// Answers that a client must never get, whatever happens to servers.
    wrong: Vec<String>,
}

/// Running clients. Dropped, they stop.
pub struct Load {
    is_stopping: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts so many clients of a cluster.
    pub fn start(cluster: &Cluster, clients: usize) -> Self {
        let is_stopping = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let servers: Vec<Http> =
            cluster.servers.iter().map(|server| server.client().with_token(&cluster.token)).collect();
        let start = |number: usize| {
            let (is_stopping, seen, servers) = (is_stopping.clone(), seen.clone(), servers.clone());
            let body = json!({ "Csr": csr(cluster, &format!("load-{number}")) });
            thread::spawn(move || run(number, &servers, &body, &is_stopping, &seen))
        };
        let clients = (0..clients).map(start).collect();
        Self { is_stopping, seen, clients }
    }

    /// Waits until a certificate was received that was asked for after `moment`, and gives how long after it that was.
    ///
    /// # Panics
    /// Panics if none comes.
    #[track_caller]
    pub fn wait_for_one_after(&self, moment: Instant) -> Duration {
        wait::until("a certificate for a client", || {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let first = seen.received.iter().rev().take_while(|received| received.received_at > moment);
            let first = first.filter(|received| received.asked_at > moment).map(|received| received.received_at).min();
            first.map(|at| at - moment).ok_or_else(|| format!("{} were received before", seen.received.len()))
        })
    }

    /// Waits until so many certificates were received.
    ///
    /// # Panics
    /// Panics if they do not come.
    #[track_caller]
    pub fn wait_for_count(&self, count: usize) {
        wait::until(&format!("{count} certificates"), || {
            let received = self.seen.lock().unwrap_or_else(PoisonError::into_inner).received.len();
            wait::holds(received >= count, || format!("{received} were received"))
        });
    }

    /// Stops the clients, and gives all that they received.
    ///
    /// # Panics
    /// Panics if one got an answer that is wrong whatever happens to servers.
    #[track_caller]
    pub fn stop(mut self) -> Vec<Received> {
        self.is_stopping.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().expect("a client does not panic");
        }
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        assert!(seen.wrong.is_empty(), "{} wrong answers, the first: {}", seen.wrong.len(), seen.wrong[0]);
        seen.received
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }
}

/// The PEM of a request for a new key and this service.
///
/// # Panics
/// Panics if the cluster does not say its names.
#[track_caller]
pub fn csr(cluster: &Cluster, service: &str) -> String {
    let status = wait::until("a status", || cluster.any().status(&cluster.token));
    let (domain, datacenter) = (&status["TrustDomain"], &status["Datacenter"]);
    let (domain, datacenter) = (domain.as_str().expect("a name"), datacenter.as_str().expect("a name"));
    let id: SpiffeId = format!("spiffe://{domain}/ns/default/dc/{datacenter}/svc/{service}").parse().expect("an id");
    let key = AwsLcKeyMaker.make(KeyKind::EcP256).expect("a key can be made");
    let signer = AwsLcKeyMaker.signer(&key).expect("a key can sign");
    let csr = build_csr(&*signer, &RequestedName::Leaf(&Identity::Spiffe(id))).expect("a request can be signed");
    pem::encode(pem::CERTIFICATE_REQUEST, &csr)
}

/// What a signing answer holds.
///
/// # Panics
/// Panics if it holds no certificate.
pub fn received(answer: &Answer, asked_at: Instant) -> Received {
    let answer = answer.json();
    let certificate = answer["CertPEM"].as_str().expect("a certificate");
    let der = pem::decode_one(certificate, pem::CERTIFICATE, CERTIFICATE_BYTES_MAX).expect("a PEM certificate");
    let serial = answer["SerialNumber"].as_str().expect("a serial number").to_owned();
    Received { serial, digest: der.digest().to_string(), asked_at, received_at: wait::now() }
}

fn run(number: usize, servers: &[Http], body: &Value, is_stopping: &AtomicBool, seen: &Mutex<Seen>) {
    for server in servers.iter().cycle().skip(number % servers.len()) {
        if is_stopping.load(Ordering::Relaxed) {
            return;
        }
        let asked_at = wait::now();
        let answer = server.send("PUT", "/v1/carrack/sign", Some(body));
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(answer) if answer.status == 200 => {
                seen.received.push(received(&answer, asked_at));
                continue;
            }
            // No server leads yet, the outcome is unknown, or there is too much to do.
            Ok(answer) if matches!(answer.status, 429 | 503) => {}
            Ok(answer) => seen.wrong.push(format!("{} {}", answer.status, answer.body)),
            // The server was killed.
            Err(_) => {}
        }
        drop(seen);
        thread::sleep(PAUSE);
    }
}
