//! Roots that an operator brings: Consul's `PrivateKey` and `RootCert` of the CA configuration. Both are read and checked whole before
//! anything is changed; of the key, nothing is ever repeated.

use std::{fmt, time::Duration};

use carrack_authority::{
    root::NewRoot,
    x509::{
        CertificateFacts,
        supplied::{SuppliedCertificates, SuppliedError, SuppliedFor, check_beside, check_supplied},
    },
};
use zeroize::Zeroizing;

use super::{BuiltinProvider, ProviderError, RootRequest};
use crate::keys::{
    aws_lc::KEY_PEM_BYTES_MAX,
    secret::{KeyError, KeyMaker, SecretKey},
};

/// What an operator supplies for the next root.
pub struct SuppliedRoot {
    /// `PrivateKey`: PEM of one private key, not encrypted; empty: none was given.
    pub private_key: Zeroizing<String>,
    /// `RootCert`: PEM of its certificate, then of those above it; empty: a self-signed one is made for the key.
    pub root_cert: String,
    /// `LeafCertTTL`
    pub leaf_ttl: Duration,
    /// `IntermediateCertTTL`
    pub intermediate_ttl: Duration,
    /// The certificates of the roots of the bundle, from which it must differ.
    pub bundle: Vec<CertificateFacts>,
    /// `ForceWithoutCrossSigning`: takes a root, too, that will be unable to cross-sign its successor.
    pub force_without_cross_signing: bool,
}

impl fmt::Debug for SuppliedRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { root_cert, leaf_ttl, intermediate_ttl, bundle, force_without_cross_signing, .. } = self;
        f.debug_struct("SuppliedRoot")
            .field("private_key", &"...")
            .field("root_cert", root_cert)
            .field("leaf_ttl", leaf_ttl)
            .field("intermediate_ttl", intermediate_ttl)
            .field("bundle", &bundle.len())
            .field("force_without_cross_signing", force_without_cross_signing)
            .finish()
    }
}

/// Why a supplied root is refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuppliedRootError {
    /// A certificate without a key; in Consul's words.
    #[error("must provide a private key when providing a root cert")]
    CertificateWithoutKey,
    /// Neither key nor certificate.
    #[error(
        "neither PrivateKey nor RootCert is given; leave both out to have a root made, or give the PEM of a private key"
    )]
    Nothing,
    /// No PEM block.
    #[error(
        "PrivateKey is not a key: it has no PEM block; give the text of the key file, which begins with `-----BEGIN PRIVATE KEY-----`, not its path"
    )]
    NoBlock,
    /// A PEM block of something else.
    #[error(
        "PrivateKey has a PEM block `{label}`, which is no private key that is read here; give one block PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY, and certificates in RootCert"
    )]
    OtherBlock {
        /// Its label, escaped and cut.
        label: String,
    },
    /// Several keys.
    #[error(
        "PrivateKey has {count} private keys, exactly one is expected; give the one that belongs to the first certificate of RootCert"
    )]
    SeveralKeys {
        /// How many.
        count: usize,
    },
    /// Text beside the key.
    #[error(
        "line {line} of PrivateKey is outside of its PEM block, or the block does not end there; give the block and nothing beside it"
    )]
    BadLine {
        /// The line, from 1.
        line: usize,
    },
    /// An encrypted key.
    #[error(
        "PrivateKey is encrypted, and no passphrase is asked for here; decrypt it first, as `openssl pkey -in FILE` does: it is sealed before it is stored"
    )]
    Encrypted,
    /// A key that cannot be read, or of a kind that is not accepted.
    #[error("PrivateKey is refused: {0}; give the whole text of one key of an accepted kind")]
    Key(#[from] KeyError),
    /// The certificates are refused.
    #[error(transparent)]
    Certificates(#[from] SuppliedError),
    /// The life of the self-signed root is too short.
    #[error(
        "the root for PrivateKey would live for {} s (RootCertTTL), less than an issuer (IntermediateCertTTL, {} s) and a leaf (LeafCertTTL, {} s); set a longer RootCertTTL", .root_ttl.as_secs(), .intermediate_ttl.as_secs(), .leaf_ttl.as_secs()
    )]
    TooShort {
        /// `RootCertTTL`
        root_ttl: Duration,
        /// `IntermediateCertTTL`
        intermediate_ttl: Duration,
        /// `LeafCertTTL`
        leaf_ttl: Duration,
    },
}

impl BuiltinProvider {
    /// The root that an operator supplies, its key sealed. The kind of key in the request means nothing: the key has its own.
    pub fn import_root(&self, supplied: &SuppliedRoot, request: &RootRequest) -> Result<NewRoot, ProviderError> {
        let key = read_key(&*self.maker, supplied)?;
        let signer = self.maker.signer(&key).map_err(SuppliedRootError::Key)?;
        let SuppliedRoot { leaf_ttl, intermediate_ttl, .. } = *supplied;
        let (root, chain) = if is_blank(&supplied.root_cert) {
            let root_ttl = request.ttl;
            if root_ttl < intermediate_ttl.saturating_add(leaf_ttl) {
                return Err(SuppliedRootError::TooShort { root_ttl, intermediate_ttl, leaf_ttl }.into());
            }
            (self.self_signed(&*signer, request)?, Vec::new())
        } else {
            let wanted = SuppliedFor {
                key: signer.public_key(),
                trust_domain: &request.trust_domain,
                leaf_ttl,
                intermediate_ttl,
                now: request.now,
                bundle: &supplied.bundle,
                without_cross_signing: supplied.force_without_cross_signing,
            };
            let SuppliedCertificates { root, chain } =
                check_supplied(&supplied.root_cert, &wanted).map_err(SuppliedRootError::Certificates)?;
            (root, chain)
        };
        check_beside(&root.facts, &supplied.bundle).map_err(SuppliedRootError::Certificates)?;
        let id = root.facts.key_id.unwrap_or(signer.public_key().id);
        Ok(NewRoot { id, chain, ..self.new_root(&key, &*signer, root, &request.seal_to)? })
    }
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// The key, if the text is the PEM of exactly one and nothing else.
fn read_key(maker: &dyn KeyMaker, supplied: &SuppliedRoot) -> Result<SecretKey, SuppliedRootError> {
    let text: &str = &supplied.private_key;
    if is_blank(text) {
        let is_alone = is_blank(&supplied.root_cert);
        return Err(if is_alone { SuppliedRootError::Nothing } else { SuppliedRootError::CertificateWithoutKey });
    }
    if text.len() > KEY_PEM_BYTES_MAX {
        return Err(KeyError::TooLarge { bytes: text.len(), bytes_max: KEY_PEM_BYTES_MAX }.into());
    }
    match count_keys(text)? {
        0 => Err(SuppliedRootError::NoBlock),
        1 => Ok(maker.import(text)?),
        count => Err(SuppliedRootError::SeveralKeys { count }),
    }
}

/// Labels of private keys that are read.
const KEYS: [&str; 3] = ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"];
/// What `openssl ecparam -genkey` writes before the key; the key names its curve itself.
const CURVE: &str = "EC PARAMETERS";
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
/// How much of another label is repeated.
const LABEL_SHOWN_CHARACTERS: usize = 40;

/// How many private keys the text has, which must have nothing else.
fn count_keys(text: &str) -> Result<usize, SuppliedRootError> {
    if !text.contains("-----BEGIN ") {
        return Err(SuppliedRootError::NoBlock);
    }
    let mut count = 0;
    let mut open: Option<&str> = None;
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        match (open, boundary(line)) {
            (None, Some(("BEGIN", label))) => {
                expect_key(label)?;
                count += usize::from(KEYS.contains(&label));
                open = Some(label);
            }
            (None, None) if line.is_empty() => {}
            (Some(label), Some(("END", end))) if label == end => open = None,
            // The header of the older forms (RFC 1421 section 4.6.1.1).
            (Some(_), None) if line.starts_with("Proc-Type:") && line.contains("ENCRYPTED") => {
                return Err(SuppliedRootError::Encrypted);
            }
            (Some(_), None) => {}
            _ => return Err(SuppliedRootError::BadLine { line: number }),
        }
    }
    match open {
        None => Ok(count),
        Some(_) => Err(SuppliedRootError::BadLine { line: text.lines().count() }),
    }
}

fn boundary(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("-----")?.strip_suffix("-----")?.split_once(' ')
}

fn expect_key(label: &str) -> Result<(), SuppliedRootError> {
    if label == ENCRYPTED {
        return Err(SuppliedRootError::Encrypted);
    }
    if KEYS.contains(&label) || label == CURVE {
        return Ok(());
    }
    let shown: String = label.chars().take(LABEL_SHOWN_CHARACTERS).collect();
    Err(SuppliedRootError::OtherBlock { label: shown.escape_default().to_string() })
}

#[cfg(test)]
mod tests;
