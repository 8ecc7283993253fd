//! This server's own record: where it is reached, and the server certificate by which its peers know it.

use std::sync::Arc;

use carrack_authority::{
    Command, State, WatchKey,
    id::{Digest, FeatureLevel, NodeId, Revision},
    key::{Der, KeyKind},
    member::{Addresses, ServerCertificateRequest},
    plan::renew::{LOOK_AGAIN, OwnRecord, own_record},
    root::Ca,
    x509::request::{RequestedName, build_csr},
};
use carrack_raft::{AppliedState, Replica};
use futures::future::{BoxFuture, FutureExt};
use tokio::time::Instant;

use super::{
    PROPOSE_WITHIN,
    begin::behind,
    task::{Runs, Step, StepError, Task},
    transport::{Transport, chain_pem},
};
use crate::keys::{
    secret::SecretKey,
    server_keys::{ServerKeys, ServerKeysError},
};

/// The kind of the keys of server certificates: both ends are ours.
pub const SERVER_KEY_KIND: KeyKind = KeyKind::EcP256;

/// Keeps this server's record true and its certificate fresh.
pub(crate) struct OwnRecordTask {
    pub(crate) node: NodeId,
    pub(crate) addresses: Addresses,
    pub(crate) replica: Replica,
    pub(crate) keys: Arc<ServerKeys>,
    pub(crate) transport: Arc<Transport>,
}

impl Task for OwnRecordTask {
    fn name(&self) -> &'static str {
        "own record"
    }

    fn runs(&self) -> Runs {
        Runs::Everywhere
    }

    fn watches(&self) -> &'static [WatchKey] {
        &[WatchKey::Members, WatchKey::Roots(Ca::Server), WatchKey::Cluster, WatchKey::Datacenters]
    }

    fn step(&self, observed: Arc<AppliedState>) -> BoxFuture<'_, Result<Step, StepError>> {
        async move { self.keep(&observed.state).await }.boxed()
    }
}

impl OwnRecordTask {
    async fn keep(&self, state: &State) -> Result<Step, StepError> {
        self.transport.follow(state)?;
        let is_key_gone = !self.show_newest(state)?;
        let now = self.replica.log_time();
        match own_record(state, self.node, now, &self.addresses) {
            OwnRecord::Good { .. } if is_key_gone => self.request_certificate().await,
            OwnRecord::Good { renew_at } => Ok(Step::Idle(renew_at.since(now).min(LOOK_AGAIN))),
            OwnRecord::WaitForCertificate | OwnRecord::Removed => Ok(Step::Idle(LOOK_AGAIN)),
            OwnRecord::Announce => {
                let supports = FeatureLevel::SUPPORTED;
                let addresses = self.addresses.clone();
                self.propose(Command::AnnounceServer { node: self.node, addresses, supports }).await
            }
            OwnRecord::RequestCertificate => self.request_certificate().await,
        }
    }

    async fn request_certificate(&self) -> Result<Step, StepError> {
        let (csr, public_key) = certificate_request(&self.keys)?;
        let request = ServerCertificateRequest { csr, public_key, revision: Revision::default() };
        self.propose(Command::RequestServerCertificate { node: self.node, request }).await
    }

    /// Shows the recorded certificate from now on, with the server CA's roots behind it. False: its key is here no more, so that
    /// another certificate must take its place while this server still has the one before.
    fn show_newest(&self, state: &State) -> Result<bool, StepError> {
        let Some(member) = state.member(self.node) else { return Ok(true) };
        let Some(recorded) = &member.certificate else { return Ok(true) };
        let chain = chain_pem(&recorded.certificate, &behind(state.roots(Ca::Server)));
        if self.transport.shows(&chain) {
            return Ok(true);
        }
        let credential = match self.keys.activate_server(&chain) {
            Ok(credential) => credential,
            Err(ServerKeysError::NoKeyForCertificate) => {
                tracing::warn!(until = %recorded.not_after, "the key of this server's newest certificate is gone: asking for another");
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        self.transport.show(&credential)?;
        tracing::info!(until = %recorded.not_after, "this server shows a new certificate to its peers");
        Ok(true)
    }

    async fn propose(&self, command: Command) -> Result<Step, StepError> {
        let proposed = self.replica.propose(command, Instant::now() + PROPOSE_WITHIN).await?;
        proposed.outcome.accepted()?;
        // The next look must see it, or it would be proposed again.
        self.replica.wait_index(proposed.index, Instant::now() + PROPOSE_WITHIN).await;
        Ok(Step::Acted)
    }
}

/// The request for the pending server key, and the digest of that key. Repeating it is the same request's key.
pub(crate) fn certificate_request(keys: &ServerKeys) -> Result<(Der, Digest), StepError> {
    request_for(keys, &keys.pending_server_key(SERVER_KEY_KIND)?)
}

/// A joiner's request. A try that was answered and went no further has made the pending key the active one: the token is that
/// key's, and so is the repeated request.
pub(crate) fn joining_request(keys: &ServerKeys) -> Result<Der, StepError> {
    let key = match keys.server()? {
        Some(credential) => credential.key,
        None => keys.pending_server_key(SERVER_KEY_KIND)?,
    };
    request_for(keys, &key).map(|(csr, _)| csr)
}

fn request_for(keys: &ServerKeys, key: &SecretKey) -> Result<(Der, Digest), StepError> {
    let signer = keys.signer(key)?;
    Ok((build_csr(&*signer, &RequestedName::Server)?, signer.public_key().digest()))
}
