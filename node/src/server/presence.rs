//! On the leader: which servers of the datacenter have not answered it for a while. What every server must have done waits for them no
//! longer: one that comes back takes the bundle and an issuer before it serves.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use carrack_authority::id::NodeId;
use carrack_raft::Replica;
use tokio::time::Instant;

/// How long a server may be silent and still be waited for: longer than a restart.
pub(crate) const ABSENT_AFTER: Duration = Duration::from_secs(60);

/// What one server knows, as the leader, of the others.
#[derive(Default)]
pub(crate) struct Presence {
    /// The term that this server was seen to lead, and since when.
    leads: Mutex<Option<(u64, Instant)>>,
}

impl Presence {
    /// The servers that have not answered for [`ABSENT_AFTER`]; none on a server that does not lead, or only just does: what it has not
    /// heard in that time it cannot know.
    pub(crate) fn absent(&self, replica: &Replica) -> BTreeSet<NodeId> {
        let status = replica.status();
        let (leadership, now) = (&status.leadership, Instant::now());
        let mut leads = self.leads.lock().unwrap_or_else(PoisonError::into_inner);
        if !leadership.is_ready_leader() {
            *leads = None;
            return BTreeSet::new();
        }
        let since = match *leads {
            Some((term, since)) if term == leadership.term => since,
            _ => leads.insert((leadership.term, now)).1,
        };
        if now.duration_since(since) < ABSENT_AFTER {
            return BTreeSet::new();
        }
        let state = &replica.state().state;
        let others = state.members().map(|member| member.node).filter(|node| *node != leadership.node);
        let answered = |node: &NodeId| status.replication.get(node).and_then(|replication| replication.answered);
        let absent: BTreeSet<_> = others.filter(|node| answered(node).is_none_or(|ago| ago >= ABSENT_AFTER)).collect();
        let voters = &leadership.membership.voters;
        let is_majority_there = voters.iter().filter(|voter| !absent.contains(voter)).count() > voters.len() / 2;
        // Without a majority it is this server that is cut off, and what it says of the others is nobody's word.
        if is_majority_there { absent } else { BTreeSet::new() }
    }
}
