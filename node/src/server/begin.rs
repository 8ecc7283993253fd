//! How a datacenter begins: the first server makes the server CA and its own certificate, and commits both as the first command.

use std::{sync::Arc, time::Duration};

use carrack_authority::{
    Command, WatchKey,
    ca_config::CaConfig,
    command::Bootstrap,
    federation::Datacenter,
    id::{FeatureLevel, NodeId, Revision, Serial},
    key::Der,
    member::{Addresses, Member, ServerCertificate},
    plan::renew::LOOK_AGAIN,
    root::{NewRoot, Root, RootPhase, RootSet},
    state::Cluster,
    time::Timestamp,
    x509::VerifiedServerCsr,
};
use carrack_raft::{AppliedState, Replica, ports::Entropy};
use futures::future::{BoxFuture, FutureExt};

use super::{
    own_record::SERVER_KEY_KIND,
    task::{Runs, Step, StepError, Task},
    transport::chain_pem,
};
use crate::{
    data_directory::NodeIdentity,
    keys::server_keys::ServerKeys,
    leader::propose,
    provider::{BuiltinProvider, SealTo, builtin::ServerToSign},
};

/// The first server of every datacenter. No other server ever has this id.
pub const FIRST_NODE: NodeId = NodeId(1);

/// What an operator decides once, at the beginning.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// Where the first server is reached.
    pub addresses: Addresses,
    /// The operator's recovery recipient.
    pub recovery: Option<String>,
    /// The CA configuration.
    pub config: CaConfig,
    /// How long server certificates live.
    pub server_certificate_ttl: Duration,
    /// In a secondary: the primary.
    pub primary: Option<Datacenter>,
}

/// Begins the datacenter, if it has not begun. Only the first server can lead before that, so only it ever does.
pub(crate) struct BeginTask {
    pub(crate) identity: NodeIdentity,
    pub(crate) beginning: Option<Beginning>,
    pub(crate) replica: Replica,
    pub(crate) builtin: Arc<BuiltinProvider>,
    pub(crate) keys: Arc<ServerKeys>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

impl Task for BeginTask {
    fn name(&self) -> &'static str {
        "begin the datacenter"
    }

    fn runs(&self) -> Runs {
        Runs::OnLeader
    }

    fn watches(&self) -> &'static [WatchKey] {
        &[WatchKey::Cluster]
    }

    fn step(&self, observed: Arc<AppliedState>) -> BoxFuture<'_, Result<Step, StepError>> {
        async move {
            if observed.state.cluster().is_some() {
                return Ok(Step::Idle(LOOK_AGAIN));
            }
            let bootstrap = Box::new(self.bootstrap()?);
            let primary = self.beginning.as_ref().and_then(|beginning| beginning.primary.clone());
            let command = match primary.map(Box::new) {
                Some(primary) => Command::BootstrapSecondary { bootstrap, primary },
                None => Command::Bootstrap(bootstrap),
            };
            propose(&self.replica, command).await?;
            tracing::info!(datacenter = %self.identity.datacenter, "the datacenter has begun");
            Ok(Step::Acted)
        }
        .boxed()
    }
}

impl BeginTask {
    /// Makes the server CA and this server's certificate, puts the certificate into the key store, and answers the command that
    /// begins the datacenter. Repeated after a crash it makes them anew: nothing was committed.
    fn bootstrap(&self) -> Result<Bootstrap, StepError> {
        let identity = &self.identity;
        let beginning = self.beginning.as_ref().ok_or(
            "the datacenter was never begun: start this server with `--recovery-recipient` or `--without-recovery`",
        )?;
        let now = self.replica.log_time();
        let sealing_recipient = self.keys.sealing()?.recipient().to_string();
        let slots = vec![(identity.node, sealing_recipient.clone())];
        let seal_to = SealTo { slots, recovery: beginning.recovery.clone() };
        let server_root = self.builtin.make_server_root(&identity.cluster, &identity.datacenter, now, &seal_to)?;
        let mut member = first_member(identity, beginning, sealing_recipient, now);
        member.certificate = Some(self.certificate(beginning, &member, &server_root, now)?);
        Ok(Bootstrap {
            cluster: identity.cluster,
            datacenter: identity.datacenter.clone(),
            trust_domain: identity.trust_domain.clone(),
            feature_level: FeatureLevel::SUPPORTED,
            recovery: beginning.recovery.clone(),
            member,
            server_root,
            config: beginning.config,
        })
    }

    fn certificate(
        &self,
        beginning: &Beginning,
        member: &Member,
        server_root: &NewRoot,
        now: Timestamp,
    ) -> Result<ServerCertificate, StepError> {
        let root = unpublished(server_root.clone(), now);
        let cluster = cluster_of(&self.identity, beginning);
        let key = self.keys.pending_server_key(SERVER_KEY_KIND)?;
        let csr = VerifiedServerCsr::of_own_key(&*self.keys.signer(&key)?);
        let public_key = csr.public_key().digest();
        let mut serial = [0; 20];
        self.entropy.fill(&mut serial);
        let (ttl, serial) = (beginning.server_certificate_ttl, Serial::from_random(serial));
        let signed =
            self.builtin.sign_server(&root, &ServerToSign { csr, cluster: &cluster, member, now, ttl, serial })?;
        self.keys.activate_server(&chain_pem(&signed.der, std::slice::from_ref(&server_root.certificate)))?;
        let (not_before, not_after) = (signed.facts.not_before, signed.facts.not_after);
        Ok(ServerCertificate { certificate: signed.der, public_key, root: root.made.id, not_before, not_after })
    }
}

fn first_member(identity: &NodeIdentity, beginning: &Beginning, sealing_recipient: String, now: Timestamp) -> Member {
    Member {
        node: identity.node,
        name: identity.name.clone(),
        store: identity.store,
        addresses: beginning.addresses.clone(),
        sealing_recipient,
        supports: FeatureLevel::SUPPORTED,
        certificate: None,
        former_key: None,
        request: None,
        is_leaving: false,
        admitted_at: now,
        created: Revision::default(),
        modified: Revision::default(),
    }
}

fn cluster_of(identity: &NodeIdentity, beginning: &Beginning) -> Cluster {
    Cluster {
        id: identity.cluster,
        datacenter: identity.datacenter.clone(),
        trust_domain: identity.trust_domain.clone(),
        recovery: beginning.recovery.clone(),
        feature_level: FeatureLevel::SUPPORTED,
        is_halted: false,
    }
}

/// The root as the first command will record it.
fn unpublished(made: NewRoot, now: Timestamp) -> Root {
    let (created, modified) = (Revision::default(), Revision::default());
    Root { made, phase: RootPhase::Active, activation: 1, bridge: None, phase_since: now, created, modified }
}

/// The server CA's certificates behind a server's own, as they are served.
pub(crate) fn behind(roots: &RootSet) -> Vec<Der> {
    roots.bundle().iter().map(|root: &Arc<Root>| root.made.certificate.clone()).collect()
}
