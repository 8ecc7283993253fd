//! The edges at which clients meet a server.

pub mod http;
