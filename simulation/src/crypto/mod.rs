//! The ports of cryptography with randomness from the seed: keys, signatures, sealing. The same seed gives the same bytes,
//! in the formats of the real ones, so that the real code and the operator's tools read them.

pub mod entropy;
pub mod failing;
pub mod keys;
pub mod outside;
pub mod registry;
pub mod sealer;

mod age_file;
mod curves;
mod rsa_pool;
mod search;
