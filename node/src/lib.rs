//! Where the parts of carrack are put together: server, reconcilers, keys, TLS, edges, command line.

pub mod agent;
pub mod api;
pub mod cli;
pub mod config;
pub mod data_directory;
pub mod dev;
pub mod keys;
pub mod leader;
pub mod network;
pub mod probe;
pub mod provider;
pub mod server;
pub mod telemetry;
pub mod tls;
