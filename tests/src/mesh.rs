//! Workloads beside agents: each follows its leaf and the bundle by blocking queries, and opens mutual TLS connections to the others without
//! a pause, each a full handshake by rustls over TCP. What fails is kept with its reason.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
    version::TLS13,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    http::{Http, runtime},
    tls::verifier,
};

/// How many connections are opened at once: the machine has other work too.
const OPENERS: usize = 6;
/// A pause between two connections of one opener.
const PAUSE: Duration = Duration::from_millis(4);
/// A handshake that takes longer has failed.
const SHAKEN_WITHIN: Duration = Duration::from_secs(20);
/// A pause after an answer that was none.
const RETRY: Duration = Duration::from_millis(200);
/// The most failures that are kept.
const FAILURES_MAX: usize = 20;

/// What a workload shows.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// `CertPEM`: the leaf and what is served with it.
    pub chain_pem: String,
    /// `PrivateKeyPEM`
    pub key_pem: String,
    /// Its identity.
    pub uri: String,
}

/// A host: its agent, its workloads, and the port where they accept connections.
pub struct Host {
    /// Where its workloads accept, each by its name.
    pub accepts: SocketAddr,
    bundle: watch::Receiver<Arc<Vec<CertificateDer<'static>>>>,
    workloads: Vec<Workload>,
}

/// A workload.
pub struct Workload {
    /// Its service.
    pub service: String,
    leaf: watch::Receiver<Arc<Leaf>>,
    shown: watch::Receiver<Arc<CertifiedKey>>,
}

/// Hosts with workloads that talk to each other.
pub struct Mesh {
    hosts: Arc<Vec<Arc<Host>>>,
    counts: Arc<Counts>,
    next: Arc<AtomicUsize>,
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct Counts {
    shaken: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Counts {
    fn fail(&self, text: String) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < FAILURES_MAX {
            failures.push(text);
        }
    }
}

impl Mesh {
    /// A mesh of these agents, by clients with a token, each with so many workloads, which all have their leaves.
    ///
    /// # Panics
    /// Panics if one gets none.
    pub fn start(agents: &[Http], workloads: usize) -> Self {
        let tasks = Mutex::new(JoinSet::new());
        let counts = Arc::new(Counts::default());
        let hosts = agents.iter().map(|agent| {
            let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::new(runtime().block_on(Host::start(agent, workloads, &mut tasks)))
        });
        let hosts: Arc<Vec<_>> = Arc::new(hosts.collect());
        let mesh = Self { hosts, counts, next: Arc::default(), tasks };
        mesh.talk();
        mesh
    }

    fn talk(&self) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..OPENERS {
            let (hosts, counts, next) = (self.hosts.clone(), self.counts.clone(), self.next.clone());
            tasks.spawn_on(
                async move {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        connect(&hosts, number, &counts).await;
                        sleep(PAUSE).await;
                    }
                },
                runtime().handle(),
            );
        }
    }

    /// Its hosts.
    pub fn hosts(&self) -> &[Arc<Host>] {
        &self.hosts
    }

    /// How many handshakes have succeeded.
    pub fn shaken(&self) -> u64 {
        self.counts.shaken.load(Ordering::Relaxed)
    }

    /// Why others have not: the first of them.
    pub fn failures(&self) -> Vec<String> {
        self.counts.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The workloads of every host.
    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.hosts.iter().flat_map(|host| &host.workloads)
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

impl Workload {
    /// What it shows now.
    pub fn leaf(&self) -> Arc<Leaf> {
        self.leaf.borrow().clone()
    }
}

impl Host {
    async fn start(agent: &Http, workloads: usize, tasks: &mut JoinSet<()>) -> Self {
        let bundle = follow(agent.clone(), "/v1/agent/connect/ca/roots".into(), read_bundle, tasks).await;
        let mut all = Vec::new();
        for number in 0..workloads {
            let service = format!("service-{number}");
            let path = format!("/v1/agent/connect/ca/leaf/{service}");
            let leaf = follow(agent.clone(), path, read_leaf, tasks).await;
            let shown = shown(leaf.clone(), tasks);
            all.push(Workload { service, leaf, shown });
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let accepts = listener.local_addr().expect("a listener has an address");
        let by_name = Arc::new(ByName(all.iter().map(|it| (it.service.clone(), it.shown.clone())).collect()));
        tasks.spawn(accept(listener, by_name, bundle.clone()));
        Self { accepts, bundle, workloads: all }
    }

    /// Its workloads.
    pub fn workloads(&self) -> &[Workload] {
        &self.workloads
    }

    /// The certificates of the bundle.
    pub fn bundle(&self) -> Arc<Vec<CertificateDer<'static>>> {
        self.bundle.borrow().clone()
    }
}

/// The key and the chain as rustls shows them, made anew when the leaf is another one.
fn shown(mut leaf: watch::Receiver<Arc<Leaf>>, tasks: &mut JoinSet<()>) -> watch::Receiver<Arc<CertifiedKey>> {
    let (sender, receiver) = watch::channel(Arc::new(certified(&leaf.borrow())));
    tasks.spawn(async move {
        while leaf.changed().await.is_ok() {
            sender.send_replace(Arc::new(certified(&leaf.borrow_and_update())));
        }
    });
    receiver
}

fn certified(leaf: &Leaf) -> CertifiedKey {
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).expect("a key is PEM");
    let key = provider().key_provider.load_private_key(key).expect("it is a key");
    CertifiedKey::new(certificates(&leaf.chain_pem), key)
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().expect("certificates are PEM")
}

fn read_leaf(body: &Value) -> Arc<Leaf> {
    let text = |key: &str| body[key].as_str().expect("a leaf has it").to_owned();
    Arc::new(Leaf { chain_pem: text("CertPEM"), key_pem: text("PrivateKeyPEM"), uri: text("ServiceURI") })
}

fn read_bundle(body: &Value) -> Arc<Vec<CertificateDer<'static>>> {
    let roots = body["Roots"].as_array().expect("a bundle has roots").iter();
    Arc::new(roots.flat_map(|root| certificates(root["RootCert"].as_str().expect("a root has it"))).collect())
}

/// Follows a path by blocking queries; the first answer is waited for.
async fn follow<T: Send + Sync + 'static>(
    agent: Http,
    path: String,
    read: fn(&Value) -> T,
    tasks: &mut JoinSet<()>,
) -> watch::Receiver<T> {
    let ask = async move |index: &str| {
        let path = format!("{path}?index={index}&wait=10s");
        loop {
            match agent.send_async("GET", &path, None).await {
                Ok(answer) if answer.status == 200 => {
                    let index = answer.header("x-consul-index").unwrap_or("0").to_owned();
                    return (index, answer.json());
                }
                _ => sleep(RETRY).await,
            }
        }
    };
    let (mut index, body) = ask("0").await;
    let (sender, receiver) = watch::channel(read(&body));
    tasks.spawn(async move {
        loop {
            let (next, body) = ask(&index).await;
            if next != index {
                sender.send_replace(read(&body));
            }
            index = next;
        }
    });
    receiver
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn roots(bundle: &[CertificateDer<'static>]) -> Arc<RootCertStore> {
    let mut store = RootCertStore::empty();
    for root in bundle {
        store.add(root.clone()).expect("a root is an anchor");
    }
    Arc::new(store)
}

/// Opens a connection from one workload to another one, which the number chooses.
async fn connect(hosts: &[Arc<Host>], number: usize, counts: &Counts) {
    let opening_host = &hosts[number % hosts.len()];
    let accepting_host = &hosts[number / hosts.len() % hosts.len()];
    let opening = &opening_host.workloads[number % opening_host.workloads.len()];
    let accepting = &accepting_host.workloads[number.wrapping_mul(7) % accepting_host.workloads.len()];
    match timeout(SHAKEN_WITHIN, shake(opening_host, opening, accepting_host, accepting)).await {
        Ok(Ok(())) => drop(counts.shaken.fetch_add(1, Ordering::Relaxed)),
        Ok(Err(error)) => counts.fail(format!("{} to {}: {error}", opening.service, accepting.service)),
        Err(_) => counts.fail(format!("{} to {}: it took too long", opening.service, accepting.service)),
    }
}

async fn shake(from: &Host, opening: &Workload, to: &Host, accepting: &Workload) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let verifier = verifier(provider(), Some(roots(&from.bundle())));
    let shown = opening.shown.borrow().clone();
    let config = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
    let config = config.map_err(|error| text(&error))?.dangerous().with_custom_certificate_verifier(verifier);
    let resolver = rustls::sign::SingleCertAndKey::from(CertifiedKey::clone(&shown));
    let mut config = config.with_client_cert_resolver(Arc::new(resolver));
    config.resumption = Resumption::disabled();
    let name = ServerName::try_from(format!("{}.mesh.test", accepting.service)).map_err(|error| text(&error))?;
    let stream = TcpStream::connect(to.accepts).await.map_err(|error| text(&error))?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| text(&error))?;
    // TLS 1.3 tells a client of its certificate's refusal only afterwards.
    stream.write_all(b"?").await.map_err(|error| text(&error))?;
    let mut answer = [0];
    stream.read_exact(&mut answer).await.map_err(|error| text(&error))?;
    Ok(())
}

async fn accept(
    listener: TcpListener,
    by_name: Arc<ByName>,
    bundle: watch::Receiver<Arc<Vec<CertificateDer<'static>>>>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (by_name, bundle) = (by_name.clone(), bundle.borrow().clone());
        tokio::spawn(async move {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots(&bundle), provider()).build();
            let verifier = verifier.expect("a bundle has roots");
            let config = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
            let config = config.expect("the provider has TLS 1.3").with_client_cert_verifier(verifier);
            let mut config = config.with_cert_resolver(by_name);
            config.send_tls13_tickets = 0;
            // The client says why it failed.
            let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else { return };
            let mut question = [0];
            if stream.read_exact(&mut question).await.is_ok() {
                drop(stream.write_all(b"!").await);
                drop(stream.shutdown().await);
            }
        });
    }
}

/// The leaf of the workload that the client names.
#[derive(Debug)]
struct ByName(Vec<(String, watch::Receiver<Arc<CertifiedKey>>)>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let service = hello.server_name()?.split('.').next()?;
        let found = self.0.iter().find(|(name, _)| name == service);
        found.map(|(_, shown)| shown.borrow().clone())
    }
}
