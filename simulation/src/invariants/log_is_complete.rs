//! The issuance log is complete: every leaf that a client received has exactly one record, no record is of two leaves, sequences
//! have no gap, and the hash chain is the one that the commands give (the log's own format, `carrack_authority::issuance`; the idea
//! is that of certificate transparency, RFC 9162 section 2).

use std::collections::BTreeMap;

use carrack_authority::{
    Command, Outcome,
    id::{Digest, Serial},
    issuance::{EMPTY_HEAD, Issuance, link},
    time::Timestamp,
    x509::CertificateFacts,
};

use super::{
    Invariant, Scene,
    seen::{Applied, Installed, Told},
};

/// The invariant's name.
const NAME: &str = "log_is_complete";

/// A record.
#[derive(Clone, Copy)]
struct Record {
    sequence: u64,
    certificate: Digest,
    not_after: Timestamp,
}

/// See the module.
pub(super) struct LogIsComplete {
    records: BTreeMap<Serial, Record>,
    received: BTreeMap<Serial, Digest>,
    /// The head of the chain and its length after each entry that recorded something.
    heads: BTreeMap<u64, (Digest, u64)>,
    head: Digest,
    length: u64,
}

impl Default for LogIsComplete {
    fn default() -> Self {
        let (records, received, heads) = Default::default();
        Self { records, received, heads, head: EMPTY_HEAD, length: 0 }
    }
}

impl Invariant for LogIsComplete {
    fn decided(&mut self, scene: &Scene<'_>, applied: &Applied) {
        for (proposal, outcome) in applied.commands.proposals.iter().zip(&*applied.outcomes) {
            if let (Command::RecordIssuance(issuance), Outcome::Recorded { sequence }) = (&proposal.command, outcome)
                && let Err(text) = self.record(applied, issuance, *sequence)
            {
                scene.shared.violate(NAME, format!("entry {}: {text}", applied.index));
            }
        }
        self.heads.insert(applied.index, (self.head, self.length));
    }

    fn applied(&mut self, scene: &Scene<'_>, applied: &Applied) {
        let log = applied.after.issuances();
        self.compare(scene, applied.index, &applied.host, (log.head(), log.length()));
    }

    fn installed(&mut self, scene: &Scene<'_>, installed: &Installed) {
        let log = installed.state.issuances();
        self.compare(scene, installed.index, &installed.host, (log.head(), log.length()));
    }

    fn told(&mut self, scene: &Scene<'_>, told: &Told) {
        let (Told::LeafReceived { certificate, .. } | Told::LeafOfAgent { certificate, .. }) = told else { return };
        let Ok(facts) = CertificateFacts::read(certificate.as_bytes()) else { return };
        if self.received.insert(facts.serial, certificate.digest()).is_some() {
            scene.shared.violate(NAME, format!("two leaves with the serial {} were received", facts.serial));
        }
        self.find(scene, &facts.serial, certificate.digest());
    }

    fn finished(&mut self, scene: &Scene<'_>) {
        for (host, view) in scene.views {
            let is_core = scene.shared.servers.get(host).is_some_and(|server| server.is_core());
            let is_behind = self.heads.keys().next_back() > Some(&view.applied);
            if !is_core || is_behind {
                continue;
            }
            for serial in self.received.keys() {
                let Some(record) = self.records.get(serial) else { continue };
                let is_live = record.not_after >= view.state.now();
                let found = view.state.issuances().find(serial).map(|found| found.sequence);
                if is_live && found != Some(record.sequence) {
                    let text = format!("{host} has the record {found:?} of {serial}, which is {}", record.sequence);
                    scene.shared.violate(NAME, text);
                }
            }
        }
    }
}

impl LogIsComplete {
    fn record(&mut self, applied: &Applied, issuance: &Issuance, sequence: u64) -> Result<(), String> {
        let serial = issuance.serial;
        if let Some(former) = self.records.get(&serial) {
            let is_same = former.sequence == sequence && former.certificate == issuance.certificate;
            return if is_same {
                Ok(())
            } else {
                Err(format!("{serial} has the records {} and {sequence}", former.sequence))
            };
        }
        if sequence != self.length + 1 {
            return Err(format!("the record {sequence} follows the record {}", self.length));
        }
        self.length = sequence;
        self.head = link(&self.head, sequence, applied.index, applied.after.now(), issuance);
        let (certificate, not_after) = (issuance.certificate, issuance.not_after);
        self.records.insert(serial, Record { sequence, certificate, not_after });
        Ok(())
    }

    fn compare(&self, scene: &Scene<'_>, index: u64, host: &str, found: (Digest, u64)) {
        let expected = self.heads.range(..=index).next_back().map_or((EMPTY_HEAD, 0), |(_, head)| *head);
        if found != expected {
            let text = format!("after entry {index} {host} has the head {found:?}, the commands give {expected:?}");
            scene.shared.violate(NAME, text);
        }
    }

    /// A leaf is released after its record is committed, so that its record is known before.
    fn find(&self, scene: &Scene<'_>, serial: &Serial, certificate: Digest) {
        match self.records.get(serial) {
            Some(record) if record.certificate == certificate => {}
            Some(_) => scene.shared.violate(NAME, format!("the record of {serial} is of another certificate")),
            None => scene.shared.violate(NAME, format!("the leaf {serial} was received and is not recorded")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{Trial, applied, issuance, received};

    fn record(records: &[(u8, u64)]) -> Trial {
        let (trial, mut invariant) = (Trial::new(), LogIsComplete::default());
        for (index, (serial, sequence)) in records.iter().enumerate() {
            let command = Command::RecordIssuance(issuance(*serial));
            let outcome = Outcome::Recorded { sequence: *sequence };
            invariant.decided(&trial.scene(), &applied("a", index as u64 + 1, &[command], &[outcome]));
        }
        trial
    }

    #[test]
    fn sequences_without_a_gap_and_a_retry_are_good() {
        record(&[(1, 1), (2, 2), (1, 1), (3, 3)]).expect_good();
    }

    #[test]
    fn a_gap_and_a_second_record_are_found() {
        record(&[(1, 1), (2, 3)]).expect_broken(NAME);
        record(&[(1, 1), (1, 2)]).expect_broken(NAME);
    }

    #[test]
    fn a_head_that_the_commands_do_not_give_is_found() {
        let (trial, mut invariant) = (Trial::new(), LogIsComplete::default());
        let command = Command::RecordIssuance(issuance(1));
        let entry = applied("a", 1, &[command], &[Outcome::Recorded { sequence: 1 }]);
        invariant.applied(&trial.scene(), &entry);
        trial.expect_good();
        invariant.decided(&trial.scene(), &entry);
        invariant.applied(&trial.scene(), &entry);
        trial.expect_broken(NAME);
    }

    #[test]
    fn a_leaf_without_a_record_is_found() {
        let (trial, mut invariant) = (Trial::new(), LogIsComplete::default());
        invariant.told(&trial.scene(), &received(0));
        trial.expect_broken(NAME);
    }
}
