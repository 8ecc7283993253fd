//! Keeps the metrics of the log and of certificates' ends current, and raises the alarms before those ends.

use std::{sync::Arc, time::Duration};

use carrack_authority::{
    State,
    federation::Table,
    issuer::IssuerPhase,
    root::{Ca, RootPhase},
};
use carrack_raft::{Role, Status};
use tokio::{sync::watch, time::Instant};

use super::context::Context;
use crate::telemetry::{
    expiry::{ExpiryAlarms, WatchedCertificate},
    labels::{CertificateKind, RaftRole},
    metrics::{FederationReading, RaftReading, StreamReading, TableReading},
};

/// How often metrics that nobody changes as a side effect are refreshed: twice in a usual scrape interval.
const REFRESH: Duration = Duration::from_secs(5);

/// How long a server may know no leader before it says so: far longer than an election.
const TELL_LEADERLESS_AFTER: Duration = Duration::from_secs(15);

/// Refreshes until `stopped` turns true.
pub(super) async fn observe(context: Arc<Context>, mut stopped: watch::Receiver<bool>) {
    let mut alarms = ExpiryAlarms::default();
    let mut leaderless = Leaderless::default();
    loop {
        let status = context.replica.status();
        leaderless.observe(&status, Instant::now());
        context.metrics.show_raft(&reading(&status));
        context.metrics.show_log_bytes(status.log_bytes_on_disk);
        context.metrics.show_federation(&federation(&context));
        let watched = watched_certificates(&context.replica.state().state);
        for (certificate, alarm) in alarms.observe(&watched, context.replica.log_time()) {
            tracing::warn!(kind = %certificate.kind, id = %certificate.id, until = %certificate.not_after, ?alarm, "a certificate nears its end");
        }
        context.metrics.watch_certificates(watched);
        let pause = tokio::time::timeout(REFRESH, stopped.wait_for(|stopped| *stopped));
        if pause.await.is_ok() {
            return;
        }
    }
}

/// Tells once that nobody leads as far as this server knows. A server that was removed while it was off learns it in no other way:
/// the others do not speak to it any more.
#[derive(Default)]
struct Leaderless {
    since: Option<Instant>,
    is_told: bool,
}

impl Leaderless {
    fn observe(&mut self, status: &Status, now: Instant) {
        if status.leadership.leader.is_some() {
            *self = Self::default();
            return;
        }
        let since = *self.since.get_or_insert(now);
        if !self.is_told && now.duration_since(since) >= TELL_LEADERLESS_AFTER {
            self.is_told = true;
            tracing::error!(
                node = %status.leadership.node,
                "this server knows no leader for {} s: a majority of the servers is down or unreachable, or they have removed this one, \
                 which `carrack members list` on another server tells; a removed server joins again with a fresh token and an empty \
                 data directory",
                TELL_LEADERLESS_AFTER.as_secs()
            );
        }
    }
}

fn reading(status: &Status) -> RaftReading {
    RaftReading {
        role: match status.leadership.role {
            Role::Leader => RaftRole::Leader,
            Role::Follower | Role::Stopped => RaftRole::Follower,
            Role::Candidate => RaftRole::Candidate,
            Role::Learner => RaftRole::Learner,
        },
        term: status.leadership.term,
        last_log_index: status.last_log.unwrap_or_default(),
        committed_index: status.committed.unwrap_or_default(),
        applied_index: status.applied,
        snapshot_index: status.snapshot.unwrap_or_default(),
        lags: status.replication.iter().map(|(node, replication)| (*node, replication.behind)).collect(),
    }
}

/// How the primary is followed; nothing in the primary itself.
fn federation(context: &Context) -> FederationReading {
    let applied = context.replica.state();
    if applied.state.primary().is_none() {
        return FederationReading::default();
    }
    let (now, known) = (context.replica.log_time(), context.secondary.borrow());
    let table = |table: Table| {
        let progress = applied.state.progress(table);
        let stream = known.as_ref().and_then(|known| known.streams.get(&table));
        TableReading {
            name: table.as_str(),
            revision: progress.cursor.revision.0,
            silent_seconds: now.since(progress.heard_at).as_secs(),
            stream: stream.map(|stream| StreamReading { is_open: stream.is_open, lag: stream.lag }),
        }
    };
    FederationReading {
        tables: Table::ALL.map(table).into(),
        unsigned_issuers: known.as_ref().map_or(0, |known| known.unsigned.len()),
    }
}

/// Every CA certificate of the datacenter that signs or is trusted, and the servers' own. A retired issuer signs nothing more: its end
/// concerns nobody.
pub(crate) fn watched_certificates(state: &State) -> Vec<WatchedCertificate> {
    let mut watched = Vec::new();
    for (ca, kind) in [(Ca::Mesh, CertificateKind::Root), (Ca::Server, CertificateKind::ServerRoot)] {
        // A retired one ends by itself, when nothing depends on it any more.
        let roots = state.roots(ca).bundle();
        let in_use = roots.iter().filter(|root| root.phase != RootPhase::Retired);
        watched.extend(in_use.map(|root| WatchedCertificate {
            kind,
            id: root.made.id.to_string(),
            server: None,
            not_before: root.made.not_before,
            not_after: root.made.not_after,
        }));
    }
    let signing = state.issuers().filter(|issuer| issuer.phase == IssuerPhase::Live);
    watched.extend(signing.map(|issuer| WatchedCertificate {
        kind: CertificateKind::Issuer,
        id: issuer.id.to_string(),
        server: state.member(issuer.node).map(|member| member.name.to_string()),
        not_before: issuer.not_before,
        not_after: issuer.not_after,
    }));
    watched.extend(state.members().filter_map(|member| {
        let certificate = member.certificate.as_ref()?;
        let (not_before, not_after) = (certificate.not_before, certificate.not_after);
        let (kind, id) = (CertificateKind::Server, member.name.to_string());
        Some(WatchedCertificate { kind, server: Some(id.clone()), id, not_before, not_after })
    }));
    watched
}
