//! What this crate needs: the replicated log of its own datacenter, the way to the primary, and whoever keeps the roots' keys.

use std::{collections::BTreeSet, time::Duration};

use carrack_authority::{
    Command, Outcome, State, WatchKey,
    federation::{Change, Cursor, Datacenter, DatacenterFacts, KnownServers, Table},
    id::{KeyId, NodeId, Revision},
    key::Der,
    root::Root,
    rotation::Standing,
    spiffe::Name,
    time::Timestamp,
    x509::{authority::SignedCertificate, csr::VerifiedIssuerCsr},
};
use futures::{future::BoxFuture, stream::BoxStream};
use tokio::time::Instant;

/// The replicated log of this datacenter.
pub trait Log: Send + Sync {
    /// The state as this server has applied it.
    fn state(&self) -> State;

    /// The log's time.
    fn log_time(&self) -> Timestamp;

    /// The committed state, confirmed by a majority after this was called.
    fn confirmed(&self, within: Duration) -> BoxFuture<'_, Result<State, LogError>>;

    /// Waits until one of the tables has changed after the revision beside it, or until the deadline.
    fn changed(&self, after: Vec<(WatchKey, Revision)>, deadline: Instant) -> BoxFuture<'_, ()>;

    /// Waits until this server has applied an index; whether it has by the deadline.
    fn applied(&self, index: u64, deadline: Instant) -> BoxFuture<'_, bool>;

    /// On the leader: the servers of this datacenter that have not answered for a while, and are not waited for.
    fn absent(&self) -> BTreeSet<NodeId>;

    /// Proposes a command, and waits for its outcome and until this server has applied it.
    fn propose(&self, command: Command, within: Duration) -> BoxFuture<'_, Result<Outcome, LogError>>;
}

/// The log did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LogError(pub String);

/// A part of a table, as the primary sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// What changed.
    pub change: Change,
    /// How far the table is followed then.
    pub to: Cursor,
    /// Whether that was all that the primary had.
    pub is_all: bool,
    /// The revision of the primary's log when it was sent.
    pub primary_revision: Revision,
}

/// A request for an issuer, as a secondary sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerAsked {
    /// The server that made the key.
    pub node: NodeId,
    /// Its name.
    pub node_name: Name,
    /// The root that shall sign.
    pub root: KeyId,
    /// The PKCS#10 request.
    pub csr: Der,
}

/// What a datacenter tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Where it is and how its servers are known.
    pub facts: DatacenterFacts,
    /// Which servers it has.
    pub servers: KnownServers,
}

/// A table that is followed.
pub struct Following {
    /// The server of the primary that tells it, by its address.
    pub server: String,
    /// What it tells.
    pub heard: BoxStream<'static, Result<Heard, WanError>>,
}

/// The way from a secondary to the primary.
pub trait FromPrimary: Send + Sync {
    /// A table and each of its changes, from where this datacenter is.
    fn follow<'a>(
        &'a self,
        primary: &'a Datacenter,
        table: Table,
        from: Cursor,
    ) -> BoxFuture<'a, Result<Following, WanError>>;

    /// A server of the primary was silent on a stream: if it is still spoken to, another one is asked next.
    fn distrust(&self, primary: &Datacenter, server: &str);

    /// Has an issuer signed.
    fn sign_issuer<'a>(&'a self, primary: &'a Datacenter, asked: IssuerAsked) -> BoxFuture<'a, Result<Der, WanError>>;

    /// Tells where this datacenter is, how its servers are known, and which it has.
    fn announce<'a>(&'a self, primary: &'a Datacenter, told: Announcement) -> BoxFuture<'a, Result<(), WanError>>;

    /// Tells where this datacenter is with the roots.
    fn stand<'a>(&'a self, primary: &'a Datacenter, standing: Standing) -> BoxFuture<'a, Result<(), WanError>>;
}

/// Another datacenter did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WanError {
    /// No server of it could be reached.
    #[error("datacenter `{datacenter}` cannot be reached: {reason}")]
    Unreachable {
        /// Which.
        datacenter: Name,
        /// Each server and what happened.
        reason: String,
    },
    /// It refuses.
    #[error("datacenter `{datacenter}` refuses: {reason}")]
    Refused {
        /// Which.
        datacenter: Name,
        /// Why.
        reason: String,
    },
    /// It has enough to do, and has not done it.
    #[error("datacenter `{datacenter}` is busy: {reason}")]
    Busy {
        /// Which.
        datacenter: Name,
        /// With what.
        reason: String,
    },
    /// What it sent is not in its form.
    #[error("datacenter `{datacenter}` sent what cannot be read: {reason}")]
    Unreadable {
        /// Which.
        datacenter: Name,
        /// What is wrong.
        reason: String,
    },
}

/// Whoever keeps the keys of the roots, in the primary.
pub trait IssuerSigner: Send + Sync {
    /// Signs an issuer of another datacenter.
    fn sign<'a>(&'a self, root: &'a Root, issuer: IssuerToSign) -> BoxFuture<'a, Result<SignedCertificate, String>>;
}

/// An issuer of another datacenter to sign.
#[derive(Clone, Debug)]
pub struct IssuerToSign {
    /// The request, checked.
    pub csr: VerifiedIssuerCsr,
    /// The datacenter of its server.
    pub datacenter: Name,
    /// The server's name.
    pub server: Name,
    /// The time now.
    pub now: Timestamp,
    /// How long it may live.
    pub ttl: Duration,
}
