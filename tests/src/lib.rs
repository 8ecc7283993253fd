//! The harness that runs real `carrack` processes for the black-box tests and benches: nothing of it reaches into a server.
//! What a test waits for is a condition with a deadline; when one fails, the servers' logs are shown.

pub mod agent;
pub mod binary;
pub mod cluster;
pub mod command;
pub mod csr;
pub mod foreign;
pub mod gnutls;
pub mod grpc;
pub mod http;
pub mod in_process;
pub mod issuance;
pub mod leaf;
pub mod load;
pub mod mesh;
pub mod mesh_ca;
pub mod openssl;
pub mod ports;
pub mod raw;
pub mod server;
pub mod tls;
pub mod wait;
pub mod wan;
