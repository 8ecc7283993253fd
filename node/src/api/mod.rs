//! The edges: what clients of every kind see. Untrusted input becomes a verified type here, before it touches anything.

pub mod grpc;
pub mod http;
pub mod wan;
