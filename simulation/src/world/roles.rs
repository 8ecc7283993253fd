//! Who leads, as each server sees it: noted when it changes.

use std::collections::BTreeMap;

use carrack_raft::Role;

use super::shared::Shared;
use crate::trace::{Detail, Kind};

/// The last role and term of each running server.
#[derive(Default)]
pub(super) struct Roles(BTreeMap<String, (Role, u64)>);

impl Roles {
    /// Notes the roles that have changed since the last call.
    pub(super) fn follow(&mut self, shared: &Shared) {
        for (host, server) in &shared.servers {
            let Some(context) = server.context() else {
                self.0.remove(host);
                continue;
            };
            let leadership = context.replica.subscribe();
            let (role, term) = (leadership.borrow().role, leadership.borrow().term);
            if self.0.get(host) != Some(&(role, term)) {
                self.0.insert(host.clone(), (role, term));
                let does = match role {
                    Role::Learner => "learns",
                    Role::Follower => "follows",
                    Role::Candidate => "asks for votes",
                    Role::Leader => "leads",
                    Role::Stopped => "has left consensus",
                };
                shared.note_detail(host, Kind::Leader, Detail::Role(role, term), format!("{does} in term {term}"));
            }
        }
    }
}
