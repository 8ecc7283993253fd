//! Serial numbers are positive, at most 20 octets long and unique (RFC 5280 section 4.1.2.2), and have at least 64 random bits
//! (CA/Browser Forum Baseline Requirements, section 7.1): of any two, neither the beginnings nor the ends are alike, and they are
//! not near each other. Of all certificates, whoever issued them, over restarts and retries.

use std::collections::{BTreeMap, BTreeSet};

use carrack_authority::{
    Command, Outcome,
    id::{Digest, Serial},
    key::Der,
    x509::CertificateFacts,
};

use super::{Invariant, Scene, seen::Applied};

/// The invariant's name.
const NAME: &str = "serials_unique";
/// Two random serials of a run of some ten thousand have this many leading bits in common once in a hundred thousand runs.
const ALIKE_BITS: u32 = 48;

/// See the module.
#[derive(Default)]
pub(super) struct SerialsUnique {
    certificates: BTreeMap<Serial, Digest>,
    /// The serials read backwards: those with alike ends are neighbours.
    reversed: BTreeSet<[u8; 20]>,
}

impl Invariant for SerialsUnique {
    fn decided(&mut self, scene: &Scene<'_>, applied: &Applied) {
        for (proposal, outcome) in applied.commands.proposals.iter().zip(&*applied.outcomes) {
            let certificate = match (&proposal.command, outcome) {
                (Command::RecordIssuance(issuance), Outcome::Recorded { .. }) => {
                    Some((issuance.serial, issuance.certificate))
                }
                (Command::RecordIssuer(signed), Outcome::Done) => read(&signed.certificate),
                (Command::RecordServerCertificate { certificate, .. }, Outcome::Done) => read(&certificate.certificate),
                (Command::PublishRoot { root, .. }, Outcome::Done) => read(&root.certificate),
                (Command::PublishRotationRoot { root, .. }, Outcome::Done) => read(&root.certificate),
                (Command::BridgeRoot { bridge, .. }, Outcome::Done) => read(&bridge.certificate),
                (Command::Bootstrap(bootstrap) | Command::BootstrapSecondary { bootstrap, .. }, Outcome::Done) => {
                    read(&bootstrap.server_root.certificate)
                }
                (Command::RecordRemoteIssuer(issuer), Outcome::Done) => read(&issuer.certificate),
                _ => None,
            };
            if let Some((serial, certificate)) = certificate
                && let Err(text) = self.add(serial, certificate)
            {
                scene.shared.violate(NAME, format!("entry {}: {text}", applied.index));
            }
        }
    }
}

fn read(certificate: &Der) -> Option<(Serial, Digest)> {
    let facts = CertificateFacts::read(certificate.as_bytes()).ok()?;
    Some((facts.serial, certificate.digest()))
}

impl SerialsUnique {
    fn add(&mut self, serial: Serial, certificate: Digest) -> Result<(), String> {
        if serial.0[0] >= 0x80 || serial.0 == [0; 20] {
            return Err(format!("the serial {serial} is not positive"));
        }
        match self.certificates.insert(serial, certificate) {
            Some(former) if former == certificate => return Ok(()),
            Some(_) => return Err(format!("two certificates have the serial {serial}")),
            None => {}
        }
        let near = self.certificates.range(..serial).next_back().map(|(near, _)| near.0);
        let next = self.certificates.range(serial..).nth(1).map(|(near, _)| near.0);
        let mut reversed = serial.0;
        reversed.reverse();
        self.reversed.insert(reversed);
        let before = self.reversed.range(..reversed).next_back().copied();
        let after = self.reversed.range(reversed..).nth(1).copied();
        let alike = |one: [u8; 20], others: [Option<[u8; 20]>; 2]| {
            others.into_iter().flatten().any(|other| common_bits(&one, &other) >= ALIKE_BITS)
        };
        if alike(serial.0, [near, next]) || alike(reversed, [before, after]) {
            return Err(format!("the serial {serial} is like another one in more than {ALIKE_BITS} bits"));
        }
        Ok(())
    }
}

fn common_bits(one: &[u8; 20], other: &[u8; 20]) -> u32 {
    let mut bits = 0;
    for (one, other) in one.iter().zip(other) {
        let equal = (one ^ other).leading_zeros();
        bits += equal;
        if equal < 8 {
            break;
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;
    use crate::random::Seed;

    fn add_all(serials: impl IntoIterator<Item = [u8; 20]>) -> Result<(), String> {
        let mut invariant = SerialsUnique::default();
        let mut serials = serials.into_iter().enumerate();
        serials.try_for_each(|(number, serial)| {
            let number = u8::try_from(number % 256).unwrap();
            invariant.add(Serial(serial), Digest([number; 32]))
        })
    }

    fn random(count: usize) -> Vec<[u8; 20]> {
        let mut stream = Seed(1).stream("serials");
        let mut draw = || {
            let mut serial = [0; 20];
            stream.fill_bytes(&mut serial);
            Serial::from_random(serial).0
        };
        (0..count).map(|_| draw()).collect()
    }

    #[test]
    fn random_serials_are_good() {
        add_all(random(5000)).unwrap();
    }

    #[test]
    fn serials_that_count_or_repeat_or_are_negative_are_found() {
        let first = random(1)[0];
        let changed = |at: usize| {
            let mut serial = first;
            serial[at] ^= 1;
            serial
        };
        add_all([first, changed(19)]).unwrap_err();
        add_all([first, changed(0)]).unwrap_err();
        add_all([first, first]).unwrap_err();
        add_all([[0x80; 20]]).unwrap_err();
        add_all([[0; 20]]).unwrap_err();
    }
}
