//! The rule of the WAN port: a server of another datacenter, verified against the roots of that datacenter alone. Unlike
//! a member, it is never let in by a recorded key: its own datacenter renews its certificate without this one.

use std::sync::Arc;

use carrack_authority::{spiffe::Name, time::Timestamp};
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use super::{
    peer::{Acceptance, PeerRefusal, VerifiedServer},
    rule::{LiveRule, PeerRule, PeerSide},
    verifier::{ChainVerdict, read_server, verify_chain},
    wan_trust::WanTrust,
};

/// The servers of other datacenters, to be verified at either end of a connection.
#[derive(Debug)]
pub(super) struct WanVerifier {
    trust: Arc<WanTrust>,
    expected: Option<Name>,
}

impl WanVerifier {
    /// Takes a server of any trusted datacenter if `expected` is `None`.
    pub(super) fn new(trust: Arc<WanTrust>, expected: Option<Name>) -> Self {
        Self { trust, expected }
    }
}

impl PeerRule for WanVerifier {
    fn verify(
        &self,
        presented: &[CertificateDer<'_>],
        now: Timestamp,
        side: PeerSide,
    ) -> Result<VerifiedServer, PeerRefusal> {
        // What it says of itself is only believed under the roots of the datacenter that it says.
        let (facts, id) = read_server(presented, side)?;
        if let Some(expected) = self.expected.as_ref().filter(|expected| **expected != id.datacenter) {
            return Err(PeerRefusal::OtherDatacenter { found: id.datacenter, expected: expected.clone() });
        }
        let anchors = self.trust.anchors_for(&id)?;
        let verdict = verify_chain(presented, &anchors, now, side);
        let verdict = verdict.map_err(|refusal| refusal.of_datacenter(&id.datacenter))?;
        self.trust.check_present(&id)?;
        match verdict {
            ChainVerdict::Valid => {
                Ok(VerifiedServer { id, acceptance: Acceptance::Certificate { not_after: facts.not_after } })
            }
            ChainVerdict::ExpiredAt(not_after) => Err(PeerRefusal::ExpiredElsewhere { server: id, not_after }),
        }
    }
}

impl LiveRule for WanVerifier {
    fn changes(&self) -> watch::Receiver<u64> {
        self.trust.subscribe()
    }
}

#[cfg(test)]
mod tests;
