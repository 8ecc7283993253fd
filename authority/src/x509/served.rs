//! What is served with a leaf above its issuer: the bridge while it outlives the leaf, and what leads from an operator's root to the
//! company's own. Never a self-signed certificate: whoever trusts one has it.
//!
//! The bridge comes first. OpenSSL takes the first certificate that fits and does not look back: a verifier that knows only the former
//! root must not be led past it.

use super::facts::{CertificateError, CertificateFacts};
use crate::{
    key::Der,
    root::{Bridge, Root},
    time::Timestamp,
};

/// What is above the issuers of one root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Above {
    bridge: Option<(Bridge, Vec<Der>)>,
    own: Vec<Der>,
}

impl Above {
    /// What is above the issuers of `root`; `former` is the root that signed its bridge, while that is in the bundle. Afterwards nothing
    /// must follow the bridge: GnuTLS verifies a chain by a root that is in the middle of it only if that ends it.
    pub fn new(root: &Root, former: Option<&Root>) -> Result<Self, CertificateError> {
        let above_former = former.map(with_its_chain).transpose()?.unwrap_or_default();
        let bridge = root.bridge.clone().map(|bridge| (bridge, above_former));
        Ok(Self { bridge, own: with_its_chain(root)? })
    }

    /// What is served after a leaf that ends then: its issuer, then the bridge if it lasts as long with what is above that, then what is
    /// above the root itself.
    pub fn serve(&self, issuer: &Der, leaf_ends_at: Timestamp) -> Vec<Der> {
        let mut served = vec![issuer.clone()];
        let bridge = self.bridge.iter().filter(|(bridge, _)| bridge.not_after >= leaf_ends_at);
        let by_bridge = bridge.flat_map(|(bridge, above)| std::iter::once(&bridge.certificate).chain(above));
        for certificate in by_bridge.chain(&self.own) {
            // Two roots of one operator have the same certificates above them.
            if !served.contains(certificate) {
                served.push(certificate.clone());
            }
        }
        served
    }
}

/// A root that another CA signed, and the certificates above it; nothing of a self-signed one.
fn with_its_chain(root: &Root) -> Result<Vec<Der>, CertificateError> {
    let facts = CertificateFacts::read(root.made.certificate.as_bytes())?;
    if facts.is_self_issued() {
        return Ok(Vec::new());
    }
    Ok(std::iter::once(&root.made.certificate).chain(&root.made.chain).cloned().collect())
}

#[cfg(test)]
mod tests;
