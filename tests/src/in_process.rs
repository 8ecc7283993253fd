//! Servers inside the test's own process, for what cannot be done to a process from outside: a wrong clock, a key maker of one's own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use carrack::{
    config::{self, Config, Layers, LogFormat, LogSettings, Purpose},
    server::{
        Server, ServerPorts, Start,
        federation_token::{FEDERATION_TOKEN_TTL_DEFAULT, create_federation_token},
        join_token::{JOIN_TOKEN_TTL_DEFAULT, create_join_token},
        ports::MachineClock,
    },
    telemetry::logs::{self, FILTER_VARIABLE},
};
use carrack_authority::{issuer::IssuerPhase, spiffe::Name, time::Timestamp};
use carrack_raft::ports::{Fatal, WallClock};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{http::Http, ports::free_address};

/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The names of the servers, in the order in which they join.
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// The machine's clock, wrong by what a test says.
#[derive(Clone, Debug, Default)]
pub struct WrongClock(Arc<AtomicI64>);

impl WrongClock {
    /// Sets how many seconds it is ahead; negative: behind.
    pub fn set_ahead(&self, seconds: i64) {
        self.0.store(seconds * 1000, Ordering::SeqCst);
    }
}

impl WallClock for WrongClock {
    fn now(&self) -> Timestamp {
        Timestamp(MachineClock.now().0.saturating_add_signed(self.0.load(Ordering::SeqCst)))
    }
}

/// A server of this process that can be stopped and started.
pub struct Place {
    /// Its name.
    pub name: String,
    /// Its clock.
    pub clock: WrongClock,
    /// The server, while it runs.
    pub server: Option<Server>,
    config: Config,
}

/// Further settings of each server, by their keys.
type Settings = Vec<(&'static str, String)>;

/// A datacenter of this process.
pub struct Datacenter {
    /// The servers.
    pub places: Vec<Place>,
    name: String,
    settings: Settings,
    directory: TempDir,
}

impl Place {
    fn new(name: &str, datacenter: &str, settings: &Settings, directory: &Path) -> Self {
        let at = || free_address().to_string();
        let mut flags = BTreeMap::from([
            ("data_dir", directory.join(name).display().to_string()),
            ("node_name", name.to_owned()),
            ("datacenter", datacenter.to_owned()),
            ("without_recovery", "true".to_owned()),
            ("listen.raft", at()),
            ("listen.grpc", at()),
            ("listen.wan", at()),
            ("listen.http", at()),
            ("listen.https", "off".to_owned()),
        ]);
        flags.extend(settings.iter().map(|(key, value)| (*key, value.clone())));
        let layers = Layers { file: None, environment: BTreeMap::new(), flags };
        let config = config::load(&layers, Purpose::Bootstrap).expect("the settings are right").config;
        Self { name: name.into(), clock: WrongClock::default(), server: None, config }
    }

    /// Where it keeps its data.
    pub fn data_directory(&self) -> &PathBuf {
        &self.config.data_dir
    }

    /// A client of its plain HTTP listener.
    ///
    /// # Panics
    /// Panics if it has none.
    pub fn client(&self) -> Http {
        Http::new(self.config.listen.http.expect("it listens for plain HTTP"))
    }

    /// Starts it.
    pub async fn start(&mut self, start: Start) -> anyhow::Result<()> {
        // A test's runtime that ends takes a server's tasks one by one; that must not end the process of the other tests.
        let name = self.name.clone();
        let fatal: Fatal = Arc::new(move |reason| tracing::error!("server {name} cannot go on: {reason}"));
        let wall_clock = Arc::new(self.clock.clone());
        let ports = ServerPorts { wall_clock, fatal, ..ServerPorts::of_machine()? };
        self.server = Some(Server::start(self.config.clone(), start, ports).await?);
        Ok(())
    }

    /// Stops it cleanly.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }

    /// The running server.
    ///
    /// # Panics
    /// Panics if it does not run.
    pub fn running(&self) -> &Server {
        self.server.as_ref().expect("the server runs")
    }
}

impl Datacenter {
    /// A datacenter of `size` servers that all issue.
    pub async fn form(size: usize) -> anyhow::Result<Self> {
        Self::begin(size, "dc1", Settings::new(), Start::Bootstrap).await
    }

    /// A secondary of `size` servers with these settings that all issue.
    pub async fn form_secondary(
        size: usize,
        name: &str,
        settings: &[(&'static str, &str)],
        primary: &Self,
    ) -> anyhow::Result<Self> {
        let context = primary.places[0].running().context();
        let datacenter = Name::parse("datacenter", name)?;
        let token = create_federation_token(context, datacenter, FEDERATION_TOKEN_TTL_DEFAULT).await?.0;
        let settings = settings.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        Self::begin(size, name, settings, Start::BootstrapSecondary(token)).await
    }

    async fn begin(size: usize, name: &str, settings: Settings, start: Start) -> anyhow::Result<Self> {
        show_logs();
        let directory = tempfile::tempdir()?;
        let mut first = Place::new(NAMES[0], name, &settings, directory.path());
        first.start(start).await?;
        let mut datacenter = Self { places: vec![first], name: name.into(), settings, directory };
        datacenter.wait_until_all_issue().await?;
        for name in &NAMES[1..size] {
            datacenter.add(name).await?;
        }
        Ok(datacenter)
    }

    /// Adds a server, and waits until everybody votes and issues.
    pub async fn add(&mut self, name: &str) -> anyhow::Result<()> {
        let mut place = Place::new(name, &self.name, &self.settings, self.directory.path());
        let first = self.places[0].running().context();
        let token = create_join_token(first, Name::parse("node name", name)?, JOIN_TOKEN_TTL_DEFAULT).await?.0;
        place.start(Start::Join(token)).await?;
        self.places.push(place);
        self.wait_until_all_issue().await
    }

    /// Waits until every running server votes and has an issuer, as each of them sees it.
    pub async fn wait_until_all_issue(&self) -> anyhow::Result<()> {
        let size = self.places.len();
        until("every server votes and issues", || {
            self.places.iter().filter_map(|place| place.server.as_ref()).all(|server| {
                let context = server.context();
                let applied = context.replica.state();
                let live = applied.state.issuers().filter(|issuer| issuer.phase == IssuerPhase::Live).count();
                context.replica.status().leadership.membership.voters.len() == size
                    && live >= size
                    && context.desk.issuer().is_some()
            })
        })
        .await
    }

    /// The position of the leader.
    pub async fn leader(&self) -> anyhow::Result<usize> {
        let mut found = None;
        until("a leader that admits commands", || {
            found = self.places.iter().position(|place| {
                place
                    .server
                    .as_ref()
                    .is_some_and(|server| server.context().replica.status().leadership.is_ready_leader())
            });
            found.is_some()
        })
        .await?;
        found.ok_or_else(|| anyhow::anyhow!("no server leads"))
    }
}

/// Prints what the servers log, if a filter is set in [`FILTER_VARIABLE`]: for whoever looks for the cause of a failure.
fn show_logs() {
    if let Ok(level) = std::env::var(FILTER_VARIABLE) {
        // Another test of this process may have begun it already.
        drop(logs::init(&LogSettings { format: LogFormat::Json, level }, None));
    }
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        anyhow::ensure!(Instant::now() < deadline, "it did not come true within {} s: {what}", PATIENCE.as_secs());
        sleep(LOOK).await;
    }
    Ok(())
}
