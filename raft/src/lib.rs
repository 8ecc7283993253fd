//! The replicated log of one datacenter: openraft on sled behind one handle, [`Replica`].

mod applied;
mod changes;
mod directory;
pub mod engine;
mod high_water;
mod leader_clock;
mod log_store;
mod membership;
mod network;
pub mod ports;
mod proposer;
mod reads;
mod replica;
pub mod runtime;
mod snapshot;
mod state_machine;
mod status;
mod tuning;
mod type_config;
mod watch;

pub use applied::AppliedState;
pub use changes::{Changed, Changes};
pub use directory::Directory;
pub use high_water::HighWaterError;
pub use leader_clock::ClockStatus;
pub use log_store::{LogError, OpenEngine};
pub use membership::MembershipError;
pub use network::{PeerServer, RpcService};
pub use proposer::{ProposeError, Proposed};
pub use reads::ReadError;
pub use replica::{InitializeError, OpenError, Replica, ReplicaOptions, ReplicaPorts};
pub use snapshot::SnapshotError;
pub use status::{Leadership, MembershipId, MembershipView, Replication, Role, Status};
pub use tuning::Tuning;
pub use watch::{TooManyWatchers, WATCHERS_MAX};
