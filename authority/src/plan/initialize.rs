//! The CA begins: the first root is published and activated. There is nobody yet who would have to learn of it first.

use crate::{
    State,
    id::{KeyId, Revision},
    root::{Ca, RootPhase},
};

/// What the leader does next so that the mesh CA exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initialize {
    /// Make a root, seal its key, publish it.
    MakeRoot,
    /// Activate the first root.
    Activate {
        /// The root.
        root: KeyId,
        /// Its record, as it was observed.
        expected: Revision,
    },
}

/// The next step, or `None` when a root is active.
pub fn plan(state: &State) -> Option<Initialize> {
    // A secondary's roots are the primary's.
    state.cluster().filter(|_| state.primary().is_none())?;
    let roots = state.roots(Ca::Mesh).bundle();
    if roots.is_empty() {
        return Some(Initialize::MakeRoot);
    }
    let is_first = roots.iter().all(|root| root.phase == RootPhase::Prepared);
    let first = roots.first().filter(|_| is_first)?;
    Some(Initialize::Activate { root: first.made.id, expected: first.modified })
}
