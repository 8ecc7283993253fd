//! CA providers: whoever keeps a root's key. A provider does what a root does and never signs leaves, so issuing waits for nobody outside.

pub mod builtin;
mod providers;
pub mod supplied;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::time::Duration;

use carrack_authority::{
    id::{KeyId, NodeId, Serial},
    key::{Der, KeyKind},
    root::{Bridge, NewRoot, Root},
    spiffe::{Name, TrustDomain},
    time::Timestamp,
    x509::{authority::SignedCertificate, csr::VerifiedIssuerCsr},
};
use futures::future::BoxFuture;

pub use self::{
    builtin::BuiltinProvider,
    providers::Providers,
    supplied::{SuppliedRoot, SuppliedRootError},
};
use crate::keys::{sealing::SealError, secret::KeyError, server_keys::ServerKeysError};

/// What a new root shall be.
#[derive(Clone, Debug)]
pub struct RootRequest {
    /// The name space that it vouches for.
    pub trust_domain: TrustDomain,
    /// The kind of its key.
    pub key_kind: KeyKind,
    /// The time now.
    pub now: Timestamp,
    /// How long it lives.
    pub ttl: Duration,
    /// Who shall be able to open its key, where the provider keeps that in the state.
    pub seal_to: SealTo,
}

/// The recipients of a sealed key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealTo {
    /// The servers, with their recipients, in ascending order of the ids.
    pub slots: Vec<(NodeId, String)>,
    /// The operator's recovery recipient.
    pub recovery: Option<String>,
}

/// An issuer to sign.
#[derive(Clone, Debug)]
pub struct IssuerToSign {
    /// The request, checked.
    pub csr: VerifiedIssuerCsr,
    /// The server's datacenter, which the subject shows.
    pub datacenter: Name,
    /// The server's name, which the subject shows.
    pub server: Name,
    /// The time now.
    pub now: Timestamp,
    /// How long it may live; its root's end cuts it.
    pub ttl: Duration,
    /// Its serial.
    pub serial: Serial,
}

/// A root to cross-sign by the one before it.
#[derive(Clone, Debug)]
pub struct BridgeToSign {
    /// The next root's certificate, of whichever provider: self-signed, or an intermediate of the operator's own root.
    pub next_root: Der,
    /// The trust domain of both.
    pub trust_domain: TrustDomain,
    /// The time now.
    pub now: Timestamp,
    /// Its serial.
    pub serial: Serial,
}

/// Whoever keeps a root's key.
pub trait CaProvider: Send + Sync {
    /// Its name in root records.
    fn name(&self) -> &'static str;

    /// Makes a root.
    fn make_root(&self, request: RootRequest) -> BoxFuture<'_, Result<NewRoot, ProviderError>>;

    /// Signs an issuer under a root of this provider.
    fn sign_issuer<'a>(
        &'a self,
        root: &'a Root,
        issuer: IssuerToSign,
    ) -> BoxFuture<'a, Result<SignedCertificate, ProviderError>>;

    /// Whether it can cross-sign: one that cannot is left behind only with `ForceWithoutCrossSigning`.
    fn can_cross_sign(&self) -> bool;

    /// Cross-signs the next root by a root of this provider. The bridge has path length 1, begins no earlier than `root`, and ends with
    /// the first of both.
    fn cross_sign<'a>(&'a self, root: &'a Root, bridge: BridgeToSign) -> BoxFuture<'a, Result<Bridge, ProviderError>>;
}

/// A provider could not do it.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// A root names a provider that this server does not have.
    #[error("this server has no CA provider `{provider}`, it has {known}")]
    Unknown {
        /// The provider.
        provider: String,
        /// Those that there are.
        known: String,
    },
    /// Whoever keeps the key elsewhere did not do it.
    #[error("the CA provider `{provider}` did not do it: {reason}")]
    Refused {
        /// The provider.
        provider: &'static str,
        /// What it said.
        reason: String,
    },
    /// The root has no sealed key, so this provider did not make it.
    #[error("root {0} has no sealed key in the state: another provider keeps it")]
    NoSealedKey(KeyId),
    /// The root's key cannot be opened.
    #[error("the key of root {root} cannot be opened by this server")]
    Unseal {
        /// The root.
        root: KeyId,
        /// Why.
        #[source]
        source: SealError,
    },
    /// A recipient or the sealing failed.
    #[error("a root key cannot be sealed")]
    Seal(#[source] SealError),
    /// This server's own keys cannot be used.
    #[error("this server's keys cannot be used")]
    Keys(#[from] ServerKeysError),
    /// A key cannot be made or read.
    #[error("a root key cannot be made or read")]
    Key(#[from] KeyError),
    /// A certificate cannot be made.
    #[error("a certificate cannot be made")]
    Certificate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The operator's key or certificates are refused; nothing was changed.
    #[error(transparent)]
    Supplied(#[from] SuppliedRootError),
}
