//! This server's issuer: a key made here, a request through the log, the leader's answer checked and put to work.

use std::{collections::BTreeSet, sync::Arc};

use carrack_authority::{
    Command, State, WatchKey,
    id::{KeyId, NodeId, Revision},
    issuer::{Issuer, IssuerPhase, IssuerRequest},
    plan::renew::{LOOK_AGAIN, OwnIssuer, own_issuers, to_ask},
    root::Ca,
    x509::{
        CertificateFacts, RequestedName, build_csr,
        chain::check_issuer,
        csr::{CsrLimits, VerifiedIssuerCsr},
        served::Above,
    },
};
use carrack_raft::{AppliedState, Replica};
use futures::future::{BoxFuture, FutureExt};
use tokio::time::Instant;

use super::{
    PROPOSE_WITHIN,
    desk::{ActiveIssuer, IssuingDesk},
    task::{Runs, Step, StepError, Task},
};
use crate::keys::server_keys::ServerKeys;

/// The name of this task in status.
pub const OWN_ISSUER: &str = "own issuer";

/// Keeps this server able to sign.
pub(crate) struct OwnIssuerTask {
    pub(crate) node: NodeId,
    pub(crate) replica: Replica,
    pub(crate) keys: Arc<ServerKeys>,
    pub(crate) desk: Arc<IssuingDesk>,
}

impl Task for OwnIssuerTask {
    fn name(&self) -> &'static str {
        OWN_ISSUER
    }

    fn runs(&self) -> Runs {
        Runs::Everywhere
    }

    fn watches(&self) -> &'static [WatchKey] {
        &[WatchKey::Roots(Ca::Mesh), WatchKey::Issuers, WatchKey::CaConfig, WatchKey::Members, WatchKey::Cluster]
    }

    fn step(&self, observed: Arc<AppliedState>) -> BoxFuture<'_, Result<Step, StepError>> {
        async move { self.keep_issuers(&observed.state).await }.boxed()
    }
}

impl OwnIssuerTask {
    async fn keep_issuers(&self, state: &State) -> Result<Step, StepError> {
        if state.member(self.node).is_none() {
            self.desk.withdraw();
            return Ok(Step::Idle(LOOK_AGAIN));
        }
        self.keep_certified_key(state)?;
        let held = self.keys.held_issuers()?;
        if let Err(error) = self.put_to_work(state, &held) {
            // What signs now may be retired: nothing that it signed would be recorded, and this server would not say so.
            let is_live = self.desk.issuer().and_then(|id| state.issuer(&id)).is_some_and(|issuer| self.is_own(issuer));
            if !is_live {
                self.desk.withdraw();
            }
            return Err(error);
        }
        let now = self.replica.log_time();
        let mut pause = LOOK_AGAIN;
        let own = own_issuers(state, self.node, now, |id| held.contains(id));
        if let Some(root) = to_ask(&own) {
            self.ask(root).await?;
            return Ok(Step::Acted);
        }
        for own in own {
            if let OwnIssuer::Good { renew_at, .. } = own {
                pause = pause.min(renew_at.since(now));
            }
        }
        self.delete_retired_keys(state).await?;
        Ok(Step::Idle(pause))
    }

    /// A key whose certificate is recorded, under whichever root, waits no more: the next one does not take its place.
    fn keep_certified_key(&self, state: &State) -> Result<(), StepError> {
        let (held, active) = (self.keys.held_issuers()?, self.keys.issuers()?);
        for id in held.into_iter().filter(|id| !active.contains(id)) {
            if state.issuer(&id).is_some_and(|issuer| self.is_own(issuer)) {
                self.keys.activate_issuer(id)?;
            }
        }
        Ok(())
    }

    /// Asks for an issuer with a new key: decided on a linearizable read, because a server that has just restarted may not have
    /// applied yet that it has asked, or was answered.
    async fn ask(&self, root: KeyId) -> Result<(), StepError> {
        let read = self.replica.read_linearizable(Instant::now() + PROPOSE_WITHIN).await?;
        let state = &read.state;
        self.keep_certified_key(state)?;
        let held = self.keys.held_issuers()?;
        let own = own_issuers(state, self.node, self.replica.log_time(), |id| held.contains(id));
        if to_ask(&own) != Some(root) {
            return Ok(());
        }
        let cluster = state.cluster().ok_or("the datacenter has not begun")?;
        let key = self.keys.new_issuer_key(state.ca_config().config.key_kind)?;
        let signer = self.keys.signer(&key)?;
        let csr = build_csr(&*signer, &RequestedName::Issuer(&cluster.trust_domain))?;
        let public_key = signer.public_key();
        let request = IssuerRequest {
            node: self.node,
            root,
            csr,
            key: public_key.id,
            key_kind: public_key.kind,
            revision: Revision::default(),
        };
        let proposed = self.replica.propose(Command::RequestIssuer(request), Instant::now() + PROPOSE_WITHIN).await?;
        proposed.outcome.accepted()?;
        // The next look must see the request, or it would be made again.
        self.replica.wait_index(proposed.index, Instant::now() + PROPOSE_WITHIN).await;
        Ok(())
    }

    /// Gives the desk the newest live issuer under the active root whose key is here. One whose key is gone is replaced.
    fn put_to_work(&self, state: &State, held: &BTreeSet<KeyId>) -> Result<(), StepError> {
        let active = state.roots(Ca::Mesh).active();
        let newest = active.and_then(|root| {
            let own = state.issuers().filter(|issuer| self.is_own(issuer) && issuer.root == root.made.id);
            let own = own.filter(|issuer| held.contains(&issuer.id));
            own.max_by_key(|issuer| issuer.created).map(|issuer| (root, issuer))
        });
        let Some((root, issuer)) = newest else {
            self.desk.withdraw();
            return Ok(());
        };
        let former = root.bridge.as_ref().and_then(|bridge| state.roots(Ca::Mesh).find(&bridge.signed_by));
        let above = Above::new(root, former.map(|former| &**former))?;
        if self.desk.works_with(&issuer.id, &above) {
            return Ok(());
        }
        let key = self.keys.activate_issuer(issuer.id)?;
        let signer = self.keys.signer(&key)?;
        let cluster = state.cluster().ok_or("the datacenter has not begun")?;
        let (trust_domain, datacenter) = (cluster.trust_domain.clone(), cluster.datacenter.clone());
        let root_facts = CertificateFacts::read(root.made.certificate.as_bytes())?;
        let certificate = issuer.certificate.as_bytes();
        check_issuer(certificate, signer.public_key(), &root_facts, &trust_domain, self.replica.log_time())?;
        // A key that signs what nobody can verify is found here, and not by every client.
        let test = build_csr(&*signer, &RequestedName::Issuer(&trust_domain))?;
        if let Err(error) = VerifiedIssuerCsr::verify(test.as_bytes(), &CsrLimits::default()) {
            self.keys.delete_issuer(issuer.id)?;
            let text =
                format!("the key of issuer {} signs wrongly and is deleted; another issuer is asked for", issuer.id);
            return Err(StepError::from(format!("{text}: {error}")));
        }
        self.desk.work_with(ActiveIssuer::new(root, above, issuer, signer, trust_domain, datacenter)?);
        tracing::info!(issuer = %issuer.id, root = %root.made.id, until = %issuer.not_after, "this server issues");
        Ok(())
    }

    fn is_own(&self, issuer: &Issuer) -> bool {
        issuer.node == self.node && issuer.phase == IssuerPhase::Live
    }

    /// Deletes the keys of issuers that sign nothing more: decided on a linearizable read, because a server that has just
    /// restarted may not have applied yet what makes a key a live one.
    async fn delete_retired_keys(&self, state: &State) -> Result<(), StepError> {
        let is_live = |state: &State, id: &KeyId| state.issuer(id).is_some_and(|issuer| self.is_own(issuer));
        let held = self.keys.issuers()?;
        if held.iter().all(|id| is_live(state, id)) {
            return Ok(());
        }
        let read = self.replica.read_linearizable(Instant::now() + PROPOSE_WITHIN).await?;
        for id in held {
            if !is_live(&read.state, &id) {
                self.keys.delete_issuer(id)?;
            }
        }
        Ok(())
    }
}
