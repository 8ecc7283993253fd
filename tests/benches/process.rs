//! What the operating system counts of a server process (proc(5)): CPU time, bytes written, memory.

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

/// The memory of a process that is its own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Now, in MiB.
    pub(crate) resident_mib: f64,
    /// At most so far, in MiB.
    pub(crate) peak_mib: f64,
}

/// Reads how much memory the process has.
pub(crate) fn memory(process: u32) -> anyhow::Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let mib = |name: &str| -> anyhow::Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024.0)
    };
    Ok(Memory { resident_mib: mib("VmRSS:")?, peak_mib: mib("VmHWM:")? })
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
