//! The HTTP API that Consul's clients speak, and carrack's own routes beside it. Reads are linearizable unless the request
//! says `stale`; routes for monitoring need neither token nor quorum.

pub mod access;
mod acl_bootstrap;
mod acl_draft;
mod acl_policies;
mod acl_shapes;
mod acl_tokens;
mod agent;
mod agent_metrics;
mod agents;
pub mod answer;
mod authorize;
pub mod body;
mod ca_configuration;
mod ca_roots;
mod ca_status;
mod call;
mod cluster;
mod compromise;
mod config_entries;
mod dispatch;
pub mod error;
mod federation;
pub mod fields;
pub(crate) mod forward;
mod health;
pub mod host;
mod intention_draft;
mod intention_shapes;
mod intention_writes;
mod intentions;
mod issuance;
mod issuers;
mod leaves;
mod members;
mod not_here;
pub mod parameters;
mod rotation;
pub mod routes;
pub mod serve;
mod sign;
pub mod span;
mod standing;
mod status;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use carrack_authority::{WatchKey, root::Ca};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until},
};

use self::access::Moment;
use crate::{
    agent::{leaf_cache::LeafCache, leaf_source::DeskSource},
    server::context::Context,
};

/// The most tokens at a time that are looked for at the leader: strangers with random UUIDs cost a round trip each.
const LOOK_UPS_MAX: usize = 64;

/// Where clients come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// The one without TLS: loopback alone.
    LoopbackHttp,
    /// The one with TLS.
    Https,
    /// The one for monitoring: three routes, nothing else.
    Monitoring,
    /// Servers of other datacenters pass on what their clients ask of this one.
    Wan,
}

/// How long it is waited for a change of the bundle at once.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What the HTTP listeners of one server share.
pub struct Edge {
    context: Arc<Context>,
    leaves: LeafCache,
    look_ups: Semaphore,
    forwarding: forward::Forwarding,
}

impl Edge {
    /// The edge of one server.
    pub fn new(context: Arc<Context>) -> Arc<Self> {
        let leaves = LeafCache::new(Arc::new(DeskSource::new(context.clone())), context.metrics.clone());
        let look_ups = Semaphore::new(LOOK_UPS_MAX);
        Arc::new(Self { context, leaves, look_ups, forwarding: forward::Forwarding::default() })
    }

    /// Here and now, as rights are looked at.
    fn moment(&self) -> Moment<'_> {
        Moment {
            node: &self.context.identity.name,
            now: self.context.replica.log_time(),
            token_staleness_max: self.context.token_staleness_max,
        }
    }

    /// Renews the leaves that are kept for local clients, until the future is dropped.
    pub async fn keep_leaves_fresh(&self) {
        tokio::join!(self.leaves.keep_fresh(), self.look_again_with_the_bundle());
    }

    /// Leaves whose root or issuer is to be left are renewed at once.
    async fn look_again_with_the_bundle(&self) {
        let replica = &self.context.replica;
        loop {
            let (state, deadline) = (replica.state().state.clone(), Instant::now() + LOOK_AGAIN);
            let wait = |key: WatchKey| replica.wait_for(key, state.modified(&key), deadline);
            let (roots, revoked) = (wait(WatchKey::Roots(Ca::Mesh)), wait(WatchKey::RevokedIssuers));
            let changed = tokio::select! {
                changed = roots => changed,
                changed = revoked => changed,
            };
            if changed.is_err() {
                // Too many wait already: it is looked again in time.
                sleep_until(deadline).await;
            }
            self.leaves.look_again();
        }
    }
}

/// The routes of one listener.
pub fn router(edge: &Arc<Edge>, listener: Listener) -> axum::Router {
    dispatch::router(edge, listener)
}
