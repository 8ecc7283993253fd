//! X.509: requests that were verified, certificates built from policy, and the facts read from certificates.
//!
//! Everything here is a function of its arguments: keys sign through [`crate::key::Signer`], times and serials are given.

pub mod csr;
mod der;
pub mod dns_name;
pub mod extension;
pub mod facts;
pub mod pem;
pub mod public_key;
pub mod request;
pub mod signature;
mod signing;
#[cfg(test)]
mod testing;

pub use der::DerError;
pub use signing::SigningError;
