//! Leaves of an agent: a key made here, a request that a server signs and records, an answer that is verified before it is kept.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use carrack_authority::{
    acl::AccessorId,
    key::{Der, KeyKind},
    root::RootPhase,
    spiffe::{Identity, Name, SpiffeId},
    time::Timestamp,
    x509::{
        CertificateFacts,
        chain::{Usage, verify_chain},
        request::{RequestedName, build_csr},
    },
};
use carrack_proto::server::{SignRequest, SignResponse, certificates_client::CertificatesClient};
use carrack_raft::ports::Entropy;
use futures::future::{BoxFuture, FutureExt};
use tonic::{Code, Request, Status, metadata::MetadataValue};

use super::{
    directory::AgentIdentity,
    followed::Followed,
    leaf_source::{KeptLeaf, LeafSource, RootStanding},
    link::Link,
};
use crate::{
    keys::secret::{KeyMaker, SecretKey},
    server::{
        desk::{ERROR_CODE, HALT_UNKNOWN, IssueError, lacks},
        grpc_client::reason,
        task::chain_of,
    },
};

/// The kind of the keys of leaves, whatever the CA's own: as Consul's agents, and every proxy takes it.
const LEAF_KEY_KIND: KeyKind = KeyKind::EcP256;
/// How long a server may take to sign and record a leaf.
const SIGNED_WITHIN: Duration = Duration::from_secs(10);
/// How long a request waits for a server while none is reached.
const REACHED_WITHIN: Duration = Duration::from_secs(1);

/// The most issuers' certificates that leaves share: each server has one, and a new one now and then.
const ISSUERS_MAX: usize = 64;

/// Leaves from the servers.
pub struct AgentSource {
    pub(super) identity: AgentIdentity,
    pub(super) followed: Arc<Followed>,
    pub(super) link: Arc<Link>,
    pub(super) key_maker: Arc<dyn KeyMaker>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) issuers: Mutex<BTreeSet<Der>>,
}

impl AgentSource {
    async fn sign(&self, token: AccessorId, service: &Name) -> Result<KeptLeaf, IssueError> {
        let gone = || IssueError::PermissionDenied("ACL not found".into());
        let (secret, rights) = self.followed.of_accessor(token).ok_or_else(gone)?;
        if !rights.authorizer.service_write(service.as_str()) {
            return Err(IssueError::PermissionDenied(lacks(token, "service:write", service.as_str())));
        }
        let unavailable = |error: &dyn std::error::Error| IssueError::Unavailable(chain_of(error));
        let own = &self.identity;
        let id = SpiffeId::service(own.trust_domain.clone(), own.datacenter.clone(), service.clone());
        let key = self.key_maker.make(LEAF_KEY_KIND).map_err(|error| unavailable(&error))?;
        let signer = self.key_maker.signer(&key).map_err(|error| unavailable(&error))?;
        let csr = build_csr(&*signer, &RequestedName::Leaf(&Identity::Spiffe(id.clone())));
        let csr = csr.map_err(|error| unavailable(&error))?;
        // The slot parts the leaves of different tokens: none supersedes another's.
        let request = SignRequest { csr: csr.as_bytes().to_vec().into(), slot: token.to_string() };
        let mut request = Request::new(request);
        let value = MetadataValue::try_from(secret.to_string()).map_err(|error| unavailable(&error))?;
        request.metadata_mut().insert("x-consul-token", value);
        request.set_timeout(SIGNED_WITHIN);
        let signed = self.ask(request).await?;
        self.verified(signed, &id, key, signer.public_key().digest())
    }

    async fn ask(&self, request: Request<SignRequest>) -> Result<SignResponse, IssueError> {
        let channel = self.link.channel(REACHED_WITHIN).await.ok_or_else(|| {
            let trouble = self.followed.heard().trouble.unwrap_or_else(|| "they are silent".into());
            IssueError::Unavailable(format!("no server is reached that could sign a leaf: {trouble}"))
        })?;
        let mut client = CertificatesClient::new(channel);
        let signed = tokio::time::timeout(SIGNED_WITHIN, client.sign(request)).await;
        let signed = signed.map_err(|_| IssueError::OutcomeUnknown)?;
        signed.map(tonic::Response::into_inner).map_err(|status| of_status(&status))
    }

    /// The one copy of an issuer's certificate: thousands of leaves have the same.
    fn shared(&self, der: Der) -> Der {
        let mut issuers = self.issuers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = issuers.get(&der) {
            return known.clone();
        }
        if issuers.len() >= ISSUERS_MAX {
            issuers.clear();
        }
        issuers.insert(der.clone());
        der
    }

    /// What a server signed is what was asked for, and leads to a root of the bundle; or it is not kept.
    fn verified(
        &self,
        signed: SignResponse,
        id: &SpiffeId,
        key: SecretKey,
        public_key: carrack_authority::id::Digest,
    ) -> Result<KeptLeaf, IssueError> {
        let wrong = |what: String| IssueError::Unavailable(format!("what a server signed is not kept: {what}"));
        let facts = CertificateFacts::read(&signed.certificate).map_err(|error| wrong(chain_of(&error)))?;
        if facts.public_key.digest() != public_key {
            return Err(wrong("it is not of this agent's key".into()));
        }
        let bundle = self.followed.bundle().ok_or_else(|| wrong("no bundle is here".into()))?;
        let anchors: Vec<&[u8]> = bundle.anchors().into_iter().map(Der::as_bytes).collect();
        let chain: Vec<&[u8]> = signed.chain.iter().map(|der| &**der).collect();
        let verify = |usage| verify_chain(&signed.certificate, &chain, &anchors, self.now(), usage);
        let named = verify(Usage::Client).and_then(|_| verify(Usage::Server));
        let named = named.map_err(|error| wrong(chain_of(&error)))?;
        if named != *id {
            return Err(wrong(format!("it names `{named}`")));
        }
        let issuer = facts.authority_key_id.ok_or_else(|| wrong("it does not name its issuer".into()))?;
        let above = signed.chain.first().and_then(|issuer| CertificateFacts::read(issuer).ok());
        let root = above.and_then(|above| above.authority_key_id);
        let root = root.ok_or_else(|| wrong("its issuer does not come with it, or does not name its root".into()))?;
        Ok(KeptLeaf {
            certificate: Der::from(&*signed.certificate),
            chain: signed.chain.iter().map(|der| self.shared(Der::from(&**der))).collect(),
            serial: facts.serial,
            identity: Arc::new(Identity::Spiffe(named)),
            not_before: facts.not_before,
            not_after: facts.not_after,
            issuer,
            root,
            index: signed.revision,
            key,
        })
    }
}

impl LeafSource for AgentSource {
    fn issue<'a>(&'a self, token: AccessorId, service: &'a Name) -> BoxFuture<'a, Result<KeptLeaf, IssueError>> {
        self.sign(token, service).boxed()
    }

    fn entitled(&self, token: AccessorId, service: &Name) -> bool {
        let found = self.followed.of_accessor(token);
        found.is_some_and(|(_, rights)| rights.authorizer.service_write(service.as_str()))
    }

    fn standing(&self, leaf: &KeptLeaf) -> RootStanding {
        let Some(bundle) = self.followed.bundle() else { return RootStanding::Gone };
        let is_revoked = bundle.told.revoked_issuers.find(&leaf.issuer).is_some();
        let root = bundle.roots().iter().find(|known| known.made.id == leaf.root);
        match root.map(|root| root.phase) {
            Some(RootPhase::Active) if !is_revoked => RootStanding::Active,
            Some(_) => RootStanding::Leaving,
            None => RootStanding::Gone,
        }
    }

    fn renew_within(&self, leaf: &KeptLeaf) -> Option<Duration> {
        self.followed.bundle()?.told.leaving.get(&leaf.issuer).copied()
    }

    fn now(&self) -> Timestamp {
        self.followed.now()
    }

    fn spread(&self) -> u8 {
        let mut byte = [0];
        self.entropy.fill(&mut byte);
        byte[0]
    }
}

/// The code for programs that came with a refusal.
fn code_of(status: &Status) -> Option<&str> {
    status.metadata().get(ERROR_CODE)?.to_str().ok()
}

/// A server's refusal, as its desk said it.
fn of_status(status: &Status) -> IssueError {
    let text = status.message().to_owned();
    match status.code() {
        Code::InvalidArgument => IssueError::CallerMistake(text),
        Code::PermissionDenied | Code::Unauthenticated => IssueError::PermissionDenied(text),
        Code::ResourceExhausted => IssueError::RateLimited { reason: text, retry_after: Duration::from_secs(1) },
        Code::FailedPrecondition => IssueError::Halted,
        Code::Unavailable if code_of(status) == Some(HALT_UNKNOWN) => IssueError::HaltUnknown(text),
        _ => IssueError::Unavailable(format!("a server did not sign: {}", reason(status))),
    }
}
