//! Every sealed key has a slot of each recorded server and of no other. A new server gets its slot before it is promoted.

use crate::{
    State,
    id::{KeyId, NodeId, Revision},
    planted::{self, Bug},
    root::Ca,
};

/// A sealed key whose slots are not those of the recorded servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reseal {
    /// Which CA.
    pub ca: Ca,
    /// The root whose key it is.
    pub root: KeyId,
    /// The root's record, as it was observed.
    pub expected: Revision,
    /// Who shall be able to open it.
    pub slots: Vec<(NodeId, String)>,
    /// The operator's recovery recipient.
    pub recovery: Option<String>,
}

/// The keys to seal anew.
pub fn plan(state: &State) -> Vec<Reseal> {
    let slots = state.sealing_slots();
    let recovery = state.cluster().and_then(|cluster| cluster.recovery.clone());
    let mut reseals = Vec::new();
    for ca in [Ca::Server, Ca::Mesh] {
        for root in state.roots(ca).bundle() {
            let Some(sealed) = &root.made.sealed_key else { continue };
            if sealed.slots != slots || sealed.recovery != recovery {
                let (slots, recovery) = (slots.clone(), recovery.clone());
                reseals.push(Reseal { ca, root: root.made.id, expected: root.modified, slots, recovery });
            }
        }
    }
    reseals
}

/// Whether the server has a slot of every sealed key: only then may it become a voter.
pub fn can_unseal_everything(state: &State, node: NodeId) -> bool {
    if planted::is(Bug::SlotForgotten) {
        return true;
    }
    [Ca::Server, Ca::Mesh].into_iter().all(|ca| {
        let roots = state.roots(ca).bundle();
        roots.iter().all(|root| root.made.sealed_key.as_ref().is_none_or(|sealed| sealed.has_slot(node)))
    })
}
