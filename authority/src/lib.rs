//! What is true in a datacenter, as one pure replicated function and the values it works on: no clock, no randomness, no IO.

pub mod id;
pub mod key;
pub mod spiffe;
pub mod time;
