//! The other datacenters: listed, removed, and the tokens with which new ones join; in a secondary, how it stands with the primary.

use std::{collections::BTreeMap, time::Duration};

use axum::response::Response;
use carrack_authority::{
    Command, State,
    federation::{Datacenter, Table},
    issuer::IssuerPhase,
    outcome::WatchKey,
    spiffe::Name,
    time::Timestamp,
};
use carrack_federation::secondary::SecondaryStatus;
use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    call::{Call, of_proposal},
    cluster,
    error::HttpError,
    fields::Fields,
};
use crate::{
    config::{UNLIMITED, duration},
    server::federation_token::{CreateFederationTokenError, FEDERATION_TOKEN_TTL_DEFAULT, create_federation_token},
};

/// The most hidden tokens that are shown: a person looks at a few, and mends their cause.
const HIDDEN_TOKENS_SHOWN_MAX: usize = 20;

/// For how long the primary may be unheard before a server that does not lead calls it a problem: the log is told every half minute.
const SILENT_MAX: Duration = Duration::from_secs(90);

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct FederationEntry {
    datacenter: String,
    primary: String,
    trust_domain: String,
    cluster_id: String,
    wan_addresses: Vec<String>,
    datacenters: Vec<DatacenterEntry>,
    secondary: Option<SecondaryEntry>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DatacenterEntry {
    name: String,
    cluster_id: String,
    primary: bool,
    wan_addresses: Vec<String>,
    known_since: String,
    /// In the primary: the unexpired issuers that were signed for it.
    issuers: Option<usize>,
    /// In the primary: when the last of them ends.
    issuers_until: Option<String>,
}

/// How a secondary stands with the primary.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SecondaryEntry {
    primary: String,
    /// Until when it issues without the primary: the end of the last of this datacenter's live issuers, or of the time that it may go on
    /// without hearing whether it is halted.
    issues_until: Option<String>,
    issues_for_seconds: u64,
    /// How long tokens of all datacenters are honoured after the primary was heard.
    token_staleness_max: String,
    /// How long it issues after the primary was heard.
    halt_staleness_max: String,
    /// Whether that is over, so that nothing is issued.
    halt_unknown: bool,
    streams: Vec<StreamEntry>,
    /// On another server than the leader: who leads, and alone knows what is told on the leader.
    leader: Option<String>,
    /// On the leader: servers whose issuer the primary did not sign at the last try.
    unsigned_issuers: Vec<UnsignedEntry>,
    /// On the leader: why the primary does not know where this datacenter is now.
    unannounced: Option<String>,
    /// The primary's tokens that are not honoured here, because a local one has their accessor id or secret; the first of them.
    hidden_tokens: Vec<HiddenTokenEntry>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HiddenTokenEntry {
    #[serde(rename = "AccessorID")]
    accessor: String,
    /// The local one.
    #[serde(rename = "LocalAccessorID")]
    local: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct StreamEntry {
    table: &'static str,
    /// The primary's revision up to which it is here.
    revision: u64,
    /// Whether the whole table is being read.
    reading: bool,
    heard_at: Option<String>,
    /// On the leader: whether the stream is open.
    open: Option<bool>,
    /// On the leader: how many revisions the primary was ahead when it was heard last, all tables together.
    lag: Option<u64>,
    /// On the leader: how long ago the primary was heard.
    silent_seconds: Option<u64>,
    trouble: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct UnsignedEntry {
    node_name: String,
    reason: String,
}

/// `GET /v1/carrack/federation`
pub(super) async fn list(call: Call) -> Result<Response, HttpError> {
    let view = call.view().await?;
    let own = view.state().own_datacenter().ok_or(HttpError::NoLeader)?;
    let entry = FederationEntry {
        datacenter: own.name.to_string(),
        primary: view.state().primary().unwrap_or(&own.name).to_string(),
        trust_domain: call.edge.context.identity.trust_domain.to_string(),
        cluster_id: own.cluster.to_string(),
        wan_addresses: own.wan_addresses,
        datacenters: view.state().datacenters().map(|other| datacenter(view.state(), other)).collect(),
        secondary: secondary(&call, view.state()),
    };
    let index = view.state().modified(&WatchKey::Datacenters).0.max(1);
    Ok(call.json(&entry)?.with_index(index).with_freshness(view.freshness).into_response())
}

fn datacenter(state: &State, other: &Datacenter) -> DatacenterEntry {
    let issuers = state.remote_issuers().filter(|issuer| issuer.datacenter == other.name);
    let ends: Vec<Timestamp> = issuers.map(|issuer| issuer.not_after).collect();
    let is_primary_here = state.primary().is_none();
    DatacenterEntry {
        name: other.name.to_string(),
        cluster_id: other.cluster.to_string(),
        primary: other.is_primary,
        wan_addresses: other.wan_addresses.clone(),
        known_since: other.joined_at.to_string(),
        issuers: is_primary_here.then_some(ends.len()),
        issuers_until: ends.into_iter().max().map(|end| end.to_string()),
    }
}

/// How this datacenter stands with the primary; `None` in the primary.
pub(super) fn secondary(call: &Call, state: &State) -> Option<SecondaryEntry> {
    let primary = state.primary()?.to_string();
    let live = state.issuers().filter(|issuer| issuer.phase == IssuerPhase::Live);
    let ends_at = live.map(|issuer| issuer.not_after).max();
    let halt_staleness_max = call.edge.context.halt_staleness_max;
    let may_until = halt_staleness_max.map(|most| state.progress(Table::Ca).heard_at.plus(most));
    let until = ends_at.map(|end| may_until.map_or(end, |may| may.min(end)));
    let known = call.edge.context.secondary.borrow().clone();
    let known = known.as_ref();
    let unsigned = known.into_iter().flat_map(|known| &known.unsigned);
    Some(SecondaryEntry {
        primary,
        issues_until: until.map(|until| until.to_string()),
        issues_for_seconds: until.map_or(0, |until| until.since(call.now()).as_secs()),
        token_staleness_max: bound(call.edge.context.token_staleness_max),
        halt_staleness_max: bound(halt_staleness_max),
        halt_unknown: state.is_halt_unknown(call.now(), halt_staleness_max),
        streams: Table::ALL.map(|table| stream(state, known, table)).into(),
        leader: cluster::leader_elsewhere(call, state),
        unsigned_issuers: unsigned
            .map(|(node, reason)| UnsignedEntry { node_name: cluster::name(state, *node), reason: reason.clone() })
            .collect(),
        unannounced: known.and_then(|known| known.unannounced.clone()),
        hidden_tokens: hidden_tokens(state),
    })
}

fn bound(most: Option<Duration>) -> String {
    most.map_or_else(|| UNLIMITED.into(), duration::format)
}

fn hidden_tokens(state: &State) -> Vec<HiddenTokenEntry> {
    let hidden = state.hidden_tokens().filter_map(|token| {
        let local = state.local_token_before(token)?.accessor.to_string();
        Some(HiddenTokenEntry { accessor: token.accessor.to_string(), local })
    });
    hidden.take(HIDDEN_TOKENS_SHOWN_MAX).collect()
}

fn stream(state: &State, known: Option<&SecondaryStatus>, table: Table) -> StreamEntry {
    let progress = state.progress(table);
    let stream = known.and_then(|known| known.streams.get(&table));
    let was_heard = progress.heard_at != Timestamp::EPOCH;
    StreamEntry {
        table: table.as_str(),
        revision: progress.cursor.revision.0,
        reading: progress.cursor.reading.is_some(),
        heard_at: was_heard.then(|| progress.heard_at.to_string()),
        open: known.map(|_| stream.is_some_and(|stream| stream.is_open)),
        // While nothing is heard nobody knows it.
        lag: stream.filter(|stream| stream.is_open).map(|stream| stream.lag),
        silent_seconds: stream.and_then(|stream| stream.heard).map(|heard| heard.elapsed().as_secs()),
        trouble: stream.and_then(|stream| stream.trouble.clone()),
    }
}

/// What a secondary's operator should look at.
pub(super) fn problems(call: &Call, state: &State) -> Vec<String> {
    let Some(entry) = secondary(call, state) else { return Vec::new() };
    let mut problems: Vec<String> = streams_problem(&entry.streams).into_iter().collect();
    let heard_at = Table::ALL.iter().map(|table| state.progress(*table).heard_at).min().unwrap_or_default();
    problems.extend(entry.leader.and_then(|leader| silence_problem(call.now(), heard_at, &entry.primary, &leader)));
    for unsigned in entry.unsigned_issuers {
        problems.push(format!("the primary has not signed an issuer of {}: {}", unsigned.node_name, unsigned.reason));
    }
    if let Some(reason) = entry.unannounced {
        problems.push(format!("the primary does not know where this datacenter is now: {reason}"));
    }
    problems.extend(hidden_problem(&entry.hidden_tokens, state.hidden_tokens().count()));
    problems
}

/// What a server that does not lead knows of an outage: when the log was told last that the primary was heard.
fn silence_problem(now: Timestamp, heard_at: Timestamp, primary: &str, leader: &str) -> Option<String> {
    let is_silent = heard_at != Timestamp::EPOCH && now.since(heard_at) >= SILENT_MAX;
    is_silent.then(|| {
        format!("the primary `{primary}` was heard last at {heard_at}: server {leader}, which leads, knows why")
    })
}

/// One problem, however many streams have it: most of what ends one ends all.
fn streams_problem(streams: &[StreamEntry]) -> Option<String> {
    let mut tables: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for stream in streams {
        if let Some(trouble) = &stream.trouble {
            tables.entry(trouble).or_default().push(format!("`{}`", stream.table));
        }
    }
    let told: Vec<String> =
        tables.iter().map(|(trouble, tables)| format!("{}: {trouble}", tables.join(", "))).collect();
    (!told.is_empty()).then(|| format!("tables of the primary are not followed: {}", told.join("; ")))
}

fn hidden_problem(hidden: &[HiddenTokenEntry], count: usize) -> Option<String> {
    let first = hidden.first()?;
    let HiddenTokenEntry { accessor, local } = first;
    Some(format!(
        "tokens of the primary that are not honoured here: {count}; {accessor} has the accessor id or the secret of the local token {local}, \
         which goes on (`carrack federation show` lists {shown} of them): delete the local one, or make the primary's anew, with another \
         accessor id and another secret",
        shown = hidden.len()
    ))
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct FederationTokenEntry<'a> {
    token: &'a str,
    datacenter: String,
    expires_at: String,
    command: &'a str,
}

/// `PUT /v1/carrack/federation/token`
pub(super) async fn make_token(call: Call) -> Result<Response, HttpError> {
    let mut fields = Fields::of_body("the federation token", &call.body)?;
    let name = fields.some_text("Datacenter")?;
    let ttl: Duration = fields.span("TTL")?.unwrap_or(FEDERATION_TOKEN_TTL_DEFAULT);
    fields.finish()?;
    let name = name.ok_or_else(|| {
        HttpError::BadRequest("Datacenter is missing: a federation token is for one datacenter".into())
    })?;
    let name = Name::parse("datacenter", &name).map_err(|error| HttpError::BadRequest(error.to_string()))?;
    call.committed_view().await?;
    let made = create_federation_token(&call.edge.context, name, ttl).await;
    let (token, expires_at) = made.map_err(of_federation_token)?;
    let text = token.expose_text();
    let datacenter = token.datacenter.to_string();
    let command =
        Zeroizing::new(format!("carrack server --bootstrap --datacenter {datacenter} --join-primary {}", *text));
    let entry =
        FederationTokenEntry { token: &text, datacenter, expires_at: expires_at.to_string(), command: &command };
    Ok(call.json(&entry)?.with_secret().into_response())
}

fn of_federation_token(error: CreateFederationTokenError) -> HttpError {
    match error {
        CreateFederationTokenError::BadTtl(_) => HttpError::BadRequest(error.to_string()),
        CreateFederationTokenError::NotBegun | CreateFederationTokenError::NoWan => {
            HttpError::Unavailable(error.to_string())
        }
        CreateFederationTokenError::Propose(error) => of_proposal(error),
        CreateFederationTokenError::Rejected(rejection) => rejection.into(),
    }
}

/// `DELETE /v1/carrack/federation/{datacenter}`
pub(super) async fn remove(call: Call) -> Result<Response, HttpError> {
    let name = call.name("datacenter")?;
    call.committed_view().await?;
    call.propose(Command::RemoveDatacenter { name }).await?;
    call.yes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_does_not_lead_tells_of_silence_and_who_knows_more() {
        let heard_at = Timestamp::from_seconds(1_767_225_600);
        let after = |seconds| silence_problem(heard_at.plus(Duration::from_secs(seconds)), heard_at, "dc1", "b");
        assert_eq!(after(89), None);
        let told = "the primary `dc1` was heard last at 2026-01-01T00:00:00Z: server b, which leads, knows why";
        assert_eq!(after(90).as_deref(), Some(told));
        assert_eq!(silence_problem(heard_at, Timestamp::EPOCH, "dc1", "b"), None, "it has not joined yet");
    }

    fn stream(table: Table, trouble: Option<&str>) -> StreamEntry {
        StreamEntry {
            table: table.as_str(),
            revision: 1,
            reading: false,
            heard_at: None,
            open: Some(trouble.is_none()),
            lag: None,
            silent_seconds: None,
            trouble: trouble.map(str::to_owned),
        }
    }

    #[test]
    fn what_ends_all_streams_is_one_problem() {
        let problem = |troubles: [Option<&str>; 7]| {
            let streams = Table::ALL.iter().zip(troubles).map(|(table, trouble)| stream(*table, trouble));
            streams_problem(&streams.collect::<Vec<_>>())
        };
        assert_eq!(problem([None; 7]), None);
        let all = "tables of the primary are not followed: `ca`, `datacenters`, `policies`, `tokens`, `intentions`, `revocations`, `revoked-issuers`: cut";
        assert_eq!(problem([Some("cut"); 7]).as_deref(), Some(all));
        let two = "tables of the primary are not followed: `ca`, `policies`: cut; `tokens`: refused";
        assert_eq!(problem([Some("cut"), None, Some("cut"), Some("refused"), None, None, None]).as_deref(), Some(two));
    }
}
