//! The agent of a host: it answers its workloads from memory, follows its servers in the background, and goes on without them. A server
//! plays the agent for its own machine with the same cache.

pub mod agent_source;
pub mod directory;
pub mod followed;
pub mod join;
pub mod leaf_cache;
pub mod leaf_source;
pub mod link;
mod own;
mod run;

pub use self::run::{Agent, AgentOptions, AgentPorts, AgentStartError};
