//! Between the datacenters of one trust domain. The primary signs issuers for the others and lets them follow its tables; a secondary
//! makes its own keys, asks for what it needs, takes over what it hears, and lives without the primary until its issuers end.
//!
//! Architecture Invariant: this crate knows neither consensus nor network: both are ports.

pub mod ports;
pub mod primary;
pub mod secondary;
#[cfg(test)]
mod testing;

pub use ports::{Announcement, Following, FromPrimary, Heard, IssuerSigner, Log, LogError, WanError};
