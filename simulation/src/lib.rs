//! Whole carrack federations in one deterministic world: the real code of `node`, `raft` and `authority` on ports of the
//! simulator's. One seed decides the configuration, the faults, the workload, every key and every timer.

#[cfg(not(any(tokio_unstable, doc)))]
compile_error!(
    "the simulator needs `--cfg tokio_unstable` (set in .cargo/config.toml; the variable RUSTFLAGS replaces it)"
);

pub mod cli;
pub mod client;
pub mod crypto;
pub mod disk;
pub mod faults;
pub mod invariants;
pub mod marks;
pub mod oracle;
pub mod random;
pub mod scenario;
pub mod timeline;
pub mod trace;
pub mod workloads;
pub mod world;
