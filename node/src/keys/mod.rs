//! Private keys: made, kept in files, used to sign, sealed. Nothing else in carrack holds the bytes of one, and nothing
//! here sends them anywhere.

pub mod aws_lc;
pub mod pool;
pub mod sealing;
pub mod secret;
pub mod server_keys;
pub mod signer;
pub mod store;
