//! `carrack dev`: three servers in one process, formed as an operator would form them, with a first leaf at the end.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use carrack_authority::{issuer::IssuerPhase, key::KeyKind, spiffe::Name};
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
    keys::sealing::Sealer,
    server::{
        Server, ServerPorts, Start, StartError,
        join_token::{CreateJoinTokenError, create_join_token},
    },
};

/// The servers, and how far apart their ports are.
const SERVERS: [&str; 3] = ["a", "b", "c"];
const PORT_STEP: u16 = 10;
/// The sample service.
const SERVICE: &str = "web";
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
        name: &'static str,
        /// Why.
        source: StartError,
    },
    /// A join token was not made.
    #[error("no join token was made for server {name}")]
    JoinToken {
        /// For which.
        name: &'static str,
        /// Why.
        source: CreateJoinTokenError,
    },
    /// The datacenter did not form in time.
    #[error("the datacenter did not form within {} s: {state}", FORM_WITHIN.as_secs())]
    NotFormed {
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
    let (directory, _temporary) = directory(options.data_dir)?;
    let dev = Dev { directory, port_offset: options.port_offset };
    let servers = dev.form(progress).await?;
    let token = dev.management_token(progress).await?;
    dev.write_environment(&token)?;
    dev.sample_leaf(&token, progress).await?;
    progress.end(&format!("ready after {:.1} s", began.elapsed().as_secs_f64()));
    dev.explain(&token, output)?;
    // Without the signal the process cannot be asked to stop cleanly: it would just be killed, which is safe too.
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::error!(%error, "cannot wait for Ctrl-C");
        std::future::pending::<()>().await;
    }
    progress.begin("stopping");
    for server in servers {
        server.stop().await;
    }
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

struct Dev {
    directory: PathBuf,
    port_offset: u16,
}

impl Dev {
    /// The three servers as one datacenter: the first creates it, the others join with a token each.
    async fn form(&self, progress: &mut dyn Progress) -> Result<Vec<Server>, DevError> {
        let mut servers: Vec<Server> = Vec::new();
        for (position, name) in SERVERS.into_iter().enumerate() {
            let config = self.config(position)?;
            let is_new = !config.data_dir.join("identity.toml").exists();
            progress.begin(&format!("server {name}: {}", if is_new { "joining" } else { "starting" }));
            let start = match (is_new, servers.first()) {
                (false, _) => Start::Again,
                (true, None) => Start::Bootstrap,
                (true, Some(first)) => {
                    wait_until(|| has_begun(first), || "no leader".into()).await?;
                    let node = Name::parse("node name", name).expect("the names are in the grammar");
                    let made = create_join_token(first.context(), node, FORM_WITHIN).await;
                    Start::Join(made.map_err(|source| DevError::JoinToken { name, source })?.0)
                }
            };
            let ports =
                ServerPorts::of_machine().map_err(|source| DevError::File { path: self.directory.clone(), source })?;
            let server = Server::start(config, start, ports).await;
            servers.push(server.map_err(|source| DevError::Start { name, source })?);
        }
        progress.begin("three voters, each with an issuer");
        wait_until(|| servers.iter().all(is_complete), || incomplete(&servers)).await?;
        Ok(servers)
    }

    /// The configuration of one server, by the settings that an operator would give.
    fn config(&self, position: usize) -> Result<Config, DevError> {
        let step = u16::try_from(position).unwrap_or_default() * PORT_STEP + self.port_offset;
        let at = |port: u16| format!("127.0.0.1:{}", port + step);
        let name = SERVERS[position];
        let flags = [
            ("data_dir", self.directory.join(name).display().to_string()),
            ("datacenter", "dc1".into()),
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
        let client = self.client(None)?;
        let made: Value = client.write("/v1/acl/bootstrap", &json!({})).await?;
        let secret = Zeroizing::new(made["SecretID"].as_str().unwrap_or_default().to_owned());
        self.write(TOKEN, format!("{}\n", *secret).as_bytes())?;
        Ok(secret)
    }

    fn write_environment(&self, token: &str) -> Result<(), DevError> {
        let text = format!(
            "export CARRACK_HTTP_ADDR='{}'\nexport CARRACK_TOKEN='{token}'\nexport CARRACK_CACERT='{}'\n",
            self.address(),
            self.directory.join(SERVERS[0]).join("server-ca.pem").display()
        );
        self.write(ENVIRONMENT, text.as_bytes())
    }

    /// The first leaf, as an operator gets one with `carrack leaf get`.
    async fn sample_leaf(&self, token: &str, progress: &mut dyn Progress) -> Result<(), DevError> {
        progress.begin(&format!("a leaf for the service {SERVICE}"));
        let arguments = LeafGetArgs {
            service: Name::parse("service", SERVICE).expect("it is in the grammar"),
            out: self.directory.join(SERVICE),
            key: KeyKind::EcP256,
            request: RequestArgs { slot: Some("dev".into()), ttl: None },
            datacenter: None,
        };
        let mut unseen = Vec::new();
        arguments.run(&self.client(Some(token))?, &mut Output::new(Format::Table, &mut unseen)).await?;
        Ok(())
    }

    fn explain(&self, token: &str, output: &mut (dyn Write + Send)) -> Result<(), DevError> {
        let (directory, leaf) = (self.directory.display(), self.directory.join(SERVICE));
        let leaf = leaf.display();
        let text = format!(
            "\nA datacenter of three servers runs in this process, and issues.\n\n  \
             HTTP API          {}\n  \
             Management token  {token}\n  \
             Data              {directory} (recovery key: {RECOVERY})\n  \
             First leaf        {leaf}/{SERVICE}.pem\n\n\
             In a second terminal:\n\n  \
             source {directory}/{ENVIRONMENT}\n  \
             openssl verify -CAfile {leaf}/roots.pem -untrusted {leaf}/chain.pem {leaf}/{SERVICE}.pem\n  \
             carrack status\n  \
             carrack leaf get api --out ./api\n\n\
             Ctrl-C stops it.\n",
            self.address()
        );
        let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
        written.map_err(|source| DevError::File { path: "standard output".into(), source })
    }

    fn address(&self) -> String {
        format!("http://127.0.0.1:{}", 8500 + self.port_offset)
    }

    fn client(&self, token: Option<&str>) -> Result<Client, DevError> {
        let (address, token) = (self.address(), token.map(str::to_owned));
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

fn has_begun(server: &Server) -> bool {
    server.context().replica.state().state.cluster().is_some()
}

/// Whether this server sees every server vote and issue, itself too.
fn is_complete(server: &Server) -> bool {
    let context = server.context();
    let issuing = context.replica.state();
    let issuers = issuing.state.issuers().filter(|issuer| issuer.phase == IssuerPhase::Live).count();
    context.replica.status().leadership.membership.voters.len() == SERVERS.len()
        && issuers >= SERVERS.len()
        && context.desk.issuer().is_some()
}

/// What is still missing, in words.
fn incomplete(servers: &[Server]) -> String {
    let mut texts = Vec::new();
    for server in servers.iter().filter(|server| !is_complete(server)) {
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

async fn wait_until(is_so: impl Fn() -> bool, state: impl Fn() -> String) -> Result<(), DevError> {
    let deadline = Instant::now() + FORM_WITHIN;
    while !is_so() {
        if Instant::now() > deadline {
            return Err(DevError::NotFormed { state: state() });
        }
        sleep(LOOK).await;
    }
    Ok(())
}
