//! What the operating system counts of a server process (proc(5)): CPU time, bytes written.

use std::fs;

use anyhow::Context;

/// Ticks of the clock in `/proc/<pid>/stat`: 100 in every Linux build (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time in seconds.
    pub(crate) cpu_seconds: f64,
    /// Bytes sent to the storage layer.
    pub(crate) bytes_written: f64,
}

/// Reads what the process has used.
pub(crate) fn usage(process: u32) -> anyhow::Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field is the name in parentheses and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')').context("stat has no name")?.1.split_whitespace().collect();
    let ticks =
        |position: usize| -> anyhow::Result<f64> { Ok(fields.get(position).context("stat is short")?.parse()?) };
    let io = fs::read_to_string(format!("/proc/{process}/io")).unwrap_or_default();
    let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(Usage {
        cpu_seconds: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
        bytes_written: written.map_or(Ok(0.0), str::parse)?,
    })
}
