//! Joins that must not be: with a used token and another key, a made-up one, one for another name, one that has ended.

use std::sync::Arc;

use carrack::{
    keys::sealing::Sealer,
    server::{join_token::JoinTokenText, token_text::SECRET_BYTES},
    tls::{
        client::{Alpn, ClientDialer, ServerRoots},
        clock::TlsClock,
    },
};
use carrack_authority::{
    id::FeatureLevel,
    x509::{RequestedName, build_csr},
};
use carrack_proto::server::{JoinRequest, JoinResponse, cluster_client::ClusterClient};
use futures::FutureExt;
use rand::{Rng, RngExt, seq::IndexedRandom};
use serde_json::json;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use super::{Attacker, TRY_WITHIN, server_ports::channel};
use crate::{
    client::Call,
    crypto::{entropy::ProcessStart, registry::KeyRegistry, sealer::SeededSealer},
    marks::Mark,
    workloads::{ANSWER_WITHIN, ATTACKER, LOOK},
    world::network::SimulatedNetwork,
};

/// Where servers answer joiners.
const GRPC_PORT: u16 = 8503;
/// The digits of a time down to its seconds, in RFC 3339.
const TO_THE_SECOND: usize = 19;
/// How often the attacker looks whether a token has ended.
const LOOKS_MAX: u32 = 200;

impl Attacker {
    pub(super) async fn join(&mut self) -> (&'static str, String) {
        let name = format!("intruder-{}", self.worker.random.random_range(0..u32::MAX));
        match self.worker.random.random_range(0..4) {
            0 => {
                let used = self.worker.shared.book().used_join_tokens.choose(&mut self.worker.random).cloned();
                let came_of_it = match used {
                    Some(used) => self.try_join(&*used.secret, used.node_name.as_str()).await,
                    None => "there is none".into(),
                };
                ("a join with a used token", came_of_it)
            }
            1 => {
                let mut secret = [0; SECRET_BYTES];
                self.worker.random.fill_bytes(&mut secret);
                ("a join with a made-up token", self.try_join(&secret, &name).await)
            }
            2 => {
                let came_of_it = match self.make_token("1h").await {
                    Some((token, _)) => self.try_join(&*token.secret, &name).await,
                    None => "there is none".into(),
                };
                ("a join under another name", came_of_it)
            }
            _ => ("a join with a token that has ended", self.join_too_late().await),
        }
    }

    async fn join_too_late(&mut self) -> String {
        let Some((token, expires_at)) = self.make_token("1s").await else { return "there is none".into() };
        for _ in 0..LOOKS_MAX {
            if self.has_passed(&expires_at) {
                return self.try_join(&*token.secret, token.node_name.as_str()).await;
            }
            sleep(LOOK).await;
        }
        "it has not ended yet".into()
    }

    /// Whether an applied entry is stamped later: every later one is, too, whatever the servers' clocks say.
    fn has_passed(&self, time: &str) -> bool {
        let contexts = self.worker.shared.servers_of(self.worker.datacenter).filter_map(|server| server.context());
        let newest = contexts.map(|context| context.replica.state().state.now()).max();
        newest.is_some_and(|newest| newest.to_string().get(..TO_THE_SECOND) > time.get(..TO_THE_SECOND))
    }

    /// A real token for a name that nobody has, and its end.
    async fn make_token(&mut self, ttl: &str) -> Option<(JoinTokenText, String)> {
        let name = format!("absent-{}", self.worker.random.random_range(0..u32::MAX));
        self.worker.client.set_token(self.worker.shared.operator_token());
        let (host, body) = (self.worker.any_server(), json!({"NodeName": name, "TTL": ttl}));
        let path = "/v1/carrack/join-token";
        let call = Call { method: "PUT", path, body: Some(body), within: ANSWER_WITHIN };
        let answer = self.worker.client.call(&host, call).await.ok()?.json();
        Some((answer["Token"].as_str()?.parse().ok()?, answer["ExpiresAt"].as_str()?.to_owned()))
    }

    /// Joins with a key and a store of its own; that it is admitted is a violation.
    async fn try_join(&mut self, secret: &[u8], name: &str) -> String {
        let request = self.join_request(secret, name);
        let host = self.worker.any_server();
        let store = request.store_id.clone();
        let answer = timeout(TRY_WITHIN, self.ask_to_join(&host, request)).await;
        let is_member =
            self.worker.shared.servers.values().filter_map(|server| server.context()).any(|context| {
                context.replica.state().state.members().any(|member| member.store.0.as_slice() == &*store)
            });
        let answer = match answer {
            Ok(Ok(response)) => format!("admitted as server {}", response.node_id),
            Ok(Err(status)) => {
                if status.code() == Code::PermissionDenied {
                    self.worker.shared.mark(Mark::JoinRefused);
                }
                format!("{:?}", status.code())
            }
            Err(_) => "no answer".into(),
        };
        if is_member || answer.starts_with("admitted") {
            self.worker.shared.violate("join_is_once", format!("{host} was asked to join {name} wrongly: {answer}"));
        }
        answer
    }

    fn join_request(&mut self, secret: &[u8], name: &str) -> JoinRequest {
        let csr =
            build_csr(&*self.new_key(), &RequestedName::Server).expect("a server's request has no name to refuse");
        let mut store_id = [0; 16];
        self.worker.random.fill_bytes(&mut store_id);
        let start = ProcessStart::new(ATTACKER, self.worker.random.next_u64());
        let sealer = SeededSealer::new(self.worker.shared.seed, &start, KeyRegistry::default());
        let sealing = sealer.generate().expect("an age identity is made of any number");
        JoinRequest {
            secret: secret.to_vec().into(),
            node_name: name.to_owned(),
            store_id: store_id.to_vec().into(),
            raft_address: format!("{ATTACKER}:8300"),
            grpc_address: format!("{ATTACKER}:{GRPC_PORT}"),
            sealing_recipient: sealing.recipient().to_string(),
            feature_level: FeatureLevel::SUPPORTED.0,
            csr: csr.as_bytes().to_vec().into(),
            wan_address: None,
        }
    }

    async fn ask_to_join(&self, host: &str, request: JoinRequest) -> Result<JoinResponse, Status> {
        let clock = self.worker.shared.clock.clone();
        let clock = TlsClock::new(move || clock.now());
        let roots = self.worker.shared.server_ca(self.worker.datacenter).unwrap_or_default();
        let roots = ServerRoots::from_pem(&roots).map_err(|error| Status::unavailable(error.to_string()))?;
        let dialer = ClientDialer::new(Arc::new(SimulatedNetwork), roots, &clock, Alpn::Http2);
        let address = format!("{host}:{GRPC_PORT}");
        let dial = move || {
            let (dialer, address) = (dialer.clone(), address.clone());
            async move { dialer.dial(&address).await }.boxed()
        };
        Ok(ClusterClient::new(channel(dial).await?).join(request).await?.into_inner())
    }
}
