//! Agent tokens as text: what the agent of a new host needs for its first contact, and the secret that lets it in once.
//!
//! `carrack-agent-1.` and base64url of a JSON object. Whoever has the text can join under the name in it until it is used or ends; the
//! servers keep only a digest of the secret.

use std::{fmt, str::FromStr, time::Duration};

use carrack_authority::{
    Command, Rejection,
    acl::token::agent_secret_digest,
    agent::{AGENT_TOKEN_TTL_MAX, AgentToken},
    id::{Digest, Revision},
    root::Ca,
    spiffe::{Name, TrustDomain},
    time::Timestamp,
};
use carrack_raft::ProposeError;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    PROPOSE_WITHIN,
    context::Context,
    token_text::{BadToken, SECRET_BYTES, TokenKind, TokenSecret, secret_text},
};

/// Agent tokens among the kinds of tokens.
const KIND: TokenKind =
    TokenKind { kind: "agent", prefix: "carrack-agent-1.", command: "carrack token agent --node <name>" };

/// An agent token, as the agent reads it.
#[derive(Clone, PartialEq, Eq)]
pub struct AgentTokenText {
    /// What lets the agent in.
    pub secret: TokenSecret,
    /// SHA-256 of the certificate of the server CA's root: whom the agent trusts before it knows anything else.
    pub pin: Digest,
    /// Where servers answer agents, as `host:port`.
    pub addresses: Vec<String>,
    /// The name space of every identity.
    pub trust_domain: TrustDomain,
    /// The datacenter.
    pub datacenter: Name,
    /// The name that the agent must have.
    pub node: Name,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    secret: String,
    pin: String,
    addresses: Vec<String>,
    trust_domain: String,
    datacenter: String,
    node: String,
}

impl AgentTokenText {
    /// The digest under which the servers know it.
    pub fn digest(&self) -> Digest {
        agent_secret_digest(&*self.secret)
    }

    /// The text that an operator carries to the new host. It is a secret.
    pub fn expose_text(&self) -> Zeroizing<String> {
        KIND.encode(&Fields {
            secret: secret_text(&self.secret),
            pin: self.pin.to_string(),
            addresses: self.addresses.clone(),
            trust_domain: self.trust_domain.to_string(),
            datacenter: self.datacenter.to_string(),
            node: self.node.to_string(),
        })
    }
}

impl fmt::Debug for AgentTokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgentTokenText(for {} in {}, ...)", self.node, self.datacenter)
    }
}

impl FromStr for AgentTokenText {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        let fields: Fields = KIND.decode(text)?;
        if fields.addresses.is_empty() {
            return Err(KIND.damaged("it names no server"));
        }
        Ok(Self {
            secret: KIND.secret(&fields.secret)?,
            pin: fields.pin.parse().map_err(|_| KIND.damaged("its pin does not parse"))?,
            addresses: fields.addresses,
            trust_domain: fields.trust_domain.parse().map_err(|_| KIND.damaged("its trust domain does not parse"))?,
            datacenter: KIND.name("datacenter", &fields.datacenter)?,
            node: KIND.name("node name", &fields.node)?,
        })
    }
}

/// The life of an agent token when none is asked for.
pub const AGENT_TOKEN_TTL_DEFAULT: Duration = Duration::from_secs(3600);

/// An agent token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateAgentTokenError {
    /// The life is out of its bounds.
    #[error("an agent token lives from 1 s to {} s, got {} s", AGENT_TOKEN_TTL_MAX.as_secs(), .0.as_secs())]
    BadTtl(Duration),
    /// The datacenter has not begun.
    #[error("this datacenter has no server CA yet: see `carrack status`")]
    NotBegun,
    /// The log could not be asked.
    #[error("the agent token could not be recorded")]
    Propose(#[from] ProposeError),
    /// The state refuses it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
}

/// Makes an agent token for one named host, and answers its text with its end.
pub async fn create_agent_token(
    context: &Context,
    node: Name,
    ttl: Duration,
) -> Result<(AgentTokenText, Timestamp), CreateAgentTokenError> {
    if ttl < Duration::from_secs(1) || ttl > AGENT_TOKEN_TTL_MAX {
        return Err(CreateAgentTokenError::BadTtl(ttl));
    }
    let applied = context.replica.state();
    let root = applied.state.roots(Ca::Server).active().cloned().ok_or(CreateAgentTokenError::NotBegun)?;
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    context.entropy.fill(&mut *secret);
    let text = AgentTokenText {
        secret,
        pin: root.made.certificate.digest(),
        addresses: applied.state.members().map(|member| member.addresses.grpc.clone()).collect(),
        trust_domain: context.identity.trust_domain.clone(),
        datacenter: context.identity.datacenter.clone(),
        node: node.clone(),
    };
    let expires_at = context.replica.log_time().plus(ttl);
    let (secret, created) = (text.digest(), Revision::default());
    let token = AgentToken { secret, node, expires_at, consumed: None, created };
    let deadline = Instant::now() + PROPOSE_WITHIN;
    context.replica.propose(Command::CreateAgentToken(token), deadline).await?.outcome.accepted()?;
    Ok((text, expires_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_and_shows_no_secret() {
        let token = AgentTokenText {
            secret: Zeroizing::new([7; SECRET_BYTES]),
            pin: Digest([9; 32]),
            addresses: vec!["10.0.0.1:8503".into()],
            trust_domain: "example.org".parse().unwrap(),
            datacenter: Name::parse("datacenter", "dc1").unwrap(),
            node: Name::parse("node name", "n1").unwrap(),
        };
        let text = token.expose_text();
        assert!(text.starts_with(KIND.prefix));
        assert_eq!(format!(" {}\n", *text).parse::<AgentTokenText>(), Ok(token.clone()));
        assert_eq!(format!("{token:?}"), "AgentTokenText(for n1 in dc1, ...)");
        let cut = text[..text.len() - 3].parse::<AgentTokenText>().unwrap_err();
        assert!(matches!(cut, BadToken::Damaged { .. }), "{cut}");
    }
}
