//! The HTTP API that Consul's clients speak, and carrack's own routes beside it.

pub mod access;
pub mod answer;
pub mod body;
pub mod error;
pub mod fields;
pub mod parameters;
pub mod serve;
pub mod span;
