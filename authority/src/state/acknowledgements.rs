//! Servers say of each bundle that all of their agents have it: whatever waits until a new root is known everywhere waits for that.

use super::{Change, State, check};
use crate::{
    agent::{Acknowledgement, LAGGING_NAMED_MAX, LaggingAgents},
    id::{NodeId, Revision},
    outcome::{Outcome, Rejection, WatchKey},
    root::Ca,
};

/// What a bundle is made of.
const BUNDLE: [WatchKey; 3] = [WatchKey::Roots(Ca::Mesh), WatchKey::Roots(Ca::Server), WatchKey::RevokedIssuers];

impl State {
    /// The revision of what verifiers trust: the last change of a root, of the mesh CA or of the server CA, or of a revoked issuer.
    pub fn bundle_revision(&self) -> Revision {
        BUNDLE.iter().map(|key| self.modified(key)).max().unwrap_or_default()
    }

    /// What a server said of its agents.
    pub fn acknowledgement(&self, node: NodeId) -> Option<&Acknowledgement> {
        self.acknowledgements.get(&node)
    }

    pub(super) fn acknowledge_bundle(
        &mut self,
        change: &mut Change,
        proposer: NodeId,
        node: NodeId,
        bundle: Revision,
        lagging: &LaggingAgents,
    ) -> Result<Outcome, Rejection> {
        check::from_itself(node, proposer)?;
        self.found_member(node)?;
        // Also what a command before this one in the same entry has changed.
        let is_changed_here = BUNDLE.iter().any(|key| change.has_touched(key));
        let newest = if is_changed_here { change.revision() } else { self.bundle_revision() };
        if bundle > newest {
            let reason = format!("the newest one is {newest}");
            return Err(check::invalid(format!("the bundle {bundle}"), reason));
        }
        if lagging.named.len() > LAGGING_NAMED_MAX || lagging.named.len() as u64 > lagging.count {
            let reason = format!("of {} agents at most {LAGGING_NAMED_MAX} are named", lagging.count);
            return Err(check::invalid(format!("a report that names {} lagging agents", lagging.named.len()), reason));
        }
        if let Some(told) = self.acknowledgements.get(&node) {
            if told.bundle == bundle && told.lagging == *lagging {
                return Ok(Outcome::Done);
            }
            // What all had is not taken back by a word that was long on its way.
            if told.bundle > bundle {
                let what = format!("the bundle that the agents of server {node} have");
                return Err(Rejection::Conflict { what, expected: bundle, found: told.bundle });
            }
        }
        let (lagging, told_at, modified) = (lagging.clone(), change.now, change.revision());
        self.acknowledgements.insert(node, Acknowledgement { node, bundle, lagging, told_at, modified });
        change.touch(WatchKey::Acknowledgements);
        Ok(Outcome::Done)
    }

    pub(super) fn forget_acknowledgement(&mut self, change: &mut Change, node: NodeId) {
        if self.acknowledgements.remove(&node).is_some() {
            change.touch(WatchKey::Acknowledgements);
        }
    }
}
