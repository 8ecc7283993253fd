//! What a process asks of the system before anything else: that its memory, which holds keys, ends in no core dump and in no other
//! process of the same user, and that it may have as many connections as its limits promise.

use rustix::{
    io::Errno,
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
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

/// Takes as many open files as the system allows at most: what most systems give at first is fewer than the connections of a busy port.
pub fn allow_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None` is no limit at all.
    if current == maximum || current.is_none() {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        warn!(?current, ?maximum, %error, "the system refused more open files; connections above it will wait");
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::dumpable_behavior;

    use super::*;

    #[test]
    fn a_hardened_process_leaves_no_core_dump_and_is_not_dumpable() {
        harden_process();
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
    }

    #[test]
    fn as_many_files_may_be_open_as_the_system_allows() {
        allow_open_files();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }
}
