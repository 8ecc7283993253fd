//! The disks of simulated servers: what was not synced is lost, torn or damaged in a crash.
