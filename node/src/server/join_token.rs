//! Join tokens as text: what a new server needs for its first contact, and the secret that lets it in once.
//!
//! `carrack-join-1.` and base64url of a JSON object. Whoever has the text can join under the name in it until it is used or ends;
//! the servers keep only a digest of the secret.

use std::{fmt, str::FromStr, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
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

use super::{PROPOSE_WITHIN, context::Context};

/// What every join token begins with; the number is the version of what follows.
pub const PREFIX: &str = "carrack-join-1.";
/// The longest token text: eleven servers' addresses fit.
pub const JOIN_TOKEN_BYTES_MAX: usize = 8 * 1024;

/// The random bytes of a join token.
pub const SECRET_BYTES: usize = 32;

/// A join token, as the joiner reads it.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinTokenText {
    /// What lets the joiner in.
    pub secret: Zeroizing<[u8; SECRET_BYTES]>,
    /// SHA-256 of the certificate of the server CA's root: whom the joiner trusts before it knows anything else.
    pub pin: Digest,
    /// Where servers answer joiners, as `host:port`.
    pub addresses: Vec<String>,
    /// The datacenter.
    pub datacenter: Name,
    /// The name that the joiner must have.
    pub node_name: Name,
}

/// Text that is no join token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadJoinToken {
    /// It does not begin as one.
    #[error("a join token begins with `{PREFIX}`; make one with `carrack token join --node <name>`")]
    Prefix,
    /// It is too long.
    #[error(
        "the join token has {0} bytes, at most {JOIN_TOKEN_BYTES_MAX} are possible: was more than the token pasted?"
    )]
    TooLong(usize),
    /// It was cut or changed.
    #[error("the join token is damaged ({0}): was it cut when it was copied?")]
    Damaged(String),
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
        let fields = Fields {
            secret: URL_SAFE_NO_PAD.encode(*self.secret),
            pin: self.pin.to_string(),
            addresses: self.addresses.clone(),
            datacenter: self.datacenter.to_string(),
            node: self.node_name.to_string(),
        };
        let json = Zeroizing::new(serde_json::to_vec(&fields).expect("texts always fit JSON"));
        Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&*json)))
    }
}

impl fmt::Debug for JoinTokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinTokenText(for {} in {}, ...)", self.node_name, self.datacenter)
    }
}

impl FromStr for JoinTokenText {
    type Err = BadJoinToken;

    fn from_str(text: &str) -> Result<Self, BadJoinToken> {
        let text = text.trim();
        if text.len() > JOIN_TOKEN_BYTES_MAX {
            return Err(BadJoinToken::TooLong(text.len()));
        }
        let encoded = text.strip_prefix(PREFIX).ok_or(BadJoinToken::Prefix)?;
        let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| damaged("it is not base64url"))?);
        let fields: Fields = serde_json::from_slice(&json).map_err(|_| damaged("its fields do not parse"))?;
        let secret = URL_SAFE_NO_PAD.decode(&fields.secret).map_err(|_| damaged("its secret does not parse"))?;
        let secret = Zeroizing::new(secret.try_into().map_err(|_| damaged("its secret has a wrong length"))?);
        let name = |what, text: &str| Name::parse(what, text).map_err(|error| damaged(&error.to_string()));
        if fields.addresses.is_empty() {
            return Err(damaged("it names no server"));
        }
        Ok(Self {
            secret,
            pin: fields.pin.parse().map_err(|_| damaged("its pin does not parse"))?,
            addresses: fields.addresses,
            datacenter: name("datacenter", &fields.datacenter)?,
            node_name: name("node name", &fields.node)?,
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

fn damaged(what: &str) -> BadJoinToken {
    BadJoinToken::Damaged(what.into())
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
        assert!(text.starts_with(PREFIX));
        assert_eq!(format!(" {}\n", *text).parse::<JoinTokenText>(), Ok(token()));
    }

    #[test]
    fn a_cut_token_is_named_as_damaged_and_nothing_of_it_is_shown() {
        let text = token().expose_text();
        for cut in PREFIX.len()..text.len() {
            let error = text[..cut].parse::<JoinTokenText>().unwrap_err();
            assert!(matches!(error, BadJoinToken::Damaged(_)), "{error}");
            assert!(!error.to_string().contains("BwcH"), "{error}");
        }
        assert_eq!("x".parse::<JoinTokenText>(), Err(BadJoinToken::Prefix));
    }

    #[test]
    fn debug_output_holds_no_secret() {
        assert_eq!(format!("{:?}", token()), "JoinTokenText(for b in dc1, ...)");
    }
}
