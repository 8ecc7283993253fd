//! The trust domain never changes, and every identity is under it (SPIFFE-ID section 2.1: it is the name of one security domain;
//! X509-SVID section 4.1: a signing certificate is for one).

use carrack_authority::{
    Command, Outcome,
    spiffe::{Identity, TrustDomain},
};

use super::{
    Invariant, Scene,
    seen::{Applied, Installed, Told},
};

/// The invariant's name.
const NAME: &str = "trust_domain_constant";

/// See the module.
#[derive(Default)]
pub(super) struct TrustDomainConstant {
    trust_domain: Option<TrustDomain>,
}

impl Invariant for TrustDomainConstant {
    fn decided(&mut self, scene: &Scene<'_>, applied: &Applied) {
        if let Some(cluster) = applied.after.cluster() {
            self.compare(scene, &cluster.trust_domain, &format!("entry {}", applied.index));
        }
        for (proposal, outcome) in applied.commands.proposals.iter().zip(&*applied.outcomes) {
            if let (Command::RecordIssuance(issuance), Outcome::Recorded { .. }) = (&proposal.command, outcome)
                && let Identity::Spiffe(id) = &*issuance.identity
            {
                self.compare(scene, &id.trust_domain, &format!("the leaf {}", issuance.serial));
            }
        }
    }

    fn installed(&mut self, scene: &Scene<'_>, installed: &Installed) {
        if let Some(cluster) = installed.state.cluster() {
            self.compare(scene, &cluster.trust_domain, &format!("a snapshot of {}", installed.host));
        }
    }

    fn told(&mut self, scene: &Scene<'_>, told: &Told) {
        let (Told::LeafReceived { identity, .. } | Told::LeafOfAgent { identity, .. }, Some(trust_domain)) =
            (told, &self.trust_domain)
        else {
            return;
        };
        if !identity.starts_with(&format!("spiffe://{trust_domain}/")) {
            scene.shared.violate(NAME, format!("a leaf of {identity} was released, we are {trust_domain}"));
        }
    }
}

impl TrustDomainConstant {
    fn compare(&mut self, scene: &Scene<'_>, found: &TrustDomain, what: &str) {
        let ours = self.trust_domain.get_or_insert_with(|| found.clone());
        if ours != found {
            scene.shared.violate(NAME, format!("{what} is of {found}, we are {ours}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{Trial, applied, issuance_of};

    fn record(trust_domains: &[&str]) -> Trial {
        let (trial, mut invariant) = (Trial::new(), TrustDomainConstant::default());
        for (index, trust_domain) in trust_domains.iter().enumerate() {
            let identity = format!("spiffe://{trust_domain}/ns/default/dc/dc1/svc/web");
            let command = Command::RecordIssuance(issuance_of(1, &identity));
            let entry = applied("a", index as u64, &[command], &[Outcome::Recorded { sequence: 1 }]);
            invariant.decided(&trial.scene(), &entry);
        }
        trial
    }

    #[test]
    fn leaves_of_one_trust_domain_are_good_and_of_two_are_not() {
        record(&["one.example", "one.example"]).expect_good();
        record(&["one.example", "two.example"]).expect_broken(NAME);
    }
}
