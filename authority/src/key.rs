//! Kinds of keys, public keys, and the port through which private keys sign. Private keys themselves are never data here.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::id::{Digest, KeyId};

/// The kinds of keys that this CA makes and certifies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum KeyKind {
    /// ECDSA on P-256 with SHA-256.
    #[default]
    EcP256,
    /// ECDSA on P-384 with SHA-384.
    EcP384,
    /// Ed25519. Envoy does not take it.
    Ed25519,
    /// RSA with a 2048-bit modulus, PKCS#1 v1.5 with SHA-256.
    Rsa2048,
    /// RSA with a 3072-bit modulus.
    Rsa3072,
    /// RSA with a 4096-bit modulus.
    Rsa4096,
}

/// A pair of Consul's `PrivateKeyType` and `PrivateKeyBits` that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "private key type `{key_type}` with {bits} bits is not accepted; accepted are ec 256, ec 384, ed25519 256, rsa 2048, rsa 3072 and rsa 4096"
)]
pub struct UnknownKeyKind {
    /// The type that was asked for.
    pub key_type: String,
    /// The bits that were asked for.
    pub bits: u32,
}

/// A name of a kind of key, as commands take it, that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no kind of key that is accepted; accepted are {}", KeyKind::ALL.map(KeyKind::as_str).join(", "))]
pub struct UnknownKeyName {
    /// The name, escaped and cut.
    pub name: String,
}

/// How much of a name that is not accepted is repeated.
const NAME_SHOWN_CHARACTERS: usize = 32;

impl KeyKind {
    /// Every accepted kind.
    pub const ALL: [Self; 6] = [Self::EcP256, Self::EcP384, Self::Ed25519, Self::Rsa2048, Self::Rsa3072, Self::Rsa4096];

    /// Reads Consul's `PrivateKeyType` and `PrivateKeyBits`.
    pub fn from_consul(key_type: &str, bits: u32) -> Result<Self, UnknownKeyKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.consul_type() == key_type && kind.consul_bits() == bits)
            .ok_or_else(|| UnknownKeyKind { key_type: key_type.into(), bits })
    }

    /// Consul's `PrivateKeyType`.
    pub const fn consul_type(self) -> &'static str {
        match self {
            Self::EcP256 | Self::EcP384 => "ec",
            Self::Ed25519 => "ed25519",
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => "rsa",
        }
    }

    /// The name by which commands, messages and the wire know it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EcP256 => "ec-p256",
            Self::EcP384 => "ec-p384",
            Self::Ed25519 => "ed25519",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
        }
    }

    fn consul_name(self) -> String {
        format!("{}-{}", self.consul_type(), self.consul_bits())
    }

    /// Consul's `PrivateKeyBits`.
    pub const fn consul_bits(self) -> u32 {
        match self {
            Self::EcP256 | Self::Ed25519 => 256,
            Self::EcP384 => 384,
            Self::Rsa2048 => 2048,
            Self::Rsa3072 => 3072,
            Self::Rsa4096 => 4096,
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KeyKind {
    type Err = UnknownKeyName;

    /// Reads the form that `Display` writes: `ec-p256`, `ed25519`, `rsa-2048`; Consul's type and bits, as in `ec-256`, name curves too.
    fn from_str(text: &str) -> Result<Self, UnknownKeyName> {
        let is_named = |kind: &Self| kind.as_str() == text || kind.consul_name() == text;
        let shown = || text.chars().take(NAME_SHOWN_CHARACTERS).collect::<String>().escape_default().to_string();
        Self::ALL.into_iter().find(is_named).ok_or_else(|| UnknownKeyName { name: shown() })
    }
}

/// The largest certificate that is recorded: one of RSA 4096 under RSA 4096 has less than 2 KiB.
pub const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;
/// The largest request for a certificate that is recorded; a server's own has less than 2 KiB.
pub const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// A DER-encoded value (CSR, certificate, key info) that apply carries and never reads.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Der(Arc<[u8]>);

impl Der {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// SHA-256 of the bytes.
    pub fn digest(&self) -> Digest {
        Digest(Sha256::digest(&self.0).into())
    }
}

impl From<Vec<u8>> for Der {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&[u8]> for Der {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Der {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Der({} bytes, sha256 {})", self.0.len(), self.digest())
    }
}

/// A public key of an accepted kind, as a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublicKey {
    /// The kind of the key.
    pub kind: KeyKind,
    /// The DER encoding of the whole SubjectPublicKeyInfo.
    pub spki: Der,
    /// SHA-256 of the subjectPublicKey bits, cut to 160 bits (RFC 7093 section 2, method 1).
    pub id: KeyId,
}

impl PublicKey {
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn digest(&self) -> Digest {
        self.spki.digest()
    }
}

/// Signs with one private key, wherever that is kept. Implemented outside of this crate.
pub trait Signer: Send + Sync {
    /// The public key that belongs to it.
    fn public_key(&self) -> &PublicKey;

    /// Signs `message` with the algorithm that belongs to the key's kind; the answer is in X.509's encoding.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError>;
}

/// A private key could not sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {kind} key {id} cannot sign: {reason}")]
pub struct SignerError {
    /// The kind of the key.
    pub kind: KeyKind,
    /// The key.
    pub id: KeyId,
    /// What its keeper said.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_as_they_are_printed_and_as_consul_names_them() {
        for kind in KeyKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!(kind.consul_name().parse(), Ok(kind));
            assert_eq!(KeyKind::from_consul(kind.consul_type(), kind.consul_bits()), Ok(kind));
        }
    }

    /// Consul offers EC 224 and 521; neither is in the web's or SPIFFE's profiles.
    #[test]
    fn other_kinds_are_refused_with_the_list() {
        for (key_type, bits) in
            [("ec", 224), ("ec", 521), ("rsa", 1024), ("rsa", 8192), ("dsa", 256), ("", 0), ("EC", 256)]
        {
            let error = KeyKind::from_consul(key_type, bits).unwrap_err().to_string();
            assert!(error.contains("accepted are ec 256, ec 384, ed25519 256, rsa 2048"), "{error}");
        }
        let accepted = "accepted are ec-p256, ec-p384, ed25519, rsa-2048, rsa-3072, rsa-4096";
        for name in ["ec-p224", "ec-p521", "ec-224", "ec-521", "rsa-1024", "rsa-8192", "EC-P256", "p256", "rsa", ""] {
            let error = name.parse::<KeyKind>().unwrap_err().to_string();
            assert_eq!(error, format!("`{name}` is no kind of key that is accepted; {accepted}"));
        }
        let error = format!("\n{}", "x".repeat(1000)).parse::<KeyKind>().unwrap_err();
        assert_eq!(error.name, format!("\\n{}", "x".repeat(NAME_SHOWN_CHARACTERS - 1)));
    }

    #[test]
    fn an_encoded_value_shows_its_digest_and_not_its_bytes() {
        let shown = format!("{:?}", Der::from(&b"abc"[..]));
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(shown, format!("Der(3 bytes, sha256 {digest})"));
    }
}
