//! A private key as bytes, and the port that makes keys. The bytes are wiped when dropped, never printed, never serialised.

use std::{fmt, sync::Arc};

use carrack_authority::key::{KeyKind, Signer};
use zeroize::Zeroizing;

/// A private key of a known kind, as PKCS#8 DER (RFC 5208). Wiped when dropped; `Debug` prints `...`.
pub struct SecretKey {
    kind: KeyKind,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl SecretKey {
    /// Takes over the PKCS#8 DER of a key whose kind the caller has checked. Untrusted bytes: use [`KeyMaker::import`].
    pub fn from_checked_pkcs8(kind: KeyKind, pkcs8: Zeroizing<Vec<u8>>) -> Self {
        Self { kind, pkcs8 }
    }

    /// The kind of the key.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The PKCS#8 DER. Whoever copies it wipes the copy.
    pub fn expose_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The key as a PEM block `PRIVATE KEY` that ends in a newline.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let body = Zeroizing::new(base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &*self.pkcs8));
        let mut pem = Zeroizing::new(String::with_capacity(body.len() + body.len() / PEM_LINE_BYTES + PEM_FRAME_BYTES));
        pem.push_str("-----BEGIN PRIVATE KEY-----\n");
        let mut rest: &str = &body;
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(PEM_LINE_BYTES));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        pem
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({}, ...)", self.kind)
    }
}

/// The length of a PEM line (RFC 7468 section 2).
const PEM_LINE_BYTES: usize = 64;
/// Room for the two framing lines and their newlines, so that the buffer never moves and leaves a copy behind.
const PEM_FRAME_BYTES: usize = 64;

/// Makes, reads and uses private keys. The simulator's implementation is seeded and signs deterministically.
pub trait KeyMaker: Send + Sync {
    /// Makes a new key.
    fn make(&self, kind: KeyKind) -> Result<SecretKey, KeyError>;

    /// Reads a private key from PEM: PKCS#8, or the older SEC 1 (RFC 5915) and PKCS#1 forms.
    fn import(&self, pem: &str) -> Result<SecretKey, KeyError>;

    /// The signer of a key.
    fn signer(&self, key: &SecretKey) -> Result<Arc<dyn Signer>, KeyError>;
}

/// A key could not be made, read or used. Never holds key bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The cryptographic library refused to make a key.
    #[error("no {kind} key could be made: the cryptographic library refused")]
    NotMade {
        /// The kind that was asked for.
        kind: KeyKind,
    },
    /// The text has no PEM block with a private key.
    #[error("no private key was found: expected one PEM block PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY")]
    NoPem,
    /// The PEM text is larger than any accepted key.
    #[error("the private key has {bytes} bytes of PEM, at most {bytes_max} are read")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The key is damaged or of a kind that is not accepted.
    #[error(
        "the private key is damaged or of a kind that is not accepted; accepted are EC P-256 and P-384, Ed25519, RSA 2048, 3072 and 4096"
    )]
    NotAccepted,
    /// The key's bytes are not those of its kind.
    #[error("the stored {kind} key is damaged: it does not decode as that kind")]
    Damaged {
        /// The kind that the key should have.
        kind: KeyKind,
    },
}
