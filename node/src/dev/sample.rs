//! What the datacenters are shown with: a service of the one connects to a service of the other, with leaves from the agents of their
//! hosts, and the agents decide who may.

use carrack_authority::{acl::token::secret_digest, key::Der, spiffe::TrustDomain, x509::pem};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::{
    CALLER, DevError, FORM_WITHIN, Progress, SERVICE,
    formation::{Datacenter, LOOK, wait_until},
    place::Dev,
};
use crate::{
    cli::{
        files,
        intention::{CreateArgs, ExplainArgs, IntentionCommand, PairArgs},
        output::{Format, Output},
    },
    keys::{aws_lc::AwsLcKeyMaker, secret::KeyMaker, server_keys::ServerCredential},
    server::Server,
    tls::workload::{Verified, Workload, shake_hands},
};

const ROOTS: &str = "/v1/agent/connect/ca/roots";
const LEAF: &str = "/v1/agent/connect/ca/leaf";
const AUTHORIZE: &str = "/v1/agent/connect/authorize";

/// What was shown.
pub(super) struct Shown {
    /// What each side of the handshake has verified.
    pub(super) handshake: String,
    /// What the agents decided.
    pub(super) decisions: String,
    /// What `carrack intention explain` prints.
    pub(super) explanation: String,
    /// The name of the service that calls.
    pub(super) caller: String,
}

/// A service with its leaf.
struct Sample {
    name: &'static str,
    uri: String,
    serial: String,
}

/// An agent's answer for a leaf.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LeafAnswer {
    serial_number: String,
    #[serde(rename = "CertPEM")]
    cert_pem: String,
    #[serde(rename = "PrivateKeyPEM")]
    private_key_pem: String,
    #[serde(rename = "ServiceURI")]
    service_uri: String,
}

/// An agent's decision.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Decision {
    authorized: bool,
    reason: String,
}

impl Dev {
    /// A service of the first datacenter is called by one of the last.
    pub(super) async fn sample(
        &self,
        datacenters: &[Datacenter],
        token: &str,
        progress: &mut dyn Progress,
    ) -> Result<Shown, DevError> {
        let (first, last) = (&datacenters[0], &datacenters[datacenters.len() - 1]);
        progress.begin(&format!("a leaf for the service {SERVICE}, by the agent of {}", first.name));
        let service = self.leaf(first.position, SERVICE, token).await?;
        progress.begin(&format!("a leaf for the service {CALLER}, by the agent of {}", last.name));
        wait_until_known(last, token).await?;
        let caller = self.leaf(last.position, CALLER, token).await?;
        progress.begin(&format!("{CALLER} of {} connects to {SERVICE} of {}", last.name, first.name));
        let handshake = self.handshake(&first.servers[0]).await?;
        progress.begin(&format!("{SERVICE} lets {CALLER} in, and nobody else"));
        self.intend(CALLER, true, token).await?;
        self.intend("*", false, token).await?;
        let allowed = self.decided(first, &caller, &service, true, token).await?;
        let denied = self.decided(last, &service, &caller, false, token).await?;
        let decisions = format!("{allowed}{denied}");
        let explanation = self.explanation(token).await?;
        Ok(Shown { handshake, decisions, explanation, caller: caller.uri })
    }

    /// A leaf with its key from the agent of a datacenter, kept in the files that `carrack leaf get` writes.
    async fn leaf(&self, position: u8, name: &'static str, token: &str) -> Result<Sample, DevError> {
        let (client, path) = (self.agent_client(position, token)?, format!("{LEAF}/{name}"));
        let leaf: LeafAnswer = client.typed(&path, &client.read(&path, &[]).await?)?;
        let key = Zeroizing::new(leaf.private_key_pem);
        let roots = client.read_text(ROOTS, &[("pem", "true".into())]).await?;
        let unusable = |error: pem::PemError| DevError::Handshake(Box::new(error));
        let served = pem::decode_certificates(&leaf.cert_pem).map_err(unusable)?;
        let chain = pem::encode_certificates(served.iter().skip(1).collect::<Vec<&Der>>());
        let files: [(String, &[u8]); 4] = [
            ("roots.pem".into(), roots.as_bytes()),
            ("chain.pem".into(), chain.as_bytes()),
            (format!("{name}.key"), key.as_bytes()),
            (format!("{name}.pem"), leaf.cert_pem.as_bytes()),
        ];
        files::write_all(&self.directory.join(name), &files)?;
        Ok(Sample { name, uri: leaf.service_uri, serial: leaf.serial_number })
    }

    /// Connects the two services by mutual TLS with the files that they were given, and tells what each has seen.
    async fn handshake(&self, server: &Server) -> Result<String, DevError> {
        let context = server.context();
        let trust_domain = &context.identity.trust_domain;
        let (called, caller) = (self.workload(SERVICE, trust_domain)?, self.workload(CALLER, trust_domain)?);
        let shaken = shake_hands(&called, &caller, context.replica.log_time()).await;
        let (seen_by_called, seen_by_caller) = shaken.map_err(|error| DevError::Handshake(Box::new(error)))?;
        Ok(format!("{}{}", shown(SERVICE, &seen_by_called), shown(CALLER, &seen_by_caller)))
    }

    fn workload(&self, service: &str, trust_domain: &TrustDomain) -> Result<Workload, DevError> {
        let file = |name: &str| -> Result<Zeroizing<String>, DevError> {
            let path = self.directory.join(service).join(name);
            std::fs::read_to_string(&path).map(Zeroizing::new).map_err(|source| DevError::File { path, source })
        };
        let key = AwsLcKeyMaker.import(&file(&format!("{service}.key"))?);
        let key = key.map_err(|error| DevError::Handshake(Box::new(error)))?;
        let chain_pem = file(&format!("{service}.pem"))?.to_string();
        let credential = ServerCredential { key, chain_pem };
        let workload = Workload::new(credential, &file("roots.pem")?, trust_domain.clone());
        workload.map_err(|error| DevError::Handshake(Box::new(error)))
    }

    /// What `carrack intention create` does, for the service that is called.
    async fn intend(&self, source: &str, allow: bool, token: &str) -> Result<(), DevError> {
        let pair = pair(source);
        let created = CreateArgs { pair, allow, deny: !allow, permissions: None, description: String::new() };
        self.intention(IntentionCommand::Create(created), token).await.map(drop)
    }

    /// What `carrack intention explain` prints.
    async fn explanation(&self, token: &str) -> Result<String, DevError> {
        let asked = ExplainArgs { pair: pair(CALLER), path: None, method: None, headers: Vec::new() };
        self.intention(IntentionCommand::Explain(asked), token).await
    }

    async fn intention(&self, command: IntentionCommand, token: &str) -> Result<String, DevError> {
        let mut printed = Vec::new();
        command.run(&self.client(0, Some(token))?, &mut Output::new(Format::Table, &mut printed)).await?;
        Ok(String::from_utf8_lossy(&printed).into_owned())
    }

    /// What the agent beside the called service says of its caller, once it says what it has to.
    async fn decided(
        &self,
        of: &Datacenter,
        caller: &Sample,
        called: &Sample,
        is_allowed: bool,
        token: &str,
    ) -> Result<String, DevError> {
        let client = self.agent_client(of.position, token)?;
        let question = json!({
            "Target": called.name, "ClientCertURI": caller.uri, "ClientCertSerial": caller.serial,
        });
        let deadline = Instant::now() + FORM_WITHIN;
        loop {
            let answer: Value = client.write(AUTHORIZE, &question).await?;
            let Decision { authorized, reason } = client.typed(AUTHORIZE, &answer)?;
            if authorized == is_allowed {
                let word = if authorized { "allows" } else { "denies" };
                return Ok(format!("  the agent of {} {word} {} => {}: {reason}\n", of.name, caller.name, called.name));
            }
            if Instant::now() > deadline {
                return Err(DevError::Undecided { caller: caller.name, called: called.name, reason });
            }
            // What was just written is on its way to the agent.
            sleep(LOOK).await;
        }
    }
}

fn pair(source: &str) -> PairArgs {
    PairArgs { source: source.into(), destination: SERVICE.into() }
}

/// A secondary follows the primary's tokens.
async fn wait_until_known(datacenter: &Datacenter, token: &str) -> Result<(), DevError> {
    let digest = uuid::Uuid::try_parse(token).ok().map(|token| secret_digest(&token));
    let is_known = || {
        datacenter.servers.iter().all(|server| {
            let replica = &server.context().replica;
            digest.is_some_and(|digest| {
                replica.state().state.acl().token_of_secret(&digest, replica.log_time()).is_some()
            })
        })
    };
    wait_until(&datacenter.name, is_known, || "the management token has not come from the primary".into()).await
}

/// What one side has verified of the other, a line for each certificate.
fn shown(by: &str, seen: &Verified) -> String {
    let mut text = format!("  {by} has verified {}\n", seen.id);
    for facts in &seen.presented {
        let kind = if facts.is_ca { "issuer" } else { "leaf  " };
        let signed_by = facts.authority_key_id.map_or_else(|| "unknown".into(), |id| id.to_string());
        text.push_str(&format!("      {kind} {}\n        by   {signed_by}\n", facts.public_key.id));
    }
    text
}
