//! What an operator sees of a secondary's dealings with the primary.

use std::collections::BTreeMap;

use carrack_authority::{
    federation::Table,
    id::{NodeId, Revision},
};
use tokio::time::Instant;

/// One stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamStatus {
    /// Whether the primary was heard on it since it was opened.
    pub is_open: bool,
    /// When the primary was heard last.
    pub heard: Option<Instant>,
    /// The primary's revision then.
    pub primary_revision: Revision,
    /// How many revisions of the primary were not here yet then, because a part of the table was still to come.
    pub lag: u64,
    /// Why it is not open, or why what came was not taken over.
    pub trouble: Option<String>,
}

/// All that the leader knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecondaryStatus {
    /// Each stream.
    pub streams: BTreeMap<Table, StreamStatus>,
    /// Why a server's issuer was not signed at the last try.
    pub unsigned: BTreeMap<NodeId, String>,
    /// Why this datacenter's addresses and server CA were not told at the last try.
    pub unannounced: Option<String>,
    /// Why it was not told where this datacenter is with the roots at the last try.
    pub unstood: Option<String>,
}
