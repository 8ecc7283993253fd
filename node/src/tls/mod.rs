//! TLS 1.3 between servers and towards clients. Between servers the certificate must name a server of this cluster and
//! datacenter, or on the WAN port one of another datacenter that is trusted; clients see a server certificate and show
//! none. Certificates and bundles are swapped under live listeners.
//!
//! Architecture Invariant: rustls types do not leave this module; no setting switches verification off.

pub mod acceptor;
pub mod client;
pub mod clock;
mod config;
pub mod connection;
mod counted;
pub mod dialer;
pub mod guarded;
pub mod identity;
mod key_holder;
pub mod peer;
pub mod raft_port;
mod rule;
pub mod tap;
#[cfg(test)]
mod testing;
pub mod trust;
mod verifier;
pub mod wan_dialer;
pub mod wan_port;
pub mod wan_trust;
mod wan_verifier;
pub mod workload;

use std::time::Duration;

/// How long a TLS handshake may take: Consul's.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long connecting to another server may take before its handshake: a lost SYN is sent again after 1 and 3 s.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
