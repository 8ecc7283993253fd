//! Nothing is issued again and again: of an identity there are no more records than clients have asked for leaves, and a server gets
//! at most three issuers under one root and three server certificates while the first of them lives (it renews twice in a life). An agent
//! has at most three leaves of one identity and token recorded in the life of one, and one more for each of its starts, for each server
//! that it has lost (what was recorded and never came is recorded again), for each issuer that it is told to leave, and for each rotation.

use std::collections::{BTreeMap, BTreeSet};

use carrack_authority::{
    Command, Outcome, State,
    id::{KeyId, NodeId, Serial},
    issuance::{Holder, Issuance, Keeper},
    root::{Ca, RootPhase},
    spiffe::Name,
    time::Timestamp,
};

use super::{
    Invariant, Scene,
    seen::{Applied, Told},
};

/// The invariant's name.
const NAME: &str = "no_reissue_storm";
/// The certificates of one server that may begin while another one lives: its renewals, and one after a start.
const LIVING_MAX: usize = 4;
/// The leaves of one identity that an agent may have recorded in the life of one.
const AGENT_LEAVES_MAX: usize = 3;
/// An agent whose clock is behind by more takes every leaf for one of the future, and keeps none.
const BEHIND_MS: i64 = 30_000;

/// A server, and the root of its issuers; `None`: its server certificates.
type Whose = (NodeId, Option<KeyId>);

/// See the module.
#[derive(Default)]
pub(super) struct NoReissueStorm {
    asked: BTreeMap<String, u64>,
    recorded: BTreeMap<String, u64>,
    serials: BTreeSet<Serial>,
    /// When an agent's leaves were recorded.
    of_agents: BTreeMap<(String, Holder), Vec<Timestamp>>,
    /// Agents whose clocks were behind once.
    behind: BTreeSet<Name>,
    /// When the certificates of a server that were recorded last began and end, the oldest first: its issuers under a root, or its
    /// server certificates.
    servers: BTreeMap<Whose, Vec<(Timestamp, Timestamp)>>,
}

impl Invariant for NoReissueStorm {
    fn decided(&mut self, scene: &Scene<'_>, applied: &Applied) {
        let now = applied.after.now();
        for (proposal, outcome) in applied.commands.proposals.iter().zip(&*applied.outcomes) {
            let judged = match (&proposal.command, outcome) {
                (Command::RecordIssuance(issuance), Outcome::Recorded { .. }) => {
                    self.count(scene, issuance, &applied.after)
                }
                (Command::RecordIssuer(signed), Outcome::Done) => {
                    let issuer = applied.after.issuers().find(|issuer| issuer.certificate == signed.certificate);
                    self.add((signed.node, issuer.map(|issuer| issuer.root)), now, signed.not_after)
                }
                (Command::RecordServerCertificate { node, certificate, .. }, Outcome::Done) => {
                    self.add((*node, None), now, certificate.not_after)
                }
                _ => Ok(()),
            };
            if let Err(text) = judged {
                scene.shared.violate(NAME, format!("entry {}: {text}", applied.index));
            }
        }
    }

    fn told(&mut self, _scene: &Scene<'_>, told: &Told) {
        if let Told::LeafAsked { identity } = told {
            *self.asked.entry(identity.clone()).or_default() += 1;
        }
    }
}

impl NoReissueStorm {
    fn count(&mut self, scene: &Scene<'_>, issuance: &Issuance, after: &State) -> Result<(), String> {
        if !self.serials.insert(issuance.serial) {
            return Ok(());
        }
        let identity = issuance.identity.to_string();
        if let Keeper::Agent(node) = &issuance.holder.keeper {
            return self.count_of_agent(scene, node, issuance, after);
        }
        let asked = self.asked.get(&identity).copied().unwrap_or(0);
        let recorded = self.recorded.entry(identity.clone()).or_default();
        *recorded += 1;
        if *recorded <= asked {
            return Ok(());
        }
        Err(format!("{recorded} leaves of {identity} were recorded, {asked} were asked for"))
    }

    fn count_of_agent(
        &mut self,
        scene: &Scene<'_>,
        node: &Name,
        issuance: &Issuance,
        after: &State,
    ) -> Result<(), String> {
        let now = after.now();
        let agent = scene.shared.agents_of(scene.datacenter).find(|agent| agent.name == node.as_str());
        let Some(agent) = agent else { return Err(format!("a leaf is recorded for {node}, which is no agent")) };
        if agent.clock.ahead() < -BEHIND_MS {
            self.behind.insert(node.clone());
        }
        let life = issuance.not_after.since(issuance.not_before);
        let key = (issuance.identity.to_string(), Holder::clone(&issuance.holder));
        let recorded = self.of_agents.entry(key).or_default();
        recorded.retain(|at| at.plus(life) > now);
        recorded.push(now);
        let bundle = agent.knows().and_then(|knows| knows.followed.bundle());
        // Those under a root that was left are among the rotations.
        let is_under_active = |id: &KeyId| {
            let root = after.issuer(id).and_then(|issuer| after.roots(Ca::Mesh).find(&issuer.root));
            root.is_some_and(|root| root.phase == RootPhase::Active)
        };
        let left = bundle.map_or(0, |bundle| bundle.told.leaving.keys().filter(|id| is_under_active(id)).count());
        let lost = usize::try_from(agent.starts() + agent.all_connections()).unwrap_or(usize::MAX);
        let rotations = usize::try_from(after.roots(Ca::Mesh).activation()).unwrap_or(usize::MAX).saturating_sub(1);
        let (count, excused) = (recorded.len(), lost.saturating_add(left).saturating_add(rotations));
        if self.behind.contains(node) || count <= AGENT_LEAVES_MAX.saturating_add(excused) {
            return Ok(());
        }
        Err(format!(
            "{} has had {count} leaves of {} recorded in the life of one, and has started, lost its server or been told to leave an issuer or a root {excused} times",
            agent.host, issuance.identity
        ))
    }

    fn add(&mut self, whose: Whose, now: Timestamp, not_after: Timestamp) -> Result<(), String> {
        let living = self.servers.entry(whose).or_default();
        living.retain(|(_, end)| *end > now);
        living.push((now, not_after));
        // Counted from the first that lives: in a third of its life there may be one more.
        let first_third = |(begin, end): (Timestamp, Timestamp)| begin.plus(end.since(begin) / 3);
        let young = living.iter().filter(|life| first_third(**life) > now).count();
        if young <= LIVING_MAX {
            return Ok(());
        }
        let what = whose.1.map_or_else(|| "server certificates".into(), |root| format!("issuers under root {root}"));
        Err(format!("server {} has {young} {what} in the first third of their lives", whose.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{Trial, applied, issuance};

    #[test]
    fn a_leaf_that_was_asked_for_and_its_retry_are_good_and_another_one_is_not() {
        let (trial, mut invariant) = (Trial::new(), NoReissueStorm::default());
        let mut record = |serial: u8| {
            let entry =
                applied("a", 1, &[Command::RecordIssuance(issuance(serial))], &[Outcome::Recorded { sequence: 1 }]);
            invariant.decided(&trial.scene(), &entry);
        };
        record(1);
        trial.expect_broken(NAME);
        let (trial, mut invariant) = (Trial::new(), NoReissueStorm::default());
        let identity = issuance(1).identity.to_string();
        invariant.told(&trial.scene(), &Told::LeafAsked { identity });
        for serial in [1, 1] {
            let entry =
                applied("a", 1, &[Command::RecordIssuance(issuance(serial))], &[Outcome::Recorded { sequence: 1 }]);
            invariant.decided(&trial.scene(), &entry);
        }
        trial.expect_good();
    }

    #[test]
    fn a_server_that_renews_in_its_time_is_good_and_one_that_renews_all_the_time_is_not() {
        let renew = |pause: u64| {
            let mut invariant = NoReissueStorm::default();
            let whose = (NodeId(1), Some(KeyId([1; 20])));
            (0..20).try_for_each(|turn| invariant.add(whose, Timestamp(turn * pause), Timestamp(turn * pause + 1000)))
        };
        renew(500).unwrap();
        renew(10).unwrap_err();
    }
}
