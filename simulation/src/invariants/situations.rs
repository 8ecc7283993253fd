//! No invariant: sees the situations that a batch of seeds must hit where they are seen best, from outside of the servers.

use std::collections::BTreeSet;

use carrack_authority::{
    Command, Outcome, Rejection, State, WatchKey,
    acl::AccessorId,
    id::{KeyId, NodeId},
    issuance::Grant,
    issuer::IssuerPhase,
    root::Ca,
    rotation::RotationCause,
};
use carrack_raft::MembershipId;

use super::{
    Invariant, Scene,
    seen::{Applied, Installed},
    view::View,
};
use crate::{
    disk::{DiskEvent, DiskFault},
    marks::Mark,
    world::{PRIMARY, server::Phase},
};

/// See the module.
#[derive(Default)]
pub(super) struct Situations {
    first_leader: Option<u64>,
    failed_disks: BTreeSet<String>,
    deleted: BTreeSet<AccessorId>,
    membership: Option<MembershipId>,
    /// Servers that had an issuer once.
    had_issuer: BTreeSet<NodeId>,
    /// Who was seen to lead first while the rotation under way was.
    rotation_leader: Option<u64>,
}

impl Invariant for Situations {
    fn disk(&mut self, scene: &Scene<'_>, host: &str, event: &DiskEvent) {
        match event {
            DiskEvent::Purged { .. } => scene.shared.mark(Mark::Purged),
            DiskEvent::FaultInjected { what: DiskFault::SyncError | DiskFault::WriteError } => {
                self.failed_disks.insert(host.to_owned());
            }
            DiskEvent::Opened => drop(self.failed_disks.remove(host)),
            _ => {}
        }
    }

    fn decided(&mut self, scene: &Scene<'_>, applied: &Applied) {
        let of_roots = WatchKey::Roots(Ca::Mesh);
        if applied.before.modified(&of_roots) != applied.after.modified(&of_roots) {
            scene.shared.book().generations.note(scene.datacenter, &applied.before, &applied.after);
        }
        for (proposal, outcome) in applied.commands.proposals.iter().zip(&*applied.outcomes) {
            self.look_at(scene, &proposal.command, outcome, applied);
        }
    }

    fn installed(&mut self, scene: &Scene<'_>, installed: &Installed) {
        if !installed.is_start {
            scene.shared.mark(Mark::SnapshotInstalled);
        }
    }

    fn looked(&mut self, scene: &Scene<'_>, _host: &str, view: &View) {
        if view.membership > self.membership {
            // The voters that the world knows are still those before this change.
            let voters = scene.shared.voters(scene.datacenter);
            let running = voters.iter().filter(|host| scene.shared.servers[*host].context().is_some()).count();
            if running < voters.len() && running == voters.len() / 2 + 1 {
                scene.shared.mark(Mark::MembershipAtTheEdge);
            }
            self.membership = view.membership;
        }
        if !view.leads() {
            return;
        }
        if view.state.rotation().is_some() {
            if *self.rotation_leader.get_or_insert(view.node) != view.node {
                scene.shared.mark(Mark::LeaderChangedInRotation);
            }
        } else {
            self.rotation_leader = None;
        }
        if *self.first_leader.get_or_insert(view.node) != view.node {
            scene.shared.mark(Mark::LeaderChanged);
        }
        if scene.views.values().filter(|other| other.leads()).count() > 1 {
            scene.shared.mark(Mark::TwoLeaders);
        }
    }

    fn stepped(&mut self, scene: &Scene<'_>) {
        self.failed_disks.retain(|host| {
            let has_ended = matches!(scene.shared.servers[host].phase(), Phase::Fatal(_));
            if has_ended {
                scene.shared.mark(Mark::FlushErrorEnds);
            }
            !has_ended
        });
    }
}

impl Situations {
    fn look_at(&mut self, scene: &Scene<'_>, command: &Command, outcome: &Outcome, applied: &Applied) {
        let before = &applied.before;
        match (command, outcome) {
            (Command::RecordServerCertificate { node, .. }, Outcome::Done) => {
                let Some(former) = before.member(*node).and_then(|member| member.certificate.as_ref()) else { return };
                scene.shared.mark(Mark::ServerCertificateRenewed);
                if former.not_after < applied.commands.stamp {
                    scene.shared.mark(Mark::SleptPastCertificates);
                }
            }
            (Command::RecordIssuer(signed), Outcome::Done) => {
                if before.issuers().any(|issuer| issuer.node == signed.node && issuer.phase == IssuerPhase::Live) {
                    scene.shared.mark(Mark::IssuerRenewed);
                } else if self.had_issuer.contains(&signed.node) && scene.datacenter != PRIMARY {
                    scene.shared.mark(Mark::IssuerAfterOutage);
                }
                self.had_issuer.insert(signed.node);
            }
            (Command::FinishRotation { .. }, Outcome::Done) => {
                self.rotation_leader = None;
                scene.shared.mark(Mark::RootRotated);
                if let Some(rotation) = before.rotation()
                    && provider(before, Some(rotation.former)) != provider(before, rotation.root)
                {
                    scene.shared.mark(Mark::ProviderChanged);
                }
                if before.rotation().is_some_and(|it| !it.is_bridged && it.cause == RotationCause::Operator) {
                    scene.shared.mark(Mark::RotatedWithoutBridge);
                }
            }
            (Command::StartRotation(_), Outcome::Rejected(Rejection::AlreadyExists { .. })) => {
                scene.shared.mark(Mark::SecondRotationRefused);
            }
            (Command::FollowActivation { .. }, Outcome::Done) => scene.shared.mark(Mark::ActivationFollowed),
            (Command::PruneRoot { .. }, Outcome::Done) => scene.shared.mark(Mark::RootPruned),
            (Command::RollBack { .. }, Outcome::Done) => scene.shared.mark(match applied.after.rotation() {
                Some(_) => Mark::RotationRolledBack,
                None => Mark::RotationAbandoned,
            }),
            (Command::DeleteToken { accessor }, Outcome::Done) => drop(self.deleted.insert(*accessor)),
            (Command::RecordIssuance(issuance), Outcome::Rejected(Rejection::GrantRefused { .. })) if matches!(&*issuance.grant, Grant::Token(accessor) if self.deleted.contains(accessor)) =>
            {
                scene.shared.mark(Mark::TokenDeletedInFlight);
            }
            _ => {}
        }
    }
}

/// Who keeps the key of a root.
fn provider(state: &State, root: Option<KeyId>) -> Option<&str> {
    root.and_then(|root| state.roots(Ca::Mesh).find(&root)).map(|root| &*root.made.provider)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{Trial, leader};

    #[test]
    fn a_second_leader_and_two_at_a_time_are_marked() {
        let (mut trial, mut situations) = (Trial::new(), Situations::default());
        trial.look(&mut situations, "a", leader(1, 1, 1));
        assert!(trial.shared.marks.all().is_empty());
        trial.look(&mut situations, "b", leader(2, 2, 1));
        assert_eq!(trial.shared.marks.all(), BTreeSet::from([Mark::LeaderChanged, Mark::TwoLeaders]));
    }
}
