//! Whom to ask when nobody leads as far as this server knows, or who should lead does not: a server that comes back at another
//! address hears from no leader, because the leader calls it at the old one, and must say first where it is.

use std::time::Duration;

use carrack_authority::id::NodeId;
use tokio::time::Instant;

use crate::status::Leadership;

/// How long commands were turned away, or had no leader to go to, before other servers are asked: longer than an election.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two servers that are asked: this goes on for as long as the datacenter has no leader.
const PAUSE: Duration = Duration::from_millis(250);

/// Looks for a leader among the members, one after the other.
#[derive(Debug, Default)]
pub(super) struct Scout {
    /// Since when commands get nowhere, and who led then.
    stuck: Option<(Instant, Option<NodeId>)>,
    next: usize,
    asked_at: Option<Instant>,
}

impl Scout {
    /// Commands get nowhere under this leader.
    pub(super) fn stuck(&mut self, leader: Option<NodeId>, now: Instant) {
        if self.stuck.is_none_or(|(_, before)| before != leader) {
            self.stuck = Some((now, leader));
        }
    }

    /// A command got somewhere.
    pub(super) fn unstuck(&mut self) {
        self.stuck = None;
    }

    /// When another server may be asked, if commands get nowhere.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let (since, _) = self.stuck?;
        Some((since + PATIENCE).max(self.asked_at.map_or(since, |asked| asked + PAUSE)))
    }

    /// The server to ask now, with its address.
    pub(super) fn next(&mut self, leadership: &Leadership, now: Instant) -> Option<(u64, String)> {
        if self.wake_at().is_none_or(|at| at > now) {
            return None;
        }
        // Also where nobody can be asked: the pause is what keeps the wait from being a busy one.
        self.asked_at = Some(now);
        let view = &leadership.membership;
        let others: Vec<_> = view.addresses.iter().filter(|(node, _)| **node != leadership.node).collect();
        let (node, address) = others.get(self.next % others.len().max(1))?;
        let next = (node.0, (*address).clone());
        self.next = self.next.wrapping_add(1);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::{
        leader_clock::ClockStatus,
        status::{MembershipId, MembershipView, Role},
    };

    fn follower(leader: Option<u64>) -> Leadership {
        let address = |node: u64| (NodeId(node), format!("host-{node}:8300"));
        let membership = MembershipView {
            id: MembershipId(None),
            voters: [1, 2, 3].map(NodeId).into(),
            learners: BTreeSet::new(),
            addresses: BTreeMap::from([1, 2, 3].map(address)),
            is_joint: false,
        };
        let (role, clock) = (Role::Follower, ClockStatus::default());
        Leadership { node: NodeId(2), role, term: 1, leader: leader.map(NodeId), membership, clock }
    }

    #[tokio::test]
    async fn the_others_are_asked_in_turn_after_an_election_would_have_ended() {
        let (start, leaderless) = (Instant::now(), follower(None));
        let mut scout = Scout::default();
        assert_eq!(scout.next(&leaderless, start + PATIENCE), None, "nothing is stuck");
        scout.stuck(None, start);
        scout.stuck(None, start + PAUSE);
        assert_eq!(scout.next(&leaderless, start + PATIENCE - PAUSE), None);
        let mut asked = Vec::new();
        for step in 0..6 {
            asked.extend(scout.next(&leaderless, start + PATIENCE + PAUSE / 2 * step).map(|(node, _)| node));
        }
        assert_eq!(asked, [1, 3, 1], "never this server itself, and not faster than the pause");
        scout.unstuck();
        assert_eq!(scout.next(&leaderless, start + PATIENCE * 2), None);
    }

    #[tokio::test]
    async fn a_server_that_knows_no_other_looks_again_after_the_pause_and_not_at_once() {
        let (start, mut alone) = (Instant::now(), follower(None));
        alone.membership.addresses.clear();
        let mut scout = Scout::default();
        scout.stuck(None, start);
        let now = start + PATIENCE;
        assert_eq!(scout.next(&alone, now), None);
        assert_eq!(scout.wake_at(), Some(now + PAUSE));
    }

    #[tokio::test]
    async fn a_new_leader_gets_its_time_first() {
        let start = Instant::now();
        let mut scout = Scout::default();
        scout.stuck(Some(NodeId(1)), start);
        scout.stuck(Some(NodeId(3)), start + PATIENCE);
        assert_eq!(scout.next(&follower(Some(3)), start + PATIENCE + PAUSE), None);
        assert!(scout.next(&follower(Some(3)), start + PATIENCE * 2).is_some());
    }
}
