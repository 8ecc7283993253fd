//! The replicated log of one datacenter: openraft on sled behind one handle.

mod applied;
mod directory;
pub mod engine;
mod high_water;
mod log_store;
pub mod ports;
pub mod runtime;
mod snapshot;
mod state_machine;
mod type_config;
mod watch;

pub use directory::Directory;
