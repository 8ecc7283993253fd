//! The form that join tokens and federation tokens share as text: a prefix with a version, and base64url of a JSON object.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use carrack_authority::spiffe::Name;
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

/// The longest text: eleven servers' addresses fit.
pub const TOKEN_TEXT_BYTES_MAX: usize = 8 * 1024;
/// The random bytes of a token.
pub const SECRET_BYTES: usize = 32;

/// The secret of a token.
pub type TokenSecret = Zeroizing<[u8; SECRET_BYTES]>;

/// Text that is no token of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// It does not begin as one.
    #[error("a {kind} token begins with `{prefix}`; make one with `{command}`")]
    Prefix {
        /// Which kind of token was wanted.
        kind: &'static str,
        /// What it begins with.
        prefix: &'static str,
        /// The command that makes one.
        command: &'static str,
    },
    /// It is too long.
    #[error(
        "the {kind} token has {bytes} bytes, at most {TOKEN_TEXT_BYTES_MAX} are possible: was more than the token pasted?"
    )]
    TooLong {
        /// Which kind of token was wanted.
        kind: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// It was cut or changed.
    #[error("the {kind} token is damaged ({reason}): was it cut when it was copied?")]
    Damaged {
        /// Which kind of token was wanted.
        kind: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// A kind of token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenKind {
    /// What it is called.
    pub(crate) kind: &'static str,
    /// What it begins with; the number is the version of what follows.
    pub(crate) prefix: &'static str,
    /// The command that makes one.
    pub(crate) command: &'static str,
}

impl TokenKind {
    /// The fields as text. It is a secret.
    pub(crate) fn encode(self, fields: &impl Serialize) -> Zeroizing<String> {
        let json = Zeroizing::new(serde_json::to_vec(fields).expect("texts always fit JSON"));
        Zeroizing::new(format!("{}{}", self.prefix, URL_SAFE_NO_PAD.encode(&*json)))
    }

    /// The fields of a text. Nothing of the text is in the error.
    pub(crate) fn decode<T: DeserializeOwned>(self, text: &str) -> Result<T, BadToken> {
        let text = text.trim();
        if text.len() > TOKEN_TEXT_BYTES_MAX {
            return Err(BadToken::TooLong { kind: self.kind, bytes: text.len() });
        }
        let Self { kind, prefix, command } = self;
        let encoded = text.strip_prefix(prefix).ok_or(BadToken::Prefix { kind, prefix, command })?;
        let json = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| self.damaged("it is not base64url"))?;
        serde_json::from_slice(&Zeroizing::new(json)).map_err(|_| self.damaged("its fields do not parse"))
    }

    /// The secret in one of the fields.
    pub(crate) fn secret(self, text: &str) -> Result<TokenSecret, BadToken> {
        let secret = URL_SAFE_NO_PAD.decode(text).map_err(|_| self.damaged("its secret does not parse"))?;
        let secret = Zeroizing::new(secret);
        let secret = <[u8; SECRET_BYTES]>::try_from(&**secret);
        secret.map(Zeroizing::new).map_err(|_| self.damaged("its secret has a wrong length"))
    }

    /// The name in one of the fields.
    pub(crate) fn name(self, what: &'static str, text: &str) -> Result<Name, BadToken> {
        Name::parse(what, text).map_err(|error| self.damaged(&error.to_string()))
    }

    pub(crate) fn damaged(self, reason: &str) -> BadToken {
        BadToken::Damaged { kind: self.kind, reason: reason.into() }
    }
}

/// A secret as a field has it.
pub(crate) fn secret_text(secret: &TokenSecret) -> String {
    URL_SAFE_NO_PAD.encode(**secret)
}
