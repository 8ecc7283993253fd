//! A secondary is honest (the architecture's federation): it has the primary's roots and no others, and none of their keys; each of its
//! issuers is recorded in the primary before it is used; it records no leaf under an issuer that has ended; and what it has followed
//! up to a revision is what the primary had at that revision.

use std::collections::{BTreeMap, BTreeSet};

use carrack_authority::{
    Command, Outcome, State,
    federation::{CaTable, Change, Followed, Table},
    id::{Digest, KeyId},
    issuance::Issuance,
    key::Der,
    root::Ca,
    time::Timestamp,
    x509::CertificateFacts,
};

use super::{Invariant, Scene, seen::Applied};
use crate::{
    workloads::what_differs,
    world::{PRIMARY, datacenter_name},
};

/// The invariant's name.
const NAME: &str = "secondary_is_honest";

/// The states of the primary that are kept to be compared with what secondaries have followed.
const STATES_KEPT: usize = 4096;

/// See the module.
#[derive(Default)]
pub(super) struct SecondaryIsHonest {
    /// The primary's state after each of its last entries.
    states: BTreeMap<u64, State>,
    /// The certificates of all roots that the primary ever had.
    roots: BTreeSet<Digest>,
    /// The certificates of all issuers that the primary has recorded for others, with their servers.
    signed: BTreeMap<Digest, (String, u64)>,
    /// When the issuers of each secondary end.
    ends: BTreeMap<(usize, KeyId), Timestamp>,
}

impl Invariant for SecondaryIsHonest {
    fn decided(&mut self, scene: &Scene<'_>, applied: &Applied) {
        if scene.datacenter == PRIMARY {
            self.states.insert(applied.index, applied.after.clone());
            if self.states.len() > STATES_KEPT {
                self.states.pop_first();
            }
        }
        for (position, (proposal, outcome)) in applied.commands.proposals.iter().zip(&*applied.outcomes).enumerate() {
            let judged = match scene.datacenter {
                PRIMARY => {
                    self.learn(&proposal.command, outcome);
                    Ok(())
                }
                _ => self.judge(scene, applied, position, outcome),
            };
            if let Err(text) = judged {
                let name = datacenter_name(scene.datacenter);
                scene.shared.violate(NAME, format!("{name}, entry {}: {text}", applied.index));
            }
        }
    }
}

impl SecondaryIsHonest {
    fn learn(&mut self, command: &Command, outcome: &Outcome) {
        match (command, outcome) {
            (Command::PublishRoot { ca: Ca::Mesh, root, .. }, Outcome::Done) => {
                self.roots.insert(root.certificate.digest());
            }
            (Command::PublishRotationRoot { root, .. }, Outcome::Done) => {
                self.roots.insert(root.certificate.digest());
            }
            (Command::RecordRemoteIssuer(issuer), Outcome::Done) => {
                let whose = (issuer.datacenter.to_string(), issuer.node.0);
                self.signed.insert(issuer.certificate.digest(), whose);
            }
            _ => {}
        }
    }

    fn judge(
        &mut self,
        scene: &Scene<'_>,
        applied: &Applied,
        position: usize,
        outcome: &Outcome,
    ) -> Result<(), String> {
        match (&applied.commands.proposals[position].command, outcome) {
            (Command::PublishRotationRoot { root, .. }, Outcome::Done) => {
                Err(format!("it publishes the root {} of its own", root.id))
            }
            (Command::PublishRoot { ca: Ca::Mesh, root, .. }, Outcome::Done) => {
                Err(format!("it publishes the root {} of its own", root.id))
            }
            (Command::FollowPrimary(followed), Outcome::Done) => {
                if let Change::Ca(ca) | Change::CaAndSwitches(ca, _) = &followed.change {
                    self.roots_are_known(ca)?;
                }
                if let Change::Tokens { put, .. } = &followed.change
                    && let Some(local) = put.iter().find(|token| token.is_local)
                {
                    return Err(format!("the local token {} has left its datacenter", local.accessor));
                }
                // The last one of the same entry is compared with what the whole entry has made of the table.
                match is_followed_again(applied, position, followed.table) {
                    true => Ok(()),
                    false => self.is_the_primarys(followed, &applied.after),
                }
            }
            (Command::RecordIssuer(signed), Outcome::Done) => {
                let name = datacenter_name(scene.datacenter);
                self.is_recorded(&name, signed.node.0, &signed.certificate)?;
                let facts = CertificateFacts::read(signed.certificate.as_bytes()).map_err(|error| error.to_string())?;
                let id = facts.key_id.ok_or("an issuer has no key identifier")?;
                self.ends.insert((scene.datacenter, id), facts.not_after);
                Ok(())
            }
            (Command::RecordIssuance(issuance), Outcome::Recorded { .. }) => {
                self.is_alive(scene.datacenter, issuance, applied.commands.stamp)
            }
            _ => Ok(()),
        }
    }

    /// What was followed as a whole is what the primary had at that revision.
    fn is_the_primarys(&self, followed: &Followed, secondary: &State) -> Result<(), String> {
        let to = &followed.to;
        if !followed.is_all || to.reading.is_some() || to.after.is_some() {
            return Ok(());
        }
        let Some((_, primary)) = self.states.range(..=to.revision.0).next_back() else { return Ok(()) };
        match what_differs(primary, secondary, followed.table) {
            None => Ok(()),
            Some(what) => Err(format!(
                "it has followed `{}` up to {}, and {what} is not the primary's",
                followed.table, to.revision
            )),
        }
    }

    fn roots_are_known(&self, ca: &CaTable) -> Result<(), String> {
        for root in &ca.roots {
            if !self.roots.contains(&root.made.certificate.digest()) {
                return Err(format!("the root {} is not one of the primary's", root.made.id));
            }
            if root.made.sealed_key.is_some() {
                return Err(format!("the sealed key of root {} has left the primary", root.made.id));
            }
        }
        Ok(())
    }

    fn is_recorded(&self, datacenter: &str, node: u64, certificate: &Der) -> Result<(), String> {
        match self.signed.get(&certificate.digest()) {
            Some((of, server)) if of == datacenter && *server == node => Ok(()),
            Some((of, server)) => Err(format!("server {node} has the issuer of server {server} of {of}")),
            None => Err(format!("the issuer of server {node} is not recorded in the primary")),
        }
    }

    fn is_alive(&self, datacenter: usize, issuance: &Issuance, now: Timestamp) -> Result<(), String> {
        match self.ends.get(&(datacenter, issuance.issuer)) {
            None => Err(format!("the leaf {} is of the issuer {}, which nobody has", issuance.serial, issuance.issuer)),
            Some(end) if *end < now || *end < issuance.not_after => Err(format!(
                "the leaf {} is recorded at {now} until {}, its issuer ends {end}",
                issuance.serial, issuance.not_after
            )),
            Some(_) => Ok(()),
        }
    }
}

/// Whether a later command of the entry has followed the table further.
fn is_followed_again(applied: &Applied, position: usize, table: Table) -> bool {
    let later = applied.commands.proposals.iter().zip(&*applied.outcomes).skip(position + 1);
    let mut again = later.filter_map(|(proposal, outcome)| match (&proposal.command, outcome) {
        (Command::FollowPrimary(followed), Outcome::Done) => Some(followed.table),
        _ => None,
    });
    again.any(|again| again == table)
}

#[cfg(test)]
mod tests {
    use carrack_authority::{
        federation::{Cursor, RemoteIssuer},
        id::{NodeId, Revision},
        issuer::SignedIssuer,
        key::KeyKind,
        root::{NewRoot, Root, RootPhase},
    };

    use super::*;
    use crate::invariants::testing::{Trial, applied, issuance};

    /// The secondary `dc2`.
    const SECONDARY: usize = 1;
    const NODE: NodeId = NodeId(3);

    /// A CA certificate, with its key identifier and its end.
    fn certificate() -> (Der, KeyId, Timestamp) {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = Der::from(params.self_signed(&key).unwrap().der().as_ref());
        let facts = CertificateFacts::read(certificate.as_bytes()).unwrap();
        (certificate, facts.key_id.unwrap(), facts.not_after)
    }

    struct Trying {
        trial: Trial,
        invariant: SecondaryIsHonest,
    }

    impl Trying {
        fn new() -> Self {
            Self { trial: Trial::new(), invariant: SecondaryIsHonest::default() }
        }

        fn decide(&mut self, datacenter: usize, command: Command) {
            let outcome = match command {
                Command::RecordIssuance(_) => Outcome::Recorded { sequence: 1 },
                _ => Outcome::Done,
            };
            let applied = applied("a", 1, &[command], &[outcome]);
            self.invariant.decided(&self.trial.scene_of(datacenter), &applied);
        }

        /// The primary signs for a server, and the secondary has the issuer recorded for one.
        fn sign(&mut self, signed_for: NodeId, recorded_for: NodeId) -> (KeyId, Timestamp) {
            let (certificate, id, not_after) = certificate();
            let issuer = RemoteIssuer {
                id,
                datacenter: carrack_authority::spiffe::Name::parse("datacenter", "dc2").unwrap(),
                node: signed_for,
                root: id,
                certificate: certificate.clone(),
                not_before: Timestamp(0),
                not_after,
                created: Revision(0),
            };
            self.decide(PRIMARY, Command::RecordRemoteIssuer(Box::new(issuer)));
            self.record(recorded_for, certificate, not_after);
            (id, not_after)
        }

        fn record(&mut self, node: NodeId, certificate: Der, not_after: Timestamp) {
            let (expected, not_before) = (Revision(1), Timestamp(0));
            let signed = SignedIssuer { node, expected, certificate, not_before, not_after };
            self.decide(SECONDARY, Command::RecordIssuer(signed));
        }

        fn issue(&mut self, issuer: KeyId, not_after: Timestamp) {
            let issuance = Issuance { issuer, not_after, ..issuance(1) };
            self.decide(SECONDARY, Command::RecordIssuance(issuance));
        }
    }

    fn new_root() -> NewRoot {
        let (certificate, id, not_after) = certificate();
        let (provider, chain, not_before) = (String::new(), Vec::new(), Timestamp(0));
        NewRoot { id, provider, certificate, chain, key_kind: KeyKind::EcP256, not_before, not_after, sealed_key: None }
    }

    fn heard(root: NewRoot) -> Command {
        let (activation, bridge, phase_since) = (1, None, Timestamp(0));
        let (created, modified) = (Revision(1), Revision(1));
        let root = Root { made: root, phase: RootPhase::Active, activation, bridge, phase_since, created, modified };
        let (trust_domain, roots) = ("x.example".parse().unwrap(), vec![root]);
        let config = crate::scenario::Scenario::derive(1).ca;
        let change = Change::Ca(Box::new(CaTable { trust_domain, config, roots, activation }));
        let (primary, from, to) = (uuid::Uuid::nil(), Cursor::default(), Cursor::default());
        Command::FollowPrimary(Box::new(Followed { primary, table: Table::Ca, from, to, change, is_all: false }))
    }

    #[test]
    fn an_issuer_that_the_primary_recorded_and_a_leaf_within_its_life_are_good() {
        let mut trying = Trying::new();
        let (issuer, end) = trying.sign(NODE, NODE);
        trying.issue(issuer, end);
        trying.trial.expect_good();
    }

    #[test]
    fn an_issuer_that_is_not_recorded_or_is_anothers_is_found() {
        let mut trying = Trying::new();
        let (certificate, _, end) = certificate();
        trying.record(NODE, certificate, end);
        trying.trial.expect_broken(NAME);
        let mut trying = Trying::new();
        trying.sign(NodeId(2), NODE);
        trying.trial.expect_broken(NAME);
    }

    #[test]
    fn a_leaf_of_an_unknown_issuer_or_past_its_end_is_found() {
        let mut trying = Trying::new();
        trying.issue(KeyId([1; 20]), Timestamp(1));
        trying.trial.expect_broken(NAME);
        let mut trying = Trying::new();
        let (issuer, end) = trying.sign(NODE, NODE);
        trying.issue(issuer, end.plus(std::time::Duration::from_secs(1)));
        trying.trial.expect_broken(NAME);
    }

    #[test]
    fn a_root_of_its_own_and_one_that_the_primary_never_had_are_found() {
        let mut trying = Trying::new();
        let root = new_root();
        trying.decide(PRIMARY, Command::PublishRoot { ca: Ca::Mesh, root: root.clone() });
        trying.decide(SECONDARY, heard(root));
        trying.trial.expect_good();
        trying.decide(SECONDARY, heard(new_root()));
        trying.trial.expect_broken(NAME);
        let mut trying = Trying::new();
        trying.decide(SECONDARY, Command::PublishRoot { ca: Ca::Mesh, root: new_root() });
        trying.trial.expect_broken(NAME);
    }
}
