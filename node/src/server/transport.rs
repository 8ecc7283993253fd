//! What this server shows to its peers and whom it trusts as one: both follow the applied state, without a restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use carrack_authority::{State, id::Digest, key::Der, member::Member, root::Ca, x509::pem};

use super::{
    begin::behind,
    peers::Peers,
    task::{StepError, chain_of},
};
use crate::{
    data_directory::{DataDirectory, NodeIdentity},
    keys::server_keys::ServerCredential,
    network::Network,
    telemetry::metrics::Metrics,
    tls::{
        clock::TlsClock,
        dialer::ServerDialer,
        identity::ServerIdentity,
        tap::Taps,
        trust::{ServerTrust, TrustedServers},
        wan_dialer::WanDialer,
        wan_trust::{TrustedDatacenter, WanTrust},
    },
};

/// This server's identity on the network, and its view of the others'.
pub(crate) struct Transport {
    own: NodeIdentity,
    pub(crate) identity: Arc<ServerIdentity>,
    pub(crate) trust: Arc<ServerTrust>,
    pub(crate) wan_trust: Arc<WanTrust>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) taps: Option<Taps>,
    data: Arc<DataDirectory>,
    shown: Mutex<String>,
}

impl Transport {
    /// Shows the stored certificate and trusts the roots behind it, until the state says more. The first server of a datacenter has
    /// neither before that has begun.
    pub(crate) fn new(
        own: NodeIdentity,
        credential: Option<&ServerCredential>,
        data: Arc<DataDirectory>,
        taps: Option<Taps>,
    ) -> Result<Self, StepError> {
        let peers = Arc::new(Peers::new(own.cluster));
        let wan_trust = Arc::new(WanTrust::new(own.datacenter.clone(), own.cluster));
        let (identity, trust, shown) = (Arc::default(), Arc::default(), Mutex::default());
        let transport = Self { own, identity, trust, wan_trust, peers, taps, data, shown };
        if let Some(credential) = credential {
            transport.show(credential)?;
            let roots = pem::decode_certificates(&credential.chain_pem)?.into_iter().skip(1).collect();
            transport.trust.replace(transport.trusted(roots, &State::default()))?;
        }
        Ok(transport)
    }

    /// Trusts what the state records.
    pub(crate) fn follow(&self, state: &State) -> Result<(), StepError> {
        self.peers.follow(state);
        self.follow_datacenters(state);
        let roots = behind(state.roots(Ca::Server));
        if !roots.is_empty() {
            self.data.write_server_ca(&pem::encode_certificates(&roots))?;
            self.trust.replace(self.trusted(roots, state))?;
        }
        Ok(())
    }

    /// Trusts the other datacenters that the state records.
    fn follow_datacenters(&self, state: &State) {
        let others = state.datacenters().map(|other| TrustedDatacenter {
            name: other.name.clone(),
            cluster: other.cluster,
            roots: other.server_roots.clone(),
            servers: state.servers_of(&other.name).cloned(),
        });
        for problem in self.wan_trust.replace(others.collect()) {
            tracing::error!(
                problem = chain_of(&problem),
                "something that is recorded of another datacenter cannot be used"
            );
        }
    }

    /// Shows this certificate in handshakes that begin from now on.
    pub(crate) fn show(&self, credential: &ServerCredential) -> Result<(), StepError> {
        self.identity.show(credential)?;
        credential.chain_pem.clone_into(&mut self.shown());
        Ok(())
    }

    /// Dials the other servers, and makes sure that it is them.
    pub(crate) fn dialer(&self, network: Arc<dyn Network>, clock: &TlsClock, metrics: &Arc<Metrics>) -> ServerDialer {
        let (identity, trust, taps) = (self.identity.clone(), self.trust.clone(), self.taps.clone());
        ServerDialer::new(network, identity, trust, clock.clone(), metrics.clone(), taps)
    }

    /// Dials servers of other datacenters, and makes sure that they are of the dialled one.
    pub(crate) fn wan_dialer(&self, network: Arc<dyn Network>, clock: &TlsClock, metrics: &Arc<Metrics>) -> WanDialer {
        let (identity, trust, taps) = (self.identity.clone(), self.wan_trust.clone(), self.taps.clone());
        WanDialer::new(network, identity, trust, clock.clone(), metrics.clone(), taps)
    }

    /// Whether this chain is the one that is shown.
    pub(crate) fn shows(&self, chain_pem: &str) -> bool {
        *self.shown() == chain_pem
    }

    fn shown(&self) -> std::sync::MutexGuard<'_, String> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trusted(&self, roots: Vec<Der>, state: &State) -> TrustedServers {
        TrustedServers {
            cluster: self.own.cluster,
            datacenter: self.own.datacenter.clone(),
            roots,
            keys: state.members().map(|member| (member.node, recorded_keys(member))).collect::<BTreeMap<_, _>>(),
            certified_from: state
                .members()
                .filter_map(|member| Some((member.node, member.certificate.as_ref()?.not_before)))
                .collect(),
            removed: state.removed_members().map(|removed| removed.node).collect(),
        }
    }
}

fn recorded_keys(member: &Arc<Member>) -> BTreeSet<Digest> {
    let certified = member.certificate.iter().map(|certificate| certificate.public_key);
    let requested = member.request.iter().map(|request| request.public_key);
    certified.chain(requested).chain(member.former_key).collect()
}

/// A server certificate with the server CA's roots behind it: joiners find the pinned one there.
pub(crate) fn chain_pem(certificate: &Der, roots: &[Der]) -> String {
    pem::encode_certificates(std::iter::once(certificate).chain(roots))
}
