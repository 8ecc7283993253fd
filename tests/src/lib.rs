//! The harness that runs real `carrack` processes for the black-box tests and benches.

pub mod binary;
pub mod foreign;
