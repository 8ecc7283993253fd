//! Connects to servers of other datacenters, and makes sure that a server of the dialled datacenter answers.

use std::{io, sync::Arc};

use carrack_authority::spiffe::Name;
use carrack_raft::ports::BoxedStream;

use super::{
    clock::TlsClock, dialer::MutualDialing, identity::ServerIdentity, tap::Taps, wan_trust::WanTrust,
    wan_verifier::WanVerifier,
};
use crate::{
    network::Network,
    telemetry::{labels::Port, metrics::Metrics},
};

/// Dials the servers of other datacenters.
#[derive(Clone)]
pub struct WanDialer {
    dialing: Arc<MutualDialing>,
    trust: Arc<WanTrust>,
}

impl WanDialer {
    /// Dials over `network`, showing `identity`, and believing `trust`.
    pub fn new(
        network: Arc<dyn Network>,
        identity: Arc<ServerIdentity>,
        trust: Arc<WanTrust>,
        clock: TlsClock,
        metrics: Arc<Metrics>,
        taps: Option<Taps>,
    ) -> Self {
        Self { dialing: Arc::new(MutualDialing { port: Port::Wan, network, identity, clock, metrics, taps }), trust }
    }

    /// Connects to any server of `datacenter` at `host:port`. The error of a refused peer holds a
    /// [`PeerRefusal`](super::peer::PeerRefusal). The connection ends when its certificate does, or the trust in it.
    pub async fn connect(&self, datacenter: &Name, address: &str) -> io::Result<BoxedStream> {
        let rule = WanVerifier::new(self.trust.clone(), Some(datacenter.clone()));
        Ok(Box::new(self.dialing.connect(Arc::new(rule), address).await?))
    }
}

#[cfg(test)]
mod tests;
