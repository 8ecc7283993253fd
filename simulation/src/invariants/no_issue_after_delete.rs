//! A token that was deleted or ended at an index entitles to no record after it, and one that is for some services to no others
//! (Consul's ACL rules: a service identity is `service:write` on that name). Decided again here from the tokens' commands alone.
//!
//! In a secondary what counts is what it has followed of the primary (`secondary_is_honest` compares that with what the primary has).
//! The bound: what it has not heard for longer than `acl.token_staleness_max`, and the time that an issuance may take, entitles to
//! nothing; where that is not set, a deletion holds from when the secondary hears of it, as Consul's `extend-cache`.

use std::collections::{BTreeMap, BTreeSet};

use carrack::server::desk::ISSUE_WITHIN;
use carrack_authority::{
    Command, Outcome,
    acl::{AccessorId, Token},
    federation::{Change, Page, Table},
    id::{Revision, Serial},
    issuance::{Grant, Issuance},
    spiffe::{Identity, Name, SpiffePath},
    time::Timestamp,
};

use super::{Invariant, Scene, seen::Applied};
use crate::{
    marks::Mark,
    world::{PRIMARY, datacenter_name},
};

/// The invariant's name.
const NAME: &str = "no_issue_after_delete";
/// A secondary that hears of a deletion so much later was cut off.
const LATE_MICROS: u64 = 5_000_000;

/// See the module.
#[derive(Default)]
pub(super) struct NoIssueAfterDelete {
    /// The tokens of each datacenter.
    tokens: BTreeMap<usize, Tokens>,
    recorded: BTreeSet<Serial>,
    /// When the primary deleted a token.
    deleted: BTreeMap<AccessorId, u64>,
}

/// The tokens of one datacenter: its own, and in a secondary those of the primary, which wait behind its own with the same public id or
/// the same secret.
#[derive(Default)]
struct Tokens {
    /// The agents that may have certificates of their own.
    agents: BTreeSet<Name>,
    own: BTreeMap<AccessorId, Token>,
    followed: BTreeMap<AccessorId, Token>,
}

impl Tokens {
    /// The token of this public id, if it is honoured.
    fn honoured(&self, accessor: &AccessorId) -> Result<&Token, String> {
        if let Some(own) = self.own.get(accessor) {
            return Ok(own);
        }
        let gone = || format!("the token {accessor}, which is gone");
        let found = self.followed.get(accessor).ok_or_else(gone)?;
        match self.own.values().find(|own| own.secret == found.secret) {
            Some(own) => Err(format!("the token {accessor}, behind which the local {} stands", own.accessor)),
            None => Ok(found),
        }
    }

    fn is_hidden(&self, token: &Token) -> bool {
        self.own.contains_key(&token.accessor) || self.own.values().any(|own| own.secret == token.secret)
    }
}

impl Invariant for NoIssueAfterDelete {
    fn decided(&mut self, scene: &Scene<'_>, applied: &Applied) {
        let tokens = self.tokens.entry(scene.datacenter).or_default();
        for (proposal, outcome) in applied.commands.proposals.iter().zip(&*applied.outcomes) {
            match (&proposal.command, outcome) {
                (Command::PutToken { token, .. } | Command::BootstrapAcl { token, .. }, Outcome::Done) => {
                    tokens.own.insert(token.accessor, token.clone());
                }
                (Command::DeleteToken { accessor }, Outcome::Done) => {
                    tokens.own.remove(accessor);
                    if scene.datacenter == PRIMARY {
                        self.deleted.insert(*accessor, scene.shared.clock.micros());
                    }
                }
                (Command::AdmitAgent { node, .. }, Outcome::Done) => drop(tokens.agents.insert(node.clone())),
                (Command::RemoveAgent { node, .. }, Outcome::Done) => drop(tokens.agents.remove(node)),
                (Command::FollowPrimary(followed), Outcome::Done) => {
                    if let Change::Tokens { page, put, deleted } = &followed.change {
                        follow(&mut tokens.followed, page.as_ref(), put, deleted);
                        if put.iter().any(|token| tokens.is_hidden(token)) {
                            scene.shared.mark(Mark::TokenHidden);
                        }
                        let now = scene.shared.clock.micros();
                        let is_late = |accessor| self.deleted.get(accessor).is_some_and(|at| at + LATE_MICROS < now);
                        if deleted.iter().any(is_late) {
                            scene.shared.mark(Mark::DeletionHeardLate);
                        }
                        if followed.from.revision > Revision(0) && page.is_some_and(|page| page.after.is_none()) {
                            scene.shared.mark(Mark::ReadAnew);
                        }
                    }
                }
                (Command::RecordIssuance(issuance), Outcome::Recorded { .. })
                    if self.recorded.insert(issuance.serial) =>
                {
                    let now = applied.after.now();
                    let judged = match &*issuance.grant {
                        Grant::Agent(node) => judge_agent(tokens, issuance, node),
                        _ => judge(tokens, issuance, now).and_then(|token| is_fresh(scene, applied, token, now)),
                    };
                    if let Err(text) = judged {
                        let name = datacenter_name(scene.datacenter);
                        scene.shared.violate(NAME, format!("{name}, entry {}: {text}", applied.index));
                    }
                }
                _ => {}
            }
        }
    }
}

/// Takes over what was heard of the primary: within a page only what comes with it is there.
fn follow(tokens: &mut BTreeMap<AccessorId, Token>, page: Option<&Page>, put: &[Token], deleted: &[AccessorId]) {
    if let Some(page) = page {
        tokens.retain(|accessor, _| !page.contains(accessor.0));
    }
    tokens.retain(|accessor, _| !deleted.contains(accessor));
    tokens.extend(put.iter().map(|token| (token.accessor, token.clone())));
}

/// An agent may have a certificate of its own name alone, while it is one.
fn judge_agent(tokens: &Tokens, issuance: &Issuance, node: &Name) -> Result<(), String> {
    let is_own = matches!(
        &*issuance.identity,
        Identity::Spiffe(id) if matches!(&id.path, SpiffePath::Agent { node: named, .. } if named == node)
    );
    match is_own && tokens.agents.contains(node) {
        true => Ok(()),
        false => Err(format!("the leaf {} of {} is recorded for the agent {node}", issuance.serial, issuance.identity)),
    }
}

fn judge<'a>(tokens: &'a Tokens, issuance: &Issuance, now: Timestamp) -> Result<&'a Token, String> {
    let Grant::Token(accessor) = &*issuance.grant else {
        return Err(format!("the leaf {} is recorded for {}", issuance.serial, issuance.grant));
    };
    let recorded_for = |what: String| format!("the leaf {} is recorded for {what}", issuance.serial);
    let token = tokens.honoured(accessor).map_err(recorded_for)?;
    if token.expires_at.is_some_and(|end| end <= now) {
        return Err(recorded_for(format!("the token {accessor}, which has ended")));
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
    Ok(token)
}

/// Whether a secondary has heard of the primary recently enough to honour one of its tokens.
fn is_fresh(scene: &Scene<'_>, applied: &Applied, token: &Token, now: Timestamp) -> Result<(), String> {
    let Some(most) = scene.shared.scenario.federation.token_staleness_max else { return Ok(()) };
    if scene.datacenter == PRIMARY || token.is_local {
        return Ok(());
    }
    let heard_at = applied.before.progress(Table::Tokens).heard_at;
    if now <= heard_at.plus(most).plus(ISSUE_WITHIN) {
        return Ok(());
    }
    Err(format!("a leaf is recorded at {now} for the token {}, of which {heard_at} was heard last", token.accessor))
}

#[cfg(test)]
mod tests {
    use carrack_authority::federation::Followed;

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

    #[test]
    fn an_agent_has_certificates_of_its_own_name_from_its_admission_to_its_removal() {
        let (node, digest) = (Name::parse("node", "n1").unwrap(), carrack_authority::id::Digest([1; 32]));
        let admit = || Command::AdmitAgent { secret: digest, node: node.clone(), public_key: digest };
        let of = |identity: &str, serial| {
            let grant = Grant::Agent(node.clone()).into();
            Command::RecordIssuance(Issuance { grant, ..issuance_of(serial, identity) })
        };
        let own = "spiffe://x.example/agent/client/dc/dc1/id/n1";
        let remove = Command::RemoveAgent { node: node.clone(), expected: Revision(0) };
        decide(&[admit(), of(own, 1)]).expect_good();
        decide(&[of(own, 1)]).expect_broken(NAME);
        decide(&[admit(), remove, of(own, 1)]).expect_broken(NAME);
        decide(&[admit(), of("spiffe://x.example/agent/client/dc/dc1/id/n2", 1)]).expect_broken(NAME);
        decide(&[admit(), of("spiffe://x.example/ns/default/dc/dc1/svc/web", 1)]).expect_broken(NAME);
    }

    fn heard(page: Option<Page>, put: &[&str], deleted: &[AccessorId]) -> Command {
        let change =
            Change::Tokens { page, put: put.iter().map(|it| token_for(it)).collect(), deleted: deleted.to_vec() };
        let (from, to) = Default::default();
        let primary = uuid::Uuid::nil();
        Command::FollowPrimary(Box::new(Followed { primary, table: Table::Tokens, from, to, change, is_all: true }))
    }

    #[test]
    fn a_followed_token_entitles_until_its_deletion_is_heard_or_a_page_comes_without_it() {
        let whole = Page { after: None, upto: None };
        decide(&[heard(Some(whole), &["web"], &[]), record(1)]).expect_good();
        decide(&[heard(None, &["web"], &[]), heard(None, &[], &[token_for("web").accessor]), record(1)])
            .expect_broken(NAME);
        decide(&[heard(None, &["web"], &[]), heard(Some(whole), &[], &[]), record(1)]).expect_broken(NAME);
    }
}
