//! A new datacenter's first contact with the primary: it trusts the pinned server CA and nothing else, learns who the primary is
//! before it begins, and is admitted once it has a server CA of its own. Every step may be repeated.

use std::{sync::Arc, time::Duration};

use carrack_authority::{
    WatchKey,
    federation::{Datacenter, DatacenterFacts, Table},
    id::Revision,
    key::Der,
    plan::renew::LOOK_AGAIN,
    root::Ca,
    spiffe::{Name, TrustDomain},
    time::Timestamp,
};
use carrack_proto::{
    convert::wan::{der_to_wire, uuid_from_wire, uuid_to_wire},
    server::{JoinFederationRequest, WelcomeRequest, WelcomeResponse, federation_client::FederationClient},
};
use carrack_raft::AppliedState;
use futures::future::{BoxFuture, FutureExt};
use tonic::{Code, Status, transport::Channel};

use super::{
    federation_token::FederationTokenText,
    grpc_client::within,
    join::channel,
    task::{Runs, Step, StepError, Task, chain_of},
};
use crate::{
    keys::server_keys::ServerKeys,
    network::Network,
    tls::{
        client::{Alpn, ClientDialer, ServerRoots},
        clock::TlsClock,
    },
};

/// How long one server of the primary may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// The name of the task that has this datacenter admitted.
pub const JOIN_PRIMARY: &str = "join the primary";

/// A datacenter could not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinPrimaryError {
    /// The token is for another datacenter.
    #[error(
        "the federation token is for the datacenter `{token}`, but this one is `{datacenter}`: set datacenter, or make another token"
    )]
    OtherDatacenter {
        /// The token's datacenter.
        token: Name,
        /// This one.
        datacenter: Name,
    },
    /// The configuration wants another trust domain.
    #[error(
        "the primary's trust domain is `{primary}`, but the configuration says `{configured}`: leave trust_domain out, it is shared by all datacenters and never changes"
    )]
    OtherTrustDomain {
        /// The primary's.
        primary: TrustDomain,
        /// The configured one.
        configured: TrustDomain,
    },
    /// This server does not listen for other datacenters.
    #[error("listen.wan is off: a secondary's servers reach the primary and are reached by it over the WAN port")]
    NoWan,
    /// A server refused.
    #[error("the server {address} of the primary refuses: {reason}")]
    Refused {
        /// Who.
        address: String,
        /// Why.
        reason: String,
    },
    /// No server of the token could be asked.
    #[error(
        "no server of the federation token could be asked ({tried}); check that the primary runs and that its gRPC port is reachable from here, then repeat the same command"
    )]
    Unreachable {
        /// Each server and what happened.
        tried: String,
    },
    /// A server answered what cannot be.
    #[error("the server {address} of the primary answered with a wrong {what}")]
    BadAnswer {
        /// Who.
        address: String,
        /// What is wrong.
        what: &'static str,
    },
}

/// The way to the primary before there is any trust between the two but the token's.
pub(crate) struct FirstContact {
    pub(crate) token: FederationTokenText,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) clock: TlsClock,
}

impl FirstContact {
    /// Learns who the primary is. The token is not used up.
    pub(crate) async fn welcome(&self) -> Result<Datacenter, JoinPrimaryError> {
        let request =
            WelcomeRequest { secret: self.token.secret.to_vec().into(), datacenter: self.token.datacenter.to_string() };
        let (address, response) = self
            .ask(|channel| {
                let mut client = FederationClient::new(channel);
                within(ANSWER_WITHIN, request.clone(), |request| async move { client.welcome(request).await })
            })
            .await?;
        self.primary(&address, response)
    }

    /// Has this datacenter admitted.
    async fn join(&self, facts: &DatacenterFacts) -> Result<(), JoinPrimaryError> {
        let request = JoinFederationRequest {
            secret: self.token.secret.to_vec().into(),
            datacenter: facts.name.to_string(),
            cluster_id: uuid_to_wire(facts.cluster),
            server_roots: facts.server_roots.iter().map(der_to_wire).collect(),
            wan_addresses: facts.wan_addresses.clone(),
        };
        let joined = self.ask(|channel| {
            let mut client = FederationClient::new(channel);
            within(ANSWER_WITHIN, request.clone(), |request| async move { client.join(request).await })
        });
        joined.await.map(drop)
    }

    /// Asks one server of the token after the other until one answers for good.
    async fn ask<T, F>(&self, call: impl Fn(Channel) -> F) -> Result<(String, T), JoinPrimaryError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut tried = Vec::new();
        for address in &self.token.addresses {
            let roots = ServerRoots::Pinned(self.token.pin);
            let dialer = ClientDialer::new(self.network.clone(), roots, &self.clock, Alpn::Http2);
            let answer = match channel(dialer, address).await {
                Ok(channel) => call(channel).await,
                Err(error) => Err(Status::unavailable(chain_of(&error))),
            };
            match answer {
                Ok(answer) => return Ok((address.clone(), answer)),
                Err(status) if is_final(&status) => {
                    return Err(JoinPrimaryError::Refused {
                        address: address.clone(),
                        reason: status.message().into(),
                    });
                }
                Err(status) => tried.push(format!("{address}: {}", chain_of(&status))),
            }
        }
        Err(JoinPrimaryError::Unreachable { tried: tried.join("; ") })
    }

    fn primary(&self, address: &str, response: WelcomeResponse) -> Result<Datacenter, JoinPrimaryError> {
        let bad = |what| JoinPrimaryError::BadAnswer { address: address.to_owned(), what };
        let name = Name::parse("datacenter", &response.primary).map_err(|_| bad("datacenter"))?;
        if name != self.token.primary {
            return Err(bad("datacenter"));
        }
        let trust_domain: TrustDomain = response.trust_domain.parse().map_err(|_| bad("trust domain"))?;
        if trust_domain != self.token.trust_domain {
            return Err(bad("trust domain"));
        }
        let server_roots: Vec<Der> = response.server_roots.iter().map(|der| Der::from(der.as_ref())).collect();
        if !server_roots.iter().any(|root| root.digest() == self.token.pin) {
            return Err(bad("server CA: the pinned root is not among its roots"));
        }
        Ok(Datacenter {
            name,
            cluster: uuid_from_wire("cluster", &response.cluster_id).map_err(|_| bad("cluster id"))?,
            server_roots,
            wan_addresses: response.wan_addresses,
            is_primary: true,
            joined_at: self.clock.now(),
            created: Revision::default(),
            modified: Revision::default(),
        })
    }
}

/// Whether asking another server would be answered the same.
fn is_final(status: &Status) -> bool {
    let finals = [Code::PermissionDenied, Code::InvalidArgument, Code::FailedPrecondition, Code::AlreadyExists];
    finals.contains(&status.code())
}

/// Has this datacenter admitted by the primary, once it has begun. The first server keeps the token until then.
pub(crate) struct JoinPrimaryTask {
    pub(crate) keys: Arc<ServerKeys>,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) clock: TlsClock,
}

impl Task for JoinPrimaryTask {
    fn name(&self) -> &'static str {
        JOIN_PRIMARY
    }

    fn runs(&self) -> Runs {
        Runs::Everywhere
    }

    fn watches(&self) -> &'static [WatchKey] {
        &[WatchKey::Cluster, WatchKey::Members, WatchKey::Roots(Ca::Server), WatchKey::Followed]
    }

    fn step(&self, observed: Arc<AppliedState>) -> BoxFuture<'_, Result<Step, StepError>> {
        async move {
            let Some(text) = self.keys.federation_token()? else { return Ok(Step::Idle(LOOK_AGAIN)) };
            let Some(own) = observed.state.own_datacenter() else { return Ok(Step::Idle(LOOK_AGAIN)) };
            if observed.state.progress(Table::Datacenters).heard_at != Timestamp::EPOCH {
                // The primary lets this datacenter in, so that it has admitted it: only its answer was lost.
                self.keys.forget_federation_token()?;
                return Ok(Step::Acted);
            }
            let token = text.parse::<FederationTokenText>()?;
            let contact = FirstContact { token, network: self.network.clone(), clock: self.clock.clone() };
            let facts = DatacenterFacts {
                name: own.name,
                cluster: own.cluster,
                server_roots: own.server_roots,
                wan_addresses: own.wan_addresses,
            };
            contact.join(&facts).await?;
            self.keys.forget_federation_token()?;
            tracing::info!(primary = %contact.token.primary, "this datacenter has joined the primary");
            Ok(Step::Acted)
        }
        .boxed()
    }
}
