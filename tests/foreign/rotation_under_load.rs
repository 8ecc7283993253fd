//! Five rotations across two datacenters of three servers each, while 500 workloads shake hands without a pause and the leader is killed
//! once in each phase: no handshake fails, and OpenSSL, GnuTLS and Python follow every chain by the roots of before and of after.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use carrack_authority::x509::{CertificateFacts, pem};
use carrack_tests::{
    agent::Agent,
    cluster::Cluster,
    foreign::Python,
    gnutls::assert_trusted,
    http::Http,
    mesh::{Host, Leaf, Mesh},
    openssl::expect_openssl,
    server::Start,
    wait,
    wan::Wan,
};
use serde_json::{Value, json};

/// The workloads beside each of the two agents.
const WORKLOADS: usize = 250;
/// A server that has started again waits for a minute for agents that spoke to the process before it.
const PATIENCE: Duration = Duration::from_secs(180);

/// What the leader is killed in.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The new root is made and published.
    Publish,
    /// Agents and servers get ready; the rotation is paused.
    Acknowledge,
    /// It becomes active in the primary.
    Activate,
    /// The secondary follows: its own leader is killed.
    Follow,
    /// Leaves are issued anew.
    Drain,
}

const ROTATIONS: [(&str, Phase); 5] = [
    ("ec-p256", Phase::Publish),
    ("ec-p256", Phase::Acknowledge),
    ("rsa-2048", Phase::Activate),
    ("ec-p384", Phase::Follow),
    ("ec-p256", Phase::Drain),
];

struct Story {
    primary: Cluster,
    secondary: Cluster,
    mesh: Mesh,
    /// Certificates, chains, leaves and identities for Python, which takes long to start.
    for_python: Vec<String>,
    directory: tempfile::TempDir,
}

#[test]
fn five_rotations_under_500_workloads_with_the_leader_killed_in_each_phase_fail_no_handshake() {
    let python = Python::with_clients().expect("the clients can be installed");
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let wan = Wan::new(Duration::from_millis(5));
    let primary = Cluster::form_primary(3, &wan);
    let secondary = Cluster::form_secondary(3, "dc2", &primary);
    let agents = [start_agent(&primary, directory.path()), start_agent(&secondary, &directory.path().join("dc2"))];
    let clients: Vec<Http> = agents.iter().map(|agent| agent.client().with_token(&primary.token)).collect();
    let mesh = Mesh::start(&clients, WORKLOADS);
    let by_openssl = ByOpenssl::start(&mesh, directory.path());
    let mut story = Story { primary, secondary, mesh, for_python: Vec::new(), directory };
    for (number, (key, phase)) in ROTATIONS.into_iter().enumerate() {
        story.rotate(number, key, phase);
        let (shaken, failures) = (story.mesh.shaken(), story.mesh.failures());
        assert!(failures.is_empty(), "rotation {number} to {key}, {phase:?}, after {shaken} handshakes: {failures:#?}");
    }
    let (shaken, by_openssl) = (story.mesh.shaken(), by_openssl.end());
    assert!(shaken > 1_000 && by_openssl > 10, "{shaken} handshakes of rustls, {by_openssl} of OpenSSL");
    let arguments: Vec<&str> = story.for_python.iter().map(String::as_str).collect();
    python.run(include_str!("chains_verify.py"), &arguments).unwrap();
    for cluster in [&story.primary, &story.secondary] {
        for server in &cluster.servers {
            assert!(!server.log().contains("panicked"), "{}", server.log());
        }
    }
}

fn start_agent(cluster: &Cluster, directory: &Path) -> Agent {
    let made = ["token", "agent", "--node", "host", "--format", "json"];
    let made = cluster.any().carrack(&cluster.token, &made).expect_json();
    let mut agent = Agent::new("host", directory);
    agent.start(made["Token"].as_str());
    agent.wait_until_ready();
    agent
}

impl Story {
    fn rotate(&mut self, number: usize, key: &str, phase: Phase) {
        let former = self.roots_of_before();
        let mut body = json!({ "KeyType": key });
        if matches!(phase, Phase::Acknowledge | Phase::Activate) {
            body["PauseBefore"] = json!("activate");
        }
        let id = wait::until("the rotation to begin", || {
            let client = self.primary.any().client().with_token(&self.primary.token);
            let answer = client.send("PUT", "/v1/carrack/ca/rotation", Some(&body))?;
            wait::holds(answer.status == 200, || answer.body.clone())?;
            Ok(answer.json()["ID"].as_u64().unwrap_or_default())
        });
        match phase {
            Phase::Publish => kill_leader(&mut self.primary),
            Phase::Acknowledge => {
                self.wait_until_paused();
                self.check_chains(number, "paused", &former);
                kill_leader(&mut self.primary);
                self.resume();
            }
            Phase::Activate => {
                self.wait_until_paused();
                self.resume();
                kill_leader(&mut self.primary);
            }
            Phase::Follow => {
                self.wait_for_activation(id);
                kill_leader(&mut self.secondary);
            }
            Phase::Drain => {
                self.wait_until_over(id);
                kill_leader(&mut self.primary);
            }
        }
        self.wait_until_over(id);
        self.wait_until_drained();
        self.check_chains(number, "drained", &former);
    }

    /// The certificates that a verifier without an agent has which has heard of nothing since.
    fn roots_of_before(&self) -> Vec<Vec<u8>> {
        self.mesh.hosts()[0].bundle().iter().map(|der| der.to_vec()).collect()
    }

    fn status(&self) -> Result<Value, String> {
        self.primary.any().client().with_token(&self.primary.token).read("/v1/carrack/ca?stale")
    }

    fn wait_until_paused(&self) {
        wait::until_within("the rotation to wait for nothing but an operator", PATIENCE, || {
            let status = self.status()?;
            let waits = status["Rotation"]["Waits"].as_array().cloned().unwrap_or_default();
            let is_paused = waits.len() == 1 && waits[0].as_str().is_some_and(|it| it.contains("it is paused"));
            wait::holds(is_paused, || status["Rotation"].to_string())
        });
    }

    fn resume(&self) {
        wait::until("the rotation to go on", || {
            self.primary.any().carrack(&self.primary.token, &["ca", "resume"]).output_or_reason()
        });
    }

    fn wait_for_activation(&self, id: u64) {
        wait::until_within("the new root to be active", PATIENCE, || {
            let status = self.status()?;
            let is_over = status["LastRotation"]["ID"] == id;
            let rotation = &status["Rotation"];
            let is_active = rotation["ID"] == id && rotation["ActivatedAt"].is_string();
            wait::holds(is_over || is_active, || rotation.to_string())
        });
    }

    fn wait_until_over(&self, id: u64) {
        wait::until_within("the rotation to be over", PATIENCE, || {
            let status = self.status()?;
            let last = &status["LastRotation"];
            wait::holds(status["Rotation"].is_null() && last["ID"] == id, || status["Rotation"].to_string())?;
            wait::holds(last["Phase"] == "finished", || last.to_string())
        });
    }

    /// Every workload shows a leaf under the active root.
    fn wait_until_drained(&self) {
        let active = wait::until("an active root", || {
            let status = self.status()?;
            let roots = status["Roots"].as_array().cloned().unwrap_or_default();
            let active = roots.into_iter().find(|root| root["Phase"] == "active").ok_or("none")?;
            Ok(active["ID"].as_str().unwrap_or_default().to_owned())
        });
        wait::until("every leaf to be under it", || {
            let left = self.mesh.workloads().filter(|workload| root_of(&workload.leaf()) != active).count();
            wait::holds(left == 0, || format!("{left} leaves are under another root"))
        });
    }

    /// The newest leaf of one workload of each datacenter, by OpenSSL and GnuTLS, and by Python at the end: by the roots of before, and of now.
    fn check_chains(&mut self, number: usize, phase: &str, former: &[Vec<u8>]) {
        for (place, host) in self.mesh.hosts().to_vec().iter().enumerate() {
            let directory = self.directory.path().join(format!("{number}-{phase}-{place}"));
            std::fs::create_dir_all(&directory).expect("a directory can be made");
            let write = |name: &str, text: String| {
                let path = directory.join(name).display().to_string();
                std::fs::write(&path, text).expect("a file can be written");
                path
            };
            let leaf = leaf_of(host, number);
            let certificates = pem::decode_certificates(&leaf.chain_pem).expect("a chain is PEM");
            let encode = |ders: &[&[u8]]| {
                ders.iter().map(|der| pem::encode(pem::CERTIFICATE, &(*der).to_vec().into())).collect::<String>()
            };
            let ders: Vec<&[u8]> = certificates.iter().map(|der| der.as_bytes()).collect();
            let (leaf_file, chain) = (write("leaf.pem", encode(&ders[..1])), write("chain.pem", encode(&ders[1..])));
            let full = write("full.pem", leaf.chain_pem.clone());
            let now = host.bundle();
            let now: Vec<&[u8]> = now.iter().map(|der| der.as_ref()).collect();
            let before: Vec<&[u8]> = former.iter().map(Vec::as_slice).collect();
            for roots in [write("before.pem", encode(&before)), write("now.pem", encode(&now))] {
                for purpose in ["sslserver", "sslclient"] {
                    let how = ["verify", "-x509_strict", "-purpose", purpose, "-no-CApath", "-CAfile", &roots];
                    expect_openssl(&[&how[..], &["-untrusted", &chain, &leaf_file]].concat());
                }
                assert_trusted(&full, &roots);
                self.for_python.extend([roots, chain.clone(), leaf_file.clone(), leaf.uri.clone()]);
            }
        }
    }
}

fn leaf_of(host: &Host, number: usize) -> Arc<Leaf> {
    host.workloads()[number].leaf()
}

/// The key id of the root above a leaf, as the API writes it.
fn root_of(leaf: &Leaf) -> String {
    let certificates = pem::decode_certificates(&leaf.chain_pem).expect("a chain is PEM");
    let issuer = CertificateFacts::read(certificates[1].as_bytes()).expect("an issuer can be read");
    issuer.authority_key_id.expect("an issuer names its root").to_string()
}

/// Kills the leader, and starts it again when another one leads.
fn kill_leader(cluster: &mut Cluster) {
    let leader = cluster.leader();
    cluster.server(&leader).kill();
    wait::until("another leader", || {
        let status = cluster.any().status(&cluster.token)?;
        let found = status["Leader"]["NodeName"].as_str().unwrap_or_default().to_owned();
        wait::holds(!found.is_empty() && found != leader, || status["Leader"].to_string())
    });
    cluster.server(&leader).start(Start::Again);
}

/// OpenSSL as one more client: it opens connections to workloads, one after the other.
struct ByOpenssl {
    is_over: Arc<AtomicBool>,
    shaken: Arc<AtomicU64>,
    thread: thread::JoinHandle<Result<(), String>>,
}

impl ByOpenssl {
    fn start(mesh: &Mesh, directory: &Path) -> Self {
        let (is_over, shaken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (hosts, path) = (mesh.hosts().to_vec(), directory.join("openssl"));
        std::fs::create_dir_all(&path).expect("a directory can be made");
        let (ends, counts) = (is_over.clone(), shaken.clone());
        let thread = thread::spawn(move || {
            for number in (0..WORKLOADS).cycle() {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                connect(&hosts[number % 2], &hosts[number / 2 % 2], number, &path)?;
                counts.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        Self { is_over, shaken, thread }
    }

    fn end(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the thread ends").unwrap_or_else(|error| panic!("{error}"));
        self.shaken.load(Ordering::Relaxed)
    }
}

fn connect(from: &Host, to: &Host, number: usize, directory: &Path) -> Result<(), String> {
    let write = |name: &str, text: &str| {
        let path = directory.join(name).display().to_string();
        std::fs::write(&path, text).map_err(|error| error.to_string()).map(|()| path)
    };
    let leaf = leaf_of(from, number);
    let bundle: String = from.bundle().iter().map(|der| pem::encode(pem::CERTIFICATE, &der.to_vec().into())).collect();
    let (chain, key, roots) =
        (write("chain.pem", &leaf.chain_pem)?, write("key.pem", &leaf.key_pem)?, write("roots.pem", &bundle)?);
    let (address, name) = (to.accepts.to_string(), format!("service-{number}.mesh.test"));
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address, "-servername", &name, "-tls1_3", "-quiet", "-no_ign_eof"]);
    command.args(["-verify_return_error", "-verify", "8", "-no-CApath", "-CAfile", &roots]);
    command.args(["-cert", &chain, "-cert_chain", &chain, "-key", &key]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| error.to_string())?;
    let mut question = child.stdin.take().ok_or("there is no way in")?;
    // The end of what it sends comes after the answer: the workload has taken the client's certificate by then.
    std::io::Write::write_all(&mut question, b"?").map_err(|error| error.to_string())?;
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    drop(question);
    if output.stdout.contains(&b'!') {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Err(format!("OpenSSL's client to {name}: {text}"))
}
