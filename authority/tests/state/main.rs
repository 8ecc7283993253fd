//! The replicated state from outside: transcripts of commands, a model of what must hold after any of them, snapshots, cost.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod acknowledgements;
mod agents;
mod bounds;
mod chooser;
mod configuration;
mod cost;
mod federation;
mod followed_intentions;
mod following;
mod intentions;
mod model;
mod reissue;
mod revisions;
mod revocations;
mod revoked_issuers;
mod rotations;
mod snapshots;
mod stories;
mod thousand_rotations;
mod transcript;
mod world;
