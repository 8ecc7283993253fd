//! Federation tokens as text: what a new datacenter needs for its first contact with the primary, and the secret that lets it in once.
//!
//! `carrack-federation-1.` and base64url of a JSON object. Whoever has the text can let a datacenter of the name in it join until it
//! is used or ends; the servers keep only a digest of the secret.

use std::{fmt, str::FromStr, time::Duration};

use carrack_authority::{
    Command, Rejection,
    acl::token::federation_secret_digest,
    federation::{FEDERATION_TOKEN_TTL_MAX, FederationToken},
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

/// Federation tokens among the kinds of tokens.
const KIND: TokenKind = TokenKind {
    kind: "federation",
    prefix: "carrack-federation-1.",
    command: "carrack federation token --datacenter <name>",
};

/// A federation token, as the joining datacenter reads it.
#[derive(Clone, PartialEq, Eq)]
pub struct FederationTokenText {
    /// What lets the datacenter in.
    pub secret: TokenSecret,
    /// SHA-256 of the certificate of the primary's server CA root: whom the joining datacenter trusts before it knows anything else.
    pub pin: Digest,
    /// Where the primary's servers answer, as `host:port` of their gRPC ports.
    pub addresses: Vec<String>,
    /// The primary.
    pub primary: Name,
    /// The name space that both will share.
    pub trust_domain: TrustDomain,
    /// The name that the joining datacenter must have.
    pub datacenter: Name,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    secret: String,
    pin: String,
    addresses: Vec<String>,
    primary: String,
    trust_domain: String,
    datacenter: String,
}

impl FederationTokenText {
    /// The digest under which the primary knows it.
    pub fn digest(&self) -> Digest {
        federation_secret_digest(&*self.secret)
    }

    /// The text that an operator carries to the new datacenter. It is a secret.
    pub fn expose_text(&self) -> Zeroizing<String> {
        KIND.encode(&Fields {
            secret: secret_text(&self.secret),
            pin: self.pin.to_string(),
            addresses: self.addresses.clone(),
            primary: self.primary.to_string(),
            trust_domain: self.trust_domain.to_string(),
            datacenter: self.datacenter.to_string(),
        })
    }
}

impl fmt::Debug for FederationTokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FederationTokenText(for {} with {}, ...)", self.datacenter, self.primary)
    }
}

impl FromStr for FederationTokenText {
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
            primary: KIND.name("primary datacenter", &fields.primary)?,
            trust_domain: fields.trust_domain.parse().map_err(|_| KIND.damaged("its trust domain does not parse"))?,
            datacenter: KIND.name("datacenter", &fields.datacenter)?,
        })
    }
}

/// The life of a federation token when none is asked for.
pub const FEDERATION_TOKEN_TTL_DEFAULT: Duration = Duration::from_secs(3600);

/// A federation token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateFederationTokenError {
    /// The life is out of its bounds.
    #[error("a federation token lives from 1 s to {} s, got {} s", FEDERATION_TOKEN_TTL_MAX.as_secs(), .0.as_secs())]
    BadTtl(Duration),
    /// The datacenter has not begun.
    #[error("this datacenter has no server CA yet: see `carrack status`")]
    NotBegun,
    /// No server of this datacenter listens for others.
    #[error(
        "no server of this datacenter listens for other datacenters: set `listen.wan` on at least one, and restart it"
    )]
    NoWan,
    /// The log could not be asked.
    #[error("the federation token could not be recorded")]
    Propose(#[from] ProposeError),
    /// The state refuses it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
}

/// Makes a federation token for one named datacenter, and answers its text with its end.
pub async fn create_federation_token(
    context: &Context,
    datacenter: Name,
    ttl: Duration,
) -> Result<(FederationTokenText, Timestamp), CreateFederationTokenError> {
    if ttl < Duration::from_secs(1) || ttl > FEDERATION_TOKEN_TTL_MAX {
        return Err(CreateFederationTokenError::BadTtl(ttl));
    }
    let applied = context.replica.state();
    let root = applied.state.roots(Ca::Server).active().cloned().ok_or(CreateFederationTokenError::NotBegun)?;
    if applied.state.own_datacenter().is_none_or(|own| own.wan_addresses.is_empty()) {
        return Err(CreateFederationTokenError::NoWan);
    }
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    context.entropy.fill(&mut *secret);
    let text = FederationTokenText {
        secret,
        pin: root.made.certificate.digest(),
        addresses: applied.state.members().map(|member| member.addresses.grpc.clone()).collect(),
        primary: context.identity.datacenter.clone(),
        trust_domain: context.identity.trust_domain.clone(),
        datacenter: datacenter.clone(),
    };
    let expires_at = context.replica.log_time().plus(ttl);
    let (secret, created) = (text.digest(), Revision::default());
    let token = FederationToken { secret, datacenter, expires_at, consumed: None, created };
    let deadline = Instant::now() + PROPOSE_WITHIN;
    context.replica.propose(Command::CreateFederationToken(token), deadline).await?.outcome.accepted()?;
    Ok((text, expires_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> FederationTokenText {
        FederationTokenText {
            secret: Zeroizing::new([7; SECRET_BYTES]),
            pin: Digest([9; 32]),
            addresses: vec!["10.0.0.1:8503".into()],
            primary: Name::parse("datacenter", "dc1").unwrap(),
            trust_domain: "example.org".parse().unwrap(),
            datacenter: Name::parse("datacenter", "dc2").unwrap(),
        }
    }

    #[test]
    fn a_token_survives_its_text_and_is_no_join_token() {
        let text = token().expose_text();
        assert_eq!(format!(" {}\n", *text).parse::<FederationTokenText>(), Ok(token()));
        let other = text.parse::<super::super::join_token::JoinTokenText>().unwrap_err().to_string();
        assert!(other.contains("carrack token join"), "{other}");
        for cut in KIND.prefix.len()..text.len() {
            let error = text[..cut].parse::<FederationTokenText>().unwrap_err();
            assert!(matches!(error, BadToken::Damaged { .. }), "{error}");
            assert!(!error.to_string().contains("BwcH"), "{error}");
        }
        assert_eq!(format!("{:?}", token()), "FederationTokenText(for dc2 with dc1, ...)");
    }
}
