//! Where kept leaves come from: a key made here, a CSR, the issuing desk of this server.

use std::{sync::Arc, time::Duration};

use carrack_authority::{
    acl::{AccessorId, Token},
    id::{KeyId, Serial},
    issuance::{Issuance, Keeper},
    key::{Der, KeyKind},
    plan::reissue::leaving_within,
    root::{Ca, RootPhase},
    spiffe::{Identity, Name, SpiffeId},
    time::Timestamp,
    x509::request::{RequestedName, build_csr},
};
use futures::future::{BoxFuture, FutureExt};

use crate::{
    keys::secret::SecretKey,
    server::{
        context::Context,
        desk::{Granted, IssueError, IssueRequest, Issued},
    },
};

/// The kind of the keys of kept leaves, whatever the CA's own: as Consul's agents, and every proxy takes it.
const LEAF_KEY_KIND: KeyKind = KeyKind::EcP256;

/// A leaf with its key.
#[derive(Debug)]
pub struct KeptLeaf {
    /// The leaf.
    pub certificate: Der,
    /// What is served after it.
    pub chain: Vec<Der>,
    /// Its serial.
    pub serial: Serial,
    /// The name in it.
    pub identity: Arc<Identity>,
    /// Its first second.
    pub not_before: Timestamp,
    /// Its last second.
    pub not_after: Timestamp,
    /// The issuer that signed it.
    pub issuer: KeyId,
    /// The root above that.
    pub root: KeyId,
    /// The revision that recorded it.
    pub index: u64,
    /// Its private key.
    pub key: SecretKey,
}

/// How an issuer stands in the bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootStanding {
    /// Its root is the active one.
    Active,
    /// Its root is in the bundle, but leaves are not issued under it any more: the root is not the active one, or the issuer is revoked.
    Leaving,
    /// Its root has left the bundle, or the issuer is unknown.
    Gone,
}

/// What the cache needs: leaves, and the facts by which it keeps or drops them.
pub trait LeafSource: Send + Sync {
    /// Has a leaf issued for a service, by the right of a token.
    fn issue<'a>(&'a self, token: AccessorId, service: &'a Name) -> BoxFuture<'a, Result<KeptLeaf, IssueError>>;

    /// Whether a token still may be the service.
    fn entitled(&self, token: AccessorId, service: &Name) -> bool;

    /// How the root of a leaf stands.
    fn standing(&self, leaf: &KeptLeaf) -> RootStanding;

    /// In what time it is to be renewed, although it has not ended; `None`: nothing was said of it.
    fn renew_within(&self, leaf: &KeptLeaf) -> Option<Duration>;

    /// The log's time.
    fn now(&self) -> Timestamp;

    /// A random byte, to spread renewals.
    fn spread(&self) -> u8;
}

/// Leaves from this server's own desk.
pub struct DeskSource(Arc<Context>);

impl DeskSource {
    /// The source of a server.
    pub fn new(context: Arc<Context>) -> Self {
        Self(context)
    }

    fn request(&self, token: &Arc<Token>, service: &Name) -> Result<(SecretKey, IssueRequest), IssueError> {
        let unavailable = |error: &dyn std::error::Error| IssueError::Unavailable(error.to_string());
        let own = &self.0.identity;
        let identity = SpiffeId::service(own.trust_domain.clone(), own.datacenter.clone(), service.clone());
        let key = self.0.key_maker.make(LEAF_KEY_KIND).map_err(|error| unavailable(&error))?;
        let signer = self.0.key_maker.signer(&key).map_err(|error| unavailable(&error))?;
        let csr = build_csr(&*signer, &RequestedName::Leaf(&Identity::Spiffe(identity)));
        let csr = csr.map_err(|error| unavailable(&error))?.as_bytes().to_vec();
        // The slot parts the leaves of different tokens: none supersedes another's.
        let (keeper, slot) = (Keeper::Server(own.node), Some(token.accessor.to_string()));
        Ok((key, IssueRequest { csr, granted: Granted::Token(token.clone()), keeper, slot, ttl: None }))
    }
}

impl LeafSource for DeskSource {
    fn issue<'a>(&'a self, token: AccessorId, service: &'a Name) -> BoxFuture<'a, Result<KeptLeaf, IssueError>> {
        async move {
            let found = self.0.replica.state().state.acl().token(token, self.now()).cloned();
            let token = found.ok_or_else(|| IssueError::PermissionDenied("ACL not found".into()))?;
            let (key, request) = self.request(&token, service)?;
            let issued = self.0.desk.issue(request).await?;
            let Issued { issuance, certificate, chain, index, .. } = issued;
            let Issuance { serial, identity, not_before, not_after, issuer, .. } = issuance;
            let root = self.0.replica.state().state.issuer(&issuer).map_or(issuer, |issuer| issuer.root);
            Ok(KeptLeaf { certificate, chain, serial, identity, not_before, not_after, issuer, root, index, key })
        }
        .boxed()
    }

    fn entitled(&self, token: AccessorId, service: &Name) -> bool {
        let applied = self.0.replica.state();
        let Some(token) = applied.state.acl().token(token, self.now()) else { return false };
        !applied.state.is_stale(token, self.now(), self.0.token_staleness_max)
            && applied.state.authorizer(token).service_write(service.as_str())
    }

    fn standing(&self, leaf: &KeptLeaf) -> RootStanding {
        let applied = self.0.replica.state();
        let is_revoked = applied.state.revoked_issuers().find(&leaf.issuer).is_some();
        let root =
            applied.state.issuer(&leaf.issuer).and_then(|issuer| applied.state.roots(Ca::Mesh).find(&issuer.root));
        match root.map(|root| root.phase) {
            Some(RootPhase::Active) if !is_revoked => RootStanding::Active,
            Some(_) => RootStanding::Leaving,
            None => RootStanding::Gone,
        }
    }

    fn renew_within(&self, leaf: &KeptLeaf) -> Option<Duration> {
        leaving_within(&self.0.replica.state().state, &leaf.issuer)
    }

    fn now(&self) -> Timestamp {
        self.0.replica.log_time()
    }

    fn spread(&self) -> u8 {
        let mut byte = [0];
        self.0.entropy.fill(&mut byte);
        byte[0]
    }
}
