//! The leader's decisions in a secondary, without IO: inputs in, actions out. Whatever fails is tried again with a growing pause, and
//! leaves what works untouched; nothing but a recorded answer counts as success.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use carrack_authority::{
    Command, State,
    federation::{Change, Datacenter, DatacenterFacts, Followed, Table},
    id::{NodeId, Revision},
    issuer::SignedIssuer,
    key::Der,
    plan::sign::{SignIssuer, requested_issuers},
    planted::{self, Bug},
    rotation::{STANDING_TOLD_EVERY, Standing},
    time::Timestamp,
    x509::{
        CertificateFacts,
        chain::check_issuer,
        csr::{CsrLimits, VerifiedIssuerCsr},
    },
};
use tokio::time::Instant;

use super::status::SecondaryStatus;
use crate::ports::{Announcement, Heard, IssuerAsked, WanError};

/// The first pause after a failure; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest pause: when the WAN is back, the datacenter is too, this soon.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// A stream on which nothing came for this long is cut off somewhere: three times the primary's sign of life.
const SILENT_MAX: Duration = Duration::from_secs(15);
/// How often the primary is told where this datacenter is although nothing has changed: what a deposed leader said reached it later
/// perhaps.
const TOLD_EVERY: Duration = Duration::from_secs(300);
/// How often the log is told that the primary was heard while nothing changes.
const HEARD_EVERY: Duration = Duration::from_secs(30);

/// How often the primary is told how many leaves are left under retired roots, while they become fewer.
const COUNTS_TOLD_EVERY: Duration = Duration::from_secs(5);

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The primary sent something on a stream.
    Heard(Table, Heard),
    /// A stream ended, or was never opened.
    Ended(Table, String),
    /// The log took over what was heard, or did not.
    Followed(Table, Result<(), String>),
    /// The primary answered a request for an issuer, which is known by its revision.
    Signed(NodeId, Revision, Result<Der, WanError>),
    /// The log took an issuer, or did not.
    Recorded(NodeId, Result<(), String>),
    /// The primary was told where this datacenter is, or was not.
    Announced(Announcement, Result<(), WanError>),
    /// The primary was told where this datacenter is with the roots, or was not.
    Stood(Standing, Result<(), WanError>),
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a stream at where the log has it.
    Open(Table),
    /// Close a stream.
    Close(Table),
    /// Ask another server of the primary than that of this stream next: it is silent.
    Distrust(Table),
    /// Commit what was heard; the stream waits for it.
    Follow(Table, Command),
    /// Take the next item of a stream.
    Continue(Table),
    /// Have an issuer signed.
    Sign(Revision, IssuerAsked),
    /// Commit an issuer.
    Record(NodeId, Command),
    /// Tell the primary where this datacenter is and which servers it has.
    Announce(Announcement),
    /// Tell the primary where this datacenter is with the roots.
    Stand(Standing),
}

/// What the machine wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What to do now.
    pub actions: Vec<Action>,
    /// When to look again although nothing happens.
    pub wake_at: Option<Instant>,
}

/// When something that failed is tried again.
#[derive(Clone, Copy, Debug, Default)]
struct Retry {
    pause: Duration,
    at: Option<Instant>,
}

impl Retry {
    fn failed(&mut self, now: Instant) {
        self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.at = Some(now + self.pause);
    }

    fn is_due(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| at <= now)
    }
}

#[derive(Debug, Default)]
struct Stream {
    /// Since when it is open or being opened; `None`: it is closed.
    since: Option<Instant>,
    retry: Retry,
}

#[derive(Debug, Default)]
struct Signing {
    /// The request that is with the primary or on its way into the log.
    asked: Option<Revision>,
    retry: Retry,
}

/// Something that the primary is told whenever it has changed.
#[derive(Debug)]
struct Telling<T> {
    is_under_way: bool,
    /// What was told last, and when.
    told: Option<(T, Instant)>,
    retry: Retry,
}

impl<T> Default for Telling<T> {
    fn default() -> Self {
        Self { is_under_way: false, told: None, retry: Retry::default() }
    }
}

impl<T> Telling<T> {
    /// Whether it is told now; `again`: when, if nothing of it has changed. Otherwise it is woken for that.
    fn is_due(
        &mut self,
        now: Instant,
        verdict: &mut Verdict,
        again: impl FnOnce(&T, Instant) -> Option<Instant>,
    ) -> bool {
        if self.is_under_way {
            return false;
        }
        let again = self.told.as_ref().and_then(|(told, at)| again(told, *at)).filter(|again| *again > now);
        if let Some(again) = again {
            wake(verdict, again);
        } else if self.retry.is_due(now) {
            self.is_under_way = true;
        } else if let Some(at) = self.retry.at {
            wake(verdict, at);
        }
        self.is_under_way
    }

    /// It was told, or was not: then why.
    fn ended(&mut self, now: Instant, told: T, result: Result<(), WanError>) -> Option<String> {
        self.is_under_way = false;
        match result {
            Ok(()) => {
                self.told = Some((told, now));
                self.retry = Retry::default();
                None
            }
            Err(error) => {
                self.retry.failed(now);
                Some(error.to_string())
            }
        }
    }
}

/// The machine of one leader's term.
#[derive(Debug, Default)]
pub struct Machine {
    streams: BTreeMap<Table, Stream>,
    signing: BTreeMap<NodeId, Signing>,
    announcing: Telling<Announcement>,
    standing: Telling<Standing>,
    absent: BTreeSet<NodeId>,
    status: SecondaryStatus,
}

impl Machine {
    /// What is known.
    pub const fn status(&self) -> &SecondaryStatus {
        &self.status
    }

    /// The servers of this datacenter that have not answered for a while.
    pub fn see_absent(&mut self, absent: BTreeSet<NodeId>) {
        self.absent = absent;
    }

    /// Takes something that happened.
    pub fn take(&mut self, state: &State, log_time: Timestamp, now: Instant, input: Input) -> Verdict {
        let mut actions = Vec::new();
        match input {
            Input::Heard(table, heard) => actions.extend(self.heard(state, now, table, heard)),
            Input::Ended(table, reason) => self.ended(now, table, reason),
            Input::Followed(table, result) => actions.push(self.followed(now, table, result)),
            Input::Signed(node, revision, result) => {
                actions.extend(self.signed(state, log_time, now, node, revision, result));
            }
            Input::Recorded(node, result) => self.recorded(now, node, result),
            Input::Announced(told, result) => self.status.unannounced = self.announcing.ended(now, told, result),
            Input::Stood(told, result) => self.status.unstood = self.standing.ended(now, told, result),
        }
        let mut verdict = self.look(state, now);
        actions.append(&mut verdict.actions);
        Verdict { actions, wake_at: verdict.wake_at }
    }

    /// Looks at the state and the time.
    pub fn look(&mut self, state: &State, now: Instant) -> Verdict {
        let mut verdict = Verdict::default();
        if primary(state).is_none() {
            return verdict;
        }
        for table in Table::ALL {
            self.keep_stream(now, table, &mut verdict);
        }
        self.keep_announced(state, now, &mut verdict);
        self.keep_issuers(state, now, &mut verdict);
        self.keep_standing(state.own_standing(|node| self.absent.contains(&node)), now, &mut verdict);
        verdict
    }

    fn keep_stream(&mut self, now: Instant, table: Table, verdict: &mut Verdict) {
        let stream = self.streams.entry(table).or_default();
        let status = self.status.streams.entry(table).or_default();
        if let Some(since) = stream.since {
            let silent_since = status.heard.map_or(since, |heard| heard.max(since));
            if now < silent_since + SILENT_MAX {
                return wake(verdict, silent_since + SILENT_MAX);
            }
            stream.since = None;
            stream.retry.failed(now);
            status.is_open = false;
            status.trouble = Some(format!("nothing was heard for {} s", SILENT_MAX.as_secs()));
            verdict.actions.push(Action::Distrust(table));
            verdict.actions.push(Action::Close(table));
        }
        if stream.retry.is_due(now) {
            stream.since = Some(now);
            verdict.actions.push(Action::Open(table));
            wake(verdict, now + SILENT_MAX);
        } else if let Some(at) = stream.retry.at {
            wake(verdict, at);
        }
    }

    fn heard(&mut self, state: &State, now: Instant, table: Table, heard: Heard) -> Option<Action> {
        let stream = self.streams.entry(table).or_default();
        // One that was closed meanwhile.
        stream.since?;
        let status = self.status.streams.entry(table).or_default();
        (status.is_open, status.heard, status.primary_revision) = (true, Some(now), heard.primary_revision);
        status.lag = if heard.is_all { 0 } else { heard.primary_revision.0.saturating_sub(heard.to.revision.0) };
        let progress = state.progress(table);
        let is_news = heard.change != Change::Nothing || heard.to != progress.cursor;
        let is_due = state.now().since(progress.heard_at) >= HEARD_EVERY;
        if !is_news && !is_due && progress.heard_at != Timestamp::EPOCH {
            stream.retry = Retry::default();
            status.trouble = None;
            return Some(Action::Continue(table));
        }
        if begins_a_reading(&heard.change) {
            let revision = progress.cursor.revision;
            tracing::info!(%table, %revision, "a table of the primary is read as a whole");
        }
        let primary = primary(state)?.cluster;
        let Heard { change, to, is_all, .. } = heard;
        let followed = Followed { primary, table, from: progress.cursor, to, change, is_all };
        Some(Action::Follow(table, Command::FollowPrimary(Box::new(followed))))
    }

    fn followed(&mut self, now: Instant, table: Table, result: Result<(), String>) -> Action {
        let stream = self.streams.entry(table).or_default();
        let status = self.status.streams.entry(table).or_default();
        match result {
            Ok(()) => {
                stream.retry = Retry::default();
                status.trouble = None;
                Action::Continue(table)
            }
            // What was not taken over must be heard again, from where the log is.
            Err(reason) => {
                stream.since = None;
                stream.retry.failed(now);
                status.is_open = false;
                status.trouble = Some(reason);
                Action::Close(table)
            }
        }
    }

    fn ended(&mut self, now: Instant, table: Table, reason: String) {
        let stream = self.streams.entry(table).or_default();
        if stream.since.take().is_some() {
            stream.retry.failed(now);
            let status = self.status.streams.entry(table).or_default();
            (status.is_open, status.trouble) = (false, Some(reason));
        }
    }

    /// The primary signs for servers that it was told of: a request waits while they are being told.
    fn keep_issuers(&mut self, state: &State, now: Instant, verdict: &mut Verdict) {
        let requests = requested_issuers(state);
        self.signing.retain(|node, signing| {
            signing.asked.is_some() || requests.iter().any(|request| request.member.node == *node)
        });
        self.status.unsigned.retain(|node, _| requests.iter().any(|request| request.member.node == *node));
        for SignIssuer { member, request, root } in requests {
            let signing = self.signing.entry(member.node).or_default();
            if signing.asked.is_some() || self.announcing.is_under_way {
                continue;
            }
            if !signing.retry.is_due(now) {
                if let Some(at) = signing.retry.at {
                    wake(verdict, at);
                }
                continue;
            }
            signing.asked = Some(request.revision);
            let (node, node_name, csr) = (member.node, member.name.clone(), request.csr.clone());
            verdict
                .actions
                .push(Action::Sign(request.revision, IssuerAsked { node, node_name, root: root.made.id, csr }));
        }
    }

    /// The answer is verified before it may enter the log: our key, the root's signature, path length, dates, trust domain.
    fn signed(
        &mut self,
        state: &State,
        log_time: Timestamp,
        now: Instant,
        node: NodeId,
        revision: Revision,
        result: Result<Der, WanError>,
    ) -> Option<Action> {
        let verified = result.map_err(|error| error.to_string()).and_then(|certificate| {
            let request = requested_issuers(state).into_iter().find(|request| request.member.node == node);
            let request = request.filter(|request| request.request.revision == revision);
            let request = request.ok_or_else(|| "another request has taken its place".to_owned())?;
            verify(state, log_time, &request, certificate)
        });
        match verified {
            Ok(signed) => Some(Action::Record(node, Command::RecordIssuer(signed))),
            Err(_) if planted::is(Bug::RefusalTakenForSuccess) => None,
            Err(reason) => {
                self.not_signed(now, node, reason);
                None
            }
        }
    }

    fn recorded(&mut self, now: Instant, node: NodeId, result: Result<(), String>) {
        match result {
            Ok(()) => {
                self.signing.remove(&node);
                self.status.unsigned.remove(&node);
            }
            Err(reason) => self.not_signed(now, node, reason),
        }
    }

    fn not_signed(&mut self, now: Instant, node: NodeId, reason: String) {
        let signing = self.signing.entry(node).or_default();
        signing.asked = None;
        signing.retry.failed(now);
        if self.status.unsigned.get(&node) != Some(&reason) {
            tracing::warn!(%node, %reason, "the primary has not signed an issuer; it is asked again");
        }
        self.status.unsigned.insert(node, reason);
    }

    fn keep_announced(&mut self, state: &State, now: Instant, verdict: &mut Verdict) {
        let Some(own) = state.own_datacenter() else { return };
        let facts = DatacenterFacts {
            name: own.name,
            cluster: own.cluster,
            server_roots: own.server_roots,
            wan_addresses: own.wan_addresses,
        };
        let to_tell = Announcement { facts, servers: state.own_servers() };
        if self.announcing.is_due(now, verdict, |told, at| (*told == to_tell).then(|| at + TOLD_EVERY)) {
            verdict.actions.push(Action::Announce(to_tell));
        }
    }

    /// What others wait for is told at once, how many leaves are left now and then, and a sign of life in any case.
    fn keep_standing(&mut self, standing: Standing, now: Instant, verdict: &mut Verdict) {
        let again = |told: &Standing, at: Instant| match told {
            told if told.differs_in_kind(&standing) => None,
            told if *told == standing => Some(at + STANDING_TOLD_EVERY),
            _ => Some(at + COUNTS_TOLD_EVERY),
        };
        if self.standing.is_due(now, verdict, again) {
            verdict.actions.push(Action::Stand(standing));
        }
    }
}

/// Whether it is the first page of a whole table.
const fn begins_a_reading(change: &Change) -> bool {
    match change {
        Change::Policies { page: Some(page), .. }
        | Change::Tokens { page: Some(page), .. }
        | Change::Intentions { page: Some(page), .. }
        | Change::Revocations { page: Some(page), .. } => page.after.is_none(),
        _ => false,
    }
}

fn wake(verdict: &mut Verdict, at: Instant) {
    verdict.wake_at = Some(verdict.wake_at.map_or(at, |other| other.min(at)));
}

fn primary(state: &State) -> Option<&Datacenter> {
    state.datacenter(state.primary()?).map(|primary| &**primary)
}

fn verify(state: &State, log_time: Timestamp, request: &SignIssuer, certificate: Der) -> Result<SignedIssuer, String> {
    let wrong = |error: &dyn std::error::Error| format!("the primary's answer is refused: {error}");
    let cluster = state.cluster().ok_or_else(|| "this datacenter has not begun".to_owned())?;
    let csr = VerifiedIssuerCsr::verify(request.request.csr.as_bytes(), &CsrLimits::default());
    let csr = csr.map_err(|error| format!("the own request cannot be read: {error}"))?;
    let root = CertificateFacts::read(request.root.made.certificate.as_bytes()).map_err(|error| wrong(&error))?;
    let facts = check_issuer(certificate.as_bytes(), csr.public_key(), &root, &cluster.trust_domain, log_time)
        .map_err(|error| wrong(&error))?;
    Ok(SignedIssuer {
        node: request.member.node,
        expected: request.request.revision,
        certificate,
        not_before: facts.not_before,
        not_after: facts.not_after,
    })
}

#[cfg(test)]
mod tests;
