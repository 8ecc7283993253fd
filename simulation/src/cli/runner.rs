//! Runs seeds, each in a process of its own, as many at once as there are cores.

use std::{process::Stdio, time::Duration};

use futures::{Stream, StreamExt, stream};
use tokio::{process::Command, time::timeout};

use super::one::One;
use crate::world::{Report, shared::Violation};

/// How long a seed may take: a hundred times what most take. A host that never yields is found by this alone.
const SEED_WITHIN: Duration = Duration::from_secs(90);

/// What does not hold when the process of a seed gave no report.
pub(super) const PROCESS: &str = "process";

/// What a process of one seed came to.
pub(super) struct Ran {
    pub(super) one: One,
    pub(super) report: Report,
}

/// Runs worlds, `jobs` at once; each as it ends.
pub(super) fn run(worlds: impl Iterator<Item = One>, jobs: usize) -> impl Stream<Item = anyhow::Result<Ran>> {
    stream::iter(worlds).map(run_one).buffer_unordered(jobs.max(1))
}

/// The same, each in its turn: the first that fails is the first of all.
pub(super) fn run_in_order(worlds: impl Iterator<Item = One>, jobs: usize) -> impl Stream<Item = anyhow::Result<Ran>> {
    stream::iter(worlds).map(run_one).buffered(jobs.max(1))
}

/// Runs one world in a process of its own, which ends when this one does: it reads the other end of its standard input.
pub(super) async fn run_one(one: One) -> anyhow::Result<Ran> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["one", "--until-input-ends"]).args(one.arguments()).kill_on_drop(true);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Held until the process has ended; it would be closed before.
    let _input = child.stdin.take();
    let Ok(output) = timeout(SEED_WITHIN, child.wait_with_output()).await else {
        let text = format!("the process of this seed did not end within {} s", SEED_WITHIN.as_secs());
        return Ok(failed(one, text));
    };
    let output = output?;
    match serde_json::from_slice(&output.stdout) {
        Ok(report) => Ok(Ran { one, report }),
        Err(_) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let last: String = said.lines().rev().take(5).collect::<Vec<_>>().join(" | ");
            Ok(failed(one, format!("the process of this seed ended with {}: {last}", output.status)))
        }
    }
}

fn failed(one: One, text: String) -> Ran {
    let mut report = Report::none(one.seed);
    report.violations.push(Violation { invariant: PROCESS.into(), text });
    Ran { one, report }
}
