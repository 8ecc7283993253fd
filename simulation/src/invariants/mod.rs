//! What must always hold, one file each. An invariant says what it is after, sees every applied entry, every step, every disk
//! operation and the end of the run, and has a synthetic test that shows that it fires.

pub mod received;

use std::sync::Arc;

use carrack_authority::{State, command::Entry, outcome::Outcome};
use carrack_raft::ports::ApplyObserver;

use crate::{crypto::registry::KeyRegistry, world::shared::Shared};

/// Every invariant of a world.
pub struct Invariants {
    shared: Arc<Shared>,
    _keys: KeyRegistry,
}

impl Invariants {
    /// The invariants of a world that has not begun.
    pub fn new(shared: Arc<Shared>, keys: KeyRegistry) -> Self {
        Self { shared, _keys: keys }
    }

    /// Looks at the world after a step.
    pub fn step(&mut self) {
        self.follow_membership();
    }

    /// Looks at the world at its end.
    pub fn finish(&mut self) {}

    fn follow_membership(&self) {
        let contexts = self.shared.servers.values().filter_map(|server| server.context());
        let newest = contexts.max_by_key(|context| context.replica.state().index);
        if let Some(context) = newest {
            self.shared.set_voters(context.replica.subscribe().borrow().membership.voters.clone());
        }
    }
}

/// Sees what one server applies.
pub struct Observer {
    host: String,
    shared: Arc<Shared>,
}

impl Observer {
    /// The observer of a server.
    pub fn new(host: &str, shared: Arc<Shared>) -> Self {
        Self { host: host.into(), shared }
    }
}

impl ApplyObserver for Observer {
    fn applied(&self, index: u64, _commands: &Entry, outcomes: &[Outcome], _after: &State) {
        self.shared.counts().applied += 1;
        self.shared.note(&self.host, crate::trace::Kind::Applied, format!("{index}: {} outcomes", outcomes.len()));
    }

    fn installed(&self, index: u64, _state: &State) {
        self.shared.note(&self.host, crate::trace::Kind::Applied, format!("starts at {index}"));
    }
}
