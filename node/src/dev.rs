//! `carrack dev`: datacenters of servers in one process, formed as an operator would form them; at the end a service of one speaks with
//! a service of another.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use carrack_authority::{
    acl::token::secret_digest,
    issuer::IssuerPhase,
    key::KeyKind,
    spiffe::{Name, TrustDomain},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use crate::{
    cli::{
        client::Client,
        connection::Connection,
        error::CliError,
        files,
        leaf::{LeafGetArgs, RequestArgs},
        output::{Format, Output},
    },
    config::{self, Config, ConfigError, Layers, Purpose},
    keys::{aws_lc::AwsLcKeyMaker, sealing::Sealer, secret::KeyMaker, server_keys::ServerCredential},
    server::{
        Server, ServerPorts, Start, StartError,
        federation_token::{CreateFederationTokenError, create_federation_token},
        join_token::{CreateJoinTokenError, create_join_token},
    },
    tls::workload::{Verified, Workload, shake_hands},
};

/// The names of the servers of a datacenter, in the order in which they join; there may be as many.
const SERVERS: [&str; 5] = ["a", "b", "c", "d", "e"];
/// How far apart the ports of two servers, and of two datacenters, are.
const PORT_STEP: u16 = 10;
const DATACENTER_STEP: u16 = 1000;
/// The most datacenters: their ports stay apart from each other's.
pub const DATACENTERS_MAX: u8 = 8;
/// The most servers of one datacenter.
pub const SERVERS_MAX: u8 = 5;
/// The sample services: one of the first datacenter, and one of the last, which calls it.
const SERVICE: &str = "web";
const CALLER: &str = "api";
/// How long the datacenter may take to form.
const FORM_WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked at while it forms.
const LOOK: Duration = Duration::from_millis(50);

/// The file with the address, the token and the server CA for a second terminal.
const ENVIRONMENT: &str = "env";
/// The file with the management token.
const TOKEN: &str = "management.token";
/// The file with the recovery key.
const RECOVERY: &str = "recovery.key";

/// What `carrack dev` is asked for.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// Where everything is kept; `None`: a temporary directory that goes with the process.
    pub data_dir: Option<PathBuf>,
    /// Added to every port, so that two of them can run.
    pub port_offset: u16,
    /// How many datacenters: the first is the primary.
    pub datacenters: u8,
    /// How many servers each has.
    pub servers: u8,
}

/// `carrack dev` failed.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// A directory or file.
    #[error("cannot use {path}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A server did not start.
    #[error("server {name} did not start")]
    Start {
        /// Which.
        name: String,
        /// Why.
        source: Box<StartError>,
    },
    /// A join token was not made.
    #[error("no join token was made for server {name}")]
    JoinToken {
        /// For which.
        name: String,
        /// Why.
        source: CreateJoinTokenError,
    },
    /// A federation token was not made.
    #[error("no federation token was made for datacenter {name}")]
    FederationToken {
        /// For which.
        name: Name,
        /// Why.
        source: CreateFederationTokenError,
    },
    /// The services could not speak with each other.
    #[error("the services {CALLER} and {SERVICE} cannot connect")]
    Handshake(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The datacenter did not form in time.
    #[error("datacenter {name} did not form within {} s: {state}", FORM_WITHIN.as_secs())]
    NotFormed {
        /// Which.
        name: Name,
        /// What was still missing.
        state: String,
    },
    /// A command that an operator would give failed.
    #[error(transparent)]
    Command(#[from] CliError),
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The recovery key could not be made.
    #[error("no recovery key was made")]
    Recovery(#[source] crate::keys::sealing::SealError),
}

/// Runs until it is interrupted.
pub async fn run(
    options: DevOptions,
    progress: &mut dyn Progress,
    output: &mut (dyn Write + Send),
) -> Result<(), DevError> {
    let began = Instant::now();
    let (directory, _temporary) = directory(options.data_dir.clone())?;
    let dev = Dev { directory, options };
    let mut datacenters: Vec<Datacenter> = Vec::new();
    for position in 0..dev.options.datacenters {
        let datacenter = dev.form(position, datacenters.first(), progress).await?;
        datacenters.push(datacenter);
    }
    let token = dev.management_token(progress).await?;
    dev.write_environment(&token)?;
    let handshake = dev.sample(&datacenters, &token, progress).await?;
    progress.end(&format!("ready after {:.1} s", began.elapsed().as_secs_f64()));
    dev.explain(&token, &handshake, output)?;
    // Without the signal the process cannot be asked to stop cleanly: it would just be killed, which is safe too.
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::error!(%error, "cannot wait for Ctrl-C");
        std::future::pending::<()>().await;
    }
    progress.begin("stopping");
    let servers = datacenters.into_iter().flat_map(|datacenter| datacenter.servers);
    futures::future::join_all(servers.map(Server::stop)).await;
    progress.end("stopped");
    Ok(())
}

/// Shows what is being done.
pub trait Progress {
    /// A step begins.
    fn begin(&mut self, step: &str);
    /// The last step has ended, with this to say.
    fn end(&mut self, result: &str);
}

/// Where everything is kept, and what deletes it at the end if it is temporary.
fn directory(data_dir: Option<PathBuf>) -> Result<(PathBuf, Option<Temporary>), DevError> {
    let path = match &data_dir {
        Some(path) => path.clone(),
        None => std::env::temp_dir().join(format!("carrack-dev-{}", std::process::id())),
    };
    let made = std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700).create(&path);
    made.map_err(|source| DevError::File { path: path.clone(), source })?;
    let temporary = data_dir.is_none().then(|| Temporary(path.clone()));
    Ok((path, temporary))
}

/// A directory that goes when this does.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the temporary directory stays");
        }
    }
}

/// A datacenter that has formed.
struct Datacenter {
    name: Name,
    servers: Vec<Server>,
}

struct Dev {
    directory: PathBuf,
    options: DevOptions,
}

impl Dev {
    /// The servers of one datacenter: the first creates it, as a secondary of the primary if there is one, the others join with a
    /// token each.
    async fn form(
        &self,
        position: u8,
        primary: Option<&Datacenter>,
        progress: &mut dyn Progress,
    ) -> Result<Datacenter, DevError> {
        let name = Name::parse("datacenter", &format!("dc{}", position + 1)).expect("the names are in the grammar");
        let mut servers: Vec<Server> = Vec::new();
        let count = usize::from(self.options.servers);
        for (place, server) in SERVERS.into_iter().take(count).enumerate() {
            let config = self.config(&name, position, place)?;
            let is_new = !config.data_dir.join("identity.toml").exists();
            let shown = format!("{name}/{server}");
            progress.begin(&format!("server {shown}: {}", if is_new { "joining" } else { "starting" }));
            let start = match (is_new, servers.first(), primary) {
                (false, _, _) => Start::Again,
                (true, None, None) => Start::Bootstrap,
                (true, None, Some(primary)) => {
                    let made = create_federation_token(primary.servers[0].context(), name.clone(), FORM_WITHIN).await;
                    let made = made.map_err(|source| DevError::FederationToken { name: name.clone(), source })?;
                    Start::BootstrapSecondary(made.0)
                }
                (true, Some(first), _) => {
                    wait_until(&name, || has_begun(first), || "no leader".into()).await?;
                    let node = Name::parse("node name", server).expect("the names are in the grammar");
                    let made = create_join_token(first.context(), node, FORM_WITHIN).await;
                    Start::Join(made.map_err(|source| DevError::JoinToken { name: shown.clone(), source })?.0)
                }
            };
            let ports =
                ServerPorts::of_machine().map_err(|source| DevError::File { path: self.directory.clone(), source })?;
            let started = Server::start(config, start, ports).await;
            servers.push(started.map_err(|source| DevError::Start { name: shown, source: Box::new(source) })?);
        }
        progress.begin(&format!("datacenter {name}: {count} voters, each with an issuer"));
        let is_formed = || servers.iter().all(|server| is_complete(server, count));
        wait_until(&name, is_formed, || incomplete(&servers, count)).await?;
        Ok(Datacenter { name, servers })
    }

    /// The configuration of one server, by the settings that an operator would give.
    fn config(&self, datacenter: &Name, position: u8, place: usize) -> Result<Config, DevError> {
        let place_step = u16::try_from(place).unwrap_or_default() * PORT_STEP;
        let step = place_step + u16::from(position) * DATACENTER_STEP + self.options.port_offset;
        let at = |port: u16| format!("127.0.0.1:{}", port + step);
        let name = SERVERS[place];
        let flags = [
            ("data_dir", self.directory.join(datacenter.as_str()).join(name).display().to_string()),
            ("datacenter", datacenter.to_string()),
            ("node_name", name.into()),
            ("recovery_recipient", self.recovery()?),
            ("listen.raft", at(8300)),
            ("listen.grpc", at(8503)),
            ("listen.wan", at(8302)),
            ("listen.http", at(8500)),
            ("listen.https", at(8501)),
        ];
        let layers = Layers { file: None, environment: BTreeMap::new(), flags: BTreeMap::from(flags) };
        Ok(config::load(&layers, Purpose::Bootstrap)?.config)
    }

    /// The public half of the recovery key, which is made at the first start.
    fn recovery(&self) -> Result<String, DevError> {
        let sealer = crate::keys::sealing::AgeSealer;
        let path = self.directory.join(RECOVERY);
        if let Some(text) = self.read(RECOVERY)? {
            let key = text.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
            return Ok(sealer.read_identity(key).map_err(DevError::Recovery)?.recipient().to_string());
        }
        let identity = sealer.generate().map_err(DevError::Recovery)?;
        let text = format!("# Opens the root keys of this development datacenter (age).\n{}\n", identity.expose_text());
        self.write(RECOVERY, text.as_bytes())?;
        tracing::debug!(path = %path.display(), "the recovery key");
        Ok(identity.recipient().to_string())
    }

    /// The management token: that of the last start, or a new one.
    async fn management_token(&self, progress: &mut dyn Progress) -> Result<Zeroizing<String>, DevError> {
        if let Some(token) = self.read(TOKEN)? {
            return Ok(Zeroizing::new(token.trim().to_owned()));
        }
        progress.begin("a management token");
        let client = self.client(0, None)?;
        let made: Value = client.write("/v1/acl/bootstrap", &json!({})).await?;
        let secret = Zeroizing::new(made["SecretID"].as_str().unwrap_or_default().to_owned());
        self.write(TOKEN, format!("{}\n", *secret).as_bytes())?;
        Ok(secret)
    }

    fn write_environment(&self, token: &str) -> Result<(), DevError> {
        let text = format!(
            "export CARRACK_HTTP_ADDR='{}'\nexport CARRACK_TOKEN='{token}'\nexport CARRACK_CACERT='{}'\n",
            self.address(0),
            self.directory.join("dc1").join(SERVERS[0]).join("server-ca.pem").display()
        );
        self.write(ENVIRONMENT, text.as_bytes())
    }

    /// A service of the first datacenter and one of the last, each with a leaf as an operator gets one, and the handshake between them.
    async fn sample(
        &self,
        datacenters: &[Datacenter],
        token: &str,
        progress: &mut dyn Progress,
    ) -> Result<String, DevError> {
        let Some(last) = datacenters.last() else { return Ok(String::new()) };
        let position = self.options.datacenters.saturating_sub(1);
        progress.begin(&format!("a leaf for the service {SERVICE}"));
        self.leaf(0, SERVICE, token).await?;
        progress.begin(&format!("a leaf for the service {CALLER} of {}", last.name));
        let digest = uuid::Uuid::try_parse(token).ok().map(|token| secret_digest(&token));
        let is_known = || {
            let replica = &last.servers[0].context().replica;
            digest.is_some_and(|digest| {
                replica.state().state.acl().token_of_secret(&digest, replica.log_time()).is_some()
            })
        };
        wait_until(&last.name, is_known, || "the management token has not come from the primary".into()).await?;
        self.leaf(position, CALLER, token).await?;
        progress.begin(&format!("{CALLER} of {} connects to {SERVICE} of dc1", last.name));
        self.handshake(&last.servers[0]).await
    }

    /// A leaf as an operator gets one with `carrack leaf get`.
    async fn leaf(&self, position: u8, service: &str, token: &str) -> Result<(), DevError> {
        let arguments = LeafGetArgs {
            service: Name::parse("service", service).expect("it is in the grammar"),
            out: self.directory.join(service),
            key: KeyKind::EcP256,
            request: RequestArgs { slot: Some("dev".into()), ttl: None },
            datacenter: None,
        };
        let mut unseen = Vec::new();
        arguments.run(&self.client(position, Some(token))?, &mut Output::new(Format::Table, &mut unseen)).await?;
        Ok(())
    }

    /// Connects the two services by mutual TLS with the files that they were given, and tells what each has seen.
    async fn handshake(&self, server: &Server) -> Result<String, DevError> {
        let context = server.context();
        let trust_domain = &context.identity.trust_domain;
        let (called, caller) = (self.workload(SERVICE, trust_domain)?, self.workload(CALLER, trust_domain)?);
        let shaken = shake_hands(&called, &caller, context.replica.log_time()).await;
        let (seen_by_called, seen_by_caller) = shaken.map_err(|error| DevError::Handshake(Box::new(error)))?;
        Ok(format!("{}{}", shown(SERVICE, &seen_by_called), shown(CALLER, &seen_by_caller)))
    }

    fn workload(&self, service: &str, trust_domain: &TrustDomain) -> Result<Workload, DevError> {
        let file = |name: &str| -> Result<Zeroizing<String>, DevError> {
            let path = self.directory.join(service).join(name);
            std::fs::read_to_string(&path).map(Zeroizing::new).map_err(|source| DevError::File { path, source })
        };
        let key = AwsLcKeyMaker.import(&file(&format!("{service}.key"))?);
        let key = key.map_err(|error| DevError::Handshake(Box::new(error)))?;
        let chain_pem = file(&format!("{service}.pem"))?.to_string();
        let credential = ServerCredential { key, chain_pem };
        let workload = Workload::new(credential, &file("roots.pem")?, trust_domain.clone());
        workload.map_err(|error| DevError::Handshake(Box::new(error)))
    }

    fn explain(&self, token: &str, handshake: &str, output: &mut (dyn Write + Send)) -> Result<(), DevError> {
        let (directory, leaf) = (self.directory.display(), self.directory.join(SERVICE));
        let leaf = leaf.display();
        let DevOptions { datacenters, servers, .. } = self.options;
        let addresses: Vec<String> =
            (0..datacenters).map(|position| format!("{} (dc{})", self.address(position), position + 1)).collect();
        let text = format!(
            "\nDatacenters: {datacenters}, with {servers} servers each, in this process; every server issues.\n\n{handshake}\n  \
             HTTP API          {}\n  \
             Management token  {token}\n  \
             Data              {directory} (recovery key: {RECOVERY})\n  \
             First leaf        {leaf}/{SERVICE}.pem\n\n\
             In a second terminal:\n\n  \
             source {directory}/{ENVIRONMENT}\n  \
             openssl verify -CAfile {leaf}/roots.pem -untrusted {leaf}/chain.pem {leaf}/{SERVICE}.pem\n  \
             carrack status\n  \
             carrack federation show\n  \
             carrack leaf get db --out ./db\n\n\
             Ctrl-C stops it.\n",
            addresses.join(" ")
        );
        let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
        written.map_err(|source| DevError::File { path: "standard output".into(), source })
    }

    fn address(&self, position: u8) -> String {
        format!("http://127.0.0.1:{}", 8500 + self.options.port_offset + u16::from(position) * DATACENTER_STEP)
    }

    fn client(&self, position: u8, token: Option<&str>) -> Result<Client, DevError> {
        let (address, token) = (self.address(position), token.map(str::to_owned));
        Ok(Client::new(Connection { address, token, cacert: None })?)
    }

    fn read(&self, name: &str) -> Result<Option<Zeroizing<String>>, DevError> {
        let path = self.directory.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(Zeroizing::new(text))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DevError::File { path, source }),
        }
    }

    /// Writes a file that only its owner may read.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), DevError> {
        files::write_all(Path::new(&self.directory), &[(name.to_owned(), bytes)])?;
        Ok(())
    }
}

/// What one side has verified of the other, a line for each certificate.
fn shown(by: &str, seen: &Verified) -> String {
    let mut text = format!("  {by} has verified {}\n", seen.id);
    for facts in &seen.presented {
        let kind = if facts.is_ca { "issuer" } else { "leaf  " };
        let signed_by = facts.authority_key_id.map_or_else(|| "unknown".into(), |id| id.to_string());
        text.push_str(&format!("      {kind} {}\n        by   {signed_by}\n", facts.public_key.id));
    }
    text
}

fn has_begun(server: &Server) -> bool {
    server.context().replica.state().state.cluster().is_some()
}

/// Whether this server sees every server vote and issue, itself too.
fn is_complete(server: &Server, count: usize) -> bool {
    let context = server.context();
    let issuing = context.replica.state();
    let issuers = issuing.state.issuers().filter(|issuer| issuer.phase == IssuerPhase::Live).count();
    context.replica.status().leadership.membership.voters.len() == count
        && issuers >= count
        && context.desk.issuer().is_some()
}

/// What is still missing, in words.
fn incomplete(servers: &[Server], count: usize) -> String {
    let mut texts = Vec::new();
    for server in servers.iter().filter(|server| !is_complete(server, count)) {
        let context: &Arc<crate::server::context::Context> = server.context();
        let status = context.replica.status();
        let troubles: Vec<String> =
            context.troubles.list().into_iter().map(|(task, text)| format!("{task}: {text}")).collect();
        let issues = if context.desk.issuer().is_some() { "issues" } else { "has no issuer" };
        texts.push(format!(
            "server {} sees {} voters and {issues}; {}",
            context.identity.name,
            status.leadership.membership.voters.len(),
            troubles.join("; ")
        ));
    }
    texts.join(" | ")
}

async fn wait_until(name: &Name, is_so: impl Fn() -> bool, state: impl Fn() -> String) -> Result<(), DevError> {
    let deadline = Instant::now() + FORM_WITHIN;
    while !is_so() {
        if Instant::now() > deadline {
            return Err(DevError::NotFormed { name: name.clone(), state: state() });
        }
        sleep(LOOK).await;
    }
    Ok(())
}
