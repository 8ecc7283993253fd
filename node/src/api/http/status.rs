//! Everything that an operator looks at first, from this server's own state: it needs no quorum.

use axum::response::Response;
use carrack_authority::{
    State,
    issuer::{Issuer, IssuerPhase},
    member::Member,
    root::{Ca, Root},
    time::Timestamp,
};
use serde::Serialize;

use super::{
    call::Call,
    cluster,
    error::HttpError,
    federation::{self, SecondaryEntry},
    health,
    members::{self, MemberEntry},
    standing::Standing,
};
use crate::{
    server::observe::watched_certificates,
    telemetry::{
        expiry::{ExpiryAlarm, WatchedCertificate},
        labels::CertificateKind,
    },
};

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Status {
    datacenter: String,
    trust_domain: String,
    cluster_id: String,
    node_id: u64,
    node_name: String,
    role: &'static str,
    term: u64,
    leader: Option<Leader>,
    last_log_index: u64,
    committed_index: u64,
    applied_index: u64,
    snapshot_index: u64,
    feature_level: u32,
    log_time: String,
    clock_ready: bool,
    halted: bool,
    issuance_count: u64,
    issuance_head: String,
    issuance_live: usize,
    current_leaves: usize,
    members: Vec<MemberEntry>,
    secondary: Option<SecondaryEntry>,
    bundle: BundleEntry,
    ca: CaEntry,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Leader {
    node_id: u64,
    node_name: String,
}

/// What agents have of the roots that verifiers trust.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct BundleEntry {
    revision: u64,
    servers: Vec<AcknowledgementEntry>,
}

/// What a server said of its agents.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AcknowledgementEntry {
    node_name: String,
    /// The newest bundle of which it said that all of its agents have it.
    acknowledged: Option<u64>,
    told_at: Option<String>,
    lagging_count: u64,
    /// The first of the agents that lag.
    lagging: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct CaEntry {
    initialized: bool,
    active_root_id: Option<String>,
    roots: Vec<RootEntry>,
    issuers: Vec<IssuerEntry>,
    last_error: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootEntry {
    id: String,
    phase: &'static str,
    not_after: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct IssuerEntry {
    id: String,
    node_name: String,
    root_id: String,
    not_after: String,
    phase: &'static str,
}

/// `GET /v1/carrack/status`
pub(super) async fn read(call: Call) -> Result<Response, HttpError> {
    let view = call.local_view()?;
    let status = status(&call, view.state());
    Ok(call.json(&status)?.with_freshness(view.freshness).into_response())
}

fn status(call: &Call, state: &State) -> Status {
    let (own, standing) = (&call.edge.context.identity, Standing::of(&call.edge.context.replica));
    let leader = standing.leader.map(|node| Leader { node_id: node.0, node_name: cluster::name(state, node) });
    let issuances = state.issuances();
    let troubles = call.edge.context.troubles.list();
    let mut problems: Vec<String> = health::reasons(&call.edge.context, state);
    problems.extend(federation::problems(call, state));
    problems.extend(overdue(state, call.now()));
    problems.extend(state.members().filter_map(|member| lagging(state, member, call.now())));
    problems.extend(troubles.iter().map(|(task, text)| format!("{task}: {text}")));
    Status {
        datacenter: own.datacenter.to_string(),
        trust_domain: own.trust_domain.to_string(),
        cluster_id: own.cluster.to_string(),
        node_id: own.node.0,
        node_name: own.name.to_string(),
        role: standing.role(),
        term: standing.term,
        leader,
        last_log_index: standing.last_log,
        committed_index: standing.committed,
        applied_index: standing.applied,
        snapshot_index: standing.snapshot,
        feature_level: state.feature_level().0,
        log_time: call.now().to_string(),
        clock_ready: standing.is_clock_ready,
        halted: state.is_halted(),
        issuance_count: issuances.length(),
        issuance_head: issuances.head().to_string(),
        issuance_live: issuances.unexpired(),
        current_leaves: issuances.current(),
        members: members::entries(state, &standing),
        secondary: federation::secondary(call, state),
        bundle: bundle(state),
        ca: ca(state, troubles.into_iter().map(|(_, text)| text).next()),
        problems,
    }
}

/// The certificates whose end is near because nobody has renewed them.
fn overdue(state: &State, now: Timestamp) -> Vec<String> {
    let overdue = watched_certificates(state).into_iter().filter_map(|certificate| {
        let over = match ExpiryAlarm::of(&certificate, now)? {
            ExpiryAlarm::Due => return None,
            ExpiryAlarm::Late => "more than 80 % of its life is over",
            ExpiryAlarm::Critical => "more than 95 % of its life is over",
            ExpiryAlarm::Ended => "it has ended",
        };
        let WatchedCertificate { kind, id, server, not_after, .. } = certificate;
        let of_server = server.map(|server| format!(" of server {server}")).unwrap_or_default();
        let next = match kind {
            CertificateKind::Issuer if state.primary().is_some() => {
                "it is renewed at half life by the primary: `carrack federation show` says why it was not"
            }
            CertificateKind::Issuer => "it is renewed at half life by the leader, whose log says why it was not",
            CertificateKind::Server => "that server renews it at half life, and its log says why it did not",
            CertificateKind::Root => "`carrack ca rotate` in the primary replaces it",
            CertificateKind::ServerRoot => "nothing renews it",
        };
        Some(format!("the certificate {id} ({kind}){of_server} is valid until {not_after}: {over}; {next}"))
    });
    overdue.collect()
}

fn bundle(state: &State) -> BundleEntry {
    let entry = |member: &std::sync::Arc<Member>| {
        let told = state.acknowledgement(member.node);
        AcknowledgementEntry {
            node_name: member.name.to_string(),
            acknowledged: told.map(|told| told.bundle.0),
            told_at: told.map(|told| told.told_at.to_string()),
            lagging_count: told.map_or(0, |told| told.lagging.count),
            lagging: told.map(|told| told.lagging.named.iter().map(ToString::to_string).collect()).unwrap_or_default(),
        }
    };
    BundleEntry { revision: state.bundle_revision().0, servers: state.members().map(entry).collect() }
}

/// The agents of a server that go on with an older bundle.
fn lagging(state: &State, member: &Member, now: Timestamp) -> Option<String> {
    let told = state.acknowledgement(member.node).filter(|told| told.lagging.count > 0)?;
    let named: Vec<_> = told.lagging.named.iter().map(ToString::to_string).collect();
    let more = told.lagging.count.saturating_sub(named.len() as u64);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!(
        "agents of server {} have not taken over bundle {}, as it said {} s ago: {}{more}; look at their logs, and at `carrack agent cache` on their hosts",
        member.name,
        state.bundle_revision(),
        now.since(told.told_at).as_secs(),
        named.join(", "),
    ))
}

fn ca(state: &State, last_error: Option<String>) -> CaEntry {
    let roots = state.roots(Ca::Mesh);
    CaEntry {
        initialized: roots.active().is_some(),
        active_root_id: roots.active().map(|root| root.made.id.to_string()),
        roots: roots.bundle().iter().map(|root| root_entry(root)).collect(),
        issuers: state.issuers().map(|issuer| issuer_entry(state, issuer)).collect(),
        last_error,
    }
}

fn root_entry(root: &Root) -> RootEntry {
    RootEntry { id: root.made.id.to_string(), phase: root.phase.as_str(), not_after: root.made.not_after.to_string() }
}

fn issuer_entry(state: &State, issuer: &Issuer) -> IssuerEntry {
    IssuerEntry {
        id: issuer.id.to_string(),
        node_name: cluster::name(state, issuer.node),
        root_id: issuer.root.to_string(),
        not_after: issuer.not_after.to_string(),
        phase: match issuer.phase {
            IssuerPhase::Live => "live",
            IssuerPhase::Retired => "retired",
        },
    }
}
