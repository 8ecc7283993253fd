//! The agent's own certificate: what it shows its servers, renewed at about half life and when its root stops being active. The key stays:
//! by it the servers know the agent, so that one that slept past its certificate's end comes back.

use std::{sync::Arc, time::Duration};

use carrack_authority::{
    id::KeyId,
    plan::renew::renew_at,
    root::RootPhase,
    time::Timestamp,
    x509::{CertificateFacts, pem},
};
use carrack_raft::ports::Entropy;
use tokio::time::{sleep, timeout};

use super::{
    directory::{AgentDirectory, AgentIdentity},
    followed::{Followed, HeldBundle},
    join::{own_chain, own_request},
    link::Link,
};
use crate::{
    keys::{secret::KeyMaker, server_keys::ServerCredential},
    server::task::{StepError, chain_of},
    tls::identity::ServerIdentity,
};

/// How long nothing is looked at while nothing is due.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// The rest after a renewal.
const RENEWED_REST: Duration = Duration::from_secs(5);
/// The first pause after a failed renewal; it doubles.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Keeps the agent's own certificate fresh.
pub(super) struct OwnCertificateTask {
    pub(super) identity: AgentIdentity,
    pub(super) directory: Arc<AgentDirectory>,
    pub(super) shown: Arc<ServerIdentity>,
    pub(super) link: Arc<Link>,
    pub(super) followed: Arc<Followed>,
    pub(super) key_maker: Arc<dyn KeyMaker>,
    pub(super) entropy: Arc<dyn Entropy>,
}

impl OwnCertificateTask {
    /// Renews until the future is dropped.
    pub(super) async fn run(&self) {
        let mut bundles = self.followed.bundles();
        let mut spread = self.spread();
        let mut pause = PAUSE_MIN;
        let kept = self.directory.credential(&*self.key_maker);
        let mut root = kept.ok().and_then(|kept| root_of(&kept.chain_pem));
        // When it was seen first that the root above it is left.
        let mut left_at = None;
        loop {
            let bundle = bundles.borrow_and_update().clone();
            let due = bundle.as_ref().and_then(|bundle| self.due_at(bundle, root, spread, &mut left_at));
            let left = due.map_or(LOOK_AGAIN, |due| due.since(self.followed.now()).min(LOOK_AGAIN));
            if due.is_none() || !left.is_zero() {
                // An error means that the time is over, or that the agent stops.
                drop(timeout(left.max(Duration::from_millis(10)), bundles.changed()).await);
                continue;
            }
            match self.renew().await {
                Ok(chain_pem) => {
                    root = root_of(&chain_pem);
                    (spread, left_at, pause) = (self.spread(), None, PAUSE_MIN);
                    // By a clock that is far ahead it is due again at once.
                    sleep(RENEWED_REST).await;
                }
                Err(error) => {
                    tracing::warn!(error = %chain_of(&*error), "the agent's own certificate could not be renewed; it is tried again");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// When the shown certificate is renewed; `None`: nothing is known that it could be renewed under.
    fn due_at(
        &self,
        bundle: &HeldBundle,
        root: Option<KeyId>,
        spread: u8,
        left_at: &mut Option<Timestamp>,
    ) -> Option<Timestamp> {
        let active = bundle.roots().iter().find(|root| root.phase == RootPhase::Active)?;
        let facts = self.shown.facts()?;
        let in_time = renew_at(facts.not_before, facts.not_after, &[spread]);
        if root == Some(active.made.id) {
            return Some(in_time);
        }
        // As leaves are: all agents of a datacenter do so now.
        let within = facts.authority_key_id.and_then(|issuer| bundle.told.leaving.get(&issuer).copied());
        let left_at = *left_at.get_or_insert(self.followed.now());
        let paced = left_at.plus(within.unwrap_or_default() / u32::from(u8::MAX) * u32::from(spread));
        Some(paced.min(in_time))
    }

    fn spread(&self) -> u8 {
        let mut byte = [0];
        self.entropy.fill(&mut byte);
        byte[0]
    }

    /// Asks for the next certificate and shows it; the chain that is shown then.
    async fn renew(&self) -> Result<String, StepError> {
        let key = self.directory.own_key(&*self.key_maker)?;
        let csr = own_request(&self.identity, &key, &*self.key_maker)?;
        let answer = self.link.renew(&csr).await?;
        let chain_pem = own_chain(&answer, &key, &*self.key_maker)?;
        let chain_pem = chain_pem.ok_or("the servers' answer is not of this agent's key")?;
        self.shown.show(&ServerCredential { key, chain_pem: chain_pem.clone() })?;
        tracing::info!("the agent's own certificate is renewed");
        // With a full disk, say: after the next start the one before is shown, and its key is known all the same.
        if let Err(error) = self.directory.keep_certificate(&chain_pem) {
            tracing::warn!(error = %chain_of(&error), "the agent's own certificate is not kept for the next start");
        }
        Ok(chain_pem)
    }
}

/// The root that a certificate is under, by the issuer behind it.
fn root_of(chain_pem: &str) -> Option<KeyId> {
    let chain = pem::decode_certificates(chain_pem).ok()?;
    CertificateFacts::read(chain.get(1)?.as_bytes()).ok()?.authority_key_id
}
