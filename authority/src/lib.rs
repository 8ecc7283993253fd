//! What is true in a datacenter, as one pure replicated function and the values it works on: no clock, no randomness, no IO.

pub mod acl;
pub mod agent;
pub mod ca_config;
pub mod command;
pub mod federation;
pub mod id;
pub mod intention;
pub mod issuance;
pub mod issuer;
pub mod key;
pub mod leaf;
pub mod member;
pub mod outcome;
pub mod plan;
pub mod planted;
pub mod revocation;
pub mod root;
pub mod rotation;
pub mod spiffe;
pub mod state;
pub mod time;
pub mod x509;

pub use command::{Command, Entry, Proposal};
pub use outcome::{Applied, Outcome, Rejection, WatchKey};
pub use state::State;
