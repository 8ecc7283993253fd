//! Join tokens as text: what a new server needs for its first contact, and the secret that lets it in once.
//!
//! `carrack-join-1.` and base64url of a JSON object. Whoever has the text can join under the name in it until it is used or ends;
//! the servers keep only a digest of the secret.

use std::{fmt, str::FromStr, time::Duration};

use carrack_authority::{
    Command, Rejection,
    acl::token::join_secret_digest,
    id::{Digest, Revision},
    member::JoinToken,
    root::Ca,
    spiffe::Name,
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

/// Join tokens among the kinds of tokens.
const KIND: TokenKind =
    TokenKind { kind: "join", prefix: "carrack-join-1.", command: "carrack token join --node <name>" };

/// A join token, as the joiner reads it.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinTokenText {
    /// What lets the joiner in.
    pub secret: TokenSecret,
    /// SHA-256 of the certificate of the server CA's root: whom the joiner trusts before it knows anything else.
    pub pin: Digest,
    /// Where servers answer joiners, as `host:port`.
    pub addresses: Vec<String>,
    /// The datacenter.
    pub datacenter: Name,
    /// The name that the joiner must have.
    pub node_name: Name,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    secret: String,
    pin: String,
    addresses: Vec<String>,
    datacenter: String,
    node: String,
}

impl JoinTokenText {
    /// The digest under which the servers know it.
    pub fn digest(&self) -> Digest {
        join_secret_digest(&*self.secret)
    }

    /// The text that an operator carries to the new server. It is a secret.
    pub fn expose_text(&self) -> Zeroizing<String> {
        KIND.encode(&Fields {
            secret: secret_text(&self.secret),
            pin: self.pin.to_string(),
            addresses: self.addresses.clone(),
            datacenter: self.datacenter.to_string(),
            node: self.node_name.to_string(),
        })
    }
}

impl fmt::Debug for JoinTokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinTokenText(for {} in {}, ...)", self.node_name, self.datacenter)
    }
}

impl FromStr for JoinTokenText {
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
            datacenter: KIND.name("datacenter", &fields.datacenter)?,
            node_name: KIND.name("node name", &fields.node)?,
        })
    }
}

/// The longest life of a join token: it is a secret that lies around.
pub const JOIN_TOKEN_TTL_MAX: Duration = Duration::from_secs(7 * 86_400);
/// The life of a join token when none is asked for.
pub const JOIN_TOKEN_TTL_DEFAULT: Duration = Duration::from_secs(3600);

/// A join token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateJoinTokenError {
    /// The life is out of its bounds.
    #[error("a join token lives from 1 s to {} s, got {} s", JOIN_TOKEN_TTL_MAX.as_secs(), .0.as_secs())]
    BadTtl(Duration),
    /// The datacenter has not begun.
    #[error("this datacenter has no server CA yet: see `carrack status`")]
    NotBegun,
    /// The log could not be asked.
    #[error("the join token could not be recorded")]
    Propose(#[from] ProposeError),
    /// The state refuses it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
}

/// Makes a join token for one named server, and answers its text with its end.
pub async fn create_join_token(
    context: &Context,
    node_name: Name,
    ttl: Duration,
) -> Result<(JoinTokenText, Timestamp), CreateJoinTokenError> {
    if ttl < Duration::from_secs(1) || ttl > JOIN_TOKEN_TTL_MAX {
        return Err(CreateJoinTokenError::BadTtl(ttl));
    }
    let applied = context.replica.state();
    let root = applied.state.roots(Ca::Server).active().cloned().ok_or(CreateJoinTokenError::NotBegun)?;
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    context.entropy.fill(&mut *secret);
    let text = JoinTokenText {
        secret,
        pin: root.made.certificate.digest(),
        addresses: applied.state.members().map(|member| member.addresses.grpc.clone()).collect(),
        datacenter: context.identity.datacenter.clone(),
        node_name: node_name.clone(),
    };
    let expires_at = context.replica.log_time().plus(ttl);
    let (secret, created) = (text.digest(), Revision::default());
    let token = JoinToken { secret, node_name, expires_at, consumed: None, created };
    let deadline = Instant::now() + PROPOSE_WITHIN;
    context.replica.propose(Command::CreateJoinToken(token), deadline).await?.outcome.accepted()?;
    Ok((text, expires_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinTokenText {
        JoinTokenText {
            secret: Zeroizing::new([7; SECRET_BYTES]),
            pin: Digest([9; 32]),
            addresses: vec!["10.0.0.1:8503".into()],
            datacenter: Name::parse("datacenter", "dc1").unwrap(),
            node_name: Name::parse("node name", "b").unwrap(),
        }
    }

    #[test]
    fn a_token_survives_its_text_and_white_space_around_it() {
        let text = token().expose_text();
        assert!(text.starts_with(KIND.prefix));
        assert_eq!(format!(" {}\n", *text).parse::<JoinTokenText>(), Ok(token()));
    }

    #[test]
    fn a_cut_token_is_named_as_damaged_and_nothing_of_it_is_shown() {
        let text = token().expose_text();
        for cut in KIND.prefix.len()..text.len() {
            let error = text[..cut].parse::<JoinTokenText>().unwrap_err();
            assert!(matches!(error, BadToken::Damaged { .. }), "{error}");
            assert!(!error.to_string().contains("BwcH"), "{error}");
        }
        assert_eq!(
            "x".parse::<JoinTokenText>(),
            Err(BadToken::Prefix { kind: "join", prefix: KIND.prefix, command: KIND.command })
        );
    }

    #[test]
    fn debug_output_holds_no_secret() {
        assert_eq!(format!("{:?}", token()), "JoinTokenText(for b in dc1, ...)");
    }
}
