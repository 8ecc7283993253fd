//! The leader answers requests in the log: server certificates from the server CA, issuers from the mesh CA's provider.

use std::{sync::Arc, time::Duration};

use carrack_authority::{
    Command, State, WatchKey,
    id::Serial,
    issuer::SignedIssuer,
    member::ServerCertificate,
    plan::{
        renew::LOOK_AGAIN,
        sign::{SignIssuer, SignServerCertificate, issuers, server_certificates},
    },
    root::Ca,
    x509::csr::{CsrLimits, VerifiedIssuerCsr, VerifiedServerCsr},
};
use carrack_raft::{AppliedState, Replica, ports::Entropy};
use futures::future::{BoxFuture, FutureExt};

use super::propose;
use crate::{
    provider::{BuiltinProvider, IssuerToSign, Providers, builtin::ServerToSign},
    server::task::{Runs, Step, StepError, Task},
};

/// How long a server certificate lives: it is renewed at half of it.
pub const SERVER_CERTIFICATE_TTL: Duration = Duration::from_secs(30 * 86_400);

/// Signs what servers ask for.
pub(crate) struct SignTask {
    pub(crate) replica: Replica,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) builtin: Arc<BuiltinProvider>,
    pub(crate) providers: Providers,
    pub(crate) server_certificate_ttl: Duration,
}

impl Task for SignTask {
    fn name(&self) -> &'static str {
        "sign requests of servers"
    }

    fn runs(&self) -> Runs {
        Runs::OnLeader
    }

    fn watches(&self) -> &'static [WatchKey] {
        &[WatchKey::Members, WatchKey::Issuers, WatchKey::Roots(Ca::Mesh), WatchKey::Roots(Ca::Server)]
    }

    fn step(&self, observed: Arc<AppliedState>) -> BoxFuture<'_, Result<Step, StepError>> {
        async move { self.sign_all(&observed.state).await }.boxed()
    }
}

impl SignTask {
    /// Signs every request. One that cannot be signed does not keep the others waiting.
    async fn sign_all(&self, state: &State) -> Result<Step, StepError> {
        let (certificates, issuers) = (server_certificates(state), issuers(state));
        if certificates.is_empty() && issuers.is_empty() {
            return Ok(Step::Idle(LOOK_AGAIN));
        }
        let mut failure = None;
        for request in certificates {
            let name = request.member.name.clone();
            if let Err(error) = self.sign_server(state, request).await {
                failure = Some(format!("the server certificate of {name}: {}", crate::server::task::chain_of(&*error)));
            }
        }
        for request in issuers {
            let name = request.member.name.clone();
            if let Err(error) = self.sign_issuer(state, request).await {
                failure = Some(format!("the issuer of {name}: {}", crate::server::task::chain_of(&*error)));
            }
        }
        failure.map_or(Ok(Step::Acted), |failure| Err(failure.into()))
    }

    async fn sign_server(&self, state: &State, wanted: SignServerCertificate) -> Result<(), StepError> {
        let cluster = state.cluster().ok_or("the datacenter has not begun")?;
        let csr = VerifiedServerCsr::verify(wanted.request.csr.as_bytes(), &CsrLimits::default())?;
        let to_sign = ServerToSign {
            csr,
            cluster,
            member: &wanted.member,
            now: self.replica.log_time(),
            ttl: self.server_certificate_ttl,
            serial: self.serial(),
        };
        let signed = self.builtin.sign_server(&wanted.root, &to_sign)?;
        let certificate = ServerCertificate {
            certificate: signed.der,
            public_key: wanted.request.public_key,
            root: wanted.root.made.id,
            not_before: signed.facts.not_before,
            not_after: signed.facts.not_after,
        };
        let (node, expected) = (wanted.member.node, wanted.request.revision);
        propose(&self.replica, Command::RecordServerCertificate { node, expected, certificate }).await?;
        Ok(())
    }

    async fn sign_issuer(&self, state: &State, wanted: SignIssuer) -> Result<(), StepError> {
        let cluster = state.cluster().ok_or("the datacenter has not begun")?;
        let csr = VerifiedIssuerCsr::verify(wanted.request.csr.as_bytes(), &CsrLimits::default())?;
        if *csr.trust_domain() != cluster.trust_domain {
            let (theirs, ours) = (csr.trust_domain(), &cluster.trust_domain);
            return Err(format!("its CSR is for the trust domain {theirs}, this one is {ours}").into());
        }
        let to_sign = IssuerToSign {
            csr,
            datacenter: cluster.datacenter.clone(),
            server: wanted.member.name.clone(),
            now: self.replica.log_time(),
            ttl: state.ca_config().config.intermediate_ttl,
            serial: self.serial(),
        };
        let signed = self.providers.of(&wanted.root)?.sign_issuer(&wanted.root, to_sign).await?;
        let answer = SignedIssuer {
            node: wanted.request.node,
            expected: wanted.request.revision,
            certificate: signed.der,
            not_before: signed.facts.not_before,
            not_after: signed.facts.not_after,
        };
        propose(&self.replica, Command::RecordIssuer(answer)).await?;
        Ok(())
    }

    fn serial(&self) -> Serial {
        let mut bytes = [0; 20];
        self.entropy.fill(&mut bytes);
        Serial::from_random(bytes)
    }
}
