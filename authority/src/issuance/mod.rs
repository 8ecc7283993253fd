//! The issuance log: every leaf that was ever released, its hash chain, and the unexpired records by whatever one asks for.

mod chain;
mod index;
mod log;
mod pages;
mod record;

pub use chain::{EMPTY_HEAD, link};
pub use log::{BadIssuance, IssuanceLog, IssuerCounts};
pub use record::{
    BACKDATING, DEADLINE_MAX, Grant, Holder, ISSUANCES_MAX, Issuance, IssuanceRecord, Keeper, Review, SLOT_BYTES_MAX,
};
