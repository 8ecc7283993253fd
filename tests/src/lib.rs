//! The harness that runs real `carrack` processes for the black-box tests and benches: nothing of it reaches into a server.
//! What a test waits for is a condition with a deadline; when one fails, the servers' logs are shown.

pub mod binary;
pub mod cluster;
pub mod command;
pub mod foreign;
pub mod http;
pub mod in_process;
pub mod issuance;
pub mod load;
pub mod ports;
pub mod server;
pub mod wait;
