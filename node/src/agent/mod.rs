//! What an agent does for the workloads of its machine. Until agents exist, each server does it for local clients.

pub mod leaf_cache;
pub mod leaf_source;
