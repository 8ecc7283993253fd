//! A token that was deleted or ended at an index entitles to no record after it, and one that is for some services to no others
//! (Consul's ACL rules: a service identity is `service:write` on that name). Decided again here from the tokens' commands alone.

use std::collections::{BTreeMap, BTreeSet};

use carrack_authority::{
    Command, Outcome,
    acl::{AccessorId, Token},
    id::Serial,
    issuance::{Grant, Issuance},
    spiffe::{Identity, SpiffePath},
    time::Timestamp,
};

use super::{Invariant, Scene, seen::Applied};

/// The invariant's name.
const NAME: &str = "no_issue_after_delete";

/// See the module.
#[derive(Default)]
pub(super) struct NoIssueAfterDelete {
    tokens: BTreeMap<AccessorId, Token>,
    recorded: BTreeSet<Serial>,
}

impl Invariant for NoIssueAfterDelete {
    fn decided(&mut self, scene: &Scene<'_>, applied: &Applied) {
        for (proposal, outcome) in applied.commands.proposals.iter().zip(&*applied.outcomes) {
            match (&proposal.command, outcome) {
                (Command::PutToken { token, .. } | Command::BootstrapAcl { token, .. }, Outcome::Done) => {
                    self.tokens.insert(token.accessor, token.clone());
                }
                (Command::DeleteToken { accessor }, Outcome::Done) => drop(self.tokens.remove(accessor)),
                (Command::RecordIssuance(issuance), Outcome::Recorded { .. }) => {
                    if self.recorded.insert(issuance.serial)
                        && let Err(text) = self.judge(issuance, applied.after.now())
                    {
                        scene.shared.violate(NAME, format!("entry {}: {text}", applied.index));
                    }
                }
                _ => {}
            }
        }
    }
}

impl NoIssueAfterDelete {
    fn judge(&self, issuance: &Issuance, now: Timestamp) -> Result<(), String> {
        let Grant::Token(accessor) = &*issuance.grant else {
            return Err(format!("the leaf {} is recorded for {}", issuance.serial, issuance.grant));
        };
        let gone = || format!("the leaf {} is recorded for the token {accessor}, which is gone", issuance.serial);
        let token = self.tokens.get(accessor).ok_or_else(gone)?;
        if token.expires_at.is_some_and(|end| end <= now) {
            return Err(gone());
        }
        let Identity::Spiffe(id) = &*issuance.identity else {
            return Err(format!("the token {accessor} entitles to no {}", issuance.identity));
        };
        // What policies allow is `acl`'s to decide; a token without any is its service identities.
        let is_entitled = match &id.path {
            SpiffePath::Service { service, .. } => token.service_identities.iter().any(|of| of.service == *service),
            SpiffePath::Agent { node, .. } => token.node_identities.iter().any(|of| of.node == *node),
            SpiffePath::Server { .. } => false,
        };
        if token.policies.is_empty() && !is_entitled {
            return Err(format!("the token {accessor} does not entitle to {}", issuance.identity));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{Trial, applied, issuance, issuance_of, token_for};

    fn decide(commands: &[Command]) -> Trial {
        let (trial, mut invariant) = (Trial::new(), NoIssueAfterDelete::default());
        for (index, command) in commands.iter().enumerate() {
            let outcome = match command {
                Command::RecordIssuance(_) => Outcome::Recorded { sequence: 1 },
                _ => Outcome::Done,
            };
            invariant.decided(&trial.scene(), &applied("a", index as u64, std::slice::from_ref(command), &[outcome]));
        }
        trial
    }

    fn put(service: &str) -> Command {
        Command::PutToken { expected: carrack_authority::id::Revision(0), token: token_for(service) }
    }

    fn delete() -> Command {
        Command::DeleteToken { accessor: token_for("web").accessor }
    }

    fn record(serial: u8) -> Command {
        Command::RecordIssuance(issuance(serial))
    }

    #[test]
    fn a_leaf_of_a_token_that_is_there_and_a_retry_after_it_is_gone_are_good() {
        decide(&[put("web"), record(1), delete(), record(1), put("web"), record(2)]).expect_good();
    }

    #[test]
    fn a_leaf_of_a_deleted_token_or_of_another_service_is_found() {
        decide(&[put("web"), delete(), record(1)]).expect_broken(NAME);
        decide(&[put("db"), record(1)]).expect_broken(NAME);
        let other = issuance_of(1, "spiffe://x.example/ns/default/dc/dc1/svc/db");
        decide(&[put("web"), Command::RecordIssuance(other)]).expect_broken(NAME);
    }
}
