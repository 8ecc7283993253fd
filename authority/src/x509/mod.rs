//! X.509: requests that were verified, certificates built from policy, and the facts read from certificates.
//!
//! Everything here is a function of its arguments: keys sign through [`crate::key::Signer`], times and serials are given.

pub mod authority;
pub mod certificate;
pub mod chain;
pub mod csr;
mod der;
pub mod dns_name;
pub mod extension;
pub mod facts;
mod name;
pub mod pem;
pub mod public_key;
pub mod request;
pub mod served;
pub mod server;
pub mod signature;
mod signing;
pub mod supplied;
#[cfg(test)]
pub(crate) mod testing;
pub mod validity;

pub use authority::{CertificateAuthority, IssueError, SignedCertificate};
pub use chain::{ChainError, Usage, verify_chain, verify_server_chain};
pub use csr::{CsrError, CsrLimits, VerifiedCsr, VerifiedIssuerCsr, VerifiedServerCsr};
pub use der::DerError;
pub use facts::{CertificateError, CertificateFacts};
pub use request::{RequestedName, build_csr};
pub use server::ServerId;
pub use signing::SigningError;
