//! What the Raft port asks of the recorded members: who may speak as which server.

use std::sync::Arc;

use arc_swap::ArcSwap;
use carrack_authority::{
    State,
    id::{NodeId, StoreId},
};
use carrack_raft::ports::{PeerDirectory, Refusal};
use uuid::Uuid;

/// The members as this server last applied them.
pub(crate) struct Peers {
    cluster: Uuid,
    state: ArcSwap<State>,
}

impl Peers {
    pub(crate) fn new(cluster: Uuid) -> Self {
        Self { cluster, state: ArcSwap::from_pointee(State::default()) }
    }

    /// Follows the applied state.
    pub(crate) fn follow(&self, state: &State) {
        self.state.store(Arc::new(state.clone()));
    }
}

impl PeerDirectory for Peers {
    /// A server that is not recorded here yet may be one that was admitted after what this server has applied: its certificate
    /// vouches for it. A removed one is refused for ever, and so is another store than the recorded one.
    fn check(&self, node: NodeId, store: StoreId, cluster: Uuid) -> Result<(), Refusal> {
        if cluster != self.cluster {
            return Err(Refusal::OtherCluster { found: cluster, expected: self.cluster });
        }
        let state = self.state.load();
        if let Some(removed) = state.removed_member(node) {
            let reason = format!("it was removed at {}, and its id is never used again", removed.removed_at);
            return Err(Refusal::NotMember { node, reason });
        }
        match state.member(node) {
            Some(member) if member.store != store => {
                Err(Refusal::OtherStore { node, found: store, expected: member.store })
            }
            _ => Ok(()),
        }
    }

    fn address(&self, node: NodeId) -> Option<String> {
        self.state.load().member(node).map(|member| member.addresses.raft.clone())
    }
}
