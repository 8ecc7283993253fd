//! The metrics of one server or agent, in a registry of its own: several can live in one process.

mod host;

use std::{
    fmt,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use carrack_authority::{id::NodeId, time::Timestamp};
use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::Registry,
};

pub use self::host::AgentReading;
use self::host::{AgentMetrics, AgentsMetrics, HostMetrics};
use super::{
    expiry::WatchedCertificate,
    labels::{
        IssuanceOutcome, OfCertificate, OfNode, OfOutcome, OfPort, OfPortAndReason, OfQueue, OfReason, OfRole, OfTable,
        Port, Queue, RaftRole,
    },
};

/// Latencies are counted in buckets from 50 microseconds (one signature) by doubling to 13 s (beyond every deadline).
const LATENCY_FIRST: f64 = 50e-6;
const LATENCY_BUCKETS: u16 = 19;

/// What a server or agent counts and measures. Cloning the values inside is cheap; one `Metrics` belongs to one of them.
pub struct Metrics {
    registry: Registry,
    issuances: Family<OfOutcome, Counter>,
    issuance_rejections: Family<OfReason, Counter>,
    sign_seconds: Histogram,
    commit_seconds: Histogram,
    raft_role: Family<OfRole, Gauge>,
    raft_term: Gauge,
    raft_last_log_index: Gauge,
    raft_committed_index: Gauge,
    raft_applied_index: Gauge,
    raft_snapshot_index: Gauge,
    raft_replication_lag: Family<OfNode, Gauge>,
    log_bytes: Gauge,
    followed_revision: Family<OfTable, Gauge>,
    followed_lag: Family<OfTable, Gauge>,
    followed_silent: Family<OfTable, Gauge>,
    followed_open: Family<OfTable, Gauge>,
    unsigned_issuers: Gauge,
    connections: Family<OfPort, Gauge>,
    connections_refused: Family<OfPortAndReason, Counter>,
    handshakes_refused: Family<OfPortAndReason, Counter>,
    expired_peers_accepted: Counter,
    queue_depth: Family<OfQueue, Gauge>,
    expiry: Expiry,
    host: HostMetrics,
    agent: AgentMetrics,
    agents: AgentsMetrics,
}

/// The replicated log as one server sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftReading {
    /// Its role.
    pub role: RaftRole,
    /// The term.
    pub term: u64,
    /// The last index in its log.
    pub last_log_index: u64,
    /// The last index that it knows to be committed.
    pub committed_index: u64,
    /// The last index that it has applied.
    pub applied_index: u64,
    /// The index of its last snapshot.
    pub snapshot_index: u64,
    /// On a leader: how many entries each other server is behind.
    pub lags: Vec<(NodeId, u64)>,
}

/// How a secondary follows the primary; empty in the primary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FederationReading {
    /// Each table.
    pub tables: Vec<TableReading>,
    /// On the leader: servers whose issuer was not signed at the last try.
    pub unsigned_issuers: usize,
}

/// How one table is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableReading {
    /// The table.
    pub name: &'static str,
    /// The primary's revision up to which it is here.
    pub revision: u64,
    /// How long the primary was not heard, by the log.
    pub silent_seconds: u64,
    /// On the leader: its stream.
    pub stream: Option<StreamReading>,
}

/// A stream of the leader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamReading {
    /// Whether the primary is heard on it.
    pub is_open: bool,
    /// How many revisions were missing when it was heard last.
    pub lag: u64,
}

/// The gauges that are computed when they are read. The lock keeps two readers from mixing theirs.
struct Expiry {
    watched: Mutex<Vec<WatchedCertificate>>,
    timestamp: Family<OfCertificate, Gauge>,
    remaining: Family<OfCertificate, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A server's metrics, all zero, named `carrack_...`.
    pub fn new() -> Self {
        let (mut metrics, mut registry) = (Self::unregistered(), Registry::with_prefix("carrack"));
        metrics.register_issuing(&mut registry);
        metrics.register_raft(&mut registry);
        metrics.register_federation(&mut registry);
        metrics.register_edges(&mut registry);
        registry.register("queue_depth", "What waits in a bounded queue", metrics.queue_depth.clone());
        metrics.host.register(&mut registry);
        metrics.agents.register(&mut registry);
        metrics.take(registry);
        metrics.show_zeros();
        metrics
    }

    /// An agent's metrics.
    pub fn of_agent() -> Self {
        let (mut metrics, mut registry) = (Self::unregistered(), Registry::with_prefix("carrack"));
        metrics.register_edges(&mut registry);
        metrics.host.register(&mut registry);
        metrics.agent.register(&mut registry);
        metrics.take(registry);
        metrics
    }

    fn take(&mut self, mut registry: Registry) {
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The version that runs", Info::new(version));
        self.registry = registry;
    }

    fn unregistered() -> Self {
        let latency = || Histogram::new(exponential_buckets(LATENCY_FIRST, 2.0, LATENCY_BUCKETS));
        Self {
            registry: Registry::default(),
            issuances: Family::default(),
            issuance_rejections: Family::default(),
            sign_seconds: latency(),
            commit_seconds: latency(),
            raft_role: Family::default(),
            raft_term: Gauge::default(),
            raft_last_log_index: Gauge::default(),
            raft_committed_index: Gauge::default(),
            raft_applied_index: Gauge::default(),
            raft_snapshot_index: Gauge::default(),
            raft_replication_lag: Family::default(),
            log_bytes: Gauge::default(),
            followed_revision: Family::default(),
            followed_lag: Family::default(),
            followed_silent: Family::default(),
            followed_open: Family::default(),
            unsigned_issuers: Gauge::default(),
            connections: Family::default(),
            connections_refused: Family::default(),
            handshakes_refused: Family::default(),
            expired_peers_accepted: Counter::default(),
            queue_depth: Family::default(),
            expiry: Expiry { watched: Mutex::default(), timestamp: Family::default(), remaining: Family::default() },
            host: HostMetrics::default(),
            agent: AgentMetrics::default(),
            agents: AgentsMetrics::default(),
        }
    }

    fn register_issuing(&self, registry: &mut Registry) {
        registry.register("issuances", "Requests for a leaf by what became of them", self.issuances.clone());
        let help = "Requests for a leaf that were refused, by reason";
        registry.register("issuance_rejections", help, self.issuance_rejections.clone());
        let help = "Time to verify a request and sign its leaf, without waiting";
        registry.register("sign_seconds", help, self.sign_seconds.clone());
        let help = "Time from proposing a command to its outcome";
        registry.register("commit_seconds", help, self.commit_seconds.clone());
        let help = "When a certificate ends, in seconds since 1970";
        registry.register("certificate_expiry_timestamp_seconds", help, self.expiry.timestamp.clone());
        let help = "Seconds until a certificate ends; negative after its end";
        registry.register("certificate_expiry_remaining_seconds", help, self.expiry.remaining.clone());
    }

    fn register_raft(&self, registry: &mut Registry) {
        registry.register("raft_role", "1 for the role that this server has", self.raft_role.clone());
        registry.register("raft_term", "The term", self.raft_term.clone());
        registry.register("raft_last_log_index", "The last index in the log", self.raft_last_log_index.clone());
        registry.register("raft_committed_index", "The last committed index", self.raft_committed_index.clone());
        registry.register("raft_applied_index", "The last applied index", self.raft_applied_index.clone());
        registry.register("raft_snapshot_index", "The index of the last snapshot", self.raft_snapshot_index.clone());
        let help = "On the leader: entries that another server is behind";
        registry.register("raft_replication_lag_entries", help, self.raft_replication_lag.clone());
        registry.register("log_bytes", "Bytes of the log on disk", self.log_bytes.clone());
    }

    fn register_federation(&self, registry: &mut Registry) {
        let help = "In a secondary: the primary's revision up to which a table is followed";
        registry.register("federation_followed_revision", help, self.followed_revision.clone());
        let help = "In a secondary: seconds of the log's time since the primary was heard on a table's stream";
        registry.register("federation_silent_seconds", help, self.followed_silent.clone());
        let help = "On a secondary's leader: revisions of the primary that were missing when it was heard last";
        registry.register("federation_lag_revisions", help, self.followed_lag.clone());
        let help = "On a secondary's leader: 1 if the primary is heard on a table's stream";
        registry.register("federation_stream_open", help, self.followed_open.clone());
        let help = "On a secondary's leader: servers whose issuer the primary did not sign at the last try";
        registry.register("federation_unsigned_issuers", help, self.unsigned_issuers.clone());
    }

    fn register_edges(&self, registry: &mut Registry) {
        registry.register("connections", "Open connections", self.connections.clone());
        let help = "Connections refused before their handshake, by reason";
        registry.register("connections_refused", help, self.connections_refused.clone());
        registry.register(
            "handshakes_refused",
            "TLS handshakes that failed, by reason",
            self.handshakes_refused.clone(),
        );
        let help = "Peers accepted by their recorded key although their certificate had expired: an alarm";
        registry.register("expired_peers_accepted", help, self.expired_peers_accepted.clone());
    }

    /// What may alarm is there from the start, so that a query finds a zero and not nothing.
    fn show_zeros(&self) {
        for outcome in IssuanceOutcome::ALL {
            drop(self.issuances.get_or_create(&OfOutcome { outcome: *outcome }));
        }
        for port in Port::ALL {
            drop(self.connections.get_or_create(&OfPort { port: *port }));
        }
    }

    /// Counts a request for a leaf.
    pub fn count_issuance(&self, outcome: IssuanceOutcome) {
        self.issuances.get_or_create(&OfOutcome { outcome }).inc();
    }

    /// Counts why a request for a leaf was refused; `reason` is a stable machine code.
    pub fn count_rejection(&self, reason: &'static str) {
        self.issuance_rejections.get_or_create(&OfReason { reason }).inc();
    }

    /// Measures the work for one leaf.
    pub fn observe_sign(&self, took: Duration) {
        self.sign_seconds.observe(took.as_secs_f64());
    }

    /// Measures one command, from its proposal to its outcome.
    pub fn observe_commit(&self, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// Shows where this server stands in the replicated log.
    pub fn show_raft(&self, reading: &RaftReading) {
        for role in RaftRole::ALL {
            self.raft_role.get_or_create(&OfRole { role: *role }).set(i64::from(*role == reading.role));
        }
        self.raft_term.set(signed(reading.term));
        self.raft_last_log_index.set(signed(reading.last_log_index));
        self.raft_committed_index.set(signed(reading.committed_index));
        self.raft_applied_index.set(signed(reading.applied_index));
        self.raft_snapshot_index.set(signed(reading.snapshot_index));
        self.raft_replication_lag.clear();
        for (node, lag) in &reading.lags {
            self.raft_replication_lag.get_or_create(&OfNode { node: node.0 }).set(signed(*lag));
        }
    }

    /// Shows how a secondary follows the primary.
    pub fn show_federation(&self, reading: &FederationReading) {
        for family in [&self.followed_lag, &self.followed_open] {
            family.clear();
        }
        for table in &reading.tables {
            let of = OfTable { table: table.name };
            self.followed_revision.get_or_create(&of).set(signed(table.revision));
            self.followed_silent.get_or_create(&of).set(signed(table.silent_seconds));
            if let Some(stream) = table.stream {
                self.followed_lag.get_or_create(&of).set(signed(stream.lag));
                self.followed_open.get_or_create(&of).set(i64::from(stream.is_open));
            }
        }
        self.unsigned_issuers.set(i64::try_from(reading.unsigned_issuers).unwrap_or(i64::MAX));
    }

    /// Shows the size of the log on disk.
    pub fn show_log_bytes(&self, bytes: u64) {
        self.log_bytes.set(signed(bytes));
    }

    /// The gauge of the open connections of a port.
    pub fn connections(&self, port: Port) -> Gauge {
        self.connections.get_or_create_owned(&OfPort { port })
    }

    /// Counts a connection that was refused before its handshake.
    pub fn count_refused_connection(&self, port: Port, reason: &'static str) {
        self.connections_refused.get_or_create(&OfPortAndReason { port, reason }).inc();
    }

    /// Counts a handshake that failed.
    pub fn count_refused_handshake(&self, port: Port, reason: &'static str) {
        self.handshakes_refused.get_or_create(&OfPortAndReason { port, reason }).inc();
    }

    /// How many handshakes failed for this reason.
    pub fn refused_handshakes(&self, port: Port, reason: &'static str) -> u64 {
        self.handshakes_refused.get_or_create(&OfPortAndReason { port, reason }).get()
    }

    /// Counts a peer that was accepted by its recorded key although its certificate had expired.
    pub fn count_expired_peer(&self) {
        self.expired_peers_accepted.inc();
    }

    /// How many such peers were accepted.
    pub fn expired_peers(&self) -> u64 {
        self.expired_peers_accepted.get()
    }

    /// Shows how much waits in a queue.
    pub fn show_queue(&self, queue: Queue, depth: usize) {
        self.queue_depth.get_or_create(&OfQueue { queue }).set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    /// Replaces the certificates whose ends are shown.
    pub fn watch_certificates(&self, certificates: Vec<WatchedCertificate>) {
        *self.expiry.lock() = certificates;
    }

    /// All metrics in the OpenMetrics text format, with the remaining lives as of `now`.
    pub fn encode(&self, now: Timestamp) -> Result<String, fmt::Error> {
        let watched = self.expiry.lock();
        self.expiry.fill(&watched, now);
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Expiry {
    fn lock(&self) -> MutexGuard<'_, Vec<WatchedCertificate>> {
        self.watched.lock().expect("no code panics while it holds this lock")
    }

    fn fill(&self, watched: &[WatchedCertificate], now: Timestamp) {
        self.timestamp.clear();
        self.remaining.clear();
        for certificate in watched {
            let labels = OfCertificate { kind: certificate.kind, id: certificate.id.clone() };
            let end = signed(certificate.not_after.seconds());
            self.timestamp.get_or_create(&labels).set(end);
            self.remaining.get_or_create(&labels).set(end.saturating_sub(signed(now.seconds())));
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
