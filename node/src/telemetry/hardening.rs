//! Keeps this process's memory, which holds keys, from ending in a core dump or in another process of the same user.

use rustix::{
    io::Errno,
    process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit},
};
use tracing::warn;

/// Turns core dumps off and makes the process not dumpable, which also shuts out debuggers of the same user. Where the
/// system refuses, the server starts all the same and says so.
pub fn harden_process() {
    let measures: [(&str, Result<(), Errno>); 2] = [
        ("core dumps off", setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })),
        ("memory closed to other processes", set_dumpable_behavior(DumpableBehavior::NotDumpable)),
    ];
    for (measure, outcome) in measures {
        if let Err(error) = outcome {
            warn!(measure, %error, "the system refused a protection of the keys in memory; the server goes on without it");
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn a_hardened_process_leaves_no_core_dump_and_is_not_dumpable() {
        harden_process();
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
    }
}
