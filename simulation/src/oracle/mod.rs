//! What clients saw, and whether it can have happened: histories of operations on registers, a check of each finished
//! operation at once, and a check of whole histories for linearizability. Data only: nothing here waits or draws.

pub mod client;
pub mod history;
pub mod linearizability;

#[cfg(test)]
mod correct_register;
