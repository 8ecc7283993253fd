//! Every CA certificate and server certificate that enters the log is of its profile (RFC 5280 section 4.2.1; X509-SVID section 4):
//! CA bits, path lengths (a root has none, an issuer 0), key usages, the authority key identifier of its issuer, one subject and
//! one key identifier for each CA. That the dates lie within the issuer's is `validity_nests` (RFC 5280 section 6.1, as TLS
//! libraries read it). Leaves are examined when a client receives them.

use std::collections::{BTreeMap, BTreeSet};

use carrack_authority::{
    Command, Outcome, State,
    id::{Digest, KeyId},
    key::Der,
    root::{Ca, Root},
    time::Timestamp,
    x509::{
        CertificateFacts,
        certificate::{BRIDGE_PATH_LENGTH, ISSUER_PATH_LENGTH},
        extension::{KeyUsages, Purpose},
    },
};

use super::{Invariant, Scene, seen::Applied};

/// The invariant's name.
const NAME: &str = "constraints_hold";
/// The name of what is said of dates.
const NESTS: &str = "validity_nests";

/// See the module.
#[derive(Default)]
pub(super) struct ConstraintsHold {
    /// The certificate of each subject and of each key identifier of a CA.
    subjects: BTreeMap<Der, Digest>,
    key_ids: BTreeMap<KeyId, Digest>,
    checked: BTreeSet<Digest>,
    /// The subjects and the ends of the issuers of other datacenters.
    remote: BTreeMap<KeyId, (Der, Timestamp)>,
}

impl Invariant for ConstraintsHold {
    fn decided(&mut self, scene: &Scene<'_>, applied: &Applied) {
        for (proposal, outcome) in applied.commands.proposals.iter().zip(&*applied.outcomes) {
            if *outcome == Outcome::Done
                && let Err((name, text)) = self.judge(&proposal.command, &applied.before, &applied.after)
            {
                scene.shared.violate(name, format!("entry {}: {text}", applied.index));
            }
        }
    }
}

type Judged = Result<(), (&'static str, String)>;

impl ConstraintsHold {
    fn judge(&mut self, command: &Command, before: &State, after: &State) -> Judged {
        match command {
            Command::Bootstrap(bootstrap) | Command::BootstrapSecondary { bootstrap, .. } => {
                self.root(&bootstrap.server_root.certificate)
            }
            Command::PublishRoot { root, .. } => self.root(&root.certificate),
            Command::PublishRotationRoot { root, .. } => self.root(&root.certificate),
            Command::BridgeRoot { root, bridge, .. } => {
                let roots = before.roots(Ca::Mesh);
                let (Some(root), Some(former)) = (roots.find(root), roots.find(&bridge.signed_by)) else {
                    return broken(format!("the bridge to {root} is between roots that are not there"));
                };
                is_bridge(&bridge.certificate, root, former)
            }
            Command::RecordIssuer(signed) => {
                // The entry may also have made its root, or dropped it.
                let root = read(&signed.certificate)?.authority_key_id;
                let of = |state: &State| root.and_then(|root| state.roots(Ca::Mesh).find(&root).cloned());
                let Some(root) = &of(before).or_else(|| of(after)) else {
                    return broken(format!("the issuer of server {} has no root", signed.node));
                };
                self.issuer(&signed.certificate, root)
            }
            Command::RecordRemoteIssuer(issuer) => {
                let Some(root) = before.roots(Ca::Mesh).find(&issuer.root) else {
                    return broken(format!("the issuer {} of {} has no root", issuer.id, issuer.datacenter));
                };
                self.forget_ended(&issuer.id, after.now());
                self.issuer(&issuer.certificate, root)?;
                let subject = read(&issuer.certificate)?.subject;
                self.remote.insert(issuer.id, (subject, issuer.not_after));
                Ok(())
            }
            Command::RecordServerCertificate { certificate, node, .. } => {
                let Some(root) = before.roots(Ca::Server).find(&certificate.root) else {
                    return broken(format!("the certificate of server {node} has no root"));
                };
                end_entity(&certificate.certificate, root)
            }
            _ => Ok(()),
        }
    }

    fn root(&mut self, certificate: &Der) -> Judged {
        let facts = read(certificate)?;
        let is_self_signed = CertificateFacts::read_signed_by(certificate.as_bytes(), &facts.public_key).is_ok();
        // With a path length a root could not be led to over a bridge.
        if !facts.is_self_issued() || !is_self_signed || facts.path_length.is_some() {
            return broken(format!("{facts:?} is not of the profile of a root"));
        }
        self.ca(certificate, &facts)
    }

    fn issuer(&mut self, certificate: &Der, root: &Root) -> Judged {
        let facts = read(certificate)?;
        if facts.path_length != Some(ISSUER_PATH_LENGTH) {
            return broken(format!("an issuer has the path length {:?}", facts.path_length));
        }
        signed_by(certificate, &facts, root)?;
        self.ca(certificate, &facts)
    }

    /// Forgets an issuer of another datacenter that has ended: a request that was on its way when everybody slept may be answered a
    /// second time, and nobody ever had the first answer.
    fn forget_ended(&mut self, id: &KeyId, now: Timestamp) {
        if let Some((subject, _)) = self.remote.get(id).filter(|(_, end)| *end < now) {
            self.subjects.remove(subject);
            self.key_ids.remove(id);
        }
    }

    fn ca(&mut self, certificate: &Der, facts: &CertificateFacts) -> Judged {
        let digest = certificate.digest();
        if !self.checked.insert(digest) {
            return Ok(());
        }
        let usages = facts.key_usages.unwrap_or_default();
        if !facts.is_ca
            || !usages.contains(KeyUsages::CERTIFICATE_SIGN)
            || usages.contains(KeyUsages::DIGITAL_SIGNATURE)
        {
            return broken(format!("a CA certificate has the CA bit {} and the usages {usages}", facts.is_ca));
        }
        let Some(key_id) = facts.key_id else { return broken("a CA certificate has no key identifier".into()) };
        let names_one = facts.uris.len() == 1 && facts.dns_names.is_empty() && facts.ip_addresses.is_empty();
        if facts.has_empty_subject() || !names_one {
            return broken(format!("a CA certificate has the names {:?} {:?}", facts.uris, facts.dns_names));
        }
        let other_subject = self.subjects.insert(facts.subject.clone(), digest).is_some();
        let other_key = self.key_ids.insert(key_id, digest).is_some();
        if other_subject || other_key {
            return broken(format!("the subject or the key identifier {key_id} is that of another CA certificate"));
        }
        Ok(())
    }
}

/// A bridge is the new root under the former one's name: with room for an issuer below it.
fn is_bridge(certificate: &Der, root: &Root, former: &Root) -> Judged {
    let (facts, new) = (read(certificate)?, read(&root.made.certificate)?);
    let is_the_root = facts.subject == new.subject && facts.public_key == new.public_key && facts.key_id == new.key_id;
    if !is_the_root || !facts.is_ca || facts.path_length != Some(BRIDGE_PATH_LENGTH) {
        return broken(format!("{facts:?} is no bridge to root {}", root.made.id));
    }
    signed_by(certificate, &facts, former)
}

fn end_entity(certificate: &Der, root: &Root) -> Judged {
    let facts = read(certificate)?;
    signed_by(certificate, &facts, root)?;
    let usages = facts.key_usages.unwrap_or_default();
    let is_both = [Purpose::ClientAuth, Purpose::ServerAuth].iter().all(|it| facts.purposes.contains(it));
    let is_both = is_both && facts.purposes.len() == 2;
    if facts.is_ca || usages != KeyUsages::DIGITAL_SIGNATURE || !is_both || facts.uris.len() != 1 {
        return broken(format!("{facts:?} is not of the profile of a server certificate"));
    }
    Ok(())
}

fn signed_by(certificate: &Der, facts: &CertificateFacts, root: &Root) -> Judged {
    let above = read(&root.made.certificate)?;
    if facts.issuer != above.subject || facts.authority_key_id != above.key_id || facts.authority_key_id.is_none() {
        return broken(format!("{} does not name its root {}", facts.public_key.id, root.made.id));
    }
    if let Err(error) = CertificateFacts::read_signed_by(certificate.as_bytes(), &above.public_key) {
        return broken(format!("{}: {error}", facts.public_key.id));
    }
    if facts.not_before < above.not_before || facts.not_after > above.not_after {
        let (inner, outer) = ((facts.not_before, facts.not_after), (above.not_before, above.not_after));
        return Err((NESTS, format!("{} .. {} is not within {} .. {}", inner.0, inner.1, outer.0, outer.1)));
    }
    Ok(())
}

fn read(certificate: &Der) -> Result<CertificateFacts, (&'static str, String)> {
    CertificateFacts::read(certificate.as_bytes()).map_err(|error| (NAME, error.to_string()))
}

fn broken(text: String) -> Judged {
    Err((NAME, text))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, SanType};

    use super::*;

    fn root(name: &str, constraints: BasicConstraints, usages: &[KeyUsagePurpose]) -> Der {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::URI("spiffe://x.example".try_into().unwrap())];
        params.is_ca = IsCa::Ca(constraints);
        params.key_usages = usages.to_vec();
        params.key_identifier_method = KeyIdMethod::PreSpecified(name.as_bytes().repeat(20)[..20].to_vec());
        Der::from(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().as_ref())
    }

    const SIGNS: [KeyUsagePurpose; 2] = [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];

    #[test]
    fn roots_of_the_profile_with_names_of_their_own_are_good() {
        let mut invariant = ConstraintsHold::default();
        let one = root("one", BasicConstraints::Unconstrained, &SIGNS);
        invariant.root(&one).unwrap();
        invariant.root(&one).unwrap();
        invariant.root(&root("two", BasicConstraints::Unconstrained, &SIGNS)).unwrap();
    }

    #[test]
    fn a_path_length_a_missing_usage_and_a_repeated_name_are_found() {
        let mut invariant = ConstraintsHold::default();
        invariant.root(&root("one", BasicConstraints::Constrained(1), &SIGNS)).unwrap_err();
        invariant
            .root(&root("two", BasicConstraints::Unconstrained, &[KeyUsagePurpose::DigitalSignature]))
            .unwrap_err();
        invariant.root(&root("three", BasicConstraints::Unconstrained, &SIGNS)).unwrap();
        invariant.root(&root("three", BasicConstraints::Unconstrained, &SIGNS)).unwrap_err();
    }
}
