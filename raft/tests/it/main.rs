//! Whole replicas in one process over loopback connections: elections, forwarding, snapshots, crashes, clocks.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clocks;
mod cluster;
mod crashes;
mod forwarding;
mod network;
mod snapshots;
