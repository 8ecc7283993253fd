//! What is counted where workloads are answered: on an agent, and on a server that plays one for its own machine.

use carrack_authority::{intention::Ground, time::Timestamp};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::signed;
use crate::telemetry::labels::{
    EvictionReason, LeafRequest, OfDecision, OfEviction, OfLeafRequest, OfRenewal, OfTopicKind, RenewalOutcome,
    TopicKind, Verdict,
};

/// What an agent and a server count both.
#[derive(Default)]
pub(super) struct HostMetrics {
    cached: Gauge,
    next_renewal: Gauge,
    requests: Family<OfLeafRequest, Counter>,
    made: Counter,
    renewals: Family<OfRenewal, Counter>,
    evictions: Family<OfEviction, Counter>,
    decisions: Family<OfDecision, Counter>,
}

impl HostMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("leaves_cached", "Leaves that are kept for local clients", self.cached.clone());
        let help = "When the next kept leaf is renewed, in seconds since 1970; 0: none is kept";
        registry.register("leaf_next_renewal_timestamp_seconds", help, self.next_renewal.clone());
        let help = "Requests of local clients for a leaf, by whether one was kept";
        registry.register("leaf_requests", help, self.requests.clone());
        registry.register("leaves_made", "Leaves that were made to be kept", self.made.clone());
        registry.register("leaf_renewals", "Renewals of kept leaves by what became of them", self.renewals.clone());
        registry.register("leaf_evictions", "Leaves that are kept no more, by reason", self.evictions.clone());
        let help = "Decisions on connections, by what they rest on";
        registry.register("authorize_decisions", help, self.decisions.clone());
        self.show_zeros();
    }

    fn show_zeros(&self) {
        for result in LeafRequest::ALL {
            drop(self.requests.get_or_create(&OfLeafRequest { result: *result }));
        }
        for outcome in RenewalOutcome::ALL {
            drop(self.renewals.get_or_create(&OfRenewal { outcome: *outcome }));
        }
        for reason in EvictionReason::ALL {
            drop(self.evictions.get_or_create(&OfEviction { reason: *reason }));
        }
    }
}

/// What an agent alone shows.
#[derive(Default)]
pub(super) struct AgentMetrics {
    server: Gauge,
    heard: Gauge,
    streams_opened: Counter,
    followed: Family<OfTopicKind, Gauge>,
}

impl AgentMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Which server is followed, counted from 1 in the list of servers; 0: none";
        registry.register("agent_stream_server", help, self.server.clone());
        let help = "When a server was heard last, in seconds since 1970; 0: never";
        registry.register("agent_server_heard_timestamp_seconds", help, self.heard.clone());
        registry.register("agent_streams_opened", "Streams that a server has opened", self.streams_opened.clone());
        registry.register("agent_topics_followed", "What is followed beside the bundle", self.followed.clone());
    }
}

/// What a server shows of its agents.
#[derive(Default)]
pub(super) struct AgentsMetrics {
    streams: Gauge,
    topics: Gauge,
}

impl AgentsMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("agent_streams", "Streams of agents that are open", self.streams.clone());
        registry.register("agent_topics", "What they follow beside the bundle", self.topics.clone());
    }
}

/// How an agent hears its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentReading {
    /// Which server it follows, counted from 1; 0: none.
    pub server: usize,
    /// When one was heard last.
    pub heard_at: Option<Timestamp>,
    /// How many tokens, destinations and other things it follows.
    pub followed: [(TopicKind, usize); 3],
}

impl super::Metrics {
    /// Counts a request for a leaf that may be kept.
    pub fn count_leaf_request(&self, result: LeafRequest) {
        self.host.requests.get_or_create(&OfLeafRequest { result }).inc();
    }

    /// Counts a leaf that is kept from now on.
    pub fn count_leaf_made(&self) {
        self.host.made.inc();
    }

    /// Counts the renewal of a kept leaf.
    pub fn count_renewal(&self, outcome: RenewalOutcome) {
        self.host.renewals.get_or_create(&OfRenewal { outcome }).inc();
    }

    /// Counts a leaf that is kept no more.
    pub fn count_eviction(&self, reason: EvictionReason) {
        self.host.evictions.get_or_create(&OfEviction { reason }).inc();
    }

    /// Counts a decision on a connection.
    pub fn count_decision(&self, is_allowed: bool, ground: Ground) {
        let verdict = if is_allowed { Verdict::Allowed } else { Verdict::Denied };
        self.host.decisions.get_or_create(&OfDecision { verdict, ground: ground.as_str() }).inc();
    }

    /// Shows the leaves that are kept.
    pub fn show_leaves(&self, cached: usize, next_renewal: Option<Timestamp>) {
        self.host.cached.set(count(cached));
        self.host.next_renewal.set(next_renewal.map_or(0, |at| signed(at.seconds())));
    }

    /// Counts a stream that a server has opened for this agent.
    pub fn count_stream_opened(&self) {
        self.agent.streams_opened.inc();
    }

    /// Shows how this agent hears its servers.
    pub fn show_agent(&self, reading: &AgentReading) {
        self.agent.server.set(count(reading.server));
        self.agent.heard.set(reading.heard_at.map_or(0, |at| signed(at.seconds())));
        for (kind, followed) in reading.followed {
            self.agent.followed.get_or_create(&OfTopicKind { kind }).set(count(followed));
        }
    }

    /// Shows the agents of this server: their streams, and what they follow.
    pub fn show_agents(&self, streams: usize, topics: usize) {
        self.agents.streams.set(count(streams));
        self.agents.topics.set(count(topics));
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
