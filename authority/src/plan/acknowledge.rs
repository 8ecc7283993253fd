//! When a server tells what its agents have in use: as soon as all of them have the newest bundle, and after a while which of them have
//! not.

use std::time::Duration;

use crate::{
    State,
    agent::{LAGGING_NAMED_MAX, LaggingAgents},
    id::{NodeId, Revision},
    spiffe::Name,
};

/// An agent that could have had a bundle for longer than this lags: most have it after milliseconds.
pub const LAG_AFTER: Duration = Duration::from_secs(5);
/// How often a server tells of agents that lag: each word is an entry of the log.
pub const REPORT_EVERY: Duration = Duration::from_secs(10);

/// What a server sees of its agents.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Its live agents, in ascending order of their names.
    pub agents: Vec<SeenAgent>,
    /// How long the newest bundle has been the newest here.
    pub newest_for: Duration,
    /// How long ago this process told of lagging agents.
    pub reported: Option<Duration>,
    /// How long agents may still be live that spoke to the process before this one, which knew them.
    pub unknown_for: Duration,
}

/// An agent, as its server sees it.
#[derive(Clone, Debug)]
pub struct SeenAgent {
    /// The name of its host.
    pub node: Name,
    /// The revision of the bundle that it has in use.
    pub has: Revision,
    /// How long it has been seen.
    pub known_for: Duration,
}

/// What the server does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acknowledge {
    /// It waits for its agents, for the next bundle, or until this time has passed.
    Wait(Option<Duration>),
    /// It tells this.
    Tell {
        /// The newest bundle that all of its agents have.
        bundle: Revision,
        /// Those that lag.
        lagging: LaggingAgents,
    },
}

/// What the server does next about what its agents have.
pub fn acknowledge(state: &State, node: NodeId, seen: &Seen) -> Acknowledge {
    if state.member(node).is_none() {
        return Acknowledge::Wait(None);
    }
    let (newest, told) = (state.bundle_revision(), state.acknowledgement(node));
    let told_bundle = told.map(|told| told.bundle).unwrap_or_default();
    let behind: Vec<&SeenAgent> = seen.agents.iter().filter(|agent| agent.has < newest).collect();
    // Whoever spoke to the process before may lag, and has not come back yet.
    let bundle = if behind.is_empty() && seen.unknown_for.is_zero() { newest } else { told_bundle };
    let had_time = |agent: &SeenAgent| agent.known_for.min(seen.newest_for);
    let lag = || behind.iter().filter(|agent| had_time(agent) >= LAG_AFTER);
    let named = lag().take(LAGGING_NAMED_MAX).map(|agent| agent.node.clone()).collect();
    let lagging = LaggingAgents { count: lag().count() as u64, named };
    // Those that come to lag next, and those of before.
    let next = behind.iter().map(|agent| LAG_AFTER.saturating_sub(had_time(agent))).filter(|wait| !wait.is_zero());
    let next = next.min().or_else(|| Some(seen.unknown_for).filter(|wait| !wait.is_zero()));
    if !behind.is_empty() && lagging.count == 0 {
        return Acknowledge::Wait(next);
    }
    let is_news =
        told.map_or(bundle > Revision(0) || lagging.count > 0, |told| told.bundle != bundle || told.lagging != lagging);
    let rest = seen.reported.map_or(Duration::ZERO, |ago| REPORT_EVERY.saturating_sub(ago));
    if !is_news {
        return Acknowledge::Wait(next);
    }
    if bundle == told_bundle && !rest.is_zero() {
        return Acknowledge::Wait(Some(next.map_or(rest, |next| next.min(rest))));
    }
    Acknowledge::Tell { bundle, lagging }
}
